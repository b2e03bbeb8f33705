"""Exercise: translate a running variance from PyTorch to Keras in the middle of training."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def running_var_for_keras(
    running_var: np.ndarray, batch_size: int, batches: int, momentum: float
) -> np.ndarray:
    """Translate a running variance: what Keras would have kept of the same batches.

    Both start at 1 and give the newest batch the same weight. A batch contributes
    M/(M − 1)·σ² in PyTorch and σ² in Keras.

    Args:
        running_var: PyTorch's running variance after the batches, (D,).
        batch_size: M ≥ 2, the same in every batch.
        batches: number T of batches so far.
        momentum: as PyTorch writes it: the weight of the newest batch.

    Returns:
        Keras's running variance after the same batches, (D,).
    """
    start = (1 - momentum) ** batches
    return start + (running_var - start) * (batch_size - 1) / batch_size


def everything_rescaled(running_var, batch_size, batches, momentum):
    """You rescale the whole running variance. Part of it is still the start, 1, with
    weight (1 − momentum)^T, and no correction was ever applied to that part."""
    return running_var * (batch_size - 1) / batch_size


def the_wrong_way(running_var, batch_size, batches, momentum):
    """You multiply by M/(M − 1). PyTorch's batches are already corrected, so for Keras
    that factor must be taken out: (M − 1)/M."""
    start = (1 - momentum) ** batches
    return start + (running_var - start) * batch_size / (batch_size - 1)


def unchanged(running_var, batch_size, batches, momentum):
    """You return the running variance as it is. That keeps the model's outputs, and it
    is not what Keras would have collected."""
    return running_var.copy()


def momentum_backwards(running_var, batch_size, batches, momentum):
    """You take momentum^T for the weight of the start. In PyTorch each batch leaves the
    past the weight 1 − momentum, so it is (1 − momentum)^T."""
    return running_var_for_keras(running_var, batch_size, batches, 1 - momentum)


def start_dropped(running_var, batch_size, batches, momentum):
    """You take the start out and do not put it back. Keras's running variance began at 1
    too, and 1 has the same weight there."""
    start = (1 - momentum) ** batches
    return (running_var - start) * (batch_size - 1) / batch_size


def one_batch_too_few(running_var, batch_size, batches, momentum):
    """Your weight of the start is (1 − momentum)^(T − 1). Every one of the T batches
    multiplied it once."""
    return running_var_for_keras(running_var, batch_size, batches - 1, momentum)


def one_batch_only(running_var, batch_size, batches, momentum):
    """Your weight of the start is 1 − momentum, as after one batch. After T it is
    (1 − momentum)^T."""
    return running_var_for_keras(running_var, batch_size, 1, momentum)


def debiased(running_var, batch_size, batches, momentum):
    """You divide by 1 − (1 − momentum)^T to remove the start. Keras does not do that:
    its running variance still contains the start."""
    start = (1 - momentum) ** batches
    return (running_var - start) / (1 - start) * (batch_size - 1) / batch_size


def as_a_difference(running_var, batch_size, batches, momentum):
    """The same, written as a correction of the running variance."""
    start = (1 - momentum) ** batches
    return running_var - (running_var - start) / batch_size


def step_by_step(running_var, batch_size, batches, momentum):
    """The same, with the decay of the start in a loop."""
    start = 1.0
    for _ in range(batches):
        start *= 1 - momentum
    shares = (running_var - start) / (batch_size / (batch_size - 1))
    return shares + start


_rng = np.random.default_rng(505)

EXERCISE = FunctionExercise(
    id="conventions-convert",
    chapter="foundations/conventions",
    title="A running variance moves house",
    level="hard",
    reference=running_var_for_keras,
    why="Only what the batches contributed carries the factor M/(M − 1). The start has the "
    "weight (1 − momentum)^T in both libraries: take it out, rescale, put it back.",
    mistakes=variants(
        everything_rescaled,
        the_wrong_way,
        unchanged,
        momentum_backwards,
        start_dropped,
        one_batch_too_few,
        one_batch_only,
        debiased,
    ),
    alternatives=(as_a_difference, step_by_step),
    hints=(
        "Unroll the updates: the running variance is a weight times 1 plus what the "
        "batches contributed. Which part carries M/(M − 1)?",
        "After T batches the start has the weight (1 − momentum)^T.",
        "Subtract that weight, multiply by (M − 1)/M, and add it again.",
    ),
    cases=(
        Case(
            "3 features, 10 batches of 4", (_rng.uniform(1.0, 5.0, size=3), 4, 10, 0.1)
        ),
        Case("5 features, 3 batches of 2", (_rng.uniform(1.0, 3.0, size=5), 2, 3, 0.3)),
        Case("2 features, 6 batches of 8", (_rng.uniform(2.0, 9.0, size=2), 8, 6, 0.2)),
    ),
    returns=("running_var",),
)
