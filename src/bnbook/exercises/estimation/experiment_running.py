"""Exercise: a running mean with a rate, and how long its start is remembered."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def running_mean_after(
    seen: np.ndarray, rate: float, start: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """An exponential moving average, and the weight of its start in it.

    The last result is about any number of steps, also one above K.

    Args:
        seen: the statistic of each step, (K,).
        rate: weight of the new value, above 0 and below 1; the source's is 0.2.
        start: value before the first step.

    Returns:
        running: the average after each step, (K,).
        left: weight of `start` in each of them, (K,).
        enough: the smallest number of steps after which that weight is below 1%.
    """
    running, value = [], start
    for new in seen:
        value = value + rate * (new - value)
        running.append(value)
    left = (1 - rate) ** np.arange(1, len(seen) + 1)
    enough = int(np.floor(np.log(0.01) / np.log(1 - rate))) + 1
    return np.array(running), left, enough


def swapped(seen, rate, start):
    """You give the old value the weight `rate`. It is the weight of the new value, as PyTorch's momentum
    is."""
    return running_mean_after(seen, 1 - rate, start)


def before_each(seen, rate, start):
    """You return the averages before each step: the first is `start`. Take them after it."""
    running, left, enough = running_mean_after(seen, rate, start)
    running, left = [start, *running[:-1]], [1.0, *left[:-1]]
    return np.array(running), np.array(left), enough


def corrected_for_start(seen, rate, start):
    """You remove the start by dividing by 1 minus its weight, as Adam does. The running statistics of
    normalization keep it, which is why the source first makes steps that only update them."""
    running, left, enough = running_mean_after(seen, rate, start)
    return (running - left * start) / (1 - left), left, enough


def from_zero(seen, rate, start):
    """You start at 0 instead of `start`."""
    return running_mean_after(seen, rate, 0.0)


def first_value(seen, rate, start):
    """You start at the first value that is seen, so that `start` never counts."""
    return running_mean_after(seen, rate, seen[0])


def linear_weight(seen, rate, start):
    """Your average is right. The weight of the start is multiplied by 1 − rate in each step; it does not
    fall by `rate`."""
    running, *_ = running_mean_after(seen, rate, start)
    left = np.maximum(1 - rate * np.arange(1, len(seen) + 1), 0)
    return running, left, int(np.floor(0.99 / rate)) + 1


def weight_times_start(seen, rate, start):
    """Your average is right. `left` is the weight of the start, a share between 0 and 1; you multiply it by
    the start."""
    running, left, enough = running_mean_after(seen, rate, start)
    return running, left * start, enough


def one_step_short(seen, rate, start):
    """Your average and the weights are right. After your number of steps 1% or more is still left: take the
    first at which the weight is below."""
    running, left, enough = running_mean_after(seen, rate, start)
    return running, left, enough - 1


def one_step_late(seen, rate, start):
    """Your average and the weights are right. The number of steps is one too large: one step leaves 1 − rate,
    so that after k steps (1 − rate)^k is left."""
    running, left, enough = running_mean_after(seen, rate, start)
    return running, left, enough + 1


def not_whole(seen, rate, start):
    """Your average and the weights are right. The number of steps is a whole one: round the quotient of the
    logarithms up."""
    running, left, _ = running_mean_after(seen, rate, start)
    return running, left, np.log(0.01) / np.log(1 - rate)


def within_the_run(seen, rate, start):
    """Your average and the weights are right. You look for the number of steps in this run only, which may be
    too short: the weight goes on to fall after it."""
    running, left, enough = running_mean_after(seen, rate, start)
    return running, left, min(enough, len(seen))


def cumulative(seen, rate, start):
    """You take the mean of all values so far, which has no rate."""
    count = np.arange(1, len(seen) + 1)
    _, left, enough = running_mean_after(seen, rate, start)
    return np.cumsum(seen) / count, left, enough


def by_weights(seen, rate, start):
    """The same, as a matrix of weights."""
    k = np.arange(len(seen))
    age = k[:, None] - k[None]
    weights = np.where(age >= 0, rate * (1 - rate) ** np.maximum(age, 0), 0.0)
    left = 1 - weights.sum(axis=1)
    enough, share = 0, 1.0
    while share >= 0.01:
        enough, share = enough + 1, share * (1 - rate)
    return weights @ seen + left * start, left, enough


_rng = np.random.default_rng(832)

EXERCISE = FunctionExercise(
    id="experiment-running",
    chapter="estimation/experiment",
    title="How long a running mean remembers its start",
    level="core",
    reference=running_mean_after,
    why="Each step keeps the share 1 − rate of what was there. At the rate 0.2 the start is below 1% after "
    "21 steps; that is what the steps before training are for.",
    mistakes=variants(
        swapped,
        before_each,
        corrected_for_start,
        from_zero,
        first_value,
        linear_weight,
        weight_times_start,
        one_step_short,
        one_step_late,
        not_whole,
        within_the_run,
        cumulative,
    ),
    alternatives=(by_weights,),
    hints=(
        "What is the average after one step? Apply that again.",
        "value ← (1 − rate) value + rate new; after k steps (1 − rate)^k of the start is left. "
        "When is that below 0.01? Take logarithms, or count.",
    ),
    cases=(
        Case("6 steps, rate 0.2", (_rng.normal(2.0, 0.5, 6), 0.2, 1.5)),
        Case("9 steps, rate 0.1", (_rng.normal(-1.0, 1.0, 9), 0.1, 0.4)),
        Case("4 steps, rate 0.7", (_rng.normal(3.0, 1.0, 4), 0.7, -0.5)),
    ),
    returns=("running", "left", "enough"),
)
