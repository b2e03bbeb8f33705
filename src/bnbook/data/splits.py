"""A dataset in three parts: one to learn from, one to choose by, one to report on."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bnbook.validation import require_float_array


class Split(NamedTuple):
    """Examples and their labels: x, (N, D), float32, and t, (N,), int64."""

    x: np.ndarray
    t: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Three disjoint sets of examples with the same features.

    Attributes:
        name: what it is, for a title.
        features: names of the D features, in the order of the columns.
        train: the examples whose gradients are taken.
        validation: those by which a model, an epoch or a learning rate is chosen.
        test: those that are looked at once, when everything is chosen.
    """

    name: str
    features: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self):
        """Refuse parts that do not fit together."""
        for part, (x, t) in self.parts().items():
            require_float_array(f"{part}.x", x)
            if x.ndim != 2 or x.shape[1] != len(self.features) or not len(x):
                raise ValueError(
                    f"{part}.x must have shape (N, {len(self.features)}) with N at least 1, "
                    f"one column a feature, got {x.shape}"
                )
            if type(t) is not np.ndarray or t.dtype.kind not in "iu":
                raise TypeError(
                    f"{part}.t must be an array of integer class numbers, got "
                    f"{getattr(t, 'dtype', type(t).__name__)}; convert it with astype(np.int64)"
                )
            if t.shape != (len(x),) or t.min() < 0:
                raise ValueError(
                    f"{part}.t must hold {len(x)} class numbers from 0, one an example, got "
                    f"shape {t.shape} and smallest {t.min() if t.size else 'none'}"
                )

    def parts(self) -> dict[str, Split]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 1 + max(int(part.t.max()) for part in self.parts().values())

    @property
    def majority(self) -> float:
        """Accuracy, on the validation split, of always naming its most frequent class."""
        return float(np.bincount(self.validation.t).max() / len(self.validation.t))

    def standardized(self) -> "Dataset":
        """The dataset with every feature moved and scaled to mean 0 and variance 1.

        Mean and deviation are those of the training split, in all three parts: the other
        two stand for data that training has not seen. A feature that is constant in the
        training split is moved and not scaled (Yu 2021, §1.0, divides by 0 there).
        """
        wide = self.train.x.astype(np.float64)
        mean, std = wide.mean(axis=0), wide.std(axis=0)
        # A constant column may come out as rounding error instead of 0.
        constant = np.ptp(self.train.x, axis=0) == 0
        std = np.where(constant, 1.0, std)

        def moved(part: Split) -> Split:
            return Split(((part.x - mean) / std).astype(part.x.dtype), part.t)

        return replace(self, **{name: moved(p) for name, p in self.parts().items()})


def split(
    name: str,
    features: tuple[str, ...],
    x: np.ndarray,
    t: np.ndarray,
    *,
    validation: float,
    test: float,
    seed: int,
) -> Dataset:
    """Shuffle examples and deal them into three parts.

    Args:
        name: what the dataset is.
        features: names of the D columns of x.
        x: examples, (N, D), floating point; kept as float32.
        t: class numbers, (N,), integers from 0; kept as int64.
        validation: share of the examples for validation, between 0 and 1.
        test: share for the test.
        seed: of the shuffle.

    Raises:
        TypeError: x holds no floating-point numbers or t no integers.
        ValueError: x and t differ in length, a number is not finite, or a part would be
            empty.
    """
    if np.ndim(x) != 2 or np.shape(t) != np.shape(x)[:1]:
        raise ValueError(
            f"x must be (N, D) and t (N,), got {np.shape(x)} and {np.shape(t)}"
        )
    shares = {"validation": validation, "test": test}
    for part, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"{part} must be a share between 0 and 1, got {share}")
    count = len(x)
    sizes = [math.floor(share * count) for share in shares.values()]
    if min(*sizes, count - sum(sizes)) < 1:
        raise ValueError(
            f"{count} examples with shares {shares} leave a part empty; "
            "use more examples or other shares"
        )
    order = np.random.default_rng(seed).permutation(count)
    held = np.split(order, np.cumsum(sizes))
    x, t = np.asarray(x), np.asarray(t)
    if x.dtype.kind != "f" or t.dtype.kind not in "iu":
        raise TypeError(
            f"x must be floating point and t integer, got {x.dtype} and {t.dtype}; "
            "convert them with astype"
        )
    parts = [
        Split(x[rows].astype(np.float32), t[rows].astype(np.int64)) for rows in held
    ]
    return Dataset(name, tuple(features), parts[2], parts[0], parts[1])
