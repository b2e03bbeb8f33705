"""Exercise: how much the mean of a batch varies."""

import itertools

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def variance_of_batch_mean(z: np.ndarray, batch: int) -> np.ndarray:
    """Variance, over all batches, of the mean of a batch.

    Args:
        z: all N examples, (N, D), N ≥ 2. Each batch holds `batch` different ones, and every
            such choice has the same probability.
        batch: B, from 1 to N.

    Returns:
        variance, (D,): exactly 0 for B = N.
    """
    count = len(z)
    return (count - batch) / (count - 1) * z.var(axis=0) / batch


def with_replacement(z, batch):
    """You return σ²/B, which is for batches that may hold an example twice. Without replacement the
    batches are more alike, and for B = N there is only one."""
    return z.var(axis=0) / batch


def one_minus_share(z, batch):
    """Your factor is 1 − B/N, which goes with the variance that divides by N − 1. With the biased
    variance it is (N − B)/(N − 1)."""
    return (1 - batch / len(z)) * z.var(axis=0) / batch


def both_unbiased(z, batch):
    """You use the unbiased variance with (N − B)/(N − 1). One of the two N − 1 is too much: for B = 1
    the answer is the biased variance of all examples."""
    count = len(z)
    return (count - batch) / (count - 1) * z.var(axis=0, ddof=1) / batch


def batch_size_missing(z, batch):
    """You leave out the 1/B. A mean of more examples varies less."""
    count = len(z)
    return (count - batch) / (count - 1) * z.var(axis=0)


def deviation(z, batch):
    """You return the standard deviation; the variance is asked for."""
    return np.sqrt(variance_of_batch_mean(z, batch))


def over_features(z, batch):
    """You take the variance over the features (axis 1) instead of over the examples (axis 0)."""
    count = len(z)
    return (count - batch) / (count - 1) * z.var(axis=1) / batch


def second_moment(z, batch):
    """You use the mean of z² in place of the variance. If all examples are equal, no batch mean
    varies."""
    count = len(z)
    return (count - batch) / (count - 1) * (z**2).mean(axis=0) / batch


def by_all_batches(z, batch):
    """The same, by trying every batch."""
    chosen = itertools.combinations(range(len(z)), batch)
    return np.var([z[list(rows)].mean(axis=0) for rows in chosen], axis=0)


def by_unbiased(z, batch):
    """The same, with the unbiased variance."""
    return (1 / batch - 1 / len(z)) * z.var(axis=0, ddof=1)


_rng = np.random.default_rng(802)

EXERCISE = FunctionExercise(
    id="robustness-batches",
    chapter="optimization/robustness",
    title="How noisy is the mean of a batch?",
    level="core",
    reference=variance_of_batch_mean,
    why="An example is in the batch with probability B/N, two are with B(B − 1)/N(N − 1): being in the same "
    "batch is negatively correlated, which gives the factor (N − B)/(N − 1).",
    mistakes=variants(
        with_replacement,
        one_minus_share,
        both_unbiased,
        batch_size_missing,
        deviation,
        over_features,
        second_moment,
    ),
    alternatives=(by_all_batches, by_unbiased),
    hints=(
        "What must come out for B = 1, and for B = N? The result is σ²/B times a factor that is linear in B.",
        "The factor is 1 for B = 1 and 0 for B = N, with the biased variance.",
    ),
    cases=(
        Case("6 examples, batches of 2", (_rng.normal(2.0, 1.0, (6, 3)), 2)),
        Case(
            "5 examples, batches of 4",
            (_rng.normal(size=(5, 2)), 4),
            "a batch holds nearly all examples.",
        ),
        Case("7 examples, batches of 1", (_rng.normal(size=(7, 4)), 1)),
    ),
    returns=("variance",),
)
