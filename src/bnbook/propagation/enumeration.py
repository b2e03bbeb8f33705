"""The variances of a small network of signs, exact, from every case there is."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bnbook.propagation.activations import LINEAR, Activation, require_activation
from bnbook.propagation.weights import require_widths


def enumerate_signs(
    widths: Sequence[int], activation: Activation = LINEAR
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Exact forward and backward variances of a small network, by trying every case.

    Inputs, weights and output gradients are ±1, each with probability 1/2, so that their
    variances are 1. No formula enters: every combination is run.

    Args:
        widths: K_0 … K_L, small: at most 2²⁰ combinations.
        activation: between the layers; f and f' must map integers to integers, as linear,
            ReLU, hard-tanh and the sign with its stand-ins do.

    Returns:
        E (s^l)² and E (∂L/∂s^l)² for l = 1 … L.

    Raises:
        TypeError: activation is not an Activation.
        ValueError: widths is not valid, there are more combinations, or f or f' of an
            integer is not an integer.
    """
    widths = require_widths(widths)
    require_activation(activation)
    sizes = [a * b for a, b in itertools.pairwise(widths)]
    bits = [widths[0], *sizes, widths[-1]]
    if sum(bits) > 20:
        raise ValueError(
            f"{sum(bits)} signs have too many combinations; use at most 20, got widths {widths}"
        )
    numbers = np.arange(2 ** sum(bits))[:, None]
    signs = 1 - 2 * ((numbers >> np.arange(sum(bits))) & 1)
    x, *rest = np.split(signs, np.cumsum(bits)[:-1], axis=1)
    weights = [
        w.reshape(-1, a, b)
        for w, a, b in zip(rest[:-1], widths, widths[1:], strict=False)
    ]
    a, sums = x, []
    for w in weights:
        sums.append(np.einsum("ni,nij->nj", a, w))
        a = _integers(activation.f, sums[-1], activation)
    ds = [rest[-1]]
    for w, s in zip(weights[:0:-1], sums[-2::-1], strict=True):
        slope = _integers(activation.derivative, s, activation)
        ds.append(slope * np.einsum("nj,nij->ni", ds[-1], w))
    return tuple(map(_mean_square, sums)), tuple(map(_mean_square, ds[::-1]))


def _integers(function, s: np.ndarray, activation: Activation) -> np.ndarray:
    values = function(s.astype(np.float64))
    exact = np.rint(values).astype(np.int64)
    if not (exact == values).all():
        raise ValueError(
            f"{activation.name} does not map integers to integers; use linear, ReLU, "
            "hard-tanh or a sign"
        )
    return exact


def _mean_square(values: np.ndarray) -> Fraction:
    return Fraction(int((values**2).sum()), values.size)
