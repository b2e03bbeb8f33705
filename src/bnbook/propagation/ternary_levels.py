"""Which threshold and which scale: exact expressions for a density, exact search for data.

A ternary weight is α tern(w) with threshold Δ. Its squared error is

    E(w − α tern(w))² = E w² − 2α E[|w|; |w| > Δ] + α² P(|w| > Δ).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import sympy as sp

from bnbook.propagation.ternary import tern
from bnbook.validation import require_float_array

w = sp.Symbol("w", real=True)
a, sigma = sp.symbols("a sigma", positive=True)
Delta = sp.Symbol("Delta", positive=True)  # 0 by substitution


@dataclass(frozen=True)
class Density:
    """A density of weights, symmetric about 0.

    Attributes:
        name: for tables.
        inside: the density in `w`, for 0 ≤ w ≤ end.
        end: where it ends; beyond, it is 0.
        spread: its parameter, a or sigma.
    """

    name: str
    inside: sp.Expr
    end: sp.Expr
    spread: sp.Symbol

    @property
    def piecewise(self) -> sp.Expr:
        """The density on the whole line."""
        if self.end == sp.oo:
            return self.inside
        return sp.Piecewise((self.inside, sp.Abs(w) <= self.end), (0, True))


UNIFORM = Density("uniform", 1 / (2 * a), a, a)
NORMAL = Density(
    "normal",
    sp.exp(-(w**2) / (2 * sigma**2)) / (sp.sqrt(2 * sp.pi) * sigma),
    sp.oo,
    sigma,
)
DENSITIES = {density.name: density for density in (UNIFORM, NORMAL)}


@cache
def tail_moment(density: Density, power: int) -> sp.Expr:
    """E[|w|^power; |w| > Δ], the part of the moment above Δ, for 0 ≤ Δ ≤ end.

    Raises:
        ValueError: power is negative.
    """
    if power < 0:
        raise ValueError(f"power must be at least 0, got {power}")
    tail = sp.integrate(w**power * density.inside, (w, Delta, density.end))
    return _tidy(2 * tail)


@dataclass(frozen=True)
class Levels:
    """What a threshold does to a density: expressions in `Delta` and its spread.

    Attributes:
        sparsity: P(|w| ≤ Δ).
        variance: V(tern(w)) = P(|w| > Δ).
        scale: the best α for this Δ, E[|w| given |w| > Δ].
        kept: V(α tern(w)) at that α.
        error: E(w − α tern(w))² at that α; kept + error = V(w).
    """

    sparsity: sp.Expr
    variance: sp.Expr
    scale: sp.Expr
    kept: sp.Expr
    error: sp.Expr


@cache
def levels(density: Density) -> Levels:
    """Sparsity, variance, best scale and error as functions of Δ, for Δ ≤ end."""
    alive, first = tail_moment(density, 0), tail_moment(density, 1)
    square = tail_moment(density, 2).subs(Delta, 0)
    kept = _tidy(first**2 / alive)
    return Levels(
        _tidy(1 - alive), alive, _tidy(first / alive), kept, _tidy(square - kept)
    )


def _tidy(expression: sp.Expr) -> sp.Expr:
    """In factors, and with erfc for the tail of a normal."""
    plain = sp.factor(sp.simplify(expression))
    if not plain.has(sp.erf):
        return plain
    any_ = sp.Wild("u")
    return sp.simplify(plain.replace(sp.erf(any_), 1 - sp.erfc(any_)))


@cache
def optimal_threshold(density: Density, digits: int = 20) -> sp.Expr:
    """The Δ with the least error: the solution of Δ = α(Δ)/2.

    Exact for the uniform density, `digits` digits times sigma for the normal one.

    Raises:
        ValueError: digits is below 2.
    """
    if digits < 2:
        raise ValueError(f"digits must be at least 2, got {digits}")
    condition = Delta - levels(density).scale / 2
    if density.end != sp.oo:
        inside = [
            s for s in sp.solve(condition, Delta) if 0 <= s.subs(density.spread, 1) < 1
        ]
        (solution,) = inside
        return solution
    unit = condition.subs(density.spread, 1)
    root = sp.nsolve(unit, Delta, sp.Rational(3, 5), prec=digits + 5)
    return sp.Float(root, digits) * density.spread


@dataclass(frozen=True)
class Ternarized:
    """A vector and its ternary approximation.

    Attributes:
        t: −1, 0 and 1, in the shape of the vector.
        scale: α.
        threshold: a Δ for which tern gives t.
        error: the mean of (w − αt)².
    """

    t: np.ndarray
    scale: float
    threshold: float
    error: float


def optimal_ternary(weights: np.ndarray) -> Ternarized:
    """The best of all α t, with α ≥ 0 and t any pattern of −1, 0 and 1: exact, by sorting.

    With n entries kept, the best are the n largest in magnitude and the best α their mean
    magnitude, which lowers Σ (w − αt)² by (Σ|w|)²/n. So N patterns are compared, not 3^N.
    At the best one α/2 separates the kept magnitudes from the others.

    Args:
        weights: any shape, not empty, finite.

    Returns:
        The approximation; for weights that are all 0, t and α are 0.

    Raises:
        TypeError: weights is not an array of floating-point numbers.
        ValueError: it is empty, or an entry is not finite.
    """
    require_float_array("weights", weights)
    if weights.size == 0:
        raise ValueError("weights is empty; pass at least one weight")
    magnitudes = np.sort(np.abs(weights.astype(np.float64)), axis=None)[::-1]
    if magnitudes[0] == 0:
        return _ternarized(weights, 0.0, 0.0)
    # In units of the largest, no square leaves the range of floats.
    scale = float(magnitudes[0]) * best_mean(magnitudes / magnitudes[0])
    return _ternarized(weights, scale, scale / 2)


def best_mean(magnitudes: np.ndarray) -> float:
    """The best α: the mean of the n largest magnitudes, for the best n.

    Args:
        magnitudes: sorted from large to small.
    """
    sums = np.cumsum(magnitudes)  # Σ over the n largest, n = 1 … N
    counts = np.arange(1, magnitudes.size + 1)
    best = np.argmax(sums**2 / counts)  # what the squared error loses
    return float(sums[best] / counts[best])


def fixed_ternary(weights: np.ndarray, factor: float = 0.7) -> Ternarized:
    """The approximation with Δ = factor · mean|w| and the best α for it.

    Args:
        weights: any shape, not empty, finite.
        factor: at least 0.

    Raises:
        TypeError, ValueError: as `optimal_ternary` and `tern`.

    Source: Li and Liu (2016), Eqs. (5), (6).
    """
    require_float_array("weights", weights)
    if weights.size == 0:
        raise ValueError("weights is empty; pass at least one weight")
    magnitudes = np.abs(weights.astype(np.float64))
    delta = factor * float(magnitudes.mean())
    alive = magnitudes[magnitudes > delta]
    return _ternarized(weights, float(alive.mean()) if alive.size else 0.0, delta)


def _ternarized(weights: np.ndarray, scale: float, delta: float) -> Ternarized:
    wide = weights.astype(np.float64)
    t = tern(wide, delta)
    error = float(np.mean((wide - scale * t) ** 2))
    return Ternarized(t.astype(weights.dtype), scale, delta, error)
