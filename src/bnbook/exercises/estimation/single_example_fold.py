"""Exercise: fold a normalization and a rotation into the linear layer before them."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def fold_with_rotation(
    weight: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    rotation: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the one linear layer that does what the three do.

    For an input u the layers compute x = weight u, then γ (x − mean)/√(square + ε), then
    multiply by the rotation and add β.

    Args:
        weight: (C, inputs).
        gamma, beta: (C,).
        mean, square: running statistics of x, (C,).
        rotation: R, (C, C).
        eps: ε > 0.

    Returns:
        kernel: (C, inputs).
        shift: (C,).
    """
    scale = gamma / np.sqrt(square + eps)
    return rotation @ (scale[:, None] * weight), beta - rotation @ (scale * mean)


def rotated_first(weight, gamma, beta, mean, square, rotation, eps):
    """You rotate before you scale. γ and the statistics belong to the channels before the rotation."""
    scale = gamma / np.sqrt(square + eps)
    return scale[:, None] * (rotation @ weight), beta - scale * (rotation @ mean)


def beta_rotated(weight, gamma, beta, mean, square, rotation, eps):
    """You rotate β too. It is added after the rotation."""
    scale = gamma / np.sqrt(square + eps)
    return rotation @ (scale[:, None] * weight), rotation @ (beta - scale * mean)


def transposed(weight, gamma, beta, mean, square, rotation, eps):
    """You multiply by the transpose of R. For Hadamard's matrix, which is symmetric, nobody would
    notice."""
    scale = gamma / np.sqrt(square + eps)
    return rotation.T @ (scale[:, None] * weight), beta - rotation.T @ (scale * mean)


def shift_not_rotated(weight, gamma, beta, mean, square, rotation, eps):
    """Your kernel is right; in the bias the scaled mean must be rotated too."""
    scale = gamma / np.sqrt(square + eps)
    return rotation @ (scale[:, None] * weight), beta - scale * mean


def eps_left_out(weight, gamma, beta, mean, square, rotation, eps):
    """You leave ε out of the root."""
    return fold_with_rotation(weight, gamma, beta, mean, square, rotation, 0.0)


def not_rooted(weight, gamma, beta, mean, square, rotation, eps):
    """You divide by square + ε. The layer divides by its root."""
    scale = gamma / (square + eps)
    return rotation @ (scale[:, None] * weight), beta - rotation @ (scale * mean)


def sign_turned(weight, gamma, beta, mean, square, rotation, eps):
    """You add the scaled mean to the bias. It was subtracted."""
    scale = gamma / np.sqrt(square + eps)
    return rotation @ (scale[:, None] * weight), beta + rotation @ (scale * mean)


def by_columns(weight, gamma, beta, mean, square, rotation, eps):
    """The same, with the scale in the columns of R."""
    mixed = rotation * (gamma / np.sqrt(square + eps))
    return mixed @ weight, beta - mixed @ mean


_rng = np.random.default_rng(813)


def _case(channels: int, inputs: int) -> tuple:
    turn = np.linalg.qr(_rng.normal(size=(channels, channels)))[0]
    return (
        _rng.normal(size=(channels, inputs)),
        _rng.normal(size=channels),
        _rng.normal(size=channels),
        _rng.normal(size=channels),
        _rng.uniform(0.3, 2.0, channels),
        turn,
        0.05,
    )


EXERCISE = FunctionExercise(
    id="single-example-fold",
    chapter="estimation/single_example",
    title="A rotation that costs nothing",
    level="core",
    reference=fold_with_rotation,
    why="Everything up to β is affine in u, so one kernel and one bias do it: scale the rows, rotate, and "
    "add β last.",
    mistakes=variants(
        rotated_first,
        beta_rotated,
        transposed,
        shift_not_rotated,
        eps_left_out,
        not_rooted,
        sign_turned,
    ),
    alternatives=(by_columns,),
    hints=(
        "Write the output as R (scale ∘ (weight u − mean)) + β and multiply out.",
        "The kernel is R diag(scale) weight; the bias is β − R (scale ∘ mean).",
    ),
    cases=(
        Case("4 channels, 3 inputs", _case(4, 3)),
        Case("3 channels, 5 inputs", _case(3, 5)),
        Case("square kernel", _case(5, 5)),
    ),
    returns=("kernel", "shift"),
)
