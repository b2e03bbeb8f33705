"""Exercise: the three paths from x to the loss."""

from functools import partial

import numpy as np

from bnbook.exercises.foundations.backward_batch import batch_and_gradient
from bnbook.exercises.model import Case, FunctionExercise, variants


def three_paths(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradient with respect to x, split by the path it takes: directly, through σ², and through μ.

    Their sum is dx. The path through μ holds σ² fixed.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        x: the batch, (M, D).
        gamma: scale γ, (D,).
        eps: ε of the normalization.

    Returns:
        The direct path, the path through σ², and the path through μ, each (M, D).
    """
    centred = x - x.mean(axis=0)
    std = np.sqrt((centred**2).mean(axis=0) + eps)
    direct = gamma * dy / std
    dvar = -0.5 * (gamma * dy * centred).sum(axis=0) / std**3
    dmean = -direct.sum(axis=0)
    via_var = dvar * 2 / len(x) * centred
    via_mean = np.broadcast_to(dmean / len(x), x.shape)
    return direct, via_var, via_mean


def _paths(dy, x, gamma, eps):
    return tuple(path.copy() for path in three_paths(dy, x, gamma, eps))


def mean_path_not_divided(dy, x, gamma, eps):
    """Your path through μ lacks 1/M: each example moves the mean by a share of 1/M only, ∂μ/∂x = 1/M."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var, via_mean * len(x)


def variance_path_not_divided(dy, x, gamma, eps):
    """Your path through σ² lacks 1/M: σ² is a mean of squares, so ∂σ²/∂x = 2(x − μ)/M."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var * len(x), via_mean


def neither_divided(dy, x, gamma, eps):
    """Your paths through σ² and μ lack 1/M: both statistics are means over the batch, so ∂μ/∂x = 1/M and
    ∂σ²/∂x = 2(x − μ)/M."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var * len(x), via_mean * len(x)


def two_lost(dy, x, gamma, eps):
    """Your path through σ² lacks the 2 of the derivative of a square: ∂σ²/∂x = 2(x − μ)/M."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var / 2, via_mean


def half_lost(dy, x, gamma, eps):
    """Your path through σ² lacks the 1/2 of ∂L/∂σ²: the derivative of v^(−1/2) is −½ v^(−3/2)."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var * 2, via_mean


def mean_path_sign(dy, x, gamma, eps):
    """Your path through μ has the wrong sign: ẑ falls when μ rises, ∂ẑ/∂μ = −1/√(σ² + ε)."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var, -via_mean


def variance_path_sign(dy, x, gamma, eps):
    """Your path through σ² has the wrong sign: |ẑ| falls when σ² rises, ∂ẑ/∂σ² = −½(x − μ)(σ² +
    ε)^(−3/2)."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, -via_var, via_mean


def detached_statistics(dy, x, gamma, eps):
    """Your paths through σ² and μ are zero: you treat the statistics as constants. They are computed from
    this batch, so a change of x changes them."""
    direct, _, _ = _paths(dy, x, gamma, eps)
    return direct, np.zeros_like(x), np.zeros_like(x)


def gamma_only_direct(dy, x, gamma, eps):
    """Only your direct path has γ. All three start at y = γẑ + β, so all use ∂L/∂ẑ = γg."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var / gamma, via_mean / gamma


def gamma_lost(dy, x, gamma, eps):
    """You leave out γ: the paths start at y = γẑ + β, so ∂L/∂ẑ = γg."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct / gamma, via_var / gamma, via_mean / gamma


def paths_swapped(dy, x, gamma, eps):
    """You return the path through μ before the one through σ². The order is direct, σ², μ."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_mean, via_var


def mean_path_per_feature(dy, x, gamma, eps):
    """Your path through μ has one number per feature. It is the same for every example, and each example
    gets it: shape (M, D), by `np.broadcast_to` or by adding it to zeros."""
    direct, via_var, via_mean = _paths(dy, x, gamma, eps)
    return direct, via_var, via_mean[0]


def eps_outside_root(dy, x, gamma, eps):
    """You divide by σ + ε. It is √(σ² + ε), with ε inside the root."""
    centred, std = x - x.mean(axis=0), x.std(axis=0) + eps
    direct = gamma * dy / std
    dvar = -0.5 * (gamma * dy * centred).sum(axis=0) / std**3
    return direct, dvar * 2 / len(x) * centred, np.zeros_like(x) - direct.mean(axis=0)


def from_z_hat(dy, x, gamma, eps):
    """The same in terms of ẑ and means."""
    std = np.sqrt(x.var(axis=0) + eps)
    z_hat = (x - x.mean(axis=0)) / std
    g = gamma / std * dy
    return g, -z_hat * np.mean(g * z_hat, axis=0), np.zeros(x.shape) - g.mean(axis=0)


def with_loops(dy, x, gamma, eps):
    """The same with Python loops."""
    count, features = x.shape
    direct, via_var, via_mean = (
        np.zeros((count, features)),
        np.zeros((count, features)),
        np.zeros((count, features)),
    )
    for d in range(features):
        mean = sum(x[m, d] for m in range(count)) / count
        v = sum((x[m, d] - mean) ** 2 for m in range(count)) / count + eps
        dvar = sum(
            -0.5 * dy[m, d] * gamma[d] * (x[m, d] - mean) * v**-1.5
            for m in range(count)
        )
        dmean = sum(-dy[m, d] * gamma[d] * v**-0.5 for m in range(count))
        for m in range(count):
            direct[m, d] = dy[m, d] * gamma[d] * v**-0.5
            via_var[m, d] = dvar * 2 * (x[m, d] - mean) / count
            via_mean[m, d] = dmean / count
    return direct, via_var, via_mean


_batch = partial(batch_and_gradient, np.random.default_rng(203))


EXERCISE = FunctionExercise(
    id="backward-paths",
    chapter="foundations/backward",
    title="Three paths from x to the loss",
    level="core",
    reference=three_paths,
    why="x enters ẑ three times: as itself, in μ and in σ². Yu (2021), Eqs. (5), (10) and (11); μ also "
    "enters σ², but Σ(x − μ) = 0 makes that contribution vanish.",
    mistakes=variants(
        mean_path_not_divided,
        variance_path_not_divided,
        neither_divided,
        two_lost,
        half_lost,
        mean_path_sign,
        variance_path_sign,
        detached_statistics,
        gamma_only_direct,
        gamma_lost,
        paths_swapped,
        mean_path_per_feature,
        eps_outside_root,
    ),
    alternatives=(from_z_hat, with_loops),
    hints=(
        "All three start from ∂L/∂ẑ = γg. The direct path multiplies by ∂ẑ/∂x = 1/√(σ² + ε), with μ and σ²"
        " fixed.",
        "The path through σ² is ∂L/∂σ² (one number per feature) times ∂σ²/∂x = 2(x − μ)/M.",
        "The path through μ is ∂L/∂μ = −Σ γg/√(σ² + ε) times ∂μ/∂x = 1/M, the same for every example.",
    ),
    cases=(
        Case("6 examples, 3 features", _batch(6, 3, 0.1), count=6),
        Case(
            "5 examples, 5 features", _batch(5, 5, 1.5), "ε is comparable with σ².", 5
        ),
        Case("3 examples, 4 features", _batch(3, 4, 0.3), "M is smaller than D.", 3),
    ),
    returns=("direct", "via_var", "via_mean"),
    feature_axis=1,
)
