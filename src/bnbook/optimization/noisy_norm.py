"""Batch normalization with the covariate shift put back, and a measure of that shift."""

import itertools
from collections.abc import Callable, Sequence

import torch

from bnbook.optimization.dense import BatchNorm
from bnbook.validation import require_eps

Moments = list[tuple[torch.Tensor, torch.Tensor]]


class NoisyBatchNorm(BatchNorm):
    """Batch normalization, and behind it noise whose distribution is new in each pass.

    In training mode neuron d of example m gets y_md + a_d + b_d ξ_md. a_d is uniform from
    −n to n and b_d from 0 to n, drawn anew in each pass; ξ_md is standard normal. So the
    mean and the spread of what the next layer sees jump from step to step. In evaluation
    mode there is no noise.

    Args:
        features: D, at least 1.
        noise: n ≥ 0.
        seed: of the noise.
        eps: ε > 0.

    Raises:
        ValueError: noise is negative or not finite.

    Source: after Santurkar et al. (2018), §2.1, who draw from other distributions.
    """

    def __init__(self, features: int, *, noise: float, seed: int, eps: float = 1e-5):
        """Start as `BatchNorm` does."""
        super().__init__(features, eps=eps)
        try:
            self.noise = require_eps(noise)
        except ValueError as error:
            raise ValueError(
                f"noise must be finite and not negative, got {noise}"
            ) from error
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Normalize z, (M, D), and add the noise of this pass."""
        y = super().forward(z)
        if not self.training:
            return y
        at = {"generator": self._generator, "dtype": z.dtype}
        mean = self.noise * (2 * torch.rand(z.shape[1], **at) - 1)
        spread = self.noise * torch.rand(z.shape[1], **at)
        return y + mean + spread * torch.randn(z.shape, **at)


def noisy(noise: float, *, seed: int) -> Callable[[int], NoisyBatchNorm]:
    """The `normalization` of a `DenseNetwork` whose layers draw independent noise."""
    seeds = itertools.count(1000 * seed)
    return lambda features: NoisyBatchNorm(features, noise=noise, seed=next(seeds))


def layer_moments(layers: Sequence[torch.Tensor]) -> Moments:
    """Mean and standard deviation of each neuron over a batch, for each layer (M, D)."""
    return [(y.detach().mean(0), y.detach().std(0, correction=0)) for y in layers]


def shift(before: Moments, after: Moments) -> float:
    """How far the distributions that the layers see moved from one step to the next.

    √(mean over neurons of (Δmean)² + (Δstandard deviation)²), in units of the root mean
    square of the standard deviations before; the mean over layers.

    Raises:
        ValueError: the two have other layers, or a layer is constant.
    """
    if len(before) != len(after) or not before:
        raise ValueError(
            f"give the moments of the same layers, got {len(before)} and {len(after)}"
        )
    moved = []
    for (mean, std), (new_mean, new_std) in zip(before, after, strict=True):
        size = std.square().mean().sqrt()
        if not size > 0:
            raise ValueError(
                "a layer gives all examples the same values; it has no unit"
            )
        change = (new_mean - mean).square() + (new_std - std).square()
        moved.append((change.mean().sqrt() / size).item())
    return sum(moved) / len(moved)
