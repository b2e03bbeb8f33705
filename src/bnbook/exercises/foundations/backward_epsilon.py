"""Exercise: how far ε keeps the gradient from being orthogonal to ẑ."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def dx_along_z_hat(
    dgamma: np.ndarray, gamma: np.ndarray, var: np.ndarray, eps: float
) -> np.ndarray:
    """The sum Σ dx ẑ over the batch, for each feature, from what is known without dx itself.

    Args:
        dgamma: ∂L/∂γ = Σ g ẑ, (D,).
        gamma: scale γ, (D,).
        var: biased batch variance σ², (D,).
        eps: ε of the normalization.

    Returns:
        Σ dx ẑ, (D,). It is 0 when ε = 0: then the gradient is orthogonal to ẑ.
    """
    return gamma * dgamma * eps * (var + eps) ** -1.5


def orthogonal(dgamma, gamma, var, eps):
    """You return 0, as if ẑ had length √M. With ε > 0, Σẑ² = M σ²/(σ² + ε) is less than M, so a remainder
    of the order of ε is left: find it."""
    return np.zeros_like(dgamma)


def other_share(dgamma, gamma, var, eps):
    """You kept the share σ²/(σ² + ε), which is what the path through σ² takes away. What is left is 1 minus
    that: ε/(σ² + ε)."""
    return gamma * dgamma * var * (var + eps) ** -1.5


def nothing_taken_away(dgamma, gamma, var, eps):
    """You have the direct path alone, γ Σgẑ/√(σ² + ε). The path through σ² takes away the share σ²/(σ² + ε)
    of it; the path through μ adds nothing, since Σẑ = 0."""
    return gamma * dgamma / np.sqrt(var + eps)


def prefactor_lost(dgamma, gamma, var, eps):
    """You lose the factor 1/√(σ² + ε) in front of dx."""
    return gamma * dgamma * eps / (var + eps)


def gamma_lost(dgamma, gamma, var, eps):
    """You leave out γ: dx carries the factor γ/√(σ² + ε)."""
    return dgamma * eps * (var + eps) ** -1.5


def eps_over_variance(dgamma, gamma, var, eps):
    """Your share is ε/σ². That is right to first order for a small ε; exactly it is ε/(σ² + ε)."""
    return gamma * dgamma * eps / var / np.sqrt(var + eps)


def eps_lost_in_prefactor(dgamma, gamma, var, eps):
    """Your share ε/(σ² + ε) is right and your prefactor is γ/σ. It is γ/√(σ² + ε)."""
    return gamma * dgamma * eps / (var + eps) / np.sqrt(var)


def sign_lost(dgamma, gamma, var, eps):
    """Your sign is wrong: 1 − σ²/(σ² + ε) is positive."""
    return -dx_along_z_hat(dgamma, gamma, var, eps)


def as_a_share(dgamma, gamma, var, eps):
    """The same, read off the closed form of dx."""
    mean_square = var / (var + eps)
    return gamma / np.sqrt(var + eps) * dgamma * (1 - mean_square)


def with_loops(dgamma, gamma, var, eps):
    """The same, feature by feature."""
    return np.array(
        [
            c * g * eps / (v + eps) ** 1.5
            for g, c, v in zip(dgamma, gamma, var, strict=True)
        ]
    )


_rng = np.random.default_rng(207)


def _features(count, eps):
    gamma = np.array([1.5, -0.7, 2.2, 0.6, -1.3])[:count]
    return (
        _rng.normal(0.5, 2.0, size=count),
        gamma,
        _rng.uniform(0.5, 3.0, size=count),
        eps,
    )


EXERCISE = FunctionExercise(
    id="backward-epsilon",
    chapter="foundations/backward",
    title="What ε leaves of the gradient along ẑ",
    level="hard",
    reference=dx_along_z_hat,
    why="Multiply the closed form of dx by ẑ and sum: Σẑ = 0 removes the mean, and Σẑ² = Mσ²/(σ² + ε) leaves "
    "γ Σgẑ/√(σ² + ε) · (1 − σ²/(σ² + ε)).",
    mistakes=variants(
        orthogonal,
        other_share,
        nothing_taken_away,
        prefactor_lost,
        gamma_lost,
        eps_over_variance,
        eps_lost_in_prefactor,
        sign_lost,
    ),
    alternatives=(as_a_share, with_loops),
    hints=(
        "Start from dx = γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ)), multiply by ẑ and sum over the batch.",
        "You need Σẑ = 0, Σgẑ = dgamma and Σẑ². What is Σẑ² if ẑ = (x − μ)/√(σ² + ε)?",
        "Σẑ² = M σ²/(σ² + ε), not M.",
    ),
    cases=(
        Case("3 features, ε = 0.1", _features(3, 0.1)),
        Case("5 features, ε = 1.5", _features(5, 1.5), "ε is comparable with σ²."),
        Case("4 features, ε = 0.01", _features(4, 0.01), "ε is small next to σ²."),
    ),
    returns=("along_z_hat",),
)
