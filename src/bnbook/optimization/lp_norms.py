"""Normalization by any Lp norm of the batch, centred or not: forward and backward.

One feature, with M examples and an order p from 1 to ∞:

    c = z − μ, or c = z without centring
    s = (mean |c|^p + √ε^p)^(1/p),   for p = ∞ the larger of max |c| and √ε
    ẑ = c/s,   y = γ ẑ + β

For p = 2, centred, that is batch normalization. The derivative of s is vᵀ/M with

    v = |ẑ|^(p−1) sgn ẑ,   for p = ∞ v = (M/K) sgn ẑ on the K largest |ẑ| and 0 elsewhere.
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import nn

from bnbook.foundations.backward import BatchNormGrads
from bnbook.validation import (
    cast,
    require_batch,
    require_eps,
    require_float_array,
    require_shape,
)


@dataclass(frozen=True)
class LpNormCache:
    """What the backward pass of `lp_norm` needs; M examples, D features.

    Attributes:
        z_hat: ẑ, (M, D).
        v: M times the derivative of s by c, (M, D).
        scale: s, (D,).
        gamma: γ, (D,).
        centred: whether the mean was subtracted.
        dtype: of the input.
    """

    z_hat: np.ndarray
    v: np.ndarray
    scale: np.ndarray
    gamma: np.ndarray
    centred: bool
    dtype: np.dtype


def require_order(p: float) -> float:
    """Return p as a float if it is the order of a norm: 1 ≤ p ≤ ∞.

    Raises:
        TypeError: p is not a real number.
        ValueError: p is below 1, −∞ or NaN.
    """
    if not isinstance(p, Real) or isinstance(p, bool | np.bool_):
        raise TypeError(
            f"p must be a real number, got {type(p).__name__}; use 1, 2, math.inf …"
        )
    if not p >= 1:
        raise ValueError(
            f"p must be at least 1, or math.inf, got {p}; below 1 the triangle "
            "inequality fails, and the gradient is infinite where an entry is 0"
        )
    return float(p)


def lp_scale(
    x: np.ndarray, p: float, *, centred: bool = True, eps: float = 0.0
) -> np.ndarray:
    """s of each feature, (D,), in units of x.

    Args:
        x: (M, D), real.
        p: order, 1 to ∞.
        centred: whether the mean over the batch is subtracted first.
        eps: ε ≥ 0, in squared units of x. √ε counts as one more entry of the norm.

    Raises:
        TypeError: x is not a real floating-point array, or p or eps not a real number.
        ValueError: x is not (M, D), is empty or not finite; M = 1, centred; p or eps is
            out of its range.
    """
    return _statistics(x, p, centred, eps)[1].astype(np.float64)


def _statistics(
    x: np.ndarray, p: float, centred: bool, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """c, (M, D), and s, (D,), in float64."""
    require_float_array("x", x)
    p, eps = require_order(p), require_eps(eps)
    if np.iscomplexobj(x):
        raise TypeError(
            f"x must be real, got {x.dtype}; |x|^p has no complex derivative"
        )
    if x.ndim != 2:
        raise ValueError(
            f"x must have shape (M, D), got {x.shape}; the batch is axis 0"
        )
    if centred or not len(x):
        require_batch(len(x), f"axis 0 of x with shape {x.shape}")
    c = x.astype(np.float64)
    if centred:
        c = c - c.mean(axis=0)
    size = np.maximum(np.abs(c).max(axis=0), math.sqrt(eps))
    if math.isinf(p):
        return c, size
    unit = np.where(size > 0, size, 1.0)  # so that no power overflows
    ratio, rest = np.abs(c) / unit, math.sqrt(eps) / unit
    return c, size * ((ratio**p).mean(axis=0) + rest**p) ** (1 / p)


def lp_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    p: float,
    *,
    centred: bool = True,
    eps: float = 1e-5,
) -> tuple[np.ndarray, LpNormCache]:
    """y = γ c/s + β with the statistics of the batch.

    Args:
        x: z, (M, D).
        gamma, beta: γ and β, (D,).
        p, centred, eps: as for `lp_scale`.

    Returns:
        y with the shape and dtype of x, and the cache for `lp_norm_backward`.

    Raises:
        TypeError: an array is not of floating-point numbers; or as for `lp_scale`.
        ValueError: gamma or beta is not (D,); a scale is 0: all entries of the feature are
            equal (centred) or 0, and ε = 0; or as for `lp_scale`.

    Source: Hoffer et al. (2018), §4, for p = 1 and ∞; Morwani (2020), §4.
    """
    c, scale = _statistics(x, p, centred, eps)
    for name, value in (("gamma", gamma), ("beta", beta)):
        require_float_array(name, value)
        require_shape(name, value, x.shape[1:], "one number a feature")
    if not scale.all():
        what = "has equal entries" if centred else "is 0 in the whole batch"
        raise ValueError(
            f"feature {int(np.argmin(scale))} {what}, so its scale is 0 and ẑ is 0/0; "
            "use eps > 0 or drop the feature"
        )
    z_hat = c / scale
    cache = LpNormCache(z_hat, lp_direction(z_hat, p), scale, gamma, centred, x.dtype)
    return cast("y", gamma * z_hat + beta, x.dtype), cache


def lp_direction(z_hat: np.ndarray, p: float) -> np.ndarray:
    """v, M times the gradient of s, from ẑ alone.

    Where s has no derivative, v is one of its subgradients: at p = 1 an entry 0 has v = 0,
    and at p = ∞ the K entries of largest magnitude share equally. Both are the limits of
    the derivatives for p → 1 and p → ∞ of the same c, and what PyTorch's `abs` and `amax`
    do.

    Args:
        z_hat: (M, …) with the batch along axis 0.
        p: order, 1 to ∞.
    """
    p = require_order(p)
    if p == 1:
        return np.sign(z_hat)
    if math.isinf(p):
        largest = np.abs(z_hat) >= 1  # below 1 everywhere if √ε is the largest
        count = np.maximum(largest.sum(axis=0), 1)
        return largest * np.sign(z_hat) * len(z_hat) / count
    return np.abs(z_hat) ** (p - 1) * np.sign(z_hat)


def lp_norm_backward(dy: np.ndarray, cache: LpNormCache) -> BatchNormGrads:
    """dx = (γ/s) (g − v · mean(g ẑ)), minus its mean over the batch if centred.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        cache: what `lp_norm` returned beside y.

    Returns:
        dx, (M, D); dgamma and dbeta, (D,); in the dtype of x.

    Raises:
        TypeError: dy is not a floating-point array.
        ValueError: dy has not the shape of y, or is not finite.
    """
    require_float_array("dy", dy)
    require_shape("dy", dy, cache.z_hat.shape, "the shape of y")
    g = dy.astype(np.float64)
    dbeta, dgamma = g.sum(axis=0), (g * cache.z_hat).sum(axis=0)
    dx = cache.gamma / cache.scale * (g - cache.v * dgamma / len(g))
    if cache.centred:
        dx = dx - dx.mean(axis=0)
    return BatchNormGrads(
        cast("dx", dx, cache.dtype),
        cast("dgamma", dgamma, cache.dtype),
        cast("dbeta", dbeta, cache.dtype),
    )


def lp_projection(
    x: np.ndarray, p: float, *, centred: bool = True, eps: float = 0.0
) -> np.ndarray:
    """s J of one feature, (M, M), with J[k, i] = ∂ẑ_k/∂z_i: (I − ẑvᵀ/M) Π.

    Π = I − 11ᵀ/M if centred, else I. For ε = 0 it is a projection, P² = P, of rank M − 2
    or M − 1, and symmetric for p = 2.

    Args:
        x: the values of one feature, (M,).
        p, centred, eps: as for `lp_scale`.

    Raises:
        TypeError, ValueError: as for `lp_norm`.
    """
    require_float_array("x", x)
    if x.ndim != 1:
        raise ValueError(f"x must have shape (M,), one feature, got {x.shape}")
    one = np.ones(1)
    _, cache = lp_norm(x[:, None], one, one, p, centred=centred, eps=eps)
    count = len(x)
    first = np.eye(count) - np.outer(cache.z_hat, cache.v) / count
    return first - first.mean(axis=1, keepdims=True) if centred else first


def obliqueness(x: np.ndarray, p: float, *, centred: bool = True) -> float:
    """Angle in radians between the direction ẑ that P removes and the v that it measures
    with; the largest gain of P is one over its cosine.

    Args:
        x: the values of one feature, (M,). They must not be all alike.
        p, centred: as for `lp_scale`.

    Raises:
        TypeError, ValueError: as for `lp_norm`.
    """
    require_float_array("x", x)
    one = np.ones(1)
    _, cache = lp_norm(x.reshape(-1, 1), one, one, p, centred=centred, eps=0.0)
    z_hat, v = cache.z_hat[:, 0], cache.v[:, 0]
    if centred:
        v = v - v.mean()
    # Not by the cosine: near 0 it loses half of the digits.
    along = v @ z_hat / np.linalg.norm(z_hat)
    across = np.linalg.norm(v - along * z_hat / np.linalg.norm(z_hat))
    return float(np.arctan2(across, along))


class LpNorm(nn.Module):
    """y = γ c/s + β as a module with the interface of `bnbook.optimization.dense.BatchNorm`.

    In training mode μ and s are those of the batch; in evaluation mode they are what `fit`
    last saw. Autograd differentiates it as often as asked.

    Args:
        features: D, at least 1.
        p: order, 1 to ∞.
        centred: whether the mean is subtracted.
        eps: ε ≥ 0.
        gamma: value at which γ starts. A constant factor in front of s is a choice of it.
        dtype: of parameters and statistics.

    Raises:
        TypeError, ValueError: p or eps is out of its range.
    """

    def __init__(
        self,
        features: int,
        *,
        p: float = 2.0,
        centred: bool = True,
        eps: float = 1e-5,
        gamma: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ):
        """Start with β = 0, μ = 0, s = 1."""
        super().__init__()
        self.p, self.eps, self.centred = require_order(p), require_eps(eps), centred
        self.weight = nn.Parameter(torch.full((features,), float(gamma), dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(features, dtype=dtype))
        self.register_buffer("mean", torch.zeros(features, dtype=dtype))
        self.register_buffer("scale", torch.ones(features, dtype=dtype))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Normalize z, (M, D)."""
        if self.training:
            c, scale = self.statistics(z)[1:]
        else:
            c, scale = z - self.mean, self.scale
        return self.weight * (c / scale) + self.bias

    @torch.no_grad()
    def fit(self, z: torch.Tensor) -> None:
        """Take the statistics of z, (M, D), for evaluation."""
        mean, _, scale = self.statistics(z)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def statistics(
        self, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """μ (D,), 0 if not centred; c (M, D); s (D,).

        Raises:
            ValueError: a scale is 0.
        """
        mean = z.mean(0) if self.centred else torch.zeros_like(z[0])
        c = z - mean
        size, least = c.abs(), math.sqrt(self.eps)
        largest = size.amax(0).clamp(min=least)
        if not (largest > 0).all():
            raise ValueError(
                "a feature has scale 0 on this batch, so ẑ is 0/0; use eps > 0"
            )
        if math.isinf(self.p):
            return mean, c, largest
        if self.p == 1:
            return mean, c, size.mean(0) + least
        unit = largest.detach()  # so that no power overflows; it cancels
        powers = (size / unit).pow(self.p).mean(0) + (least / unit) ** self.p
        return mean, c, unit * powers.pow(1 / self.p)
