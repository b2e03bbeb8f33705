"""Weights with three levels: the function, its scale, and layers that multiply by them.

    Q(w) = α tern(w),   Δ = c · mean|w|

with a threshold factor c (0.7 in Li and Liu, 2016) and a rule for the scale α. c = 0 makes
every weight but an exact 0 a sign: a binary network is the special case without zeros.
"""

import math
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnbook.propagation.binary import ste_derivative
from bnbook.validation import require_float_array, require_float_tensor, require_shape

SCALES = ("none", "layer", "output", "variance")
TWN = 0.7  # Li and Liu (2016): the threshold in units of the mean |w|


def tern(x: np.ndarray, delta: float) -> np.ndarray:
    """−1 below −Δ, +1 above Δ, and 0 from −Δ to Δ, both ends included.

    Args:
        x: any shape, finite.
        delta: Δ ≥ 0. With Δ = 0 it is the sign, and 0 at exactly 0.

    Returns:
        −1, 0 and 1, in the shape and dtype of x.

    Raises:
        TypeError: x is not a floating-point array, or delta not a real number.
        ValueError: an entry is not finite, or delta is negative or not finite: the cases
            would overlap.

    Source: Sari and Partovi Nia (2020), Eq. (3).
    """
    require_float_array("x", x)
    if np.iscomplexobj(x):
        raise TypeError(f"x must be real, got dtype {x.dtype}; it has no order")
    delta = _require_delta(delta)
    return cut_array(x, delta)


def cut_array(x: np.ndarray, delta: float) -> np.ndarray:
    """The three cases of `tern`."""
    return (x > delta).astype(x.dtype) - (x < -delta).astype(x.dtype)


def cut_tensor(x: torch.Tensor, delta: float | torch.Tensor) -> torch.Tensor:
    """The three cases of `tern`, of the dtype of x."""
    return (x > delta).to(x.dtype) - (x < -delta).to(x.dtype)


