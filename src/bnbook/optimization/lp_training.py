"""Networks on images with eight Lp normalizations and with none: rates, norms, Hessian."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.images import images
from bnbook.experiments import Experiment
from bnbook.optimization.dense import DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors
from bnbook.optimization.hessian import top_eigenvalues
from bnbook.optimization.lp_gaussian import largest_of, matching_factor
from bnbook.optimization.lp_norms import LpNorm

ORDERS = {"L1": 1.0, "L2": 2.0, "L3": 3.0, "L∞": math.inf}
VARIANTS: Mapping[str, Callable[[int], nn.Module] | None] = {
    **{
        f"{name} {how}": functools.partial(LpNorm, p=p, centred=how == "centred")
        for how in ("centred", "uncentred")
        for name, p in ORDERS.items()
    },
    "none": None,
}
HIDDEN = (32,) * 6
RATES = (0.18, 0.32, 0.56, 1.0, 1.8, 3.2, 5.6, 10.0)
SEEDS = (0, 1, 2, 3, 4)
NEW_SEEDS = tuple(range(5, 10))  # of the sweep over the starting γ
MANY_SEEDS = tuple(range(5, 15))  # of uncentred L∞ and of none there
UNDECIDED = ("L∞ uncentred", "none")
GAMMAS = ("one", "matched")
SWEEP_STEPS = 80
RATE, STEPS = 0.32, 200
LEVEL = 0.1  # the training loss at which curvatures are compared as well
GOOD = 0.75  # validation accuracy
SHOWN = 10  # eigenvalues
CHECKPOINTS = (0, 5, 10, 20, 40, 60, 80, 120, 160, 200)


def make_network(variant: str, inputs: int, classes: int, seed: int) -> DenseNetwork:
    """The network of a variant; with the same seed all variants start from equal weights.

    Raises:
        ValueError: the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"unknown variant {variant!r}; use one of {', '.join(VARIANTS)}"
        )
    widths = (inputs, *HIDDEN, classes)
    return DenseNetwork(widths, normalization=VARIANTS[variant], seed=seed)


def _start(data: str, variant: str, seed: int):
    found = images(data, seed=0).standardized()
    network = make_network(variant, len(found.features), found.classes, seed)
    return network, tensors(found.train), tensors(found.validation)


def matched_gamma(variant: str, examples: int) -> float:
    """The γ that undoes the constant of a norm: s/σ of Gaussian data of mean 0.

    With it the outputs of every norm start with mean square near 1, as those of L2 do.

    Args:
        variant: a name in `VARIANTS`, not "none".
        examples: in the batch, at least 1; only the constant of L∞ depends on it.

    Raises:
        ValueError: the variant is no norm, or examples is below 1.
    """
    p = ORDERS.get(variant.partition(" ")[0])
    if variant not in VARIANTS or p is None:
        norms = ", ".join(name for name in VARIANTS if name != "none")
        raise ValueError(f"{variant!r} is no normalization; use one of {norms}")
    return largest_of(examples) if math.isinf(p) else 1 / matching_factor(p)


def _match(network: DenseNetwork, variant: str, examples: int) -> None:
    start = matched_gamma(variant, examples)
    for layer in network.norms:
        nn.init.constant_(layer.weight, start)


def train_at(
    data: str, variant: str, rate: float, seed: int, gamma: str = "one"
) -> dict:
    """Train by gradient descent on all examples for `SWEEP_STEPS` steps.

    Args:
        data: a name in `bnbook.data.images.NAMES`.
        variant: a name in `VARIANTS`.
        rate: learning rate of all parameters.
        seed: of the weights.
        gamma: "one": γ starts at 1; "matched": at `matched_gamma`.

    Returns:
        the training loss before the last step, and the validation accuracy.

    Raises:
        Diverged: a loss is not finite.
        ValueError: variant or gamma is unknown, or "none" is to be matched.
    """
    if gamma not in GAMMAS:
        raise ValueError(f"unknown gamma {gamma!r}; use one of {', '.join(GAMMAS)}")
    network, (x, t), held = _start(data, variant, seed)
    if gamma == "matched":
        _match(network, variant, len(x))
    losses = descend(network, x, t, rate=rate, steps=SWEEP_STEPS)
    network.fit(x)
    return {"loss": losses[-1], "validation": accuracy(network, *held)}


