"""How well a minibatch estimates what is defined by the whole population."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaln

from bnbook.validation import require_float_array


def effective_size(count: int | np.ndarray, rho: float | np.ndarray) -> np.ndarray:
    """Number of independent values that estimate a mean as well as `count` dependent ones.

        n_eff = n/(1 + (n − 1) ρ)

    Args:
        count: n ≥ 1, values of equal variance.
        rho: ρ, the correlation of each two of them, from −1/(n − 1), exclusive, to 1.

    Raises:
        ValueError: count is below 1, or no n values have such a correlation.
    """
    count, rho = np.asarray(count, float), np.asarray(rho, float)
    if not (count >= 1).all():
        raise ValueError(f"count must be at least 1, got {count.min()}")
    if not ((rho <= 1) & (1 + (count - 1) * rho > 0)).all():
        raise ValueError(
            f"rho must lie above −1/(count − 1) and not above 1, got {rho.min()} to {rho.max()}"
        )
    return count / (1 + (count - 1) * rho)


def std_factor(count: int | np.ndarray) -> np.ndarray:
    """E σ_B/σ for a batch of M independent normal values, σ_B² the biased variance.

        c_M = √(2/M) Γ(M/2)/Γ((M − 1)/2),   about 1 − 3/(4 M)

    Args:
        count: M ≥ 2.

    Raises:
        ValueError: count is below 2.
    """
    count = np.asarray(count, float)
    if not (count >= 2).all():
        raise ValueError(
            f"count must be at least 2, got {count.min()}; one value has no spread"
        )
    return np.sqrt(2 / count) * np.exp(gammaln(count / 2) - gammaln((count - 1) / 2))


def position_correlation(z: np.ndarray) -> np.ndarray:
    """Mean correlation of two positions of one example, for each channel.

    It is the ρ for which the mean over P positions of an example has the variance
    σ²/P · (1 + (P − 1) ρ) that it has in z.

    Args:
        z: (N, C, …) with N ≥ 2 examples and P ≥ 2 positions.

    Returns:
        (C,), each from −1/(P − 1) to 1.

    Raises:
        TypeError: z is not a floating-point array.
        ValueError: z has no positions or a single example, or a channel is constant.
    """
    require_float_array("z", z)
    flat = z.reshape(*z.shape[:2], -1) if z.ndim > 2 else z[..., None]
    if len(z) < 2 or flat.shape[2] < 2:
        raise ValueError(
            f"z must be (N, C, …) with at least two examples and positions, got {z.shape}"
        )
    count = flat.shape[2]
    variance = flat.var(axis=(0, 2))
    if not variance.all():
        raise ValueError("a channel is constant, and has no correlation; leave it out")
    share = flat.mean(axis=2).var(axis=0) / variance
    return (count * share - 1) / (count - 1)


def mean_over_batches(
    function: Callable[[list[int]], np.ndarray], count: int, size: int
) -> np.ndarray:
    """Mean of function(rows) over every batch of `size` different rows out of `count`.

    Raises:
        ValueError: size lies outside 1 to count, or there are more than 20 000 batches.
    """
    if not 1 <= size <= count or math.comb(count, size) > 20_000:
        raise ValueError(
            f"size must lie between 1 and {count}, with at most 20 000 batches, got {size}"
        )
    return np.mean(
        [function(list(b)) for b in itertools.combinations(range(count), size)], axis=0
    )
