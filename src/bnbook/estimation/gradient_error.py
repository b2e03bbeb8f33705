"""Estimated gradients against the exact gradient of the whole data: bias and variance.

The population is a finite dataset, so both gradients can be computed and nothing is
sampled: the exact one is batch normalization over all examples at once, and the
expectation of a single-example estimate is its mean over all examples. Compared are the
weights in front of the normalizations; the gradient of the last layer is exact anyway.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.population_norm import (
    PopulationNorm,
    population_norms,
    positions_mean,
)

F64 = torch.float64
NETWORKS = ("convolutional", "dense")


@dataclass(frozen=True)
class GradientError:
    """How a random estimate ĝ relates to the gradient g; everything relative to ‖g‖.

    Attributes:
        bias: ‖E ĝ − g‖/‖g‖.
        variance: E‖ĝ − E ĝ‖²/‖g‖², of one example.
        cosine: of the angle between E ĝ and g.
    """

    bias: float
    variance: float
    cosine: float

    def mean_square(self, batch: int) -> float:
        """E‖ĝ − g‖²/‖g‖² for the mean over `batch` examples drawn independently.

        Raises:
            ValueError: batch is below 1.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        return self.bias**2 + self.variance / batch


def gradient_error(examples: torch.Tensor, truth: torch.Tensor) -> GradientError:
    """Bias, variance and cosine, exact for a finite population of equally likely examples.

    Args:
        examples: the estimate from each example alone, (N, P).
        truth: the gradient of the whole data, (P,).

    Raises:
        ValueError: the shapes do not fit, or the true gradient is 0.
    """
    if examples.ndim != 2 or truth.shape != examples.shape[1:] or not len(examples):
        raise ValueError(
            f"examples must be (N, P) and truth (P,), got {tuple(examples.shape)} and "
            f"{tuple(truth.shape)}"
        )
    size = truth.norm().item()
    if size == 0:
        raise ValueError("the true gradient is 0, so that nothing is relative to it")
    mean = examples.mean(0)
    spread = ((examples - mean) ** 2).sum(1).mean().item()
    length = mean.norm().item()
    cosine = (mean @ truth).item() / (size * length) if length > 0 else 0.0
    return GradientError((mean - truth).norm().item() / size, spread / size**2, cosine)


def network(
    kind: str,
    pixels: int,
    classes: int,
    *,
    rotation: str | None = None,
    width: int = 16,
    seed: int = 0,
) -> nn.Sequential:
    """Three hidden layers, each with a `PopulationNorm` and ReLU, and a linear layer.

    Args:
        kind: "convolutional": 3×3 kernels, `width` channels, the second with stride 2,
            then the mean over the positions; or "dense", of `width` neurons a layer.
        pixels: of a square picture, in one row.
        classes: number of outputs.
        rotation: of the normalizations.
        width: channels or neurons; a power of two for Hadamard's matrix.
        seed: of the weights; rotations of the layers have seeds of their own.

    Raises:
        ValueError: the kind is unknown, or pixels is no square.
    """
    if kind not in NETWORKS:
        raise ValueError(f"kind must be one of {NETWORKS}, got {kind!r}")
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"pixels must be a square number, got {pixels}")
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    norms = [
        PopulationNorm(width, rotation=rotation, u_max=None, seed=layer)
        for layer in range(3)
    ]
    if kind == "dense":
        layers = [nn.Linear(n, width, bias=False) for n in (pixels, width, width)]
        head = [nn.Linear(width, classes)]
    else:
        layers = [
            nn.Conv2d(n, width, 3, stride=stride, padding=1, bias=False)
            for n, stride in ((1, 1), (width, 2), (width, 1))
        ]
        head = [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        ]
    parts = [nn.Unflatten(1, (1, side, side))] if kind == "convolutional" else []
    for layer, norm in zip(layers, norms, strict=True):
        parts += [layer, norm, nn.ReLU()]
    torch.set_rng_state(state)
    return nn.Sequential(*parts, *head).double()


