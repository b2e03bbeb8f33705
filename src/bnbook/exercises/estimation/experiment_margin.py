"""Exercise: is a drop within a margin, beyond it, or undecided?"""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def judge_drop(
    method: np.ndarray, baseline: np.ndarray, margin: float, quantile: float
) -> tuple[float, float, int]:
    """Judge by Student's interval whether a method loses at most a margin.

    Run s of both has the same seed. The drop of a seed is baseline − method.

    Args:
        method: accuracy of each run, (S,), S ≥ 3.
        baseline: accuracy of the run with the same seed, (S,).
        margin: the largest drop that would be called small.
        quantile: of Student's t, by which the error of the mean is multiplied; for 95% and
            10 runs it is 2.26.

    Returns:
        low, high: the ends of the interval.
        verdict: 1 if the whole interval is at most the margin, 3 if all of it is above, and
            2 if it is undecided.
    """
    drops = baseline - method
    error = drops.std(ddof=1) / np.sqrt(len(drops))
    half = quantile * error
    low, high = drops.mean() - half, drops.mean() + half
    return low, high, 2 - int(high <= margin) + int(low > margin)


def by_the_mean(method, baseline, margin, quantile):
    """You compare the mean drop with the margin. What a mean of few runs can decide, its interval says."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if (low + high) / 2 <= margin else 3


def no_difference_shown(method, baseline, margin, quantile):
    """You call a drop small where the interval reaches 0. That a difference is not shown does not show that
    it is small: with few runs every interval reaches 0."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if low <= 0 else 3


def holds_zero(method, baseline, margin, quantile):
    """You call a drop small as soon as the interval contains 0. That a difference is not shown does not show
    that it is small: its high end may lie beyond the margin."""
    low, high, verdict = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if low <= 0 <= high else verdict


def zero_or_small(method, baseline, margin, quantile):
    """You call a drop small where the interval contains 0, and beyond the margin where it is not shown to be
    small. Neither follows: an interval on both sides of the margin decides nothing, 2."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if low <= 0 or high <= margin else 3


def zero_alone(method, baseline, margin, quantile):
    """You ask whether the interval contains 0, and never look at the margin. That a difference is not shown
    does not show that it is small."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if low <= 0 <= high else 3


def verdicts_turned(method, baseline, margin, quantile):
    """You turn the verdicts round: 1 is for a small drop, 3 for one beyond the margin."""
    low, high, verdict = judge_drop(method, baseline, margin, quantile)
    return low, high, 4 - verdict


def deviation_of_the_sample(method, baseline, margin, quantile):
    """You divide the squares by S, as np.std does on its own. Student's interval needs S − 1: ddof=1."""
    drops = baseline - method
    half = quantile * drops.std() / np.sqrt(len(drops))
    low, high = drops.mean() - half, drops.mean() + half
    return low, high, 2 - int(high <= margin) + int(low > margin)


def by_the_low_end(method, baseline, margin, quantile):
    """You ask whether the drop *may* be within the margin, the low end. To show that it is, the high end must
    be."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if low <= margin else 3


def undecided_is_beyond(method, baseline, margin, quantile):
    """You have no verdict for an interval that contains the margin. It decides nothing: 2."""
    low, high, _ = judge_drop(method, baseline, margin, quantile)
    return low, high, 1 if high <= margin else 3


def unpaired(method, baseline, margin, quantile):
    """You treat the runs as two independent groups. What a seed does to both cancels in their difference:
    take the deviation of the drops."""
    count = len(method)
    error = np.sqrt((method.var(ddof=1) + baseline.var(ddof=1)) / count)
    half = quantile * error
    low, high = (baseline.mean() - method.mean()) + np.array([-half, half])
    return low, high, 2 - int(high <= margin) + int(low > margin)


def turned(method, baseline, margin, quantile):
    """You take method − baseline. A drop is positive where the method is worse."""
    return judge_drop(baseline, method, margin, quantile)


def not_divided(method, baseline, margin, quantile):
    """You use the deviation of one drop. That of a mean of S is smaller by √S."""
    drops = baseline - method
    half = quantile * drops.std(ddof=1)
    low, high = drops.mean() - half, drops.mean() + half
    return low, high, 2 - int(high <= margin) + int(low > margin)


def by_sums(method, baseline, margin, quantile):
    """The same, with the variance from sums."""
    drops, count = baseline - method, len(method)
    middle = drops.sum() / count
    variance = ((drops - middle) ** 2).sum() / (count - 1)
    low, high = middle + np.array([-1, 1]) * quantile * (variance / count) ** 0.5
    if high <= margin:
        return low, high, 1
    return low, high, 3 if low > margin else 2


_rng = np.random.default_rng(831)


def _runs(count: int, drop: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    seed = _rng.normal(0.9, 0.03, count)
    gap = _rng.normal(0.0, 1.0, count)
    gap = drop + noise * (gap - gap.mean())
    return seed - gap, seed


EXERCISE = FunctionExercise(
    id="experiment-margin",
    chapter="estimation/experiment",
    title="A small drop",
    level="core",
    reference=judge_drop,
    why="A claim about a size needs the whole interval on one side of the margin. An interval that contains the "
    "margin calls for more seeds, not for a verdict.",
    mistakes=variants(
        by_the_mean,
        no_difference_shown,
        holds_zero,
        zero_alone,
        zero_or_small,
        by_the_low_end,
        undecided_is_beyond,
        unpaired,
        turned,
        not_divided,
        deviation_of_the_sample,
        verdicts_turned,
    ),
    alternatives=(by_sums,),
    hints=(
        "There are three places for an interval beside a margin. Which verdict belongs to each?",
        "Student's interval of baseline − method; 1 if high ≤ margin, 3 if low > margin, else 2.",
    ),
    cases=(
        Case("undecided", (*_runs(5, 0.008, 0.006), 0.01, 2.78), count=5),
        Case(
            "10 seeds, a small drop", (*_runs(10, 0.006, 0.004), 0.01, 2.26), count=10
        ),
        Case("8 seeds, beyond", (*_runs(8, 0.03, 0.008), 0.01, 1.9), count=8),
        Case("no drop", (*_runs(6, -0.01, 0.008), 0.01, 2.57), count=6),
        Case("too few to tell", (*_runs(4, 0.02, 0.04), 0.01, 3.18), count=4),
    ),
    returns=("low", "high", "verdict"),
    categories=("verdict",),
)
