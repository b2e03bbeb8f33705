"""Batch normalization, backward: the gradients of `forward.batch_norm`.

Step by step as Yu (2021) derives it, and in closed form; the names of the gradients
mirror the names of the forward pass (dx is ∂L/∂x).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bnbook.foundations.forward import BatchNormCache, batch_norm, normalize_tensor
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
class BatchNormGrads:
    """Gradients: dx with the shape of x, dgamma and dbeta with the shape of γ."""

    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray


@dataclass(frozen=True)
class BatchNormSteps:
    """Every intermediate gradient of Yu's derivation, in the order of his equations."""

    dz_hat: np.ndarray
    dvar: np.ndarray
    dmean: np.ndarray
    path_z_hat: np.ndarray
    path_var: np.ndarray
    path_mean: np.ndarray
    dx: np.ndarray


def _check_dy(dy: np.ndarray, cache: BatchNormCache) -> np.ndarray:
    require_float_array("dy", dy)
    require_shape("dy", dy, cache.z_hat.shape, "the shape of y")
    if np.iscomplexobj(dy) and not np.iscomplexobj(cache.z_hat):
        raise TypeError(
            "dy is complex and x was real; run batch_norm on x.astype(complex) first"
        )
    return dy.astype(
        cache.std.dtype
    )  # sums over a batch need more digits than a narrow dtype has


def batch_norm_backward(dy: np.ndarray, cache: BatchNormCache) -> BatchNormGrads:
    """Closed form: dx = γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ)), with g = ∂L/∂y.

    The two means are ∂L/∂β / M and ∂L/∂γ / M, so the parameter gradients come for free.

    Args:
        dy: upstream gradient g = ∂L/∂y, the shape of y.
        cache: what `batch_norm` returned beside y.

    Returns:
        dx with the dtype and shape of y; dgamma and dbeta with the shape of γ.

    Raises:
        TypeError: dy is not a floating-point array.
        ValueError: dy has not the shape of y, or is not finite; or a gradient overflows
            the dtype of y.

    Source: Yu (2021), Eqs. (12), (13) and (14), with (1/M) Σ ẑ = 0 used to simplify
        (12).
    """
    dy = _check_dy(dy, cache)
    dbeta = dy.sum(axis=cache.axes, keepdims=True)
    dgamma = (dy * cache.z_hat).sum(axis=cache.axes, keepdims=True)
    dx = (
        cache.gamma
        / cache.std
        * (dy - dbeta / cache.count - cache.z_hat * dgamma / cache.count)
    )
    dtype = cache.z_hat.dtype
    return BatchNormGrads(
        cast("dx", dx, dtype),
        cast("dgamma", dgamma.squeeze(cache.axes), dtype),
        cast("dbeta", dbeta.squeeze(cache.axes), dtype),
    )


def batch_norm_backward_steps(dy: np.ndarray, cache: BatchNormCache) -> BatchNormSteps:
    """The same dx, one equation of the derivation at a time: three paths from z to the
    loss.

    Args:
        dy: upstream gradient g = ∂L/∂y, the shape of y.
        cache: what `batch_norm` returned beside y.

    Raises:
        TypeError: dy is not a floating-point array.
        ValueError: dy has not the shape of y, or is not finite.

    Source: Yu (2021), Eqs. (4) to (11).
    """
    dy = _check_dy(dy, cache)
    axes, count, z_hat, std = cache.axes, cache.count, cache.z_hat, cache.std
    centred = z_hat * std  # z − μ

    dz_hat = dy * cache.gamma
    path_z_hat = dz_hat / std  # Eq. (5)
    dvar = -0.5 * (dz_hat * centred / std**3).sum(axis=axes, keepdims=True)  # Eq. (6)
    dvar_dz = 2 / count * centred - 2 / count**2 * centred.sum(
        axis=axes, keepdims=True
    )  # Eq. (8)
    path_var = dvar * dvar_dz  # Eq. (10)
    dmean = -(dz_hat / std).sum(axis=axes, keepdims=True)
    path_mean = dmean / count  # Eqs. (9) and (11)
    dx = path_z_hat + path_var + path_mean  # Eq. (4)
    return BatchNormSteps(dz_hat, dvar, dmean, path_z_hat, path_var, path_mean, dx)


