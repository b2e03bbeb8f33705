"""Scale invariance of the weights before batch normalization, watched in training.

Batch normalization divides by the spread of its input, so the scale of each weight
vector in front of it does not matter for ε = 0. `train` runs plain stochastic gradient
descent on a small network

    z = x Wᵀ,   y = γ ẑ + β,   scores = relu(y) Vᵀ + a,   L = mean cross-entropy of
        softmax(scores)

and records the quantities for which `bnbook.foundations.geometry` and its chapter prove
exact laws.
"""

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import BatchNormCache, batch_norm
from bnbook.foundations.geometry import gradient_energy
from bnbook.validation import require_eps, require_float_array, require_shape


@dataclass(frozen=True)
class Network:
    """weight W (D, D_in), gamma γ and beta β (D,), head V (C, D), head_bias a (C,)."""

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    head: np.ndarray
    head_bias: np.ndarray


@dataclass(frozen=True)
class Pass:
    """The loss of a batch, its gradient as a `Network`, g = ∂L/∂y, and the cache."""

    loss: float
    gradient: Network
    dy: np.ndarray
    cache: BatchNormCache


@dataclass(frozen=True)
class Training:
    """What a run recorded; T steps, D neurons.

    Attributes:
        loss: loss of the minibatch before each step, (T,).
        inner: ⟨w, ∂L/∂w⟩ of each neuron's weights, (T, D).
        inner_from_eps: γ r ∂L/∂γ with r = ε/(σ² + ε), what the theory says `inner` is,
            (T, D).
        gradient_norm2: ‖∂L/∂w‖², (T, D).
        weight_norm2: ‖w‖² before each step and after the last, (T + 1, D).
        angle: angle in radians by which each step turned w, (T, D).
        network: the parameters at the end.
    """

    loss: np.ndarray
    inner: np.ndarray
    inner_from_eps: np.ndarray
    gradient_norm2: np.ndarray
    weight_norm2: np.ndarray
    angle: np.ndarray
    network: Network


