"""The mean gradient of all minibatches, against the gradient of the population."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.images import images
from bnbook.estimation.minibatch import BatchRenorm, set_renorm_limits
from bnbook.estimation.minibatch_runs import (
    SEEDS,
    UNLIMITED,
    set_population,
    small_network,
)
from bnbook.experiments import Experiment
from bnbook.optimization.descent import tensors

POPULATION = 1024  # examples that are the whole population of `gradient_bias`


def flat_gradient(model: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Gradient of the mean loss by all parameters, (parameters,)."""
    loss = functional.cross_entropy(model(x), t)
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def squared_mean(samples: torch.Tensor) -> torch.Tensor:
    """Squared length of the mean of vectors, free of the bias that their noise adds.

    It is the mean of ⟨a, b⟩ over pairs of different vectors, and may be negative.

    Args:
        samples: (K, D), independent; a single one is taken to be without noise.
    """
    count, square = len(samples), samples.mean(0).square().sum()
    if count == 1:
        return square
    own = samples.square().sum()
    return (count**2 * square - own) / (count * (count - 1))


def gradient_bias(
    *,
    data: str,
    network: str,
    activation: str,
    method: str,
    microbatch: int,
    trained: int,
    seed: int,
    repeats: int = 12,
) -> dict[str, float]:
    """Mean gradient of microbatches against the gradient of the population, 1024 images.

    Args:
        data, network, seed: as for `train_grouped`; pixels lie between 0 and 1 here.
        activation: as for `small_network`.
        method: "batch"; "renorm" without limits, with the statistics of the population;
            or "frozen": the same values, and no gradient through the statistics.
        microbatch: M, a divisor of 1024. For "frozen" it changes nothing.
        trained: updates by full batches before, at rate 0.1.
        repeats: partitions of the population into microbatches; their mean gradient is
            taken each.

    Returns:
        bias: squared length of E g − G over that of G, estimated without a bias of its
        own, so it may be negative; along: the component of E g along G, over the length
        of G.
    """
    dataset = images(data, seed)
    x, t = tensors(dataset.train)
    x, t = x[:POPULATION] / x.max(), t[:POPULATION]
    model = small_network(
        network,
        x.shape[1],
        dataset.classes,
        activation=activation,
        seed=seed,
        dtype=torch.float64,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(trained):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), t).backward()
        optimizer.step()
    truth = flat_gradient(model, x, t)
    set_population(model, x)
    if method == "frozen":
        model.eval()
    if method == "renorm":
        set_renorm_limits(model, UNLIMITED)
    for layer in model:
        if isinstance(layer, BatchRenorm):
            layer.microbatch, layer.momentum = microbatch, 1e-300  # statistics stay
    rng, found = np.random.default_rng(seed), []
    for _ in range(1 if microbatch == POPULATION or method == "frozen" else repeats):
        order = rng.permutation(len(x))
        found.append(flat_gradient(model, x[order], t[order]))
    off = torch.stack(found) - truth
    square = truth.square().sum()
    return {
        "bias": (squared_mean(off) / square).item(),
        "along": (1 + off.mean(0) @ truth / square).item(),
    }


BIAS_SIZES = {
    "dense": (2, 4, 8, 16, 32, 64, 128, 256, 512),
    "conv": (1, 2, 4, 16, 64, 256),
}


def _bias() -> list[dict]:
    kinds = (("dense", "ReLU"), ("dense", "tanh"), ("conv", "ReLU"))
    groups = [
        (*kind, method, size)
        for kind in kinds
        for method in ("batch", "renorm")
        for size in BIAS_SIZES[kind[0]]
    ]
    groups += [(*kind, "frozen", POPULATION) for kind in kinds]
    names = "data network activation method microbatch trained seed".split()
    return [
        dict(zip(names, ("digits", *group, 20, seed), strict=True))
        for group, seed in itertools.product(groups, SEEDS)
    ]


BIAS = Experiment(
    part="estimation", name="minibatch_bias", run=gradient_bias, settings=_bias()
)
EXPERIMENTS = (BIAS,)
