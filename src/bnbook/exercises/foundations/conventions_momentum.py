"""Exercise: the running mean that a library with momentum on the past arrives at."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def running_mean(means: np.ndarray, torch_momentum: float) -> np.ndarray:
    """Running mean after a training run in Keras that imitates PyTorch.

    Keras updates by `mean * m + batch_mean * (1 - m)`. Choose m so that the result is
    that of a PyTorch layer with momentum `torch_momentum`, and carry out the updates.

    Args:
        means: batch means in the order of training, (T, D): one batch a row.
        torch_momentum: momentum as PyTorch writes it, in [0, 1].

    Returns:
        The running mean after the last batch, (D,). It starts at 0.
    """
    m = 1 - torch_momentum
    mean = np.zeros(means.shape[1])
    for batch_mean in means:
        mean = mean * m + batch_mean * (1 - m)
    return mean


def momentum_copied(means, torch_momentum):
    """You use PyTorch's number in Keras's formula. There it multiplies the past, in
    PyTorch the newest batch: m = 1 − torch_momentum."""
    return running_mean(means, 1 - torch_momentum)


def starts_at_the_first_batch(means, torch_momentum):
    """Your running mean starts at the first batch mean. Both libraries start at 0, so
    the early values are too small, and that belongs to the answer."""
    mean = means[0].copy()
    for batch_mean in means[1:]:
        mean = mean + torch_momentum * (batch_mean - mean)
    return mean


def newest_first(means, torch_momentum):
    """You go through the batches backwards, so the oldest gets the largest weight. The
    rows are in the order of training."""
    return running_mean(means[::-1], torch_momentum)


def plain_average(means, torch_momentum):
    """You average all batches alike. That is the paper's rule; an exponential average
    gives batch t of T the weight w(1 − w)^(T − t)."""
    return means.mean(axis=0)


def debiased(means, torch_momentum):
    """You divide by 1 − (1 − w)^T, which corrects for the start at 0. Neither Keras nor
    PyTorch does."""
    correction = 1 - (1 - torch_momentum) ** len(means)
    return running_mean(means, torch_momentum) / correction


def whole_path(means, torch_momentum):
    """You return the running mean after every batch. Only the last one is asked for,
    shape (D,)."""
    return np.array(
        [running_mean(means[: t + 1], torch_momentum) for t in range(len(means))]
    )


def weights_at_once(means, torch_momentum):
    """The same, by the weights that the updates give in the end."""
    age = np.arange(len(means))[::-1]
    return torch_momentum * (1 - torch_momentum) ** age @ means


def as_pytorch(means, torch_momentum):
    """The same, by PyTorch's formula."""
    mean = 0 * means[0]
    for row in means:
        mean = (1 - torch_momentum) * mean + torch_momentum * row
    return mean


_rng = np.random.default_rng(501)

EXERCISE = FunctionExercise(
    id="conventions-momentum",
    chapter="foundations/conventions",
    title="Momentum, translated",
    level="warm-up",
    reference=running_mean,
    why="The weight of the newest batch is PyTorch's momentum and 1 minus Keras's. With "
    "m = 1 − torch_momentum both formulas are the same line.",
    mistakes=variants(
        momentum_copied,
        starts_at_the_first_batch,
        newest_first,
        plain_average,
        debiased,
        whole_path,
    ),
    alternatives=(weights_at_once, as_pytorch),
    hints=(
        "What weight does the newest batch get in PyTorch, and in Keras's formula?",
        "Start from np.zeros(D), set m = 1 − torch_momentum, and loop over the rows.",
    ),
    cases=(
        Case("5 batches, 3 features", (_rng.normal(2.0, 1.0, size=(5, 3)), 0.1)),
        Case("4 batches, 2 features", (_rng.normal(-1.0, 2.0, size=(4, 2)), 0.3)),
        Case("2 batches, 5 features", (_rng.normal(0.5, 1.0, size=(2, 5)), 0.8)),
    ),
    returns=("running_mean",),
)
