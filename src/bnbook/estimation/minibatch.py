"""Batch Renormalization, which trains as it infers.

It takes the running statistics forward and those of the minibatch backward. How well a
minibatch estimates is in `bnbook.estimation.minibatch_estimates`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bnbook.estimation.population_norm import spread
from bnbook.estimation.running_norm import RunningNorm
from bnbook.foundations.backward import BatchNormGrads, batch_norm_backward
from bnbook.foundations.forward import BatchNormCache, batch_norm
from bnbook.validation import require_float_array, require_shape


@dataclass(frozen=True)
class RenormCache:
    """What the backward pass needs.

    Attributes:
        norm: of plain batch normalization with γ = 1 and β = 0.
        gamma, r: broadcast shape (averaged axes have length 1).
        x_hat: ẑ r + d, the normalized input.
    """

    norm: BatchNormCache
    gamma: np.ndarray
    r: np.ndarray
    x_hat: np.ndarray


def batch_renorm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    *,
    eps: float = 1e-5,
    axes: int | tuple[int, ...] = 0,
    r_max: float = 3.0,
    d_max: float = 5.0,
) -> tuple[np.ndarray, RenormCache]:
    """Renormalize a training batch: y = γ (ẑ r + d) + β.

    ẑ is the batch-normalized input, r = σ/σ̄ lies between 1/r_max and r_max, and
    d = (μ − μ̄)/σ̄ between ±d_max. Both roots hold ε: σ = √(batch variance + ε).

    Args:
        x: (M, D) with axes=0, or (N, C, H, W) with axes=(0, 2, 3).
        gamma, beta, running_mean, running_var: the shape of x without `axes`.
        eps: ε ≥ 0.
        axes: those of the batch.
        r_max: at least 1; may be infinite.
        d_max: at least 0; may be infinite. With 1 and 0 this is batch normalization.

    Raises:
        TypeError: an argument is not a floating-point array.
        ValueError: as `batch_norm`; or a limit is out of its range, or running_var is
            negative.

    Source: Ioffe (2017), Algorithm 1.
    """
    require_limits(r_max, d_max)
    require_float_array("gamma", gamma)
    z_hat, cache = batch_norm(
        x, np.ones_like(gamma), np.zeros_like(gamma), eps=eps, axes=axes
    )
    shapes = {"beta": beta, "running_mean": running_mean, "running_var": running_var}
    for name, value in shapes.items():
        require_float_array(name, value)
        require_shape(name, value, gamma.shape, "the shape of gamma")
    if not (running_var.real + eps > 0).all():
        raise ValueError("running_var + eps must be positive; pass a variance")
    gamma, beta, mean, var = (
        np.expand_dims(v, cache.axes) for v in (gamma, beta, running_mean, running_var)
    )
    std = np.sqrt(var + eps)
    r = np.clip(cache.std / std, 1 / r_max, r_max)
    d = np.clip((cache.statistics.mean - mean) / std, -d_max, d_max)
    x_hat = z_hat * r + d
    return gamma * x_hat + beta, RenormCache(cache, gamma, r, x_hat)


def batch_renorm_backward(dy: np.ndarray, cache: RenormCache) -> BatchNormGrads:
    """dx = γ r/σ · (g − mean(g) − ẑ mean(g ẑ)), with g = ∂L/∂y: r and d are constants.

    That is r times the backward pass of batch normalization.

    Args:
        dy: g, the shape of y.
        cache: what `batch_renorm` returned beside y.

    Source: Ioffe (2017), §3, with the closed form of Yu (2021), Eqs. (12) to (14).
    """
    axes = cache.norm.axes
    dx = batch_norm_backward(cache.gamma * cache.r * dy, cache.norm).dx
    return BatchNormGrads(dx, (dy * cache.x_hat).sum(axis=axes), dy.sum(axis=axes))


class BatchRenorm(RunningNorm):
    """Batch Renormalization, y = γ ((x − μ)/σ · r + d) + β, in place of `nn.BatchNorm2d`.

    In training r = σ/σ̄ and d = (μ − μ̄)/σ̄ are constants of the gradient. Where neither
    reaches its limit, y is what evaluation gives: γ (x − μ̄)/σ̄ + β. The running
    statistics μ̄ and σ̄², the variance, are updated after that, by the rule of PyTorch,
    with the unbiased variance of the batch; so a state dict of `nn.BatchNorm2d` fits,
    and the other way round. The paper averages σ, not σ².

    Args:
        num_features: C, the channels of x.
        eps: ε > 0.
        momentum: weight of the new batch in the running statistics, or None for the
            average of all batches so far.
        affine: whether there are γ and β.
        track_running_stats: must be True; without them there is nothing to correct to.
        r_max: r lies between 1/r_max and r_max; at least 1, may be infinite.
        d_max: d lies between ±d_max; at least 0, may be infinite. r_max = 1 with
            d_max = 0 is batch normalization.
        microbatch: in training, normalize each so many successive examples apart; the
            running statistics then take the mean of their statistics, once. None for
            all examples together.

    Shapes:
        (M, C) or (M, C, …); statistics are those of a channel, over the positions.

    Raises:
        ValueError: an argument is out of its range.

    Source: Ioffe (2017), Algorithm 1.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device=None,
        dtype=None,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        microbatch: int | None = None,
    ):
        """Start from mean 0 and variance 1, as PyTorch does."""
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype
        )
        if microbatch is not None and microbatch < 1:
            raise ValueError(f"microbatch must be at least 1 or None, got {microbatch}")
        require_limits(r_max, d_max)
        self.r_max, self.d_max = r_max, d_max
        self.microbatch = microbatch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x."""
        self.check(x)
        if self.training:
            x_hat = self.renormalize(x)
        else:
            std = (self.running_var + self.eps).sqrt()
            x_hat = (x - spread(self.running_mean, x)) / spread(std, x)
        if self.weight is None:
            return self.like(x_hat, x)
        return self.like(x_hat * spread(self.weight, x) + spread(self.bias, x), x)

    def renormalize(self, x: torch.Tensor) -> torch.Tensor:
        """(x − μ)/σ · r + d, microbatch by microbatch; updates the running statistics."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        parts = wide.unflatten(0, (-1, self.microbatch or len(x)))  # (G, M, C, …)
        over = (1, *range(3, parts.ndim))
        var, mean = torch.var_mean(parts, dim=over, correction=0, keepdim=True)
        std = (var + self.eps).sqrt()
        r, d = self.corrections(mean, std)
        self.observe(mean, var, parts[0].numel() // self.num_features)
        return ((parts - mean) / std * r + d).flatten(0, 1)

    @torch.no_grad()
    def corrections(
        self, mean: torch.Tensor, std: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Clipped r and d for statistics (G, 1, C, …); no gradient goes through them."""
        shape = (-1, *[1] * (mean.ndim - 3))
        old_mean = self.running_mean.reshape(shape)
        old_std = (self.running_var + self.eps).sqrt().reshape(shape)
        r = (std / old_std).clamp(1 / self.r_max, self.r_max)
        d = ((mean - old_mean) / old_std).clamp(-self.d_max, self.d_max)
        return r, d

    @torch.no_grad()
    def observe(self, mean: torch.Tensor, var: torch.Tensor, count: int) -> None:
        """Move the running statistics towards those of `count` values a microbatch."""
        weight = self.count_batch()
        unbiased = var * (count / (count - 1))
        for running, seen in (
            (self.running_mean, mean),
            (self.running_var, unbiased),
        ):
            running.lerp_(seen.mean(0).flatten().to(running.dtype), weight)

    def check(self, x: torch.Tensor) -> None:
        """Refuse what has another number of channels, or no spread to normalize by.

        Raises:
            ValueError: x has another shape or no values; or, in training, the examples
                are no multiple of the microbatch, or a statistic rests on one value.
        """
        super().check(x)
        if not self.training:
            return
        size = self.microbatch or len(x)
        if len(x) % size:
            raise ValueError(
                f"{len(x)} examples are no multiple of the microbatch, {size}; drop the rest"
            )
        if size * x[0, 0].numel() < 2:
            raise ValueError(
                "one example without positions has no spread, so batch renormalization "
                "cannot train on it; use two examples or more, or PopulationNorm with "
                'interaction="example"'
            )

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if prefix + "rotation" in state_dict:
            raise ValueError(
                f"the checkpoint holds {prefix}rotation, so it is of another method: load it "
                "into PopulationNorm, or fold it first"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """The settings, as PyTorch prints a module."""
        return (
            f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}, "
            f"microbatch={self.microbatch}"
        )


class RenormLimits(NamedTuple):
    """r lies between 1/r_max and r_max, d between ±d_max."""

    r_max: float
    d_max: float


def renorm_limits(
    step: int,
    *,
    start: int = 5_000,
    r_end: int = 40_000,
    d_end: int = 25_000,
    r_max: float = 3.0,
    d_max: float = 5.0,
) -> RenormLimits:
    """The limits after `step` updates: first batch normalization, then ever wider.

    Up to `start` they are 1 and 0; then they grow linearly, to r_max at `r_end` and to
    d_max at `d_end`, and stay. The steps and limits of the defaults are the paper's, which says "gradually".

    Raises:
        ValueError: the steps are not in this order, or a limit is out of its range or
            infinite.

    Source: Ioffe (2017), §4.
    """
    require_limits(r_max, d_max)
    if not (math.isfinite(r_max) and math.isfinite(d_max)):
        raise ValueError(
            f"a limit that grows linearly must be finite, got {r_max} and {d_max}"
        )
    if step < 0 or not 0 <= start < min(r_end, d_end):
        raise ValueError(
            "steps must be 0 ≤ start < r_end, d_end, and step at least 0, got "
            f"step {step}, start {start}, r_end {r_end}, d_end {d_end}"
        )

    def grown(end: int) -> float:
        return min(max((step - start) / (end - start), 0.0), 1.0)

    return RenormLimits(1 + (r_max - 1) * grown(r_end), d_max * grown(d_end))


def set_renorm_limits(model: nn.Module, limits: RenormLimits) -> None:
    """Give every `BatchRenorm` of a model these limits; others are left as they are."""
    require_limits(*limits)
    for module in model.modules():
        if isinstance(module, BatchRenorm):
            module.r_max, module.d_max = limits


def require_limits(r_max: float, d_max: float) -> None:
    """Raise a ValueError unless r_max ≥ 1 and d_max ≥ 0."""
    if not r_max >= 1:
        raise ValueError(
            f"r_max must be at least 1, got {r_max}; r lies between 1/r_max and r_max"
        )
    if not d_max >= 0:
        raise ValueError(f"d_max must be at least 0, got {d_max}")
