"""By what factor a generation of the genetic search narrows its bounds, in expectation.

With bounds of width w the next width is F w, F = 2 · factor · s, where s is the standard
deviation of the three selected points in units of w. Two cases can be computed: a score
that does not depend on the hyperparameter, and an exact one whose optimum is in the middle
of the bounds, on an edge, or beyond it.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import dblquad
from scipy.special import digamma

from bnbook.foundations.inference import require_count

SELECTED = 3  # the formulas are for three


@dataclass(frozen=True)
class Shrinkage:
    """Moments of the factor F.

    Attributes:
        mean: E F.
        rms: √(E F²).
        typical: exp(E log F): after G generations with independent factors, log width
            has moved by G log(typical) on average.
    """

    mean: float
    rms: float
    typical: float


def without_selection(*, factor: float = 1.5, ddof: int = 0) -> Shrinkage:
    """F where the score says nothing: the selected are three uniform points.

    Their range R has the density 6 r (1 − r), and the middle one divides it at a uniform
    v, so that s² = R² (2 − 2 v + 2 v²)/9 for ddof = 0.

    Args:
        factor: bounds are mean ± factor · std.
        ddof: std divides by 3 − ddof.
    """
    scale = 2 * factor * _sample(ddof)
    root = 1 / 2 + 3 * math.log(3) / 8  # ∫ √(1 − v + v²) dv
    log = -2 + math.pi / math.sqrt(3)  # ∫ log(1 − v + v²) dv
    return Shrinkage(
        mean=scale * math.sqrt(2) / 6 * root,
        rms=scale / math.sqrt(18),
        typical=scale * math.sqrt(2) / 3 * math.exp(-5 / 6 + log / 2),
    )


def on_quadratic(*, models: int = 10, factor: float = 1.5, ddof: int = 0) -> Shrinkage:
    """F where the score is exact and falls off to both sides of an optimum in the middle.

    Selected are the three points nearest the middle. Let T be the distance of the third
    in units of w/2, the third smallest of `models` uniform numbers. Given T, the other
    two are uniform in (−T, T), so that s = (T/2) · std of (x, y, 1) with x, y uniform in
    (−1, 1), a double integral.

    With the optimum on an edge or beyond it, T is measured from that edge in units of w
    and the other two are uniform in (0, T): s has the same distribution.

    Args:
        models: in a generation, at least 3.
        factor: bounds are mean ± factor · std.
        ddof: std divides by 3 − ddof.

    Raises:
        TypeError: models is no integer.
        ValueError: models is less than 3.
    """
    n, k = require_count("models", models, SELECTED), SELECTED

    def average(function):
        integral, _ = dblquad(function, -1, 1, -1, 1, epsabs=1e-9)
        return integral / 4

    scale = factor * _sample(ddof)
    return Shrinkage(
        mean=scale * k / (n + 1) * average(lambda x, y: math.sqrt(_variance(x, y))),
        rms=scale * math.sqrt(2 / 9 * 20 / ((n + 1) * (n + 2))),
        typical=scale
        * math.exp(
            digamma(k)
            - digamma(n + 1)
            + average(lambda x, y: math.log(max(_variance(x, y), 1e-300)) / 2)
        ),
    )


def returned_spread(
    width: float, generations: int, *, factor: float = 1.5, ddof: int = 0
) -> float:
    """Standard deviation of the returned midpoint where the score says nothing.

    The mean of three uniform points in bounds of width w has the variance w²/36, whatever
    happened before, and E w² shrinks by E F² a generation: a geometric series.

    Args:
        width: of the first bounds, in decades.
        generations: at least 1.
        factor: bounds are mean ± factor · std.
        ddof: std divides by 3 − ddof.

    Raises:
        TypeError: generations is no integer.
        ValueError: generations is less than 1.
    """
    generations = require_count("generations", generations, 1)
    ratio = without_selection(factor=factor, ddof=ddof).rms ** 2
    return width * math.sqrt((ratio ** np.arange(generations)).sum() / 36)


def _variance(x: float, y: float) -> float:
    """Population variance of (x, y, 1)."""
    return ((x - y) ** 2 + (1 - x) ** 2 + (1 - y) ** 2) / 9


def _sample(ddof: int) -> float:
    """Ratio of the deviation that divides by 3 − ddof to the one that divides by 3."""
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got {ddof!r}")
    return math.sqrt(SELECTED / (SELECTED - ddof))
