"""Training by the gradients of single examples, with their bias measured on the way."""

import copy
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnbook.data.images import images
from bnbook.estimation.gradient_error import (
    calibrate,
    choose,
    example_gradients,
    full_gradient,
    gradient_error,
    network,
)
from bnbook.estimation.single_example_runs import PLAN, SEEDS, cap
from bnbook.experiments import Diverged, Experiment, Row
from bnbook.optimization.descent import accuracy

Parts = dict[str, tuple[torch.Tensor, torch.Tensor]]
PAIRS = ((1.0, 1.0), (0.5, 0.5), (0.0, 0.8), (0.0, 0.0))
RATE = 0.05
MEASURED = (0, 20, 80, 160, 263)  # updates made before a measurement; 264 in all
EXAMPLES = 256  # of a measurement
SINGLE, BATCH = "single examples", "batch norm"


def start(data: str, rotation: str, seed: int) -> tuple[nn.Sequential, Parts]:
    """The convolutional network, and pictures and labels of each part of the data; the
    pixels of the training part have mean 0 and variance 1 together."""
    dataset = images(data).parts()
    seen = torch.tensor(dataset["train"].x, dtype=torch.float64)
    shift, scale = seen.mean(), seen.std()
    parts = {
        name: (
            (torch.tensor(part.x, dtype=torch.float64) - shift) / scale,
            torch.tensor(part.t, dtype=torch.int64),
        )
        for name, part in dataset.items()
    }
    model = network(
        "convolutional",
        seen.shape[1],
        10,
        rotation=None if rotation == "none" else rotation,
        width=PLAN["convolutional"][0],
        seed=seed,
    )
    return model, parts


