"""Exercise: the gradient of the input, in closed form."""

from functools import partial

import numpy as np

from bnbook.exercises.foundations.backward_batch import batch_and_gradient
from bnbook.exercises.model import Case, FunctionExercise, variants


def batch_norm_dx(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    """Gradient of the loss with respect to the input of batch normalization, in training mode.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        x: the batch, (M, D).
        gamma: scale γ, (D,).
        eps: ε of the normalization.

    Returns:
        dx = ∂L/∂x, (M, D).
    """
    std = np.sqrt(x.var(axis=0) + eps)
    z_hat = (x - x.mean(axis=0)) / std
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def _parts(x, eps, ddof=0):
    std = np.sqrt(x.var(axis=0, ddof=ddof) + eps)
    return (x - x.mean(axis=0)) / std, std


def mean_path_dropped(dy, x, gamma, eps):
    """You drop the path through the mean: subtract mean(g) too. Without it Σ dx is not 0, although shifting
    the whole batch leaves y, and so the loss, unchanged."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - z_hat * (dy * z_hat).mean(axis=0))


def variance_path_dropped(dy, x, gamma, eps):
    """Your path through the variance is missing or 0: subtract ẑ · mean(g ẑ) too. Every x changes σ², and
    with it every ẑ of the feature. Note that mean(g) · mean(ẑ) is 0 and not mean(g ẑ)."""
    _, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0))


def detached_statistics(dy, x, gamma, eps):
    """You treat μ and σ² as constants and keep the direct path alone. They are computed from this batch:
    add the paths through the mean, −mean(g), and through the variance, −ẑ · mean(g ẑ)."""
    _, std = _parts(x, eps)
    return gamma / std * dy


def sums_for_means(dy, x, gamma, eps):
    """You subtract sums over the batch where means belong: both statistics are means, so each path carries
    1/M."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.sum(axis=0) - z_hat * (dy * z_hat).sum(axis=0))


def sum_for_mean_of_dy(dy, x, gamma, eps):
    """You subtract Σg where mean(g) belongs: the path through the mean carries 1/M, because ∂μ/∂x = 1/M."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.sum(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def sum_for_mean_of_dy_z_hat(dy, x, gamma, eps):
    """You subtract ẑ · Σgẑ where ẑ · mean(gẑ) belongs: the path through the variance carries 1/M, because
    ∂σ²/∂x = 2(x − μ)/M."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).sum(axis=0))


def means_of_the_whole_array(dy, x, gamma, eps):
    """Your means of g and gẑ run over all features. Features do not mix: average over the examples alone,
    `axis=0`."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean() - z_hat * (dy * z_hat).mean())


def gamma_lost(dy, x, gamma, eps):
    """You leave out γ: the gradient passes through y = γẑ + β first, so dx carries a factor γ."""
    return batch_norm_dx(dy, x, np.ones_like(gamma), eps)


def factor_misses_variance_path(dy, x, gamma, eps):
    """Your γ/√(σ² + ε) multiplies only a part of the bracket: the path through the variance is subtracted
    without it. All three paths pass through it: γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ))."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0)) - z_hat * (dy * z_hat).mean(axis=0)


def factor_misses_both_paths(dy, x, gamma, eps):
    """Your γ/√(σ² + ε) multiplies g alone: the paths through the mean and the variance are subtracted
    without it. Put the bracket around all three: γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ))."""
    z_hat, std = _parts(x, eps)
    return gamma / std * dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0)


def root_lost(dy, x, gamma, eps):
    """You leave out 1/√(σ² + ε) in front: ẑ changes by 1/√(σ² + ε) times the change of x."""
    z_hat, _ = _parts(x, eps)
    return gamma * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def z_hat_lost(dy, x, gamma, eps):
    """You subtract mean(g ẑ) without the factor ẑ. Raising σ² pulls each example towards the mean in
    proportion to its own ẑ: subtract ẑ · mean(g ẑ)."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0) - (dy * z_hat).mean(axis=0))


def product_of_means(dy, x, gamma, eps):
    """You write mean(g) · ẑ where mean(g ẑ) · ẑ belongs: multiply g and ẑ example by example, then
    average."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * dy.mean(axis=0))


