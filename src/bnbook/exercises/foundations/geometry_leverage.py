"""Exercise: the leverage of each example."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def leverage(x: np.ndarray, eps: float) -> np.ndarray:
    """Share of its own upstream gradient that each example loses to normalization.

    Args:
        x: the batch before normalization, (M, D).
        eps: ε ≥ 0 of the normalization.

    Returns:
        h with h[m, d] = 1 − P[m, m] for feature d, (M, D).
    """
    z_hat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return (1 + z_hat**2) / len(x)


def _z_hat(x, eps, ddof=0):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=ddof) + eps)


def mean_forgotten(x, eps):
    """You leave out the 1/M of the mean: 11ᵀ/M has 1/M on its diagonal."""
    return _z_hat(x, eps) ** 2 / len(x)


def not_divided(x, eps):
    """Both parts carry 1/M: the diagonals of 11ᵀ/M and ẑẑᵀ/M are 1/M and ẑ²/M."""
    return 1 + _z_hat(x, eps) ** 2


def one_not_divided(x, eps):
    """The diagonal of 11ᵀ/M is 1/M, not 1: divide the whole sum 1 + ẑ² by M."""
    return 1 + _z_hat(x, eps) ** 2 / len(x)


def not_squared(x, eps):
    """The diagonal of ẑẑᵀ holds squares, ẑ_m ẑ_m. Yours is linear in ẑ."""
    return (1 + _z_hat(x, eps)) / len(x)


def what_is_kept(x, eps):
    """You return P[m, m], the share that is kept. The leverage is 1 minus that."""
    return 1 - leverage(x, eps)


def of_least_squares(x, eps):
    """You divide ẑ² by Σẑ², as least squares does. The layer divides by M, which is the
    same only for ε = 0."""
    z_hat = _z_hat(x, eps)
    return 1 / len(x) + z_hat**2 / (z_hat**2).sum(axis=0)


def unbiased_variance(x, eps):
    """You normalize with the variance of M − 1. The layer divides by M: no `ddof`."""
    return (1 + _z_hat(x, eps, ddof=1) ** 2) / len(x)


def from_the_matrix(x, eps):
    """The same from the diagonal of the whole matrix."""
    columns = []
    for column in _z_hat(x, eps).T:
        count = len(column)
        p = np.eye(count) - np.ones((count, count)) / count
        columns.append(1 - np.diag(p - np.outer(column, column) / count))
    return np.stack(columns, axis=1)


_rng = np.random.default_rng(301)

EXERCISE = FunctionExercise(
    id="geometry-leverage",
    chapter="foundations/geometry",
    title="The leverage of each example",
    level="warm-up",
    reference=leverage,
    why="The diagonal of P is 1 − 1/M − ẑ²/M. The further out a value lies, the more of "
    "its gradient goes to β and γ.",
    mistakes=variants(
        mean_forgotten,
        not_divided,
        one_not_divided,
        not_squared,
        what_is_kept,
        of_least_squares,
        unbiased_variance,
    ),
    alternatives=(from_the_matrix,),
    hints=(
        "P = I − 11ᵀ/M − ẑẑᵀ/M. What is its entry (m, m)?",
        "The entry (m, m) of 11ᵀ is 1, and that of ẑẑᵀ is ẑ_m².",
    ),
    cases=(
        Case("6 examples, 3 features", (_rng.normal(2, 1.5, (6, 3)), 0.3), count=6),
        Case("ε = 0", (_rng.normal(-1, 2.0, (5, 2)), 0.0), "ε is 0.", 5),
        Case(
            "2 examples",
            (_rng.normal(0, 1.0, (2, 3)), 0.8),
            "There are only two examples.",
            2,
        ),
    ),
    returns=("h",),
    feature_axis=1,
)
