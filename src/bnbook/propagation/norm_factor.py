"""What one batch normalization does to the variance of an iid gradient."""

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.propagation.weights import require_count


def norm_factor(batch: int, share: float = 0.0) -> float:
    """Average of Σ_k P_ik² over the batch: (B − 2 + r²)/B.

    The factor by which batch normalization multiplies the variance of iid centred
    gradients that do not depend on ŝ, relative to γ²/(σ̂² + ε).

    Args:
        batch: B ≥ 2.
        share: r = ε/(σ̂² + ε), from 0 to 1.

    Raises:
        ValueError: batch or share is out of range.
    """
    require_count("batch", batch, 2)
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    return (batch - 2 + share**2) / batch


def norm_factor_samples(
    batch: int,
    *,
    draws: int,
    seed: int = 0,
    population: bool = False,
    eps: float = 0.0,
) -> np.ndarray:
    """Monte Carlo of one normalization: the mean square of ∂L/∂s for s, g ~ N(0, 1) iid.

    Args:
        batch: B ≥ 2.
        draws: independent batches.
        seed: of the draws.
        population: leave the result relative to the population variance 1. Otherwise
            multiply by the batch's own σ̂² + ε.
        eps: ε ≥ 0.

    Returns:
        One value per batch, (draws,).

    Raises:
        ValueError: batch is below 2 or draws below 1; as `batch_norm`.
    """
    require_count("batch", batch, 2)
    require_count("draws", draws, 1)
    rng = np.random.default_rng([seed, batch])
    s, g = rng.normal(size=(2, batch, draws))
    _, cache = batch_norm(s, np.ones(draws), np.zeros(draws), eps=eps)
    squares = (batch_norm_backward(g, cache).dx ** 2).mean(axis=0)
    return squares if population else squares * np.ravel(cache.std) ** 2


def printed_factor(batch: int, spread: float = 1.0) -> float:
    """The factor {B² + 2B − 1 + V(ŝ)}/B² as printed, which is wrong at order 1/B.

    Source: Sari and Partovi Nia (2020), Eq. (2).
    """
    require_count("batch", batch, 2)
    return (batch**2 + 2 * batch - 1 + spread) / batch**2
