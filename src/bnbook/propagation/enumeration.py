"""The variances of a small network of signs, exact, from every case there is."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from bnbook.propagation.weights import require_widths


def enumerate_signs(
    widths: Sequence[int],
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Exact forward and backward variances of a linear network, by trying every case.

    Inputs, weights and output gradients are ±1, each with probability 1/2, so that their
    variances are 1. No formula enters: every combination is run.

    Args:
        widths: K_0 … K_L, small: at most 2²⁰ combinations.

    Returns:
        E (s^l)² and E (∂L/∂s^l)² for l = 1 … L.

    Raises:
        ValueError: widths is not valid, or there are more combinations.
    """
    widths = require_widths(widths)
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

    def mean_square(values: np.ndarray) -> Fraction:
        return Fraction(int((values**2).sum()), values.size)

    s, forward = x, []
    for w in weights:
        s = np.einsum("ni,nij->nj", s, w)
        forward.append(mean_square(s))
    ds, backward = rest[-1], [mean_square(rest[-1])]
    for w in weights[:0:-1]:
        ds = np.einsum("nj,nij->ni", ds, w)
        backward.append(mean_square(ds))
    return tuple(forward), tuple(backward[::-1])