def vector(network: nn.Module) -> torch.Tensor:
    """A copy of all parameters in one vector."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


@torch.no_grad()
def set_row_norms(network: DenseNetwork, norm: float = 1.0) -> None:
    """Rescale each neuron of the hidden layers, in place: ‖(w, b)‖ = norm.

    Where the layer is normalized, and ε = 0, the network computes the same function.

    Raises:
        ValueError: the network is not normalized, or norm is not positive.
    """
    if not network.normalized:
        raise ValueError("without normalization the function would change")
    if not 0 < norm < math.inf:
        raise ValueError(f"norm must be positive and finite, got {norm}")
    for linear in network.linears[:-1]:
        lengths = torch.cat([linear.weight, linear.bias[:, None]], 1).norm(dim=1)
        linear.weight.mul_(norm / lengths[:, None])
        linear.bias.mul_(norm / lengths)


def train_and_measure(data: str, variant: str, rate: float, seed: int) -> list[dict]:
    """Train for `STEPS` steps; one row for each step in `CHECKPOINTS`.

    Columns: step; loss; distance of all parameters from their start; and in the last row
    only: validation accuracy; the largest eigenvalues lambda_1 … of the Hessian; `unit`,
    the largest after `set_row_norms`, which changes nothing in the function of a normalized
    network; `level_step` and `level`, step and largest eigenvalue when the loss first was
    at most `LEVEL`.

    Raises:
        Diverged: a loss is not finite.
    """
    network, (x, t), held = _start(data, variant, seed)
    start, seen, level = vector(network), [], {}

    def watch(step: int, loss: float) -> None:
        if step in CHECKPOINTS:
            distance = (vector(network) - start).norm().item()
            seen.append({"step": step, "loss": loss, "distance": distance})
        if loss <= LEVEL and not level:
            level["level_step"] = step
            level["level"] = float(top_eigenvalues(network, x, t, 1).values[0])

    descend(network, x, t, rate=rate, steps=STEPS, watch=watch)
    watch(STEPS, functional.cross_entropy(network(x), t).item())
    values = top_eigenvalues(network, x, t, SHOWN).values
    network.fit(x)
    last = {"validation": accuracy(network, *held), "unit": math.nan}
    last |= {f"lambda_{n}": float(v) for n, v in enumerate(values, 1)}
    last |= {"level_step": math.nan, "level": math.nan} | level
    if network.normalized:
        set_row_norms(network)
        last["unit"] = float(top_eigenvalues(network, x, t, 1).values[0])
    gaps = dict.fromkeys(last, math.nan)
    return [row | (last if row["step"] == STEPS else gaps) for row in seen]


def train_matched(data: str, norm: str, rate: float, seed: int) -> dict:
    """Train for `STEPS` steps with a centred norm whose γ starts at s/σ of Gaussian data,
    so that the outputs of every order start with variance near 1.

    Returns:
        the training loss before the last step, and the validation accuracy.

    Raises:
        Diverged: a loss is not finite.
        ValueError: the norm is unknown.
    """
    if norm not in ORDERS:
        raise ValueError(f"unknown norm {norm!r}; use one of {', '.join(ORDERS)}")
    network, (x, t), held = _start(data, f"{norm} centred", seed)
    _match(network, f"{norm} centred", len(x))
    losses = descend(network, x, t, rate=rate, steps=STEPS)
    network.fit(x)
    return {"loss": losses[-1], "validation": accuracy(network, *held)}


def largest_good(
    sweep: pd.DataFrame, variant: str, *, good: float = GOOD
) -> np.ndarray:
    """The largest rate of each seed with a validation accuracy of at least `good`.

    Args:
        sweep: as `LP_RATES.load()` returns it.
        variant: a name in `VARIANTS`.
        good: between 0 and 1.

    Raises:
        ValueError: there is no run of this variant, or a seed has no good rate.
    """
    runs = sweep[sweep.variant == variant]
    if runs.empty:
        raise ValueError(f"no run of {variant!r}; use one of {', '.join(VARIANTS)}")
    rates = runs[runs.validation >= good].groupby("seed").rate.max()
    if len(rates) < runs.seed.nunique():
        raise ValueError(f"a seed of {variant!r} has no rate with accuracy {good}")
    return rates.to_numpy()


def best_validation(sweep: pd.DataFrame, variant: str) -> tuple[float, np.ndarray]:
    """The rate with the best mean validation accuracy, and its accuracies by seed; a
    diverged run counts as 0.

    Raises:
        ValueError: there is no run of this variant.
    """
    runs = sweep[sweep.variant == variant].fillna({"validation": 0.0})
    if runs.empty:
        raise ValueError(f"no run of {variant!r}; use one of {', '.join(VARIANTS)}")
    rate = float(runs.groupby("rate").validation.mean().idxmax())
    chosen = runs[runs.rate == rate].sort_values("seed")
    return rate, chosen.validation.to_numpy()


def _settings(rates: Sequence[float]) -> list[dict]:
    return [
        {"data": "digits", "variant": variant, "rate": rate, "seed": seed}
        for variant in VARIANTS
        for rate in rates
        for seed in SEEDS
    ]


LP_RATES = Experiment("optimization", "lp_rates", train_at, _settings(RATES))
LP_NORMS = Experiment("optimization", "lp_norms", train_and_measure, _settings([RATE]))
LP_MATCHED = Experiment(
    "optimization",
    "lp_matched",
    train_matched,
    [
        {"data": "digits", "norm": norm, "rate": RATE, "seed": seed}
        for norm in ORDERS
        for seed in SEEDS
    ],
)
LP_GAMMA = Experiment(
    "optimization",
    "lp_gamma",
    train_at,
    [
        {"data": "digits", "variant": v, "gamma": gamma, "rate": rate, "seed": seed}
        for v, gamma, seeds in (
            *((v, "matched", NEW_SEEDS) for v in VARIANTS if v not in UNDECIDED),
            *(("L∞ uncentred", gamma, MANY_SEEDS) for gamma in GAMMAS),
            ("none", "one", MANY_SEEDS),
        )
        for rate in RATES
        for seed in seeds
    ],
)
EXPERIMENTS = (LP_RATES, LP_NORMS, LP_MATCHED, LP_GAMMA)
