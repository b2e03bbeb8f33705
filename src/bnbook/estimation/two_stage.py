"""Two-stage backpropagation: the gradient of two towers, one example at a time.

A first tower normalizes each example by itself and yields the moments μ‡ and ν‡ of the
batch; a second is normalized with them and carries the loss. Autograd through both,
`two_tower_loss`, and the same gradient streamed, `two_stage_backward`.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bnbook.estimation.gate import Gate
from bnbook.estimation.population_norm import (
    PopulationNorm,
    deferred,
)
from bnbook.estimation.running_norm import RunningNorm
from bnbook.estimation.scale_grad import scale_grad

TOWERS = ("first", "second", "both", "joint")
SEEN_BY = ("first", "second", "both")
NU_ABOUT = ("mean", "running")


@dataclass(frozen=True)
class Moments:
    """Means and second moments: of each example, (M, C), or shared by them, (C,)."""

    mean: torch.Tensor
    square: torch.Tensor


class TwoStageNorm(PopulationNorm):
    """Population normalization whose gradient is found in two towers.

    In training the layer must know its tower, which `tower(model, …)` sets, or one of the
    two functions below. The values are the same in each; the gradient passes through

    - "first": μ† and ν†, the statistics of the example itself;
    - "second": μ‡ and ν‡, which the first tower has computed;
    - "both": first nothing, as in the second tower, and then μ† and ν†, as in the first;
      so one pass serves both, if they see the same examples;
    - "joint": μ‡ and ν‡ of this very layer: one tower whose examples interact at every
      layer, as in batch renormalization. For comparison.

    Args:
        num_features, eps, momentum, affine, track_running_stats, device, dtype, r_m, r_v,
            f_max, u_max, rotation, seed: as for `PopulationNorm`.
        microbatch: in the tower "joint", as for `PopulationNorm`.
        seen_by: whose examples move the running statistics, if the towers see different
            ones: "both", or only those of the "first" (as Alg. 1 prints) or "second".
        nu_about: what ν_b of the first tower is a second moment about: "mean", μ† as in
            Alg. 1, or "running", μ̄ as a constant. The values are the same. With the
            latter, ν keeps what lies between the examples, if the mean is taken after the
            linear operation.

    Source: Anonymous (2022), §3.2, §3.4 and Alg. 1; its mean is taken before the linear
    operation, see `TwoStageConv2d`.
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
        r_m: float = 1.0,
        r_v: float = 1.0,
        f_max: float | None = 2.0,
        u_max: float | None = 5.0,
        rotation: str | torch.Tensor | None = None,
        seed: int = 0,
        microbatch: int | None = None,
        seen_by: str = "both",
        nu_about: str = "mean",
    ):
        """Start with μ̄ = 0, ν̄ = 1, γ = 1 and β = 0, in no tower."""
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            r_m=r_m,
            r_v=r_v,
            f_max=f_max,
            u_max=u_max,
            rotation=rotation,
            seed=seed,
            microbatch=microbatch,
        )
        if nu_about not in NU_ABOUT:
            raise ValueError(f"nu_about must be one of {NU_ABOUT}, got {nu_about!r}")
        self.nu_about = nu_about
        if seen_by not in SEEN_BY:
            raise ValueError(f"seen_by must be one of {SEEN_BY}, got {seen_by!r}")
        self.seen_by = seen_by
        self.tower: str | None = None
        self.forget()

    def forget(self) -> None:
        """Drop what the towers have left behind."""
        self.own: Moments | None = None  # first tower: μ_b and ν_b, with their graph
        self.shared: Moments | None = None  # second tower: μ‡ and ν‡
        self.gates: list[Gate] = []  # both towers: of μ† and ν†
        self.square_sum: torch.Tensor | float = 0.0  # Σ_b ν_b since then
        self.calls: int | None = None  # in this pass, where one use is all there may be

    def __getstate__(self) -> dict:
        """Without what the towers have left: a copy or a file has no use for graphs."""
        kept = {"own": None, "shared": None, "gates": [], "square_sum": 0.0}
        return self.__dict__ | kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x, in the tower that the layer is in.

        Raises:
            ValueError: in training the layer is in no tower, or in the second before the
                first has run.
        """
        if not self.training:
            return super().forward(x)
        self.check(x)
        if self.tower is None:
            raise ValueError(
                "a two-stage layer in training must know its tower; train with "
                "two_tower_loss or two_stage_backward, or run the model inside "
                'tower(model, "first")'
            )
        if self.calls is not None:
            self.calls += 1
            if self.calls > 1:
                raise ValueError(
                    "a two-stage layer ran twice in one pass. Where the model uses it "
                    "twice, each use has statistics of its own: give every place a layer "
                    "of its own. Activation checkpointing runs layers again: switch it off"
                )
        p = self.center(x, self.running_mean)
        # In the second tower they are seen only, not differentiated.
        mean_b, of_p = self.moments(x, p if self.tower != "second" else p.detach())
        if self.tower == "second":
            if self.shared is None:
                raise ValueError(
                    "the second tower has no moments: the first did not reach this layer"
                )
            mean, square = self.shared.mean, self.shared.square
            square_b, shift = of_p[1], self.moved(mean)
        elif self.tower == "joint":
            mean = self.through_mean(self.pooled(mean_b))
            square_b, shift = self.second_moment(of_p, mean)
            square = self.through_square(self.pooled(square_b))
        else:
            mean = self.dagger(self.running_mean, mean_b, self.r_m)
            square_b, shift = self.second_moment(of_p, mean)
            if self.nu_about == "running":
                square_b = of_p[1]
            factor = self.r_v * self.factor(square_b)
            square = self.dagger(self.running_var, square_b, factor)
            self.own = Moments(mean_b, square_b)
        y = self.output(p, square, shift, bound=self.bound(square_b))
        self.square_sum = self.square_sum + square_b.detach().sum(0)
        if self.tower in ("joint", "both") or self.seen_by in (self.tower, "both"):
            self.observe(mean_b, square_b)
        return self.like(y, x)

    def dagger(self, value, q_b, r) -> torch.Tensor:
        """μ† or ν†: ScaleGrad(value, q_b, r); for both towers, with a gate."""
        if self.tower == "first":
            return scale_grad(value, q_b, r)
        self.gates.append(Gate(value))
        return self.gates[-1](q_b, r)

    def aggregate(self) -> Moments:
        """μ‡ and ν‡ from what the first tower has kept of each example."""
        mean, square = self.own.mean.mean(0), self.own.square.mean(0)
        return Moments(self.through_mean(mean), self.through_square(square))

    def open_gates(self) -> None:
        """Take what the gates have caught for g_μ and g_ν; let the next pass through."""
        ends = self.shared.mean, self.shared.square
        for gate, end in zip(self.gates, ends, strict=bool(self.gates)):
            nothing = torch.zeros_like(end)  # Q has no gradient: the first layer's mean
            gate.open = True
            end.grad = nothing if gate.caught is None else gate.caught

    def leaves(self) -> Moments:
        """μ̄ and ν̄ as variables of their own, where backpropagation ends."""
        return Moments(
            self.running_mean.clone().requires_grad_(),
            self.running_var.clone().requires_grad_(),
        )


@contextlib.contextmanager
def tower(model: nn.Module, name: str) -> Iterator[None]:
    """Put all two-stage layers of a model into a tower, for the block.

    Raises:
        ValueError: there is no such tower.
    """
    if name not in TOWERS:
        raise ValueError(f"tower must be one of {TOWERS}, got {name!r}")
    norms = two_stage_norms(model)
    before = [norm.tower for norm in norms]
    for norm in norms:
        norm.tower = name
    try:
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.tower = old


def two_tower_loss(
    model: nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    x_first: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of the second tower, with the graph of both; all examples at once.

    Afterwards the running statistics have moved by one step.

    Args:
        model: in training mode, with layers of this module, each used once.
        x: examples of the second tower, (M, …).
        t: their targets, (M, …).
        loss: function of output and targets, a mean over the examples: without class
            weights, and not their sum.
        x_first: examples of the first tower, which need no targets; None for x.

    Returns:
        The mean loss; `.backward()` gives the two-stage gradient.

    Raises:
        ValueError: the model has no such layers, is in evaluation mode, uses a layer
            twice, or has layers that normalize over the batch.

    Source: Anonymous (2022), §3.4.
    """
    norms = _require(model, x, t, x_first)
    with _step(model, norms):
        with tower(model, "first"):
            _run(model, norms, x if x_first is None else x_first)
        for norm in norms:
            norm.shared = None if norm.own is None else norm.aggregate()
        with tower(model, "second"):
            return loss(_run(model, norms, x), t)


