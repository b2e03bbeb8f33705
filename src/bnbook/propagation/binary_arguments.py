"""Two arguments from full precision, measured in sign networks: shift and smoothness.

Does batch normalization keep the inputs of a layer from moving while the layers before it
learn, and does it bound the gradient and make it smoother? Each is turned into a number.
"""

import copy
import itertools

import numpy as np
import torch

from bnbook.experiments import Experiment
from bnbook.propagation.binary_shapes import FRESH, WIDTHS
from bnbook.propagation.binary_training import (
    CONSTANT,
    EPOCHS,
    LOW,
    SEEDS,
    SWEEP,
    SignNetworks,
    data,
    train,
)

EVERY = 8
# The rates with the best mean validation accuracy in the sweep of `binary_training`.
BEST_RATES = {
    ("identity", "none"): 0.01,
    ("identity", "bn"): 0.1,
    ("hardtanh", "none"): 0.1,
    ("hardtanh", "bn"): 1.0,
}


def layer_gradients(
    networks: SignNetworks, x: torch.Tensor, t: torch.Tensor
) -> list[torch.Tensor]:
    """∂L/∂W^l of the mean cross-entropy, (R, inputs, outputs) a layer; changes nothing."""
    copied = copy.deepcopy(networks)  # a forward pass moves running statistics
    losses = copied.losses(x, t)
    return list(torch.autograd.grad(losses.sum(), list(copied.weights)))


def gradient_range(gradients: list[torch.Tensor]) -> np.ndarray:
    """log10 of the largest over the smallest root mean square gradient of a layer, (R,).

    A layer without gradient makes it infinite.
    """
    sizes = torch.stack([g.double().square().mean((1, 2)) for g in gradients])
    return (torch.log10(sizes.amax(0) / sizes.amin(0)) / 2).numpy()


def gradient_cosine(
    before: list[torch.Tensor], after: list[torch.Tensor]
) -> np.ndarray:
    """Cosine between two gradients of a layer, mean over the layers, (R,); 0 for none."""
    cosines = [
        torch.cosine_similarity(g.flatten(1).double(), h.flatten(1).double(), eps=1e-30)
        for g, h in zip(before, after, strict=True)
    ]
    return torch.stack(cosines).mean(0).numpy()


@torch.no_grad()
def balances(networks: SignNetworks, x: torch.Tensor) -> torch.Tensor:
    """Mean sign of each hidden neuron over a batch, (R, neurons), in training mode;
    changes nothing."""
    _, outputs = copy.deepcopy(networks).record(x)
    return torch.cat([a.mean(1) for a in outputs], dim=1)


def measure_step(
    networks: SignNetworks, x: torch.Tensor, t: torch.Tensor, learning_rate: float
) -> dict[str, np.ndarray]:
    """Move the weights of a copy of networks of signs down their gradient, and compare.

    One step of plain gradient descent; β and γ stay. The copy is not clipped: clipping
    turns no sign, and only signs are multiplied by.

    Args:
        networks: R networks of precision "binary", in training mode; left as they are.
        x, t: a batch for each, (R, B, inputs) and (R, B).
        learning_rate: of the step.

    Returns:
        For each network, (R,):
        range: `gradient_range` before the step.
        cosine: `gradient_cosine` between the gradients before and after it.
        shift: change of a hidden neuron's mean sign, mean over the neurons.
        moved: share of the weights whose sign it turns.
    """
    before, inputs = layer_gradients(networks, x, t), balances(networks, x)
    moved = copy.deepcopy(networks)
    turned = total = 0
    with torch.no_grad():
        for weight, g in zip(moved.weights, before, strict=True):
            signs = weight >= 0
            weight -= learning_rate * g
            turned = turned + (signs != (weight >= 0)).sum((1, 2))
            total += signs[0].numel()
    return {
        "range": gradient_range(before),
        "cosine": gradient_cosine(before, layer_gradients(moved, x, t)),
        "shift": (balances(moved, x) - inputs).abs().mean(1).numpy(),
        "moved": (turned / total).numpy(),
    }


def argument_run(
    *, estimator: str, norm: str, learning_rate: float, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """Train with several seeds, and `measure_step` before every eighth update, with the
    learning rate of the training.

    Returns:
        For each seed the mean over the measurements: range, cosine, shift, moved.
    """
    found: list[dict[str, np.ndarray]] = []
    updates = itertools.count(1)

    def watch(networks: SignNetworks, x: torch.Tensor, t: torch.Tensor) -> None:
        if next(updates) % EVERY == 0:
            found.append(measure_step(networks, x, t, learning_rate))

    networks = SignNetworks(
        CONSTANT, norm=norm, estimator=estimator, seeds=range(seeds)
    )
    x, t = torch.tensor(data().train.x), torch.tensor(data().train.t)
    how = {"optimizer": "sgd", "epochs": epochs, "watch": watch}
    rates = [learning_rate] * seeds
    train(networks, x, t, rates=rates, seeds=range(seeds), **how)
    means = {name: np.mean([f[name] for f in found], axis=0) for name in found[0]}
    return [
        {"seed": seed} | {name: float(v[seed]) for name, v in means.items()}
        for seed in range(seeds)
    ]


ARGUMENTS_SLICE = {
    "estimator": "identity",
    "norm": "bn",
    "learning_rate": BEST_RATES["identity", "bn"],
    "seeds": 1,
    "epochs": 2,
}
ARGUMENTS = Experiment(
    part="propagation",
    name="binary_arguments",
    run=argument_run,
    settings=[
        *(
            {"estimator": estimator, "norm": norm, "learning_rate": rate}
            | {"seeds": SEEDS, "epochs": EPOCHS}
            for (estimator, norm), rate in BEST_RATES.items()
        ),
        ARGUMENTS_SLICE,
    ],
)
EXPERIMENTS = (SWEEP, LOW, WIDTHS, FRESH, ARGUMENTS)
