"""Exercise: backward through a normalization that knows one example only."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def example_backward(
    dy: np.ndarray, p: np.ndarray, square: float, r_m: float, r_v: float
) -> np.ndarray:
    """∂L/∂x of one example, without a cap and with ε = 0.

    The layer computes y = p/√ν†, p = x − μ†. The gradient through μ† goes to the mean of
    x, times r_m; through ν† to the mean of p², times r_v S/Q. S is the running second
    moment, the value of ν†, and Q the mean of p².

    Args:
        dy: ∂L/∂y, (d,).
        p: the values after the subtraction, (d,), not all 0.
        square: S > 0.
        r_m: shrinkage through the mean.
        r_v: shrinkage through the second moment.

    Returns:
        dx: (d,).
    """
    along = (dy * p).sum() / (p * p).sum()
    dp = (dy - r_v * along * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def not_scaled(dy, p, square, r_m, r_v):
    """You leave the factor S/Q out, so that the share removed along p grows with the example: it should be
    divided by Q, the example's own second moment, not by S."""
    dp = (dy - r_v * (dy * p).mean() / square * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def frozen(dy, p, square, r_m, r_v):
    """You treat the statistics as constants. The values are those of constants; the gradient is not."""
    return dy / np.sqrt(square)


def own_root(dy, p, square, r_m, r_v):
    """You divide by √Q. The forward pass divides by the running √S, so the gradient does too."""
    root = np.sqrt((p * p).mean())
    dp = (dy - r_v * (dy * p).sum() / (p * p).sum() * p) / root
    return dp - r_m * dp.mean()


def mean_forgotten(dy, p, square, r_m, r_v):
    """You leave out the gradient through the mean."""
    return (dy - r_v * (dy * p).sum() / (p * p).sum() * p) / np.sqrt(square)


def mean_of_dy(dy, p, square, r_m, r_v):
    """You subtract the mean of dy/√S. What reaches μ† has also come through ν†: subtract the mean of
    all of ∂L/∂p."""
    dp = (dy - r_v * (dy * p).sum() / (p * p).sum() * p) / np.sqrt(square)
    return dp - r_m * dy.mean() / np.sqrt(square)


def shrunk_twice(dy, p, square, r_m, r_v):
    """You multiply by r_v twice. It is one factor on the gradient that goes to the mean of p²."""
    along = (dy * p).sum() / (p * p).sum()
    dp = (dy - r_v**2 * along * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def half(dy, p, square, r_m, r_v):
    """You remove half of the part along p. The root brings a factor ½, and the square a factor 2: together
    they are 1."""
    along = (dy * p).sum() / (p * p).sum() / 2
    dp = (dy - r_v * along * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def whole_statistics(dy, p, square, r_m, r_v):
    """You ignore r_m and r_v, and remove both directions completely."""
    dp = (dy - (dy * p).sum() / (p * p).sum() * p) / np.sqrt(square)
    return dp - dp.mean()


def capped(dy, p, square, r_m, r_v):
    """You cap S/Q at 2. Here there is no cap: the whole share r_v along p is removed, however small the
    example is."""
    factor = min(square / (p * p).mean(), 2.0)
    dp = (dy - r_v * factor * (dy * p).mean() / square * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def wrong_order(dy, p, square, r_m, r_v):
    """You remove the mean first and the part along p second. Backward, the last step of the layer comes first:
    the division, then the subtraction."""
    dx = dy - r_m * dy.mean()
    return (dx - r_v * (dx * p).sum() / (p * p).sum() * p) / np.sqrt(square)


def sign_along(dy, p, square, r_m, r_v):
    """You add the part along p. A larger second moment makes y smaller, so ∂L/∂ν† brings a minus."""
    along = (dy * p).sum() / (p * p).sum()
    dp = (dy + r_v * along * p) / np.sqrt(square)
    return dp - r_m * dp.mean()


def sign_mean(dy, p, square, r_m, r_v):
    """You add the mean of ∂L/∂p. The mean is subtracted from x, so what comes back through it has a minus."""
    dp = (dy - r_v * (dy * p).sum() / (p * p).sum() * p) / np.sqrt(square)
    return dp + r_m * dp.mean()


def by_matrices(dy, p, square, r_m, r_v):
    """The same, as a product of two matrices."""
    d = len(p)
    centre = np.eye(d) - r_m * np.ones((d, d)) / d
    project = np.eye(d) - r_v * np.outer(p, p) / (p @ p)
    return centre @ project @ dy / np.sqrt(square)


_rng = np.random.default_rng(812)

EXERCISE = FunctionExercise(
    id="single-example-backward",
    chapter="estimation/single_example",
    title="One example, backward",
    level="core",
    reference=example_backward,
    why="With the factor S/Q the matrix before dy is a projector, shrunk: I − r_v ppᵀ/‖p‖². The gradient "
    "through the mean then removes r_m times the mean of what is left.",
    mistakes=variants(
        not_scaled,
        frozen,
        own_root,
        mean_forgotten,
        mean_of_dy,
        shrunk_twice,
        half,
        whole_statistics,
        capped,
        wrong_order,
        sign_along,
        sign_mean,
    ),
    alternatives=(by_matrices,),
    hints=(
        "Go backward step by step: what is ∂L/∂ν†, and what does ν† pass on to each p_i? S cancels.",
        "∂L/∂p = (dy − r_v (dy·p)/(p·p) p)/√S. Each x_i also enters the mean, with weight 1/d and "
        "factor r_m.",
    ),
    cases=(
        Case(
            "5 values",
            (_rng.normal(size=5), _rng.normal(0.5, 1.4, 5), 1.3, 0.6, 0.7),
            count=5,
        ),
        Case(
            "9 values, r_m = r_v = 1",
            (_rng.normal(size=9), _rng.normal(size=9), 0.4, 1.0, 1.0),
            "nothing is shrunk.",
            count=9,
        ),
        Case(
            "r_m = 0",
            (_rng.normal(size=4), _rng.normal(size=4), 2.2, 0.0, 0.8),
            "no gradient goes through the mean.",
            count=4,
        ),
        Case(
            "a small example",
            (_rng.normal(size=6), 0.15 * _rng.normal(size=6), 1.1, 0.5, 0.9),
            "S/Q is above 30, and nothing caps it.",
            count=6,
        ),
    ),
    returns=("dx",),
)