def two_stage_backward(
    model: nn.Module,
    x: torch.Tensor,
    t: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    x_first: torch.Tensor | None = None,
    chunk: int = 1,
    reduce: Callable[[list[torch.Tensor]], None] | None = None,
) -> torch.Tensor:
    """Add the gradient of `two_tower_loss` to the `.grad` of the parameters, streamed.

    (a) The second tower, one example at a time, with μ‡ and ν‡ as variables of their own:
    their gradients g_μ, g_ν add up. (b) The first tower, one example at a time, from the
    moments of the example back, fed with g_μ and g_ν. No graph holds more than one
    example. The factor of ν‡ needs E_b ν_b before (b): it is gathered in (a)
    where the towers see the same examples, and otherwise in a pass without a graph. With
    all examples in memory at once, and the same in both towers, one forward pass serves
    (a) and (b).

    Args:
        model, x, t, loss, x_first: as for `two_tower_loss`.
        chunk: examples in memory at a time; len(x) for all at once.
        reduce: replaces each tensor of a list by its sum over the workers that share the
            batch; None for one process. It is called before (a), with the numbers of
            examples, and between (a) and (b), with all g_μ, g_ν and Σ_b ν_b. What is added
            to `.grad`, and the loss, are then the shares of this worker, to be summed; the
            running statistics have seen its examples only.

    Returns:
        The mean loss, without a graph.

    Raises:
        ValueError: as `two_tower_loss`, or chunk is below 1. If a step fails, the
            statistics stay as they were; `.grad` may hold a part of the sum.

    Source: Anonymous (2022), §3.2, (a) to (c).
    """
    norms = _require(model, x, t, x_first)
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk must be a whole number of at least 1, got {chunk!r}")
    first = x if x_first is None else x_first
    examples, of_first = _counts(x, first, reduce)
    at_once = x_first is None and chunk >= len(x)
    with _step(model, norms):
        for norm in norms:
            norm.shared = norm.leaves()
        total = torch.zeros((), device=x.device)
        with tower(model, "both" if at_once else "second"):  # (a)
            for some, targets in zip(x.split(chunk), t.split(chunk), strict=True):
                part = loss(_run(model, norms, some), targets) * (len(some) / examples)
                part.backward(retain_graph=at_once)
                total = total + part.detach()
        for norm in norms:
            norm.open_gates()
        if x_first is not None and any(n.f_max is not None and n.r_v for n in norms):
            _gather_squares(model, norms, first, chunk)
        if reduce is not None:
            reduce([value for norm in norms for value in _collected(norm)])
        feeds = [_feed(norm, of_first) for norm in norms]
        if at_once:  # (b), by the graph of (a)
            _backward_from_moments(norms, feeds)
            return total
        with tower(model, "first"):  # (b)
            for some in first.split(chunk):
                _run(model, norms, some)
                _backward_from_moments(norms, feeds)
    return total


