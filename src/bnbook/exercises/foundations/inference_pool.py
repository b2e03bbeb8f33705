"""Exercise: the mean and variance of a training set, from those of its batches."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def pool(
    means: np.ndarray, variances: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of all values together, from the statistics of the batches.

    Args:
        means: mean of each batch, (B, D).
        variances: biased variance of each batch, (B, D).
        counts: number of values in each batch, (B,), as floats.

    Returns:
        The mean, (D,), and the biased variance, (D,), of all values in all batches.
    """
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(axis=0)
    var = (share * (variances + (means - mean) ** 2)).sum(axis=0)
    return mean, var


def _shares(counts):
    return (counts / counts.sum())[:, None]


def between_batches_lost(means, variances, counts):
    """Your variance averages the variances of the batches. Their means differ too, and
    that is variance: add (batch mean − mean)² to each."""
    return (_shares(counts) * means).sum(axis=0), (_shares(counts) * variances).sum(
        axis=0
    )


def within_batches_lost(means, variances, counts):
    """Your variance is that of the batch means. The values also vary within each batch:
    add the variances of the batches."""
    mean = (_shares(counts) * means).sum(axis=0)
    return mean, (_shares(counts) * (means - mean) ** 2).sum(axis=0)


def batches_count_alike(means, variances, counts):
    """You let all batches count alike. A batch with twice the values has twice the
    share: weigh by counts / counts.sum()."""
    mean = means.mean(axis=0)
    return mean, (variances + (means - mean) ** 2).mean(axis=0)


def unbiased_result(means, variances, counts):
    """Your variance is divided by N − 1. The biased one of all values is asked for,
    divided by N."""
    mean, var = pool(means, variances, counts)
    return mean, var * counts.sum() / (counts.sum() - 1)


def unbiased_batches(means, variances, counts):
    """You correct the variance of each batch by M/(M − 1). The pooled sum of squares is
    exact with the biased ones, M · variance each."""
    return pool(means, variances * (counts / (counts - 1))[:, None], counts)


def second_moment(means, variances, counts):
    """You return the mean square. Subtract the square of the mean, or measure the batch
    means from the common mean."""
    mean = (_shares(counts) * means).sum(axis=0)
    return mean, (_shares(counts) * (variances + means**2)).sum(axis=0)


def deviations_averaged(means, variances, counts):
    """You average standard deviations and square the result. Sums of squares add up,
    roots do not."""
    mean = (_shares(counts) * means).sum(axis=0)
    root = (_shares(counts) * np.sqrt(variances)).sum(axis=0)
    return mean, root**2 + (_shares(counts) * (means - mean) ** 2).sum(axis=0)


def between_batches_added_once(means, variances, counts):
    """You measure the spread of the batch means without their shares. A larger batch
    counts more there too."""
    mean = (_shares(counts) * means).sum(axis=0)
    return mean, (_shares(counts) * variances).sum(axis=0) + ((means - mean) ** 2).mean(
        axis=0
    )


def one_after_the_other(means, variances, counts):
    """The same, joining one batch after the other."""
    mean, squares, total = np.zeros(means.shape[1]), np.zeros(means.shape[1]), 0.0
    for m, v, n in zip(means, variances, counts, strict=True):
        step, together = m - mean, total + n
        mean = mean + step * n / together
        squares = squares + n * v + step**2 * total * n / together
        total = together
    return mean, squares / total


def from_raw_moments(means, variances, counts):
    """The same, from the sums and the sums of squares."""
    total = counts.sum()
    mean = counts @ means / total
    return mean, counts @ (variances + means**2) / total - mean**2


_rng = np.random.default_rng(303)


def _statistics(counts, features):
    means = _rng.normal(1.0, 1.0, size=(len(counts), features))
    return (
        means,
        _rng.uniform(0.5, 2.0, size=means.shape),
        np.array(counts, dtype=float),
    )


EXERCISE = FunctionExercise(
    id="inference-pool",
    chapter="foundations/inference",
    title="Recalibrate from batch statistics",
    level="core",
    reference=pool,
    why="The total variance is the mean of the variances plus the variance of the means, both weighted by "
    "the sizes of the batches. The second part is what an average of batch variances misses.",
    mistakes=variants(
        between_batches_lost,
        within_batches_lost,
        batches_count_alike,
        unbiased_result,
        unbiased_batches,
        second_moment,
        deviations_averaged,
        between_batches_added_once,
    ),
    alternatives=(one_after_the_other, from_raw_moments),
    hints=(
        "Suppose that every batch is constant, each with another value. Each variance is 0; what is that "
        "of all values?",
        "With the shares counts / counts.sum(): average variances + (means − mean)².",
    ),
    cases=(
        Case(
            "3 batches of 4, 2 and 9",
            _statistics((4, 2, 9), 2),
            "the batches have different sizes.",
        ),
        Case(
            "4 batches of 5", _statistics((5, 5, 5, 5), 4), "all batches have one size."
        ),
        Case("one batch", _statistics((6,), 3), "there is a single batch."),
    ),
    returns=("mean", "var"),
)
