"""Batch normalization, forward: standardize each feature, then scale and shift it.

The backward pass is in `bnbook.foundations.backward`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from bnbook.validation import (
    cast,
    require_axes,
    require_batch,
    require_eps,
    require_float_array,
    require_float_tensor,
    require_normalizable,
    require_shape,
)


@dataclass(frozen=True)
class BatchStatistics:
    """Mean and biased variance of each feature; averaged axes keep length 1."""

    mean: np.ndarray
    var: np.ndarray
    count: int


@dataclass(frozen=True)
class BatchNormCache:
    """What the backward pass needs of the forward pass.

    Attributes:
        z_hat: normalized input ẑ, shape of x.
        gamma: scale γ, broadcast shape (averaged axes have length 1).
        std: √(σ² + ε), broadcast shape.
        axes: the averaged axes, sorted and non-negative.
        count: M, the number of values behind each statistic.
        statistics: the batch mean and variance, for running averages.
    """

    z_hat: np.ndarray
    gamma: np.ndarray
    std: np.ndarray
    axes: tuple[int, ...]
    count: int
    statistics: BatchStatistics


def batch_statistics(x: np.ndarray, axes: int | Sequence[int] = 0) -> BatchStatistics:
    """Mean μ = (1/M) Σ x and biased variance σ² = (1/M) Σ (x − μ)² of each feature.

    The variance takes a second pass over the centred data: the one-pass form E[x²] −
    E[x]² cancels catastrophically where the mean is large. Narrow dtypes are
    accumulated in float64.

    Args:
        x: data, for example (M, D) with axes=0 or (N, C, H, W) with axes=(0, 2, 3).
        axes: the axes to average over; M is the product of their lengths.

    Raises:
        TypeError: x is not a floating-point array, or axes are not integers.
        ValueError: x is empty or not finite, axes are out of range or repeated, or
            there is one value per feature (M = 1).

    Source: Yu (2021), §1.0 and Eq. (7).
    """
    require_float_array("x", x)
    return _center(x, require_axes(axes, x.ndim))[0]


def _center(x: np.ndarray, axes: tuple[int, ...]) -> tuple[BatchStatistics, np.ndarray]:
    """The statistics, and x − μ in at least float64."""
    count = math.prod(x.shape[axis] for axis in axes)
    require_batch(count, f"axes {axes} of x with shape {x.shape}")
    with np.errstate(over="ignore", invalid="ignore"):  # batch_norm reports an overflow
        mean = _mean(x.astype(np.result_type(x.dtype, np.float64)), axes)
        centred = x - mean
        remainder = _mean(centred, axes)  # what rounding left in the mean
        centred -= remainder
        var = _mean(centred * centred, axes)  # a square, not a modulus: analytic
    return BatchStatistics(mean + remainder, var, count), centred


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mean over `axes`, kept at length 1.

    Along a contiguous axis NumPy adds in pairs, with far smaller rounding errors.
    """
    features = tuple(n for axis, n in enumerate(values.shape) if axis not in axes)
    last = range(values.ndim - len(axes), values.ndim)
    count = math.prod(values.shape[axis] for axis in axes)
    rows = np.ascontiguousarray(np.moveaxis(values, axes, last))
    rows = rows.reshape(*features, count)
    return np.expand_dims(rows.mean(axis=-1), axes)


def batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float = 1e-5,
    axes: int | Sequence[int] = 0,
) -> tuple[np.ndarray, BatchNormCache]:
    """Normalize a training batch: y = γ ẑ + β with ẑ = (x − μ)/√(σ² + ε).

    Args:
        x: input, for example (M, D) with axes=0 or (N, C, H, W) with axes=(0, 2, 3).
        gamma: scale γ, one number per feature: the shape of x without `axes`.
        beta: shift β, same shape as gamma.
        eps: ε ≥ 0, added to the variance, in squared units of x.
        axes: the axes that hold the batch; statistics are taken over all of them
            together.

    Returns:
        y, with the shape and dtype of x, and the cache for `batch_norm_backward`.

    Raises:
        TypeError: an argument is not a floating-point array (or number, for eps).
        ValueError: as for `batch_statistics`; gamma or beta has the wrong shape or is
            not finite; eps is negative or not finite; the variance or y overflows; or
            √(σ² + ε) is 0 for a feature, where ẑ would be 0/0.

    Source: Yu (2021), Eqs. (2) and (3); Ioffe and Szegedy (2015), Algorithm 1.
    """
    eps = require_eps(eps)
    require_float_array("x", x)
    axes = require_axes(axes, x.ndim)
    statistics, centred = _center(x, axes)
    features = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        require_float_array(name, parameter)
        require_shape(
            name, parameter, features, f"the shape of x {x.shape} without axes {axes}"
        )
        if np.iscomplexobj(parameter) and not np.iscomplexobj(x):
            raise TypeError(
                f"{name} is complex and x is real; pass x.astype(complex) for a complex-step derivative"
            )
    gamma, beta = np.expand_dims(gamma.copy(), axes), np.expand_dims(beta, axes)

    std = np.sqrt(statistics.var + eps)
    require_normalizable(std, features, x.dtype)
    z_hat = centred / std
    y = cast("y", gamma * z_hat + beta, x.dtype)
    cache = BatchNormCache(
        z_hat.astype(x.dtype), gamma, std, axes, statistics.count, statistics
    )
    return y, cache