def make_problem(examples: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping classes in ten dimensions, each of two Gaussian clusters.

    The clusters are the same for every seed; the seed draws the examples.

    Returns:
        x (examples, 10) and labels (examples,), integers 0 to 2.

    Raises:
        ValueError: examples < 1.
    """
    _require_count("examples", examples)
    centres = np.random.default_rng(0).normal(size=(3, 2, 10))
    rng = np.random.default_rng(seed)
    labels, cluster = rng.integers(3, size=examples), rng.integers(2, size=examples)
    return centres[labels, cluster] + rng.normal(size=(examples, 10)), labels


def make_network(
    *, neurons: int = 16, inputs: int = 10, classes: int = 3, seed: int = 0
) -> Network:
    """A network with weight vectors of length 1 and random direction, γ = 1 and β = 0.

    Raises:
        ValueError: a count is less than 1.
    """
    for name, value in (("neurons", neurons), ("inputs", inputs), ("classes", classes)):
        _require_count(name, value)
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(neurons, inputs))
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    head = rng.normal(size=(classes, neurons)) / math.sqrt(neurons)
    return Network(weight, np.ones(neurons), np.zeros(neurons), head, np.zeros(classes))


def loss_and_gradient(
    network: Network, x: np.ndarray, labels: np.ndarray, *, eps: float = 0.0
) -> Pass:
    """Run a batch forward and backward.

    Args:
        network: the parameters.
        x: inputs, (M, D_in).
        labels: classes, integers (M,).
        eps: ε ≥ 0 of the batch normalization.

    Raises:
        TypeError: x is not a floating-point array, or labels not an integer one.
        ValueError: shapes do not match, a label is not a class, or as for
            `bnbook.foundations.forward.batch_norm`.
    """
    require_float_array("x", x)
    if x.ndim != 2 or x.shape[1] != network.weight.shape[1]:
        raise ValueError(
            f"x must have shape (M, {network.weight.shape[1]}), got {x.shape}; "
            "put one example in each row"
        )
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        raise TypeError(
            "labels must be an array of integers; "
            "pass the number of each example's class"
        )
    require_shape("labels", labels, x.shape[:1], "one class per example")
    classes = len(network.head_bias)
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels must lie in 0 … {classes - 1}, "
            f"got {labels.min()} to {labels.max()}; renumber them"
        )

    y, cache = batch_norm(x @ network.weight.T, network.gamma, network.beta, eps=eps)
    hidden = np.maximum(y, 0)
    scores = hidden @ network.head.T + network.head_bias
    scores = scores - scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    dscores = np.exp(log_p)
    dscores[rows, labels] -= 1
    dscores /= len(x)
    dy = (dscores @ network.head) * (y > 0)
    grads = batch_norm_backward(dy, cache)
    gradient = Network(
        grads.dx.T @ x,
        grads.dgamma,
        grads.dbeta,
        dscores.T @ hidden,
        dscores.sum(axis=0),
    )
    return Pass(float(-log_p[rows, labels].mean()), gradient, dy, cache)


def train(
    *,
    steps: int = 500,
    batch: int = 64,
    rate: float = 0.5,
    weight_rate: float | None = None,
    scale: float = 1.0,
    eps: float = 0.0,
    seed: int = 0,
) -> Training:
    """Plain stochastic gradient descent, with fresh examples at every step.

    There is no momentum and no weight decay.

    Args:
        steps: number of steps T.
        batch: examples M in each minibatch.
        rate: learning rate η of all parameters.
        weight_rate: learning rate of W instead, if it is to differ.
        scale: the first W is multiplied by this positive number.
        eps: ε ≥ 0 of the batch normalization.
        seed: seed of the network and of the examples.

    Raises:
        TypeError: rate, weight_rate, scale or eps is not a real number.
        ValueError: steps < 1, batch < 2, a rate or scale that is not positive and
            finite, ε < 0.
    """
    _require_count("steps", steps)
    _require_count("batch", batch, least=2)
    eps = require_eps(eps)
    weight_rate = rate if weight_rate is None else weight_rate
    for name, value in (("rate", rate), ("weight_rate", weight_rate), ("scale", scale)):
        _require_positive(name, value)
    network = make_network(seed=seed)
    network = replace(network, weight=scale * network.weight)
    x, labels = make_problem(steps * batch, seed=seed)

    losses, rows = [], []
    for step in range(steps):
        now = slice(step * batch, (step + 1) * batch)
        result = loss_and_gradient(network, x[now], labels[now], eps=eps)
        g, w = result.gradient, network.weight
        r = eps / result.cache.std[0] ** 2
        stepped = w - weight_rate * g.weight
        losses.append(result.loss)
        rows.append(
            (
                (w * g.weight).sum(axis=1),
                network.gamma * r * g.gamma,
                (g.weight**2).sum(axis=1),
                (w**2).sum(axis=1),
                _angle(w, stepped),
            )
        )
        network = Network(
            stepped,
            *(
                getattr(network, name) - rate * getattr(g, name)
                for name in ("gamma", "beta", "head", "head_bias")
            ),
        )
    inner, from_eps, gradient_norm2, weight_norm2, angle = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    weight_norm2 = np.vstack([weight_norm2, (network.weight**2).sum(axis=1)])
    return Training(
        np.array(losses), inner, from_eps, gradient_norm2, weight_norm2, angle, network
    )


def kept_share(
    network: Network, batch: int, *, runs: int, seed: int, eps: float = 0.0
) -> np.ndarray:
    """Share of the upstream gradient's energy that is orthogonal to 1 and to ẑ.

    On `runs` fresh batches of the problem, over all neurons together: the energy of the
    part of g = ∂L/∂y that passes whole, divided by ‖g‖².

    Args:
        network: the parameters.
        batch: batch size M, at least 2.
        runs: number of batches.
        seed: seed of the examples.
        eps: ε ≥ 0 of the batch normalization.

    Returns:
        One share per batch, (runs,).

    Raises:
        ValueError: runs < 1, batch < 2, or as for `loss_and_gradient`.
    """
    _require_count("runs", runs)
    _require_count("batch", batch, least=2)
    x, labels = make_problem(runs * batch, seed=seed)
    shares = []
    for run in range(runs):
        now = slice(run * batch, (run + 1) * batch)
        result = loss_and_gradient(network, x[now], labels[now], eps=eps)
        energy = gradient_energy(result.dy, result.cache.z_hat)
        shares.append(energy.rest.sum() / energy.total.sum())
    return np.array(shares)


def _angle(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Angle between the rows of two matrices, accurate also where arccos is not."""
    a = before / np.linalg.norm(before, axis=1, keepdims=True)
    b = after / np.linalg.norm(after, axis=1, keepdims=True)
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))


def _require_count(name: str, value: int, *, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name} must be an integer of at least {least}, got {value!r}; "
            "pass a larger number"
        )


def _require_positive(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{name} must be a real number, got {type(value).__name__}; pass one number"
        )
    if not 0 < value < math.inf:
        raise ValueError(
            f"{name} must be positive and finite, got {value}; use for example 0.1"
        )
