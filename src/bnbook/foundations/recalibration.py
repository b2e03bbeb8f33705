"""Recalibrate the statistics of a trained network, and watch running averages chase a network that learns."""

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
    _require_count,
    require_alpha,
)
from bnbook.validation import require_float_tensor


@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Iterable[torch.Tensor], *, unbiased: bool = True
) -> nn.Module:
    """Copy a trained model and give every batch normalization the statistics of its input over `batches`.

    The layers are taken in the order in which they run, each after those before it have their new
    statistics, so each sees its input exactly as at inference. That takes one pass over the data for each
    normalization. The values are pooled: batches may have different sizes.

    Args:
        model: the trained model, with `torch.nn.BatchNorm*` or the book's `BatchNorm` layers.
        batches: inputs of the model, which together are the training set.
        unbiased: store Σ(z − mean)²/(N − 1), as PyTorch does, and not Σ(z − mean)²/N.

    Returns:
        A copy in evaluation mode; `model` is left as it is.

    Raises:
        TypeError: model is not a module, or a batch is not a floating-point tensor.
        ValueError: there is no batch, a batch is not finite, no normalization runs, one keeps no running
            statistics or runs twice in one pass, or one sees a single value per feature.

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
        truth: mean over the training set of one input of the last normalization, after each step, (steps,).
        batch: mean of the same input over the batch of each step, (steps,).
        averages: its running mean by rate α, (steps,) each.
        loss: loss on the training set in evaluation mode at the end, with the running averages of each
            rate; and, under None, with recalibrated statistics.
        error: by rate α, root mean square error of the running means of the last normalization at the end,
            in units of the features' standard deviations.
    """

    truth: np.ndarray
    batch: np.ndarray
    averages: dict[float, np.ndarray]
    loss: dict[float | None, float]
    error: dict[float, float]


def drift_run(
    alphas: Sequence[float],
    *,
    steps: int,
    seed: int,
    rate: float = 0.5,
    size: int = 32,
    examples: int = 1024,
) -> DriftRun:
    """Train a small network with batch normalization, and stop while it still moves.

    Two hidden layers of 16 units, ReLU, softmax loss on four classes that a random network assigns to
    normal inputs; plain gradient descent, float64. All averages are corrected for their initialization, so
    what is left is noise and staleness.

    Args:
        alphas: rates of the running averages, each in [0, 1).
        steps: number of updates, at least 1.
        seed: seed of data, weights and batches.
        rate: learning rate, > 0.
        size: batch size, at least 2.
        examples: size of the training set, at least `size`.

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
    steps, size = _require_count("steps", steps, 1), _require_count("size", size, 2)
    examples = _require_count("examples", examples, size)

    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(
        *shape, generator=generator, dtype=torch.float64
    )
    x = normal(examples, 10)
    target = (torch.tanh(x @ normal(10, 16)) @ normal(16, 4)).argmax(1)
    model = _network(normal)
    first, last = model[1], model[4]

    running = {
        alpha: [RunningStatistics(16, alpha=alpha) for _ in "12"] for alpha in alphas
    }
    truth, batch_mean, averages = [], [], {alpha: [] for alpha in alphas}
    for _ in range(steps):
        chosen = torch.randint(examples, (size,), generator=generator)
        inputs = []
        hooks = [
            norm.register_forward_pre_hook(
                lambda _, z, inputs=inputs: inputs.append(z[0])
            )
            for norm in (first, last)
        ]
        loss = nn.functional.cross_entropy(model(x[chosen]), target[chosen])
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        truth.append(_last_input(model, x)[:, 0].mean().item())
        for position, z in enumerate(inputs):
            found = batch_statistics(z.numpy(force=True))
            for alpha in alphas:
                running[alpha][position].update(
                    found.mean[0], found.var[0], found.count
                )
        batch_mean.append(found.mean[0, 0])
        for alpha in alphas:
            averages[alpha].append(running[alpha][1].mean[0])
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * gradient

    exact = recalibrate(model, [x])
    losses: dict[float | None, float] = {None: _loss(exact, x, target)}
    errors = {}
    for alpha in alphas:
        stale = copy.deepcopy(model).eval()
        for norm, statistics in zip((stale[1], stale[4]), running[alpha], strict=True):
            norm.running_mean.copy_(torch.from_numpy(statistics.mean))
            norm.running_var.copy_(torch.from_numpy(statistics.var))
        losses[alpha] = _loss(stale, x, target)
        miss = (stale[4].running_mean - exact[4].running_mean) / exact[
            4
        ].running_var.sqrt()
        errors[alpha] = miss.square().mean().sqrt().item()
    return DriftRun(
        np.array(truth),
        np.array(batch_mean),
        {alpha: np.array(path) for alpha, path in averages.items()},
        losses,
        errors,
    )


def _network(normal) -> nn.Sequential:
    """10 inputs, two hidden layers of 16 with batch normalization, 4 classes; float64."""
    layers = []
    for inputs in (10, 16):
        layers += [nn.Linear(inputs, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16, 4)).double()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(
                    normal(*layer.weight.shape) * (2 / layer.in_features) ** 0.5
                )
        model[-1].bias.zero_()
    return model


@torch.no_grad()
def _last_input(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Input of the last normalization on the whole training set, with the statistics of that set."""
    z = model[0](x)
    weight, bias, eps = model[1].weight, model[1].bias, model[1].eps
    y = nn.functional.batch_norm(z, None, None, weight, bias, training=True, eps=eps)
    return model[3](model[2](y))


@torch.no_grad()
def _loss(model: nn.Module, x: torch.Tensor, target: torch.Tensor) -> float:
    return nn.functional.cross_entropy(model(x), target).item()
