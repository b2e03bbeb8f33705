"""Training as in the source's accuracy table, at the scale of a laptop.

Networks with different seeds train side by side as members of one; none sees another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bnbook.data.images import images
from bnbook.estimation.convnet import ConvNet, DenseNet, initialize
from bnbook.estimation.methods import (
    Method,
    factories,
    members_loss,
    method_loss,
    observe_only,
)
from bnbook.estimation.minibatch import (
    RenormLimits,
    renorm_limits,
    set_renorm_limits,
)

NETWORKS = ("plain 6", "plain 10", "residual 10", "dense 4")
BATCH = 32  # examples a step
FIRST_STATISTICS = 40  # steps that only move the running statistics, before all others
EARLY = 20  # updates of the weights that are each followed by AFTER_EACH such steps
AFTER_EACH = 4
LAST_LAYER = 0.1  # its learning rate, relative to that of the others
DECAY = 10.0  # of the learning rate over the run; of that of biases, its root
LOST = 1e4  # a member whose gradient is larger, or not finite, is stopped
MOST = 1500  # examples of the validation and of the test part


class Part(NamedTuple):
    """Examples of S members: pictures x, (N, S, side, side), and classes t, (N, S)."""

    x: torch.Tensor
    t: torch.Tensor


@dataclass(frozen=True)
class Examples:
    """What the members learn from, choose by and report on; each has its own split."""

    train: Part
    validation: Part
    test: Part
    classes: int


def load_examples(data: str, seeds: Sequence[int], examples: int) -> Examples:
    """Split the data anew for each seed; what training leaves over joins the test.

    The pixels of the training part have mean 0 and variance 1 together. Validation and
    test keep at most `MOST` examples each.

    Args:
        data: name in `bnbook.data.images.NAMES`.
        seeds: one for each member.
        examples: size of the training part.

    Raises:
        ValueError: the training part would be smaller than a step, or larger than it is.
    """
    dealt = []
    for seed in seeds:
        dataset = images(data, seed=seed)
        (x, t), (test_x, test_t) = dataset.train, dataset.test
        if not BATCH <= examples <= len(x):
            raise ValueError(f"examples must be {BATCH} to {len(x)}, got {examples}")
        shift, scale = x[:examples].mean(), x[:examples].std()
        side = math.isqrt(len(dataset.features))
        dealt.append(
            [
                ((pixels.reshape(-1, side, side) - shift) / scale, classes)
                for pixels, classes in (
                    (x[:examples], t[:examples]),
                    (v[:MOST] for v in dataset.validation),
                    (
                        np.concatenate([test_x, x[examples:]])[:MOST],
                        np.concatenate([test_t, t[examples:]])[:MOST],
                    ),
                )
            ]
        )
    parts = [
        Part(
            *(
                torch.from_numpy(np.stack(of_all, 1))
                for of_all in zip(*part, strict=True)
            )
        )
        for part in zip(*dealt, strict=True)
    ]
    return Examples(*parts, dataset.classes)


def build(
    network: str, method: Method, seeds: Sequence[int], side: int, classes: int = 10
) -> ConvNet | DenseNet:
    """A network of S members with the layers of a method.

    Raises:
        ValueError: there is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {NETWORKS}, got {network!r}")
    members = len(seeds)
    made = factories(method, members)
    kind, depth = network.split()
    if kind == "dense":
        model = DenseNet(
            side**2, classes, depth=int(depth), width=64, members=members, **made
        )
    else:
        model = ConvNet(
            classes,
            depth=int(depth),
            width=16,
            residual=kind == "residual",
            members=members,
            first_stride=2 if side > 16 else 1,
            **made,
        )
    initialize(model, seeds)
    return model


class Stream:
    """Batches for each member: shuffled passes over its examples, one after the other."""

    def __init__(self, seeds: Sequence[int], count: int, purpose: int):
        """Start the generators; `purpose` tells the streams of one seed apart."""
        self.rngs = [np.random.default_rng([seed, purpose]) for seed in seeds]
        self.count = count
        self.waiting = [np.empty(0, dtype=np.int64) for _ in seeds]

    def take(self, size: int) -> torch.Tensor:
        """Indices of the next examples, (size, S)."""
        picks = []
        for member, rng in enumerate(self.rngs):
            while len(self.waiting[member]) < size:
                more = rng.permutation(self.count)
                self.waiting[member] = np.concatenate([self.waiting[member], more])
            pick, self.waiting[member] = np.split(self.waiting[member], [size])
            picks.append(pick)
        return torch.from_numpy(np.stack(picks, 1))


@torch.no_grad()
def accuracies(model: nn.Module, part: Part) -> np.ndarray:
    """Share of examples that each member classifies correctly, (S,), at inference."""
    mode = model.training
    model.eval()
    right = 0
    for x, t in zip(part.x.split(64), part.t.split(64), strict=True):
        scores = model(x).unflatten(1, (t.shape[1], -1))
        right = right + (scores.argmax(2) == t).sum(0)
    model.train(mode)
    return (right / len(part.x)).double().numpy()


