"""The gradients of a real loss beside the iid gradients of the theory.

A small classifier with batch normalization in every hidden layer, in float64, and the
split of each upstream gradient g = ∂L/∂y into its parts along 1, along ŝ, and the rest
that batch normalization passes back.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bnbook.data.splits import Split
from bnbook.foundations.geometry import gradient_energy
from bnbook.propagation.variance import require_widths


class Classifier(torch.nn.Module):
    """Linear, batch normalization and ReLU, repeated; a linear layer to the classes.

    Args:
        widths: inputs, hidden layers, classes.
        seed: of the weights, normal with variance 2/K_{l−1}.

    Raises:
        ValueError: widths names no hidden layer, or a width is below 1.
    """

    EPS = 1e-5

    def __init__(self, widths: Sequence[int], *, seed: int):
        """Draw the weights."""
        super().__init__()
        widths = require_widths(widths)
        if len(widths) < 3:
            raise ValueError(f"widths must name a hidden layer, got {widths}")
        rng = np.random.default_rng(seed)
        self.weights = torch.nn.ParameterList(
            torch.tensor(rng.normal(size=(a, b)) * math.sqrt(2 / a))
            for a, b in itertools.pairwise(widths)
        )
        hidden = widths[1:-1]
        self.gammas = torch.nn.ParameterList(torch.ones(k).double() for k in hidden)
        self.betas = torch.nn.ParameterList(torch.zeros(k).double() for k in hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, classes) of a batch x (B, inputs)."""
        return self.record(x)[0]

    def record(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """The scores, and for each normalization its ŝ and its output y."""
        hats, outputs, a = [], [], x
        for weight, gamma, beta in zip(
            self.weights, self.gammas, self.betas, strict=False
        ):
            hat = functional.batch_norm(
                a @ weight, None, None, training=True, eps=self.EPS
            )
            hats.append(hat)
            outputs.append(gamma * hat + beta)
            a = torch.relu(outputs[-1])
        return a @ self.weights[-1], hats, outputs


def train(
    network: Classifier, data: Split, *, steps: int, rate: float, batch: int, seed: int
) -> list[float]:
    """Plain SGD on the mean cross-entropy; returns the loss before each step.

    Raises:
        ValueError: a loss is not finite.
    """
    x, t = torch.tensor(data.x).double(), torch.tensor(data.t)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        rows = torch.tensor(rng.choice(len(x), batch, replace=False))
        loss = functional.cross_entropy(network(x[rows]), t[rows])
        if not torch.isfinite(loss):
            raise ValueError("the loss is not finite; lower the rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@dataclass(frozen=True)
class Shares:
    """Shares of ‖g‖², one per hidden layer, input side first; they sum to 1.

    Attributes:
        ones: along 1.
        hat: along ŝ.
        kept: orthogonal to both, what is passed back.
    """

    ones: np.ndarray
    hat: np.ndarray
    kept: np.ndarray


def gradient_shares(
    network: Classifier, data: Split, *, batch: int, draws: int, seed: int
) -> Shares:
    """Split the upstream gradients of `draws` random batches, summed over neurons.

    Raises:
        ValueError: batch is below 3 or above the number of examples, or draws below 1.
    """
    if not 3 <= batch <= len(data.x):
        raise ValueError(
            f"batch must lie between 3 and {len(data.x)}, the number of examples, got {batch}"
        )
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    x, t = torch.tensor(data.x).double(), torch.tensor(data.t)
    rng = np.random.default_rng([seed, batch])
    energy = np.zeros((3, len(network.gammas)))
    for _ in range(draws):
        rows = torch.tensor(rng.choice(len(x), batch, replace=False))
        scores, hats, outputs = network.record(x[rows])
        loss = functional.cross_entropy(scores, t[rows])
        for layer, g in enumerate(torch.autograd.grad(loss, outputs)):
            split = gradient_energy(g.numpy(), hats[layer].detach().numpy())
            energy[:, layer] += [
                part.sum() for part in (split.ones, split.z_hat, split.rest)
            ]
    return Shares(*(energy / energy.sum(axis=0)))