def choose(model: nn.Module, **options) -> nn.Module:
    """Set options of every `PopulationNorm` in the model: interaction, r_m, r_v, f_max, u_max.

    Raises:
        ValueError: an option has another name.
    """
    if unknown := set(options) - {"interaction", "r_m", "r_v", "f_max", "u_max"}:
        raise ValueError(
            f"unknown options {sorted(unknown)}; rotations cannot be changed"
        )
    for norm in population_norms(model):
        for name, value in options.items():
            setattr(norm, name, value)
    return model


@torch.no_grad()
def calibrate(model: nn.Module, x: torch.Tensor) -> None:
    """Set all running statistics to those of x, layer by layer in one pass."""

    def set_statistics(norm: PopulationNorm, inputs: tuple[torch.Tensor]) -> None:
        norm.running_mean.copy_(positions_mean(inputs[0]).mean(0))
        p = norm.center(inputs[0], norm.running_mean)
        norm.running_var.copy_(positions_mean(p**2).mean(0))

    mode = model.training
    hooks = [
        n.register_forward_pre_hook(set_statistics) for n in population_norms(model)
    ]
    try:
        model.eval()(x)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put the running statistics back at the end of the block."""
    kept = [
        (buffer, buffer.clone())
        for norm in population_norms(model)
        for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def weighted_layers(model: nn.Sequential) -> list[nn.Module]:
    """The linear and convolutional layers in front of a `PopulationNorm`."""
    return [
        layer
        for layer, after in itertools.pairwise(model)
        if isinstance(after, PopulationNorm)
    ]


def full_gradient(
    model: nn.Sequential, x: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """The gradient of the mean loss of all of x, normalized jointly, (P,).

    The running statistics must be those of x; see `calibrate`. This is then what
    `nn.BatchNorm2d` gives for x as one batch.
    """
    choose(model.train(), interaction="batch", r_m=1.0, r_v=1.0, f_max=None)
    weights = [layer.weight for layer in weighted_layers(model)]
    with unchanged(model):
        loss = F.cross_entropy(model(x), t)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


def example_gradients(
    model: nn.Sequential, x: torch.Tensor, t: torch.Tensor, **options
) -> torch.Tensor:
    """The single-example estimate from each example, (N, P), in one backward pass.

    Examples do not interact, so the gradient at the outputs of a layer falls apart into
    those of the examples; times the inputs of the layer it gives those of the weights.

    Args:
        model, x, t: network, examples, labels.
        options: as for `choose`.
    """
    choose(model.train(), interaction="example", **options)
    seen: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda m, i, o: seen.append((m, i[0].detach(), o)))
        for layer in weighted_layers(model)
    ]
    try:
        with unchanged(model):
            loss = F.cross_entropy(model(x), t, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    slopes = torch.autograd.grad(loss, [out for _, _, out in seen])
    parts = []
    for (layer, before, _), slope in zip(seen, slopes, strict=True):
        if isinstance(layer, nn.Conv2d):
            before = F.unfold(
                before, layer.kernel_size, padding=layer.padding, stride=layer.stride
            )
            part = torch.einsum("mop,mip->moi", slope.flatten(2), before)
        else:
            part = torch.einsum("mo,mi->moi", slope, before)
        parts.append(part.flatten(1))
    return torch.cat(parts, 1)


def train_exactly(
    model: nn.Sequential, x: torch.Tensor, t: torch.Tensor, *, steps: int, rate: float
) -> None:
    """Gradient descent with batch normalization over all of x, then `calibrate`.

    Args:
        model, x, t: network, all examples, their labels.
        steps: number of updates, from 0.
        rate: learning rate.
    """
    choose(model.train(), interaction="batch", r_m=1.0, r_v=1.0, f_max=None)
    for _ in range(steps):
        calibrate(model, x)
        model.zero_grad()
        F.cross_entropy(model(x), t).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
    calibrate(model, x)


def by_layer(model: nn.Sequential, gradients: torch.Tensor) -> Sequence[torch.Tensor]:
    """The columns that belong to each layer, from the input on."""
    sizes = [layer.weight.numel() for layer in weighted_layers(model)]
    return gradients.split(sizes, -1)
