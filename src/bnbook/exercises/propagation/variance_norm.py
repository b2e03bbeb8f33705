"""Exercise: the factor of one example through batch normalization."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def gradient_variance(x: np.ndarray, gamma: float, eps: float) -> np.ndarray:
    """Variance of ∂L/∂x_b for an upstream gradient that is iid with variance 1.

    The layer is y = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε). The x are given, and the upstream
    gradients are centred and independent of each other.

    Args:
        x: the values of one feature, (B,).
        gamma: γ.
        eps: ε ≥ 0.

    Returns:
        variance: one value per example, (B,).
    """
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    share = eps / total
    return gamma**2 / total * (1 - 1 / count - (1 + share) * x_hat**2 / count)


def averaged(x, gamma, eps):
    """You return the average over the batch, with the factor 1 − (2 − r²)/B, for every example. An example far from
    the mean loses more: the term x̂_b² belongs to it alone."""
    count, total = len(x), x.var() + eps
    factor = (count - 2 + (eps / total) ** 2) / count
    return np.full(count, gamma**2 / total * factor)


def diagonal(x, gamma, eps):
    """You subtract x̂_b²/B, where it is (1 + r) x̂_b²/B with r = ε/(σ² + ε). Either r is missing, or you
    take the diagonal entry P_bb: the variance of (P g)_b is the sum of the squares of row b, which
    equals P_bb for a projection only, that is for ε = 0."""
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    return gamma**2 / total * (1 - 1 / count - x_hat**2 / count)


def terms_independent(x, gamma, eps):
    """You add the variances of the three terms as if they were independent. All three contain the
    same g, and the covariances change both signs: this is how Eq. (2) of the source goes wrong."""
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    mean_square = (x_hat**2).mean()
    return gamma**2 / total * (1 + 1 / count + x_hat**2 * mean_square / count)


def statistics_constant(x, gamma, eps):
    """You treat mean and variance as constants, so that every example keeps γ²/(σ² + ε). They depend
    on the batch, which removes two directions."""
    return np.full(len(x), gamma**2 / (x.var() + eps))


def not_squared(x, gamma, eps):
    """Your prefactor is γ/√(σ² + ε). A variance scales with the square: γ²/(σ² + ε)."""
    total = x.var() + eps
    return gradient_variance(x, gamma, eps) / gamma * np.sqrt(total)


def printed_factor(x, gamma, eps):
    """Your factor is 1 + 2/B, as Eq. (2) of the source prints it. Mean and variance depend on the batch,
    which removes two directions of the gradient: on average 1 − 2/B is left for ε = 0, and each
    example its own share."""
    return gamma**2 / (x.var() + eps) * np.full(len(x), 1 + 2 / len(x))


def signs_turned(x, gamma, eps):
    """Your two terms are right, and their signs are not. Mean and variance take something away:
    1 − 1/B − (1 + r) x̂_b²/B."""
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    term = (1 + eps / total) * x_hat**2
    return gamma**2 / total * (1 + (1 + term) / count)


def terms_added(x, gamma, eps):
    """You add 1/B and x̂_b²/B to 1, as if the three terms of the gradient were independent. All three
    contain the same g, and the covariances turn both signs. For ε > 0 x̂_b² also has the factor 1 + r."""
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    return gamma**2 / total * (1 + (1 + x_hat**2) / count)


def unbiased(x, gamma, eps):
    """You divide the variance by B − 1. Batch normalization divides by B."""
    count = len(x)
    total = x.var(ddof=1) + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    term = (1 + eps / total) * x_hat**2
    return gamma**2 / total * (1 - (1 + term) / count)


def eps_left_out(x, gamma, eps):
    """You leave ε out. It enters through σ² + ε, and through r = ε/(σ² + ε) as well."""
    return gradient_variance(x, gamma, 0.0)


def by_the_matrix(x, gamma, eps):
    """The same, from the rows of the Jacobian."""
    count, total = len(x), x.var() + eps
    x_hat = (x - x.mean()) / np.sqrt(total)
    p = np.eye(count) - 1 / count - np.outer(x_hat, x_hat) / count
    return ((gamma / np.sqrt(total) * p) ** 2).sum(axis=1)


_rng = np.random.default_rng(702)

EXERCISE = FunctionExercise(
    id="variance-norm",
    chapter="propagation/variance",
    title="One example's share",
    level="core",
    reference=gradient_variance,
    why="With P² = P − (r/B) x̂x̂ᵀ the squares of row b sum to 1 − 1/B − (1 + r) x̂_b²/B, where "
    "r = ε/(σ² + ε).",
    mistakes=variants(
        averaged,
        diagonal,
        terms_independent,
        statistics_constant,
        not_squared,
        printed_factor,
        signs_turned,
        terms_added,
        unbiased,
        eps_left_out,
    ),
    alternatives=(by_the_matrix,),
    hints=(
        "The gradient is J g with J = γ/√(σ² + ε) (I − 11ᵀ/B − x̂x̂ᵀ/B). For iid g the variance of "
        "entry b is the sum of the squares of row b of J.",
        "Multiply the row out. Σ x̂ = 0, and Σ x̂²/B is not 1 but σ²/(σ² + ε) = 1 − r.",
    ),
    cases=(
        Case("7 examples, ε = 0.6", (_rng.normal(1.0, 1.3, 7), -0.8, 0.6), count=7),
        Case(
            "5 examples, ε = 0",
            (_rng.normal(-2.0, 2.0, 5), 1.7, 0.0),
            "ε is 0.",
            count=5,
        ),
        Case(
            "an outlier among 12",
            (np.append(_rng.normal(size=11), 9.0), 1.2, 0.1),
            "one value is far from the others.",
            count=12,
        ),
    ),
    returns=("variance",),
)
