"""Exercise: the gradient that reaches the variance."""

from functools import partial

import numpy as np

from bnbook.exercises.foundations.backward_batch import batch_and_gradient
from bnbook.exercises.model import Case, FunctionExercise, variants


def variance_gradient(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    """Gradient of the loss with respect to the batch variance σ², with x and μ held fixed.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        x: the batch, (M, D).
        gamma: scale γ, (D,).
        eps: ε of the normalization.

    Returns:
        ∂L/∂σ², (D,).
    """
    centred = x - x.mean(axis=0)
    var = (centred**2).mean(axis=0)
    return -0.5 * (dy * gamma * centred).sum(axis=0) * (var + eps) ** -1.5


def half_lost(dy, x, gamma, eps):
    """You lose the factor 1/2: the derivative of v^(−1/2) is −½ v^(−3/2)."""
    return 2 * variance_gradient(dy, x, gamma, eps)


def sign_lost(dy, x, gamma, eps):
    """You lose the minus sign: a larger variance makes |ẑ| smaller, and the derivative of v^(−1/2) is −½
    v^(−3/2)."""
    return -variance_gradient(dy, x, gamma, eps)


def exponent_kept(dy, x, gamma, eps):
    """Your power of σ² + ε is −1/2. Differentiating v^(−1/2) lowers the exponent by one: −½ v^(−3/2)."""
    centred = x - x.mean(axis=0)
    return -0.5 * (dy * gamma * centred).sum(axis=0) * (x.var(axis=0) + eps) ** -0.5


def exponent_three(dy, x, gamma, eps):
    """You divide by (σ² + ε)³. It is the standard deviation that is cubed: (σ² + ε)^(3/2)."""
    centred = x - x.mean(axis=0)
    return -0.5 * (dy * gamma * centred).sum(axis=0) / (x.var(axis=0) + eps) ** 3


def normalized_twice(dy, x, gamma, eps):
    """Either you use ẑ where x − μ belongs and still divide by (σ² + ε)^(3/2): with ẑ one root is already
    divided out, and (σ² + ε)^(−1) is left. Or your power is −2: in Python `-3//2` is −2, and `-3/2` is
    −1.5."""
    z_hat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return -0.5 * (dy * gamma * z_hat).sum(axis=0) * (x.var(axis=0) + eps) ** -1.5


def gamma_lost(dy, x, gamma, eps):
    """You leave out γ: the gradient passes through y = γẑ + β first, ∂L/∂ẑ = γg."""
    return (
        -0.5 * (dy * (x - x.mean(axis=0))).sum(axis=0) * (x.var(axis=0) + eps) ** -1.5
    )


def averaged(dy, x, gamma, eps):
    """You average over the batch. Every ẑ depends on the one σ², so the contributions add up: `sum`,
    without 1/M."""
    return variance_gradient(dy, x, gamma, eps) / len(x)


def not_centred(dy, x, gamma, eps):
    """You use x where x − μ belongs: ẑ = (x − μ)/√(σ² + ε)."""
    return -0.5 * (dy * gamma * x).sum(axis=0) * (x.var(axis=0) + eps) ** -1.5


def eps_ignored(dy, x, gamma, eps):
    """You leave out ε: the power is (σ² + ε)^(−3/2)."""
    return (
        -0.5 * (dy * gamma * (x - x.mean(axis=0))).sum(axis=0) * x.var(axis=0) ** -1.5
    )


def unbiased_variance(dy, x, gamma, eps):
    """You use the variance with M − 1. The normalization divides by M: no `ddof`."""
    return (
        -0.5
        * (dy * gamma * (x - x.mean(axis=0))).sum(axis=0)
        * (x.var(axis=0, ddof=1) + eps) ** -1.5
    )


def not_summed(dy, x, gamma, eps):
    """You return the contribution of each example. Every ẑ of a feature depends on the same σ²: sum over
    the examples, axis 0."""
    return -0.5 * dy * gamma * (x - x.mean(axis=0)) * (x.var(axis=0) + eps) ** -1.5


def from_z_hat(dy, x, gamma, eps):
    """The same in terms of ẑ."""
    v = np.var(x, axis=0) + eps
    return -np.einsum("md,d,md->d", dy, gamma, (x - x.mean(0)) / np.sqrt(v)) / (2 * v)


def by_complex_step(dy, x, gamma, eps):
    """The same, by differentiating the loss Σ g y numerically: the complex step has no rounding error."""
    out = np.zeros(x.shape[1])
    for d in range(x.shape[1]):
        v = x[:, d].var() + eps + 1e-30j
        loss = np.sum(dy[:, d] * gamma[d] * (x[:, d] - x[:, d].mean()) / np.sqrt(v))
        out[d] = loss.imag / 1e-30
    return out


_batch = partial(batch_and_gradient, np.random.default_rng(202))


EXERCISE = FunctionExercise(
    id="backward-dvar",
    chapter="foundations/backward",
    title="The gradient that reaches the variance",
    level="core",
    reference=variance_gradient,
    why="Every ẑ of a feature is (x − μ)(σ² + ε)^(−1/2) with the same σ², so the chain rule sums over the "
    "batch: Yu (2021), Eq. (6).",
    mistakes=variants(
        half_lost,
        sign_lost,
        exponent_kept,
        exponent_three,
        normalized_twice,
        gamma_lost,
        averaged,
        not_centred,
        eps_ignored,
        unbiased_variance,
        not_summed,
    ),
    alternatives=(from_z_hat, by_complex_step),
    hints=(
        "Write ẑ = (x − μ) v^(−1/2) with v = σ² + ε, and differentiate with respect to v.",
        "∂ẑ/∂σ² = −½ (x − μ)(σ² + ε)^(−3/2) and ∂L/∂ẑ = γg. All M examples share one σ².",
    ),
    cases=(
        Case("6 examples, 3 features", _batch(6, 3, 0.1), count=6),
        Case(
            "4 examples, 4 features", _batch(4, 4, 1.5), "ε is comparable with σ².", 4
        ),
        Case("3 examples, 5 features", _batch(3, 5, 0.3), "M is smaller than D.", 3),
    ),
    returns=("dvar",),
)