class BatchNormFunction(torch.autograd.Function):
    """Batch normalization with the closed-form gradient; see `batch_norm_torch`."""

    @staticmethod
    def forward(x, gamma, beta, eps, axes):
        """Return γ ẑ + β; gamma and beta come in broadcast shape."""
        z_hat, *_ = normalize_tensor(x, eps, axes)
        return (gamma * z_hat + beta).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Save x, not ẑ: a saved ẑ would be a constant to the second derivative."""
        x, gamma, _, ctx.eps, ctx.axes = inputs
        ctx.save_for_backward(x, gamma)

    @staticmethod
    def backward(ctx, dy):
        """Apply the closed form with operations that have a derivative too."""
        x, gamma = ctx.saved_tensors
        z_hat, std, *_ = normalize_tensor(x, ctx.eps, ctx.axes)
        dy = dy.to(z_hat.dtype)
        dbeta = dy.sum(ctx.axes, keepdim=True)
        dgamma = (dy * z_hat).sum(ctx.axes, keepdim=True)
        count = math.prod(x.shape[axis] for axis in ctx.axes)
        dx = gamma / std * (dy - dbeta / count - z_hat * dgamma / count)
        return dx.to(x.dtype), dgamma.to(gamma.dtype), dbeta.to(gamma.dtype), None, None


def batch_norm_torch(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    *,
    eps: float = 1e-5,
    axes: int | Sequence[int] = 0,
) -> torch.Tensor:
    """Batch normalization of a training batch whose gradient is the book's closed form.

    Args and errors as for `bnbook.foundations.forward.batch_norm`, with tensors in
    place of arrays. The result supports second derivatives.

    Source: Yu (2021), Eqs. (2), (3), (12), (13) and (14).
    """
    eps = require_eps(eps)
    for name, value in (("x", x), ("gamma", gamma), ("beta", beta)):
        require_float_tensor(name, value)
    axes = require_axes(axes, x.ndim)
    require_batch(
        math.prod(x.shape[axis] for axis in axes),
        f"axes {axes} of x with shape {tuple(x.shape)}",
    )
    features = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    for name, value in (("gamma", gamma), ("beta", beta)):
        require_shape(
            name,
            value,
            features,
            f"the shape of x {tuple(x.shape)} without axes {axes}",
        )
    require_normalizable(normalize_tensor(x.detach(), eps, axes)[1], features, x.dtype)
    return BatchNormFunction.apply(
        x, gamma.reshape(shape), beta.reshape(shape), eps, axes
    )


def detached_error(
    size: int, gradients: str, *, gamma: float = 1.0, runs: int, seed: int
) -> np.ndarray:
    """Relative error of the gradient that treats μ and σ as constants.

    Batches have one feature of standard normal values; β = 0 and ε = 0. The error is
    ‖direct path − dx‖ / ‖direct path‖.

    Args:
        size: batch size M, at least 2.
        gradients: "independent" for standard normal upstream gradients, or "logistic"
            for those of the logistic loss of y on a label that is 1 where z plus
            standard normal noise is positive.
        gamma: scale γ of the layer.
        runs: number of batches.
        seed: seed of the random numbers.

    Returns:
        One error per batch, shape (runs,).

    Raises:
        ValueError: size < 2, runs < 1, or gradients is neither of the two names.
    """
    if size < 2 or runs < 1:
        raise ValueError(
            f"size must be at least 2 and runs at least 1, got size={size} and runs={runs}"
        )
    rng = np.random.default_rng(seed)
    z = rng.normal(
        size=(size, runs)
    )  # one batch in each column: a feature of its own to batch_norm
    y, cache = batch_norm(z, np.full(runs, gamma), np.zeros(runs), eps=0.0)
    if gradients == "independent":
        dy = rng.normal(size=z.shape)
    elif gradients == "logistic":
        label = z + rng.normal(size=z.shape) > 0
        dy = 1 / (1 + np.exp(-y)) - label
    else:
        raise ValueError(
            f'gradients must be "independent" or "logistic", got {gradients!r}'
        )
    steps = batch_norm_backward_steps(dy, cache)
    return np.linalg.norm(steps.path_z_hat - steps.dx, axis=0) / np.linalg.norm(
        steps.path_z_hat, axis=0
    )


def best_logistic_scale() -> float:
    """The γ that minimizes the expected logistic loss in `detached_error`.

    There P(label = 1 | z) = Φ(z), the normal distribution function. The minimum is
    where ∂E[loss]/∂γ = E[z (1/(1 + exp(−γ z)) − Φ(z))] = 0; the expectation is taken by
    Gauss–Hermite quadrature, and the zero found by bisection.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    probability = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    low, high = 1.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        slope = (weight * z * (1 / (1 + np.exp(-middle * z)) - probability)).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2
