"""Exercise: how far one outlier can stick out after normalization."""

import math

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def outlier_z_hat(a: float, count: int, eps: float) -> float:
    """Normalized value ẑ of a lone outlier: one feature, M values, one of them a and all others 0.

    Args:
        a: the outlier, of either sign.
        count: M ≥ 2, the number of values in the batch, the outlier included.
        eps: ε ≥ 0, added to the variance.

    Returns:
        ẑ of the outlier, a number.
    """
    mean = a / count
    var = a**2 * (count - 1) / count**2
    return float((a - mean) / np.sqrt(var + eps))


def limit_only(a, count, eps):
    """You return the limit ±√(M − 1) that ẑ approaches as |a| grows. For a finite a, ε takes a share of the
    denominator: keep it."""
    return math.copysign(math.sqrt(count - 1), a)


def sign_lost(a, count, eps):
    """You lose the sign: an outlier below the others has a negative ẑ. Take care with √(a²) = |a|."""
    return abs(outlier_z_hat(a, count, eps))


def mean_of_the_others(a, count, eps):
    """You treat the mean as 0, the value of the others. The outlier shifts the mean to a/M: that enters the
    numerator and the variance."""
    return a / math.sqrt(a**2 / count + eps)


def numerator_not_centred(a, count, eps):
    """Your variance is right but you divide a itself by the root. The numerator is a − μ = a(1 − 1/M)."""
    return a / math.sqrt(a**2 * (count - 1) / count**2 + eps)


def second_moment(a, count, eps):
    """Your variance is a²/M, and two mistakes lead there. The second moment is one: the variance is taken
    about the mean, so subtract μ² = (a/M)². Dividing by M − 1 (`ddof=1`) is the other: the batch variance
    divides by M, and is a²(M − 1)/M²."""
    return (a - a / count) / math.sqrt(a**2 / count + eps)


def others_variance_only(a, count, eps):
    """Your variance counts the squared deviation of the outlier alone, a²(1 − 1/M)²/M. Each of the other M
    − 1 values deviates too, by −a/M."""
    return (a - a / count) / math.sqrt((a - a / count) ** 2 / count + eps)


def eps_outside_root(a, count, eps):
    """You add ε outside the root, σ + ε. It belongs inside: √(σ² + ε)."""
    return (a - a / count) / (abs(a) * math.sqrt(count - 1) / count + eps)


def by_building_the_batch(a, count, eps):
    """The same, without algebra: build the batch and normalize it."""
    x = np.zeros(count)
    x[0] = a
    return (x[0] - x.mean()) / np.sqrt(x.var() + eps)


def scale_free(a, count, eps):
    """The same, written with the share of ε relative to a²."""
    return math.copysign((count - 1) / math.sqrt(count - 1 + eps * count**2 / a**2), a)


EXERCISE = FunctionExercise(
    id="forward-degenerate",
    chapter="foundations/forward",
    title="The farthest outlier",
    level="core",
    reference=outlier_z_hat,
    why="However large a is, |ẑ| stays below √(M − 1): the outlier raises the standard deviation that it "
    "is divided by. Without ε, M = 2 turns every feature that is not constant into ±1.",
    mistakes=variants(
        limit_only,
        sign_lost,
        mean_of_the_others,
        numerator_not_centred,
        second_moment,
        others_variance_only,
        eps_outside_root,
    ),
    alternatives=(by_building_the_batch, scale_free),
    hints=(
        "μ = a/M. The outlier deviates by a − a/M, each of the M − 1 others by −a/M.",
        "The mean of the squared deviations is σ² = a²(M − 1)/M². Or build the batch with NumPy and "
        "normalize it.",
    ),
    cases=(
        Case("a = 3 among 5 values", (3.0, 5, 0.1), count=5),
        Case("a below the others", (-2.0, 4, 0.5), "a is negative.", 4),
        Case("a small next to √ε", (0.3, 10, 0.8), "ε is larger than σ².", 10),
        Case("two values", (1.5, 2, 0.2), "M = 2.", 2),
        Case(
            "a = 1000 among 17 values",
            (1000.0, 17, 0.1),
            "a is large, so ε hardly counts.",
            17,
        ),
    ),
    returns=("z_hat",),
)
