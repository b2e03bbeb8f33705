"""The methods of the source's accuracy table as layers, and how each finds its loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.convnet import (
    UNBIASED,
    ConvNet,
    DenseNet,
    Layers,
    hadamard_of_members,
)
from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.two_stage import tower, two_stage_norms, two_tower_loss
from bnbook.estimation.two_stage_conv import TwoStageConv2d

EMA_RATE = 0.2  # weight of a step in the running statistics, as in the source


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: for tables and figures.
        kind: "batch" normalization, "renorm" (Ioffe's), "none" at all, or the tower of
            Algorithm 1: "first" (single examples), "joint" or "two" stages.
        microbatch: examples that share statistics in "renorm" and "joint".
        rotation: whether Hadamard's matrix precedes the ReLU.
        r_m, r_v, f_max: of Algorithm 1.
        first: examples of the first tower, where they are not those of the second.
        open: whether the limits of "renorm" are at their ends from the start.
        peak, at_120k: percent in the source, Inception-v3 on ImageNet.
        resnet: percent in the source, ResNet-50.
    """

    title: str
    kind: str
    microbatch: int | None = None
    rotation: bool = False
    r_m: float = 1.0
    r_v: float = 1.0
    f_max: float | None = 2.0
    first: int | None = None
    open: bool = False
    peak: float | None = None
    at_120k: float | None = None
    resnet: float | None = None


METHODS = {
    "batch": Method(
        "batch normalization", "batch", peak=78.5, at_120k=78.5, resnet=76.3
    ),
    "two_stage": Method("two-stage", "two", peak=78.2, at_120k=77.8, resnet=76.6),
    "two_stage_4": Method("two-stage 32 + 4", "two", first=4, peak=77.6, at_120k=77.0),
    "renorm_4": Method("batch renormalization, 4", "renorm", 4, peak=76.5),
    "improved_4": Method("improved, 4", "joint", 4, peak=77.4, at_120k=76.2),
    "improved_2": Method("improved, 2", "joint", 2, peak=72.0, at_120k=70.5),
    "improved_2_turned": Method(
        "improved, 2, Hadamard", "joint", 2, True, peak=74.8, at_120k=73.5
    ),
    "improved_2_shrunk": Method(
        "improved, 2, Hadamard, r = 0.5, 0.5",
        "joint",
        2,
        True,
        0.5,
        0.5,
        peak=77.8,
        at_120k=77.2,
    ),
    "improved_2_resnet": Method(
        "improved, 2, Hadamard, r = 0, 0.8", "joint", 2, True, 0.0, 0.8, resnet=75.0
    ),
    "single": Method("single example", "first", peak=63.8, at_120k=60.0),
    "single_turned": Method(
        "single, Hadamard", "first", rotation=True, peak=68.3, at_120k=65.8
    ),
    "single_shrunk": Method(
        "single, Hadamard, r = 0, 0.8",
        "first",
        None,
        True,
        0.0,
        0.8,
        peak=75.0,
        at_120k=73.7,
    ),
    "frozen": Method("frozen statistics", "first", r_m=0.0, r_v=0.0),
    "frozen_turned": Method("frozen, Hadamard", "first", None, True, 0.0, 0.0),
    "single_no_sq": Method(
        "single, Hadamard, no S/Q", "first", rotation=True, f_max=None
    ),
    "two_stage_no_sq": Method("two-stage, no S/Q", "two", f_max=None),
    "none": Method("no normalization", "none"),
}

# Beside the table: what its row "batch renormalization, 4" loses by its schedule.
BESIDE = {
    "renorm_4_open": Method(
        "batch renormalization, 4, limits open", "renorm", 4, open=True
    )
}


def factories(method: Method, members: int) -> dict[str, Layers]:
    """The arguments `convolution` and `normalization` of a network with this method."""
    if method.kind == "none":
        return {
            "convolution": nn.Conv2d,
            "normalization": lambda channels: nn.Identity(),
        }
    if method.kind == "batch":
        return {
            "convolution": UNBIASED,
            "normalization": partial(nn.BatchNorm2d, momentum=EMA_RATE),
        }
    if method.kind == "renorm":
        return {
            "convolution": UNBIASED,
            "normalization": partial(
                BatchRenorm, momentum=EMA_RATE, microbatch=method.microbatch
            ),
        }

    def algorithm_1(before: int, after: int, *args, **options) -> TwoStageConv2d:
        turn = hadamard_of_members(after, members) if method.rotation else None
        return TwoStageConv2d(
            before,
            after,
            *args,
            **options,
            momentum=EMA_RATE,
            r_m=method.r_m,
            r_v=method.r_v,
            f_max=method.f_max,
            rotation=turn,
            microbatch=method.microbatch,
        )

    return {
        "convolution": algorithm_1,
        "normalization": lambda channels: nn.Identity(),
    }


def method_loss(
    method: Method,
    model: ConvNet | DenseNet,
    x: torch.Tensor,
    t: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    x_first: torch.Tensor | None = None,
) -> torch.Tensor:
    """The training loss whose gradient is the method's estimate.

    Args:
        x, t: examples and targets of the step, (M, S, …) and (M, S).
        loss: function of output and targets.
        x_first: examples of the first tower, where the method has its own.
    """
    if method.kind == "two":
        return two_tower_loss(model, x, t, loss, x_first=x_first)
    if method.kind in ("first", "joint"):
        with tower(model, method.kind):
            return loss(model(x), t)
    return loss(model(x), t)


@torch.no_grad()
def observe_only(method: Method, model: ConvNet | DenseNet, x: torch.Tensor) -> None:
    """Let the running statistics see the examples; the weights stay."""
    if two_stage_norms(model):
        with tower(model, "joint" if method.kind == "joint" else "first"):
            model(x)
    else:
        model(x)


def members_loss(scores: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of each member, summed over the members.

    Args:
        scores: (M, S classes).
        t: (M, S).
    """
    members = t.shape[1]
    logits = scores.unflatten(1, (members, -1))
    return F.cross_entropy(logits.flatten(0, 1), t.flatten()) * members
