"""Where training diverges, over starts, depths and learning rates: the runs that are stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from bnbook.data.images import images
from bnbook.experiments import Experiment
from bnbook.optimization.descent import accuracy, descend, tensors
from bnbook.optimization.divergence import KINDS, Stop, start, train_until
from bnbook.optimization.learning_rate import layer_norms

DIGITS = 6  # significant digits of what is stored


def _prepare(kind: str, depth: int, width: int, seed: int, data: str):
    dataset = images(data, seed=0).standardized()
    x, t = tensors(dataset.train)
    network = start(kind, depth, width, x, classes=dataset.classes, seed=seed)
    return network, x, t, dataset


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def record_layers(
    kind: str,
    depth: int,
    width: int,
    rate: float,
    steps: int,
    seed: int,
    data: str = "digits",
) -> list[dict]:
    """`layer_norms` before each step of full-batch descent, as long as all are finite.

    Returns:
        A row for each step and layer, with the loss of the step.
    """
    network, x, t, _ = _prepare(kind, depth, width, seed, data)
    rows = []

    def watch(step: int, loss: float) -> None:
        found = vars(layer_norms(network, x, t))
        names = [name for name in found if name != "loss"]
        if not all(np.isfinite(found[name]).all() for name in names):
            raise Stop
        for layer in range(depth):
            row = {name: _short(found[name][layer]) for name in names}
            rows.append({"step": step, "layer": layer + 1, "loss": _short(loss)} | row)

    train_until(network, x, t, rate=rate, steps=steps, bound=float("inf"), watch=watch)
    return rows


def count_steps(
    kind: str,
    depth: int,
    width: int,
    rate: float,
    steps: int,
    seed: int,
    data: str = "digits",
) -> dict:
    """Full-batch descent until divergence.

    Returns:
        diverged; the number of steps until then, or all; the highest loss over the first;
        the last loss.
    """
    network, x, t, _ = _prepare(kind, depth, width, seed, data)
    run = train_until(network, x, t, rate=rate, steps=steps)
    return {
        "diverged": run.step is not None,
        "step": steps if run.step is None else run.step,
        "highest": _short(max(run.losses) / run.losses[0]),
        "loss": _short(run.losses[-1]),
    }


def find_limits(
    kind: str,
    depth: int,
    width: int,
    steps: int,
    seed: int,
    data: str = "digits",
    highest: int = 14,
    lowest: int = -20,
) -> dict:
    """The largest rates √2ᵏ, `lowest` ≤ k ≤ `highest`, that go well for `steps` steps.

    Returns:
        log2 of the largest rate that does not diverge (`stable`) and of the largest after
        which the loss is below half its start (`trains`), searched from above.

    Raises:
        ValueError: no rate trains.
    """
    stable = None
    for k in range(highest, lowest - 1, -1):
        network, x, t, _ = _prepare(kind, depth, width, seed, data)
        run = train_until(network, x, t, rate=2 ** (k / 2), steps=steps)
        if run.step is None:
            stable = k / 2 if stable is None else stable
            if run.losses[-1] < run.losses[0] / 2:
                return {"stable": stable, "trains": k / 2}
    raise ValueError(f"no rate trains {kind} with {depth} layers; lower `lowest`")


def record_losses(
    kind: str,
    depth: int,
    width: int,
    rate: float,
    steps: int,
    seed: int,
    data: str = "digits",
) -> list[dict]:
    """The loss before each step of full-batch descent, as long as it is finite."""
    network, x, t, _ = _prepare(kind, depth, width, seed, data)
    run = train_until(network, x, t, rate=rate, steps=steps, bound=float("inf"))
    return [{"step": n, "loss": _short(loss)} for n, loss in enumerate(run.losses)]


def train_on_batches(
    kind: str,
    depth: int,
    width: int,
    rate: float,
    batch: int,
    epochs: int,
    seed: int,
    data: str = "digits",
    frozen: str = "none",
) -> dict:
    """Stochastic descent on batches, and what it leads to.

    Args:
        kind, depth, width, rate, batch, epochs, seed, data: of the run.
        frozen: "gamma", "beta" or "both" keeps these at their start in every layer; they
            are 1 and 0 there in normalized networks, and missing in the others.

    Returns:
        validation and test accuracy, the mean loss of the last epoch, the length of the
        longest (γ, β) of a layer over that at the start, and the largest share of a
        hidden layer's neurons that are 0 on the whole training set.

    Raises:
        Diverged: a loss was not finite.
        ValueError: frozen is unknown, or the network has nothing of that name.
    """
    network, x, t, dataset = _prepare(kind, depth, width, seed, data)
    for name in _frozen(frozen, kind):
        for norm in network.norms:
            getattr(norm, name).requires_grad_(False)
    each = len(x) // batch
    # Without a bound: what counts is where the training ends, not what it went through.
    losses = descend(
        network, x, t, rate=rate, steps=epochs * each, batch=batch, seed=seed
    )
    with torch.no_grad():
        dead = [(a <= 0).all(0).double().mean().item() for a in network.record(x).a]
    found = layer_norms(network, x, t)
    network.fit(x)
    return {
        "validation": _short(accuracy(network, *tensors(dataset.validation))),
        "test": _short(accuracy(network, *tensors(dataset.test))),
        "loss": _short(float(np.mean(losses[-each:]))),
        "grown": _short(found.shift_scale[:-1].max() / width**0.5),
        "dead": _short(max(dead)),
    }


def _frozen(frozen: str, kind: str) -> tuple[str, ...]:
    names = {
        "none": (),
        "gamma": ("weight",),
        "beta": ("bias",),
        "both": ("weight", "bias"),
    }
    if frozen not in names or (names[frozen] and kind != "normalized"):
        raise ValueError(
            f'frozen must be one of {", ".join(names)}, and other than "none" only for '
            f"normalized networks, got {frozen!r} for {kind!r}"
        )
    return names[frozen]


@dataclass(frozen=True)
class Best:
    """The learning rate of a kind with the best mean validation accuracy.

    Attributes:
        rate: that rate.
        runs: the results at it, in the order of their seeds.
    """

    rate: float
    runs: pd.DataFrame


def choose_rate(results: pd.DataFrame, *, kind: str, depth: int) -> Best:
    """Choose by the validation accuracy; a diverged run counts as accuracy 0.

    Args:
        results: as `ACCURACY.load()` returns them.
        kind: a name in `KINDS`.
        depth: number of layers.

    Raises:
        ValueError: the results hold no such run.
    """
    runs = results[(results.kind == kind) & (results.depth == depth)]
    if runs.empty:
        raise ValueError(f"no run of {kind!r} with {depth} layers in the results")
    runs = runs.fillna({"validation": 0.0, "test": 0.0})
    rate = float(runs.groupby("rate").validation.mean().idxmax())
    return Best(rate, runs[runs.rate == rate].sort_values("seed"))


def _grid(run, part: str, name: str, seeds: Sequence[int], choices, **fixed):
    settings = [
        {**choice, **fixed, "seed": seed, "data": "digits"}
        for choice in choices
        for seed in seeds
    ]
    return Experiment(part=part, name=name, run=run, settings=settings)


LAYERS = _grid(
    record_layers,
    "optimization",
    "learning_rate_layers",
    range(5),
    [
        {"kind": "equivalent", "rate": 1.0},
        {"kind": "normalized", "rate": 1.0},
        {"kind": "normalized", "rate": 256.0},
    ],
    depth=10,
    width=100,
    steps=16,
)
SEEDS = _grid(
    count_steps,
    "optimization",
    "learning_rate_seeds",
    range(20),
    [{"kind": kind, "width": width} for kind in KINDS for width in (32, 100)],
    depth=10,
    rate=1.0,
    steps=50,
)
DEPTHS = _grid(
    find_limits,
    "optimization",
    "learning_rate_depth",
    range(5),
    [
        {"kind": kind, "depth": depth}
        for kind in KINDS
        for depth in (2, 4, 7, 10, 14, 20)
        # From He's initialization some networks of 20 layers learn at no rate.
        if (kind, depth) != ("plain", 20)
    ],
    width=50,
    steps=50,
)
EXPLOSION = _grid(
    record_losses,
    "optimization",
    "learning_rate_explosion",
    range(10),
    [
        *(
            {"kind": "equivalent", "depth": depth, "rate": 16.0}
            for depth in (2, 3, 4, 6, 10)
        ),
        *({"kind": "linear", "depth": depth, "rate": 16.0} for depth in (2, 3, 4, 6)),
        *({"kind": "normalized", "depth": depth, "rate": 256.0} for depth in (3, 10)),
    ],
    width=50,
    steps=16,
)
ACCURACY = _grid(
    train_on_batches,
    "optimization",
    "learning_rate_accuracy",
    range(5),
    [
        {"kind": kind, "depth": depth, "rate": 2.0**k}
        for depth in (3, 10)
        for kind in ("plain", "normalized")
        for k in range(-7, 7)
    ],
    width=50,
    batch=64,
    epochs=20,
)
# The rates that `choose_rate` finds in ACCURACY, with starts that the choice has not seen.
FRESH = _grid(
    train_on_batches,
    "optimization",
    "learning_rate_fresh",
    range(5, 20),
    [
        {"kind": kind, "depth": depth, "rate": rate}
        for depth, low, high in ((3, 1.0, 2.0), (10, 0.125, 1.0))
        for kind, rate in (("plain", low), ("normalized", low), ("normalized", high))
    ],
    width=50,
    batch=64,
    epochs=20,
)
# The rate at which neurons die.
FROZEN = _grid(
    train_on_batches,
    "optimization",
    "learning_rate_frozen",
    range(5),
    [{"frozen": frozen} for frozen in ("none", "gamma", "beta", "both")],
    kind="normalized",
    depth=10,
    rate=4.0,
    width=50,
    batch=64,
    epochs=20,
)
EXPERIMENTS = (LAYERS, SEEDS, DEPTHS, EXPLOSION, ACCURACY, FRESH, FROZEN)
