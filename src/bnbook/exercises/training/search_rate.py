"""Exercise: draw a learning rate as Algorithm 3.2.0 does."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def draw_rate(lower: float, upper: float, u: np.ndarray) -> np.ndarray:
    """Learning rates whose log10 is uniform between lower and upper.

    Args:
        lower: lower bound of log10 of the rate.
        upper: upper bound of log10 of the rate.
        u: uniform numbers in [0, 1), (N,); 0 stands for the lower bound.

    Returns:
        rate, (N,).
    """
    return 10 ** (lower + (upper - lower) * u)


def uniform_rates(lower, upper, u):
    """Your rates are uniform themselves, not their logarithms. Between 1e-10 and 1, nine of ten
    models would then have a rate above 0.1, and no decade below it would ever be tried."""
    return 10.0**lower + (10.0**upper - 10.0**lower) * u


def still_a_logarithm(lower, upper, u):
    """You return log10 of the rate. A network wants the rate: raise 10 to that power."""
    return lower + (upper - lower) * u


def natural_exponential(lower, upper, u):
    """You raise e to the exponent. The bounds are those of log10: raise 10."""
    return np.exp(lower + (upper - lower) * u)


def from_the_top(lower, upper, u):
    """You start from the upper bound: your u = 0 gives the largest rate. The distribution is right, but
    0 should stand for the lower bound."""
    return 10 ** (upper - (upper - lower) * u)


def width_forgotten(lower, upper, u):
    """You multiply u by the upper bound, not by the width upper − lower."""
    return 10 ** (lower + upper * u)


def by_interpolation(lower, upper, u):
    """The same, as a product of powers."""
    return (10.0**lower) ** (1 - u) * (10.0**upper) ** u


_rng = np.random.default_rng(401)

EXERCISE = FunctionExercise(
    id="search-rate",
    chapter="training/search",
    title="Draw a learning rate",
    level="warm-up",
    reference=draw_rate,
    why="A uniform exponent gives every decade the same chance. Learning rates matter by their ratio, "
    "not by their difference.",
    mistakes=variants(
        uniform_rates,
        still_a_logarithm,
        natural_exponential,
        from_the_top,
        width_forgotten,
    ),
    alternatives=(by_interpolation,),
    hints=(
        "Make a number that is uniform between lower and upper first.",
        "Stretch u by the width upper − lower, move it by lower, and raise 10 to the result.",
    ),
    cases=(
        Case("bounds −3 and 1", (-3.0, 1.0, _rng.random(6))),
        Case(
            "bounds 0.25 and 1.5", (0.25, 1.5, _rng.random(4)), "the bounds exceed 0."
        ),
        Case("bounds −2 and −1", (-2.0, -1.0, np.array([0.0, 0.5, 0.9]))),
    ),
    returns=("rate",),
)