def _counts(x, first, reduce) -> list[float]:
    """The numbers of examples of the towers, on all workers together."""
    if reduce is None:
        return [len(x), len(first)]
    counts = torch.tensor([len(x), len(first)], dtype=torch.float32, device=x.device)
    reduce([counts])
    return counts.tolist()


def _collected(norm: TwoStageNorm) -> tuple[torch.Tensor, ...]:
    """g_μ, g_ν and Σ_b ν_b of the examples so far, 0 where the loss does not see them."""
    for leaf in (norm.shared.mean, norm.shared.square):
        if leaf.grad is None:
            leaf.grad = torch.zeros_like(leaf)
    total = torch.as_tensor(norm.square_sum).to(norm.running_var)
    norm.square_sum = total.expand_as(norm.running_var).clone()
    return norm.shared.mean.grad, norm.shared.square.grad, norm.square_sum


def _feed(norm: TwoStageNorm, count: float) -> Moments:
    """What ∂L/∂μ_b and ∂L/∂ν_b are for each of `count` examples of the first tower."""
    mean, square = norm.shared.mean.grad, norm.shared.square.grad
    if mean is None or square is None:  # the loss does not see this layer
        zero = torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var)
        return Moments(*zero)
    factor = norm.factor(torch.as_tensor(norm.square_sum / count))
    return Moments(norm.r_m * mean / count, norm.r_v * factor * square / count)


