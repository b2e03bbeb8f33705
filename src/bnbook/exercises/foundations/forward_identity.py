"""Exercise: the γ and β that undo the normalization of one batch."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def identity_parameters(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Find γ and β for which batch normalization returns this batch unchanged: γẑ + β = x.

    Args:
        x: the batch, (M, D).
        eps: the ε of the normalization.

    Returns:
        gamma, (D,), and beta, (D,).
    """
    gamma = np.sqrt(x.var(axis=0) + eps)
    beta = x.mean(axis=0)
    return gamma, beta


def missing_root(x, eps):
    """Your γ is σ² + ε. The normalization divides by the root √(σ² + ε), so that is what γ must undo."""
    return x.var(axis=0) + eps, x.mean(axis=0)


def eps_ignored(x, eps):
    """Your γ is σ, without ε. The normalization divides by √(σ² + ε), a little more than σ, so γ = σ
    returns a batch that is a little too narrow."""
    return x.std(axis=0), x.mean(axis=0)


def eps_outside_root(x, eps):
    """Your γ is σ + ε. The normalization divides by √(σ² + ε), with ε inside the root."""
    return x.std(axis=0) + eps, x.mean(axis=0)


def unbiased_variance(x, eps):
    """Your γ uses the variance with M − 1. The normalization divides by M (no `ddof`), so that is what γ
    must undo."""
    return np.sqrt(x.var(axis=0, ddof=1) + eps), x.mean(axis=0)


def inverse_scale(x, eps):
    """Your γ is 1/√(σ² + ε), the factor that normalizes once more. γ has to undo it: √(σ² + ε)."""
    return 1 / np.sqrt(x.var(axis=0) + eps), x.mean(axis=0)


def negative_shift(x, eps):
    """Your β is −μ. The normalization has already subtracted μ; β must add it back."""
    return np.sqrt(x.var(axis=0) + eps), -x.mean(axis=0)


def shift_in_normalized_units(x, eps):
    """Your β is μ/√(σ² + ε), as if γ still multiplied it. β is added after the scaling, in the units of x,
    so it is μ itself."""
    std = np.sqrt(x.var(axis=0) + eps)
    return std, x.mean(axis=0) / std


def swapped(x, eps):
    """You return (β, γ). The order is γ, the scale, then β, the shift."""
    return x.mean(axis=0), np.sqrt(x.var(axis=0) + eps)


def wrong_axis(x, eps):
    """You average over the features of each example (axis 1), which gives M numbers. γ and β hold one
    number per feature: average over the examples, axis 0."""
    return np.sqrt(x.var(axis=1) + eps), x.mean(axis=1)


def kept_axis(x, eps):
    """You keep the averaged axis (`keepdims=True`), so γ and β have shape (1, D). They hold one number per
    feature, shape (D,)."""
    return np.sqrt(x.var(axis=0, keepdims=True) + eps), x.mean(axis=0, keepdims=True)


def from_two_examples(x, eps):
    """The same, solved from the first two rows of γẑ + β = x where they differ."""
    z_hat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    gamma = (x[0] - x[1]) / (z_hat[0] - z_hat[1])
    return gamma, x[0] - gamma * z_hat[0]


def with_loops(x, eps):
    """The same with Python loops."""
    gamma, beta = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for d in range(x.shape[1]):
        for value in x[:, d]:
            beta[d] += value / len(x)
        for value in x[:, d]:
            gamma[d] += (value - beta[d]) ** 2 / len(x)
        gamma[d] = np.sqrt(gamma[d] + eps)
    return gamma, beta


_rng = np.random.default_rng(102)

EXERCISE = FunctionExercise(
    id="forward-identity",
    chapter="foundations/forward",
    title="Undo the normalization",
    level="warm-up",
    reference=identity_parameters,
    why="γẑ + β = √(σ² + ε) · (x − μ)/√(σ² + ε) + μ = x. These numbers belong to this batch: on another "
    "batch, with another mean and variance, the same γ and β are not the identity.",
    mistakes=variants(
        missing_root,
        eps_ignored,
        eps_outside_root,
        unbiased_variance,
        inverse_scale,
        negative_shift,
        shift_in_normalized_units,
        swapped,
        wrong_axis,
        kept_axis,
    ),
    alternatives=(from_two_examples, with_loops),
    hints=(
        "Write γẑ + β = x with ẑ = (x − μ)/√(σ² + ε). It must hold for every example, so compare the "
        "coefficients of x, then the constants.",
        "The coefficient of x gives γ/√(σ² + ε) = 1. What does the rest give?",
    ),
    cases=(
        Case(
            "6 examples, 3 features", (_rng.normal(2.0, 1.5, size=(6, 3)), 0.1), count=6
        ),
        Case(
            "4 examples, 4 features",
            (_rng.normal(-3.0, 0.4, size=(4, 4)), 0.5),
            "ε is larger than σ².",
            4,
        ),
        Case(
            "two examples, 5 features",
            (_rng.normal(1.0, 3.0, size=(2, 5)), 0.2),
            "M is smaller than D.",
            2,
        ),
    ),
    returns=("gamma", "beta"),
)
