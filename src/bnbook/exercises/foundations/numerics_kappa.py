"""Exercise: the condition number of a variance."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def condition_number(x: np.ndarray) -> np.ndarray:
    """Condition number of the variance of each feature: κ = √(1 + μ²/σ²).

    Args:
        x: the batch, (M, D). No feature is constant.

    Returns:
        κ ≥ 1, (D,).
    """
    return np.sqrt(1 + x.mean(axis=0) ** 2 / x.var(axis=0))


def mean_over_spread(x):
    """You return |μ|/σ. That is close to κ for a large mean, but κ is never below 1: it is
    √(1 + μ²/σ²)."""
    return abs(x.mean(axis=0)) / x.std(axis=0)


def root_forgotten(x):
    """You return κ² = 1 + μ²/σ². The condition number is its root; its square is what the one-pass
    formula suffers from."""
    return 1 + x.mean(axis=0) ** 2 / x.var(axis=0)


def spread_over_mean(x):
    """You divide σ² by μ². Large means make the problem hard, not small ones: the ratio is
    μ²/σ²."""
    return np.sqrt(1 + x.var(axis=0) / x.mean(axis=0) ** 2)


def unbiased(x):
    """You use the variance divided by M − 1. κ is a property of this batch: divide by M."""
    return np.sqrt(1 + x.mean(axis=0) ** 2 / x.var(axis=0, ddof=1))


def squares_missing(x):
    """You use |μ|/σ without squares under the root. It is √(1 + μ²/σ²)."""
    return np.sqrt(1 + abs(x.mean(axis=0)) / x.std(axis=0))


def deviation_for_variance(x):
    """You divide μ² by σ, the standard deviation. Divide by the variance σ²; the ratio must not
    depend on the unit of x."""
    return np.sqrt(1 + x.mean(axis=0) ** 2 / x.std(axis=0))


def one_plus_outside(x):
    """You add 1 outside the root, 1 + |μ|/σ. It belongs under it."""
    return 1 + abs(x.mean(axis=0)) / x.std(axis=0)


def root_mean_square_over_spread(x):
    """The same: the length of x relative to that of its deviations."""
    return np.linalg.norm(x, axis=0) / np.linalg.norm(x - x.mean(axis=0), axis=0)


def by_hypotenuse(x):
    """The same, as the hypotenuse of 1 and μ/σ."""
    return np.hypot(1.0, x.mean(axis=0) / x.std(axis=0))


_rng = np.random.default_rng(302)

EXERCISE = FunctionExercise(
    id="numerics-kappa",
    chapter="foundations/numerics",
    title="How hard is this variance?",
    level="warm-up",
    reference=condition_number,
    why="κ is √E[x²]/σ: how much larger the numbers are than their spread. A good algorithm loses "
    "log₁₀ κ decimal digits, the one-pass formula twice as many.",
    mistakes=variants(
        mean_over_spread,
        root_forgotten,
        spread_over_mean,
        unbiased,
        squares_missing,
        deviation_for_variance,
        one_plus_outside,
    ),
    alternatives=(root_mean_square_over_spread, by_hypotenuse),
    hints=(
        "Both μ and σ² are taken over axis 0, and σ² is the biased variance.",
        "`x.mean(axis=0) ** 2 / x.var(axis=0)` is μ²/σ². Add 1, take the root.",
    ),
    cases=(
        Case(
            "7 examples, 3 features",
            (_rng.normal([3.0, -1.0, 0.2], [0.5, 2.0, 1.0], size=(7, 3)),),
            count=7,
        ),
        Case(
            "a mean near 0",
            (_rng.normal(0.0, [3.0, 0.3], size=(5, 2)),),
            "the means are smaller than the spread.",
            5,
        ),
        Case(
            "a mean of 1000",
            (_rng.normal(1e3, 2.0, size=(4, 4)),),
            "the mean is hundreds of times the spread.",
            4,
        ),
    ),
    returns=("kappa",),
    feature_axis=0,
)
