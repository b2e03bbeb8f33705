"""Normalization by running statistics in training too, with estimated gradients.

The forward pass of training is that of inference. What a minibatch is needed for is the
gradient that reaches the parameters through the statistics, and each estimator of it
lets other examples speak: all of the batch, one alone, or none.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from bnbook.estimation.rotation import make_rotation, rotate
from bnbook.estimation.running_norm import RunningNorm
from bnbook.estimation.scale_grad import scale_grad
from bnbook.foundations.folding import TRANSPOSED, fold_batch_norm

INTERACTIONS = ("example", "batch")


class PopulationNorm(RunningNorm):
    """y = R (γ (x − μ̄)/√(ν̄ + ε)) + β, with running statistics μ̄ and ν̄ in either mode.

    In training the value is the same, and the gradient passes through μ and ν, the mean
    of x and the second moment of x − μ̄: those of the example itself (`interaction`
    "example", the source's μ†, ν†) or of the whole batch ("batch", μ‡, ν‡). It is scaled
    by r_m through the mean and by r_v min(ν̄/ν, f_max) through the second moment.

    After a forward pass in training mode the running statistics are updated, by the same
    rule as in `nn.BatchNorm2d`; inside `deferred(model)` that waits until the end, so
    that the microbatches of one step see the same statistics.

    Args:
        num_features: C, the channels of x.
        eps: ε > 0.
        momentum: weight of the new batch in the running statistics, or None for the
            average of all batches so far.
        affine: whether there are γ and β.
        track_running_stats: must be True; the layer is made of them.
        interaction: "example" or "batch".
        r_m: shrinkage of the gradient through the mean, 0 to 1.
        r_v: of that through the second moment; with r_m = r_v = 0 the statistics are
            frozen, constants of the gradient.
        f_max: cap ≥ 1 of the factor ν̄/ν, or None for no factor at all.
        u_max: bound ≥ 1 on the root of the second moment of an example after
            normalization, which scales the example down in training; None for no bound.
        rotation: None, "hadamard", "random", or an orthogonal matrix (C, C).
        seed: of a random rotation.
        microbatch: with interaction "batch", μ‡ and ν‡ of each so many successive
            examples; None for all together. The running statistics move once either way.

    Shapes:
        (M, C) or (M, C, …); statistics are those of a channel, over the positions.

    Raises:
        ValueError: an argument is out of its range.

    Source: Anonymous (2022), §3.1, and §2.2 for the rotation.
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
        interaction: str = "example",
        r_m: float = 1.0,
        r_v: float = 1.0,
        f_max: float | None = 2.0,
        u_max: float | None = 5.0,
        rotation: str | torch.Tensor | None = None,
        seed: int = 0,
        microbatch: int | None = None,
    ):
        """Start with μ̄ = 0, ν̄ = 1, γ = 1 and β = 0."""
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype
        )
        if interaction not in INTERACTIONS:
            raise ValueError(
                f"interaction must be one of {INTERACTIONS}, got {interaction!r}"
            )
        for name, r in (("r_m", r_m), ("r_v", r_v)):
            if not 0 <= r <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {r}")
        for name, bound in (("f_max", f_max), ("u_max", u_max)):
            if bound is not None and not bound >= 1:
                raise ValueError(f"{name} must be at least 1 or None, got {bound}")
        if microbatch is not None and microbatch < 1:
            raise ValueError(f"microbatch must be at least 1 or None, got {microbatch}")
        self.interaction, self.microbatch = interaction, microbatch
        self.r_m, self.r_v, self.f_max, self.u_max = r_m, r_v, f_max, u_max
        self.deferring = False
        self._waiting: tuple[int, torch.Tensor, torch.Tensor] | None = None
        matrix = make_rotation(rotation, num_features, seed=seed)
        kept = None if matrix is None else matrix.to(self.running_mean)
        self.register_buffer("rotation", kept)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x."""
        self.check(x)
        p = self.center(x, self.running_mean)
        if not self.training:
            return self.like(self.output(p, self.running_var), x)
        mean_b, of_p = self.moments(x, p)
        own = self.interaction == "example"
        mean = self.through_mean(mean_b if own else self.pooled(mean_b))
        square_b, shift = self.second_moment(of_p, mean)
        square = self.through_square(square_b if own else self.pooled(square_b))
        y = self.output(p, square, shift, bound=self.bound(square_b))
        self.observe(mean_b, square_b)  # last: all above is by the old statistics
        return self.like(y, x)

    def moments(
        self, x: torch.Tensor, p: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """μ_b of x, and (E p, E p²) of p = x − μ̄ over the positions, (M, C) each."""
        of_p = position_moments(p)
        # With one value an example, x itself: what it receives then cancels to 0 exactly.
        return (x if x.ndim == 2 else self.running_mean + of_p[0]), of_p

    def pooled(self, of_b: torch.Tensor) -> torch.Tensor:
        """Mean over the examples, (C,), or over each one's microbatch, (M, C).

        Raises:
            ValueError: the examples are no multiple of the microbatch.
        """
        size = self.microbatch or len(of_b)
        if len(of_b) % size:
            raise ValueError(
                f"{len(of_b)} examples are no multiple of the microbatch, {size}; drop the "
                "rest"
            )
        if size == len(of_b):
            return of_b.mean(0)
        return of_b.unflatten(0, (-1, size)).mean(1).repeat_interleave(size, 0)

    def second_moment(
        self, of_p: tuple[torch.Tensor, torch.Tensor], mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """ν_b of x − mean, (M, C), and by how much that lies below p = x − μ̄.

        The values of `mean` are those of μ̄, so the shift is 0 and ν_b is that of p; only
        gradients tell them apart. Hence the large p is formed once, and
        E(p − shift)² = E p² − 2 shift E p + shift² takes the shift through small arrays.
        """
        shift = self.moved(mean)
        mean_p, square_p = of_p
        return square_p - 2 * shift * mean_p.detach() + shift**2, shift

    def moved(self, mean: torch.Tensor) -> torch.Tensor:
        """What `center` subtracts for `mean` beyond what it does for μ̄: a 0 with gradient."""
        return mean - self.running_mean

    def through_mean(self, mean: torch.Tensor) -> torch.Tensor:
        """ScaleGrad(μ̄, mean, r_m), the source's μ† or μ‡."""
        return scale_grad(self.running_mean, mean, self.r_m)

    def through_square(self, square: torch.Tensor) -> torch.Tensor:
        """ScaleGrad(ν̄, square, r_v min(ν̄/square, f_max)), the source's ν† or ν‡."""
        return scale_grad(self.running_var, square, self.r_v * self.factor(square))

    def factor(self, square: torch.Tensor) -> torch.Tensor:
        """min(ν̄/square, f_max), or 1 where f_max is None; no gradient goes through it."""
        if self.f_max is None:
            return torch.ones_like(square)
        ratio = self.running_var / square.detach()
        # 0/0: an example and a history without any variation, which nothing scales.
        return torch.where(ratio.isnan(), 1.0, ratio).clamp(max=self.f_max)

    def bound(self, square_b: torch.Tensor) -> torch.Tensor | None:
        """min(1, u_max √(ν̄/ν_b)) for each example and channel, (M, C)."""
        if self.u_max is None:
            return None
        ratio = (self.running_var + self.eps) / (square_b.detach() + self.eps)
        return (self.u_max * ratio.sqrt()).clamp(max=1.0)

    @staticmethod
    def center(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """X − mean, with mean (C,) or (M, C)."""
        return x - spread(mean, x)

    def output(
        self,
        p: torch.Tensor,
        square: torch.Tensor,
        shift: torch.Tensor | None = None,
        *,
        bound: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """R (γ (p − shift)/√(square + ε)) + β, each example times its bound before."""
        scale = (square + self.eps).rsqrt()
        if bound is not None:
            scale = scale * bound
        if self.weight is not None:
            scale = scale * self.weight
        offset = torch.zeros_like(scale) if shift is None else -scale * shift
        if self.rotation is not None:
            plain = p * spread(scale, p) + spread(offset, p)
            turned = rotate(plain, self.rotation.to(plain.dtype))
            return turned if self.bias is None else turned + spread(self.bias, p)
        if self.bias is not None:
            offset = offset + self.bias
        return torch.addcmul(spread(offset, p), spread(scale, p), p)

    @torch.no_grad()
    def observe(self, mean_b: torch.Tensor, square_b: torch.Tensor) -> None:
        """Take the statistics of the examples, (M, C) each, into the running ones."""
        seen = len(mean_b), mean_b.sum(0), square_b.sum(0)
        if self._waiting is not None:
            seen = tuple(a + b for a, b in zip(self._waiting, seen, strict=True))
        self._waiting = seen
        if not self.deferring:
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Move the running statistics towards what was observed since the last update."""
        if self._waiting is None:
            return
        count, mean, square = self._waiting
        self._waiting = None
        weight = self.count_batch()
        kept = self.running_mean.dtype
        self.running_mean.lerp_((mean / count).to(kept), weight)
        self.running_var.lerp_((square / count).to(kept), weight)

    def fold(self, layer: nn.Module) -> nn.Module:
        """The layer before, with this normalization and rotation merged into it.

        Args:
            layer: `nn.Linear`, `nn.Conv1d` to `3d`, or, without a rotation, a transposed
                convolution.

        Returns:
            One layer that computes what both do in evaluation mode.

        Raises:
            TypeError, ValueError: as `fold_batch_norm`; or there is a rotation, and the
                layer has groups, or is transposed.

        Source: Anonymous (2022), Alg. 1, ConvLayer_Inference.
        """
        if self.rotation is not None and (
            isinstance(layer, TRANSPOSED) or getattr(layer, "groups", 1) != 1
        ):
            raise ValueError(
                "a rotation mixes all channels, so it folds into a linear layer or a "
                "convolution without groups only; convert the model without a rotation"
            )
        norm = self.as_batch_norm(layer)
        with torch.no_grad():
            norm.bias.zero_()  # β comes after the rotation
            folded = fold_batch_norm(layer, norm)
            if self.rotation is not None:
                turn = self.rotation.double()
                for part in (folded.weight, folded.bias):
                    flat = part.double().flatten(1) if part.ndim > 1 else part.double()
                    part.copy_((turn @ flat).reshape(part.shape))
            if self.bias is not None:
                folded.bias.add_(self.bias)
        return folded

    def extra_repr(self) -> str:
        """The settings, as PyTorch prints a module."""
        turned = "" if self.rotation is None else ", rotation"
        return (
            f"{super().extra_repr()}, "
            f"interaction={self.interaction}, r_m={self.r_m}, r_v={self.r_v}, "
            f"f_max={self.f_max}, u_max={self.u_max}, microbatch={self.microbatch}{turned}"
        )


def positions_mean(x: torch.Tensor) -> torch.Tensor:
    """Mean over the positions of each example and channel: (M, C, …) to (M, C)."""
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def position_moments(p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E p and E p² over the positions of each example and channel: (M, C) each.

    In float32 where p has half precision, which cannot hold a sum of squares.
    """
    if p.ndim == 2:
        wide = p.to(_wide(p.dtype))
        return wide, wide**2
    return _PositionMoments.apply(p)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _PositionMoments(torch.autograd.Function):
    """Both in one: autograd's own backward passes would fill eight arrays like p."""

    generate_vmap_rule = True

    @staticmethod
    def forward(p):
        """E p and E p², the latter as a norm, which needs no array of the size of p."""
        flat, wide = p.flatten(2), _wide(p.dtype)
        norm = torch.linalg.vector_norm(flat, dim=2, dtype=wide)
        return flat.mean(2, dtype=wide), norm**2 / flat.shape[2]

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep p."""
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(
            False
        )  # no pass over p for a gradient that is not there

    @staticmethod
    def backward(ctx, from_mean, from_square):
        """(g_mean + 2 g_square p)/d."""
        (p,) = ctx.saved_tensors
        d = p[0, 0].numel()
        if from_square is None:
            if from_mean is None:
                return None
            return spread((from_mean / d).to(p.dtype), p).expand_as(p)
        slope = spread((2 / d * from_square).to(p.dtype), p)
        if from_mean is None:
            return slope * p
        return torch.addcmul(spread((from_mean / d).to(p.dtype), p), slope, p)


def spread(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (C,) or (M, C), shaped to broadcast against x, (M, C, …)."""
    values = values if values.ndim == 2 else values[None]
    return values.reshape(*values.shape, *[1] * (x.ndim - 2))


def population_norms(model: nn.Module) -> list[PopulationNorm]:
    """All layers of this kind in a model, in the order of `model.modules()`."""
    return [m for m in model.modules() if isinstance(m, PopulationNorm)]


@contextlib.contextmanager
def deferred(model: nn.Module) -> Iterator[None]:
    """Let all microbatches in the block see the same running statistics, which are
    updated once, with the statistics of all of them, at its end; not if it raises. Inside
    another such block, the outer one says when."""
    norms = [norm for norm in population_norms(model) if not norm.deferring]
    for norm in norms:
        norm.deferring = True
    try:
        yield
        for norm in norms:
            norm.update()
    finally:
        for norm in norms:
            norm.deferring = False
            norm._waiting = None
