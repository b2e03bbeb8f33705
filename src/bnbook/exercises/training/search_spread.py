"""Exercise: how far a search scatters a hyperparameter that has no effect."""

import math

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def returned_spread(width: float, generations: int) -> float:
    """Standard deviation of what Algorithm 3.2.0 returns for a hyperparameter without effect.

    The three selected values are then independent and uniform within the bounds; new
    bounds are mean ± 1.5 std of the three, std divides by 3, and the midpoint of the last
    bounds is returned.

    Args:
        width: of the first bounds, in decades.
        generations: at least 1.

    Returns:
        spread, in decades.
    """
    # A generation adds w²/36 to the variance of the midpoint and halves E w².
    squares = width**2 * 0.5 ** np.arange(generations)
    return math.sqrt(squares.sum() / 36)


def of_one_draw(width, generations):
    """You give the deviation of a single uniform draw, w/√12. The midpoint is a mean of three, which
    moves in each generation."""
    return width / math.sqrt(12)


def first_generation_only(width, generations):
    """You count the first generation only, w/6. The bounds move again in every later one."""
    return width / 6


def last_generation_only(width, generations):
    """You give the scatter of the last midpoint within the last bounds. Where those bounds lie is random
    too: add up the variances of all generations."""
    return width / 6 * 0.5 ** ((generations - 1) / 2)


def deviations_added(width, generations):
    """You add standard deviations. The moves of the generations are uncorrelated: add variances."""
    return width / 6 * (0.5 ** (np.arange(generations) / 2)).sum()


def without_shrinking(width, generations):
    """You let the bounds keep their width, so that your spread grows without limit. E w² halves in each
    generation."""
    return width / 6 * math.sqrt(generations)


def deviation_halves(width, generations):
    """You halve the width in each generation. It is E w², the square, that halves."""
    return width / 6 * math.sqrt((0.25 ** np.arange(generations)).sum())


def sample_deviation(width, generations):
    """You divide by 2 under the root of std, where E w² shrinks to three quarters. Dividing by 3 it
    shrinks to one half."""
    return width / 6 * math.sqrt((0.75 ** np.arange(generations)).sum())


def mean_of_one(width, generations):
    """You let each generation add w²/12, the variance of one uniform value. The midpoint is the mean of
    three, whose variance is w²/36."""
    return width * math.sqrt((0.5 ** np.arange(generations)).sum() / 12)


def one_generation_too_many(width, generations):
    """You add one generation too many: the first moves the midpoint by w²/36 with the full width, and
    the last of G generations has the factor 1/2 to the power G − 1."""
    return returned_spread(width, generations + 1)


def closed_form(width, generations):
    """The same, with the geometric series summed."""
    return width * math.sqrt((1 - 0.5**generations) / 18)


EXERCISE = FunctionExercise(
    id="search-spread",
    chapter="training/search",
    title="The scatter of an irrelevant hyperparameter",
    level="hard",
    reference=returned_spread,
    why="The mean of three uniform values has variance w²/36 whatever happened before, so variances add; "
    "and E w² falls by 9 · E s² = 9 · (2/3)/12 = 1/2 a generation. In the limit the spread is w/√18.",
    mistakes=variants(
        of_one_draw,
        first_generation_only,
        last_generation_only,
        deviations_added,
        without_shrinking,
        deviation_halves,
        sample_deviation,
        mean_of_one,
        one_generation_too_many,
    ),
    alternatives=(closed_form,),
    hints=(
        "Given the bounds of one generation, what are mean and variance of the next midpoint?",
        "The mean of three uniform values in bounds of width w has variance (w²/12)/3. Moves of "
        "different generations are uncorrelated, so their variances add.",
        "The next squared width is 9 s², and E s² = (2/3) · w²/12: E w² halves.",
    ),
    cases=(
        Case("width 10, 10 generations", (10.0, 10)),
        Case("width 4, 2 generations", (4.0, 2)),
        Case("width 6, 1 generation", (6.0, 1), "there is a single generation."),
    ),
    returns=("spread",),
)
