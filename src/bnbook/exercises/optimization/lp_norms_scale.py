"""Exercise: the Lp scale of a batch."""

import math

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def order_scale(x: np.ndarray, p: float) -> np.ndarray:
    """s = (mean |x − μ|^p)^(1/p) of each feature, or max |x − μ| for p = ∞.

    Args:
        x: the input of a normalization, (M, D).
        p: a number ≥ 1, or math.inf.

    Returns:
        scale: one number a feature, (D,).
    """
    size = np.abs(x - x.mean(axis=0))
    if math.isinf(p):
        return size.max(axis=0)
    return (size**p).mean(axis=0) ** (1 / p)


def summed(x, p):
    """You add |x − μ|^p up. The scale is a mean over the batch: with a sum it would grow with M,
    like M^(1/p)."""
    size = np.abs(x - x.mean(axis=0))
    if math.isinf(p):
        return size.max(axis=0)
    return (size**p).sum(axis=0) ** (1 / p)


def root_forgotten(x, p):
    """You leave out the root 1/p. Then the scale has the unit of x to the power p, and twice the
    input does not have twice the scale."""
    size = np.abs(x - x.mean(axis=0))
    return size.max(axis=0) if math.isinf(p) else (size**p).mean(axis=0)


def not_centred(x, p):
    """You do not subtract the mean of the batch."""
    size = np.abs(x)
    if math.isinf(p):
        return size.max(axis=0)
    return (size**p).mean(axis=0) ** (1 / p)


def signed(x, p):
    """You leave out the absolute value. For even p that makes no difference; for odd p positive and
    negative terms cancel, and for p = ∞ the most negative entry may be the largest."""
    c = x - x.mean(axis=0)
    if math.isinf(p):
        return c.max(axis=0)
    total = np.mean(np.sign(c) * np.abs(c) ** p if p % 2 else np.abs(c) ** p, axis=0)
    return np.abs(total) ** (1 / p)


def always_two(x, p):
    """You return the standard deviation for every p."""
    return x.std(axis=0)


def infinity_forgotten(x, p):
    """You put p = ∞ into the formula. |x − μ|^∞ is 0 or infinite, and the root 1/∞ makes 1 of both. The
    limit p → ∞ is the largest |x − μ|: ask for it with `math.isinf(p)`."""
    return (np.abs(x - x.mean(axis=0)) ** p).mean(axis=0) ** (1 / p)


def half_range(x, p):
    """For p = ∞ you use half of the range, (max − min)/2. The mean need not lie in the middle."""
    if math.isinf(p):
        return np.ptp(x, axis=0) / 2
    return order_scale(x, p)


def by_linalg(x, p):
    """The same, with NumPy's vector norms."""
    c = x - x.mean(axis=0)
    norms = np.linalg.norm(c, ord=p, axis=0)
    return norms if math.isinf(p) else norms / len(x) ** (1 / p)


_rng = np.random.default_rng(851)

EXERCISE = FunctionExercise(
    id="lp-norms-scale",
    chapter="optimization/lp_norms",
    title="The scale of a batch",
    level="warm-up",
    reference=order_scale,
    why="A mean instead of a sum keeps the scale independent of M; the root gives it the unit of x. For "
    "p → ∞ only the largest deviation is left.",
    mistakes=variants(
        summed,
        root_forgotten,
        not_centred,
        signed,
        always_two,
        infinity_forgotten,
        half_range,
    ),
    alternatives=(by_linalg,),
    hints=(
        "Subtract the mean of each column first, then take absolute values.",
        "`(size**p).mean(axis=0) ** (1 / p)`, and `size.max(axis=0)` where `math.isinf(p)`.",
    ),
    cases=(
        Case("p = 3", (_rng.normal(size=(7, 3)) + 1, 3.0), count=7),
        Case("p = 1", (_rng.normal(size=(6, 2)) - 2, 1.0), count=6),
        Case("p = 2", (_rng.normal(size=(5, 2)), 2.0), "p = 2.", count=5),
        Case(
            "p = ∞, an outlier below",
            (np.array([[0.1, 3.0], [0.2, -1.0], [-4.0, -1.5], [0.7, 0.2]]), math.inf),
            "p is infinite.",
            count=4,
        ),
    ),
    returns=("scale",),
    feature_axis=0,
)
