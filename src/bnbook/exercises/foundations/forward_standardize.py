"""Exercise: standardize the features of a batch."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def standardize(x: np.ndarray, eps: float) -> np.ndarray:
    """Standardize each feature of a batch: ẑ = (x − μ)/√(σ² + ε).

    Args:
        x: the batch, (M, D): one example a row, one feature a column.
        eps: ε ≥ 0, added to the variance.

    Returns:
        ẑ, (M, D).
    """
    centred = x - x.mean(axis=0)
    return centred / np.sqrt((centred**2).mean(axis=0) + eps)


def unbiased_variance(x, eps):
    """You divide the squared deviations by M − 1. Batch normalization describes this batch and does not
    estimate a population, so it divides by M: NumPy's `var` does that without `ddof`."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + eps)


def eps_outside_root(x, eps):
    """You add ε to the standard deviation, outside the root. It belongs inside, √(σ² + ε): it is in squared
    units of x, and inside the root it also keeps the derivative finite where σ = 0."""
    return (x - x.mean(axis=0)) / (x.std(axis=0) + eps)


def wrong_axis(x, eps):
    """You average over the features of each example (axis 1): that is layer normalization. Batch
    normalization averages each feature over the examples, axis 0."""
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(
        x.var(axis=1, keepdims=True) + eps
    )


def wrong_axis_unaligned(x, eps):
    """You average over the features of each example (axis 1) and get M numbers, which do not line up with
    the D columns: that raises where M ≠ D and is silently wrong where M = D. Average over the examples,
    axis 0."""
    return (x - x.mean(axis=1)) / np.sqrt(x.var(axis=1) + eps)


def whole_array(x, eps):
    """You take one mean and one variance of the whole array. Each feature has its own: give `mean` and
    `var` the batch axis, `axis=0`."""
    return (x - x.mean()) / np.sqrt(x.var() + eps)


def sum_of_squares(x, eps):
    """Your variance is the sum of the squared deviations. It is their mean: divide by M."""
    centred = x - x.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=0) + eps)


def missing_root(x, eps):
    """You divide by σ² + ε and not by its square root, so ẑ has the units of 1/x and no unit variance."""
    return (x - x.mean(axis=0)) / (x.var(axis=0) + eps)


def eps_ignored(x, eps):
    """You leave out ε. Then a feature that is constant over the batch gives 0/0, and a nearly constant one
    blows up its noise."""
    return (x - x.mean(axis=0)) / x.std(axis=0)


def eps_hard_coded(x, eps):
    """You use ε = 1e-5 whatever the argument `eps` says."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


def uncentred_variance(x, eps):
    """You divide by the root mean square of x and not of x − μ. The variance is taken about the mean."""
    return (x - x.mean(axis=0)) / np.sqrt((x**2).mean(axis=0) + eps)


def mean_kept(x, eps):
    """You scale x but do not subtract its mean, so ẑ keeps a mean of μ/√(σ² + ε)."""
    return x / np.sqrt(x.var(axis=0) + eps)


def one_loop_per_feature(x, eps):
    """The same with Python loops."""
    out = np.empty_like(x)
    for d in range(x.shape[1]):
        column = [float(v) for v in x[:, d]]
        mean = sum(column) / len(column)
        var = sum((v - mean) ** 2 for v in column) / len(column)
        for m, v in enumerate(column):
            out[m, d] = (v - mean) / (var + eps) ** 0.5
    return out


def by_matrix(x, eps):
    """The same with the centring matrix I − 11ᵀ/M."""
    count = len(x)
    centred = (np.eye(count) - np.ones((count, count)) / count) @ x
    return centred * (np.einsum("md,md->d", centred, centred) / count + eps) ** -0.5


_rng = np.random.default_rng(101)
_constant = _rng.normal(1.0, 1.0, size=(5, 3))
_constant[:, 1] = 2.5

EXERCISE = FunctionExercise(
    id="forward-standardize",
    chapter="foundations/forward",
    title="Standardize a batch",
    level="warm-up",
    reference=standardize,
    why="Centre first, then square: the variance of the centred data needs no second mean, and no digits are "
    "lost where the mean is large.",
    mistakes=variants(
        unbiased_variance,
        eps_outside_root,
        sum_of_squares,
        wrong_axis,
        wrong_axis_unaligned,
        whole_array,
        missing_root,
        eps_ignored,
        eps_hard_coded,
        uncentred_variance,
        mean_kept,
    ),
    alternatives=(one_loop_per_feature, by_matrix),
    hints=(
        "A feature is a column. Its mean and its variance are taken down the column, over the examples.",
        "`x.mean(axis=0)` has shape (D,) and lines up with the columns of x, so `x - x.mean(axis=0)` is "
        "centred. The variance is the mean of its square.",
        "Divide by `np.sqrt(var + eps)`: ε goes inside the root.",
    ),
    cases=(
        Case(
            "6 examples, 3 features", (_rng.normal(2.0, 1.5, size=(6, 3)), 0.1), count=6
        ),
        Case(
            "4 examples, 4 features",
            (_rng.normal(-3.0, 2.0, size=(4, 4)), 0.5),
            "as many features as examples.",
            4,
        ),
        Case(
            "features on different scales",
            (_rng.normal(5.0, 1.0, size=(7, 2)) * [1.0, 100.0], 0.3),
            "one feature is about 100 times the other.",
            7,
        ),
        Case(
            "a constant feature",
            (_constant, 0.2),
            "feature 1 is constant, so σ² = 0 and only ε is left.",
            5,
        ),
        Case(
            "a single feature",
            (_rng.normal(1.0, 2.0, size=(5, 1)), 0.4),
            "there is one feature: ẑ has shape (M, 1).",
            5,
        ),
        Case(
            "ε = 0",
            (_rng.normal(-2.0, 1.5, size=(6, 2)), 0.0),
            "ε is 0, and no feature is constant.",
            6,
        ),
    ),
    returns=("z_hat",),
    feature_axis=1,
)
