"""Exercise: move a trained layer to a library whose ε cannot be changed."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def absorb_eps(
    gamma: np.ndarray, beta: np.ndarray, var: np.ndarray, eps: float, eps_new: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the γ and β with which another ε gives the same output at inference.

    At inference y = γ (z − mean)/√(var + ε) + β. The running mean and variance stay as
    they are.

    Args:
        gamma, beta: trained scale and shift, (D,).
        var: running variance, (D,).
        eps: ε with which the layer was trained.
        eps_new: ε of the library to which it moves.

    Returns:
        The new gamma and the new beta, (D,) each.
    """
    return gamma * np.sqrt((var + eps_new) / (var + eps)), beta.copy()


def unchanged(gamma, beta, var, eps, eps_new):
    """You leave γ as it is. Then each output is divided by √(var + eps_new) where the
    trained layer divided by √(var + eps)."""
    return gamma.copy(), beta.copy()


def upside_down(gamma, beta, var, eps, eps_new):
    """Your factor is upside down. The new layer divides by √(var + eps_new), so γ must
    contain that root to cancel it."""
    return gamma * np.sqrt((var + eps) / (var + eps_new)), beta.copy()


def root_missing(gamma, beta, var, eps, eps_new):
    """You scale by the ratio of the variances. The output is divided by their roots, so
    the factor is the root of that ratio."""
    return gamma * (var + eps_new) / (var + eps), beta.copy()


def variance_forgotten(gamma, beta, var, eps, eps_new):
    """Your factor is √(eps_new/eps), the same for all features. ε is added to the
    variance, so a feature with a large one hardly needs any correction."""
    return gamma * np.sqrt(eps_new / eps), beta.copy()


def shift_scaled(gamma, beta, var, eps, eps_new):
    """You scale β too. It is added after the division, so another ε does not touch
    it."""
    factor = np.sqrt((var + eps_new) / (var + eps))
    return gamma * factor, beta * factor


def eps_outside_root(gamma, beta, var, eps, eps_new):
    """Your factor is (σ + eps_new)/(σ + eps). Both libraries add ε to the variance,
    inside the root."""
    return gamma * (np.sqrt(var) + eps_new) / (np.sqrt(var) + eps), beta.copy()


def old_divisor_lost(gamma, beta, var, eps, eps_new):
    """You multiply by √(var + eps_new) alone, which undoes the new division. The old one
    by √(var + eps) must still happen."""
    return gamma * np.sqrt(var + eps_new), beta.copy()


def swapped(gamma, beta, var, eps, eps_new):
    """You return (β, γ). The order is γ, then β."""
    return beta.copy(), gamma * np.sqrt((var + eps_new) / (var + eps))


def by_slopes(gamma, beta, var, eps, eps_new):
    """The same, by equating the slopes in z."""
    slope = gamma * (var + eps) ** -0.5
    return slope * (var + eps_new) ** 0.5, 1.0 * beta


def with_loops(gamma, beta, var, eps, eps_new):
    """The same, feature by feature."""
    pairs = zip(gamma, var, strict=True)
    scaled = [g / np.sqrt(v + eps) * np.sqrt(v + eps_new) for g, v in pairs]
    return np.array(scaled), np.array(list(beta))


_rng = np.random.default_rng(504)


def _layer(features, eps, eps_new):
    gamma, beta = _rng.normal(1.0, 0.5, size=features), _rng.normal(size=features)
    return gamma, beta, _rng.uniform(0.01, 1.0, size=features), eps, eps_new


EXERCISE = FunctionExercise(
    id="conventions-eps",
    chapter="foundations/conventions",
    title="Another ε, the same output",
    level="core",
    reference=absorb_eps,
    why="The slope in z is γ/√(var + ε), and it must not change. With the slope kept and "
    "the mean kept, β is kept as well.",
    mistakes=variants(
        unchanged,
        upside_down,
        root_missing,
        variance_forgotten,
        shift_scaled,
        eps_outside_root,
        old_divisor_lost,
        swapped,
    ),
    alternatives=(by_slopes, with_loops),
    hints=(
        "Write the output of both layers as slope times (z − mean) plus a constant.",
        "The slopes are γ/√(var + eps) and γ_new/√(var + eps_new). Equate them.",
    ),
    cases=(
        Case("3 features, ε from 0.01 to 0.1", _layer(3, 0.01, 0.1)),
        Case("5 features, ε from 0.5 to 0.02", _layer(5, 0.5, 0.02)),
        Case("2 features, ε from 0.001 to 1", _layer(2, 0.001, 1.0)),
    ),
    returns=("gamma_new", "beta_new"),
)
