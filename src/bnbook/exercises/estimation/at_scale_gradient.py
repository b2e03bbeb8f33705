"""Exercise: the gradient of a batch that workers share unevenly."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def gradient_of_all(gradients: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The gradient of the mean loss over all examples, from those of the workers.

    Args:
        gradients: of each worker's mean loss over its own examples, (W, P).
        counts: how many examples each worker has, (W,).

    Returns:
        gradient: of the mean loss over the examples of all workers, (P,).
    """
    return (counts[:, None] * gradients).sum(0) / counts.sum()


def plain_mean(gradients, counts):
    """You take the plain mean over the workers, as DDP does. A worker with few examples then counts as much
    as one with many."""
    return gradients.mean(0)


def added_up(gradients, counts):
    """You add the workers' gradients. Each is that of a mean already."""
    return gradients.sum(0)


def not_divided(gradients, counts):
    """You weight by the numbers of examples, and do not divide by their sum."""
    return (counts[:, None] * gradients).sum(0)


def divided_by_workers(gradients, counts):
    """You divide by the number of workers. The weights add up to the number of examples."""
    return (counts[:, None] * gradients).sum(0) / len(counts)


def inverse_weights(gradients, counts):
    """You weight by 1/count. A mean over few examples stands for few examples."""
    weights = 1 / counts
    return (weights[:, None] * gradients).sum(0) / weights.sum()


def by_shares(gradients, counts):
    """The same: each worker scales its loss by its share, and the results are added up."""
    total = np.zeros(gradients.shape[1])
    for gradient, count in zip(gradients, counts, strict=True):
        total += gradient * (count / counts.sum())
    return total


_rng = np.random.default_rng(901)

EXERCISE = FunctionExercise(
    id="at-scale-gradient",
    chapter="estimation/at_scale",
    title="Workers with unequal batches",
    level="warm-up",
    reference=gradient_of_all,
    why="The mean over all examples is the mean of the workers' means, weighted by their numbers of examples.",
    mistakes=variants(
        plain_mean, added_up, not_divided, divided_by_workers, inverse_weights
    ),
    alternatives=(by_shares,),
    hints=(
        "Undo each worker's mean: what is the gradient of its summed loss?",
        "Add up count · gradient, and divide by the number of all examples.",
    ),
    cases=(
        Case(
            "3 workers, 2 parameters",
            (_rng.normal(size=(3, 2)), np.array([5.0, 3.0, 1.0])),
        ),
        Case(
            "2 workers, 4 parameters", (_rng.normal(size=(2, 4)), np.array([1.0, 32.0]))
        ),
    ),
    returns=("gradient",),
)
