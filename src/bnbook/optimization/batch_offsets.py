"""What batches do to batch normalization: a part that changes, and a part that lasts."""

from dataclasses import dataclass

import numpy as np

from bnbook.validation import require_float_array


def batch_mean_variance(z: np.ndarray, batch: int) -> np.ndarray:
    """Variance of the mean of a batch drawn without replacement from z.

        Var(μ_B) = (N − B)/(N − 1) · σ²/B,   σ² the biased variance of all N

    Args:
        z: one value an example, (N,) or (N, D), N ≥ 2.
        batch: B, from 1 to N.

    Returns:
        () or (D,); 0 for B = N.

    Raises:
        TypeError: z is not a floating-point array.
        ValueError: N < 2, or batch lies outside 1 to N, or is not an integer.
    """
    count = _require_examples(z, batch)
    return (count - batch) / (count - 1) * z.var(axis=0) / batch


@dataclass(frozen=True)
class Offsets:
    """By how much the batch moves an example, ẑ in its batch minus ẑ among all examples.

    Attributes:
        lasting: mean over the examples of the squared mean over the epochs.
        changing: mean over the examples of the variance over the epochs.
    """

    lasting: float
    changing: float


def batch_offsets(
    z: np.ndarray, batch: int, *, epochs: int, shuffle: bool, seed: int = 0
) -> Offsets:
    """Normalize z batch by batch for some epochs, and split what the batches do.

    Args:
        z: one value an example, (N,); it stays the same, as if the weights did.
        batch: B ≥ 2, a divisor of N.
        epochs: at least 2.
        shuffle: whether each epoch has new batches.
        seed: of the batches.

    Raises:
        TypeError: z is not a floating-point array.
        ValueError: a batch or z has no variance, or an argument is out of its range.
    """
    count = _require_examples(z, batch)
    if z.ndim != 1 or batch < 2 or count % batch or epochs < 2:
        raise ValueError(
            f"z must be (N,), batch a divisor of N from 2 and epochs at least 2, got "
            f"{z.shape}, {batch} and {epochs}"
        )
    rng = np.random.default_rng(seed)
    order, moved = rng.permutation(count), np.empty((epochs, count))
    for epoch in range(epochs):
        parts = z[order].reshape(-1, batch)
        spread = parts.std(axis=1, keepdims=True)
        if not spread.all():
            raise ValueError("a batch has no variance; use a larger batch")
        moved[epoch, order] = (
            (parts - parts.mean(axis=1, keepdims=True)) / spread
        ).ravel()
        if shuffle:
            order = rng.permutation(count)
    moved -= (z - z.mean()) / z.std()
    return Offsets(
        float(np.mean(moved.mean(axis=0) ** 2)), float(moved.var(axis=0).mean())
    )


def _require_examples(z: np.ndarray, batch: int) -> int:
    require_float_array("z", z)
    if z.ndim == 0 or len(z) < 2:
        raise ValueError(f"z must hold at least two examples, got shape {z.shape}")
    if isinstance(batch, bool) or batch != int(batch) or not 1 <= batch <= len(z):
        raise ValueError(
            f"batch must be an integer from 1 to {len(z)}, the number of examples, "
            f"got {batch!r}"
        )
    return len(z)
