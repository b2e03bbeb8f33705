"""Noise that belongs to an example and a step, not to a call.

Two-stage backpropagation runs every example twice, and an interrupted training runs its
last steps again. Noise from a common generator would differ each time. Here it is a
function of a key, the same whichever process asks, how often, and in what company.
"""

from collections.abc import Sequence

import torch
from torch import nn

from bnbook.estimation.running_norm import RunningNorm


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


# The constants of splitmix64; int64 arithmetic of PyTorch wraps around.
_STRIDE = _signed(0x9E3779B97F4A7C15)
_FACTORS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def mixed(bits: torch.Tensor) -> torch.Tensor:
    """Scatter the bits of int64 numbers, one to one: the finalizer of splitmix64."""
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, count: int) -> torch.Tensor:
    """Shift right, with zeros from the left."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def step_keys(seed: int, step: int, slots: torch.Tensor) -> torch.Tensor:
    """A key for each example of a step.

    Args:
        seed: of the run.
        step: number of the step.
        slots: places of the examples among those of all workers, int64, (M,).
    """
    start = mixed(torch.tensor([seed, step]) + _STRIDE)
    return mixed(mixed(start[0] + slots * _STRIDE) + start[1])


def uniform(
    keys: torch.Tensor, stream: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Uniform numbers in [0, 1), (M, *shape); each row is a function of its key.

    Args:
        keys: int64, (M,).
        stream: number of the place where they are used.
        shape: of one example.
        dtype: of the result; the numbers are multiples of 2⁻²⁴.
    """
    count = torch.Size(shape).numel()
    row = torch.arange(count, device=keys.device) * _STRIDE
    # A constant of its own for streams, so that none is another, moved by one place.
    start = mixed(keys ^ mixed(torch.full_like(keys, stream + 1) * _FACTORS[0]))
    bits = _shifted(mixed(start[:, None] + row), 40)
    return (bits.to(torch.float32) * 2.0**-24).to(dtype).reshape(-1, *shape)


class ExampleNoise:
    """The noise of one model: after its normalizations, and in its dropouts.

    Args:
        scale: a normalized value is multiplied by a number from 1 ± scale.
        shift: one from ± shift is added.

    Raises:
        ValueError: scale or shift is negative.

    Source: Anonymous (2022), §5.
    """

    def __init__(self, *, scale: float = 0.0, shift: float = 0.0):
        """No noise until keys are set."""
        if min(scale, shift) < 0:
            raise ValueError(
                f"scale and shift must be at least 0, got {scale}, {shift}"
            )
        self.scale, self.shift = scale, shift
        self.keys: torch.Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Add noise after every normalization, and give every `nn.Dropout` keyed draws.

        The names in the state dict stay as they are.
        """
        kinds = nn.modules.batchnorm._BatchNorm, RunningNorm
        for stream, module in enumerate(list(model.modules())):
            if isinstance(module, kinds) and (self.scale or self.shift):
                module.register_forward_hook(_Hook(self, 3 * stream))
            for name, child in list(module.named_children()):
                if type(child) is nn.Dropout:
                    setattr(module, name, _KeyedDropout(child.p, self, 3 * stream + 2))

    def draw(self, x: torch.Tensor, stream: int) -> torch.Tensor:
        """Numbers in [0, 1) of the shape of x.

        Raises:
            ValueError: the keys are not those of this batch.
        """
        if self.keys is None or len(self.keys) != len(x):
            got = "none" if self.keys is None else len(self.keys)
            raise ValueError(
                f"the noise needs a key for each of {len(x)} examples, got {got}; run the "
                "model through Keyed, and call its begin(keys) at every step"
            )
        return uniform(self.keys.to(x.device), stream, x.shape[1:], x.dtype)


class _Hook:
    """After a normalization: y (1 ± scale) ± shift, in training."""

    def __init__(self, noise: ExampleNoise, stream: int):
        self.noise, self.stream = noise, stream

    def __call__(self, module: nn.Module, inputs, y: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return y
        scale, shift = self.noise.scale, self.noise.shift
        factor = 1 + scale * (2 * self.noise.draw(y, self.stream) - 1)
        return y * factor + shift * (2 * self.noise.draw(y, self.stream + 1) - 1)


class _KeyedDropout(nn.Dropout):
    """Dropout whose draws belong to the examples."""

    def __init__(self, p: float, noise: ExampleNoise, stream: int):
        super().__init__(p)
        self.noise, self.stream = noise, stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        kept = self.noise.draw(x, self.stream) >= self.p
        return torch.where(kept, x / (1 - self.p), 0.0) if self.p < 1 else x * 0


class Keyed(nn.Module):
    """A model together with the keys of a step's examples, which it hands out in order.

    The examples of a step may come in parts, and again from the first one: that is what
    the two stages do. All normalizations take their input in the dtype of their
    statistics, also under autocast.

    Args:
        model: in any mode.
        noise: attached to it.
        autocast: dtype of the rest of the computation, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        noise: ExampleNoise | None = None,
        autocast: torch.dtype | None = None,
    ):
        """Keep no keys yet."""
        super().__init__()
        self.model, self.noise, self.autocast = model, noise, autocast
        self.keys: torch.Tensor | None = None
        self.seen = 0
        if autocast is not None:
            kinds = nn.modules.batchnorm._BatchNorm, RunningNorm
            for module in model.modules():
                if isinstance(module, kinds):
                    module.register_forward_pre_hook(_in_dtype_of_statistics)

    def begin(self, keys: torch.Tensor) -> None:
        """Start a step, or a microbatch of it, with the examples that have these keys."""
        self.keys, self.seen = keys, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output of the model, not in half precision.

        Raises:
            ValueError: in training, part of x lies beyond the examples of this step.
        """
        if self.noise is not None and self.training:
            if self.keys is None or not len(self.keys):
                raise ValueError("call begin(keys) before the first batch of a step")
            start = self.seen % len(self.keys)
            self.noise.keys = self.keys[start : start + len(x)]
            self.seen += len(x)
        with torch.autocast(
            x.device.type, self.autocast or torch.bfloat16, self.autocast is not None
        ):
            y = self.model(x)
        return y.to(torch.promote_types(y.dtype, torch.float32))


def _in_dtype_of_statistics(module: nn.Module, inputs: tuple) -> tuple:
    if module.running_var is None:
        return inputs
    return (inputs[0].to(module.running_var.dtype),)
