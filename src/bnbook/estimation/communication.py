"""What the workers of each method must tell each other in a step: counted and measured."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch.distributed as dist
from torch import nn

from bnbook.estimation.convert import METHODS
from bnbook.estimation.running_norm import RunningNorm


@dataclass(frozen=True)
class Sizes:
    """A network as far as messages are concerned.

    Attributes:
        parameters: number of them.
        channels: of its normalizations: {C: how many layers have C channels}.
    """

    parameters: int
    channels: dict[int, int]

    @property
    def layers(self) -> int:
        """Number of normalizations."""
        return sum(self.channels.values())

    @property
    def features(self) -> int:
        """Channels of all normalizations together."""
        return sum(c * n for c, n in self.channels.items())


# Counted in torchvision's models; a test counts again where torchvision is installed.
INCEPTION_V3 = Sizes(
    23_834_568,  # without the side head
    {32: 3, 48: 3, 64: 13, 80: 1, 96: 8, 128: 6, 160: 12, 192: 30, 320: 3, 384: 13}
    | {448: 2},
)
RESNET_50 = Sizes(25_557_032, {64: 7, 128: 8, 256: 16, 512: 11, 1024: 7, 2048: 4})


def sizes(model: nn.Module) -> Sizes:
    """Count the parameters and the channels of the normalizations of a model."""
    kinds = nn.modules.batchnorm._BatchNorm, RunningNorm
    channels: dict[int, int] = {}
    for module in model.modules():
        if isinstance(module, kinds):
            channels[module.num_features] = channels.get(module.num_features, 0) + 1
    return Sizes(sum(p.numel() for p in model.parameters()), channels)


@dataclass
class Messages:
    """Rounds of messages in a step, in which every worker waits for every other.

    Attributes:
        within: rounds within the passes, each between two layers or two stages.
        numbers: what one worker contributes to those rounds.
        after: rounds after the passes.
        gradients: what it contributes to the gradients of the parameters there.
        statistics: and to the running statistics.
    """

    within: int = 0
    numbers: int = 0
    after: int = 0
    gradients: int = 0
    statistics: int = 0


def messages(method: str, net: Sizes) -> Messages:
    """What a step of a method takes.

    "sync" sends a count, a mean and a variance per channel forward, and two sums
    backward, layer by layer. "two_stage" sends two counts before, and g_μ, g_ν and Σ ν_b
    of all layers at once between the stages. The others send nothing within the passes.
    All send the gradients of the parameters (DDP does so in parts, during the backward
    pass) and, weighted by the numbers of examples, the running statistics afterwards, the
    latter so that all workers keep one model. ("sync" could spare them, and both could
    travel in one round.)

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    found = Messages(0, 0, 2, net.parameters, 2 * net.features + 1)
    if method == "sync":
        found.within, found.numbers = 2 * net.layers, 4 * net.features + net.layers
    if method == "two_stage":
        found.within, found.numbers = 2, 3 * net.features + 2
    return found


@dataclass
class Counter:
    """Calls of the collectives, and how many numbers each had."""

    calls: list[int] = field(default_factory=list)


@contextlib.contextmanager
def counted() -> Iterator[Counter]:
    """Count this worker's `all_reduce` and `all_gather` in the block."""
    counter = Counter()
    reduce, gather = dist.all_reduce, dist.all_gather

    def all_reduce(tensor, *args, **options):
        counter.calls.append(tensor.numel())
        return reduce(tensor, *args, **options)

    def all_gather(tensors, tensor, *args, **options):
        counter.calls.append(tensor.numel())
        return gather(tensors, tensor, *args, **options)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather
    try:
        yield counter
    finally:
        dist.all_reduce, dist.all_gather = reduce, gather
