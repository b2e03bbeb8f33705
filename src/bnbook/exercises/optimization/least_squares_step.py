"""Exercise: one step of length–direction decoupling, seen from the effective weight."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def decoupled_step(hessian: np.ndarray, g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The effective weight after one step of Kohler et al. (2019).

    Their adaptive step turns the direction as plain gradient descent with the rate 1/λ_max turns
    the effective weight v, if v has its best length. Then the length is set to its best value again.

    Args:
        hessian: H, (d, d), symmetric and positive definite.
        g: E xy, (d,).
        v: an effective weight of any length, (d,), with gᵀv ≠ 0.

    Returns:
        v: the next effective weight, (d,), with the smallest least squares loss on its line.
    """

    def best(direction):
        return direction * (g @ direction) / (direction @ hessian @ direction)

    v = best(v)
    return best(v - (hessian @ v - g) / np.linalg.eigvalsh(hessian)[-1])


def length_left(hessian, g, v):
    """You leave the length as the step makes it. The second half of the algorithm sets it to its best
    value, gᵀv/(vᵀHv) times the new v."""
    v = v * (g @ v) / (v @ hessian @ v)
    return v - (hessian @ v - g) / np.linalg.eigvalsh(hessian)[-1]


def start_not_scaled(hessian, g, v):
    """You step from v as it comes. Its length must be set to the best value first: the direction of
    the plain gradient depends on it."""
    v = v - (hessian @ v - g) / np.linalg.eigvalsh(hessian)[-1]
    return v * (g @ v) / (v @ hessian @ v)


def smallest_eigenvalue(hessian, g, v):
    """Your step is 1/λ_min. That is far beyond the stable 2/λ_max."""
    v = v * (g @ v) / (v @ hessian @ v)
    v = v - (hessian @ v - g) / np.linalg.eigvalsh(hessian)[0]
    return v * (g @ v) / (v @ hessian @ v)


def twice_the_rate(hessian, g, v):
    """Your step is 2/λ_max, the border of stability. The algorithm's is 1/λ_max."""
    v = v * (g @ v) / (v @ hessian @ v)
    v = v - 2 * (hessian @ v - g) / np.linalg.eigvalsh(hessian)[-1]
    return v * (g @ v) / (v @ hessian @ v)


def unit_length(hessian, g, v):
    """You set the length so that vᵀHv = 1. That is the normalized direction; the effective weight has
    the best length, with gᵀv = vᵀHv."""
    v = decoupled_step(hessian, g, v)
    return v / np.sqrt(v @ hessian @ v)


def wrong_way(hessian, g, v):
    """You step along the gradient. Descent goes against it."""
    v = v * (g @ v) / (v @ hessian @ v)
    v = v + (hessian @ v - g) / np.linalg.eigvalsh(hessian)[-1]
    return v * (g @ v) / (v @ hessian @ v)


def by_the_normalized_gradient(hessian, g, v):
    """The same, with the gradient of the normalized loss and the adaptive step."""
    h_v = hessian @ v
    square, slope = v @ h_v, g @ v
    step = square**2 / (np.linalg.eigvalsh(hessian)[-1] * slope**2)
    w = v + step * slope / square * (g - slope / square * h_v)
    return w * (g @ w) / (w @ hessian @ w)


_rng = np.random.default_rng(904)
_factor = _rng.normal(size=(4, 4))

EXERCISE = FunctionExercise(
    id="least-squares-step",
    chapter="optimization/least_squares",
    title="One decoupled step",
    level="core",
    reference=decoupled_step,
    why="On a line, ½vᵀHv − gᵀv is smallest at the multiple gᵀv/(vᵀHv). Between two such rescalings the "
    "step is the plain one with rate 1/λ_max.",
    mistakes=variants(
        length_left,
        start_not_scaled,
        smallest_eigenvalue,
        twice_the_rate,
        unit_length,
        wrong_way,
    ),
    alternatives=(by_the_normalized_gradient,),
    hints=(
        "Minimize ½a² vᵀHv − a gᵀv over the number a.",
        "Rescale, take v − (Hv − g)/λ_max, rescale again.",
    ),
    cases=(
        Case(
            "4 inputs",
            (_factor @ _factor.T + np.eye(4), _rng.normal(size=4), _factor[1]),
            rtol=1e-9,
        ),
        Case(
            "2 inputs, H diagonal",
            (np.diag([4.0, 0.5]), np.array([1.0, 1.5]), np.array([2.0, 0.5])),
            rtol=1e-9,
        ),
    ),
    returns=("v",),
)
