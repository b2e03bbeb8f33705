"""Exercise: the best ternary vector of all."""

import itertools

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def best_ternary(w: np.ndarray) -> tuple[np.ndarray, float]:
    """The α ≥ 0 and the t of −1, 0 and 1 with the least Σ (w − αt)².

    Args:
        w: weights, (N,), not all of them 0.

    Returns:
        t, (N,), and alpha, a number.
    """
    order = np.argsort(-np.abs(w))
    sums = np.cumsum(np.abs(w)[order])
    count = 1 + np.argmax(sums**2 / np.arange(1, len(w) + 1))
    t = np.zeros(len(w))
    t[order[:count]] = np.sign(w)[order[:count]]
    return t, sums[count - 1] / count


def _keep(w, kept):
    return np.sign(w) * kept, np.abs(w)[kept].mean()


def rule_of_thumb(w):
    """You use Δ = 0.7 mean|w|. That is close to the best on many weights, and not the best on these:
    compare every number of weights to keep."""
    return _keep(w, np.abs(w) > 0.7 * np.abs(w).mean())


def all_kept(w):
    """You keep all weights, and your pair is that of the best signs. Setting the small ones to 0 lets α
    fit the large ones. If you do choose a number to keep: add the magnitudes from the largest down. From
    the smallest up, (Σ|w|)²/n always rises."""
    return np.sign(w), np.abs(w).mean()


def largest_mean(w):
    """You maximize the mean of the kept magnitudes, which keeps only the largest weight. The error
    falls by (Σ|w|)²/n: divide the squared sum by n, not the sum."""
    return _keep(w, np.abs(w) == np.abs(w).max())


def half_the_largest(w):
    """You keep the weights above half of the largest one. The border is half of α, and α is the mean
    of the kept magnitudes, not the largest."""
    return _keep(w, np.abs(w) > np.abs(w).max() / 2)


def scale_of_all(w):
    """Your t is right, and your α divides the kept magnitudes by N. Divide by how many are kept."""
    t, alpha = best_ternary(w)
    return t, alpha * np.abs(t).mean()


def signs_lost(w):
    """Your zeros and your α are right, but t has lost the signs of w."""
    t, alpha = best_ternary(w)
    return np.abs(t), alpha


def one_too_few(w):
    """You keep one weight fewer than the best: `np.argmax` counts from 0."""
    order = np.argsort(-np.abs(w))
    sums = np.cumsum(np.abs(w)[order])
    count = max(np.argmax(sums**2 / np.arange(1, len(w) + 1)), 1)
    kept = np.zeros(len(w), bool)
    kept[order[:count]] = True
    return _keep(w, kept)


def scaled_levels(w):
    """Your t holds αt. Return levels −1, 0 and 1, and α beside them."""
    t, alpha = best_ternary(w)
    return alpha * t, alpha


def alternates(w):
    """You alternate between the best α and Δ = α/2, from plain signs on, until nothing changes. That
    can stop in a local minimum, where no small step helps and another number of weights is better:
    compare every number of weights to keep."""
    kept = np.ones(len(w), bool)
    while True:
        t, alpha = _keep(w, kept)
        following = np.abs(w) > alpha / 2
        if (following == kept).all():
            return t, alpha
        kept = following


def first_drop(w):
    """You keep one weight more, from the largest on, and stop as soon as (Σ|w|)²/n drops. It may rise
    again: compare every n up to N."""
    sizes = np.sort(np.abs(w))[::-1]
    gain = np.cumsum(sizes) ** 2 / np.arange(1, len(w) + 1)
    count = 1
    while count < len(w) and gain[count] >= gain[count - 1]:
        count += 1
    return _keep(w, np.abs(w) >= sizes[count - 1])


def first_drop_from_all(w):
    """You drop one weight after the other, the smallest first, and stop as soon as that makes
    (Σ|w|)²/n smaller. It may rise again: compare every n down to 1."""
    sizes = np.sort(np.abs(w))[::-1]
    gain = np.cumsum(sizes) ** 2 / np.arange(1, len(w) + 1)
    count = len(w)
    while count > 1 and gain[count - 2] >= gain[count - 1]:
        count -= 1
    return _keep(w, np.abs(w) >= sizes[count - 1])


def by_brute_force(w):
    """The same, from all 3^N patterns."""
    best = None
    for pattern in itertools.product((-1.0, 0.0, 1.0), repeat=len(w)):
        t = np.array(pattern)
        if t.any() and (gain := w @ t) > 0:
            score = gain**2 / (t @ t)
            if best is None or score > best[0]:
                best = score, t, gain / (t @ t)
    return best[1], best[2]


def by_thresholds(w):
    """The same, with every magnitude as the smallest one that is kept."""
    found = [_keep(w, np.abs(w) >= least) for least in np.abs(w)]
    return min(found, key=lambda pair: ((w - pair[1] * pair[0]) ** 2).sum())


EXERCISE = FunctionExercise(
    id="ternary-optimal",
    chapter="propagation/ternary",
    title="The closest ternary vector",
    level="hard",
    reference=best_ternary,
    why="With n weights kept, the error falls by (Σ|w|)²/n at the best α, so the n largest are kept; "
    "only n is left to choose.",
    mistakes=variants(
        rule_of_thumb,
        all_kept,
        largest_mean,
        half_the_largest,
        scale_of_all,
        signs_lost,
        one_too_few,
        scaled_levels,
        alternates,
        first_drop,
        first_drop_from_all,
    ),
    alternatives=(by_brute_force, by_thresholds),
    hints=(
        "Fix the number n of weights to keep. Which n are they, what is α, and what is the error then?",
        "The error is Σw² − (Σ_kept |w|)²/n. Sort the magnitudes, take cumulative sums, and look for the "
        "n with the largest (Σ|w|)²/n.",
    ),
    cases=(
        Case(
            "7 weights, two of them large",
            (np.array([0.9, -4.0, 1.1, 0.2, 3.0, -1.3, 1.0]),),
        ),
        Case(
            "one weight far above the others",
            (np.array([10.0, -4.1, 4.0, -3.9, 3.8, 0.3]),),
            "the largest weight is more than twice the next.",
        ),
        Case(
            "5 weights, two of them small",
            (np.array([3.4, 0.1, 2.4, 0.2, 1.2]),),
            "two pairs cannot be improved by small steps, and one of them is better.",
        ),
        Case(
            "3 weights, one of them large",
            (np.array([3.5, -10.0, 3.4]),),
            "one weight is better than three, and three are better than two.",
        ),
        Case(
            "6 weights, four of them large",
            (np.array([1.9, -4.0, 0.2, 3.0, -1.85, -0.1]),),
        ),
        Case(
            "8 weights of similar size",
            (np.array([1.0, -1.2, 0.9, 1.1, -0.2, 1.3, -0.45, 0.8]),),
        ),
    ),
    returns=("t", "alpha"),
)
