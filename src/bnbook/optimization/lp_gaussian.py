"""Lp scales of Gaussian data: the constants that make them estimate σ, and the angle."""

import math

import numpy as np
from scipy import integrate, special

from bnbook.optimization.lp_norms import require_order


def absolute_moment(p: float) -> float:
    """E|ζ|^p of a standard normal ζ: 2^(p/2) Γ((p + 1)/2)/√π.

    Raises:
        TypeError, ValueError: p is not a number from 0 up, or not finite.
    """
    if not 0 <= p < math.inf:
        raise ValueError(f"p must be finite and at least 0, got {p}")
    log = p / 2 * math.log(2) + special.gammaln((p + 1) / 2) - special.gammaln(0.5)
    return math.exp(log)


def matching_factor(p: float) -> float:
    """C with C (E|ζ|^p)^(1/p) = 1: times C, the Lp scale of Gaussian data is σ.

    √(π/2) for p = 1, 1 for p = 2. For p = ∞ it depends on M; see `largest_of`.

    Raises:
        TypeError, ValueError: p is not an order from 1 up, or not finite.
    """
    return absolute_moment(require_order(p)) ** (-1 / p)


def largest_of(examples: int) -> float:
    """E max |ζ_m| of M independent standard normal numbers, by quadrature.

    The scale of L∞ is σ times that; √(2 ln M) is what it approaches, slowly.

    Raises:
        ValueError: examples is below 1.
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    tail = lambda t: -np.expm1(examples * np.log1p(-special.erfc(t / math.sqrt(2))))  # noqa: E731
    edge = math.sqrt(2 * math.log(examples + 1))
    parts = ((0.0, edge), (edge, edge + 12.0))
    return sum(integrate.quad(tail, *part, epsabs=1e-12)[0] for part in parts)


def mean_of_top(share: float) -> float:
    """Mean of |ζ| over the largest `share` of a large Gaussian batch.

    With |ζ| > t for that share, it is √(2/π) exp(−t²/2)/share.

    Raises:
        ValueError: share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    t = math.sqrt(2) * special.erfcinv(share)
    return math.sqrt(2 / math.pi) * math.exp(-t * t / 2) / share


def gaussian_angle(p: float) -> float:
    """Limit of `bnbook.optimization.lp_norms.obliqueness` for large Gaussian batches, in
    radians: its cosine is E|ζ|^p/√(E|ζ|^(2p−2)).

    Raises:
        TypeError, ValueError: as for `matching_factor`.
    """
    p = require_order(p)
    cosine = absolute_moment(p) / math.sqrt(absolute_moment(2 * p - 2))
    return math.acos(min(cosine, 1.0))
