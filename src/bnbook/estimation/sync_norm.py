"""Batch normalization over the batches of all workers, forward and backward.

PyTorch's `nn.SyncBatchNorm` runs on GPUs only. This one needs nothing but the
collectives of `torch.distributed`, so two processes of a laptop can show what it does.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from bnbook.estimation.population_norm import spread
from bnbook.estimation.running_norm import RunningNorm
from bnbook.estimation.workers import world


@dataclass(frozen=True)
class Shard:
    """Statistics of one worker's part: number of values, mean and biased variance, (C,)."""

    count: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor


def combined(
    counts: torch.Tensor, means: torch.Tensor, variances: torch.Tensor
) -> Shard:
    """Statistics of the union, from those of W parts.

    The variance is the mean of the variances plus the variance of the means, both
    weighted by the counts; no difference of large squares occurs.

    Args:
        counts: numbers of values, (W, 1).
        means: (W, C).
        variances: biased, (W, C).
    """
    total = counts.sum()
    share = counts / total
    mean = (share * means).sum(0)
    return Shard(total, mean, (share * (variances + (means - mean) ** 2)).sum(0))


def over_workers(own: Shard) -> Shard:
    """The statistics of all workers' examples: one round, 2C + 1 numbers from each."""
    if world() == 1:
        return own
    packed = torch.cat([own.count.reshape(1), own.mean, own.var])
    parts = [torch.empty_like(packed) for _ in range(world())]
    dist.all_gather(parts, packed)
    counts, means, variances = torch.stack(parts).split(
        [1, len(own.mean), len(own.var)], 1
    )
    return combined(counts, means, variances)


class _SyncNormalize(torch.autograd.Function):
    """x̂ = (x − μ)/√(σ² + ε) with the statistics of all workers."""

    @staticmethod
    def forward(ctx, x, eps):
        """x̂ in the dtype of x, and μ, σ² and the count in float32 at least."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        over = (0, *range(2, x.ndim))
        var, mean = torch.var_mean(wide, dim=over, correction=0)
        all_ = over_workers(Shard(mean.new_tensor(x.numel() / x.shape[1]), mean, var))
        scale = (all_.var + eps).rsqrt()
        x_hat = (wide - spread(all_.mean, x)) * spread(scale, x)
        ctx.save_for_backward(x_hat, scale, all_.count)
        ctx.mark_non_differentiable(all_.mean, all_.var, all_.count)
        ctx.dtype = x.dtype
        return x_hat.to(x.dtype), all_.mean, all_.var, all_.count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g, *_):
        """(g − mean g − x̂ mean(g x̂))/√(σ² + ε), the means over all workers."""
        x_hat, scale, count = ctx.saved_tensors
        over = (0, *range(2, g.ndim))
        g = g.to(x_hat.dtype)
        sums = torch.stack([g.sum(over), (g * x_hat).sum(over)])
        if world() > 1:
            dist.all_reduce(sums)
        of_g, of_product = sums / count
        dx = g - spread(of_g, g) - x_hat * spread(of_product, g)
        return (dx * spread(scale, g)).to(ctx.dtype), None


class SyncNorm(RunningNorm):
    """`nn.BatchNorm2d` for a batch that is spread over workers, evenly or not.

    In training each worker computes what `nn.BatchNorm2d` would for the concatenation of
    all their batches, running statistics included; without a process group that is
    `nn.BatchNorm2d`. Forward it takes one round of messages with 2C + 1 numbers, backward
    one with 2C. The backward pass is that of the *sum* of the workers' losses, and the
    gradients of γ and β are the worker's share: both as in `nn.SyncBatchNorm`, so that
    `DistributedDataParallel` makes means of them.

    Args:
        num_features, eps, momentum, affine, track_running_stats, device, dtype: as for
            `RunningNorm`.

    Shapes:
        (M, C) or (M, C, …) on each worker, M of its own; the dtype is kept.

    Raises:
        ValueError: an argument is out of its range.
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
    ):
        """Start from mean 0 and variance 1, as PyTorch does."""
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x.

        Raises:
            ValueError: the shape does not fit; or, in training, all workers together have
                one value a channel.
        """
        self.check(x)
        if self.training:
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            x_hat, mean, var, count = _SyncNormalize.apply(wide, self.eps)
            if count < 2:
                raise ValueError(
                    "one value a channel on all workers together has no spread, so batch "
                    "normalization cannot train on it; use two examples or more"
                )
            self.observe(mean, var * (count / (count - 1)))
        else:
            scale = (self.running_var + self.eps).rsqrt()
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            x_hat = (wide - spread(self.running_mean, x)) * spread(scale, x)
        if self.weight is not None:
            x_hat = x_hat * spread(self.weight, x) + spread(self.bias, x)
        return x_hat.to(x.dtype)

    @torch.no_grad()
    def observe(self, mean: torch.Tensor, unbiased: torch.Tensor) -> None:
        """Move the running statistics towards those of the batch of all workers."""
        weight = self.count_batch()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)
