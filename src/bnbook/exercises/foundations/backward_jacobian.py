"""Exercise: the Jacobian of batch normalization for one feature."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def jacobian(x: np.ndarray, gamma: float, eps: float) -> np.ndarray:
    """Jacobian of batch normalization of a single feature: how each output moves with each input.

    Args:
        x: the M values of one feature, (M,).
        gamma: its scale γ, a number.
        eps: ε of the normalization.

    Returns:
        J with J[i, j] = ∂y_i/∂x_j, (M, M).
    """
    count = len(x)
    std = np.sqrt(x.var() + eps)
    z_hat = (x - x.mean()) / std
    return (
        gamma
        / std
        * (
            np.eye(count)
            - np.ones((count, count)) / count
            - np.outer(z_hat, z_hat) / count
        )
    )


def _parts(x, eps):
    std = np.sqrt(x.var() + eps)
    return len(x), (x - x.mean()) / std, std


def mean_path_dropped(x, gamma, eps):
    """You drop the path through the mean, −11ᵀ/M: every entry loses 1/M, because each input moves the mean
    of all."""
    count, z_hat, std = _parts(x, eps)
    return gamma / std * (np.eye(count) - np.outer(z_hat, z_hat) / count)


def variance_path_dropped(x, gamma, eps):
    """You drop the path through the variance, −ẑẑᵀ/M: each input changes σ², and with it every output in
    proportion to its ẑ."""
    count, _, std = _parts(x, eps)
    return gamma / std * (np.eye(count) - 1 / count)


def variance_path_sign(x, gamma, eps):
    """You add ẑẑᵀ/M. It is subtracted, because a larger σ² makes |ẑ| smaller."""
    count, z_hat, std = _parts(x, eps)
    return gamma / std * (np.eye(count) - 1 / count + np.outer(z_hat, z_hat) / count)


def centred_for_normalized(x, gamma, eps):
    """You use x − μ where ẑ belongs in the path through the variance: divide it by √(σ² + ε)."""
    count, _, std = _parts(x, eps)
    centred = x - x.mean()
    outer = np.outer(centred, centred)
    return gamma / std * (np.eye(count) - 1 / count - outer / count)


def diagonal_only(x, gamma, eps):
    """You treat the statistics as constants, so your Jacobian is diagonal. Each output depends on every
    input of the batch through μ and σ²."""
    count, _, std = _parts(x, eps)
    return gamma / std * np.eye(count)


def off_diagonal_dropped(x, gamma, eps):
    """Your diagonal is right and the rest is 0. Every output depends on every input through μ and σ²: fill
    in −(1 + ẑ_i ẑ_j)/M off the diagonal."""
    return np.diag(np.diag(jacobian(x, gamma, eps)))


def identity_everywhere(x, gamma, eps):
    """Your direct path has a 1 in every entry. An output depends directly on its own input alone: use the
    identity, `np.eye(M)`, for it."""
    count, z_hat, std = _parts(x, eps)
    return gamma / std * (1 - 1 / count - np.outer(z_hat, z_hat) / count)


def not_divided(x, gamma, eps):
    """You lose 1/M in both paths: μ and σ² are means, so each input moves them by a share of 1/M."""
    count, z_hat, std = _parts(x, eps)
    return gamma / std * (np.eye(count) - 1 - np.outer(z_hat, z_hat))


def squares_for_products(x, gamma, eps):
    """You use ẑ² along the rows where the outer product belongs: the entry (i, j) of ẑẑᵀ is ẑ_i ẑ_j,
    `np.outer(z_hat, z_hat)`."""
    count, z_hat, std = _parts(x, eps)
    return gamma / std * (np.eye(count) - 1 / count - z_hat * z_hat / count)


def exact_projection(x, gamma, eps):
    """You divide ẑẑᵀ by ‖ẑ‖² and not by M, which makes an exact projection. ‖ẑ‖² = Mσ²/(σ² + ε) equals M
    only when ε = 0."""
    count, z_hat, std = _parts(x, eps)
    return (
        gamma
        / std
        * (np.eye(count) - 1 / count - np.outer(z_hat, z_hat) / (z_hat @ z_hat))
    )


def gamma_lost(x, gamma, eps):
    """You leave out γ: y = γẑ + β, so every entry carries it."""
    return jacobian(x, 1.0, eps)


def root_lost(x, gamma, eps):
    """You leave out 1/√(σ² + ε) in front."""
    _, _, std = _parts(x, eps)
    return jacobian(x, gamma, eps) * std


def eps_outside_root(x, gamma, eps):
    """You divide by σ + ε. It is √(σ² + ε), with ε inside the root, in ẑ and in front."""
    count, std = len(x), x.std() + eps
    z_hat = (x - x.mean()) / std
    return gamma / std * (np.eye(count) - 1 / count - np.outer(z_hat, z_hat) / count)


def unbiased_variance(x, gamma, eps):
    """You use the variance with M − 1. The normalization divides by M: no `ddof`."""
    count, std = len(x), np.sqrt(x.var(ddof=1) + eps)
    z_hat = (x - x.mean()) / std
    return gamma / std * (np.eye(count) - 1 / count - np.outer(z_hat, z_hat) / count)


def entry_by_entry(x, gamma, eps):
    """The same with Python loops."""
    count, z, std = _parts(x, eps)
    out = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            out[i, j] = gamma / std * ((i == j) - (1 + z[i] * z[j]) / count)
    return out


def by_complex_step(x, gamma, eps):
    """The same by differentiating the forward pass numerically: the complex step has no rounding error."""
    columns = []
    for j in range(len(x)):
        shifted = x.astype(complex)
        shifted[j] += 1e-30j
        centred = shifted - shifted.mean()
        columns.append(
            (gamma * centred / np.sqrt((centred * centred).mean() + eps)).imag / 1e-30
        )
    return np.stack(columns, axis=1)


_rng = np.random.default_rng(208)

EXERCISE = FunctionExercise(
    id="backward-jacobian",
    chapter="foundations/backward",
    title="The Jacobian of one feature",
    level="hard",
    reference=jacobian,
    why="Three paths, three matrices: I directly, −11ᵀ/M through μ, −ẑẑᵀ/M through σ². J is symmetric, and"
    " J1 = 0 because shifting the batch changes nothing.",
    mistakes=variants(
        mean_path_dropped,
        variance_path_dropped,
        variance_path_sign,
        centred_for_normalized,
        diagonal_only,
        off_diagonal_dropped,
        identity_everywhere,
        not_divided,
        squares_for_products,
        exact_projection,
        gamma_lost,
        root_lost,
        eps_outside_root,
        unbiased_variance,
    ),
    alternatives=(entry_by_entry, by_complex_step),
    hints=(
        "dx = Jᵀg. Compare with the closed form of dx: which matrix takes g to g, which to mean(g) "
        "everywhere, which to ẑ · mean(g ẑ)?",
        "I, 11ᵀ/M and ẑẑᵀ/M. NumPy: `np.eye`, `np.ones`, `np.outer`.",
    ),
    cases=(
        Case("5 values", (_rng.normal(2.0, 1.5, size=5), 1.5, 0.1), count=5),
        Case(
            "4 values, γ < 0",
            (_rng.normal(-1.0, 0.8, size=4), -0.7, 1.5),
            "γ is negative and ε larger than σ².",
            4,
        ),
        Case(
            "2 values",
            (_rng.normal(3.0, 1.0, size=2), 2.2, 0.5),
            "M = 2, where J would vanish if ε were 0.",
            2,
        ),
    ),
    returns=("jacobian",),
)
