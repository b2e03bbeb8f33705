"""Exercise: the bounds of the next generation."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def new_bounds(rates: np.ndarray, factor: float) -> tuple[float, float]:
    """Bounds of log10 of the learning rate for the next generation.

    Args:
        rates: learning rates of the selected models, (k,).
        factor: the bounds are mean ± factor · std of log10 of the rates, where std
            divides by k.

    Returns:
        lower and upper.
    """
    logs = np.log10(rates)
    mean, std = logs.mean(), logs.std()
    return mean - factor * std, mean + factor * std


def sample_deviation(rates, factor):
    """You divide by k − 1 under the root. With three models that widens the bounds by √(3/2), so that the
    search narrows more slowly; the exercise asks for k."""
    logs = np.log10(rates)
    half = factor * logs.std(ddof=1)
    return logs.mean() - half, logs.mean() + half


def without_logarithm(rates, factor):
    """You compute mean and std of the rates. Take log10 of the rates first."""
    return rates.mean() - factor * rates.std(), rates.mean() + factor * rates.std()


def logarithm_of_the_mean(rates, factor):
    """Your centre is log10 of the mean rate, which the largest rate dominates. Average the logarithms."""
    half = factor * np.log10(rates).std()
    return np.log10(rates.mean()) - half, np.log10(rates.mean()) + half


def natural_logarithm(rates, factor):
    """You take natural logarithms. The bounds count decades: use log10."""
    logs = np.log(rates)
    return logs.mean() - factor * logs.std(), logs.mean() + factor * logs.std()


def upper_first(rates, factor):
    """You return the upper bound first. The exercise asks for lower, upper."""
    return new_bounds(rates, factor)[::-1]


def factor_as_width(rates, factor):
    """Your bounds are factor · std apart. They lie that far from the mean, on each side."""
    return new_bounds(rates, factor / 2)


def variance_for_deviation(rates, factor):
    """You use the variance where the standard deviation belongs: forgot the root."""
    logs = np.log10(rates)
    return logs.mean() - factor * logs.var(), logs.mean() + factor * logs.var()


def extremes(rates, factor):
    """Your bounds are the smallest and the largest selected rate. They should be mean ± factor · std."""
    return np.log10(rates).min(), np.log10(rates).max()


def factor_forgotten(rates, factor):
    """You use mean ± std and forget the factor."""
    return new_bounds(rates, 1.0)


def cut_off(rates, factor):
    """You cut the bounds off at 0, a rate of 1. The algorithm does not: its bounds may leave the first
    ones, and must, if the best rate lies outside."""
    lower, upper = new_bounds(rates, factor)
    return min(lower, 0.0), min(upper, 0.0)


def bounds_as_rates(rates, factor):
    """You return learning rates, 10 to the power of the bounds. The bounds are those of log10 of the rate."""
    lower, upper = new_bounds(rates, factor)
    return 10**lower, 10**upper


def by_statistics(rates, factor):
    """The same, from the standard library."""
    import math
    import statistics

    logs = [math.log10(rate) for rate in rates]
    half = factor * statistics.pstdev(logs)
    return statistics.fmean(logs) - half, statistics.fmean(logs) + half


EXERCISE = FunctionExercise(
    id="search-bounds",
    chapter="training/search",
    title="The next bounds",
    level="core",
    reference=new_bounds,
    why="All of the search happens in decades, so both moments are those of the logarithm. The source "
    "does not say by what its stddev divides.",
    mistakes=variants(
        sample_deviation,
        without_logarithm,
        logarithm_of_the_mean,
        natural_logarithm,
        upper_first,
        factor_as_width,
        variance_for_deviation,
        extremes,
        factor_forgotten,
        cut_off,
        bounds_as_rates,
    ),
    alternatives=(by_statistics,),
    hints=(
        "Everything is counted in decades: which two numbers do you need of the logarithms?",
        "`logs.mean()` and `logs.std()`; NumPy's `std` divides by k unless told otherwise.",
    ),
    cases=(
        Case("3 rates, factor 1.5", (np.array([0.002, 0.05, 0.3]), 1.5)),
        Case(
            "3 rates around 2, factor 1.5",
            (np.array([0.9, 2.6, 4.0]), 1.5),
            "the rates exceed 1.",
        ),
        Case("5 rates, factor 2", (np.array([1e-4, 3e-3, 5e-4, 0.02, 1e-3]), 2.0)),
    ),
    returns=("lower", "upper"),
)
