"""Exercise: is the difference real?"""

import numpy as np
from scipy import stats

from bnbook.exercises.model import Case, FunctionExercise, variants


def paired_interval(
    bn: np.ndarray, control: np.ndarray, level: float
) -> tuple[float, float]:
    """t interval of the mean difference of two models that ran with the same seeds.

    Args:
        bn: a result of the model with batch normalization, (N,), one entry a seed.
        control: the same result of the control, (N,), in the same order.
        level: probability with which the interval covers the mean, for example 0.95.

    Returns:
        low and high: mean of bn − control, minus and plus t · s/√N, where s is the
        standard deviation of the differences, with N − 1, and t the quantile of the
        t distribution with N − 1 degrees of freedom.
    """
    d = bn - control
    reach = stats.t.ppf((1 + level) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return float(d.mean() - reach), float(d.mean() + reach)


def _around(mean, reach):
    return float(mean - reach), float(mean + reach)


def not_paired(bn, control, level):
    """You treat the two models as independent samples. They share data, weights and batches, and what
    they share cancels in the difference: take the deviation of the differences."""
    error = np.sqrt((bn.var(ddof=1) + control.var(ddof=1)) / len(bn))
    quantile = stats.t.ppf((1 + level) / 2, 2 * len(bn) - 2)
    return _around((bn - control).mean(), quantile * error)


def normal_quantile(bn, control, level):
    """You use the quantile of the normal distribution. The deviation is itself estimated, from few seeds:
    with five of them the t quantile is 2.78 where the normal one is 1.96."""
    d = bn - control
    quantile = stats.norm.ppf((1 + level) / 2)
    return _around(d.mean(), quantile * d.std(ddof=1) / np.sqrt(len(d)))


def biased_deviation(bn, control, level):
    """You divide by N in the standard deviation. The t interval wants N − 1: ddof=1."""
    d = bn - control
    quantile = stats.t.ppf((1 + level) / 2, len(d) - 1)
    return _around(d.mean(), quantile * d.std() / np.sqrt(len(d)))


def deviation_of_one_run(bn, control, level):
    """You leave out 1/√N. Your interval tells where a single difference lies; that of the mean is
    narrower."""
    d = bn - control
    return _around(d.mean(), stats.t.ppf((1 + level) / 2, len(d) - 1) * d.std(ddof=1))


def one_sided(bn, control, level):
    """You use the quantile of `level` itself. An interval leaves out something at both ends:
    (1 + level)/2."""
    d = bn - control
    error = d.std(ddof=1) / np.sqrt(len(d))
    return _around(d.mean(), stats.t.ppf(level, len(d) - 1) * error)


def degrees_of_freedom(bn, control, level):
    """You use N degrees of freedom. The mean takes one: N − 1."""
    d = bn - control
    error = d.std(ddof=1) / np.sqrt(len(d))
    return _around(d.mean(), stats.t.ppf((1 + level) / 2, len(d)) * error)


def other_way_round(bn, control, level):
    """You subtract bn from control. The exercise asks for bn − control: positive where batch
    normalization has the larger result."""
    low, high = paired_interval(bn, control, level)
    return -high, -low


def welch(bn, control, level):
    """You use Welch's interval, for independent samples. The two models share seeds: take the differences
    first, and the interval of their mean."""
    interval = stats.ttest_ind(bn, control, equal_var=False).confidence_interval(level)
    return float(interval.low), float(interval.high)


def mean_and_reach(bn, control, level):
    """You return the mean and how far the interval reaches. Return its ends, mean − reach and mean +
    reach."""
    low, high = paired_interval(bn, control, level)
    return (low + high) / 2, (high - low) / 2


def one_standard_error(bn, control, level):
    """You go one standard error to each side and ignore the level. Multiply the error by the quantile of
    the t distribution."""
    d = bn - control
    return _around(d.mean(), d.std(ddof=1) / np.sqrt(len(d)))


def by_scipy(bn, control, level):
    """The same, by SciPy's paired test."""
    interval = stats.ttest_rel(bn, control).confidence_interval(level)
    return float(interval.low), float(interval.high)


def by_sums(bn, control, level):
    """The same, with the sums written out."""
    n, d = len(bn), bn - control
    mean = d.sum() / n
    error = np.sqrt(((d - mean) ** 2).sum() / (n * (n - 1)))
    low = mean + stats.t.ppf((1 - level) / 2, n - 1) * error
    return float(low), float(2 * mean - low)


_rng = np.random.default_rng(505)
_shared = _rng.normal(0.65, 0.02, 5)

EXERCISE = FunctionExercise(
    id="higgs-interval",
    chapter="training/higgs",
    title="Is the difference real?",
    level="core",
    reference=paired_interval,
    why="What the two runs of a seed share moves both results alike and cancels in their difference. The "
    "deviation comes from the same few numbers as the mean, which the t quantile pays for.",
    mistakes=variants(
        not_paired,
        normal_quantile,
        biased_deviation,
        deviation_of_one_run,
        one_sided,
        degrees_of_freedom,
        other_way_round,
        welch,
        mean_and_reach,
        one_standard_error,
    ),
    alternatives=(by_scipy, by_sums),
    hints=(
        "Take the difference of each seed first; the rest concerns these N numbers only.",
        "scipy.stats.t.ppf((1 + level) / 2, N - 1) is the quantile, and np.std(..., ddof=1)/√N the error of "
        "the mean. You may import inside the function.",
    ),
    cases=(
        Case(
            "five seeds, 95 %",
            (_shared + _rng.normal(0.01, 0.004, 5), _shared, 0.95),
            rtol=1e-9,
        ),
        Case(
            "three seeds, 80 %",
            (_rng.normal(0.3, 0.1, 3), _rng.normal(0.4, 0.1, 3), 0.8),
            "there are three seeds, and the level is 80 %.",
            rtol=1e-9,
        ),
    ),
    returns=("low", "high"),
)