@dataclass(frozen=True)
class Run:
    """What is measured of S members.

    Attributes:
        peak: largest validation accuracy, (S,).
        peak_step: number of updates at which it is first reached, (S,).
        test, test_end: test accuracy there and at the end, (S,); None if not asked for.
        lost: number of updates before a member's gradient failed, or -1, (S,).
        curve: validation accuracy at each look, (looks, S).
    """

    peak: np.ndarray
    peak_step: np.ndarray
    test: np.ndarray | None
    test_end: np.ndarray | None
    lost: np.ndarray
    curve: np.ndarray


def train(
    network: str,
    method: Method,
    *,
    seeds: Sequence[int],
    rates: Sequence[float],
    data: str,
    examples: int,
    steps: int,
    every: int,
    test: bool = True,
) -> Run:
    """Train the members and measure as the source does, at the peak of validation.

    Args:
        network: one of `NETWORKS`.
        method: a row of the table.
        seeds: of data, weights and batches, one for each member.
        rates: the first learning rate of each member.
        data, examples: as `load_examples` takes them.
        steps: updates of the weights.
        every: updates between two looks at the validation part.
        test: whether to look at the test part.

    Raises:
        ValueError: there is no such network, not a rate for each seed, or too few
            examples.
    """
    if len(rates) != len(seeds) or not min(rates) > 0:
        raise ValueError(f"give one positive rate for each of {len(seeds)} seeds")
    parts = load_examples(data, seeds, examples)
    x, t = parts.train
    model = build(network, method, seeds, x.shape[-1], parts.classes).train()
    optimizer, rate = make_optimizer(model), torch.tensor(rates, dtype=x.dtype)
    each, (stream, firsts, looks) = (
        torch.arange(len(seeds)),
        [Stream(seeds, len(x), purpose) for purpose in (1, 2, 3)],
    )
    peak, peak_step = np.full(len(seeds), -1.0), np.zeros(len(seeds), dtype=int)
    lost, curve, best = np.full(len(seeds), -1), [], copied(model)

    def only_look(times: int) -> None:
        for _ in range(times if method.kind not in ("batch", "none") else 0):
            observe_only(method, model, x[looks.take(BATCH), each])

    for step in range(steps):
        if method.kind == "renorm":
            set_renorm_limits(model, limits(steps if method.open else step, steps))
        only_look(FIRST_STATISTICS if step == 0 else 0)
        set_rates(optimizer, step / steps)
        pick = stream.take(BATCH)
        first = x[firsts.take(method.first), each] if method.first else None
        loss = method_loss(
            method, model, x[pick, each], t[pick, each], members_loss, x_first=first
        )
        optimizer.zero_grad()
        loss.backward()
        gone = scale_gradients(model, rate)
        rate[gone] = 0.0
        lost[gone.numpy()] = step
        optimizer.step()
        only_look(AFTER_EACH if step < EARLY else 0)
        if (step + 1) % every == 0:
            curve.append(accuracies(model, parts.validation))
            better = curve[-1] > peak
            peak[better], peak_step[better] = curve[-1][better], step + 1
            keep_members(best, model.state_dict(), better)
    at_end = accuracies(model, parts.test) if test else None
    model.load_state_dict(best)
    at_peak = accuracies(model, parts.test) if test else None
    return Run(peak, peak_step, at_peak, at_end, lost, np.stack(curve))


def make_optimizer(model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum 0.9 for gradients that hold the learning rates of the members.

    Each group has a `scale` for its learning rate, and the `power` of its decay.
    """
    groups = []
    for last in (False, True):
        for bias in (False, True):
            chosen = [
                p
                for name, p in model.named_parameters()
                if name.startswith("classify") == last and name.endswith("bias") == bias
            ]
            if chosen:
                scale = LAST_LAYER if last else 1.0
                power = 0.5 if bias else 1.0
                groups.append({"params": chosen, "scale": scale, "power": power})
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def set_rates(optimizer: torch.optim.SGD, done: float) -> None:
    """Give each group its learning rate, relative to the member's, when this share of the
    run is done."""
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * DECAY ** (-group["power"] * done)


@torch.no_grad()
def scale_gradients(model: nn.Module, rate: torch.Tensor) -> torch.Tensor:
    """Multiply the gradients of each member by its rate; a member without finite
    gradients, or of rate 0, gets none.

    Returns:
        Which members have just lost theirs, (S,), boolean.
    """
    members = len(rate)
    parts = [p.grad.view(members, -1) for p in model.parameters() if p.grad is not None]
    norms = torch.stack([g.square().sum(1) for g in parts]).sum(0)
    gone = ~(norms < LOST**2)
    for g in parts:
        g.mul_(rate[:, None])
        if gone.any():
            g[gone] = 0.0
    return gone & (rate > 0)


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model, in memory of its own."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def keep_members(
    kept: dict[str, torch.Tensor], now: dict[str, torch.Tensor], chosen: np.ndarray
) -> None:
    """Overwrite the state of the chosen members; what all share is left alone."""
    members = len(chosen)
    mask = torch.from_numpy(chosen)
    for name, value in now.items():
        if value.ndim and not name.endswith("rotation"):
            kept[name].view(members, -1)[mask] = value.reshape(members, -1)[mask]


def limits(step: int, steps: int) -> RenormLimits:
    """Ioffe's limits on r and d, with his steps scaled to this run's length."""
    start, d_end, r_end = (max(1, round(share * steps)) for share in (0.04, 0.2, 0.3))
    return renorm_limits(step, start=start, r_end=r_end, d_end=d_end)
