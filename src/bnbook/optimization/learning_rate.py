"""What a large step does to the norms of a deep network, with and without normalization."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.propagation.weights import require_count


@torch.no_grad()
def equivalent_network(network: DenseNetwork, x: torch.Tensor) -> DenseNetwork:
    """The network without normalization that gives the same scores on the batch x.

    Each normalized layer, weights W and bias b, becomes a linear layer with weights
    W_eq = (γ/√(σ² + ε)) W, row by row, and bias (γ/√(σ² + ε)) (b − μ) + β, with the
    statistics of x. Its gradients are others, and so are its scores on another batch.

    Args:
        network: its hidden layers are normalized by `BatchNorm`. It stays as it is, but
            for the statistics that it uses in evaluation mode, which are now those of x.
        x: inputs, (M, D), M ≥ 2.

    Raises:
        TypeError: the hidden layers are not normalized by `BatchNorm`.
        ValueError: x has fewer than two examples.

    Source: Morwani (2020), §3.
    """
    if not all(isinstance(norm, BatchNorm) for norm in network.norms):
        raise TypeError(
            "the hidden layers must be normalized by BatchNorm, got "
            f"{type(network.norms[0]).__name__}; another normalization has other statistics"
        )
    if len(x) < 2:
        raise ValueError(f"x must hold at least two examples, got {len(x)}")
    network.fit(x)
    first = network.linears[0]
    widths = (first.in_features, *(linear.out_features for linear in network.linears))
    plain = DenseNetwork(
        widths,
        normalization=None,
        activation=network.activation,
        dtype=first.weight.dtype,
    )
    for linear, norm, new in zip(
        network.linears, network.norms, plain.linears, strict=False
    ):
        scale = norm.weight / torch.sqrt(norm.var + norm.eps)
        new.weight.copy_(scale[:, None] * linear.weight)
        new.bias.copy_(scale * (linear.bias - norm.mean) + norm.bias)
    plain.linears[-1].load_state_dict(network.linears[-1].state_dict())
    return plain


@dataclass(frozen=True)
class LayerNorms:
    """Euclidean norms in each of the L linear layers, input side first; arrays (L,).

    Attributes:
        loss: the mean cross-entropy.
        activations: ‖Y_l‖, outputs of normalization, or of the linear layer where there
            is none, over all examples and neurons; the last are the scores.
        gradients: ‖∂loss/∂Y_l‖.
        weights: ‖W_l‖.
        weight_gradients: ‖∂loss/∂W_l‖.
        along: ⟨W_l, ∂loss/∂W_l⟩.
        effective: ‖W_eq‖, the weights of the equivalent network; ‖W_l‖ in a plain layer.
        shift_scale: length of (γ, β); in a layer without normalization √K_l, as for
            γ = 1 and β = 0.
    """

    loss: float
    activations: np.ndarray
    gradients: np.ndarray
    weights: np.ndarray
    weight_gradients: np.ndarray
    along: np.ndarray
    effective: np.ndarray
    shift_scale: np.ndarray


def layer_norms(network: DenseNetwork, x: torch.Tensor, t: torch.Tensor) -> LayerNorms:
    """Measure a network in its present mode on the batch x, (M, D), of classes t, (M,)."""
    record = network.record(x)
    outputs = [*record.y, record.z[-1]]
    weights = [linear.weight for linear in network.linears]
    loss = functional.cross_entropy(record.z[-1], t)
    grads = torch.autograd.grad(loss, [*outputs, *weights])
    by_output, by_weight = grads[: len(outputs)], grads[len(outputs) :]

    def norms(tensors):
        return np.array([v.detach().norm().item() for v in tensors])

    effective, lengths = [], []
    for number, weight in enumerate(weights):
        scale, length = torch.ones(len(weight), dtype=weight.dtype), len(weight) ** 0.5
        if network.normalized and number < len(network.norms):
            norm, z = network.norms[number], record.z[number]
            scale = norm.weight / torch.sqrt(z.var(0, correction=0) + norm.eps)
            length = math.hypot(norm.weight.norm().item(), norm.bias.norm().item())
        effective.append(scale[:, None] * weight)
        lengths.append(length)
    return LayerNorms(
        loss=loss.item(),
        activations=norms(outputs),
        gradients=norms(by_output),
        weights=norms(weights),
        weight_gradients=norms(by_weight),
        along=np.array(
            [(w * g).sum().item() for w, g in zip(weights, by_weight, strict=True)]
        ),
        effective=norms(effective),
        shift_scale=np.array(lengths),
    )


@dataclass(frozen=True)
class Response:
    """Elasticities: by which power of c a norm changes when weights are multiplied by c.

    Attributes:
        activations: of ‖Y_l‖, when W_l is multiplied.
        gradients: of ‖∂loss/∂Y_{l−1}‖, when W_l is multiplied.
        weight_gradients: of ‖∂loss/∂W_l‖, when W_{l−1} is multiplied, and with it Y_{l−1}.
    """

    activations: float
    gradients: float
    weight_gradients: float


def response(
    network: DenseNetwork,
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    layer: int,
    factor: float = 1.1,
) -> Response:
    """Multiply the weights of a layer, and measure what follows; the network stays as it is.

    Args:
        network: measured in its present mode.
        x: inputs, (M, D).
        t: class numbers, (M,).
        layer: l, from 2 to L.
        factor: c > 0, not 1.

    Raises:
        ValueError: there is no such layer, or the factor is not positive or is 1.
    """
    if not 2 <= layer <= len(network.linears):
        raise ValueError(
            f"layer must lie between 2 and {len(network.linears)}, got {layer}; "
            "layer 1 has none before it"
        )
    if not 0 < factor < math.inf or factor == 1:
        raise ValueError(f"factor must be positive and not 1, got {factor}")

    def multiplied(number: int) -> LayerNorms:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.linears[number - 1].weight.mul_(factor)
        return layer_norms(other, x, t)

    def power(after: float, before: float) -> float:
        return math.log(after / before) / math.log(factor)

    before, own, below = (
        layer_norms(network, x, t),
        multiplied(layer),
        multiplied(layer - 1),
    )
    at = layer - 1
    return Response(
        activations=power(own.activations[at], before.activations[at]),
        gradients=power(own.gradients[at - 1], before.gradients[at - 1]),
        weight_gradients=power(below.weight_gradients[at], before.weight_gradients[at]),
    )


@dataclass(frozen=True)
class LengthChange:
    """What a step of gradient descent does to ‖W‖², in two parts.

    Attributes:
        along: −2η⟨W, ∂L/∂W⟩, of first order in the learning rate.
        across: η²‖∂L/∂W‖², never negative.
    """

    along: float
    across: float

    @property
    def total(self) -> float:
        """‖W − η ∂L/∂W‖² − ‖W‖²."""
        return self.along + self.across


def length_change(
    weight: np.ndarray, gradient: np.ndarray, rate: float
) -> LengthChange:
    """Split the change of ‖W‖² in one step of gradient descent.

    Args:
        weight: W, any shape.
        gradient: ∂L/∂W, the same shape.
        rate: η > 0.

    Raises:
        ValueError: the shapes differ, or the rate is not positive and finite.
    """
    weight, gradient = np.asarray(weight, float), np.asarray(gradient, float)
    if weight.shape != gradient.shape:
        raise ValueError(
            f"gradient must have the shape of weight, {weight.shape}, got {gradient.shape}"
        )
    _require_rate(rate)
    return LengthChange(
        along=float(-2 * rate * (weight * gradient).sum()),
        across=float(rate**2 * (gradient**2).sum()),
    )


def contradiction_step(weight: float, layers: int, rate: float) -> float:
    """One step of gradient descent for L layers of one equal weight and two labels.

    The score of the input 1 is f = w^L, and the input occurs with both labels, so that
    the loss is ½ log(1 + e^f) + ½ log(1 + e^−f), smallest at f = 0. Each layer takes the
    step w − η · ½ tanh(f/2) · w^(L−1).

    Args:
        weight: w, the weight of every layer.
        layers: L ≥ 1.
        rate: η > 0.

    Returns:
        The new weight; ±∞ where it exceeds the floating-point range.

    Raises:
        ValueError: layers is below 1, or the rate is not positive and finite.
    """
    require_count("layers", layers, 1)
    _require_rate(rate)
    try:
        score, power = float(weight) ** layers, float(weight) ** (layers - 1)
    except OverflowError:
        return -math.inf
    return weight - rate * 0.5 * math.tanh(score / 2) * power


def largest_weight(layers: int, rate: float) -> float:
    """The size of the weight above which `contradiction_step` makes it larger.

    It is (4/η)^(1/(L−2)), for weights so large that tanh(w^L/2) is ±1 there.

    Args:
        layers: L ≥ 3.
        rate: η > 0.

    Raises:
        ValueError: layers is below 3 (for 2 the rate decides alone, at 4), or the rate is
            not positive and finite.
    """
    require_count("layers", layers, 3)
    _require_rate(rate)
    return (4 / rate) ** (1 / (layers - 2))


def explosion_order(losses: np.ndarray, *, least: float = 100.0) -> float:
    """By which factor the growth of log loss itself grows with each step.

    1 is exponential growth in the number of steps; q > 1 is growth like exp(c qᵗ).

    Args:
        losses: before each step, positive; only those after which no smaller one comes
            and that are at least `least` count, and at least three are needed.
        least: where the explosion is taken to have begun.

    Returns:
        The median of the ratios of successive increments of log loss.

    Raises:
        ValueError: fewer than three losses count.
    """
    logs = np.log([v for v in np.asarray(losses, float) if np.isfinite(v) and v > 0])
    falls = np.flatnonzero(np.diff(logs) <= 0)
    begun = np.flatnonzero(logs >= math.log(least))
    if begun.size:
        later = falls[falls >= begun[0]]
        logs = logs[begun[0] : (later[0] + 1 if later.size else None)]
    if not begun.size or len(logs) < 3:
        raise ValueError(
            f"an order needs three losses that rise from {least:g} on, got "
            f"{len(logs) if begun.size else 0}; record more steps"
        )
    increments = np.diff(logs)
    return float(np.median(increments[1:] / increments[:-1]))


def _require_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"rate must be positive and finite, got {rate}")
