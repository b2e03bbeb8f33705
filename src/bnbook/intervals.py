"""The mean of independent samples, its standard error, and Student's interval for it."""

import math

import numpy as np
from scipy import stats


def mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over axis 0 and its standard error, from independent samples.

    Raises:
        ValueError: fewer than two samples.
    """
    samples = np.asarray(samples, dtype=float)
    if samples.ndim == 0 or len(samples) < 2:
        raise ValueError("a standard error needs at least two independent samples")
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(len(samples))


def t_interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of the samples and the ends of Student's interval for it.

    It covers the mean with probability `level` if the samples are independent and normal
    with the same mean and variance. Samples that are all equal give an interval of length
    0, which says that the measure is too coarse, not that it is exact.

    Args:
        samples: (n,), n ≥ 3, finite.
        level: between 0 and 1.

    Raises:
        ValueError: there are fewer than three samples, one is not finite, or level is
            out of its range.
    """
    samples = np.asarray(samples, dtype=float)
    if samples.ndim != 1 or len(samples) < 3 or not np.isfinite(samples).all():
        raise ValueError(
            f"an interval needs at least three finite samples, got {samples}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    mean, error = mean_and_error(samples)
    reach = stats.t.ppf((1 + level) / 2, len(samples) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)
