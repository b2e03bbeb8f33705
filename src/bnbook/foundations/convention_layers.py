"""Batch normalization by each library's rules, and an experiment that finds them.

`ReferenceLayer` computes by a `Convention`; `probe` runs a layer without looking
inside, and `promised` is what it should then see.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import numpy as np
import torch
from torch import nn

from bnbook.foundations.conventions import get_convention, new_batch_weight
from bnbook.validation import require_eps, require_float_array


class Layer(Protocol):
    """What `probe` needs of a layer: to train on a batch and show what it keeps."""

    mean: np.ndarray
    var: np.ndarray

    def train(self, x: np.ndarray) -> np.ndarray:
        """Normalize with the statistics of x, and update the running ones."""


class ReferenceLayer:
    """Batch normalization by a convention's own rules, in NumPy, with γ = 1 and β = 0.

    Args:
        convention: name of a convention.
        features: D or C, the length of its channel axis.
        momentum: as that convention writes it; its default if None.
        eps: ε ≥ 0; the convention's default if None, and 1e-5 where it has none.

    Raises:
        TypeError: momentum or eps is not a number, features is not an integer, x is not
            floating point.
        ValueError: the convention is unknown, or momentum, eps or features out of
            range; x is not finite or has the wrong number of features; or the
            convention refuses the batch.

    Source: the documentation in `CONVENTIONS`.
    """

    def __init__(
        self,
        convention: str,
        features: int,
        *,
        momentum: float | None = None,
        eps: float | None = None,
    ):
        """Start with running mean 0 and running variance 1."""
        self.convention = get_convention(convention)
        whole = isinstance(features, Integral) and not isinstance(features, bool)
        if not whole or features < 1:
            raise ValueError(
                f"features must be a positive integer, got {features!r}; pass the "
                "number of channels"
            )
        self.weight = None
        if self.convention.weighs != "equal" or momentum is not None:
            self.weight = new_batch_weight(
                self.convention.momentum if momentum is None else momentum, convention
            )
        self.eps = require_eps((self.convention.eps or 1e-5) if eps is None else eps)
        self.mean, self.var, self.batches = np.zeros(features), np.ones(features), 0

    def train(self, x: np.ndarray) -> np.ndarray:
        """Normalize with the statistics of x, and update the running ones."""
        flat = self._rows(x)
        count = len(flat)
        if count <= 1:
            reaction = self.convention.one_value if count else self.convention.empty
            if reaction in ("refused", "undefined"):
                raise ValueError(
                    f"{self.convention.name} does not train on {count} values per "
                    "feature; pass at least two"
                )
            if reaction == "ignored":
                return x.copy()
        mean = flat.mean(axis=0) if count else np.full(flat.shape[1], np.nan)
        var = ((flat - mean) ** 2).mean(axis=0) if count else mean
        self.batches += 1
        weight = 1 / self.batches if self.weight is None else self.weight
        factor = count / max(count - 1, 1) if self.convention.corrected else 1.0
        self.mean = (1 - weight) * self.mean + weight * mean
        self.var = (1 - weight) * self.var + weight * factor * var
        return self._apply(x, mean, var)

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Normalize with the running statistics."""
        self._rows(x)
        return self._apply(x, self.mean, self.var)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        require_float_array("x", x)
        axis = self.convention.channel_axis
        if x.ndim < 2 or x.shape[axis] != len(self.mean):
            raise ValueError(
                f"axis {axis} of x must hold the {len(self.mean)} features, as "
                f"{self.convention.name} has it, "
                f"got shape {x.shape}; move it there with np.moveaxis"
            )
        return np.moveaxis(x, axis, -1).reshape(
            x.size // len(self.mean), len(self.mean)
        )

    def _apply(self, x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
        shape = [1] * x.ndim
        shape[self.convention.channel_axis] = len(self.mean)
        return (x - mean.reshape(shape)) / np.sqrt(var + self.eps).reshape(shape)


class TorchLayer:
    """PyTorch's batch normalization in float64, with the interface of `Layer`.

    Args:
        features: D or C, the length of axis 1.
        module: class of the layer.
        options: passed to it, for example momentum and eps.
    """

    def __init__(
        self, features: int, module: type[nn.Module] = nn.BatchNorm1d, **options
    ):
        """Make the layer, with γ = 1 and β = 0."""
        self.module = module(features, dtype=torch.float64, **options)

    @property
    def mean(self) -> np.ndarray:
        """A copy of the running mean."""
        return self.module.running_mean.numpy().copy()

    @property
    def var(self) -> np.ndarray:
        """A copy of the running variance."""
        return self.module.running_var.numpy().copy()

    def train(self, x: np.ndarray) -> np.ndarray:
        """Normalize with the statistics of x, and update the running ones."""
        return self.module.train()(torch.tensor(x)).detach().numpy()

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Normalize with the running statistics."""
        return self.module.eval()(torch.tensor(x)).detach().numpy()


@dataclass(frozen=True)
class Observed:
    """What `probe` saw a layer do.

    Attributes:
        channel_axis: 1 or −1.
        weights: weights that the first and the second batch got when each was the
            newest.
        corrected: whether the running variance got M/(M − 1)·σ².
        eps: ε, to three significant digits.
        eps_inside: whether ε is added to the variance, not to the standard deviation.
        one_value: "refused" or "accepted".
        empty: "refused", "ignored" or "NaN".
    """

    channel_axis: int
    weights: tuple[float, float]
    corrected: bool
    eps: float
    eps_inside: bool
    one_value: str
    empty: str


def promised(convention: str) -> Observed:
    """Say what `probe` should see of a layer that follows `convention`.

    Where the convention leaves a question open, that is what `ReferenceLayer` does:
    it uses ε = 1e-5, and refuses batches whose treatment is undefined.

    Raises:
        ValueError: the convention is unknown.
    """
    chosen = get_convention(convention)
    if chosen.momentum is None:
        weights = 1.0, 0.5
    else:
        weights = (round(new_batch_weight(chosen.momentum, convention), 3),) * 2
    refused = {"undefined": "refused"}
    return Observed(
        channel_axis=chosen.channel_axis,
        weights=weights,
        corrected=chosen.corrected,
        eps=chosen.eps or 1e-5,
        eps_inside=True,
        one_value=refused.get(chosen.one_value, chosen.one_value),
        empty=refused.get(chosen.empty, chosen.empty),
    )


def probe(make: Callable[[int], Layer]) -> Observed:
    """Find out the conventions of a layer by running it.

    Args:
        make: given the number of features, makes a fresh layer with running mean 0 and
            variance 1.

    Returns:
        What was seen. Single precision suffices.

    Raises:
        ValueError: the layer takes its features from neither axis 1 nor axis −1, or
            divides by neither √(σ² + ε) nor σ + ε.
    """
    shapes = {1: (4, 2, 3), -1: (4, 3, 2)}
    fits = [axis for axis, shape in shapes.items() if _accepts(make(2), shape)]
    if not fits:
        raise ValueError(
            "the layer takes features from neither axis 1 nor axis −1; wrap it with "
            "np.moveaxis"
        )

    layer, batch = make(1), np.array([[1.0], [3.0], [8.0]])  # mean 4, σ² = 26/3
    layer.train(batch)
    first = float(layer.mean[0]) / 4
    share = (float(layer.var[0]) - (1 - first)) / (first * 26 / 3)
    before = float(layer.mean[0])
    layer.train(batch + 10.0)
    second = (float(layer.mean[0]) - before) / (14 - before)

    deviations = np.array([0.01, 0.04])  # of two values from their mean, so σ too
    ends = [make(1).train(np.array([[-d], [d]]))[1, 0] for d in deviations]
    divisors = deviations / np.array(ends, dtype=float)
    inside, outside = divisors**2 - deviations**2, divisors - deviations
    eps_inside = math.isclose(*inside, rel_tol=1e-3)
    if not eps_inside and not math.isclose(*outside, rel_tol=1e-3):
        raise ValueError(
            "the layer divides by neither √(σ² + ε) nor σ + ε; check what it does "
            "with γ and β"
        )

    return Observed(
        channel_axis=fits[0],
        weights=(round(first, 3), round(second, 3)),
        corrected=math.isclose(share, 1.5, rel_tol=1e-3),
        eps=float(f"{(inside if eps_inside else outside)[0]:.3g}"),
        eps_inside=eps_inside,
        one_value="accepted" if _accepts(make(2), (1, 2)) else "refused",
        empty=_empty(make(2)),
    )


def _accepts(layer: Layer, shape: tuple[int, ...]) -> bool:
    try:
        layer.train(np.random.default_rng(0).normal(size=shape))
    except Exception:  # whatever a library raises
        return False
    return True


def _empty(layer: Layer) -> str:
    if not _accepts(layer, (0, 2)):
        return "refused"
    spoiled = np.isnan(layer.mean).any() or np.isnan(layer.var).any()
    return "NaN" if spoiled else "ignored"
