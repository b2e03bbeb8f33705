"""Training in microbatches on images of digits.

Every update of a network sees the same 160 examples, 16 of each class, whatever the
microbatch. Only their grouping for the normalization differs, so that the noise of the
optimization does not change with it.
"""

import copy
import itertools
import math

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.images import images
from bnbook.estimation.minibatch import (
    BatchRenorm,
    RenormLimits,
    renorm_limits,
    set_renorm_limits,
)
from bnbook.experiments import Experiment
from bnbook.optimization.descent import accuracy, tensors

NETWORKS = ("dense", "conv", "deep")
ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
METHODS = ("batch", "renorm", "unlimited")
SHOWN = {
    "batch": "batch normalization",
    "renorm": "batch renormalization",
    "unlimited": "no limits, no warm-up",
}
PER_CLASS, STEPS = 16, 240
BATCH_NORM = RenormLimits(1.0, 0.0)
UNLIMITED = RenormLimits(math.inf, math.inf)


def small_network(
    kind: str,
    inputs: int,
    classes: int,
    *,
    microbatch: int | None = None,
    activation: str = "ReLU",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A network with normalizations, `BatchRenorm` with the limits of batch normalization.

    Args:
        kind: "dense", two hidden layers of 32; "deep", twelve of them; or "conv", 8 and
            16 channels of 3 × 3 kernels, the second with stride 2. All end with one
            linear layer.
        inputs: pixels of a square image, in rows.
        classes: number of outputs.
        microbatch: of each normalization.
        activation: a name in `ACTIVATIONS`.
        seed: of the weights, normal with variance 2/fan-in.
        dtype: of all parameters.

    Raises:
        ValueError: kind or activation is unknown, or the images are not square.
    """
    if kind not in NETWORKS or activation not in ACTIVATIONS:
        raise ValueError(
            f"kind must be one of {NETWORKS} and activation one of {(*ACTIVATIONS,)}, "
            f"got {kind!r} and {activation!r}"
        )
    side = math.isqrt(inputs)
    if kind == "conv" and side**2 != inputs:
        raise ValueError(f"the images must be square, got {inputs} pixels")

    act = ACTIVATIONS[activation]

    def norm(width):
        return BatchRenorm(
            width, r_max=1.0, d_max=0.0, microbatch=microbatch, dtype=dtype
        )

    if kind != "conv":
        widths, layers = [inputs, *[32] * (12 if kind == "deep" else 2)], []
        for before, width in itertools.pairwise(widths):
            layers += [nn.Linear(before, width, bias=False), norm(width), act()]
        layers += [nn.Linear(32, classes)]
    else:
        half = (side + 1) // 2
        layers = [nn.Unflatten(1, (1, side, side))]
        layers += [nn.Conv2d(1, 8, 3, padding=1, bias=False), norm(8), act()]
        layers += [nn.Conv2d(8, 16, 3, 2, padding=1, bias=False), norm(16), act()]
        layers += [nn.Flatten(), nn.Linear(16 * half**2, classes)]
    network = nn.Sequential(*layers).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                scale = math.sqrt(2 / layer.weight[0].numel())
                drawn = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(drawn * scale)
        network[-1].bias.zero_()
    return network


def grouped_rows(
    t: np.ndarray, per_class: int, mixed: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows of an update: as many of each class, in microbatches of `mixed` classes each.

    Args:
        t: class numbers, (N,).
        per_class: examples of each class, and also the size of a microbatch that
            `mixed` groups.
        mixed: classes in a microbatch of per_class examples, a divisor of both the
            number of classes and per_class; 0 for a random order of all.
        rng: source of the draws.

    Returns:
        Row numbers, (classes · per_class,).

    Raises:
        ValueError: mixed does not divide, or a class has too few examples.
    """
    classes = int(t.max()) + 1
    if np.bincount(t, minlength=classes).min() < per_class:
        raise ValueError(f"every class needs {per_class} examples; lower per_class")
    if mixed and (classes % mixed or per_class % mixed):
        raise ValueError(
            f"mixed must divide {classes} and {per_class}, or be 0, got {mixed}"
        )
    drawn = np.array(
        [
            rng.choice(np.flatnonzero(t == c), per_class, replace=False)
            for c in range(classes)
        ]
    )
    if not mixed:
        return rng.permutation(drawn.ravel())
    # Each class gives an equal part of its examples to `mixed` microbatches.
    parts = drawn.reshape(classes, mixed, -1)
    turns = [parts[rng.permutation(classes), turn] for turn in range(mixed)]
    return np.concatenate(turns).ravel()


def set_population(network: nn.Sequential, x: torch.Tensor) -> None:
    """Give each normalization the mean and biased variance of its input, layer by layer."""
    was = network.training
    network.eval()
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, BatchRenorm):
                over = [0, *range(2, x.ndim)]
                layer.running_mean.copy_(x.mean(over))
                layer.running_var.copy_(x.var(over, correction=0))
            x = layer(x)
    network.train(was)


