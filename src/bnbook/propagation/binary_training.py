"""Sign networks on the digits: what each part of batch normalization does for training.

Many small networks are trained side by side, one for each learning rate and seed: their
weights are stacked on a leading axis of length R, and no network sees another.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.data.splits import Dataset, Split
from bnbook.experiments import Experiment
from bnbook.propagation.binary import SignSTE
from bnbook.propagation.weights import require_count, require_widths

NORMS = ("none", "bias", "scale", "centre", "rms", "bn")
OPTIMIZERS = ("sgd", "adam")
PRECISIONS = ("binary", "full")
CONSTANT = (64, 64, 64, 64, 64, 64, 10)
BATCH, EPOCHS, SEEDS = 64, 10, 5
RATES = {
    "sgd": (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "adam": (1e-4, 0.001, 0.003, 0.01, 0.03, 0.1),
}
LOW_RATES = (1e-6, 1e-5)  # below the sweep, for what is best at its lowest rate


class Part(nn.Module):
    """One part of batch normalization, or none, or all of it, between s and its sign.

    Args:
        kind: "none" leaves s as it is; "bias" adds a trainable β; "scale" divides by the
            fixed number √K, where K is the number of inputs of the layer; "centre"
            subtracts the mean of the batch and adds β; "rms" divides by the root mean
            square of the batch, multiplies by γ and adds β; "bn" is batch normalization.
        networks: R.
        features: number of neurons.
        fan_in: K.

    Raises:
        ValueError: the kind is unknown.
    """

    EPS, MOMENTUM = 1e-5, 0.1

    def __init__(self, kind: str, networks: int, features: int, fan_in: int):
        """Make the parameters, γ = 1 and β = 0, and the running statistics."""
        super().__init__()
        if kind not in NORMS:
            raise ValueError(f"unknown norm {kind!r}; use one of {', '.join(NORMS)}")
        shape = networks, 1, features
        self.kind, self.fan_in = kind, fan_in
        self.centred, self.scaled = kind in ("centre", "bn"), kind in ("rms", "bn")
        shifted = self.centred or self.scaled or kind == "bias"
        self.beta = nn.Parameter(torch.zeros(shape)) if shifted else None
        self.gamma = nn.Parameter(torch.ones(shape)) if self.scaled else None
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """z of the shape (R, B, features) of s; statistics over the B examples."""
        z = s / math.sqrt(self.fan_in) if self.kind == "scale" else s
        if self.centred:
            mean = s.mean(-2, keepdim=True) if self.training else self.running_mean
            self._follow(self.running_mean, mean)
            z = z - mean
        if self.scaled:
            var = (z * z).mean(-2, keepdim=True) if self.training else self.running_var
            self._follow(self.running_var, var)
            z = self.gamma * z * torch.rsqrt(var + self.EPS)
        return z if self.beta is None else z + self.beta

    @torch.no_grad()
    def _follow(self, running: torch.Tensor, statistic: torch.Tensor) -> None:
        if self.training:
            running.lerp_(statistic, self.MOMENTUM)


class SignNetworks(nn.Module):
    """R networks of binary linear layers, with a sign after each layer but the last.

    The scores are the last layer's output over √K, so that their variance is near 1 at the
    start, in every network.

    Args:
        widths: inputs, hidden layers, classes.
        norm: a name in `NORMS`, for every hidden layer.
        estimator: of the signs of the activations; see `bnbook.propagation.binary`.
        seeds: of the latent weights, one for each of the R networks.
        precision: "binary"; "full" multiplies by the latent weights themselves and puts
            clip(z, −1, 1) in place of the sign, for comparison.

    Raises:
        ValueError: widths has no hidden layer or a width below 1, a name is unknown, or
            there is no seed.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        norm: str,
        estimator: str,
        seeds: Sequence[int],
        precision: str = "binary",
    ):
        """Draw the latent weights, uniform with Glorot's bound."""
        super().__init__()
        widths, seeds = require_widths(widths), tuple(seeds)
        if len(widths) < 3 or not seeds:
            raise ValueError(
                f"widths must name a hidden layer and seeds a network, got {widths}, {seeds}"
            )
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
            )
        SignSTE.apply(torch.ones(1), estimator)  # refuses an unknown one
        self.precision, self.estimator = precision, estimator
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights = nn.ParameterList(
            torch.stack([_glorot(g, a, b) for g in generators])
            for a, b in itertools.pairwise(widths)
        )
        self.parts = nn.ModuleList(
            Part(norm, len(seeds), b, a) for a, b in itertools.pairwise(widths[:-1])
        )

    def record(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Scores (R, B, classes) of x (R, B, inputs), and each hidden layer's output."""
        kept, full = [], self.precision == "full"
        multiply = (lambda w: w) if full else SignSTE.apply
        for weight, part in zip(self.weights, self.parts, strict=False):
            z = part(x @ multiply(weight))
            x = functional.hardtanh(z) if full else SignSTE.apply(z, self.estimator)
            kept.append(x)
        last = self.weights[-1]
        return x @ multiply(last) / math.sqrt(last.shape[1]), kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (R, B, classes) of x (R, B, inputs)."""
        return self.record(x)[0]

    def losses(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of each network, (R,), for classes t (R, B)."""
        scores = self(x).transpose(1, 2)
        return functional.cross_entropy(scores, t, reduction="none").mean(1)

    @torch.no_grad()
    def clip_latent(self) -> None:
        """Move latent weights outside [−1, 1] to its end."""
        for weight in self.weights:
            weight.clamp_(-1, 1)


def _glorot(generator: torch.Generator, fan_in: int, fan_out: int) -> torch.Tensor:
    bound = math.sqrt(6 / (fan_in + fan_out))
    return torch.empty(fan_in, fan_out).uniform_(-bound, bound, generator=generator)


def train(
    networks: SignNetworks,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    optimizer: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch: int = BATCH,
    watch: Callable[[SignNetworks, torch.Tensor, torch.Tensor], None] | None = None,
) -> np.ndarray:
    """Minimize the mean cross-entropies; latent weights are clipped after each update.

    Args:
        networks: R networks, changed in place.
        x, t: examples (N, D) and classes (N,).
        optimizer: "sgd", with momentum 0.9, or "adam", with ε = 1e-8.
        rates: the constant learning rate of each network, (R,).
        seeds: of the order of the examples, (R,).
        epochs: passes over the examples; a last, incomplete batch is left out.
        batch: examples in a batch.
        watch: called with the networks and their batches before each update.

    Returns:
        For each network the first step at which its loss was not finite, or −1; (R,).

    Raises:
        ValueError: a name or a number is not valid.
    """
    require_count("epochs", epochs, 1)
    require_count("batch", batch, 2)
    count = len(networks.weights[0])
    if len(rates) != count or len(seeds) != count:
        raise ValueError(
            f"give one rate and one seed for each of {count} networks, "
            f"got {len(rates)} and {len(seeds)}"
        )
    if not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"rates must be positive and finite, got {tuple(rates)}")
    if len(x) < batch or len(x) != len(t):
        raise ValueError(
            f"x and t must hold one batch of {batch} at least, and equally many examples, "
            f"got {len(x)} and {len(t)}"
        )
    update = _updater(optimizer, list(networks.parameters()), torch.tensor(rates))
    generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    diverged, step = torch.full((count,), -1), 0
    networks.train()
    for _ in range(epochs):
        orders = {
            seed: torch.randperm(len(x), generator=g) for seed, g in generators.items()
        }
        order = torch.stack([orders[seed] for seed in seeds])
        for at in range(0, len(x) - batch + 1, batch):
            rows = order[:, at : at + batch]
            if watch is not None:
                watch(networks, x[rows], t[rows])
            losses = networks.losses(x[rows], t[rows])
            diverged[(diverged < 0) & ~torch.isfinite(losses)] = step
            networks.zero_grad()
            losses.sum().backward()  # no network's loss depends on another's weights
            update()
            networks.clip_latent()
            step += 1
    return diverged.numpy()


