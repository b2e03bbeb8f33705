"""One example through a normalization by running statistics, forward and backward.

One channel: x holds d values for each of M examples, the running statistics are two
numbers. No example sees another, forward or backward. `PopulationNorm` is the layer
for many channels, with scale, shift and rotation; the derivation is easier to read here.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bnbook.validation import require_float_array


@dataclass(frozen=True)
class SingleExampleCache:
    """What the backward pass needs.

    Attributes:
        p: x − μ̄, (M, d).
        square: ν_b, the mean of p² over the values of each example, (M, 1).
        running: ν̄, the second moment that normalizes.
        root: √(ν̄ + ε).
    """

    p: np.ndarray
    square: np.ndarray
    running: float
    root: float


def single_example_norm(
    x: np.ndarray, mean: float, square: float, *, eps: float = 1e-5
) -> tuple[np.ndarray, SingleExampleCache]:
    """y = (x − μ̄)/√(ν̄ + ε): the values are those of inference.

    Args:
        x: d values of one channel for each of M examples, (M, d).
        mean: μ̄, the running mean.
        square: ν̄ > 0, the running second moment of x − μ̄.
        eps: ε ≥ 0.

    Raises:
        TypeError: x is not a floating-point array.
        ValueError: x is not (M, d) with M, d ≥ 1 and finite, ν̄ is not positive, or ε is
            negative.

    Source: Anonymous (2022), §3.1.
    """
    _require_values("x", x)
    if not (np.isfinite(mean) and 0 < square < np.inf and 0 <= eps < np.inf):
        raise ValueError(
            "mean must be finite, square positive and eps not negative, got "
            f"{mean}, {square}, {eps}; take the statistics of data that vary"
        )
    p = x - mean
    nu = (p * p).mean(axis=1, keepdims=True)
    root = float(np.sqrt(square + eps))
    return p / root, SingleExampleCache(p, nu, float(square), root)


def single_example_backward(
    dy: np.ndarray,
    cache: SingleExampleCache,
    *,
    r_m: float = 1.0,
    r_v: float = 1.0,
    f_max: float | None = 2.0,
) -> np.ndarray:
    """∂L/∂x, each example through its own mean and second moment.

    Args:
        dy: upstream gradient ∂L/∂y, (M, d).
        cache: of the forward pass.
        r_m: shrinkage through the mean, 0 to 1.
        r_v: shrinkage through the second moment, 0 to 1.
        f_max: cap ≥ 1 of S/Q, infinite for none; None for no scaling by S/Q at all.

    Returns:
        dx, (M, d).

    Raises:
        TypeError: dy is not a floating-point array.
        ValueError: dy has another shape than x, or an argument is out of its range.

    Source: Anonymous (2022), §3.1.
    """
    _require_values("dy", dy)
    if dy.shape != cache.p.shape:
        raise ValueError(
            f"dy must have the shape of x, {cache.p.shape}, got {dy.shape}"
        )
    for name, r in (("r_m", r_m), ("r_v", r_v)):
        if not 0 <= r <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {r}")
    p, total = cache.p, cache.root**2
    factor = scaling(cache.square, cache.running, f_max)
    along = (dy * p).mean(axis=1, keepdims=True)
    dp = (dy - r_v * factor * along / total * p) / cache.root
    return dp - r_m * dp.mean(axis=1, keepdims=True)


def scaling(
    square: np.ndarray, running: float, f_max: float | None = 2.0
) -> np.ndarray:
    """min(S/Q, f_max), or 1 where f_max is None.

    Args:
        square: Q = ν_b ≥ 0 of each example, any shape.
        running: S = ν̄ > 0.
        f_max: cap ≥ 1, infinite for none; None for no scaling.

    Raises:
        ValueError: f_max is below 1.

    Source: Anonymous (2022), §2.2 and §3.1.
    """
    if f_max is None:
        return np.ones_like(square)
    if not f_max >= 1:
        raise ValueError(f"f_max must be at least 1 or None, got {f_max}")
    with np.errstate(divide="ignore"):
        ratio = running / square  # infinite for an example that is constant at μ̄
    # An example without variation has p = 0, and nothing is multiplied by its factor.
    return np.minimum(ratio, min(f_max, np.finfo(float).max))


def capped_share(d: int, f_max: float) -> float:
    """P(S/Q > f_max) for d independent Gaussian values: d Q/S is chi-squared with d
    degrees of freedom.

    Raises:
        ValueError: d or f_max is below 1.
    """
    if d < 1 or not f_max >= 1:
        raise ValueError(f"d and f_max must be at least 1, got {d} and {f_max}")
    return float(stats.chi2.cdf(d / f_max, d))


def _require_values(name: str, x: np.ndarray) -> None:
    require_float_array(name, x)
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(
            f"{name} must hold finite values of shape (M, d), M and d at least 1, got "
            f"shape {x.shape}"
        )