def variance_path_sign(dy, x, gamma, eps):
    """You add the path through the variance: it is subtracted, because a larger σ² makes |ẑ| smaller."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy - dy.mean(axis=0) + z_hat * (dy * z_hat).mean(axis=0))


def mean_path_sign(dy, x, gamma, eps):
    """You add the path through the mean: it is subtracted, because ẑ falls when μ rises."""
    z_hat, std = _parts(x, eps)
    return gamma / std * (dy + dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def centred_for_normalized(dy, x, gamma, eps):
    """You use x − μ where ẑ belongs in the path through the variance: divide it by √(σ² + ε)."""
    _, std = _parts(x, eps)
    centred = x - x.mean(axis=0)
    return gamma / std * (dy - dy.mean(axis=0) - centred * (dy * centred).mean(axis=0))


def eps_outside_root(dy, x, gamma, eps):
    """You divide by σ + ε. It is √(σ² + ε), with ε inside the root, in ẑ and in front."""
    std = x.std(axis=0) + eps
    z_hat = (x - x.mean(axis=0)) / std
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def eps_ignored(dy, x, gamma, eps):
    """You leave out ε: it is √(σ² + ε), in ẑ and in front."""
    return batch_norm_dx(dy, x, gamma, 0.0)


def eps_in_front_only(dy, x, gamma, eps):
    """Your ẑ leaves out ε, and only the factor in front has it. With ε, mean(ẑ²) is σ²/(σ² + ε), a little
    less than 1, and the path through the variance needs that ẑ."""
    z_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    std = np.sqrt(x.var(axis=0) + eps)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def unbiased_variance(dy, x, gamma, eps):
    """You use the variance with M − 1. The normalization divides by M: no `ddof`."""
    z_hat, std = _parts(x, eps, ddof=1)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))


def wrong_axis(dy, x, gamma, eps):
    """You average over the features of each example (axis 1), as layer normalization does. Batch statistics
    and the means of g and gẑ run over the examples, axis 0."""

    def mean(array):
        return array.mean(axis=1, keepdims=True)

    std = np.sqrt(x.var(axis=1, keepdims=True) + eps)
    z_hat = (x - mean(x)) / std
    return gamma / std * (dy - mean(dy) - z_hat * mean(dy * z_hat))


def wrong_axis_unaligned(dy, x, gamma, eps):
    """You average over axis 1 and get M numbers, which do not line up with the D columns: that raises where
    M ≠ D and is silently wrong where M = D. Average over the examples, axis 0."""
    std = np.sqrt(x.var(axis=1) + eps)
    z_hat = (x - x.mean(axis=1)) / std
    return gamma / std * (dy - dy.mean(axis=1) - z_hat * (dy * z_hat).mean(axis=1))


def step_by_step(dy, x, gamma, eps):
    """The same as a sum of Yu's three paths."""
    count = x.shape[0]
    centred = x - x.mean(axis=0)
    var = x.var(axis=0)
    dz_hat = dy * gamma
    dvar = np.sum(dz_hat * centred, axis=0) * -0.5 * (var + eps) ** -1.5
    dmean = -np.sum(dz_hat, axis=0) / np.sqrt(var + eps) + dvar * np.mean(
        -2.0 * centred, axis=0
    )
    return dz_hat / np.sqrt(var + eps) + dvar * 2.0 * centred / count + dmean / count


def by_jacobian(dy, x, gamma, eps):
    """The same through the M×M Jacobian of each feature."""
    out = np.zeros_like(x)
    for d in range(x.shape[1]):
        std = np.sqrt(x[:, d].var() + eps)
        z = (x[:, d] - x[:, d].mean()) / std
        out[:, d] = (
            gamma[d] / std * (np.eye(len(x)) - (1 + np.outer(z, z)) / len(x)) @ dy[:, d]
        )
    return out


_batch = partial(batch_and_gradient, np.random.default_rng(204))


EXERCISE = FunctionExercise(
    id="backward-dx",
    chapter="foundations/backward",
    title="The gradient of the input",
    level="core",
    reference=batch_norm_dx,
    why="The two subtracted means are the paths through μ and σ²: what is left of g has no component along"
    " 1 and, up to ε, none along ẑ. Yu (2021), Eq. (12), simplified with Σẑ = 0.",
    mistakes=variants(
        mean_path_dropped,
        variance_path_dropped,
        detached_statistics,
        sums_for_means,
        sum_for_mean_of_dy,
        sum_for_mean_of_dy_z_hat,
        means_of_the_whole_array,
        gamma_lost,
        factor_misses_variance_path,
        factor_misses_both_paths,
        root_lost,
        z_hat_lost,
        product_of_means,
        variance_path_sign,
        mean_path_sign,
        centred_for_normalized,
        eps_outside_root,
        eps_ignored,
        eps_in_front_only,
        unbiased_variance,
        wrong_axis,
        wrong_axis_unaligned,
    ),
    alternatives=(step_by_step, by_jacobian),
    hints=(
        "x reaches the loss on three paths: directly, through μ and through σ². With σ² and μ fixed, the "
        "direct one is γg/√(σ² + ε).",
        "Shifting all of x changes nothing, so Σ dx must be 0: subtract mean(g). That is the path through μ.",
        "The path through σ² subtracts ẑ · mean(g ẑ), inside the same bracket.",
    ),
    cases=(
        Case("6 examples, 3 features", _batch(6, 3, 0.1), count=6),
        Case(
            "5 examples, 5 features", _batch(5, 5, 1.5), "ε is comparable with σ².", 5
        ),
        Case("3 examples, 4 features", _batch(3, 4, 0.3), "M is smaller than D.", 3),
        Case(
            "two examples",
            _batch(2, 3, 0.5),
            "M = 2, where dx would vanish if ε were 0.",
            2,
        ),
    ),
    returns=("dx",),
    feature_axis=1,
)