def updates(
    model: nn.Sequential,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    rate: float,
    epochs: int,
    seed: int,
    own_statistics: bool = False,
) -> Iterator[int]:
    """SGD with momentum 0.9 in steps of 32 examples; pauses before each update.

    Args:
        model, x, t: network with its options chosen, training pictures, labels.
        rate: learning rate.
        epochs: passes over the data.
        seed: of their order.
        own_statistics: whether each batch is normalized by its own statistics.

    Yields:
        The number of updates made so far.

    Raises:
        Diverged: the loss is not finite.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    rng, step = np.random.default_rng([seed, 3]), 0
    for _ in range(epochs):
        for chosen in np.array_split(rng.permutation(len(x)), len(x) // 32):
            yield step
            pick = torch.from_numpy(chosen)
            if own_statistics:
                calibrate(model, x[pick])
            loss = F.cross_entropy(model.train()(x[pick]), t[pick])
            if not torch.isfinite(loss):
                raise Diverged(step=step, learning_rate=rate)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def training_row(
    *,
    rotation: str,
    r_m: float,
    r_v: float,
    f_max: float,
    u_max: float,
    epochs: int,
    data: str,
    seed: int,
    rate: float = RATE,
) -> Row:
    """Test accuracy after training by single-example gradients; the running statistics
    start at those of the training data."""
    model, parts = start(data, rotation, seed)
    choose(model, interaction="example", r_m=r_m, r_v=r_v)
    choose(model, f_max=cap(f_max), u_max=None if math.isinf(u_max) else u_max)
    calibrate(model, parts["train"][0])
    for _ in updates(model, *parts["train"], rate=rate, epochs=epochs, seed=seed):
        pass
    return {"test": accuracy(model, *parts["test"])}


def rate_row(
    *,
    method: str,
    rotation: str,
    r_m: float,
    r_v: float,
    rate: float,
    epochs: int,
    data: str,
    seed: int,
) -> Row:
    """The same with another learning rate, or by batch normalization over the 32 examples
    of a step; its statistics at inference are those of the training data."""
    if method == SINGLE:
        return training_row(
            rotation=rotation,
            r_m=r_m,
            r_v=r_v,
            f_max=2.0,
            u_max=5.0,
            epochs=epochs,
            data=data,
            seed=seed,
            rate=rate,
        )
    model, parts = start(data, rotation, seed)
    choose(model, interaction="batch", r_m=1.0, r_v=1.0, f_max=None, u_max=None)
    options = {"rate": rate, "epochs": epochs, "seed": seed}
    for _ in updates(model, *parts["train"], **options, own_statistics=True):
        pass
    calibrate(model, parts["train"][0])
    return {"test": accuracy(model, *parts["test"])}


def along_rows(
    *, rotation: str, r_m: float, r_v: float, data: str, seed: int
) -> list[Row]:
    """How the gradient errs during training: measured on 256 training pictures, with
    their statistics. `length` is ‖E ĝ‖/‖g‖, `share` is (E ĝ)·g/‖g‖²."""
    model, parts = start(data, rotation, seed)
    x, t = parts["train"]
    choose(model, interaction="example", r_m=r_m, r_v=r_v, f_max=2.0, u_max=5.0)
    calibrate(model, x)
    chosen = np.random.default_rng([seed, 1]).choice(len(x), EXAMPLES, replace=False)
    x_seen, t_seen = x[chosen], t[chosen]
    rows = []
    for step in updates(model, x, t, rate=RATE, epochs=8, seed=seed):
        if step not in MEASURED:
            continue
        twin = copy.deepcopy(model)
        calibrate(twin, x_seen)
        with torch.no_grad():
            loss = F.cross_entropy(twin.eval()(x_seen), t_seen).item()
        truth = full_gradient(twin, x_seen, t_seen)
        found = example_gradients(twin, x_seen, t_seen, r_m=r_m, r_v=r_v, f_max=2.0)
        error = gradient_error(found, truth)
        length = (found.mean(0).norm() / truth.norm()).item()
        rows.append(
            {"step": step, "loss": loss}
            | vars(error)
            | {"length": length, "share": error.cosine * length}
        )
    return rows


_COMMON = {"epochs": 8, "data": "digits"}

TRAINING = Experiment(
    "estimation",
    "single_example_training",
    training_row,
    [
        {
            "rotation": rotation,
            "r_m": r_m,
            "r_v": r_v,
            "f_max": f_max,
            "u_max": u_max,
            **_COMMON,
            "seed": seed,
        }
        for rotation in ("none", "hadamard")
        for r_m, r_v, f_max, u_max in (
            *((1.0, 1.0, f, 5.0) for f in (0.0, 1.0, 1.5, 2.0, 4.0, math.inf)),
            *((1.0, 1.0, 2.0, u) for u in (2.0, math.inf)),
            *((r_m, r_v, 2.0, 5.0) for r_m, r_v in PAIRS[1:]),
        )
        for seed in SEEDS[:5]
    ],
)
RATES = Experiment(
    "estimation",
    "single_example_rates",
    rate_row,
    [
        {
            "method": method,
            "rotation": rotation,
            "r_m": r_m,
            "r_v": r_v,
            "rate": rate,
            **_COMMON,
            "seed": seed,
        }
        for method, rotation, pairs, rates in (
            (BATCH, "none", PAIRS[:1], (RATE, 0.15, 0.5)),
            (SINGLE, "none", PAIRS, (0.15, 0.5)),  # RATE: in TRAINING
            (SINGLE, "hadamard", PAIRS, (0.15, 0.5)),
        )
        for r_m, r_v in pairs
        for rate in rates
        for seed in SEEDS[:5]
    ],
)
ALONG = Experiment(
    "estimation",
    "single_example_along",
    along_rows,
    [
        {
            "rotation": rotation,
            "r_m": r_m,
            "r_v": r_v,
            "data": "digits",
            "seed": seed,
        }
        for rotation in ("none", "hadamard")
        for r_m, r_v in PAIRS
        for seed in SEEDS[:5]
    ],
)
EXPERIMENTS = (TRAINING, RATES, ALONG)
