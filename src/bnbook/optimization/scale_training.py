"""Classifiers trained with a rate of their own for the weights before normalization.

`train_scaled` runs stochastic gradient descent and records, for each neuron of the hidden
layers and each step, what `bnbook.optimization.scale_invariance` makes statements on. The
experiments of the chapter are below it.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bnbook.data.images import images
from bnbook.experiments import Experiment
from bnbook.foundations.scale_invariance import make_problem, train
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors
from bnbook.optimization.scale_invariance import require_product

# PyTorch refuses ε = 0; added to a variance above 1e-14, this is less than rounding.
NO_EPS = 1e-30
HIDDEN = (32, 32)
SEEDS = (0, 1, 2, 3, 4)
OTHER_RATE = 0.1
CHECKPOINTS = (1, 3, 10, 30, 100, 300, 1000, 3000)


@dataclass(frozen=True)
class Recording:
    """T steps of D neurons, the hidden layers one after the other.

    Attributes:
        loss: before each step, (T,).
        norm2: ‖w‖² before each step and after the last, (T + 1, D).
        gradient2: ‖g̃‖² = ‖w‖² ‖∂L/∂w‖², (T, D).
        cosine: of the angle between w and ∂L/∂w, (T, D); 0 where the gradient is 0.
        angle: by which each step turned w, in radians, (T, D).
    """

    loss: np.ndarray
    norm2: np.ndarray
    gradient2: np.ndarray
    cosine: np.ndarray
    angle: np.ndarray


def train_scaled(
    network: DenseNetwork,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    rate: float,
    steps: int,
    decay: float = 0.0,
    other_rate: float = OTHER_RATE,
    momentum: float = 0.0,
    batch: int | None = None,
    seed: int = 0,
    schedule: Callable[[int], float] | None = None,
) -> Recording:
    """Train in place; rate and decay are those of the weights of the hidden layers.

    Args:
        network: with its hidden weights in front of normalizations, if it has any.
        x, t, steps, momentum, batch, seed, schedule: as for `descend`.
        rate: η > 0 of the hidden layers' weights.
        decay: λ ≥ 0 of the same, with ηλ < 1.
        other_rate: of biases, γ, β and the last layer, which have no decay.

    Raises:
        ValueError: an argument is out of its range, or a neuron's weights are all 0.
        Diverged: as `descend`.
    """
    require_product(rate, decay)
    hidden = [linear.weight for linear in network.linears[:-1]]
    if not all((weight != 0).any(dim=1).all() for weight in hidden):
        raise ValueError("a neuron's weights are all 0: they have no direction")
    chosen = {id(weight) for weight in hidden}
    others = [p for p in network.parameters() if id(p) not in chosen]
    weights, columns = [], []

    def look():
        weights.append([weight.detach().clone() for weight in hidden])

    def watch(step, loss):
        look()
        pairs = [(w, p.grad) for w, p in zip(weights[-1], hidden, strict=True)]
        norm2 = torch.cat([(w * w).sum(1) for w, _ in pairs])
        square = torch.cat([(g * g).sum(1) for _, g in pairs])
        inner = torch.cat([(w * g).sum(1) for w, g in pairs])
        cosine = inner / torch.sqrt(norm2 * square).clamp_min(1e-300)
        angle = _angles(weights) if step else torch.zeros_like(norm2)
        del weights[:-1]
        columns.append((norm2, norm2 * square, cosine, angle))

    losses = descend(
        network,
        x,
        t,
        rate=rate,
        steps=steps,
        batch=batch,
        seed=seed,
        momentum=momentum,
        parameters=[
            {"params": hidden, "weight_decay": decay},
            {"params": others, "lr": other_rate},
        ],
        schedule=schedule,
        watch=watch,
    )
    look()
    last_norm2 = torch.cat([(w * w).sum(1) for w in weights[-1]])
    last_angle = _angles(weights)
    norm2, gradient2, cosine, angle = (
        torch.stack(column).numpy() for column in zip(*columns, strict=True)
    )
    return Recording(
        np.array(losses),
        np.vstack([norm2, last_norm2.numpy()]),
        gradient2,
        cosine,
        np.vstack([angle[1:], last_angle.numpy()]),
    )


def _angles(weights: list[list[torch.Tensor]]) -> torch.Tensor:
    """Angles between the rows of the last two of them, accurate also where small."""
    found = []
    for before, after in zip(*weights[-2:], strict=True):
        a, b = nn.functional.normalize(before), nn.functional.normalize(after)
        found.append(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))
    return torch.cat(found)


def classifier(data: str, *, seed: int, eps: float = NO_EPS, norm: bool = True):
    """The network of this chapter, with the training examples: (network, x, t)."""
    dataset = _images(data)
    widths = (len(dataset.features), *HIDDEN, dataset.classes)
    make = functools.partial(BatchNorm, eps=eps) if norm else None
    x, t = tensors(dataset.train)
    return DenseNetwork(widths, normalization=make, seed=seed), x, t


@functools.cache
def _images(data: str):
    return images(data, seed=0).standardized()


def descent_at_rate(
    data: str, norm: bool, rate: float, steps: int, examples: int, seed: int
) -> list[dict]:
    """Full-batch gradient descent; a row at each checkpoint.

    Returns:
        step; the loss; `gradient`, the smallest ‖g̃‖ over all hidden neurons up to then;
        `effective`, the median of η/‖w‖²; and `reached`, the first step before which the
        loss is at most 0.1, or `steps` if there is none.
    """
    network, x, t = classifier(data, seed=seed, norm=norm)
    run = train_scaled(network, x[:examples], t[:examples], rate=rate, steps=steps)
    gradient = np.sqrt(np.minimum.accumulate(run.gradient2.sum(axis=1)))
    there = run.loss <= 0.1
    reached = int(there.argmax()) if there.any() else steps
    return [
        {
            "step": step,
            "loss": float(run.loss[step - 1]),
            "gradient": float(gradient[step - 1]),
            "effective": float(np.median(rate / run.norm2[step])),
            "reached": reached,
        }
        for step in CHECKPOINTS
        if step <= steps
    ]


def noisy_descent(rate: float, steps: int, seed: int) -> list[dict]:
    """Stochastic gradient descent with fresh examples, so that the noise never ends.

    The network and its examples are those of `bnbook.foundations.scale_invariance`, with
    batches of 16 and ε = 0.

    Returns:
        For each checkpoint: `effective`, the median over neurons of η/‖w‖²; `law`, the
        median of η/‖w‖² · √(2 Σ ‖g̃‖²), which is 1 if the noise has made all of the
        length; and the mean loss of the last tenth of the steps until then.
    """
    run = train(steps=steps, batch=16, rate=OTHER_RATE, weight_rate=rate, seed=seed)
    total = np.cumsum(run.gradient_norm2 * run.weight_norm2[:-1], axis=0)
    rows = []
    for step in CHECKPOINTS:
        effective = rate / run.weight_norm2[step]
        since = step - max(1, step // 10)
        rows.append(
            {
                "step": step,
                "effective": float(np.median(effective)),
                "law": float(np.median(effective * np.sqrt(2 * total[step - 1]))),
                "loss": float(run.loss[since:step].mean()),
            }
        )
    return rows


def settle_down(
    data: str, rate: float, decay: float, momentum: float, eps: float, seed: int
) -> dict:
    """Train 3000 steps with batches of 64, and measure the last 1000.

    The other parameters' rate is 0.1 (1 − momentum).

    Returns:
        `angle`, the root mean square angle of a step over neurons and steps; `length`, the
        mean of ‖w‖⁴ over what the mean of ‖g̃‖² implies in equilibrium, median over
        neurons; `norm2`, the median of ‖w‖²; the mean loss; and the accuracy on the test
        examples.
    """
    network, x, t = classifier(data, seed=seed, eps=eps)
    run = train_scaled(
        network,
        x,
        t,
        rate=rate,
        decay=decay,
        momentum=momentum,
        other_rate=OTHER_RATE * (1 - momentum),
        steps=3000,
        batch=64,
        seed=seed,
    )
    norm4, gradient2 = run.norm2[2000:-1] ** 2, run.gradient2[2000:]
    turn = rate * decay / (1 + momentum)
    per_gradient = rate / (decay * (1 - momentum) * (2 - turn))
    length = norm4.mean(axis=0) / (per_gradient * gradient2.mean(axis=0))
    network.fit(x)
    return {
        "angle": float(np.sqrt((run.angle[2000:] ** 2).mean())),
        "length": float(np.median(length)),
        "norm2": float(np.median(run.norm2[-1])),
        "loss": float(run.loss[2000:].mean()),
        "accuracy": accuracy(network, *tensors(_images(data).test)),
    }


WINDOW, SCHEDULE_STEPS = 50, 3000


def follow_schedule(
    schedule: str, rate: float, decay: float, seed: int, data: str | None = None
) -> list[dict]:
    """Train 3000 steps with batches of 64 under a schedule; a row every 50 steps.

    Without `data`, the examples are fresh in each step, of the overlapping classes of
    `bnbook.foundations.scale_invariance.make_problem`, and 16 neurons are hidden.

    Returns:
        step, of the middle of the window; `angle`, the root mean square angle over the
        window and the neurons; `norm2` and `gradient2`, means of ‖w‖² and ‖g̃‖²; the loss.
    """
    if data is None:
        drawn = make_problem(64 * SCHEDULE_STEPS, seed=seed)
        x, t = (torch.from_numpy(part) for part in drawn)
        make = functools.partial(BatchNorm, eps=NO_EPS)
        network = DenseNetwork((x.shape[1], 16, 3), normalization=make, seed=seed)
    else:
        network, x, t = classifier(data, seed=seed)
    run = train_scaled(
        network,
        x,
        t,
        rate=rate,
        decay=decay,
        steps=SCHEDULE_STEPS,
        batch=64,
        seed=seed,
        schedule=functools.partial(schedule_factor, schedule, steps=SCHEDULE_STEPS),
    )
    rows = []
    for start in range(0, SCHEDULE_STEPS, WINDOW):
        now = slice(start, start + WINDOW)
        rows.append(
            {
                "step": start + WINDOW // 2,
                "angle": float(np.sqrt((run.angle[now] ** 2).mean())),
                "norm2": float(run.norm2[now].mean()),
                "gradient2": float(run.gradient2[now].mean()),
                "loss": float(run.loss[now].mean()),
            }
        )
    return rows


def schedule_factor(name: str, step: int, steps: int) -> float:
    """The factor of the learning rate at a step: "constant"; "drop", a tenth from the
    middle on; or "cosine", ½(1 + cos(π step/steps)).

    Raises:
        ValueError: another name.
    """
    if name == "constant":
        return 1.0
    if name == "drop":
        return 1.0 if step < steps // 2 else 0.1
    if name == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    raise ValueError(f"schedule must be constant, drop or cosine, got {name!r}")


RATES = tuple(10.0**k for k in range(-3, 7))
SCALE_RATES = Experiment(
    part="optimization",
    name="scale_rates",
    run=descent_at_rate,
    settings=[
        {
            "data": "digits",
            "norm": norm,
            "rate": rate,
            "steps": 3000 if norm else 1000,
            "examples": 256,
            "seed": seed,
        }
        for norm, rates in ((True, RATES), (False, RATES[:6]))
        for rate in rates
        for seed in SEEDS
    ],
)

NOISE_RATES = tuple(10.0**k for k in range(-2, 5))
SCALE_NOISE = Experiment(
    part="optimization",
    name="scale_noise",
    run=noisy_descent,
    settings=[
        {"rate": rate, "steps": 3000, "seed": seed}
        for rate in NOISE_RATES
        for seed in SEEDS
    ],
)

SAME_PRODUCT = ((0.1, 0.05), (1.0, 0.005), (10.0, 0.0005), (100.0, 0.00005))
PLAIN = {"momentum": 0.0, "eps": NO_EPS}
SCALE_EQUILIBRIUM = Experiment(
    part="optimization",
    name="scale_equilibrium",
    run=settle_down,
    settings=[
        {"data": "digits", "rate": rate, "decay": decay, **how, "seed": seed}
        for rate, decay, how in (
            *((rate, decay, PLAIN) for rate, decay in SAME_PRODUCT),
            (1.0, 0.001, PLAIN),
            (1.0, 0.05, PLAIN),
            (1.0, 0.0005, {**PLAIN, "momentum": 0.9}),
            (1.0, 0.005, {**PLAIN, "momentum": 0.9}),
            *((0.1, 0.05, {**PLAIN, "eps": eps}) for eps in (1e-5, 1e-3, 1e-1)),
        )
        for seed in SEEDS
    ],
)

SCALE_SCHEDULES = Experiment(
    part="optimization",
    name="scale_schedules",
    run=follow_schedule,
    settings=[
        {
            "schedule": schedule,
            "rate": rate,
            "decay": decay,
            "seed": seed,
            "data": "digits",
        }
        for schedule, rate, decay in (
            *(("constant", rate, decay) for rate, decay in SAME_PRODUCT[:3]),
            ("drop", 1.0, 0.005),
        )
        for seed in SEEDS
    ],
)
SCALE_FRESH = Experiment(
    part="optimization",
    name="scale_fresh",
    run=follow_schedule,
    settings=[
        {"schedule": schedule, "rate": 1.0, "decay": 0.005, "seed": seed}
        for schedule in ("drop", "cosine")
        for seed in SEEDS
    ],
)

EXPERIMENTS = (
    SCALE_RATES,
    SCALE_NOISE,
    SCALE_EQUILIBRIUM,
    SCALE_SCHEDULES,
    SCALE_FRESH,
)
