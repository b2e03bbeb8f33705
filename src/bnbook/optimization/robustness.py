"""Few examples and many features of noise: with batch normalization and without.

A network of one hidden layer learns `bnbook.data.noisy_features` from a few examples of
each class. `train_noisy` takes everything that Morwani (2020, §5) leaves open as an
argument; `ROBUSTNESS` is the sweep over it that the chapter reads.
"""

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd
import torch
from torch import nn

from bnbook.data.noisy_features import noisy_features
from bnbook.data.splits import Dataset
from bnbook.experiments import Diverged, Experiment
from bnbook.intervals import t_interval
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors

METHODS = ("none", "fixed", "shuffled", "inputs")
SHOWN = {
    "none": "no BN",
    "fixed": "BN, fixed batches",
    "shuffled": "BN, shuffled",
    "inputs": "BN of the inputs only",
}
HIDDEN, BATCH, STEPS, EVERY = 100, 10, 300, 25


class InputNorm(nn.Module):
    """Batch normalization of the inputs, and a network without any other.

    Args:
        network: takes (M, features).
        features: D, at least 1.
    """

    def __init__(self, network: DenseNetwork, features: int):
        """Put a normalization before the network."""
        super().__init__()
        self.norm = BatchNorm(features, dtype=network.linears[0].weight.dtype)
        self.network = network

    @property
    def linears(self) -> nn.ModuleList:
        """Those of the network."""
        return self.network.linears

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of a batch x (M, features)."""
        return self.network(self.norm(x))

    def fit(self, x: torch.Tensor) -> None:
        """Give the normalization the statistics of the batch x, for evaluation."""
        self.norm.fit(x)


def noisy_network(
    data: Dataset,
    method: str,
    *,
    start: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> DenseNetwork | InputNorm:
    """The network of one hidden layer, 100 ReLU neurons, that learns a dataset.

    Args:
        data: gives the numbers of inputs and classes.
        method: a name in `METHODS`: where batch normalization is.
        start: the first layer's initial weights are multiplied by this positive number.
        seed: of the weights, normal with variance 2/K.
        dtype: of all parameters.

    Raises:
        ValueError: the method is unknown or start is not positive and finite.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(METHODS)}")
    if not 0 < start < math.inf:
        raise ValueError(f"start must be positive and finite, got {start}")
    inputs = len(data.features)
    network = DenseNetwork(
        (inputs, HIDDEN, data.classes),
        normalization=BatchNorm if method in ("fixed", "shuffled") else None,
        seed=seed,
        dtype=dtype,
    )
    with torch.no_grad():
        network.linears[0].weight.mul_(start)
    return InputNorm(network, inputs) if method == "inputs" else network


