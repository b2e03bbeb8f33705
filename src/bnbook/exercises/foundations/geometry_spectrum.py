"""Exercise: the eigenvalues of the matrix P."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def spectrum(x: np.ndarray, eps: float) -> np.ndarray:
    """Eigenvalues of P = I − 11ᵀ/M − ẑẑᵀ/M for one feature, in ascending order.

    Args:
        x: the values of one feature before normalization, (M,), with M ≥ 2.
        eps: ε ≥ 0 of the normalization.

    Returns:
        The M eigenvalues, smallest first, (M,).
    """
    r = eps / (x.var() + eps)
    return np.array([0.0, r] + [1.0] * (len(x) - 2))


def _with(count, *small):
    return np.array([*small] + [1.0] * (count - len(small)))


def always_a_projection(x, eps):
    """You have 0 twice, which is right for ε = 0 only. On ẑ the eigenvalue is
    1 − mean(ẑ²), and ε keeps mean(ẑ²) below 1."""
    return _with(len(x), 0.0, 0.0)


def complement(x, eps):
    """You give σ²/(σ² + ε) for the direction ẑ: that is mean(ẑ²), the share which is
    removed. The eigenvalue is what stays."""
    return np.sort(_with(len(x), 0.0, 1 - eps / (x.var() + eps)))


def over_variance(x, eps):
    """You use ε/σ². The mean square of ẑ is σ²/(σ² + ε), so the eigenvalue on ẑ is
    ε/(σ² + ε)."""
    return np.sort(_with(len(x), 0.0, eps / x.var()))


def mean_kept(x, eps):
    """You lack the eigenvalue 0: P sends the vector of ones to 0, whatever ε is."""
    return _with(len(x), eps / (x.var() + eps))


def root_taken(x, eps):
    """You take a root. P subtracts ẑẑᵀ/M, which is quadratic in ẑ: the eigenvalue on ẑ
    is ε/(σ² + ε) itself."""
    return _with(len(x), 0.0, np.sqrt(eps / (x.var() + eps)))


def unbiased_variance(x, eps):
    """You use the variance of M − 1. The layer divides by M: no `ddof`."""
    return _with(len(x), 0.0, eps / (x.var(ddof=1) + eps))


def descending(x, eps):
    """Your eigenvalues are right but in descending order: start with the smallest."""
    return spectrum(x, eps)[::-1].copy()


def numerically(x, eps):
    """The same from the matrix."""
    z_hat = (x - x.mean()) / np.sqrt(x.var() + eps)
    return np.linalg.eigvalsh(np.eye(len(x)) - (1 + np.outer(z_hat, z_hat)) / len(x))


_rng = np.random.default_rng(302)

EXERCISE = FunctionExercise(
    id="geometry-spectrum",
    chapter="foundations/geometry",
    title="The eigenvalues of the backward pass",
    level="core",
    reference=spectrum,
    why="P sends 1 to 0, multiplies ẑ by 1 − mean(ẑ²) = ε/(σ² + ε), and leaves everything "
    "orthogonal to both as it is.",
    mistakes=variants(
        always_a_projection,
        complement,
        over_variance,
        mean_kept,
        root_taken,
        unbiased_variance,
        descending,
    ),
    alternatives=(numerically,),
    hints=(
        "Apply P to the vector of ones, to ẑ, and to a vector that is orthogonal to both.",
        "Pẑ = ẑ − ẑ · mean(ẑ²), and mean(ẑ²) = σ²/(σ² + ε).",
    ),
    cases=(
        Case("6 values, ε = 0.5", (_rng.normal(1, 1.5, 6), 0.5), count=6),
        Case("5 values, ε = 3", (_rng.normal(0, 1.0, 5), 3.0), "ε is large.", 5),
        Case("2 values", (_rng.normal(0, 1.0, 2), 0.7), "M = 2.", 2),
        Case("4 values, ε = 0", (_rng.normal(0, 2.0, 4), 0.0), "ε is 0.", 4),
    ),
    returns=("eigenvalues",),
)