@torch.no_grad()
def norm_inputs(network: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """Input of each normalization in evaluation mode, (N, C, P) with P positions."""
    found, was = [], network.training
    for layer in network.eval():
        if isinstance(layer, BatchRenorm):
            found.append(x.reshape(*x.shape[:2], -1))
        x = layer(x)
    network.train(was)
    return found


@torch.no_grad()
def mode_gaps(network: nn.Sequential, x: torch.Tensor, microbatch: int) -> list[float]:
    """How far training mode is from evaluation mode, after each normalization.

    Args:
        network: as `small_network` gives it; it is left as it is.
        x: examples, a multiple of the microbatch.
        microbatch: M, in training mode.

    Returns:
        Root mean square of the difference over that of the values in evaluation mode.
    """
    network = copy.deepcopy(network)
    trained, evaluated, found = x, x, []
    for layer in network:
        evaluated = layer.eval()(evaluated)
        if isinstance(layer, BatchRenorm):
            layer.microbatch = microbatch
        trained = layer.train()(trained)
        if isinstance(layer, BatchRenorm):
            gap = (trained - evaluated).square().mean() / evaluated.square().mean()
            found.append(gap.sqrt().item())
    return found


def train_grouped(
    *,
    data: str,
    network: str,
    method: str,
    microbatch: int,
    mixed: int,
    rate: float,
    seed: int,
    steps: int = STEPS,
) -> dict[str, float]:
    """Train by SGD with momentum 0.9, normalizing in microbatches.

    Args:
        data: a name in `bnbook.data.images.NAMES`.
        network: a name in `NETWORKS`.
        method: "batch"; "renorm", with the limits of `renorm_limits` that start to grow
            after an eighth of the steps and are full at half; or "unlimited".
        microbatch: M.
        mixed: classes in a microbatch, as for `grouped_rows`; 0 for independent examples.
        rate: learning rate.
        seed: of the data, the weights and the batches.
        steps: number of updates.

    Returns:
        validation, test: accuracy by the running statistics; grouped: test accuracy in
        training mode, in microbatches like those of training; repaired: test accuracy by
        the statistics of the whole training set; diverged: whether the loss became
        infinite or NaN, which ends the run with the accuracy of chance.
    """
    dataset = images(data, seed).standardized()
    (x, t), (xv, tv), (xt, tt) = (
        tensors(part, torch.float32)
        for part in (dataset.train, dataset.validation, dataset.test)
    )
    model = small_network(
        network, x.shape[1], dataset.classes, microbatch=microbatch, seed=seed
    )
    if method == "unlimited":
        set_renorm_limits(model, UNLIMITED)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if method == "renorm":
            limits = renorm_limits(
                step, start=steps // 8, r_end=steps // 2, d_end=steps // 2
            )
            set_renorm_limits(model, limits)
        rows = grouped_rows(dataset.train.t, PER_CLASS, mixed, rng)
        loss = functional.cross_entropy(model(x[rows]), t[rows])
        if not torch.isfinite(loss):
            chance = 1 / dataset.classes
            names = ("validation", "test", "grouped", "repaired")
            return {**dict.fromkeys(names, chance), "diverged": True}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = {"validation": accuracy(model, xv, tv), "test": accuracy(model, xt, tt)}
    hits, probe = [], copy.deepcopy(model).train()
    with torch.no_grad():
        for _ in range(10):
            rows = grouped_rows(dataset.test.t, PER_CLASS, mixed, rng)
            hits.append((probe(xt[rows]).argmax(1) == tt[rows]).double().mean().item())
    set_population(model, x)
    return {
        **found,
        "grouped": float(np.mean(hits)),
        "repaired": accuracy(model, xt, tt),
        "diverged": False,
    }


def chosen(results: pd.DataFrame, **setting: object) -> pd.DataFrame:
    """The runs of a setting at the rate with the best mean validation accuracy, by seed.

    Raises:
        ValueError: there is no such run.
    """
    runs = results
    for name, value in setting.items():
        runs = runs[runs[name] == value]
    if runs.empty:
        raise ValueError(f"no run with {setting}")
    rate = runs.groupby("rate").validation.mean().idxmax()
    return runs[runs.rate == rate].sort_values("seed").set_index("seed")


SIZES = {"dense": (2, 4, 8, 16, 160), "conv": (1, 2, 16, 160), "deep": (4, 16)}
MIXED = {"dense": (1, 2), "conv": (1,), "deep": ()}
RATES, SEEDS = (0.02, 0.1), range(6)


def _training() -> list[dict]:
    """Each method on each network: by size of the microbatch, and by classes in it."""
    groups = [
        (network, method, size, 0)
        for network in NETWORKS
        for method, size in itertools.product(METHODS[:2], SIZES[network])
    ]
    groups += [
        (network, method, PER_CLASS, mixed)
        for network in NETWORKS
        for method, mixed in itertools.product(METHODS[:2], MIXED[network])
    ]
    groups += [("dense", "unlimited", size, 0) for size in (2, 16)]
    names = "data network method microbatch mixed rate seed".split()
    return [
        dict(zip(names, ("digits", *group, rate, seed), strict=True))
        for group, rate, seed in itertools.product(groups, RATES, SEEDS)
    ]


TRAINING = Experiment(
    part="estimation",
    name="minibatch_training",
    run=train_grouped,
    settings=_training(),
)
EXPERIMENTS = (TRAINING,)
