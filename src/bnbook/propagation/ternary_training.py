"""Ternary networks on the digits: a scale, batch normalization, both, or neither."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.experiments import Diverged, Experiment
from bnbook.propagation.binary import clip_latent
from bnbook.propagation.ternary import TWN, TernaryLinear
from bnbook.propagation.weights import require_widths

TREATMENTS = ("neither", "scale", "norm", "both")
RATES = tuple(float(f"{10 ** (k / 2):.2g}") for k in range(-18, 3))
SEEDS = (0, 1, 2)
WIDTHS = (64, 64, 64, 64, 64, 64, 64, 64, 10)
EPOCHS, BATCH, MOMENTUM = 10, 64, 0.9


class TernaryNetwork(nn.Module):
    """Ternary linear layers with ReLU after each but the last.

    The last layer has a scale in every treatment, so that it adds no growth of its own.

    Args:
        widths: inputs, hidden layers, classes.
        treatment: of the hidden layers: "scale" multiplies their weights by the best α,
            "norm" puts batch normalization before each ReLU; "both" and "neither".
        factor: threshold in units of the mean |w|.
        seed: of the latent weights.

    Raises:
        ValueError: widths has no hidden layer or a width below 1, or the treatment or the
            factor is unknown.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        treatment: str,
        factor: float = TWN,
        seed: int = 0,
    ):
        """Draw the latent weights."""
        super().__init__()
        widths = require_widths(widths)
        if len(widths) < 3:
            raise ValueError(f"widths must name a hidden layer, got {widths}")
        if treatment not in TREATMENTS:
            raise ValueError(
                f"unknown treatment {treatment!r}; use one of {', '.join(TREATMENTS)}"
            )
        generator = torch.Generator().manual_seed(seed)
        scale = "layer" if treatment in ("scale", "both") else "none"
        norm = treatment in ("norm", "both")
        *hidden, last = itertools.pairwise(widths)
        at = {"factor": factor, "generator": generator}
        self.hidden = nn.ModuleList(
            TernaryLinear(a, b, scale=scale, **at) for a, b in hidden
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(b) if norm else nn.Identity() for _, b in hidden
        )
        self.last = TernaryLinear(*last, scale="layer", bias=True, **at)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scores (B, classes) of a batch x (B, inputs)."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = torch.relu(norm(linear(x)))
        return self.last(x)

    def sparsity(self) -> float:
        """Share of the weights of the hidden layers that are 0."""
        counts = [layer.weight.numel() for layer in self.hidden]
        shares = [layer.sparsity() for layer in self.hidden]
        return float(np.average(shares, weights=counts))


def train_ternary(treatment: str, rate: float, seed: int) -> dict:
    """Train one network on the digits by SGD with momentum, and measure it.

    Args:
        treatment: a name in `TREATMENTS`.
        rate: learning rate > 0.
        seed: of the latent weights and the order of the batches; the split is the same.

    Returns:
        validation and test accuracy, the mean loss of the last epoch, and the sparsity.

    Raises:
        Diverged: a loss is not finite.
        ValueError: the rate is not positive, or the treatment unknown.
    """
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate must be positive and finite, got {rate}")
    data = _digits()
    network = TernaryNetwork(WIDTHS, treatment=treatment, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=MOMENTUM)
    x, t = (torch.tensor(part) for part in data.train)
    rng, step = np.random.default_rng(seed), 0
    for _ in range(EPOCHS):
        order = torch.tensor(rng.permutation(len(x)))
        losses = []
        for rows in order[: len(x) - len(x) % BATCH].split(BATCH):
            loss = functional.cross_entropy(network(x[rows]), t[rows])
            if not torch.isfinite(loss):
                raise Diverged(step=step, learning_rate=rate)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clip_latent(network)
            losses.append(loss.item())
            step += 1
    if not all(torch.isfinite(p).all() for p in network.parameters()):
        raise Diverged(step=step, learning_rate=rate)
    return {
        "validation": _accuracy(network, data.validation),
        "test": _accuracy(network, data.test),
        "loss": float(np.mean(losses)),
        "sparsity": network.sparsity(),
    }


@cache
def _digits():
    return digits().standardized()


@torch.no_grad()
def _accuracy(network: nn.Module, part) -> float:
    network.eval()
    scores = network(torch.tensor(part.x))
    network.train()
    return float((scores.argmax(1) == torch.tensor(part.t)).double().mean())


@dataclass(frozen=True)
class Choice:
    """The learning rate of a treatment with the best validation accuracy.

    Attributes:
        rate: the mean over the seeds is highest there.
        runs: the rows of the results at that rate, in the order of their seeds.
        good: the smallest and the largest rate within `room` of that mean.
    """

    rate: float
    runs: pd.DataFrame
    good: tuple[float, float]


def choose_rate(results: pd.DataFrame, treatment: str, *, room: float = 0.05) -> Choice:
    """Choose by validation accuracy; a diverged run counts as accuracy 0.

    Args:
        results: as `RATE_SWEEP.load()` returns them.
        treatment: a name in `TREATMENTS`.
        room: how far below the best a good rate may be.

    Raises:
        ValueError: the results hold no run of this treatment.
    """
    runs = results[results.treatment == treatment]
    if runs.empty:
        raise ValueError(f"no run of {treatment!r}; use one of {', '.join(TREATMENTS)}")
    runs = runs.fillna({"validation": 0.0, "test": 0.0})
    means = runs.groupby("rate").validation.mean()
    good = means[means >= means.max() - room].index
    best = runs[runs.rate == means.idxmax()].sort_values("seed")
    return Choice(float(means.idxmax()), best, (float(good.min()), float(good.max())))


RATE_SWEEP = Experiment(
    part="propagation",
    name="ternary_rates",
    run=train_ternary,
    settings=[
        {"treatment": treatment, "rate": rate, "seed": seed}
        for treatment in TREATMENTS
        for rate in RATES
        for seed in SEEDS
    ],
)
EXPERIMENTS = (RATE_SWEEP,)
