"""Recalibrate a trained network, and watch running averages chase one that learns."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bnbook.foundations.folding import NORMS
from bnbook.foundations.forward import batch_statistics
from bnbook.foundations.inference import (
    RunningStatistics,
    require_alpha,
    require_count,
)
from bnbook.validation import require_float_tensor


@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Iterable[torch.Tensor], *, unbiased: bool = True
) -> nn.Module:
    """Copy a trained model and give each normalization the statistics of its input.

    The layers are taken in the order in which they run, each after those before it have
    their new statistics, so each sees its input exactly as at inference. That takes one
    pass over the data for each normalization. The values are pooled: batches may have
    different sizes.

    Args:
        model: the trained model, with `torch.nn.BatchNorm*` or the book's `BatchNorm`
            layers.
        batches: inputs of the model, which together are the training set.
        unbiased: store Σ(z − mean)²/(N − 1), as PyTorch does, and not Σ(z − mean)²/N.

    Returns:
        A copy in evaluation mode; `model` is left as it is.

    Raises:
        TypeError: model is not a module, or a batch is not a floating-point tensor.
        ValueError: there is no batch, a batch is not finite, no normalization runs, one
            keeps no running statistics or runs twice in one pass, or one sees a single
            value per feature.

    Source: Ioffe and Szegedy (2015), Algorithm 2, lines 8 to 10.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; pass the network"
        )
    batches = [require_float_tensor("a batch", batch) for batch in batches]
    if not batches:
        raise ValueError("batches is empty; pass the inputs of the training set")
    model = copy.deepcopy(model).eval()
    for layer in _layers_in_order(model, batches[0]):
        running = RunningStatistics(layer.running_mean.shape)

        def gather(_, inputs, running=running):
            x = inputs[0].double().transpose(0, 1).flatten(1).numpy(force=True).T
            if len(x) > 1:
                found = batch_statistics(x)
                running.update(found.mean[0], found.var[0], found.count)
            else:
                running.update(x[0], np.zeros_like(x[0]), 1)

        handle = layer.register_forward_pre_hook(gather)
        try:
            for batch in batches:
                model(batch)
        finally:
            handle.remove()
        factor = 1.0 if unbiased else (running.count - 1) / running.count
        layer.running_mean.copy_(torch.from_numpy(running.mean))
        layer.running_var.copy_(torch.from_numpy(running.var * factor))
    return model


def _layers_in_order(model: nn.Module, batch: torch.Tensor) -> list[nn.Module]:
    """The normalizations that run on `batch`, in the order in which they do."""
    seen: list[nn.Module] = []
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    handles = [
        norm.register_forward_pre_hook(lambda layer, _: seen.append(layer))
        for norm in norms
    ]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ValueError(
            "the model runs no batch normalization; there is nothing to recalibrate"
        )
    if len({id(layer) for layer in seen}) < len(seen):
        raise ValueError(
            "a normalization runs twice in one pass, and its two inputs have different statistics; "
            "give each place a layer of its own"
        )
    if any(layer.running_mean is None for layer in seen):
        raise ValueError(
            "a normalization keeps no running statistics (track_running_stats=False); "
            "create it with running statistics"
        )
    return seen


@dataclass(frozen=True)
class DriftRun:
    """One training run, watched by running averages of several rates.

    Attributes:
        truth: means over the training set of the inputs of the last normalization,
            before each step, (steps, 16).
        averages: their running means by rate α, (steps, 16) each.
        error: by rate α, root mean square error of the running means of the last
            normalization at the end, in units of the features' standard deviations.
        loss: by rate α, loss on the training set at the end, in evaluation mode.
        loss_uncorrected: the same, with averages that start from mean 0 and variance 1.
        loss_recalibrated: the same, with recalibrated statistics.
    """

    truth: np.ndarray
    averages: dict[float, np.ndarray]
    error: dict[float, float]
    loss: dict[float, float]
    loss_uncorrected: dict[float, float]
    loss_recalibrated: float


