"""Exercise: fold batch normalization at inference into the linear layer before it."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def fold(
    weight: np.ndarray,
    bias: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Merge a linear layer and the batch normalization after it, in inference mode, into one linear layer.

    The layer computes z = x Wᵀ + b, the normalization γ (z − running mean)/√(running var + ε) + β.

    Args:
        weight: W, (K, D): one row per output.
        bias: b, (K,).
        gamma, beta: scale and shift of the normalization, (K,).
        running_mean, running_var: its running statistics, (K,).
        eps: its ε.

    Returns:
        W', (K, D), and b', (K,), such that x W'ᵀ + b' is the output of both layers for every x.
    """
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, scale * (bias - running_mean) + beta


def scale_along_inputs(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You scale the columns of W, one factor per input. Each row of W makes one output, and each output has
    its own factor: give it the shape (K, 1)."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale * weight, scale * (bias - running_mean) + beta


def bias_lost(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You leave out b. Batch statistics absorb a bias, and the running mean contains it: subtracting the
    running mean without adding b shifts the output."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, beta - scale * running_mean


def bias_not_scaled(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You add b without scaling it. The normalization multiplies all of z = x Wᵀ + b by γ/√(running var +
    ε), the bias included."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, bias + beta - scale * running_mean


def mean_not_scaled(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You subtract the running mean without scaling it. It is subtracted from z before the multiplication
    by γ/√(running var + ε), so it is scaled with z."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, scale * bias - running_mean + beta


def mean_added(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You add the running mean. It is subtracted: z − running mean."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, scale * (bias + running_mean) + beta


def shift_lost(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You leave out β, which is added after the scaling."""
    scale = gamma / np.sqrt(running_var + eps)
    return scale[:, None] * weight, scale * (bias - running_mean)


def scale_lost(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You leave out γ: the factor of a row is γ/√(running var + ε)."""
    scale = 1 / np.sqrt(running_var + eps)
    return scale[:, None] * weight, scale * (bias - running_mean) + beta


def missing_root(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You divide by the variance and not by its root: the factor of a row is γ/√(running var + ε)."""
    scale = gamma / (running_var + eps)
    return scale[:, None] * weight, scale * (bias - running_mean) + beta


def eps_ignored(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You leave out ε: the factor of a row is γ/√(running var + ε)."""
    scale = gamma / np.sqrt(running_var)
    return scale[:, None] * weight, scale * (bias - running_mean) + beta


def eps_outside_root(weight, bias, gamma, beta, running_mean, running_var, eps):
    """You add ε outside the root. It belongs inside: √(running var + ε)."""
    scale = gamma / (np.sqrt(running_var) + eps)
    return scale[:, None] * weight, scale * (bias - running_mean) + beta


def by_probing(weight, bias, gamma, beta, running_mean, running_var, eps):
    """The same, found by trying: b' is the output for x = 0, and the rest is linear."""

    def both(x):
        z = x @ weight.T + bias
        return gamma * (z - running_mean) / np.sqrt(running_var + eps) + beta

    shift = both(np.zeros((1, weight.shape[1])))[0]
    return (both(np.eye(weight.shape[1])) - shift).T, shift


def with_a_diagonal_matrix(weight, bias, gamma, beta, running_mean, running_var, eps):
    """The same, with the scale as a diagonal matrix."""
    scale = np.diag(gamma * (running_var + eps) ** -0.5)
    return scale @ weight, scale @ (bias - running_mean) + beta


_rng = np.random.default_rng(107)


def _layers(outputs, inputs, eps):
    per_output = (
        _rng.normal(size=outputs),
        _rng.normal(1.0, 1.5, size=outputs),
        _rng.normal(size=outputs),
        _rng.normal(2.0, 1.0, size=outputs),
        _rng.uniform(0.5, 3.0, size=outputs),
    )
    return (_rng.normal(size=(outputs, inputs)), *per_output, eps)


EXERCISE = FunctionExercise(
    id="forward-fold",
    chapter="foundations/forward",
    title="Fold the normalization away",
    level="hard",
    reference=fold,
    why="At inference the statistics are constants, so the normalization is an affine map of each output, "
    "and an affine map after a linear layer is a linear layer: a trained network can pay nothing for it.",
    mistakes=variants(
        scale_along_inputs,
        bias_lost,
        bias_not_scaled,
        mean_not_scaled,
        mean_added,
        shift_lost,
        scale_lost,
        missing_root,
        eps_ignored,
        eps_outside_root,
    ),
    alternatives=(by_probing, with_a_diagonal_matrix),
    hints=(
        "At inference nothing depends on the batch. Write the output for one example and collect what "
        "multiplies x and what does not.",
        "With s = γ/√(running var + ε), output k is s_k (W_k · x + b_k − mean_k) + β_k.",
        "Row k of W is scaled by s_k: `s[:, None] * weight`.",
    ),
    cases=(
        Case("3 inputs, 3 outputs", _layers(3, 3, 0.1), "as many inputs as outputs."),
        Case("4 inputs, 2 outputs", _layers(2, 4, 0.4), "more inputs than outputs."),
        Case("2 inputs, 5 outputs", _layers(5, 2, 0.2), "more outputs than inputs."),
    ),
    returns=("weight", "bias"),
)