def _backward_from_moments(norms: list[TwoStageNorm], feeds: list[Moments]) -> None:
    """Backpropagate from the moments of the examples that the first tower has just seen."""
    ends, gradients = [], []
    for norm, feed in zip(norms, feeds, strict=True):
        for name in ("mean", "square"):
            end = getattr(norm.own, name, None)
            if end is not None and end.requires_grad:
                ends.append(end)
                gradients.append(getattr(feed, name).expand_as(end))
        norm.own = None
    if ends:
        torch.autograd.backward(ends, gradients)


def _gather_squares(model, norms, x, chunk) -> None:
    """Sum ν_b over x in each layer, by a forward pass without a graph."""
    seen_by = [norm.seen_by for norm in norms]
    for norm in norms:
        norm.square_sum, norm.seen_by = 0.0, "second"  # stage (b) will see x again
    try:
        with tower(model, "first"), torch.no_grad():
            for some in x.split(chunk):
                _run(model, norms, some)
    finally:
        for norm, old in zip(norms, seen_by, strict=True):
            norm.seen_by = old


def _run(model: nn.Module, norms: list[TwoStageNorm], x: torch.Tensor) -> torch.Tensor:
    """One forward pass, in which each layer may work once."""
    for norm in norms:
        norm.calls = 0
    return model(x)


@contextlib.contextmanager
def _step(model: nn.Module, norms: list[TwoStageNorm]) -> Iterator[None]:
    """One step of the running statistics; nothing of it stays in the layers."""
    before = [norm._waiting for norm in norms]  # inside an outer deferred(model)
    for norm in norms:
        norm.forget()
    try:
        with deferred(model):
            yield
    except BaseException:
        for norm, old in zip(norms, before, strict=True):
            norm._waiting = old
        raise
    finally:
        for norm in norms:
            norm.forget()


def two_stage_norms(model: nn.Module) -> list[TwoStageNorm]:
    """All layers of this kind in a model, in the order of `model.modules()`."""
    return [m for m in model.modules() if isinstance(m, TwoStageNorm)]


def _require(model, x, t, x_first) -> list[TwoStageNorm]:
    norms = two_stage_norms(model)
    if not norms:
        raise ValueError(
            "the model has no TwoStageNorm or TwoStageConv2d; without one its gradient "
            "needs one stage only"
        )
    still = [n for n, m in model.named_modules() if m in norms and not m.training]
    if still:
        raise ValueError(
            f"{', '.join(n or 'the layer' for n in still)}: in evaluation mode, where "
            "statistics are constants; call model.train() first"
        )
    for m in model.modules():
        batch_norm = isinstance(m, nn.modules.batchnorm._BatchNorm)
        own = isinstance(m, PopulationNorm) and m.interaction == "example"
        joint = isinstance(m, RunningNorm) and not own
        if (batch_norm or joint) and m.training:
            raise ValueError(
                f"{type(m).__name__} normalizes over the batch, so its examples cannot be "
                "taken one at a time; replace every one by TwoStageNorm"
            )
    if len(x) == 0 or len(x) != len(t) or (x_first is not None and len(x_first) == 0):
        raise ValueError(
            f"x and t must hold the same number of examples, at least 1, got {len(x)} "
            f"and {len(t)}; x_first at least 1"
        )
    return norms
