"""Exercise: the ternary function."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def ternarize(x: np.ndarray, delta: float) -> np.ndarray:
    """Three levels: −1 for x < −Δ, +1 for x > Δ, and 0 for −Δ ≤ x ≤ Δ.

    Args:
        x: numbers, (R, C).
        delta: Δ ≥ 0.

    Returns:
        −1.0, 0.0 and 1.0, (R, C).
    """
    return np.sign(x) * (np.abs(x) > delta)


def ends_outside(x, delta):
    """You give ±1 to x = ±Δ. The ends belong to the middle: 0 for −Δ ≤ x ≤ Δ."""
    return np.where(x >= delta, 1.0, np.where(x <= -delta, -1.0, 0.0))


def upper_end_outside(x, delta):
    """You give +1 to x = Δ, and treat −Δ rightly as 0. Both ends belong to the middle."""
    return np.where(x >= delta, 1.0, np.where(x < -delta, -1.0, 0.0))


def magnitude_kept(x, delta):
    """You set the small entries to 0 and leave the others as they are. The others become ±1."""
    return np.where(np.abs(x) > delta, x, 0.0)


def shrunk(x, delta):
    """You subtract Δ from the magnitudes, which is soft thresholding. A level is −1, 0 or 1."""
    return np.sign(x) * np.maximum(np.abs(x) - delta, 0)


def sign_lost(x, delta):
    """You return 1 for large entries of either sign. Below −Δ it is −1."""
    return (np.abs(x) > delta).astype(float)


def one_sided(x, delta):
    """You give −1 to everything that is not above Δ. Only x < −Δ is −1; in between it is 0."""
    return np.where(x > delta, 1.0, -1.0)


def rounded(x, delta):
    """You round x/(2Δ) to the nearest integer, which goes beyond ±1 for large x."""
    return np.round(x / (2 * delta)) if delta else np.sign(x)


def by_difference(x, delta):
    """The same, as a difference of two comparisons."""
    return (x > delta).astype(float) - (x < -delta)


def by_select(x, delta):
    """The same, case by case."""
    return np.select([x < -delta, x > delta], [-1.0, 1.0], 0.0)


_rng = np.random.default_rng(601)

EXERCISE = FunctionExercise(
    id="ternary-levels",
    chapter="propagation/ternary",
    title="The ternary function",
    level="warm-up",
    reference=ternarize,
    why="The sign of x where its magnitude is above Δ, and 0 elsewhere, both ends included.",
    mistakes=variants(
        ends_outside,
        upper_end_outside,
        magnitude_kept,
        shrunk,
        sign_lost,
        one_sided,
        rounded,
    ),
    alternatives=(by_difference, by_select),
    hints=(
        "A comparison gives an array of booleans; times a number it counts as 0 or 1.",
        "`np.abs(x) > delta` says which entries are not 0. What gives their sign?",
    ),
    cases=(
        Case("4 by 3 normal numbers, Δ = 0.6", (_rng.normal(size=(4, 3)), 0.6)),
        Case(
            "entries at ±Δ",
            (np.array([[-2.0, -0.5, -0.25], [0.25, 0.5, 2.0]]), 0.5),
            "two entries are exactly ±Δ.",
        ),
        Case(
            "Δ = 0",
            (np.array([[-3.0, 0.0, 1e-9], [-1e-9, 0.0, 3.0]]), 0.0),
            "with Δ = 0 only an exact 0 stays 0.",
        ),
    ),
    returns=("t",),
)
