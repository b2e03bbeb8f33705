"""Two arguments from full precision, measured in sign networks: shift and smoothness.

Does batch normalization keep the inputs of a layer from moving while the layers before it
learn, and does it bound the gradient and make it smoother? Each is turned into a number.
"""

import copy
import itertools

import numpy as np
import torch

from bnbook.experiments import Experiment
from bnbook.propagation.binary_training import (
    CONSTANT,
    EPOCHS,
    SEEDS,
    SWEEP,
    WIDTHS,
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


def argument_run(
    *, estimator: str, norm: str, learning_rate: float, seeds: int, epochs: int
) -> list[dict[str, float]]:
    """Train with several seeds, and measure before every eighth update.

    Each measurement makes one step of plain gradient descent, with the rate of the
    training, on a copy of the networks.

    Returns:
        For each seed:
        range: mean `gradient_range`.
        cosine: mean `gradient_cosine` between the gradients before and after the step.
        shift: mean change, by the step, of a hidden neuron's mean sign.
        moved: share of the weights of the network whose sign the step turns.
    """
    names = "range", "cosine", "shift", "moved"
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    updates = itertools.count(1)

    def watch(networks: SignNetworks, x: torch.Tensor, t: torch.Tensor) -> None:
        if next(updates) % EVERY:
            return
        before, inputs = layer_gradients(networks, x, t), balances(networks, x)
        moved = copy.deepcopy(networks)
        turned = total = 0
        with torch.no_grad():
            for weight, g in zip(moved.weights, before, strict=True):
                signs = weight >= 0
                weight -= learning_rate * g
                turned = turned + (signs != (weight >= 0)).sum((1, 2))
                total += signs[0].numel()
        moved.clip_latent()
        found["range"].append(gradient_range(before))
        found["cosine"].append(gradient_cosine(before, layer_gradients(moved, x, t)))
        found["shift"].append((balances(moved, x) - inputs).abs().mean(1).numpy())
        found["moved"].append((turned / total).numpy())

    networks = SignNetworks(
        CONSTANT, norm=norm, estimator=estimator, seeds=range(seeds)
    )
    x, t = torch.tensor(data().train.x), torch.tensor(data().train.t)
    how = {"optimizer": "sgd", "epochs": epochs, "watch": watch}
    rates = [learning_rate] * seeds
    train(networks, x, t, rates=rates, seeds=range(seeds), **how)
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    return [
        {"seed": seed} | {name: float(v[seed]) for name, v in means.items()}
        for seed in range(seeds)
    ]


ARGUMENTS = Experiment(
    part="propagation",
    name="binary_arguments",
    run=argument_run,
    settings=[
        {"estimator": estimator, "norm": norm, "learning_rate": rate}
        | {"seeds": SEEDS, "epochs": EPOCHS}
        for (estimator, norm), rate in BEST_RATES.items()
    ],
)
EXPERIMENTS = (SWEEP, WIDTHS, ARGUMENTS)
