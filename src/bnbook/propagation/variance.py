"""Forward and backward variance of a deep network, in theory and by Monte Carlo.

The network, with examples in rows and s⁰ = a⁰ = x:

    s^l = a^{l−1} W^l,   W^l of shape (K_{l−1}, K_l),   l = 1 … L
    a^l = f(s^l), or with batch normalization a^l = f(γ ŝ^l + β),   l = 1 … L − 1

Its last layer s^L is the output; the gradient ∂L/∂s^L is drawn, iid with variance 1.
Everything is in float64. The other chapters of the part call `simulate` with their own
weight laws and activations.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.intervals import mean_and_error
from bnbook.propagation.activations import (
    ACTIVATIONS,
    Activation,
    Moments,
    activation_named,
    moments,
    quadrature_moments,
    require_activation,
)
from bnbook.propagation.weights import (
    RULES,
    WeightLaw,
    require_count,
    require_widths,
    weight_law,
)
from bnbook.tables import Table, table

__all__ = [
    "ACTIVATIONS",
    "RULES",
    "Activation",
    "Factor",
    "Moments",
    "Theory",
    "Variances",
    "WeightLaw",
    "activation_named",
    "factor_table",
    "growth",
    "layer_factor",
    "moments",
    "quadrature_moments",
    "require_widths",
    "simulate",
    "theory",
    "weight_law",
]


@dataclass(frozen=True)
class Variances:
    """What `simulate` measured: one row per network, one column per layer l = 1 … L.

    Attributes:
        forward: mean of (s^l)² over examples and neurons, (networks, L).
        backward: mean of (∂L/∂s^l)² over examples and neurons, (networks, L).
    """

    forward: np.ndarray
    backward: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """backward of layer l over backward of layer l + 1, (networks, L − 1)."""
        return self.backward[:, :-1] / self.backward[:, 1:]


@dataclass(frozen=True)
class Theory:
    """Expected variances by layer, for V(x) = 1 and V(∂L/∂s^L) = 1; arrays (L,)."""

    forward: np.ndarray
    backward: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """backward of layer l over backward of layer l + 1, (L − 1,)."""
        return self.backward[:-1] / self.backward[1:]


def simulate(
    widths: Sequence[int],
    activation: Activation,
    law: WeightLaw,
    *,
    norm: bool = False,
    batch: int = 64,
    networks: int = 16,
    seed: int = 0,
    gamma: float = 1.0,
    beta: float = 0.0,
    eps: float = 0.0,
) -> Variances:
    """Draw random networks, send a random batch forward and a random gradient back.

    Args:
        widths: K_0, K_1, …, K_L; K_0 is the number of inputs.
        activation: the pair f, f'.
        law: of the weights.
        norm: batch normalization before each activation.
        batch: B, examples per network. The inputs are iid N(0, 1).
        networks: independent draws of weights, inputs and output gradients.
        seed: network n is drawn from [seed, n], whatever the number of networks.
        gamma, beta, eps: of the normalization, the same for all neurons.

    Raises:
        TypeError: activation or law is of another type.
        ValueError: fewer than two layers' widths, a width below 1, batch below 1 (below
            2 with norm), networks below 1, or a variance left the range of float64.
    """
    widths = require_widths(widths)
    require_activation(activation)
    _require_law(law)
    require_count("batch", batch, 2 if norm else 1)
    require_count("networks", networks, 1)
    shape = networks, len(widths) - 1
    forward, backward = np.empty(shape), np.empty(shape)
    for n in range(networks):
        rng = np.random.default_rng([seed, n])
        a, weights, kept = rng.normal(size=(batch, widths[0])), [], []
        with np.errstate(over="ignore", invalid="ignore"):
            for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
                weights.append(_draw(law, rng, fan_in, fan_out))
                s = a @ weights[-1]
                forward[n, layer] = np.mean(s * s)
                _require_finite("forward", forward[n, layer], layer + 1)
                if layer == len(widths) - 2:
                    break
                z, cache = s, None
                if norm:
                    ones = np.ones(fan_out)
                    z, cache = batch_norm(s, gamma * ones, beta * ones, eps=eps)
                kept.append((activation.derivative(z), cache))
                a = activation.f(z)
            ds = rng.normal(size=s.shape)  # ∂L/∂s^L
            backward[n, -1] = np.mean(ds * ds)
            for layer in range(len(widths) - 3, -1, -1):
                slope, cache = kept[layer]
                ds = slope * (ds @ weights[layer + 1].T)
                if norm:
                    ds = batch_norm_backward(ds, cache).dx
                backward[n, layer] = np.mean(ds * ds)
                _require_finite("backward", backward[n, layer], layer + 1)
    return Variances(forward, backward)


def theory(
    widths: Sequence[int],
    activation: Activation,
    law: WeightLaw,
    *,
    norm: bool = False,
    batch: int | None = None,
    gamma: float = 1.0,
) -> Theory:
    """The variances that `simulate` estimates, for wide layers.

    Without normalization, with q_l = V(s^l) and s^l taken as Gaussian,

        q_l = K_{l−1} V(w^l) E f(s^{l−1})²,
        V(∂L/∂s^l) = E f'(s^l)² K_{l+1} V(w^{l+1}) V(∂L/∂s^{l+1}).

    With it (β = 0, ε = 0), f and f' are taken at N(0, γ²), and the second line gets the
    factor γ²/σ_l² with σ_l² = K_{l−1} V(w^l) Var f, the variance of s^l over examples;
    for the first layer Var f is V(x) = 1.

    What is exact at any width, without normalization: both variances of a linear network,
    and the forward variance of ReLU, if the weights are symmetric about 0. Backward, ReLU
    needs weights without ties (s = 0 only where a layer is off), and layer l then lacks
    the factor Π_{l'<l} (1 − 2^(−K_l')): in no layer before it may all neurons be off.

    Outside the theory: an f' that is narrower than the lattice of s. For weights and
    activations ±1, s is an integer of the parity of K_{l−1}; the sign with hard-tanh then
    passes what the Gaussian says at even widths, and twice as much at odd ones, however
    wide the layer. `binary_theory.sign_theory` has the exact law.

    Args:
        widths, activation, law, norm, gamma: as for `simulate`.
        batch: B > 3 multiplies each factor by (B − 2)/(B − 3), the limit of wide layers
            for a linear network; other activations have their own terms of order 1/B.
            None means B → ∞.

    Raises:
        TypeError, ValueError: as `simulate`; also for a batch of 3 or fewer.

    Source: Sari and Partovi Nia (2020), §2, corrected; He et al. (2015), §2.2.
    """
    widths = require_widths(widths)
    require_activation(activation)
    _require_law(law)
    if batch is not None:
        require_count("batch", batch, 4)
    depth = len(widths) - 1
    gains = [  # K V(w) seen forward and seen backward
        (a * law.variance(a, b), b * law.variance(a, b))
        for a, b in itertools.pairwise(widths)
    ]
    after_norm = quadrature_moments(activation, gamma**2) if norm else None
    forward, factors = np.empty(depth), np.empty(depth)
    square = spread = 1.0  # E a², Var a of the layer before
    for layer in range(depth):
        forward[layer] = gains[layer][0] * square
        _require_finite("forward", forward[layer], layer + 1)
        of_f = after_norm or quadrature_moments(activation, float(forward[layer]))
        scale = 1.0
        if norm:
            scale = gamma**2 / (gains[layer][0] * spread)
            scale *= 1.0 if batch is None else (batch - 2) / (batch - 3)
        if layer < depth - 1:
            factors[layer] = scale * of_f.slope * gains[layer + 1][1]
        square, spread = of_f.square, of_f.variance
    factors[-1] = 1.0
    return Theory(forward, np.cumprod(factors[::-1])[::-1])


def growth(run: Variances, *, skip: int = 0) -> np.ndarray:
    """Slope of log V(∂L/∂s^l) per layer towards the input, one per network.

    Args:
        run: from `simulate`.
        skip: leave out this many layers at the input.

    Raises:
        ValueError: fewer than two layers are left, or a gradient is 0.
    """
    kept = run.backward[:, skip:]
    if skip < 0 or kept.shape[1] < 2:
        raise ValueError(
            f"skip must leave two layers of {run.backward.shape[1]}, got {skip}"
        )
    if not (kept > 0).all():
        raise ValueError("a layer receives no gradient; use a larger batch or width")
    logs = np.log(kept)
    return (logs[:, 0] - logs[:, -1]) / (kept.shape[1] - 1)


@dataclass(frozen=True)
class Factor:
    """Growth of the gradient variance per layer, towards the input: a row of the table.

    Attributes:
        activation, weights: names.
        norm: with batch normalization or without.
        theory: mean of the theoretical factors of the layers.
        measured: mean of the measured ones, over layers, then networks.
        error: its standard error, over networks.
    """

    activation: str
    weights: str
    norm: bool
    theory: float
    measured: float
    error: float

    @property
    def z(self) -> float:
        """Deviation in standard errors."""
        return (self.measured - self.theory) / self.error


def layer_factor(
    widths: Sequence[int],
    activation: Activation,
    law: WeightLaw,
    *,
    norm: bool = False,
    skip: int = 0,
    batch: int = 64,
    networks: int = 16,
    seed: int = 0,
    finite_batch: bool = True,
) -> Factor:
    """Measure the growth per layer and set it beside the theory.

    Args:
        widths, activation, law, norm, batch, networks, seed: as for `simulate`.
        skip: leave out this many layers at the input, where the statistics of a
            normalized network have not settled yet.
        finite_batch: whether the theory has the factor (B − 2)/(B − 3).

    Raises:
        TypeError, ValueError: as `simulate` and `theory`; also if nothing is left.
    """
    at = {"norm": norm, "batch": batch}
    run = simulate(widths, activation, law, networks=networks, seed=seed, **at)
    if not 0 <= skip < run.factors.shape[1]:
        raise ValueError(
            f"skip must leave a layer: at most {run.factors.shape[1] - 1}, got {skip}"
        )
    at["batch"] = batch if norm and finite_batch else None
    expected = theory(widths, activation, law, **at).factors[skip:].mean()
    mean, error = mean_and_error(run.factors[:, skip:].mean(axis=1))
    return Factor(
        activation.name, law.name, norm, float(expected), float(mean), float(error)
    )


def factor_table(factors: Iterable[Factor]) -> Table:
    """The rows as a table: theory, measured ± standard error, z.

    Raises:
        ValueError: there is no row.
    """
    return table(
        ["f, f'", "weights, V(w)", "BN", "theory", "measured", "± s.e.", "z"],
        [
            [
                f.activation,
                f.weights,
                "yes" if f.norm else "no",
                f"{f.theory:.4g}",
                f"{f.measured:.4g}",
                f"{f.error:.1g}",
                f"{f.z:+.1f}",
            ]
            for f in factors
        ],
    )


def _require_law(law: WeightLaw) -> None:
    if not isinstance(law, WeightLaw):
        raise TypeError(
            f"law must be a WeightLaw, got {type(law).__name__}; use weight_law"
        )


def _draw(
    law: WeightLaw, rng: np.random.Generator, fan_in: int, fan_out: int
) -> np.ndarray:
    weights = np.asarray(law.sample(rng, fan_in, fan_out), dtype=np.float64)
    if weights.shape != (fan_in, fan_out):
        raise ValueError(
            f"{law.name} drew weights of shape {weights.shape}, expected "
            f"({fan_in}, {fan_out}): inputs by outputs"
        )
    return weights


def _require_finite(what: str, value: float, layer: int) -> None:
    if not np.isfinite(value):
        raise ValueError(
            f"the {what} variance of layer {layer} is not finite: it overflows float64; "
            "use smaller weights, fewer layers or normalization"
        )
