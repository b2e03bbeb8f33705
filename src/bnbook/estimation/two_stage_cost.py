"""What a training step costs by each gradient: the network, the steps, and peak memory.

`benchmarks/estimation.py` measures with it, and the chapter reads what that has stored.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

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
    "one forward pass": TwoStageNorm,  # of two stages, the batch in memory
    "4 in first tower": TwoStageNorm,
    "streamed": TwoStageNorm,
}
CHUNKS = {"one forward pass": None, "streamed": 1}  # None: the batch
TARGETS = {
    "single example": 1.25,
    "two towers": 2.1,
    "one forward pass": 2.1,
    "4 in first tower": 1.3,
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
        if method in CHUNKS:
            chunk = CHUNKS[method] or batch
            two_stage_backward(model, x, t, F.cross_entropy, chunk=chunk)
        elif METHODS[method] is TwoStageNorm:
            first = few if method.startswith("4") else None
            two_tower_loss(model, x, t, F.cross_entropy, x_first=first).backward()
        else:
            F.cross_entropy(model(x), t).backward()

    return step


def operations(*, width: int, batch: int) -> dict[str, float]:
    """Floating-point operations of a step by each method, over those of PLAIN.

    Those of convolutions and matrix products, forward and backward, as PyTorch counts
    them; all else is small beside them if the network is wide.
    """
    counted = {}
    for method in METHODS:
        step = training_step(method, width=width, batch=batch)
        with FlopCounterMode(display=False) as counter:
            step()
        counted[method] = counter.get_total_flops()
    return {method: count / counted[PLAIN] for method, count in counted.items()}


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that PyTorch holds at a time during a call, beyond what it held.

    Counted by PyTorch's profiler on the CPU: tensors, not the libraries' own workspace.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    tree = record.profiler.kineto_results.experimental_event_tree()
    alive: dict[int, int] = {}
    held = peak = 0
    for pointer, size in _allocations(tree):
        if size > 0:
            alive[pointer] = size
            held += size
            peak = max(peak, held)
        else:
            held -= alive.pop(pointer, 0)  # what was there before does not count
    return peak


def _allocations(tree) -> list[tuple[int, int]]:
    """(address, bytes) of what was taken, and with a minus given back, in time."""
    found, waiting = [], list(tree)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if hasattr(event.extra_fields, "alloc_size"):
            taken = event.extra_fields
            found.append((event.start_time_ns, taken.ptr, taken.alloc_size))
    return [(pointer, size) for _, pointer, size in sorted(found)]


def load_cost() -> dict:
    """The machine, the ratios of time, and the peaks of memory that were stored.

    Raises:
        FileNotFoundError: the benchmark has not been run with --save.
    """
    return timing.load("two_stage", RESULTS)
