"""Mini-batches, and stochastic gradient descent with momentum."""

import math
from collections.abc import Iterator, Mapping
from numbers import Real

import numpy as np

from bnbook.foundations.inference import require_count


def minibatches(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The numbers 0 … count − 1 in random order, in batches: one epoch.

    What is left at the end is a smaller batch. If it would hold one example while
    batch_size is more than one, that example joins the batch before, because batch
    normalization has no variance of a single example. No example is left out.

    Args:
        count: number of examples, at least 1.
        batch_size: examples in a batch, at least 1.
        rng: random generator; it moves on.

    Yields:
        Integer arrays of length batch_size, the last one shorter, or longer by one.

    Raises:
        TypeError: count or batch_size is not an integer.
        ValueError: one of them is less than 1.
    """
    count = require_count("count", count, 1)
    batch_size = require_count("batch_size", batch_size, 1)
    order = rng.permutation(count)
    start = 0
    while start < count:
        stop = min(start + batch_size, count)
        if count - stop == 1 and batch_size > 1:
            stop = count
        yield order[start:stop]
        start = stop


class SGD:
    """Gradient descent with momentum: v ← m v + ∂L/∂p, then p ← p − learning_rate · v.

    The first v is ∂L/∂p. This is the form of `torch.optim.SGD`, where the learning rate
    stands outside of v.

    Args:
        learning_rate: positive, in units of parameter² per unit of loss.
        momentum: m in [0, 1); 0 for none.

    Raises:
        TypeError: an argument is not a real number.
        ValueError: an argument is out of range.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.0):
        """Start at rest."""
        self.learning_rate = require_number(
            "learning_rate", learning_rate, 0, strict=True
        )
        self.momentum = require_number("momentum", momentum, 0)
        if self.momentum >= 1:
            raise ValueError(
                f"momentum must lie below 1, got {momentum}; use for example 0.9, or 0 for none"
            )
        self.velocity: dict[str, np.ndarray] = {}

    def update(
        self, parameters: dict[str, np.ndarray], gradients: Mapping[str, np.ndarray]
    ) -> None:
        """Put a new array under each name in `parameters`; the old arrays stay as they are.

        Raises:
            ValueError: the two have not the same names and shapes.
        """
        for name, value in parameters.items():
            if name not in gradients or gradients[name].shape != value.shape:
                found = gradients[name].shape if name in gradients else "nothing"
                raise ValueError(
                    f"the gradient of {name} must have its shape {value.shape}, got {found}; "
                    "pass the gradients of these parameters"
                )
        with np.errstate(over="ignore", invalid="ignore"):  # the next loss will tell
            for name, value in parameters.items():
                v = gradients[name]
                if self.momentum:
                    if name in self.velocity:
                        v = self.momentum * self.velocity[name] + v
                    self.velocity[name] = v
                parameters[name] = value - self.learning_rate * v


def require_number(
    name: str, value: float, least: float, *, strict: bool = False
) -> float:
    """Return `value` as a float if it is finite and at least (`strict`: above) `least`.

    Raises:
        TypeError: it is not a real number.
        ValueError: it is out of range, NaN or infinite.
    """
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{name} must be a real number, got {type(value).__name__}; pass a float"
        )
    if not math.isfinite(value) or value < least or (strict and value == least):
        bound = "above" if strict else "at least"
        raise ValueError(
            f"{name} must be finite and {bound} {least:g}, got {value}; pass such a number"
        )
    return float(value)
