"""The long experiments on the landscape: noise behind the normalization, smoothness along
the training, and sharpness beside the test error."""

from functools import cache, partial

import numpy as np
import torch
from torch.nn import functional

from bnbook.data.images import images
from bnbook.experiments import Diverged, Experiment
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors
from bnbook.optimization.hessian import top_eigenvalues
from bnbook.optimization.landscape import (
    distance,
    probe,
    relative_eigenvalues,
    rescaled,
)
from bnbook.optimization.noisy_norm import layer_moments, noisy, shift

DEPTH, WIDTH, BATCH = 6, 40, 128
SEEDS, RATES = range(5), (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
TREATMENTS = ("plain", "norm", "noise 0.25", "noise 0.5", "noise 1")
EXACT = 1e-14  # PyTorch wants ε > 0; this is 0 at all digits that are compared
SCALES = (0.25, 1.0, 4.0)
RAW, RELATIVE = (0.05, 0.1, 0.2, 0.4), (0.0025, 0.005, 0.01, 0.02)
CHECKPOINTS = (0, 10, 30, 75, 150)
FEW, REACHED = 300, 0.03


def widths(data: str) -> tuple[int, ...]:
    """Inputs, the hidden layers, classes."""
    dataset = images(data, seed=0)
    return (len(dataset.features), *(WIDTH,) * DEPTH, dataset.classes)


@cache
def _parts(data: str, seed: int):
    dataset = images(data, seed=seed).standardized()
    return [tensors(p) for p in (dataset.train, dataset.validation, dataset.test)]


def noise_run(*, treatment: str, rate: float, seed: int, data: str) -> dict:
    """150 steps of SGD; the shift is watched on the first 256 training examples.

    Args:
        treatment: one of `TREATMENTS`.
        rate: learning rate.
        seed: of weights, batches and noise.
        data: name of the images.

    Returns:
        loss of all training examples and test accuracy, both in evaluation mode, and the
        mean shift from step to step.

    Raises:
        Diverged: a loss is not finite.
    """
    kind, _, noise = treatment.partition(" ")
    normalization = {"plain": None, "norm": BatchNorm}.get(kind) or (
        noisy(float(noise), seed=seed) if kind == "noise" else None
    )
    network = DenseNetwork(widths(data), normalization=normalization, seed=seed)
    (x, t), _, test = _parts(data, 0)
    moments, moved = [], []

    @torch.no_grad()
    def watch(step: int, loss: float) -> None:
        moments.append(layer_moments(network.record(x[:256]).y))
        if step:
            moved.append(shift(*moments[-2:]))

    descend(network, x, t, rate=rate, steps=150, batch=BATCH, seed=seed, watch=watch)
    loss = _loss(network, x, t)
    if not np.isfinite(loss):
        raise Diverged(step=150, learning_rate=rate)
    return {
        "loss": loss,
        "test": accuracy(network, *test),
        "shift": float(np.mean(moved)),
    }


def smoothness_run(*, kind: str, seed: int, data: str) -> list[dict]:
    """Train with rate 0.1, and look along the gradient at some steps.

    Args:
        kind: "plain" or "norm"; a normalized network is also looked at with the weights
            in front of its normalizations scaled, by each of `SCALES`.
        seed: of weights and batches.
        data: name of the images.
    """
    exact = partial(BatchNorm, eps=EXACT)
    network = DenseNetwork(
        widths(data), normalization=exact if kind == "norm" else None, seed=seed
    )
    (x, t), _, _ = _parts(data, 0)
    rows, before = [], 0
    for step in CHECKPOINTS:
        if step:
            at = {"rate": 0.1, "batch": BATCH, "seed": 1000 * seed + step}
            descend(network, x, t, steps=step - before, **at)
            before = step
        for scale in SCALES if kind == "norm" else (1.0,):
            rows.append({"step": step, "scale": scale, **_look(network, scale, x, t)})
    return rows


def _look(network: DenseNetwork, scale: float, x, t) -> dict[str, float]:
    same = network if scale == 1 else rescaled(network, [scale] * DEPTH)
    raw = probe(same, x, t, RAW)
    relative = probe(same, x, t, RELATIVE, relative=True)
    return {
        "loss": raw.loss,
        "raw_range": raw.loss_range,
        "raw_change": float(raw.changes.max()),
        "raw_smoothness": raw.smoothness,
        "raw_top": float(top_eigenvalues(same, x, t, 1).values[0]),
        "relative_range": relative.loss_range,
        "relative_change": float(relative.changes.max()),
        "relative_smoothness": relative.smoothness,
        "relative_top": float(relative_eigenvalues(same, x, t, 1).values[0]),
    }


class _Reached(Exception):
    """The training loss is low enough."""


def sharpness_run(*, rate: float, batch: int, seed: int, data: str) -> dict:
    """Train a normalized network on 300 examples to one loss; then measure.

    Args:
        rate, batch: of SGD.
        seed: of the split of the data, the weights and the batches.
        data: name of the images.

    Returns:
        number of steps, training loss, share of errors and loss on all other examples,
        largest raw and relative eigenvalue, distance from the start.

    Raises:
        Diverged: the loss is not 0.03 after 3000 steps, or not finite.
    """
    (x, t), *others = _parts(data, seed)
    others = [(x[FEW:], t[FEW:]), *others]
    x, t = x[:FEW], t[:FEW]
    first, *_, last = widths(data)
    shape = (first, 40, 40, last)
    network, start = (DenseNetwork(shape, seed=seed) for _ in range(2))
    taken = 0

    @torch.no_grad()
    def watch(step: int, loss: float) -> None:
        nonlocal taken
        taken = step
        if step % 5 == 0 and functional.cross_entropy(network(x), t) <= REACHED:
            raise _Reached

    try:
        descend(
            network, x, t, rate=rate, steps=3000, batch=batch, seed=seed, watch=watch
        )
    except _Reached:
        pass
    else:
        raise Diverged(step=3000, learning_rate=rate)
    x_test, t_test = (torch.cat(parts) for parts in zip(*others, strict=True))
    loss = _loss(network, x, t)
    return {
        "steps": taken,
        "loss": loss,
        "errors": 1 - accuracy(network, x_test, t_test),
        "test_loss": _loss(network, x_test, t_test, fit=False),
        "raw_top": float(top_eigenvalues(network, x, t, 1).values[0]),
        "relative_top": float(relative_eigenvalues(network, x, t, 1).values[0]),
        "distance": distance(network, start),
    }


@torch.no_grad()
def _loss(network: DenseNetwork, x, t, *, fit: bool = True) -> float:
    if fit:
        network.fit(x)
    network.eval()
    loss = functional.cross_entropy(network(x), t).item()
    network.train()
    return loss


NOISE = Experiment(
    part="optimization",
    name="landscape_noise",
    run=noise_run,
    settings=[
        {"treatment": treatment, "rate": rate, "seed": seed, "data": "digits"}
        for treatment in TREATMENTS
        for rate in RATES
        for seed in SEEDS
    ],
)
SMOOTHNESS = Experiment(
    part="optimization",
    name="landscape_smoothness",
    run=smoothness_run,
    settings=[
        {"kind": kind, "seed": seed, "data": "digits"}
        for kind in ("plain", "norm")
        for seed in range(6)
    ],
)
SHARPNESS = Experiment(
    part="optimization",
    name="landscape_sharpness",
    run=sharpness_run,
    settings=[
        {"rate": rate, "batch": batch, "seed": seed, "data": "digits"}
        for seed in range(8)
        for rate in (0.03, 0.1, 0.3, 1.0)
        for batch in (15, 60, 300)
    ],
)
EXPERIMENTS = (NOISE, SMOOTHNESS, SHARPNESS)
