"""Exercise: the bias of the folded layer of Algorithm 1."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def folded_bias(
    kernel: np.ndarray, mean: np.ndarray, square: np.ndarray, gamma: np.ndarray,
    beta: np.ndarray, eps: float,
) -> np.ndarray:  # fmt: skip
    """The bias of the plain convolution that Algorithm 1's layer is at inference.

    The layer computes γ (W ⋆ x − W_sum mean)/√(square + ε) + β, without a rotation. W_sum
    is the kernel summed over its positions, (C_out, C_in).

    Args:
        kernel: W, (C_out, C_in, H, W).
        mean: running mean of the input, (C_in,).
        square: running second moment of the output, (C_out,).
        gamma: γ, (C_out,).
        beta: β, (C_out,).
        eps: ε ≥ 0.

    Returns:
        bias: (C_out,).
    """
    scale = gamma / np.sqrt(square + eps)
    return beta - scale * (kernel.sum((2, 3)) @ mean)


def unscaled(kernel, mean, square, gamma, beta, eps):
    """You subtract W̄ μ̄ itself. It is divided by √(ν̄ + ε) and multiplied by γ like all of W ⋆ x."""
    return beta - kernel.sum((2, 3)) @ mean


def averaged(kernel, mean, square, gamma, beta, eps):
    """You average the kernel over its positions. A constant input meets every tap: W̄ is their sum."""
    scale = gamma / np.sqrt(square + eps)
    return beta - scale * (kernel.mean((2, 3)) @ mean)


def beta_scaled(kernel, mean, square, gamma, beta, eps):
    """You scale β as well. β is added after the normalization."""
    scale = gamma / np.sqrt(square + eps)
    return scale * (beta - kernel.sum((2, 3)) @ mean)


def added(kernel, mean, square, gamma, beta, eps):
    """You add the mean's part. It is subtracted."""
    scale = gamma / np.sqrt(square + eps)
    return beta + scale * (kernel.sum((2, 3)) @ mean)


def not_rooted(kernel, mean, square, gamma, beta, eps):
    """You divide by ν̄ + ε. ν̄ is a second moment; the layer divides by its root."""
    scale = gamma / (square + eps)
    return beta - scale * (kernel.sum((2, 3)) @ mean)


def gamma_forgotten(kernel, mean, square, gamma, beta, eps):
    """You leave out γ, which multiplies the mean's part too."""
    return beta - kernel.sum((2, 3)) @ mean / np.sqrt(square + eps)


def undivided(kernel, mean, square, gamma, beta, eps):
    """You do not divide the mean's part by √(ν̄ + ε). All of W ⋆ x − W̄ μ̄ is divided."""
    return beta - gamma * (kernel.sum((2, 3)) @ mean)


def eps_forgotten(kernel, mean, square, gamma, beta, eps):
    """You leave out ε. The layer divides by √(ν̄ + ε)."""
    return beta - gamma / np.sqrt(square) * (kernel.sum((2, 3)) @ mean)


def beta_forgotten(kernel, mean, square, gamma, beta, eps):
    """You leave out β, which is added behind the normalization."""
    return -gamma / np.sqrt(square + eps) * (kernel.sum((2, 3)) @ mean)


def by_a_constant_picture(kernel, mean, square, gamma, beta, eps):
    """The same: β minus what the folded kernel gives for a picture that is μ̄ everywhere."""
    folded = kernel * (gamma / np.sqrt(square + eps))[:, None, None, None]
    return beta - np.einsum("oihw,i->o", folded, mean)


_rng = np.random.default_rng(811)

EXERCISE = FunctionExercise(
    id="two-stage-bias",
    chapter="estimation/two_stage",
    title="The bias that is left",
    level="warm-up",
    reference=folded_bias,
    why="The folded kernel is K = γ W/√(ν̄ + ε), and the layer is K ⋆ x − K̄ μ̄ + β.",
    mistakes=variants(
        unscaled,
        averaged,
        beta_scaled,
        added,
        not_rooted,
        gamma_forgotten,
        undivided,
        eps_forgotten,
        beta_forgotten,
    ),
    alternatives=(by_a_constant_picture,),
    hints=(
        "Multiply the bracket out: which part of the formula does not depend on x?",
        "Sum the kernel over its last two axes, multiply by the means, then by γ/√(ν̄ + ε).",
    ),
    cases=(
        Case(
            "3 to 2 channels, 3×3",
            (
                _rng.normal(size=(2, 3, 3, 3)),
                _rng.normal(size=3),
                _rng.uniform(0.3, 2, 2),
                _rng.normal(size=2),
                _rng.normal(size=2),
                0.1,
            ),
        ),
        Case(
            "2 to 4 channels, 1×2, ε = 0",
            (
                _rng.normal(size=(4, 2, 1, 2)),
                _rng.normal(size=2),
                _rng.uniform(0.3, 2, 4),
                _rng.normal(size=4),
                _rng.normal(size=4),
                0.0,
            ),
            "ε is 0.",
        ),
    ),
    returns=("bias",),
)
