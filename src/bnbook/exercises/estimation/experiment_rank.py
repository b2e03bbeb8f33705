"""Exercise: do two tables have the same order?"""

import numpy as np
from scipy import stats

from bnbook.exercises.model import Case, FunctionExercise, variants


def rank_correlation(source: np.ndarray, measured: np.ndarray) -> float:
    """Spearman's rank correlation of two lists of accuracies.

    It is the correlation coefficient of their ranks; equal accuracies share the mean of
    the ranks that they take together.

    Args:
        source: accuracies in the source, (R,).
        measured: accuracies of the same rows, (R,).

    Returns:
        correlation: 1 for the same order, −1 for the opposite one.
    """

    def ranks(values):
        below = (values[None] < values[:, None]).sum(axis=1)
        equal = (values[None] == values[:, None]).sum(axis=1)
        return below + (equal + 1) / 2

    return np.corrcoef(ranks(source), ranks(measured))[0, 1]


def pearson(source, measured):
    """You correlate the accuracies. Points on ImageNet and on digits are no common unit: only their order
    is compared."""
    return np.corrcoef(source, measured)[0, 1]


def argsort_once(source, measured):
    """You correlate the results of argsort. They say which row comes first, second, …; the rank of a row is
    the inverse of that: argsort it again, and mind equal values."""
    return np.corrcoef(np.argsort(source), np.argsort(measured))[0, 1]


def ties_by_place(source, measured):
    """You rank equal accuracies by their place in the list. They share the mean of their ranks, else the
    order of the rows decides."""
    return np.corrcoef(
        np.argsort(np.argsort(source, kind="stable")),
        np.argsort(np.argsort(measured, kind="stable")),
    )[0, 1]


def ties_from_the_end(source, measured):
    """You rank equal accuracies by chance: a sorting algorithm may leave them in either order. They share the
    mean of their ranks."""

    def ranks(values):
        backwards = np.argsort(np.argsort(values[::-1], kind="stable"))
        return backwards[::-1]

    return np.corrcoef(ranks(source), ranks(measured))[0, 1]


def smallest_rank(source, measured):
    """You give equal accuracies the smallest of their ranks. They share the mean."""

    def ranks(values):
        return (values[None] < values[:, None]).sum(axis=1)

    return np.corrcoef(ranks(source), ranks(measured))[0, 1]


def turned(source, measured):
    """You rank one list from the top and the other from the bottom."""
    return -rank_correlation(source, measured)


def by_kendall(source, measured):
    """You compute Kendall's τ, the share of pairs in the same order. It is another coefficient."""
    return stats.kendalltau(source, measured).statistic


def shortcut(source, measured):
    """You use 1 − 6 Σ d²/(R³ − R), which holds without equal values only."""
    gap = stats.rankdata(source) - stats.rankdata(measured)
    return 1 - 6 * (gap**2).sum() / (len(gap) ** 3 - len(gap))


def by_scipy(source, measured):
    """The same, by SciPy."""
    return stats.spearmanr(source, measured).statistic


_peaks = np.array([78.5, 78.2, 77.6, 76.5, 77.4, 72.0, 74.8, 77.8, 63.8, 68.3, 75.0])
_found = np.array([96.1, 96.1, 95.4, 95.8, 96.0, 94.9, 95.5, 95.6, 92.4, 94.1, 93.3])

EXERCISE = FunctionExercise(
    id="experiment-rank",
    chapter="estimation/experiment",
    title="The same order?",
    level="core",
    reference=rank_correlation,
    why="Ranks forget the unit and keep the order. Counting the smaller values, and half of the equal ones, "
    "gives every tie the mean of its ranks.",
    mistakes=variants(
        pearson,
        argsort_once,
        ties_by_place,
        ties_from_the_end,
        smallest_rank,
        turned,
        by_kendall,
        shortcut,
    ),
    alternatives=(by_scipy,),
    hints=(
        "The rank of a value: how many are smaller? Where do equal values stand?",
        "rank = #smaller + (#equal + 1)/2, counting the value itself; then np.corrcoef of the ranks.",
    ),
    cases=(
        Case("11 rows with equal accuracies", (_peaks, _found)),
        Case(
            "no equal values, 11 rows", (_peaks, _found[::-1] + 0.001 * np.arange(11))
        ),
        Case(
            "no equal values",
            (np.array([3.0, 1.0, 7.0, 4.0, 9.0]), np.array([0.2, 0.3, 0.9, 0.1, 2.0])),
        ),
    ),
    returns=("correlation",),
)
