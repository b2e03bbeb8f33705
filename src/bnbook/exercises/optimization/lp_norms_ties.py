"""Exercise: the gradient of the largest magnitude, with ties."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def largest_gradient(c: np.ndarray) -> np.ndarray:
    """The gradient of max |c| by c; where K entries tie, each has the share 1/K.

    Args:
        c: (M,), not all 0.

    Returns:
        gradient: (M,).
    """
    size = np.abs(c)
    largest = size == size.max()
    return largest * np.sign(c) / largest.sum()


def first_only(c):
    """You give all to the first of the largest entries, as `argmax` does. That is a subgradient too,
    but it depends on the order of the examples."""
    gradient = np.zeros_like(c)
    where = np.argmax(np.abs(c))
    gradient[where] = np.sign(c[where])
    return gradient


def all_whole(c):
    """You give each of the K tied entries the slope 1. Then a small step along the gradient would
    count K times."""
    size = np.abs(c)
    return (size == size.max()) * np.sign(c)


def sign_left_out(c):
    """You leave out the sign: where the largest magnitude is negative, a larger c makes it smaller."""
    size = np.abs(c)
    largest = size == size.max()
    return largest / largest.sum()


def of_the_maximum(c):
    """You differentiate max c. The magnitudes count: the most negative entry may be the largest."""
    largest = c == c.max()
    return largest / largest.sum()


def by_the_mean(c):
    """You divide by M. The scale of L∞ is a maximum, not a mean: the gradient's magnitudes sum
    to 1."""
    return largest_gradient(c) / len(c)


def as_a_limit(c):
    """The same, as the limit of the gradients of the p-norms, at p = 2^20."""
    ratio = np.abs(c) / np.abs(c).max()
    with np.errstate(under="ignore"):
        power = ratio ** (2.0**20)
    return power / power.sum() * np.sign(c)


EXERCISE = FunctionExercise(
    id="lp-norms-ties",
    chapter="optimization/lp_norms",
    title="Who holds the maximum?",
    level="core",
    reference=largest_gradient,
    why="Equal shares are the limit of the gradients of the p-norms, |c|^(p−1) sgn c/Σ|c|^p · s, and do not "
    "depend on the order of the examples.",
    mistakes=variants(
        first_only, all_whole, sign_left_out, of_the_maximum, by_the_mean
    ),
    alternatives=(as_a_limit,),
    hints=(
        "Only entries with |c| = max |c| can change the maximum. In which direction, by their sign?",
        "`largest = size == size.max()`; then share `np.sign(c)` among them.",
    ),
    cases=(
        Case("a tie of two, of both signs", (np.array([0.5, -2.0, 1.5, 2.0, -1.0]),)),
        Case("no tie, negative", (np.array([0.3, -1.7, 1.2]),), "there is no tie."),
        Case(
            "a tie of three",
            (np.array([1.0, -1.0, 0.25, 1.0]),),
            "three entries tie.",
        ),
    ),
    returns=("gradient",),
)
