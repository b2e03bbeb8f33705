"""Exercise: the part of the gradient that detached statistics lose."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def lost_gradient(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    """Find what is missing in ∂L/∂x where the batch statistics are treated as constants.

    Args:
        dy: upstream gradient ∂L/∂y, (M, D), for y = γẑ + β over axis 0.
        x: the batch, (M, D).
        gamma: γ, (D,).
        eps: ε > 0, added to the variance.

    Returns:
        The right gradient minus the one with detached statistics, (M, D).
    """
    std = np.sqrt(x.var(axis=0) + eps)
    z_hat = (x - x.mean(axis=0)) / std
    return -gamma / std * (dy.mean(axis=0) + z_hat * (dy * z_hat).mean(axis=0))


def _parts(x, eps):
    std = np.sqrt(x.var(axis=0) + eps)
    return (x - x.mean(axis=0)) / std, std


def sign_lost(dy, x, gamma, eps):
    """You return the detached gradient minus the right one. What is *missing* must be added
    to the detached one: the right one minus the detached one."""
    return -lost_gradient(dy, x, gamma, eps)


def only_the_mean(dy, x, gamma, eps):
    """You have the path through the mean, and not the one through the variance,
    −γ/√(σ² + ε) · ẑ · mean(g ẑ)."""
    _, std = _parts(x, eps)
    return np.broadcast_to(-gamma / std * dy.mean(axis=0), x.shape).copy()


def only_the_variance(dy, x, gamma, eps):
    """You have the path through the variance, and not the one through the mean,
    −γ/√(σ² + ε) · mean(g)."""
    z_hat, std = _parts(x, eps)
    return -gamma / std * z_hat * (dy * z_hat).mean(axis=0)


def whole_gradient(dy, x, gamma, eps):
    """You return the right gradient. Subtract the one with detached statistics,
    γ/√(σ² + ε) · g."""
    _, std = _parts(x, eps)
    return gamma / std * dy + lost_gradient(dy, x, gamma, eps)


def detached_gradient(dy, x, gamma, eps):
    """You return the gradient with detached statistics. The question is what it lacks."""
    _, std = _parts(x, eps)
    return gamma / std * dy


def gamma_lost(dy, x, gamma, eps):
    """You leave out γ. Both gradients pass through y = γẑ + β, so their difference has the
    factor γ too."""
    return lost_gradient(dy, x, np.ones_like(gamma), eps)


def summed(dy, x, gamma, eps):
    """You sum over the batch where a mean belongs. Each example has the share 1/M in the
    statistics."""
    return len(x) * lost_gradient(dy, x, gamma, eps)


def eps_ignored(dy, x, gamma, eps):
    """You leave ε out of the denominator: divide by √(σ² + ε), also inside ẑ."""
    return lost_gradient(dy, x, gamma, 0.0)


def by_jacobian(dy, x, gamma, eps):
    """The same, with the matrix that the detached Jacobian lacks."""
    z_hat, std = _parts(x, eps)
    lacking = -(1 + np.einsum("id,jd->dij", z_hat, z_hat)) / len(x)
    return np.einsum("dij,jd->id", lacking, dy * gamma / std)


def by_complex_step(dy, x, gamma, eps):
    """The same, by differentiating the loss with and without the statistics."""
    result = np.empty_like(x)
    for index in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[index] += 1e-30j
        slopes = []
        for source in (moved, x):
            centred = source - source.mean(axis=0)
            std = np.sqrt((centred * centred).mean(axis=0) + eps)
            y = gamma * (moved - source.mean(axis=0)) / std
            slopes.append((dy * y).sum().imag / 1e-30)
        result[index] = slopes[0] - slopes[1]
    return result


_rng = np.random.default_rng(303)


def _case(count, features, eps):
    return (
        _rng.normal(0.5, 1.0, size=(count, features)),
        _rng.normal(2.0, 1.5, size=(count, features)),
        _rng.normal(size=features),
        eps,
    )


EXERCISE = FunctionExercise(
    id="museum-detached",
    chapter="foundations/museum",
    title="What a detached gradient lacks",
    level="hard",
    reference=lost_gradient,
    why="Detaching keeps the path through ẑ alone. The paths through μ and through σ² are "
    "what is lost: they remove from g its mean and its share along ẑ.",
    mistakes=variants(
        sign_lost,
        only_the_mean,
        only_the_variance,
        whole_gradient,
        detached_gradient,
        gamma_lost,
        summed,
        eps_ignored,
    ),
    alternatives=(by_jacobian, by_complex_step),
    hints=(
        "With μ and σ² as constants, y is a straight line in x, so the detached gradient is "
        "γ/√(σ² + ε) · g.",
        "The right gradient is γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ)). Subtract the "
        "detached one.",
    ),
    cases=(
        Case("6 examples, 3 features", _case(6, 3, 0.1), count=6),
        Case("two examples", _case(2, 3, 0.5), "M = 2.", 2),
        Case("M = D", _case(4, 4, 2.0), "M = D, and ε is large.", 4),
    ),
    returns=("missing",),
    feature_axis=1,
)
