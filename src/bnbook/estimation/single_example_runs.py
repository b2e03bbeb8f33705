"""The long runs of the chapter on single examples: errors of gradients."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from bnbook.data.images import images
from bnbook.estimation.gradient_error import (
    by_layer,
    calibrate,
    choose,
    example_gradients,
    full_gradient,
    gradient_error,
    network,
    train_exactly,
    unchanged,
    weighted_layers,
)
from bnbook.estimation.single_example_dependence import (
    dependence,
    second_moment_edges,
)
from bnbook.experiments import Experiment, Row

SEEDS = tuple(range(8))
ROTATION_SEEDS = tuple(range(24))  # of what compares rotations
SHRINKAGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
CAPS = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, math.inf)  # 0: no scaling by S/Q
CAP_PAIRS = ((0.0, 1.0), (0.5, 1.0), (1.0, 1.0))
PAIR_CAPS = (1.5, 2.0, 4.0, math.inf)
BATCHES = (2, 4, 8, 16, 32, 64)
# Width, learning rate and number of updates of exact batch normalization.
PLAN = {"convolutional": (8, 0.5, 40), "dense": (32, 0.1, 20)}


def cap(f_max: float) -> float | None:
    """The argument of the layer: 0 in a file of results means no scaling."""
    return None if f_max == 0 else f_max


def population(
    kind: str, rotation: str, trained: bool, data: str, examples: int, seed: int
) -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """A network at its start or after exact training, and the examples that are its
    whole data; their pixels have mean 0 and variance 1 together."""
    part = images(data).train
    rng = np.random.default_rng([seed, 1])
    chosen = rng.choice(len(part.x), examples, replace=False)
    x = torch.tensor(part.x[chosen], dtype=torch.float64)
    x = (x - x.mean()) / x.std()
    t = torch.tensor(part.t[chosen], dtype=torch.int64)
    width, rate, steps = PLAN[kind]
    model = network(
        kind,
        x.shape[1],
        int(part.t.max()) + 1,
        rotation=None if rotation == "none" else rotation,
        width=width,
        seed=seed,
    )
    train_exactly(model, x, t, steps=steps if trained else 0, rate=rate)
    return model, x, t


def shrinkage_rows(
    *, kind: str, rotation: str, trained: bool, data: str, examples: int, seed: int
) -> list[Row]:
    """Bias, variance and cosine for every pair (r_m, r_v) at f_max = 2."""
    model, x, t = population(kind, rotation, trained, data, examples, seed)
    truth, rows = full_gradient(model, x, t), []
    for r_m in SHRINKAGES:
        for r_v in SHRINKAGES:
            found = example_gradients(model, x, t, r_m=r_m, r_v=r_v, f_max=2.0)
            error = gradient_error(found, truth)
            rows.append({"r_m": r_m, "r_v": r_v} | vars(error))
    return rows


def cap_rows(
    *, kind: str, rotation: str, trained: bool, data: str, examples: int, seed: int
) -> list[Row]:
    """The same for every cap at r_m = r_v = 1, with the share of factors it changes in
    each layer, and the bias of the weights of each layer."""
    model, x, t = population(kind, rotation, trained, data, examples, seed)
    truth, rows = full_gradient(model, x, t), []
    parts = by_layer(model, truth)
    squares = example_squares(model, x)
    for f_max in CAPS:
        found = example_gradients(model, x, t, r_m=1.0, r_v=1.0, f_max=cap(f_max))
        row = {"f_max": f_max} | vars(gradient_error(found, truth))
        for number, (part, g) in enumerate(
            zip(by_layer(model, found), parts, strict=True), 1
        ):
            row[f"bias_{number}"] = gradient_error(part, g).bias
            inverse = squares[number - 1]
            row[f"capped_{number}"] = (
                (inverse > f_max).double().mean().item() if f_max else 0.0
            )
        rows.append(row)
    return rows


def cap_pair_rows(
    *, kind: str, rotation: str, trained: bool, data: str, examples: int, seed: int
) -> list[Row]:
    """Bias, variance and cosine for some pairs (r_m, r_v) and caps."""
    model, x, t = population(kind, rotation, trained, data, examples, seed)
    truth, rows = full_gradient(model, x, t), []
    for r_m, r_v in CAP_PAIRS:
        for f_max in PAIR_CAPS:
            found = example_gradients(model, x, t, r_m=r_m, r_v=r_v, f_max=f_max)
            error = gradient_error(found, truth)
            rows.append({"r_m": r_m, "r_v": r_v, "f_max": f_max} | vars(error))
    return rows


def dependence_rows(
    *, kind: str, rotation: str, trained: bool, data: str, examples: int, seed: int
) -> list[Row]:
    """How far J_n(W, S) and J_n(S, L) depend on one another, mean over the channels of
    each layer: as they are, and with J_n(W, S) times S/Q, capped at 2."""
    model, x, t = population(kind, rotation, trained, data, examples, seed)
    rows = []
    for number, edges in enumerate(second_moment_edges(model, x, t), 1):
        factor = edges.ratio.clamp(max=2.0)[:, :, None]
        plain, scaled = (
            dependence(edges.slope, part).mean().item()
            for part in (edges.contribution, factor * edges.contribution)
        )
        rows.append({"layer": number, "plain": plain, "scaled": scaled})
    return rows


@torch.no_grad()
def example_squares(model: torch.nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """S/Q of every example and channel, (N, C) for each normalization."""
    ratios, layers = [], [*model]
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        x = layer.eval()(x)
        if layer in weighted_layers(model):
            p = x - after.running_mean.reshape(1, -1, *[1] * (x.ndim - 2))
            q = (p**2).flatten(2).mean(2) if x.ndim > 2 else p**2
            ratios.append(after.running_var / q)
    return ratios


def batch_rows(
    *, kind: str, trained: bool, data: str, examples: int, draws: int, seed: int
) -> list[Row]:
    """Error of batch normalization, and of μ‡, ν‡, in batches drawn with replacement.

    The bias is estimated without the part that the finite number of draws adds.
    """
    model, x, t = population(kind, "none", trained, data, examples, seed)
    truth, rows = full_gradient(model, x, t), []
    weights = [layer.weight for layer in weighted_layers(model)]
    rng = np.random.default_rng([seed, 2])
    for batch in BATCHES:
        picks = [torch.tensor(rng.integers(0, examples, batch)) for _ in range(draws)]
        for method in ("batch norm", "improved renormalization"):
            found = []
            for pick in picks:
                choose(model, interaction="batch", r_m=1.0, r_v=1.0, f_max=2.0)
                with unchanged(model):
                    if method == "batch norm":
                        calibrate(model, x[pick])  # normalized by its own statistics
                    loss = F.cross_entropy(model.train()(x[pick]), t[pick])
                grads = torch.autograd.grad(loss, weights)
                found.append(torch.cat([g.flatten() for g in grads]))
            error = gradient_error(torch.stack(found), truth)
            variance = error.variance * draws / (draws - 1)
            rows.append(
                {
                    "method": method,
                    "batch": batch,
                    "bias_square": error.bias**2 - variance / draws,
                    "variance": variance,
                    "cosine": error.cosine,
                }
            )
    return rows


def _settings(
    rotations: tuple[str, ...], kinds=tuple(PLAN), seeds: tuple[int, ...] = SEEDS
) -> list[Row]:
    return [
        {
            "kind": kind,
            "rotation": rotation,
            "trained": trained,
            "data": "digits",
            "examples": 256,
            "seed": seed,
        }
        for kind in kinds
        for rotation in rotations
        for trained in (False, True)
        for seed in seeds
    ]


SHRINKAGE_MAP = Experiment(
    "estimation",
    "single_example_shrinkage",
    shrinkage_rows,
    _settings(("none", "hadamard")),
)
CAP_MAP = Experiment(
    "estimation",
    "single_example_cap",
    cap_rows,
    _settings(("none", "hadamard", "random"), seeds=ROTATION_SEEDS),
)
CAP_PAIR_MAP = Experiment(
    "estimation",
    "single_example_cap_pairs",
    cap_pair_rows,
    _settings(("none", "hadamard")),
)
DEPENDENCE_MAP = Experiment(
    "estimation",
    "single_example_dependence",
    dependence_rows,
    _settings(("none", "hadamard", "random"), ("convolutional",), ROTATION_SEEDS),
)
BATCH_MAP = Experiment(
    "estimation",
    "single_example_batch",
    batch_rows,
    [
        {
            "kind": kind,
            "trained": True,
            "data": "digits",
            "examples": 256,
            "draws": 100,
            "seed": seed,
        }
        for kind in PLAN
        for seed in SEEDS[:5]
    ],
)
EXPERIMENTS = (SHRINKAGE_MAP, CAP_MAP, BATCH_MAP, CAP_PAIR_MAP, DEPENDENCE_MAP)
