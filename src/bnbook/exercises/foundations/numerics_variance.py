"""Exercise: a variance that keeps its digits where the mean is large."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, Variant, variants


def variance(x: np.ndarray) -> np.ndarray:
    """Biased variance of each feature of a batch, accurate also where the mean is large.

    Args:
        x: the batch, (M, D). Its mean may be a million times its spread.

    Returns:
        σ², (D,).
    """
    centred = x - x.mean(axis=0)
    return (centred**2).mean(axis=0)


def one_pass(x):
    """You compute E[x²] − E[x]². Where the mean is large, that subtracts two numbers that agree
    in most digits, and what is left is their rounding error. Subtract the mean from x first, then
    square."""
    return (x**2).mean(axis=0) - x.mean(axis=0) ** 2


def divided_by_one_less(x):
    """You divide by M − 1, which estimates the variance of a population. Batch normalization uses
    the variance of the batch itself: divide by M."""
    return ((x - x.mean(axis=0)) ** 2).sum(axis=0) / (len(x) - 1)


def not_divided(x):
    """You return the sum of the squared deviations. The variance is their mean: divide by M."""
    return ((x - x.mean(axis=0)) ** 2).sum(axis=0)


def root_taken(x):
    """You return the standard deviation σ. Its square was asked for."""
    return x.std(axis=0)


def absolute_deviations(x):
    """You average the absolute deviations. The variance is the mean of their squares."""
    return abs(x - x.mean(axis=0)).mean(axis=0)


def squared_outside(x):
    """You average the deviations first and square afterwards. Deviations from the mean average to
    0; square each of them before averaging."""
    return (x - x.mean(axis=0)).mean(axis=0) ** 2


def about_zero(x):
    """You average the squares of x itself: the second moment about 0. Subtract the mean first."""
    return (x**2).mean(axis=0)


def over_features(x):
    """You average over axis 1, the features of one example. A batch statistic is taken over the
    examples, axis 0."""
    return x.var(axis=1)


def one_for_all(x):
    """You compute one variance over all entries. Each feature has its own: average over axis 0
    only, for the mean as well."""
    return np.full(x.shape[1], x.var())


def shifted(x):
    """The same, in one pass over data moved by the first example."""
    moved = x - x[0]
    return (moved**2).mean(axis=0) - moved.mean(axis=0) ** 2


def by_updates(x):
    """The same, one example at a time."""
    mean, m2 = x[0].copy(), np.zeros(x.shape[1])
    for seen in range(1, len(x)):
        delta = x[seen] - mean
        mean = mean + delta / (seen + 1)
        m2 = m2 + delta * (x[seen] - mean)
    return m2 / len(x)


_rng = np.random.default_rng(301)

EXERCISE = FunctionExercise(
    id="numerics-variance",
    chapter="foundations/numerics",
    title="A variance that keeps its digits",
    level="warm-up",
    reference=variance,
    why="The deviations are small numbers, and squaring them loses nothing. NumPy's `x.var(axis=0)` "
    "works the same way.",
    mistakes=(
        Variant.of(one_pass, by_rounding=True),
        *variants(
            divided_by_one_less,
            not_divided,
            root_taken,
            absolute_deviations,
            squared_outside,
            about_zero,
            over_features,
            one_for_all,
        ),
    ),
    alternatives=(shifted, by_updates),
    hints=(
        "Take two passes: the mean first, then the mean of the squared deviations from it.",
        "`x - x.mean(axis=0)` is small where the spread is small, however large the mean.",
    ),
    cases=(
        Case(
            "6 examples, 3 features",
            (_rng.normal(2.0, [0.5, 1.0, 3.0], size=(6, 3)),),
            count=6,
        ),
        Case(
            "4 examples, 4 features",
            (_rng.normal(-1.0, 2.0, size=(4, 4)),),
            "M = D.",
            4,
        ),
        Case(
            "a mean of 100 000 and a spread near 1",
            (_rng.normal(1e5, [0.7, 1.0, 1.9], size=(9, 3)),),
            "the mean is 100 000 times the spread.",
            9,
            rtol=1e-8,
        ),
    ),
    returns=("var",),
    feature_axis=0,
)
