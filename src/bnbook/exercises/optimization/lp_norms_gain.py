"""Exercise: how much an oblique projection can amplify."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def oblique_gain(x: np.ndarray, p: float) -> float:
    """The largest ‖P u‖/‖u‖ for P = (I − ẑvᵀ/M)(I − 11ᵀ/M) of a centred Lp normalization, ε = 0.

    Args:
        x: one feature, (M,), M ≥ 4, with at least three different values.
        p: a finite number > 1.

    Returns:
        gain: at least 1.
    """
    c = x - x.mean()
    z_hat = c / np.mean(np.abs(c) ** p) ** (1 / p)
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    v = v - v.mean()
    return float(np.linalg.norm(z_hat) * np.linalg.norm(v) / len(x))


def v_not_centred(x, p):
    """You use v as it is. P first removes the mean of u, so only v − mean(v) can act."""
    c = x - x.mean()
    z_hat = c / np.mean(np.abs(c) ** p) ** (1 / p)
    v = np.abs(z_hat) ** (p - 1)
    return float(np.linalg.norm(z_hat) * np.linalg.norm(v) / len(x))


def cosine(x, p):
    """You return the cosine of the angle between ẑ and v. The gain is one over it."""
    return 1 / oblique_gain(x, p)


def squared(x, p):
    """You return the square of the gain, the largest eigenvalue of PᵀP."""
    return oblique_gain(x, p) ** 2


def orthogonal(x, p):
    """You say 1, as for an orthogonal projection. P is one for p = 2 only."""
    return 1.0


def frobenius(x, p):
    """You return the Frobenius norm, √Σ P_ki². That is the gain on a random direction times √M, not
    the largest gain."""
    return float(np.sqrt(len(x) - 3 + oblique_gain(x, p) ** 2))


def by_singular_values(x, p):
    """The same, as the largest singular value of the matrix."""
    count = len(x)
    c = x - x.mean()
    z_hat = c / np.mean(np.abs(c) ** p) ** (1 / p)
    v = np.abs(z_hat) ** (p - 1) * np.sign(z_hat)
    projection = (np.eye(count) - np.outer(z_hat, v) / count) @ (
        np.eye(count) - 1 / count
    )
    return float(np.linalg.svd(projection, compute_uv=False)[0])


_rng = np.random.default_rng(853)

EXERCISE = FunctionExercise(
    id="lp-norms-gain",
    chapter="optimization/lp_norms",
    title="The gain of an oblique projection",
    level="hard",
    reference=oblique_gain,
    why="In the plane of ẑ and v, I − ẑvᵀ/M is a projection whose kernel and range meet at an angle; its norm "
    "is one over the cosine of the angle between ẑ and v, and vᵀẑ = M.",
    mistakes=variants(v_not_centred, cosine, squared, orthogonal, frobenius),
    alternatives=(by_singular_values,),
    hints=(
        "Every u orthogonal to ẑ, v and 1 keeps its length. What is left is a plane.",
        "There P = I − ẑvᵀ/M with vᵀẑ = M, and its norm is ‖ẑ‖‖v − mean(v)‖/M.",
    ),
    cases=(
        Case("p = 4, skewed", (_rng.exponential(size=9), 4.0)),
        Case("p = 1.5", (_rng.normal(size=12) + 3, 1.5)),
        Case("p = 2", (_rng.normal(size=8), 2.0), "p = 2, where the gain is 1."),
    ),
    returns=("gain",),
)
