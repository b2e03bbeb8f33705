"""What a training step costs by each gradient: the network, the steps, and peak memory.

`benchmarks/estimation.py` measures with it, and the chapter reads what that has stored.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from bnbook.estimation.population_norm import PopulationNorm
from bnbook.estimation.two_stage import (
    TwoStageNorm,
    two_stage_backward,
    two_tower_loss,
)
from bnbook.experiments import BOOK
from bnbook.training import timing

RESULTS = BOOK / "estimation" / "results"
PLAIN = "batch normalization"
METHODS = {
    PLAIN: nn.BatchNorm2d,
    "single example": PopulationNorm,
    "two towers": TwoStageNorm,
    "two towers, 4 in the first": TwoStageNorm,
    "streamed": TwoStageNorm,
}
TARGETS = {
    "single example": 1.25,
    "two towers": 2.1,
    "two towers, 4 in the first": 1.3,
}


def network(normalization: Callable[[int], nn.Module], width: int) -> nn.Sequential:
    """Five 3×3 convolutions of `width` channels, two of stride 2, and a classifier."""
    torch.manual_seed(0)
    parts, before = [], 3
    for stride in (1, 2, 1, 2, 1):
        conv = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        parts += [conv, normalization(width), nn.ReLU()]
        before = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*parts, *head)


def training_step(
    method: str, *, width: int, batch: int, side: int = 16
) -> Callable[[], None]:
    """A function that finds the gradients of one batch of random pictures.

    Args:
        method: one of METHODS.
        width: channels of the network.
        batch: number of examples.
        side: of a picture, in pixels.

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {tuple(METHODS)}, got {method!r}")
    model = network(METHODS[method], width).train()
    generator = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, 3, side, side, generator=generator)
    t = torch.randint(0, 10, (batch,), generator=generator)
    few = torch.randn(4, 3, side, side, generator=generator)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        if method == "streamed":
            two_stage_backward(model, x, t, F.cross_entropy)
        elif METHODS[method] is TwoStageNorm:
            first = few if "4" in method else None
            two_tower_loss(model, x, t, F.cross_entropy, x_first=first).backward()
        else:
            F.cross_entropy(model(x), t).backward()

    return step


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that PyTorch holds at a time during a call, beyond what it held.

    Counted by PyTorch's profiler on the CPU: tensors, not the libraries' own workspace.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def load_cost() -> dict:
    """The machine, the ratios of time, and the peaks of memory that were stored.

    Raises:
        FileNotFoundError: the benchmark has not been run with --save.
    """
    return timing.load("two_stage", RESULTS)