def _updater(
    optimizer: str, parameters: list[nn.Parameter], rates: torch.Tensor
) -> Callable[[], None]:
    """An update of stacked parameters, each network with its own rate."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}"
        )
    rate = rates.float().reshape(-1, 1, 1)
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    steps = itertools.count(1)

    @torch.no_grad()
    def sgd() -> None:
        for p, velocity in zip(parameters, first, strict=True):
            velocity.mul_(0.9).add_(p.grad)
            p -= rate * velocity

    @torch.no_grad()
    def adam() -> None:
        n = next(steps)
        for p, m, v in zip(parameters, first, second, strict=True):
            m.lerp_(p.grad, 0.1)
            v.lerp_(p.grad**2, 0.001)
            p -= rate / (1 - 0.9**n) * m / ((v / (1 - 0.999**n)).sqrt() + 1e-8)

    return {"sgd": sgd, "adam": adam}[optimizer]


@torch.no_grad()
def accuracies(networks: SignNetworks, split: Split) -> np.ndarray:
    """Share of examples of a split that each network classifies right, (R,), in
    evaluation mode."""
    networks.eval()
    count = len(networks.weights[0])
    scores = networks(torch.tensor(split.x).expand(count, -1, -1))
    return (scores.argmax(2).numpy() == split.t).mean(axis=1)


@cache
def data() -> Dataset:
    """The digits, standardized."""
    return digits(0).standardized()


def run(
    *, optimizer: str, estimator: str, norm: str, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """Train a sign network of constant width with every rate and seed; a row for each.

    Args:
        optimizer, estimator, norm: as for `train` and `SignNetworks`.
        seeds: their number; the seeds are 0, 1, …
        epochs: as for `train`.

    Returns:
        learning_rate, seed, diverged_at (−1 if never), and the accuracies.
    """
    names = {"norm": norm, "estimator": estimator}
    how = {"optimizer": optimizer, "rates": RATES[optimizer], "seeds": range(seeds)}
    return train_grid(CONSTANT, names, epochs=epochs, **how)


def low_rate_run(
    *, optimizer: str, estimator: str, norm: str, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """The same with `LOW_RATES`."""
    names = {"norm": norm, "estimator": estimator}
    how = {"optimizer": optimizer, "rates": LOW_RATES, "seeds": range(seeds)}
    return train_grid(CONSTANT, names, epochs=epochs, **how)


def train_grid(
    widths: Sequence[int],
    names: Mapping[str, str],
    *,
    optimizer: str,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
) -> list[dict[str, float]]:
    """Train a network on the digits for each pair of a rate and a seed.

    Args:
        widths, names: of `SignNetworks`: norm, estimator, precision.
        optimizer, epochs: as for `train`.
        rates, seeds: their pairs are the networks. A seed draws the latent weights and the
            order of the examples, so that networks of one seed see the same batches.

    Returns:
        A row for each pair: learning_rate, seed, diverged_at (−1 if never), and the
        accuracies on validation and test data.
    """
    pairs = list(itertools.product(rates, seeds))
    each_rate, each_seed = zip(*pairs, strict=True)
    networks = SignNetworks(widths, seeds=each_seed, **names)
    x, t = torch.tensor(data().train.x), torch.tensor(data().train.t)
    how = {"optimizer": optimizer, "epochs": epochs}
    diverged = train(networks, x, t, rates=each_rate, seeds=each_seed, **how)
    found = {
        name: accuracies(networks, getattr(data(), name))
        for name in ("validation", "test")
    }
    return [
        {
            "learning_rate": rate,
            "seed": seed,
            "diverged_at": diverged[at],
            **{name: values[at] for name, values in found.items()},
        }
        for at, (rate, seed) in enumerate(pairs)
    ]


def at_best_rate(rows: pd.DataFrame) -> tuple[float, np.ndarray]:
    """The learning rate with the best mean validation accuracy, and the test accuracies.

    Args:
        rows: results of one setting, with learning_rate, seed, validation and test.

    Returns:
        The rate, and the test accuracies in the order of the seeds.

    Raises:
        ValueError: there is no row.
    """
    if rows.empty:
        raise ValueError("there are no rows; choose a setting that the sweep holds")
    rate = float(rows.groupby("learning_rate")["validation"].mean().idxmax())
    chosen = rows[rows["learning_rate"] == rate].sort_values("seed")
    return rate, chosen["test"].to_numpy()


def _settings(optimizers, estimators, norms) -> list[dict]:
    names = "optimizer", "estimator", "norm"
    return [
        dict(zip(names, values, strict=True)) | {"seeds": SEEDS, "epochs": EPOCHS}
        for values in itertools.product(optimizers, estimators, norms)
    ]


SLICE = _settings(["sgd"], ["hardtanh"], ["bn"])[0] | {"seeds": 1, "epochs": 2}
SWEEP = Experiment(
    part="propagation",
    name="binary_rates",
    run=run,
    settings=[
        *_settings(["sgd"], ["identity", "hardtanh"], NORMS),
        *_settings(["sgd"], ["relu"], ["none", "scale", "bn"]),
        *_settings(["adam"], ["identity", "hardtanh"], ["none", "scale", "bn"]),
        SLICE,  # small enough for a page to run again
    ],
)
LOW_SLICE = _settings(["sgd"], ["identity"], ["none"])[0] | {"seeds": 1, "epochs": 2}
LOW = Experiment(
    part="propagation",
    name="binary_low_rates",
    run=low_rate_run,
    settings=[
        *_settings(["sgd"], ["identity"], ["none", "bias", "centre"]),
        *_settings(["sgd"], ["relu"], ["none"]),
        LOW_SLICE,
    ],
)