def seen_part(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The part of each weight vector that lies in the span of the examples.

    The gradient of a layer z = x Wᵀ lies there, so training moves nothing else. On these
    examples it gives the same z as the whole weight. So the seen part of the trained
    weights is what training would have made of the seen part of the initial ones.

    Args:
        weight: (K, D).
        x: examples, (N, D).

    Returns:
        W P, (K, D), with P the orthogonal projection onto the span of the rows of x.
    """
    _, s, basis = torch.linalg.svd(x.double(), full_matrices=False)
    basis = basis[s > s.max() * max(x.shape) * torch.finfo(x.dtype).eps]
    wide = weight.detach().double()
    return ((wide @ basis.T) @ basis).to(weight.dtype)


def train_noisy(
    *,
    method: str,
    rate: float,
    per_class: int,
    noise: float,
    seed: int,
    start: float = 1.0,
    standardized: bool = False,
    separation: str = "levels",
    steps: int = STEPS,
) -> dict[str, float]:
    """Train one network by plain SGD in batches of 10, and look at it every 25 steps.

    Args:
        method: a name in `METHODS`. "fixed" has the same batches in each epoch.
        rate: learning rate of all parameters.
        per_class, noise, separation: of `noisy_features`.
        seed: of the data, the weights and the batches; the same for every method.
        start: factor on the first layer's initial weights.
        standardized: whether each feature is standardized, by the training examples.
        steps: number of updates.

    Returns:
        validation: the best validation accuracy of all looks, the first before the
            first step; test: the test accuracy at that look; seen: the test accuracy at
            that look if the first layer keeps only its `seen_part`; unseen: the share of
            ‖W‖² which that removes; last: the test accuracy at the end, 1/classes if it
            diverged; step: of the best look; diverged: whether the loss became infinite
            or NaN. The looks before that count.

    Raises:
        ValueError: an argument is out of its range.
    """
    data = _data(per_class, noise, separation, seed, standardized)
    network = noisy_network(data, method, start=start, seed=seed)
    (x, t), (xv, tv), (xt, tt) = (
        tensors(part, torch.float32)
        for part in (data.train, data.validation, data.test)
    )
    best = {"validation": -1.0}

    def look(step: int, loss: float = 0.0) -> None:
        if step % EVERY:
            return
        if method != "none":
            network.fit(x)
        found = accuracy(network, xv, tv)
        if found > best["validation"]:
            best.update(validation=found, test=accuracy(network, xt, tt), step=step)
            best["state"] = copy.deepcopy(network.state_dict())

    diverged = False
    try:
        descend(
            network,
            x,
            t,
            rate=rate,
            steps=steps,
            batch=min(BATCH, len(x)),
            shuffle=method != "fixed",
            seed=seed,
            watch=look,
        )
        look(steps)
        last = accuracy(network, xt, tt)
    except Diverged:
        diverged, last = True, 1 / data.classes
    network.load_state_dict(best["state"])
    weight = network.linears[0].weight
    with torch.no_grad():
        inputs = network.eval().norm(x) if method == "inputs" else x
        seen = seen_part(weight, inputs)
        unseen = float((weight - seen).square().sum() / weight.square().sum())
        weight.copy_(seen)
    return {
        "validation": best["validation"],
        "test": best["test"],
        "seen": accuracy(network, xt, tt),
        "unseen": unseen,
        "last": last,
        "step": best["step"],
        "diverged": diverged,
    }


@lru_cache(maxsize=2)
def _data(
    per_class: int, noise: float, separation: str, seed: int, standardized: bool
) -> Dataset:
    data = noisy_features(per_class, noise=noise, separation=separation, seed=seed)
    return data.standardized() if standardized else data


@dataclass(frozen=True)
class Chosen:
    """The runs of one setting at the rate with the best mean accuracy.

    Attributes:
        rate: the smallest of the best.
        runs: one row a seed, in the order of the seeds.
        edge: whether that rate is the largest or smallest of the sweep.
    """

    rate: float
    runs: pd.DataFrame
    edge: bool

    def interval(self, column: str = "validation") -> tuple[float, float, float]:
        """Mean and 95 % interval of a column over the seeds."""
        return t_interval(self.runs[column].to_numpy())


def choose(
    results: pd.DataFrame, *, by: str = "validation", **setting: object
) -> Chosen:
    """Choose the learning rate by the mean of an accuracy over the seeds.

    Args:
        results: as `ROBUSTNESS.load()` returns them.
        by: column of the accuracy. "test" and "seen" choose on the test examples, so
            the chosen ones are too high.
        setting: values of columns that say which runs; all must be of one sweep.

    Raises:
        ValueError: there is no such run or column, or a rate has a seed twice.
    """
    runs = _select(results, setting)
    if runs.duplicated(["rate", "seed"]).any():
        raise ValueError(
            f"{setting} leaves more than one run for a rate and seed; name more columns"
        )
    if by not in runs.columns:
        raise ValueError(f"no column {by!r}; use {', '.join(runs.columns)}")
    means = runs.groupby("rate")[by].mean()
    rate = float(means.idxmax())
    kept = runs[runs.rate == rate].sort_values("seed").reset_index(drop=True)
    return Chosen(rate, kept, rate in (means.index.min(), means.index.max()))


def paired(
    results: pd.DataFrame,
    first: Mapping[str, object],
    second: Mapping[str, object],
    *,
    column: str = "validation",
    rate: float | None = None,
    by: str = "validation",
) -> tuple[float, float, float]:
    """Mean difference first − second over the seeds, and its 95 % interval.

    Args:
        results: as `ROBUSTNESS.load()` returns them.
        first, second: settings, as for `choose`.
        column: what is compared.
        rate: the same learning rate for both; None for the best of each.
        by: what the best is chosen by, as for `choose`.

    Raises:
        ValueError: as `choose`, or the two have other seeds.
    """
    sides = []
    for setting in (first, second):
        at = dict(setting) if rate is None else {**setting, "rate": rate}
        sides.append(choose(results, by=by, **at).runs.set_index("seed")[column])
    if list(sides[0].index) != list(sides[1].index):
        raise ValueError(f"{first} and {second} were run with other seeds")
    return t_interval((sides[0] - sides[1]).to_numpy(dtype=float))


def _select(results: pd.DataFrame, setting: Mapping[str, object]) -> pd.DataFrame:
    runs = results
    for name, value in setting.items():
        if name not in runs.columns:
            raise ValueError(f"no column {name!r}; use {', '.join(results.columns)}")
        runs = runs[runs[name] == value]
    if runs.empty:
        raise ValueError(f"no run with {setting}")
    return runs


RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SMALL_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # for a small start
EXAMPLES = (2, 5, 10, 20, 50)
LOW_RATES = (0.003, 0.01)  # where the projected plain network is best
HIGH_RATES = (1.0, 3.0)
FEW = (2, 10, 50)
SEEDS, FEWER = 8, 5  # independent repetitions; fewer in the side lines


def _settings() -> list[dict]:
    """The sweep, without repetitions, a dataset's runs one after the other."""
    three = METHODS[:3]
    names = "separation noise per_class standardized seed start method rate".split()
    main, side, raw = range(SEEDS), range(FEWER), [False]
    usual, small = (
        [(1.0, method, rate) for method in three for rate in RATES],
        [(0.1, method, rate) for method in three for rate in SMALL_RATES],
    )
    inputs = [(1.0, "inputs", rate) for rate in RATES]
    sweeps = [
        (["levels"], [3.0], EXAMPLES, raw, main, usual),
        (["levels"], [3.0], FEW, raw, main, small),
        (["levels"], [3.0], FEW, raw, side, inputs),
        (["levels"], [3.0], FEW, [True], side, usual),
        (["levels"], [3.0], [2], [True], side, small),
        (["levels"], [1.0], [10], raw, side, usual),
        (["levels"], [5.0], [10], raw, side, usual + small),
        (["planes"], [1.0], [50], raw, side, usual + small),
        (["levels"], [3.0], EXAMPLES, raw, main, [(1.0, "none", r) for r in LOW_RATES]),
        (["levels"], [3.0], [2], raw, main, [(0.1, "none", r) for r in HIGH_RATES]),
    ]
    keys = {
        (*key[:-1], *key[-1]) for sweep in sweeps for key in itertools.product(*sweep)
    }
    return [dict(zip(names, key, strict=True)) for key in sorted(keys)]


ROBUSTNESS = Experiment(
    part="optimization", name="robustness", run=train_noisy, settings=_settings()
)
EXPERIMENTS = (ROBUSTNESS,)
