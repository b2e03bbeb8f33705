"""Layers with signs for weights and activations, and stand-ins for the derivative of sign.

The sign has the derivative 0 wherever it has one. A straight-through estimator puts
another function in its place in the backward pass only; the forward pass stays exact.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from bnbook.validation import require_shape

ESTIMATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": torch.ones_like,
    "hardtanh": lambda s: (s.abs() <= 1).to(s.dtype),
    "relu": lambda s: (s > 0).to(s.dtype),
}


def sign(s: torch.Tensor) -> torch.Tensor:
    """The sign of every entry: −1 for s < 0, +1 for s ≥ 0, so that one bit holds it.

    −0.0 counts as 0. NaN stays NaN, so that a diverged network is seen to be one.

    Raises:
        TypeError: s is not a floating-point tensor.
    """
    _require_floating("s", s)
    return torch.where(s >= 0, 1.0, torch.where(s < 0, -1.0, s))


def ste_derivative(s: torch.Tensor, estimator: str) -> torch.Tensor:
    """What the backward pass multiplies by in place of the derivative of sign.

    Args:
        s: input of the sign, any shape.
        estimator: "identity" gives 1; "hardtanh" 1 for |s| ≤ 1, else 0; "relu" 1 for
            s > 0, else 0: the derivatives of s, of clip(s, −1, 1) and of max(s, 0).

    Raises:
        TypeError: s is not a floating-point tensor.
        ValueError: the estimator is unknown.

    Source: Bengio, Léonard and Courville (2013); Courbariaux et al. (2016).
    """
    _require_floating("s", s)
    return ESTIMATORS[_require_estimator(estimator)](s)


class SignSTE(torch.autograd.Function):
    """y = sign(s) forward, ds = estimator'(s) · dy backward.

    Call it as `SignSTE.apply(s, "hardtanh")`. y has the shape and dtype of s.
    """

    @staticmethod
    def forward(s: torch.Tensor, estimator: str = "identity") -> torch.Tensor:
        """The sign of s; see `sign`."""
        _require_estimator(estimator)
        return sign(s)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        """Keep s for the backward pass."""
        s, *rest = inputs
        ctx.save_for_backward(s)
        ctx.estimator = rest[0] if rest else "identity"

    @staticmethod
    def backward(ctx, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The upstream gradient times `ste_derivative`."""
        (s,) = ctx.saved_tensors
        ds = ste_derivative(s, ctx.estimator) * dy
        return (ds, None)[: len(ctx.needs_input_grad)]


class Sign(nn.Module):
    """sign as an activation, with a straight-through estimator.

    Args:
        estimator: a name in `ESTIMATORS`.

    Raises:
        ValueError: the estimator is unknown.
    """

    def __init__(self, estimator: str = "hardtanh"):
        """Choose the estimator."""
        super().__init__()
        self.estimator = _require_estimator(estimator)

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """sign(s), of the shape and dtype of s."""
        return SignSTE.apply(s, self.estimator)

    def extra_repr(self) -> str:
        """The estimator."""
        return f"estimator={self.estimator!r}"


class _BinaryWeights(nn.Module):
    """Latent weights, whose signs are the weights that the layer multiplies by.

    The gradient with respect to a sign goes straight through to its latent weight.
    `clip_latent` keeps the latent weights in [−1, 1], where a few updates can still turn
    their signs; call it after each step of the optimizer. It does nothing if the layer
    was made with clip=False.
    """

    def __init__(self, shape, fan_in, fan_out, bias, clip, estimator, generator, place):
        super().__init__()
        self.clip = bool(clip)
        self.estimator = _require_estimator(estimator)
        bound = math.sqrt(6 / (fan_in + fan_out))  # Glorot and Bengio (2010), Eq. (16)
        latent = torch.empty(shape, **place).uniform_(
            -bound, bound, generator=generator
        )
        _require_floating("weight", latent)
        self.weight = nn.Parameter(latent)
        self.bias = nn.Parameter(torch.zeros(shape[0], **place)) if bias else None

    def binary_weight(self) -> torch.Tensor:
        """The signs of the latent weights, ±1; gradients go straight through."""
        return SignSTE.apply(self.weight, self.estimator)

    @torch.no_grad()
    def clip_latent(self) -> None:
        """Move latent weights outside [−1, 1] to its end, if the layer clips."""
        if self.clip:
            self.weight.clamp_(-1, 1)


