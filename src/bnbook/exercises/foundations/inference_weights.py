"""Exercise: the weights of an exponential average."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def average_weights(alpha: float, steps: int) -> np.ndarray:
    """Weights with which a running average counts its initial value and each batch.

    The average follows new = alpha · old + (1 − alpha) · batch, `steps` times.

    Args:
        alpha: weight of the old value, in [0, 1].
        steps: number of batches t, at least 1.

    Returns:
        Weights of the initial value, the first batch, …, the last batch, (t + 1,).
    """
    weights = (1 - alpha) * alpha ** np.arange(steps, -1, -1.0)
    weights[0] = alpha**steps
    return weights


def momentum_convention(alpha, steps):
    """You give the weight alpha to the new batch, as PyTorch's `momentum` does. Here
    alpha is the weight of the old value, and each batch enters with 1 − alpha."""
    return average_weights(1 - alpha, steps)


def newest_first(alpha, steps):
    """Your weights are in the reverse order: the initial value comes first, the newest
    batch last."""
    return average_weights(alpha, steps)[::-1].copy()


def initial_value_as_a_batch(alpha, steps):
    """You weigh the initial value like a batch. It is never multiplied by 1 − alpha:
    what remains of it after t batches is alpha^t, and the weights then sum to 1."""
    return (1 - alpha) * alpha ** np.arange(steps, -1, -1.0)


def ages_from_one(alpha, steps):
    """You count the newest batch as one step old. It has been multiplied by 1 − alpha
    only: its age is 0."""
    weights = (1 - alpha) * alpha ** np.arange(steps + 1, 0, -1.0)
    weights[0] = alpha**steps
    return weights


def not_scaled(alpha, steps):
    """You leave out the factor 1 − alpha, with which each batch enters."""
    return alpha ** np.arange(steps, -1, -1.0)


def normalized(alpha, steps):
    """You divide by the sum of weights that do not sum to 1. With the initial value
    counted as alpha^t they sum to 1 by themselves."""
    weights = alpha ** np.arange(steps, -1, -1.0)
    return weights / weights.sum()


def equal(alpha, steps):
    """Your weights are those of a plain average. A running average forgets: each new
    batch multiplies all older weights by alpha."""
    return np.full(steps + 1, 1 / (steps + 1))


def by_recursion(alpha, steps):
    """The same, by following each value through the recursion."""
    weights = np.zeros(steps + 1)
    weights[0] = 1.0
    for step in range(1, steps + 1):
        weights *= alpha
        weights[step] = 1 - alpha
    return weights


EXERCISE = FunctionExercise(
    id="inference-weights",
    chapter="foundations/inference",
    title="Who counts how much",
    level="warm-up",
    reference=average_weights,
    why="Each new batch multiplies all older weights by α. The initial value is never "
    "multiplied by 1 − α, so α^t is left of it, and the weights sum to 1.",
    mistakes=variants(
        momentum_convention,
        newest_first,
        initial_value_as_a_batch,
        ages_from_one,
        not_scaled,
        normalized,
        equal,
    ),
    alternatives=(by_recursion,),
    hints=(
        "Write out three steps by hand, starting from old = a: how often has each value been "
        "multiplied by alpha, and which have been multiplied by 1 − alpha?",
        "The batch of age k has (1 − alpha) · alpha^k with age 0 for the newest; the initial value "
        "has alpha^t.",
    ),
    cases=(
        Case("alpha 0.8, 5 batches", (0.8, 5)),
        Case("alpha 0.25, 3 batches", (0.25, 3), "alpha is below one half."),
        Case("alpha 0.97, 1 batch", (0.97, 1), "there is a single batch."),
    ),
    returns=("weights",),
)
