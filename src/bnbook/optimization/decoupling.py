"""Length and direction apart: the algorithm of Kohler et al. (2019), in population form.

The direction is trained by gradient descent with a step that adapts to it, the length is
set to its best value. For least squares, and for the logistic loss of Gaussian inputs.
"""

import math

import numpy as np
from scipy import optimize, special

from bnbook.optimization.least_squares import Problem, bn_gradients, excess_loss
from bnbook.validation import require_float_array, require_shape

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / math.sqrt(2 * math.pi)


def best_length(problem: Problem, w: np.ndarray) -> np.ndarray:
    """The multiple a·w, (…, d), with the smallest least squares loss: a = gᵀw/(wᵀHw)."""
    return ((w @ problem.g) / (w * (w @ problem.hessian)).sum(-1))[..., None] * w


def kohler_step(problem: Problem, w: np.ndarray) -> np.ndarray:
    """w − η ∂L/∂w at the best γ, with η = σ⁴/(λ_max (gᵀw)²), which adapts to w.

    Args:
        problem: H, g and E y².
        w: (d,), not 0, with gᵀw ≠ 0.

    Raises:
        TypeError, ValueError: w is not of this kind.

    Source: Kohler et al. (2019), Theorem 1.
    """
    require_float_array("w", w)
    require_shape("w", w, problem.g.shape, "one weight for each input")
    slope = w @ problem.g
    if slope == 0:
        raise ValueError("gᵀw is 0: the loss is at a saddle; start from another w")
    square = float(w @ problem.hessian @ w)
    gamma = slope / math.sqrt(square)  # the best length
    step = square**2 / (problem.eigenvalues[0] * slope**2)
    return w - step * bn_gradients(problem, gamma, w).w


def decoupled_descent(
    problem: Problem, w: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat `kohler_step`.

    Returns:
        The directions w, (steps + 1, d), and the excess loss of each at its best length.

    Raises:
        TypeError, ValueError: as `kohler_step`; also if steps is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    path = [w]
    for _ in range(steps):
        path.append(kohler_step(problem, path[-1]))
    ways = np.array(path)
    return ways, excess_loss(problem, best_length(problem, ways))


def gaussian_classes(mean: np.ndarray, covariance: np.ndarray) -> Problem:
    """The moments of z = y x for two classes y = ±1 with x ~ N(y·mean, covariance).

    With y² = 1, least squares on the labels has H = E zzᵀ and g = E z.
    """
    return Problem(covariance + np.outer(mean, mean), mean, 1.0)


def logistic_loss(problem: Problem, v: np.ndarray) -> np.ndarray:
    """E log(1 + exp(−zᵀv)) for Gaussian z with E z = g and E zzᵀ = H, (…), by quadrature.

    Args:
        problem: from `gaussian_classes`.
        v: weights, (…, d).
    """
    return (np.logaddexp(0, -_scores(problem, v)) * _WEIGHTS).sum(-1)


def logistic_factor(problem: Problem, v: np.ndarray) -> np.ndarray:
    """The number, (…), by which the gradient by the direction differs from least squares.

    It is −E φ'(t) + (gᵀv) E φ''(t) with t = zᵀv and φ(t) = log(1 + e^{−t}), by Stein's
    identity for Gaussian z. At the same γ and w, with v = γw/σ, the gradient of
    E φ(zᵀv) by w is this number times that of `bn_gradients`.
    """
    t = _scores(problem, v)
    slope, curvature = -special.expit(-t), special.expit(t) * special.expit(-t)
    mean = (v @ problem.g)[..., None]
    return ((mean * curvature - slope) * _WEIGHTS).sum(-1)


def logistic_length(problem: Problem, w: np.ndarray) -> np.ndarray:
    """The multiple of w, (d,), with the smallest logistic loss; the length by bisection.

    Raises:
        ValueError: gᵀw is not positive, so that the best length is not either.
    """
    if not w @ problem.g > 0:
        raise ValueError("gᵀw must be positive; pass −w")
    spread = math.sqrt(w @ problem.hessian @ w)

    def derivative(length):
        t = _scores(problem, length / spread * w)
        return float((-special.expit(-t) * t * _WEIGHTS).sum())

    high = 1.0
    while derivative(high) < 0:
        high *= 2
    return optimize.bisect(derivative, 1e-12, high, xtol=1e-13) / spread * w


def _scores(problem: Problem, v: np.ndarray) -> np.ndarray:
    """Values of zᵀv at the nodes of the quadrature, (…, nodes)."""
    mean = v @ problem.g
    spread = np.sqrt((v * (v @ problem.hessian)).sum(-1) - mean**2)
    return mean[..., None] + spread[..., None] * _NODES
