"""The dense classifier that the experiments of this part train, and its normalization."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnbook.propagation.weights import require_widths


class BatchNorm(nn.Module):
    """y = γ (z − μ)/√(σ² + ε) + β, with statistics that are never averaged over steps.

    In training mode μ and σ² are those of the batch, so that the loss is a function of
    the parameters and the batch alone, as derivatives of it require. In evaluation mode
    they are what `fit` last saw.

    Args:
        features: D, at least 1.
        eps: ε ≥ 0.
        dtype: of parameters and statistics.
    """

    def __init__(
        self, features: int, *, eps: float = 1e-5, dtype: torch.dtype = torch.float64
    ):
        """Start with γ = 1, β = 0, μ = 0, σ² = 1."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(features, dtype=dtype))
        self.register_buffer("mean", torch.zeros(features, dtype=dtype))
        self.register_buffer("var", torch.ones(features, dtype=dtype))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Normalize z, (M, D)."""
        if self.training:
            return functional.batch_norm(
                z, None, None, self.weight, self.bias, training=True, eps=self.eps
            )
        return functional.batch_norm(
            z, self.mean, self.var, self.weight, self.bias, eps=self.eps
        )

    @torch.no_grad()
    def fit(self, z: torch.Tensor) -> None:
        """Take the statistics of z, (M, D), with the biased variance, for evaluation."""
        self.mean.copy_(z.mean(0))
        self.var.copy_(z.var(0, correction=0))


@dataclass(frozen=True)
class Record:
    """What passes through a network; one tensor a layer, input side first.

    Attributes:
        z: outputs of the linear layers, before normalization, (M, K_l); the last are the
            scores.
        y: outputs of the normalizations, or z itself where there is none; hidden layers.
        a: outputs of the activations; hidden layers.
    """

    z: list[torch.Tensor]
    y: list[torch.Tensor]
    a: list[torch.Tensor]


class DenseNetwork(nn.Module):
    """Linear, normalization and activation, repeated; a linear layer to the classes.

    Args:
        widths: inputs, hidden layers, classes.
        normalization: makes the module of a hidden layer from its width: `BatchNorm`, or
            another module with its `fit`; None for none. Normalized layers keep their
            biases: they do nothing, and the networks have the same parameters.
        activation: applied to each hidden layer.
        gain: the weights are normal with variance gain/K_{l−1}; the biases start at 0.
        seed: of the weights, the same for every normalization.
        dtype: of all parameters.

    Raises:
        ValueError: widths names no hidden layer, a width is below 1, or the gain is not
            positive.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        normalization: Callable[[int], nn.Module] | None = BatchNorm,
        activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
        gain: float = 2.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ):
        """Draw the weights."""
        super().__init__()
        widths = require_widths(widths)
        if len(widths) < 3:
            raise ValueError(f"widths must name a hidden layer, got {widths}")
        if not 0 < gain < math.inf:
            raise ValueError(f"gain must be positive and finite, got {gain}")
        rng = np.random.default_rng(seed)
        self.linears = nn.ModuleList()
        for before, after in itertools.pairwise(widths):
            linear = nn.Linear(before, after, dtype=dtype)
            drawn = rng.normal(size=(after, before)) * math.sqrt(gain / before)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(drawn))
                linear.bias.zero_()
            self.linears.append(linear)
        make = normalization or (lambda width: nn.Identity())
        self.norms = nn.ModuleList(make(width) for width in widths[1:-1]).to(dtype)
        self.activation = activation

    @property
    def normalized(self) -> bool:
        """Whether the hidden layers are normalized."""
        return not isinstance(self.norms[0], nn.Identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (M, classes) of a batch x (M, inputs)."""
        return self.record(x).z[-1]

    def record(self, x: torch.Tensor) -> Record:
        """The scores, and all that leads to them."""
        record = Record([], [], [])
        for linear, norm in zip(self.linears[:-1], self.norms, strict=True):
            record.z.append(linear(x))
            record.y.append(norm(record.z[-1]))
            record.a.append(self.activation(record.y[-1]))
            x = record.a[-1]
        record.z.append(self.linears[-1](x))
        return record

    @torch.no_grad()
    def fit(self, x: torch.Tensor) -> None:
        """Give each normalization the statistics of the batch x, (M, inputs), from the
        first layer to the last, for evaluation."""
        for linear, norm in zip(self.linears[:-1], self.norms, strict=True):
            z = linear(x)
            if self.normalized:
                norm.fit(z)
            was, _ = norm.training, norm.eval()
            x = self.activation(norm(z))
            norm.train(was)
