"""The expectation of a product of sample means, over all minibatches of size B.

Two statements in closed form, with population means ā = E a and Cov(a, b) over the data:

    independent draws:         E[mean a · mean b] − ā b̄ = Cov(a, b)/B
    distinct examples of N:    E[mean a · mean b] − ā b̄ = Cov(a, b)/B · (N − B)/(N − 1)

Each is also found by trying every minibatch of a small data set.

Source: Anonymous (2022), §2.1, who states the bias for B = 1.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

MOST_MINIBATCHES = 20_000


def product_bias(
    a: np.ndarray, b: np.ndarray, size: int, *, replace: bool = True
) -> np.ndarray:
    """E[mean a · mean b] − ā b̄ over minibatches of `size` examples of the data.

    Args:
        a: (N,), or (N, p, q) for matrices.
        b: (N,), or (N, q, r): the product is then that of matrices.
        size: B.
        replace: whether examples are drawn independently; otherwise they are distinct.

    Returns:
        A number, or (p, r).

    Raises:
        ValueError: the data do not fit together, or the size does not fit the data.
    """
    a, b = _data(a), _data(b)
    if len(a) != len(b) or a.ndim != b.ndim or a.ndim not in (1, 3):
        raise ValueError(
            f"a and b must both be (N,), or (N, p, q) and (N, q, r), got {a.shape} and {b.shape}"
        )
    _require_size(size, len(a), replace)
    times = np.matmul if a.ndim == 3 else np.multiply
    covariance = times(a, b).mean(0) - times(a.mean(0), b.mean(0))
    n = len(a)
    kept = 1.0 if replace else (n - size) / (n - 1)
    return covariance * kept / size


def unbiased_product(a: np.ndarray, b: np.ndarray) -> float:
    """An unbiased estimate of ā b̄ from one minibatch of independent draws: the mean of
    a_i b_j over pairs of different examples.

    Args:
        a, b: (B,) each, B ≥ 2.

    Raises:
        ValueError: fewer than two examples, or unequal numbers.
    """
    a, b = _data(a), _data(b)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(
            f"a and b must both be (B,) with B at least 2, got {a.shape} and {b.shape}"
        )
    size = len(a)
    return float((a.sum() * b.sum() - a @ b) / (size * (size - 1)))


def two_factor_bias(a: np.ndarray, b: np.ndarray, c: np.ndarray, size: int) -> float:
    """Bias of Eq. (1) for a path of three edges: mean a · mean(b c) as an estimate of
    ā b̄ c̄, over minibatches of independent draws.

    Args:
        a, b, c: the per-example Jacobians of the edges, (N,) each, a the last edge.
        size: B.

    Raises:
        ValueError: unequal numbers of examples, or no minibatch.

    Source: Anonymous (2022), Eq. (1).
    """
    a, b, c = _data(a), _data(b), _data(c)
    inner = b * c
    lasting = a.mean() * (inner.mean() - b.mean() * c.mean())
    return float(lasting + product_bias(a, inner, size))


def over_minibatches(
    statistic: Callable[[np.ndarray], float],
    count: int,
    size: int,
    *,
    replace: bool = True,
) -> float:
    """The exact expectation of a statistic: its mean over every possible minibatch.

    Args:
        statistic: of the numbers of the examples in the minibatch, an integer array (B,).
        count: N, examples in the data.
        size: B.
        replace: whether an example can be drawn twice.

    Raises:
        ValueError: the size does not fit, or there are too many minibatches to try.
    """
    _require_size(size, count, replace)
    number = count**size if replace else math.comb(count, size)
    if number > MOST_MINIBATCHES:
        raise ValueError(
            f"{number} minibatches are too many to try; use at most {MOST_MINIBATCHES}"
        )
    if replace:
        all_of_them = itertools.product(range(count), repeat=size)
    else:
        all_of_them = itertools.combinations(range(count), size)
    return sum(statistic(np.array(chosen)) for chosen in all_of_them) / number


def _data(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"the data must be finite, one entry for each example, got shape {values.shape}"
        )
    return values


def _require_size(size: int, count: int, replace: bool) -> None:
    if not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size must be a whole number of at least 1, got {size!r}")
    if not replace and not 2 <= count >= size:
        raise ValueError(
            f"{size} distinct examples need a data set of at least that many and of 2, "
            f"got {count}; draw with replacement"
        )