class TernSTE(torch.autograd.Function):
    """y = α tern(w) forward, dw = estimator'(w) · dy backward.

    Call it as `TernSTE.apply(w, delta)` or `TernSTE.apply(w, delta, alpha, estimator)`;
    alpha is a number, or a tensor that broadcasts with w. The backward pass treats the
    whole of y as w: neither α nor Δ has a gradient, and α does not scale that of w.
    """

    @staticmethod
    def forward(
        w: torch.Tensor,
        delta: float | torch.Tensor,
        alpha: float | torch.Tensor = 1.0,
        estimator: str = "identity",
    ) -> torch.Tensor:
        """α tern(w), of the shape and dtype of w."""
        ste_derivative(w[:0].detach(), estimator)  # refuses what it does not know
        delta = _require_delta(float(delta))
        return alpha * cut_tensor(w, delta)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        """Keep w for the backward pass."""
        ctx.save_for_backward(inputs[0])
        ctx.estimator = inputs[3] if len(inputs) > 3 else "identity"

    @staticmethod
    def backward(ctx, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The upstream gradient times `ste_derivative`."""
        (w,) = ctx.saved_tensors
        dw = ste_derivative(w, ctx.estimator) * dy
        return (dw, None, None, None)[: len(ctx.needs_input_grad)]


def ternary_parts(
    w: torch.Tensor, *, factor: float = TWN, scale: str = "none"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split weights (outputs, …) into levels, scale and threshold.

    Args:
        w: latent weights, the outputs on the first axis.
        factor: c ≥ 0; Δ = c · mean|w| over the layer.
        scale: "none" is α = 1; "layer" and "output" are the mean of |w| over the weights
            that are not 0, of the layer or of each output, the best α for these zeros;
            "variance" keeps the mean square of the layer. Where every weight is 0, α is.

    Returns:
        t, of −1, 0 and 1, in the shape of w; alpha, of shape () or (outputs, 1, …);
        delta, of shape ().

    Raises:
        TypeError: w is not a floating-point tensor.
        ValueError: an entry is not finite, w is empty or has fewer than two axes, or
            factor or scale is not one of these.

    Source: Li and Liu (2016), Eqs. (5), (6); Rastegari et al. (2016), Eq. (6), which is
    factor=0, scale="output".
    """
    require_float_tensor("w", w)
    factor, scale = _require_factor(factor), _require_scale(scale)
    if w.ndim < 2 or w.numel() == 0:
        raise ValueError(
            f"w must have shape (outputs, inputs, …) and hold a weight, got {tuple(w.shape)}"
        )
    w = w.detach()
    delta = factor * w.abs().mean()
    t = cut_tensor(w, delta)
    return t, best_scale(w, t, scale), delta


def best_scale(w: torch.Tensor, t: torch.Tensor, scale: str) -> torch.Tensor:
    """α for the levels t of w, by the rule `scale`; see `ternary_parts`."""
    if scale == "none":
        return torch.ones((), dtype=w.dtype, device=w.device)
    axes = tuple(range(1 if scale == "output" else 0, w.ndim))
    at = {"dim": axes, "keepdim": scale == "output"}
    kept = t.abs()
    count = kept.sum(**at).clamp(min=1)  # where all are 0, so is the numerator
    if scale == "variance":
        return ((w * w).sum(**at) * (kept.sum(**at) > 0) / count).sqrt()
    return (kept * w.abs()).sum(**at) / count


class _TernaryWeights(nn.Module):
    """Latent weights, whose three levels are the weights that the layer multiplies by.

    The gradient goes straight through to the latent weights. `clip_latent` keeps them in
    [−1, 1]; call it after each step of the optimizer.
    """

    def __init__(self, shape, fan_in, bias, factor, scale, clip, generator, place):
        super().__init__()
        self.factor, self.scale = _require_factor(factor), _require_scale(scale)
        self.clip = bool(clip)
        dtype = place["dtype"] or torch.get_default_dtype()
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(
                f"dtype must be a floating-point type, got {dtype}; latent weights move by "
                "fractions, use torch.float32"
            )
        place = {**place, "dtype": dtype}
        bound = math.sqrt(6 / fan_in)  # He et al. (2015): variance 2/K
        latent = torch.empty(shape, **place).uniform_(
            -bound, bound, generator=generator
        )
        self.weight = nn.Parameter(latent)
        self.bias = nn.Parameter(torch.zeros(shape[0], **place)) if bias else None

    def ternary_weight(self) -> torch.Tensor:
        """α tern(W); gradients go straight through to the latent weights W."""
        parts = ternary_parts(self.weight, factor=self.factor, scale=self.scale)
        _, alpha, delta = parts
        return TernSTE.apply(self.weight, delta, alpha)

    def sparsity(self) -> float:
        """Share of the weights that are 0."""
        t, _, _ = ternary_parts(self.weight, factor=self.factor)
        return float((t == 0).double().mean())

    @torch.no_grad()
    def clip_latent(self) -> None:
        """Move latent weights outside [−1, 1] to its end, if the layer clips."""
        if self.clip:
            self.weight.clamp_(-1, 1)

    def _settings(self) -> str:
        return f"factor={self.factor:g}, scale={self.scale!r}"


class TernaryLinear(_TernaryWeights):
    """s = x Q(W)ᵀ + bias, with latent weights W of shape (outputs, inputs).

    Args:
        in_features, out_features: at least 1.
        bias: whether the layer adds a full-precision bias; it starts at 0.
        factor, scale: as in `ternary_parts`.
        clip: whether `clip_latent` does anything.
        generator: of the initial latent weights, uniform on ±√(6/inputs).
        device, dtype: of the parameters, as in `torch.nn.Linear`.

    Raises:
        ValueError: a width is not an integer of at least 1, or factor or scale is unknown.
        TypeError: dtype is not a floating-point type.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        factor: float = TWN,
        scale: str = "none",
        clip: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        """Draw the latent weights."""
        fan_in = _require_size("in_features", in_features)
        outputs = _require_size("out_features", out_features)
        place = {"device": device, "dtype": dtype}
        super().__init__(
            (outputs, fan_in), fan_in, bias, factor, scale, clip, generator, place
        )
        self.in_features, self.out_features = fan_in, outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """s of shape (…, outputs) for x of shape (…, inputs).

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: its last axis has another length than in_features, or a latent
                weight is not finite.
        """
        _require_floating(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have {self.in_features} features on its last axis, "
                f"got shape {tuple(x.shape)}; reshape it"
            )
        return functional.linear(x, self.ternary_weight(), self.bias)

    def extra_repr(self) -> str:
        """Sizes, threshold and scale."""
        return f"{self.in_features}, {self.out_features}, {self._settings()}"


class TernaryConv2d(_TernaryWeights):
    """Convolution with Q(W), latent weights W (outputs, inputs, height, width).

    Args:
        in_channels, out_channels: at least 1.
        kernel_size: one length for a square, or (height, width).
        stride: step of the window.
        padding: number of rows and columns of zeros added on each side.
        bias, factor, scale, clip, generator, device, dtype: as in `TernaryLinear`.

    Raises:
        ValueError: a size is not an integer of at least 1, padding is negative, or factor
            or scale is unknown.
        TypeError: dtype is not a floating-point type.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        factor: float = TWN,
        scale: str = "none",
        clip: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        """Draw the latent weights."""
        channels_in = _require_size("in_channels", in_channels)
        channels_out = _require_size("out_channels", out_channels)
        window = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * 2
        if len(window) != 2:
            raise ValueError(
                f"kernel_size must be a length or (height, width), got {kernel_size!r}"
            )
        window = tuple(_require_size("kernel_size", length) for length in window)
        stride = _require_size("stride", stride)
        padding = _require_size("padding", padding, 0)
        fan_in = channels_in * math.prod(window)
        shape, place = (
            (channels_out, channels_in, *window),
            {"device": device, "dtype": dtype},
        )
        super().__init__(shape, fan_in, bias, factor, scale, clip, generator, place)
        self.in_channels, self.out_channels = channels_in, channels_out
        self.kernel_size, self.stride, self.padding = window, stride, padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """s of shape (B, outputs, height, width) for x (B, inputs, height, width).

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x has another shape or is smaller than the window, or a latent
                weight is not finite.
        """
        _require_floating(x)
        if x.ndim != 4:
            raise ValueError(
                f"x must have shape (B, {self.in_channels}, height, width), "
                f"got {tuple(x.shape)}; reshape it"
            )
        batch, _, *sides = x.shape
        require_shape("x", x, (batch, self.in_channels, *sides), "the input channels")
        if any(
            side + 2 * self.padding < length
            for side, length in zip(sides, self.kernel_size, strict=True)
        ):
            raise ValueError(
                f"x is {sides[0]} × {sides[1]} with padding {self.padding}, smaller than the "
                f"window {self.kernel_size}; pad it more"
            )
        return functional.conv2d(
            x,
            self.ternary_weight(),
            self.bias,
            stride=self.stride,
            padding=self.padding,
        )

    def extra_repr(self) -> str:
        """Sizes, threshold and scale."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, {self._settings()}"
        )


def _require_delta(delta: float) -> float:
    if not isinstance(delta, Real) or isinstance(delta, bool | np.bool_):
        raise TypeError(
            f"delta must be a real number, got {type(delta).__name__}; "
            "use for example 0.7 * np.abs(w).mean()"
        )
    if not 0 <= delta < math.inf:
        raise ValueError(
            f"delta must be finite and at least 0, got {delta}; below 0 a number could be "
            "both under −Δ and over Δ"
        )
    return float(delta)


def _require_factor(factor: float) -> float:
    if (
        not isinstance(factor, Real)
        or isinstance(factor, bool | np.bool_)
        or not 0 <= factor < math.inf
    ):
        raise ValueError(
            f"factor must be a finite number of at least 0, got {factor!r}; use 0.7, "
            "or 0 for signs"
        )
    return float(factor)


def _require_scale(scale: str) -> str:
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; use one of {', '.join(SCALES)}")
    return scale


def _require_floating(x: torch.Tensor) -> None:
    if not torch.is_tensor(x) or not x.is_floating_point():
        got = x.dtype if torch.is_tensor(x) else type(x).__name__
        raise TypeError(
            f"x must be a floating-point tensor, got {got}; "
            "convert it with .float() or torch.as_tensor"
        )


def _require_size(name: str, value: int, least: int = 1) -> int:
    if (
        isinstance(value, bool) or not isinstance(value, Integral) or value < least
    ):  # True is an integer
        raise ValueError(
            f"{name} must be an integer of at least {least}, got {value!r}"
        )
    return int(value)