def drift_run(
    alphas: Sequence[float],
    *,
    steps: int,
    seed: int,
    rate: float = 0.5,
    size: int = 16,
    depth: int = 2,
) -> DriftRun:
    """Train a small network with batch normalization, and stop while it still moves.

    `depth` hidden layers of 16 units, ReLU, softmax loss on four classes that a random
    network assigns to 1024 normal inputs; plain gradient descent, float64.

    Args:
        alphas: rates of the running averages, each in [0, 1).
        steps: number of updates, at least 1.
        seed: seed of data, weights and batches.
        rate: learning rate, > 0.
        size: batch size, at least 2.
        depth: number of hidden layers, at least 1.

    Raises:
        TypeError: a number is of the wrong type.
        ValueError: a number is out of range.
    """
    alphas = [require_alpha(alpha) for alpha in alphas]
    if not alphas or 1.0 in alphas:
        raise ValueError(
            "alphas must hold at least one rate, each below 1; an average at 1 never moves"
        )
    if not 0 < rate < float("inf"):
        raise ValueError(
            f"rate must be positive and finite, got {rate}; use for example 0.5"
        )
    steps, size = require_count("steps", steps, 1), require_count("size", size, 2)
    depth = require_count("depth", depth, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tensors this small, threads only wait for one another
    try:
        return _drift_run(alphas, steps, seed, rate, size, depth)
    finally:
        torch.set_num_threads(threads)


def _drift_run(alphas, steps, seed, rate, size, depth) -> DriftRun:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(1024, 10)
    target = (torch.tanh(x @ normal(10, 16)) @ normal(16, 4)).argmax(1)
    model, parameters = _network(normal, depth)
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm1d)]
    kept = {
        (alpha, corrected): [
            RunningStatistics(16, alpha=alpha, bias_correction=corrected) for _ in norms
        ]
        for alpha in alphas
        for corrected in (True, False)
    }
    truth, averages = [], {alpha: [] for alpha in alphas}
    for _ in range(steps):
        truth.append(_inputs_of_norms(model, x)[0][-1].mean(0).numpy())
        chosen = torch.randint(len(x), (size,), generator=generator)
        inputs, output = _inputs_of_norms(model, x[chosen])
        gradients = torch.autograd.grad(
            nn.functional.cross_entropy(output, target[chosen]), parameters
        )
        for layer, z in enumerate(inputs):
            found = batch_statistics(z.numpy(force=True))
            for running in kept.values():
                running[layer].update(found.mean[0], found.var[0], found.count)
        for alpha in alphas:
            averages[alpha].append(kept[alpha, True][-1].mean)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= rate * gradient

    exact = recalibrate(model, [x])
    mean, var = exact[-3].running_mean, exact[-3].running_var
    losses, errors = {}, {}
    for key, running in kept.items():
        losses[key] = _loss(_with_statistics(model, running), x, target)
        miss = (torch.from_numpy(running[-1].mean) - mean) / var.sqrt()
        errors[key] = miss.square().mean().sqrt().item()
    return DriftRun(
        np.array(truth),
        {alpha: np.array(path) for alpha, path in averages.items()},
        {alpha: errors[alpha, True] for alpha in alphas},
        {alpha: losses[alpha, True] for alpha in alphas},
        {alpha: losses[alpha, False] for alpha in alphas},
        _loss(exact, x, target),
    )


def _network(normal, depth: int) -> tuple[nn.Sequential, list[nn.Parameter]]:
    """10 inputs, `depth` hidden layers of 16 with batch normalization, 4 classes."""
    layers = []
    for inputs in (10, *[16] * (depth - 1)):
        layers += [nn.Linear(inputs, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16, 4)).double()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                scale = (2 / layer.in_features) ** 0.5
                layer.weight.copy_(normal(*layer.weight.shape) * scale)
        model[-1].bias.zero_()
    return model, list(model.parameters())


def _inputs_of_norms(
    model: nn.Sequential, x: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Input of each normalization, and the output, with the statistics of x itself."""
    found = []
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d):
            found.append(x.detach())
            x = nn.functional.batch_norm(
                x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps
            )
        else:
            x = layer(x)
    return found, x


@torch.no_grad()
def _with_statistics(
    model: nn.Sequential, statistics: Sequence[RunningStatistics]
) -> nn.Sequential:
    """A copy in evaluation mode that normalizes with the given statistics."""
    model = copy.deepcopy(model).eval()
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm1d)]
    for norm, running in zip(norms, statistics, strict=True):
        norm.running_mean.copy_(torch.from_numpy(running.mean))
        norm.running_var.copy_(torch.from_numpy(running.var))
    return model


@torch.no_grad()
def _loss(model: nn.Module, x: torch.Tensor, target: torch.Tensor) -> float:
    return nn.functional.cross_entropy(model(x), target).item()
