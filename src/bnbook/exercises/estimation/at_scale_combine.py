"""Exercise: mean and variance of a batch from those of its shards."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, Variant, variants


def combine_shards(
    counts: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of all examples, from those of each worker's.

    Args:
        counts: how many values each worker has, (W,).
        means: of each worker's values, (W, C).
        variances: biased, about the worker's own mean, (W, C).

    Returns:
        mean, var: of all values together, (C,) each.
    """
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0)


def unweighted(counts, means, variances):
    """You give every worker the same weight. Weight by the numbers of values."""
    return combine_shards(np.ones_like(counts), means, variances)


def within_only(counts, means, variances):
    """You average the variances only. What lies between the workers' means is missing."""
    mean, _ = combine_shards(counts, means, variances)
    return mean, (counts[:, None] * variances).sum(0) / counts.sum()


def between_only(counts, means, variances):
    """Your variance is that of the means. What lies within the workers is missing."""
    return combine_shards(counts, means, np.zeros_like(variances))


def between_unweighted(counts, means, variances):
    """You take the variance of the means with equal weights and about their plain mean."""
    mean, within = within_only(counts, means, variances)
    return mean, within + means.var(0)


def not_about_the_mean(counts, means, variances):
    """Your variance is the second moment about 0: subtract the square of the mean of all."""
    mean, var = combine_shards(counts, means, variances)
    return mean, var + mean**2


def unbiased(counts, means, variances):
    """You divide by n − 1. Batch normalization normalizes by the biased variance."""
    mean, var = combine_shards(counts, means, variances)
    return mean, var * counts.sum() / (counts.sum() - 1)


def through_squares(counts, means, variances):
    """You subtract the square of the mean of all from the mean square. Where the mean is large, these are two
    large numbers that differ by little, and the difference has lost its digits: average
    (mean of the shard − mean of all)² instead."""
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + means**2)).sum(0) - mean**2


def two_at_a_time(counts, means, variances):
    """The same, shard after shard."""
    n, mean, var = counts[0], means[0], variances[0]
    for m, mu, v in zip(counts[1:], means[1:], variances[1:], strict=True):
        total = n + m
        var = (n * var + m * v) / total + n * m * (mu - mean) ** 2 / total**2
        mean = mean + (mu - mean) * (m / total)
        n = total
    return mean, var


_rng = np.random.default_rng(902)

EXERCISE = FunctionExercise(
    id="at-scale-combine",
    chapter="estimation/at_scale",
    title="Statistics of unequal shards",
    level="core",
    reference=combine_shards,
    why="The variance of all is the mean of the variances plus the variance of the means, both weighted.",
    mistakes=(
        *variants(
            unweighted,
            within_only,
            between_only,
            between_unweighted,
            not_about_the_mean,
            unbiased,
        ),
        Variant.of(through_squares, by_rounding=True),
    ),
    alternatives=(two_at_a_time,),
    hints=(
        "Write Σ x and Σ (x − mean)² of a worker by its count, mean and variance.",
        "Σ (x − μ)² over one shard is count · (variance + (its mean − μ)²).",
    ),
    cases=(
        Case(
            "3 workers, 2 channels",
            (
                np.array([5.0, 3.0, 1.0]),
                _rng.normal(size=(3, 2)),
                np.array([[0.5, 1.2], [0.9, 0.3], [0.0, 0.0]]),
            ),
            "One worker has a single value, whose variance is 0.",
        ),
        Case(
            "2 workers, far from 0",
            (
                np.array([7.0, 2.0]),
                50 + _rng.normal(size=(2, 3)),
                _rng.uniform(0.2, 2, (2, 3)),
            ),
            "The mean is large beside the spread.",
        ),
        Case(
            "3 workers, around a million",
            (
                np.array([4.0, 2.0, 3.0]),
                1e6 + _rng.normal(size=(3, 2)),
                _rng.uniform(0.2, 2, (3, 2)),
            ),
            "The mean is a million times the spread: a difference of squares loses its digits here.",
            rtol=1e-8,
        ),
    ),
    returns=("mean", "var"),
    feature_axis=0,
)
