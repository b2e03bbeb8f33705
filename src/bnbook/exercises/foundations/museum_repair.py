"""Exercise: repair the running variance of a checkpoint that two bugs have written."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def repair_running_var(
    running_var: np.ndarray, eps: float, count: int, weight: float
) -> np.ndarray:
    """Repair running variances that were written with ε in them, and biased.

    The running variance started at 1. Each batch of `count` examples then contributed
    σ² + ε, the biased variance plus ε, where M/(M − 1) · σ² was meant.

    Args:
        running_var: the wrong running variance, (D,).
        eps: ε that was added to each contribution.
        count: M ≥ 2, the size of every batch.
        weight: total weight of the batches in the average, in (0, 1]; the start has the
            rest, 1 − weight.

    Returns:
        The running variance as it should be, (D,), as a new array.
    """
    start = 1 - weight
    contributed = (running_var - start) / weight - eps  # the average of σ²
    return start + weight * contributed * count / (count - 1)


def start_corrected_too(running_var, eps, count, weight):
    """You correct the start as well. The value 1 came from no batch: it holds no ε and has
    no bias. Take its share 1 − weight out first, and put it back at the end."""
    return (running_var - eps) * count / (count - 1)


def start_forgotten(running_var, eps, count, weight):
    """You take the share of the start out and do not put it back. A right run would have
    started at 1 too."""
    contributed = (running_var - (1 - weight)) / weight - eps
    return weight * contributed * count / (count - 1)


def epsilon_whole(running_var, eps, count, weight):
    """You subtract all of ε from the average. The batches have only the share `weight` in
    it, so ε is in it only weight times."""
    start = 1 - weight
    return start + (running_var - start - eps) * count / (count - 1)


def bias_before_epsilon(running_var, eps, count, weight):
    """You correct the bias first and subtract ε then. ε was added last, to the biased
    variance, so it must come off first."""
    start = 1 - weight
    contributed = (running_var - start) / weight * count / (count - 1) - eps
    return start + weight * contributed


def bias_the_wrong_way(running_var, eps, count, weight):
    """You multiply by (M − 1)/M. The biased variance is already too small: the correction
    is M/(M − 1)."""
    start = 1 - weight
    contributed = (running_var - start) / weight - eps
    return start + weight * contributed * (count - 1) / count


def bias_left(running_var, eps, count, weight):
    """You remove ε and leave the bias: multiply what the batches contributed by
    M/(M − 1)."""
    return running_var - weight * eps


def epsilon_left(running_var, eps, count, weight):
    """You correct the bias and leave ε in: subtract it from what the batches
    contributed."""
    start = 1 - weight
    return start + (running_var - start) * count / (count - 1)


def in_one_line(running_var, eps, count, weight):
    """The same, solved for the difference."""
    biased = running_var - (1 - weight) - weight * eps
    return running_var - weight * eps + biased / (count - 1)


_rng = np.random.default_rng(301)


def _written(features, eps, count, weight):
    variances = _rng.uniform(0.2, 3.0, size=features)
    biased = variances * (count - 1) / count
    return (1 - weight + weight * (biased + eps), eps, count, weight)


EXERCISE = FunctionExercise(
    id="museum-repair",
    chapter="foundations/museum",
    title="Repair a checkpoint",
    level="core",
    reference=repair_running_var,
    why="Undo in reverse order: take out the start, divide by the batches' weight, subtract "
    "ε, correct the bias, and put weight and start back.",
    mistakes=variants(
        start_corrected_too,
        start_forgotten,
        epsilon_whole,
        bias_before_epsilon,
        bias_the_wrong_way,
        bias_left,
        epsilon_left,
    ),
    alternatives=(in_one_line,),
    hints=(
        "Write down what is in the checkpoint: (1 − weight) · 1 + weight · (s + ε), where s "
        "is the average of the biased variances. Solve for s.",
        "s = (running_var − (1 − weight))/weight − ε. What should be there is "
        "(1 − weight) + weight · s · M/(M − 1).",
    ),
    cases=(
        Case("batches of 4, 3 features", _written(3, 0.1, 4, 0.6), count=4),
        Case("batches of 2", _written(4, 0.5, 2, 0.9), "M = 2.", 2),
        Case("a long run", _written(2, 0.3, 8, 1.0), "the start is forgotten.", 8),
    ),
    returns=("running_var",),
)