class BinaryLinear(_BinaryWeights):
    """s = x sign(W)ᵀ + bias, with latent weights W of shape (outputs, inputs).

    Args:
        in_features, out_features: at least 1.
        bias: whether the layer adds a full-precision bias; it starts at 0.
        clip: whether `clip_latent` does anything.
        estimator: for the weights; "hardtanh" stops the gradient of a latent weight
            outside [−1, 1].
        generator: of the initial latent weights, uniform with Glorot's bound.
        device, dtype: of the parameters, as in `torch.nn.Linear`.

    Raises:
        ValueError: a width is not an integer of at least 1, or the estimator is unknown.
        TypeError: dtype is not a floating-point type.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        clip: bool = True,
        estimator: str = "identity",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        """Draw the latent weights."""
        self_in = _require_size("in_features", in_features)
        self_out = _require_size("out_features", out_features)
        place = {"device": device, "dtype": _require_dtype(dtype)}
        shape = self_out, self_in
        super().__init__(
            shape, self_in, self_out, bias, clip, estimator, generator, place
        )
        self.in_features, self.out_features = self_in, self_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """s of shape (…, outputs) for x of shape (…, inputs).

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: its last axis has another length than in_features.
        """
        self._require_features(x)
        return functional.linear(x, self.binary_weight(), self.bias)

    def _require_features(self, x: torch.Tensor) -> None:
        _require_floating("x", x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have {self.in_features} features on its last axis, "
                f"got shape {tuple(x.shape)}; reshape it"
            )

    def extra_repr(self) -> str:
        """Sizes and clipping."""
        return f"{self.in_features}, {self.out_features}, clip={self.clip}"


class BinaryConv2d(_BinaryWeights):
    """Convolution with the signs of latent weights (outputs, inputs, height, width).

    Args:
        in_channels, out_channels: at least 1.
        kernel_size: one length for a square, or (height, width).
        stride: step of the window.
        padding: number of rows and columns added on each side.
        pad_value: what is in them. 0 is the usual choice and no sign: with ±1 the padded
            input can be held in bits.
        bias, clip, estimator, generator, device, dtype: as in `BinaryLinear`.

    Raises:
        ValueError: a size is not an integer of at least 1, padding is negative, pad_value
            is not finite, or the estimator is unknown.
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
        pad_value: float = 0.0,
        bias: bool = False,
        clip: bool = True,
        estimator: str = "identity",
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
        stride, padding = (
            _require_size("stride", stride),
            _require_size("padding", padding, 0),
        )
        if not isinstance(pad_value, Real) or not math.isfinite(pad_value):
            raise ValueError(
                f"pad_value must be a finite number, got {pad_value!r}; use -1, 0 or 1"
            )
        place = {"device": device, "dtype": _require_dtype(dtype)}
        area = math.prod(window)
        shape = channels_out, channels_in, *window
        fans = channels_in * area, channels_out * area
        super().__init__(shape, *fans, bias, clip, estimator, generator, place)
        self.in_channels, self.out_channels = channels_in, channels_out
        self.kernel_size, self.stride = window, stride
        self.padding, self.pad_value = padding, float(pad_value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """s of shape (B, outputs, height, width) for x (B, inputs, height, width).

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x has another shape, or is smaller than the window.
        """
        self._require_images(x)
        padded = functional.pad(x, (self.padding,) * 4, value=self.pad_value)
        return functional.conv2d(
            padded, self.binary_weight(), self.bias, stride=self.stride
        )

    def _require_images(self, x: torch.Tensor) -> None:
        _require_floating("x", x)
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

    def extra_repr(self) -> str:
        """Sizes and clipping."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, clip={self.clip}"
        )


def clip_latent(network: nn.Module) -> None:
    """Clip the latent weights of every layer of `network` that clips; after each update.

    Any module with a method `clip_latent` counts as such a layer.
    """
    for layer in network.modules():
        if callable(clip := getattr(layer, "clip_latent", None)):
            clip()


def _require_estimator(estimator: str) -> str:
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"unknown estimator {estimator!r}; use one of {', '.join(ESTIMATORS)}"
        )
    return estimator


def _require_floating(name: str, value: torch.Tensor) -> None:
    if not torch.is_tensor(value) or not value.is_floating_point():
        got = value.dtype if torch.is_tensor(value) else type(value).__name__
        raise TypeError(
            f"{name} must be a floating-point tensor, got {got}; "
            "convert it with .float() or torch.as_tensor"
        )


def _require_dtype(dtype: torch.dtype | None) -> torch.dtype:
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(
            f"dtype must be a floating-point type, got {dtype}; latent weights move by "
            "fractions, use torch.float32"
        )
    return dtype


def _require_size(name: str, value: int, least: int = 1) -> int:
    if (
        isinstance(value, bool) or not isinstance(value, Integral) or value < least
    ):  # True is an integer
        raise ValueError(
            f"{name} must be an integer of at least {least}, got {value!r}"
        )
    return int(value)
