"""Exercise: the backward pass as three numbers a feature."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def dx_coefficients(
    gamma: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    dgamma: np.ndarray,
    dbeta: np.ndarray,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The a, b and c of each feature with which dx = a · dy + b · x + c.

    dx = γ/std · (dy − dbeta/M − ẑ · dgamma/M) with ẑ = (x − mean)/std.

    Args:
        gamma: scale γ, (D,).
        mean: batch mean μ, (D,).
        std: √(σ² + ε), (D,).
        dgamma: Σ dy ẑ, (D,).
        dbeta: Σ dy, (D,).
        count: M.

    Returns:
        a, b and c, each (D,).
    """
    a = gamma / std
    b = -a * dgamma / (count * std)
    c = -a * dbeta / count - b * mean
    return a, b, c


def not_centred(gamma, mean, std, dgamma, dbeta, count):
    """Your c lacks the part with the mean: ẑ is (x − mean)/std, and −b · mean does not depend on x."""
    a, b, _ = dx_coefficients(gamma, mean, std, dgamma, dbeta, count)
    return a, b, -a * dbeta / count


def mean_with_wrong_sign(gamma, mean, std, dgamma, dbeta, count):
    """In your c the mean has the wrong sign: b · (x − mean) gives −b · mean."""
    a, b, _ = dx_coefficients(gamma, mean, std, dgamma, dbeta, count)
    return a, b, -a * dbeta / count + b * mean


def divided_once(gamma, mean, std, dgamma, dbeta, count):
    """Your b is divided by std once. It needs two: one from γ/std and one from ẑ."""
    a = gamma / std
    b = -a * dgamma / count
    return a, b, -a * dbeta / count - b * mean


def sums_for_means(gamma, mean, std, dgamma, dbeta, count):
    """You take the sums dgamma and dbeta for means: divide both by M."""
    a = gamma / std
    b = -a * dgamma / std
    return a, b, -a * dbeta - b * mean


def plus_for_minus(gamma, mean, std, dgamma, dbeta, count):
    """Your b is positive: the part along ẑ is taken away from dy, not added."""
    a, b, _ = dx_coefficients(gamma, mean, std, dgamma, dbeta, count)
    return a, -b, -a * dbeta / count + b * mean


def scale_forgotten(gamma, mean, std, dgamma, dbeta, count):
    """Your c lacks the factor γ/std in front of dbeta/M: it multiplies the whole bracket."""
    a, b, _ = dx_coefficients(gamma, mean, std, dgamma, dbeta, count)
    return a, b, -dbeta / count - b * mean


def from_three_points(gamma, mean, std, dgamma, dbeta, count):
    """The same, read off from dx at three points."""

    def dx(dy, x):
        z_hat = (x - mean) / std
        return gamma / std * (dy - dbeta / count - z_hat * dgamma / count)

    c = dx(0.0, 0.0)
    return dx(1.0, 0.0) - c, dx(0.0, 1.0) - c, c


def in_one_fraction(gamma, mean, std, dgamma, dbeta, count):
    """The same over a common denominator."""
    below = count * std**2
    return (
        gamma / std,
        -gamma * dgamma / below,
        gamma * (mean * dgamma - std * dbeta) / below,
    )


_rng = np.random.default_rng(411)


def _case(name: str, features: int, count: int, mean: float, note: str = "") -> Case:
    return Case(
        name,
        (
            _rng.normal(size=features),
            _rng.normal(mean, 1.0, features),
            _rng.uniform(0.5, 2.0, features),
            _rng.normal(size=features),
            _rng.normal(size=features),
            count,
        ),
        note,
        count=count,
    )


EXERCISE = FunctionExercise(
    id="cost-coefficients",
    chapter="training/cost",
    title="The backward pass as three numbers",
    level="core",
    reference=dx_coefficients,
    why="dx is linear in dy and in x for each feature. Collected by powers, it needs no ẑ, and one pass "
    "with two multiplications and two additions.",
    mistakes=variants(
        not_centred,
        mean_with_wrong_sign,
        divided_once,
        sums_for_means,
        plus_for_minus,
        scale_forgotten,
    ),
    alternatives=(from_three_points, in_one_fraction),
    hints=(
        "Put ẑ = (x − mean)/std into dx and sort: what multiplies dy, what multiplies x, what is left?",
        "a = γ/std. The factor of x takes this a, a minus, dgamma/M and one more 1/std. c holds two "
        "parts: one from dbeta, one from the mean in ẑ.",
    ),
    cases=(
        _case("3 features of 8 examples", 3, 8, 2.0),
        _case("means of 50", 4, 20, 50.0, "the means are large."),
        _case("one feature of 2 examples", 1, 2, -1.0),
    ),
    returns=("a", "b", "c"),
    feature_axis=0,
)