def normalize_tensor(
    x: torch.Tensor, eps: float, axes: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ẑ, √(σ² + ε), μ and σ² of a tensor over `axes`, which keep length 1, in at least
    float32.

    The operations are differentiable, also twice. The input is taken as checked.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = x.mean(axes, keepdim=True)
    remainder = (x - mean).mean(axes, keepdim=True)  # what rounding left in the mean
    centred = x - mean - remainder
    var = centred.square().mean(axes, keepdim=True)
    std = torch.sqrt(var + eps)
    return centred / std, std, mean + remainder, var


class BatchNorm(nn.Module):
    """Batch normalization of (M, D) or (N, C, …) input in PyTorch, with explicit
    running statistics.

    The mode is explicit: `train()` normalizes with the statistics of the batch and
    updates the running ones, `eval()` normalizes with the running ones and changes
    nothing. Whether gradients are enabled plays no part. The running variance is the
    unbiased one and `momentum` is the weight of the new batch, as in
    `torch.nn.BatchNorm1d`.

    Args:
        features: D or C, the length of axis 1.
        eps: ε ≥ 0, added to the variance.
        momentum: weight of the newest batch in the running statistics, in [0, 1].
        dtype: dtype of parameters and buffers; the input must have the same.

    Raises:
        TypeError: features, eps, momentum or dtype is of the wrong type; the input is
            not floating point, or its dtype is not that of the layer.
        ValueError: features, eps or momentum is out of range; the input has the wrong
            number of features, is empty or not finite; in training, it has one value
            per feature, or its variance overflows; or √(σ² + ε) is 0 for a feature.

    Source: Ioffe and Szegedy (2015), Algorithms 1 and 2; Yu (2021), Eqs. (2), (3) and
        (15).
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dtype: torch.dtype | None = None,
    ):
        """Start with γ = 1, β = 0, running mean 0 and running variance 1."""
        super().__init__()
        if (
            isinstance(features, bool)
            or not isinstance(features, Integral)
            or features < 1
        ):
            raise ValueError(
                f"features must be a positive integer, got {features!r}; pass the length of axis 1"
            )
        if not isinstance(momentum, Real) or not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum must lie in [0, 1], got {momentum}; it is the weight of the newest batch"
            )
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(
                f"dtype must be a floating-point dtype, got {dtype}; use for example torch.float64"
            )
        self.eps = require_eps(eps)
        self.momentum = float(momentum)
        self.gamma = nn.Parameter(torch.ones(features, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(features, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(features, dtype=dtype))
        self.register_buffer("running_var", torch.ones(features, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return γ ẑ + β; in training mode also update the running statistics."""
        self._check(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        features = tuple(self.gamma.shape)
        if self.training:
            count = x.numel() // x.shape[1]
            require_batch(count, f"axes {tuple(axes)} of x with shape {tuple(x.shape)}")
            z_hat, std, mean, var = normalize_tensor(x, self.eps, axes)
            require_normalizable(std, features, x.dtype)
            self._update(mean, var * (count / (count - 1)))
        else:
            std = torch.sqrt(self.running_var + self.eps)
            require_normalizable(std, features, x.dtype)
            z_hat = (x - self.running_mean.view(shape)) / std.view(shape)
        return (self.gamma.view(shape) * z_hat + self.beta.view(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"{len(self.gamma)}, eps={self.eps}, momentum={self.momentum}"

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, unbiased_var: torch.Tensor) -> None:
        for running, new in (
            (self.running_mean, mean),
            (self.running_var, unbiased_var),
        ):
            running.lerp_(new.flatten().to(running.dtype), self.momentum)

    def _check(self, x: torch.Tensor) -> None:
        features = self.gamma.shape[0]
        require_float_tensor("x", x)
        if x.dtype != self.gamma.dtype:
            raise TypeError(
                f"x is {x.dtype} and the layer is {self.gamma.dtype}; convert one of them with .to()"
            )
        if x.ndim < 2 or x.shape[1] != features:
            raise ValueError(
                f"x must have shape (M, {features}) or (N, {features}, …), got {tuple(x.shape)}; "
                "axis 1 holds the features"
            )
        if x.numel() == 0:
            raise ValueError(
                f"the batch is empty: x has shape {tuple(x.shape)}; pass at least one example"
            )


@dataclass(frozen=True)
class Descent:
    """Gradient descent: `path` of weights (steps + 1, D), `loss` (steps + 1,)."""

    path: np.ndarray
    loss: np.ndarray


def least_squares_descent(
    x: np.ndarray, target: np.ndarray, start: np.ndarray, *, rate: float, steps: int
) -> Descent:
    """Gradient descent on the least squares loss L(w) = (1/2M) Σ_m (w·x_m − t_m)².

    The Hessian is H = xᵀx/M, so features on different scales make it eccentric, and
    descent converges only for rate < 2/λ_max(H).

    Args:
        x: features, (M, D).
        target: t, (M,).
        start: first weights, (D,).
        rate: learning rate > 0, in units of w² per unit of loss.
        steps: number of steps, at least 1.

    Raises:
        TypeError: an array is not floating point.
        ValueError: shapes do not match, x is empty, values are not finite, rate ≤ 0 or
            steps < 1.

    Source: Yu (2021), §1.0.
    """
    x, target, start = (
        require_float_array(name, value)
        for name, value in (("x", x), ("target", target), ("start", start))
    )
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(
            f"x must have shape (M, D) with M > 0, got {x.shape}; put one example in each row"
        )
    require_shape("target", target, x.shape[:1], "one number per example")
    require_shape("start", start, x.shape[1:], "one weight per feature")
    if any(map(np.iscomplexobj, (x, target, start))):
        raise TypeError("x, target and start must be real")
    if not 0 < rate < math.inf:
        raise ValueError(
            f"rate must be positive and finite, got {rate}; divergence starts at 2/λ_max(H)"
        )
    if steps < 1:
        raise ValueError(
            f"steps must be at least 1, got {steps}; pass the number of updates to make"
        )
    path, loss = [start], []
    for _ in range(steps):
        residual = x @ path[-1] - target
        loss.append(0.5 * np.mean(residual**2))
        path.append(path[-1] - rate * x.T @ residual / len(x))
    loss.append(0.5 * np.mean((x @ path[-1] - target) ** 2))
    return Descent(np.array(path), np.array(loss))
