"""Exercise: batch normalization of dense data, accurate where the mean is large."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, Variant, variants


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """Batch normalization in training mode: y = γẑ + β with ẑ = (x − μ)/√(σ² + ε).

    Args:
        x: the batch, (M, D). Its mean may be large compared with its spread.
        gamma: scale γ, (D,).
        beta: shift β, (D,).
        eps: ε ≥ 0, added to the variance.

    Returns:
        y, (M, D).
    """
    centred = x - x.mean(axis=0)
    var = (centred**2).mean(axis=0)
    z_hat = centred / np.sqrt(var + eps)
    return gamma * z_hat + beta


def one_pass_variance(x, gamma, beta, eps):
    """You lose digits where the mean is large compared with the spread. The one-pass variance E[x²] − E[x]²
    subtracts two large numbers that agree in most digits: centre x first, then average the squares."""
    mean = x.mean(axis=0)
    var = (x**2).mean(axis=0) - mean**2
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def unbiased_variance(x, gamma, beta, eps):
    """You divide the squared deviations by M − 1. In training, batch normalization uses the variance of
    this batch, divided by M: no `ddof`."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + eps) + beta


def eps_outside_root(x, gamma, beta, eps):
    """You add ε outside the root, σ + ε. It belongs inside: √(σ² + ε)."""
    return gamma * (x - x.mean(axis=0)) / (x.std(axis=0) + eps) + beta


def wrong_axis(x, gamma, beta, eps):
    """You take the statistics over the features of each example (axis 1), as layer normalization does.
    Batch statistics are taken over the examples, axis 0."""
    z_hat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(
        x.var(axis=1, keepdims=True) + eps
    )
    return gamma * z_hat + beta


def wrong_axis_unaligned(x, gamma, beta, eps):
    """You take the statistics over axis 1 and get M numbers, which do not line up with the D columns: that
    raises where M ≠ D and is silently wrong where M = D. Batch statistics are taken over the examples, axis
    0."""
    return gamma * (x - x.mean(axis=1)) / np.sqrt(x.var(axis=1) + eps) + beta


def sum_of_squares(x, gamma, beta, eps):
    """Your variance is the sum of the squared deviations. It is their mean: divide by M."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) * len(x) + eps) + beta


def shift_before_scale(x, gamma, beta, eps):
    """You compute γ(ẑ + β): the shift is scaled too. β is added after the scaling, γẑ + β, so that it is
    the mean of y."""
    return gamma * ((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta)


def scale_before_normalizing(x, gamma, beta, eps):
    """You multiply x by γ before normalizing. The normalization divides that factor out again (all but a
    little, because of ε): γ has to multiply ẑ."""
    scaled = gamma * x
    return (scaled - scaled.mean(axis=0)) / np.sqrt(scaled.var(axis=0) + eps) + beta


def shift_lost(x, gamma, beta, eps):
    """You leave out β: y has mean 0 and should have mean β."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def scale_lost(x, gamma, beta, eps):
    """You leave out γ: you return ẑ + β."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta


def only_normalized(x, gamma, beta, eps):
    """You return ẑ: both γ and β are missing, y = γẑ + β."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def swapped_parameters(x, gamma, beta, eps):
    """You use γ as the shift and β as the scale: it is γẑ + β."""
    return beta * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + gamma


def eps_ignored(x, gamma, beta, eps):
    """You leave out ε: divide by √(σ² + ε) and not by σ."""
    return gamma * (x - x.mean(axis=0)) / x.std(axis=0) + beta


def as_affine_map(x, gamma, beta, eps):
    """The same, with scale and shift of the centred data in one step."""
    mean = np.einsum("md->d", x) / x.shape[0]
    centred = x - mean[None, :]
    slope = gamma * (np.einsum("md,md->d", centred, centred) / x.shape[0] + eps) ** -0.5
    return centred * slope + beta


def with_loops(x, gamma, beta, eps):
    """The same with Python loops."""
    out = np.zeros_like(x)
    for d in range(x.shape[1]):
        mean = sum(x[:, d]) / len(x)
        var = sum((value - mean) ** 2 for value in x[:, d]) / len(x)
        for m in range(len(x)):
            out[m, d] = gamma[d] * (x[m, d] - mean) / np.sqrt(var + eps) + beta[d]
    return out


_rng = np.random.default_rng(103)
_GAMMA, _BETA = np.array([1.5, -0.7, 2.2]), np.array([0.3, -1.1, 0.8])

EXERCISE = FunctionExercise(
    id="forward-batch-norm",
    chapter="foundations/forward",
    title="Batch normalization of dense data",
    level="core",
    reference=batch_norm,
    why="γ and β act after the normalization, so y has mean β and standard deviation close to |γ| whatever"
    " x was. Centring before squaring keeps the digits that the one-pass variance loses.",
    mistakes=(
        Variant.of(one_pass_variance, by_rounding=True),
        *variants(
            unbiased_variance,
            eps_outside_root,
            sum_of_squares,
            wrong_axis,
            wrong_axis_unaligned,
            shift_before_scale,
            scale_before_normalizing,
            shift_lost,
            scale_lost,
            only_normalized,
            swapped_parameters,
            eps_ignored,
        ),
    ),
    alternatives=(as_affine_map, with_loops),
    hints=(
        "Standardize first, as in the warm-up; then γ and β, of shape (D,), line up with the columns of ẑ.",
        "The mean of x may be large compared with its spread. Which is then safer: the mean of the squares"
        " minus the square of the mean, or the mean of the squares of x − μ?",
    ),
    cases=(
        Case(
            "6 examples, 3 features",
            (_rng.normal(2.0, 1.5, size=(6, 3)), _GAMMA, _BETA, 0.1),
            count=6,
        ),
        Case(
            "4 examples, 4 features",
            (
                _rng.normal(-1.0, 2.0, size=(4, 4)),
                np.array([0.4, 1.6, -2.0, 0.9]),
                np.array([2.0, 0.5, -0.6, 1.2]),
                0.5,
            ),
            "as many features as examples.",
            4,
        ),
        Case(
            "a mean of 100 000 and a spread of 1",
            (_rng.normal(1e5, 1.0, size=(8, 3)), _GAMMA, _BETA, 0.05),
            "the mean is 100 000 times the spread.",
            8,
            rtol=1e-9,
        ),
    ),
    returns=("y",),
    feature_axis=1,
)
