"""Exercise: the statistics of a batch that is spread over several workers."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, Variant, variants


def synchronize(
    counts: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of a whole batch, from those of its parts on K workers.

    Args:
        counts: number of examples of each worker, (K,), as floats.
        means: mean of each worker's examples, (K, D). They may be large compared with the spread.
        variances: biased variance of each worker's examples, (K, D).

    Returns:
        mean, (D,), and var, (D,), of all examples together.
    """
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(axis=0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(axis=0)


def variances_averaged(counts, means, variances):
    """You average the variances, with the right weights. That leaves out how far the workers' means
    lie apart: add the weighted mean of (μ_k − μ)²."""
    share = (counts / counts.sum())[:, None]
    return (share * means).sum(axis=0), (share * variances).sum(axis=0)


def everything_unweighted(counts, means, variances):
    """You give every worker the same weight, which is right for equal counts only. Weight by n_k/n,
    in the mean and in the variance."""
    mean = means.mean(axis=0)
    return mean, (variances + (means - mean) ** 2).mean(axis=0)


def plain_averages(counts, means, variances):
    """You average means and variances over the workers. Weight them by the counts, and add the
    spread of the means to the variance."""
    return means.mean(axis=0), variances.mean(axis=0)


def spread_of_means_alone(counts, means, variances):
    """Your variance is that of the workers' means. The variances within the workers belong to it
    too."""
    mean, _ = synchronize(counts, means, variances)
    share = (counts / counts.sum())[:, None]
    return mean, (share * (means - mean) ** 2).sum(axis=0)


def means_spread_unweighted(counts, means, variances):
    """You add the plain variance of the workers' means. Their squared distances from the common
    mean need the weights n_k/n as well."""
    share = (counts / counts.sum())[:, None]
    return (share * means).sum(axis=0), (share * variances).sum(axis=0) + means.var(
        axis=0
    )


def second_moment(counts, means, variances):
    """You average v_k + μ_k², which is the mean square E[x²] of the batch. Subtract μ² from it, or
    better, use (μ_k − μ)² in place of μ_k²."""
    share = (counts / counts.sum())[:, None]
    return (share * means).sum(axis=0), (share * (variances + means**2)).sum(axis=0)


def through_second_moments(counts, means, variances):
    """You go through E[x²] − E[x]², which cancels where the means are large: the digits of the
    variance are lost. Use the deviations μ_k − μ of the workers' means."""
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(axis=0)
    return mean, (share * (variances + means**2)).sum(axis=0) - mean**2


def one_by_one(counts, means, variances):
    """The same, merging one worker after the other."""
    count, mean, m2 = counts[0], means[0], counts[0] * variances[0]
    for n, mu, v in zip(counts[1:], means[1:], variances[1:], strict=True):
        delta = mu - mean
        m2 = m2 + n * v + delta**2 * count * n / (count + n)
        mean = mean + delta * n / (count + n)
        count = count + n
    return mean, m2 / count


def by_matrix_products(counts, means, variances):
    """The same, as products with the vector of weights."""
    share = counts / counts.sum()
    mean = means[0] + share @ (means - means[0])
    return mean, share @ variances + share @ np.square(means - mean)


_rng = np.random.default_rng(305)

EXERCISE = FunctionExercise(
    id="numerics-sync",
    chapter="foundations/numerics",
    title="Synchronize the workers",
    level="hard",
    reference=synchronize,
    why="The variance of the whole is the mean of the variances plus the variance of the means, both "
    "weighted by the counts. Averaging variances alone is too small.",
    mistakes=(
        *variants(
            variances_averaged,
            everything_unweighted,
            plain_averages,
            spread_of_means_alone,
            means_spread_unweighted,
            second_moment,
        ),
        Variant.of(through_second_moments, by_rounding=True),
    ),
    alternatives=(one_by_one, by_matrix_products),
    hints=(
        "Weight worker k by n_k/n. As a column, `(counts / counts.sum())[:, None]`, the weights line "
        "up with means and variances.",
        "From its own mean, worker k measures n_k v_k. From the common mean μ it is n_k (v_k + "
        "(μ_k − μ)²).",
    ),
    cases=(
        Case(
            "3 workers, 2 features",
            (
                np.array([2.0, 5.0, 3.0]),
                _rng.normal(1.0, 1.0, (3, 2)),
                _rng.uniform(0.5, 2.0, (3, 2)),
            ),
        ),
        Case(
            "4 workers, 4 features",
            (
                np.array([8.0, 1.0, 4.0, 4.0]),
                _rng.normal(-2.0, 3.0, (4, 4)),
                _rng.uniform(0.1, 1.0, (4, 4)),
            ),
            "K = D, and one worker has a single example's weight.",
        ),
        Case(
            "means near 100 000",
            (
                np.array([6.0, 10.0]),
                _rng.normal(1e5, 1.0, (2, 3)),
                _rng.uniform(0.5, 2.0, (2, 3)),
            ),
            "the means are 100 000 times the spread.",
        ),
    ),
    returns=("mean", "var"),
)
