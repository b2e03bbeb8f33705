"""What one batch normalization does to the variance of a gradient."""

from collections.abc import Callable

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.propagation.activations import LINEAR, Activation, require_activation
from bnbook.propagation.weights import require_count

_NODES = 120  # Gauss–Legendre nodes on each smooth piece


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


def standardized_expectation(
    function: Callable[[np.ndarray], np.ndarray],
    batch: int,
    *,
    breaks: tuple[float, ...] = (),
) -> float:
    """E[function(ŝ)] for one entry ŝ of a standardized batch of independent normals.

    ŝ = √(B − 1) sin θ with the density of θ proportional to cos^(B−3) θ on (−π/2, π/2):
    a batch whose mean is 0 is a point on a sphere in B − 1 dimensions, uniformly
    distributed, and ŝ is √(B − 1) times a coordinate of it.

    Args:
        function: smooth between the breaks.
        batch: B ≥ 3.
        breaks: points where the function jumps.

    Raises:
        ValueError: batch is below 3, or the result is not finite.
    """
    require_count("batch", batch, 3)
    end = np.sqrt(batch - 1)
    inner = [np.arcsin(b / end) for b in breaks if abs(b) < end]
    # For a large batch the density is narrow, like a normal one of width 1/√B.
    inner += [s * min(8 / end, 1.5) for s in (-1, -0.5, -0.25, 0, 0.25, 0.5, 1)]
    edges = np.unique([-np.pi / 2, np.pi / 2, *inner])
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    theta = half * nodes + middle
    mass = half * weights * np.cos(theta) ** (batch - 3)
    total = float((mass * function(end * np.sin(theta))).sum() / mass.sum())
    if not np.isfinite(total):
        raise ValueError("the function is not finite on the batch; check it")
    return total


def slope_factor(activation: Activation, batch: int) -> float:
    """(1 − 1/B) E f'(ŝ)² − E[f'(ŝ)² ŝ²]/B for a batch of independent normals.

    The factor of an activation and the normalization before it, relative to γ²/σ̂², if
    γ = 1, β = 0, ε = 0, and the gradient above the activation is iid, centred and
    independent of s. It is (1 − 2/B) E f'² if f'² and ŝ² are uncorrelated.

    Args:
        activation: the pair f, f'.
        batch: B ≥ 3.

    Raises:
        TypeError: activation is not an Activation.
        ValueError: batch is below 3.
    """
    require_activation(activation)

    def passed(s):
        return activation.derivative(s) ** 2 * (1 - 1 / batch - s**2 / batch)

    return standardized_expectation(passed, batch, breaks=activation.breaks)


def norm_factor_samples(
    batch: int,
    *,
    draws: int,
    seed: int = 0,
    population: bool = False,
    eps: float = 0.0,
    activation: Activation = LINEAR,
) -> np.ndarray:
    """Monte Carlo of one normalization: the mean square of ∂L/∂s for s, u ~ N(0, 1) iid.

    The gradient at the output of the normalization is f'(ŝ) u.

    Args:
        batch: B ≥ 2.
        draws: independent batches.
        seed: of the draws.
        population: leave the result relative to the population variance 1. Otherwise
            multiply by the batch's own σ̂² + ε.
        eps: ε ≥ 0.
        activation: gives f'; linear leaves u as it is.

    Returns:
        One value per batch, (draws,).

    Raises:
        TypeError: activation is not an Activation.
        ValueError: batch is below 2 or draws below 1; as `batch_norm`.
    """
    require_count("batch", batch, 2)
    require_count("draws", draws, 1)
    require_activation(activation)
    rng = np.random.default_rng([seed, batch])
    s, u = rng.normal(size=(2, batch, draws))
    s_hat, cache = batch_norm(s, np.ones(draws), np.zeros(draws), eps=eps)
    dx = batch_norm_backward(activation.derivative(s_hat) * u, cache).dx
    squares = (dx**2).mean(axis=0)
    return squares if population else squares * np.ravel(cache.std) ** 2


def printed_factor(batch: int, spread: float = 1.0) -> float:
    """The factor {B² + 2B − 1 + V(ŝ)}/B² as printed, which is wrong at order 1/B.

    Source: Sari and Partovi Nia (2020), Eq. (2).
    """
    require_count("batch", batch, 2)
    return (batch**2 + 2 * batch - 1 + spread) / batch**2
