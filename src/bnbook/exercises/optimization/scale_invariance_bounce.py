"""Exercise: the effective rate that one step leaves behind."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def effective_after(norm2: np.ndarray, gradient: np.ndarray, rate: float) -> np.ndarray:
    """Effective rate η/‖w‖² after one step of gradient descent, without weight decay.

    The weights are scale-invariant: the gradient is orthogonal to w, and its length is the
    gradient at the unit vector divided by ‖w‖.

    Args:
        norm2: ‖w‖² before the step, one value per neuron, (D,).
        gradient: ‖g̃‖, length of the gradient at the unit vector w/‖w‖, (D,).
        rate: η.

    Returns:
        effective: η/‖w‖² after the step, (D,).
    """
    return rate / (norm2 + rate**2 * gradient**2 / norm2)


def before_the_step(norm2, gradient, rate):
    """You return η/‖w‖² before the step. The step makes w longer."""
    return rate / norm2


def gradient_at_unit_vector(norm2, gradient, rate):
    """You add η²‖g̃‖². The gradient at w is g̃/‖w‖, so its square is ‖g̃‖²/‖w‖²."""
    return rate / (norm2 + rate**2 * gradient**2)


def along_the_weights(norm2, gradient, rate):
    """You shorten w by the length of the step. The step is orthogonal to w: use Pythagoras."""
    return rate / (np.sqrt(norm2) - rate * gradient / np.sqrt(norm2)) ** 2


def rate_unsquared(norm2, gradient, rate):
    """You multiply ‖g̃‖² by η. The step is η times the gradient; its square has η²."""
    return rate / (norm2 + rate * gradient**2 / norm2)


def length_not_squared(norm2, gradient, rate):
    """You divide η by ‖w‖. One factor 1/‖w‖ comes from the gradient and one from the length that is
    turned: η/‖w‖²."""
    return rate / np.sqrt(norm2 + rate**2 * gradient**2 / norm2)


def gradient_not_squared(norm2, gradient, rate):
    """You leave ‖g̃‖ unsquared. Pythagoras adds the squares of the two legs."""
    return rate / (norm2 + rate**2 * gradient / norm2)


def by_the_angle(norm2, gradient, rate):
    """The same, by the angle of the step."""
    angle = np.arctan(rate * gradient / norm2)
    return np.sin(2 * angle) / (2 * gradient)


_rng = np.random.default_rng(811)

EXERCISE = FunctionExercise(
    id="scale-invariance-bounce",
    chapter="optimization/scale_invariance",
    title="What one step leaves of the rate",
    level="core",
    reference=effective_after,
    why="By Pythagoras ‖w‖² grows by η²‖g̃‖²/‖w‖². So the new effective rate is at most 1/(2‖g̃‖), "
    "and a rate k times too large becomes one about k times too small.",
    mistakes=variants(
        before_the_step,
        gradient_at_unit_vector,
        along_the_weights,
        rate_unsquared,
        length_not_squared,
        gradient_not_squared,
    ),
    alternatives=(by_the_angle,),
    hints=(
        "Which angle do w and its gradient make? And how long is the gradient at w, if it is ‖g̃‖ at the "
        "unit vector?",
        "‖w‖² after the step is ‖w‖² + η²‖g̃‖²/‖w‖².",
    ),
    cases=(
        Case(
            "four neurons, η = 0.7",
            (_rng.uniform(0.5, 2, 4), _rng.uniform(0.5, 2, 4), 0.7),
        ),
        Case(
            "η = 1000",
            (_rng.uniform(0.5, 2, 3), _rng.uniform(0.1, 1, 3), 1000.0),
            "η is very large.",
        ),
        Case(
            "short weights",
            (np.full(2, 0.01), np.array([0.3, 0.6]), 0.1),
            "‖w‖² is 0.01.",
        ),
    ),
    returns=("effective",),
)
