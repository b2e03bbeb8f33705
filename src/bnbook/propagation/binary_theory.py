"""Gradient variances of sign networks: exact factors, and autograd through the layers."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import sympy as sp
import torch
from torch import nn

from bnbook.propagation.activations import (
    SIGN_HARD_TANH,
    SIGN_IDENTITY,
    Activation,
    moments,
)
from bnbook.propagation.binary import BinaryLinear, Sign, ste_derivative
from bnbook.propagation.variance import Variances
from bnbook.propagation.weights import require_count, require_widths

_ZERO, _ONE = sp.S.Zero, sp.S.One
SIGN_RELU = Activation(
    "sign, ReLU",
    SIGN_IDENTITY.f,
    lambda s: (s > 0).astype(np.float64),
    ((-_ONE, _ZERO, -sp.oo, _ZERO), (_ONE, _ONE, _ZERO, sp.oo)),
    (0.0,),
)
ACTIVATIONS = {  # the estimators of `binary`, for the Monte Carlo of `variance`
    "identity": SIGN_IDENTITY,
    "hardtanh": SIGN_HARD_TANH,
    "relu": SIGN_RELU,
}
B = sp.Symbol("B", positive=True)


def estimator_named(estimator: str) -> Activation:
    """The pair of sign and this stand-in for its derivative.

    Raises:
        ValueError: the estimator is unknown.
    """
    if estimator not in ACTIVATIONS:
        raise ValueError(
            f"unknown estimator {estimator!r}; use one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[estimator]


def slope(estimator: str, variance: sp.Expr = _ONE) -> sp.Expr:
    """E[h(s)²] for s ~ N(0, variance), where h stands in for the derivative of sign.

    Raises:
        ValueError: the estimator is unknown, or the variance not known to be positive.
    """
    return moments(estimator_named(estimator), sp.sympify(variance)).slope


def lattice_slope(estimator: str, fan_in: int) -> Fraction:
    """E[h(s)²] for s a sum of `fan_in` independent signs: exact, by the binomial law.

    A neuron whose inputs and weights are ±1 has such an s, whatever the inputs, if its
    weights are independent and each sign is as likely as the other.

    Raises:
        ValueError: the estimator is unknown, or fan_in is not an integer of at least 1.
    """
    estimator_named(estimator)
    require_count("fan_in", fan_in, 1)
    values = torch.arange(-fan_in, fan_in + 1, 2, dtype=torch.float64)
    passed = ste_derivative(values, estimator).tolist()
    ways = (
        math.comb(fan_in, heads) * int(h) ** 2
        for heads, h in enumerate(passed)
        if h  # 0 or 1
    )
    return Fraction(sum(ways), 2**fan_in)


def batch_averages(
    estimator: str, end: sp.Expr = 1 / (B - 1)
) -> tuple[sp.Expr, sp.Expr]:
    """E[h(ŝ)²] and E[h(ŝ)² ŝ²] for ŝ standardized in a batch of B normal numbers.

    ŝ²/(B − 1) has the law Beta(1/2, (B − 2)/2), and |ŝ| ≤ 1 where it is at most 1/(B − 1).
    Weighted with ŝ², whose mean is 1, the law is Beta(3/2, (B − 2)/2).

    Args:
        estimator: a name in `ACTIVATIONS`.
        end: what to write for 1/(B − 1), the end of hard-tanh's window.

    Raises:
        ValueError: the estimator is unknown.
    """
    estimator_named(estimator)
    half, rest = sp.Rational(1, 2), (B - 2) / 2
    return {
        "identity": (_ONE, _ONE),
        "relu": (half, half),
        "hardtanh": (
            sp.betainc_regularized(half, rest, 0, end),
            sp.betainc_regularized(3 * half, rest, 0, end),
        ),
    }[estimator]


def normalized_slope(estimator: str) -> sp.Expr:
    """The share of an upstream variance that sign and normalization pass, times σ²/γ².

    For a batch of B independent normal s, and g iid, centred and independent of s: h(ŝ) g
    loses its components along 1 and ŝ, and ŝ is independent of σ̂, so

        B/(B − 3) · (E[h²] (1 − 1/B) − E[h² ŝ²]/B),  exact, with E[σ²/σ̂²] = B/(B − 3).

    Returns:
        An expression in `B`, for B > 3. Its limit for B → ∞ is `slope(estimator)`.

    Raises:
        ValueError: the estimator is unknown.
    """
    passed, along = batch_averages(estimator)
    return B / (B - 3) * (passed * (1 - 1 / B) - along / B)


def sign_theory(
    widths: Sequence[int], estimator: str, *, norm: bool, batch: int | None = None
) -> np.ndarray:
    """V(∂L/∂s^l)/V(∂L/∂s^L) for l = 1 … L in a random network of signs.

    Without normalization the factor of layer l is K_{l+1} E[h²], with the exact law of s:
    a sum of K_{l−1} signs, and N(0, K_0) in the first layer, whose inputs are N(0, 1).
    With it, K_{l+1}/K_{l−1} times `normalized_slope`; γ = 1, β = 0, ε = 0.

    Args:
        widths: K_0, …, K_L.
        estimator: a name in `ACTIVATIONS`.
        norm: batch normalization before each sign.
        batch: B ≥ 4; None means B → ∞.

    Returns:
        Array (L,); its last entry is 1.

    Raises:
        ValueError: a width, the estimator or the batch is not valid.

    Source: Sari and Partovi Nia (2020), §3, with the estimator's own factor.
    """
    widths = require_widths(widths)
    passed = float(slope(estimator))
    if batch is not None:
        require_count("batch", batch, 4)
        passed = float(normalized_slope(estimator).subs(B, int(batch)))
    factors = [1.0]
    for layer in range(len(widths) - 2, 0, -1):
        before, after = widths[layer - 1], widths[layer + 1]
        if norm:
            factors.append(after / before * passed)
        elif layer == 1:
            factors.append(after * float(slope(estimator, sp.Integer(before))))
        else:
            factors.append(after * float(lattice_slope(estimator, before)))
    return np.cumprod(factors)[::-1]


def autograd_variances(
    widths: Sequence[int],
    estimator: str,
    *,
    norm: bool,
    batch: int = 64,
    networks: int = 16,
    seed: int = 0,
) -> tuple[Variances, np.ndarray]:
    """The Monte Carlo of `variance.simulate`, through `BinaryLinear`, `Sign` and PyTorch.

    Weights, inputs and output gradients are the same draws; here `torch.autograd` makes
    the backward pass. Arithmetic is float64; ε is 1e-30, since PyTorch refuses 0.

    Args:
        widths, norm, batch, networks, seed: as for `simulate`.
        estimator: a name in `ACTIVATIONS`.

    Returns:
        The variances by network and layer, and ‖∂L/∂W^l‖², (networks, L).

    Raises:
        ValueError: as `simulate`.
    """
    widths = require_widths(widths)
    estimator_named(estimator)
    require_count("batch", batch, 2 if norm else 1)
    require_count("networks", networks, 1)
    shape = networks, len(widths) - 1
    forward, backward, weights = (np.empty(shape) for _ in range(3))
    for n in range(networks):
        rng = np.random.default_rng([seed, n])
        a = torch.tensor(rng.normal(size=(batch, widths[0])))
        layers, sums = [], []
        for fan_in, fan_out in itertools.pairwise(widths):
            layer = BinaryLinear(fan_in, fan_out, dtype=torch.float64)
            signs = 2.0 * rng.integers(0, 2, (fan_in, fan_out)) - 1.0
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(signs.T))
            layers.append(layer)
            sums.append(layer(a))
            sums[-1].retain_grad()
            z = sums[-1]
            if norm:
                z = nn.BatchNorm1d(fan_out, eps=1e-30, dtype=torch.float64)(z)
            a = Sign(estimator)(z)
        sums[-1].backward(torch.tensor(rng.normal(size=sums[-1].shape)))
        for at, (layer, s) in enumerate(zip(layers, sums, strict=True)):
            forward[n, at] = s.detach().square().mean()
            backward[n, at] = s.grad.square().mean()
            weights[n, at] = layer.weight.grad.square().sum()
    return Variances(forward, backward), weights
