"""Exercise: the least squares line through the upstream gradient."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def least_squares_line(
    dgamma: np.ndarray, dbeta: np.ndarray, var: np.ndarray, eps: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Line g ≈ a + b ẑ of ordinary least squares, from the parameter gradients.

    There is no penalty: a and b make Σ (g − a − b ẑ)² as small as possible.

    Args:
        dgamma: ∂L/∂γ = Σ g ẑ of each feature, (D,).
        dbeta: ∂L/∂β = Σ g of each feature, (D,).
        var: biased batch variance σ² of each feature, positive, (D,).
        eps: ε ≥ 0 with which ẑ was normalized.
        count: M, the number of examples.

    Returns:
        The intercepts a, (D,), and the slopes b, (D,).
    """
    mean_square = var / (var + eps)  # of ẑ
    return dbeta / count, dgamma / (count * mean_square)


def of_the_layer(dgamma, dbeta, var, eps, count):
    """Your slope is what the layer removes, ∂L/∂γ/M, a ridge regression. Least squares
    divides Σgẑ by Σẑ² = Mσ²/(σ² + ε), which is M only for ε = 0."""
    return dbeta / count, dgamma / count


def inverse_share(dgamma, dbeta, var, eps, count):
    """You multiply the slope by σ²/(σ² + ε). It belongs in the denominator: the slope
    is Σgẑ/Σẑ²."""
    return dbeta / count, dgamma / count * var / (var + eps)


def sums_for_means(dgamma, dbeta, var, eps, count):
    """You lose 1/M: the intercept is the mean of g, and the slope divides by Σẑ², which
    is M times a mean square."""
    return dbeta * 1.0, dgamma * (var + eps) / var


def slope_by_z(dgamma, dbeta, var, eps, count):
    """Your slope is the one by z, not by ẑ: it has 1/√(σ² + ε) too many."""
    return dbeta / count, dgamma * (var + eps) / var / count / np.sqrt(var + eps)


def penalized_intercept(dgamma, dbeta, var, eps, count):
    """You scale the intercept as well. The mean of ẑ is 0 whatever ε is, so the
    intercept is the mean of g."""
    share = var / (var + eps)
    return dbeta / count / share, dgamma / count / share


def root_of_share(dgamma, dbeta, var, eps, count):
    """You divide by the root of the mean square of ẑ. Least squares needs Σẑ² itself."""
    return dbeta / count, dgamma / count * np.sqrt((var + eps) / var)


def swapped(dgamma, dbeta, var, eps, count):
    """You mix up the two gradients: Σg gives the intercept, Σgẑ the slope."""
    share = var / (var + eps)
    return dgamma / count, dbeta / (count * share)


def by_normal_equations(dgamma, dbeta, var, eps, count):
    """The same by solving the normal equations."""
    lines = []
    for dg, db, v in zip(dgamma, dbeta, var, strict=True):
        normal = np.array([[count, 0.0], [0.0, count * v / (v + eps)]])
        lines.append(np.linalg.solve(normal, np.array([db, dg])))
    a, b = np.array(lines).T
    return a.copy(), b.copy()


_rng = np.random.default_rng(303)


def _case(features, count, eps):
    return (
        _rng.normal(size=features),
        _rng.normal(size=features),
        _rng.uniform(0.5, 2.0, features),
        eps,
        count,
    )


EXERCISE = FunctionExercise(
    id="geometry-line",
    chapter="foundations/geometry",
    title="The line behind the backward pass",
    level="core",
    reference=least_squares_line,
    why="The columns 1 and ẑ are orthogonal, so each coefficient is its own quotient: "
    "Σg/M and Σgẑ/Σẑ². Only the second feels ε.",
    mistakes=variants(
        of_the_layer,
        inverse_share,
        sums_for_means,
        slope_by_z,
        penalized_intercept,
        root_of_share,
        swapped,
    ),
    alternatives=(by_normal_equations,),
    hints=(
        "1 and ẑ are orthogonal, so a = Σg/Σ1 and b = Σgẑ/Σẑ².",
        "Σẑ² = M σ²/(σ² + ε).",
    ),
    cases=(
        Case("3 features, ε = 0.5", _case(3, 8, 0.5), count=8),
        Case("4 features, ε = 2", _case(4, 5, 2.0), "ε is larger than σ².", 5),
        Case("2 features, ε = 0", _case(2, 16, 0.0), "ε is 0.", 16),
    ),
    returns=("a", "b"),
)
