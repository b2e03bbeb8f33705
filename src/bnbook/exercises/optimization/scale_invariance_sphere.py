"""Exercise: a step seen on the unit sphere."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def sphere_step(
    u: np.ndarray, gradient: np.ndarray, norm2: float, rate: float, decay: float
) -> tuple[np.ndarray, float]:
    """Direction and squared length of scale-invariant weights after a step with decay.

    The step is w − η(∂L/∂w + λw), and w is ‖w‖u.

    Args:
        u: direction of w, a unit vector, (D,).
        gradient: ∂L/∂w at u (not at w), (D,), orthogonal to u.
        norm2: ‖w‖² before the step.
        rate: η.
        decay: λ.

    Returns:
        u: direction after the step, a unit vector, (D,).
        norm2: ‖w‖² after the step.
    """
    w = np.sqrt(norm2) * u
    w = (1 - rate * decay) * w - rate * gradient / np.sqrt(norm2)
    after = w @ w
    return w / np.sqrt(after), after


def gradient_not_divided(u, gradient, norm2, rate, decay):
    """You take the gradient at u for the gradient at w. At w it is smaller by the factor 1/‖w‖."""
    w = (1 - rate * decay) * np.sqrt(norm2) * u - rate * gradient
    after = w @ w
    return w / np.sqrt(after), after


def gradient_multiplied(u, gradient, norm2, rate, decay):
    """You multiply the gradient by ‖w‖. A longer w is turned by a smaller gradient: divide."""
    w = (1 - rate * decay) * np.sqrt(norm2) * u - rate * gradient * np.sqrt(norm2)
    after = w @ w
    return w / np.sqrt(after), after


def decay_without_rate(u, gradient, norm2, rate, decay):
    """You shrink by 1 − λ. The decay term is part of the gradient, so the factor is 1 − ηλ."""
    w = (1 - decay) * np.sqrt(norm2) * u - rate * gradient / np.sqrt(norm2)
    after = w @ w
    return w / np.sqrt(after), after


def decay_forgotten(u, gradient, norm2, rate, decay):
    """You leave out the weight decay."""
    w = np.sqrt(norm2) * u - rate * gradient / np.sqrt(norm2)
    after = w @ w
    return w / np.sqrt(after), after


def decay_after(u, gradient, norm2, rate, decay):
    """You shrink the weights after the gradient step, so the gradient shrinks too and the direction feels
    no decay. Both are one step, from the weights before it: (1 − ηλ)w − η ∂L/∂w."""
    w = np.sqrt(norm2) * u - rate * gradient / np.sqrt(norm2)
    w = (1 - rate * decay) * w
    after = w @ w
    return w / np.sqrt(after), after


def direction_without_decay(u, gradient, norm2, rate, decay):
    """Your length is right; your direction leaves out the decay. Shorter weights are turned more by the
    same gradient: take both from the same w after the step."""
    direction, _ = sphere_step(u, gradient, norm2, rate, 0.0)
    return direction, sphere_step(u, gradient, norm2, rate, decay)[1]


def length_without_decay(u, gradient, norm2, rate, decay):
    """Your direction is right; your length leaves out the decay. Take both from the same w after the
    step."""
    direction, _ = sphere_step(u, gradient, norm2, rate, decay)
    return direction, sphere_step(u, gradient, norm2, rate, 0.0)[1]


def not_normalized(u, gradient, norm2, rate, decay):
    """Your direction is not a unit vector: divide it by its length."""
    _, after = sphere_step(u, gradient, norm2, rate, decay)
    return (1 - rate * decay) * u - rate * gradient / norm2, after


def length_returned(u, gradient, norm2, rate, decay):
    """You return ‖w‖ where ‖w‖² is asked for."""
    direction, after = sphere_step(u, gradient, norm2, rate, decay)
    return direction, np.sqrt(after)


def uphill(u, gradient, norm2, rate, decay):
    """You go up: the step is against the gradient."""
    w = (1 - rate * decay) * np.sqrt(norm2) * u + rate * gradient / np.sqrt(norm2)
    after = w @ w
    return w / np.sqrt(after), after


def by_the_right_triangle(u, gradient, norm2, rate, decay):
    """The same with the legs of the right triangle in units of ‖w‖."""
    along, across = 1 - rate * decay, rate / norm2
    hypotenuse2 = along**2 + across**2 * (gradient**2).sum()
    return (along * u - across * gradient) / np.sqrt(hypotenuse2), norm2 * hypotenuse2


_rng = np.random.default_rng(812)


def _case(size, norm2, rate, decay):
    u = _rng.normal(size=size)
    u /= np.linalg.norm(u)
    gradient = _rng.normal(size=size)
    return u, gradient - (gradient @ u) * u, norm2, rate, decay


EXERCISE = FunctionExercise(
    id="scale-invariance-sphere",
    chapter="optimization/scale_invariance",
    title="A step on the sphere",
    level="core",
    reference=sphere_step,
    why="In units of ‖w‖ the step is (1 − ηλ)u − η/‖w‖² g̃: what turns the direction is the effective rate "
    "η/‖w‖².",
    mistakes=variants(
        gradient_not_divided,
        gradient_multiplied,
        decay_without_rate,
        decay_forgotten,
        decay_after,
        direction_without_decay,
        length_without_decay,
        not_normalized,
        length_returned,
        uphill,
    ),
    alternatives=(by_the_right_triangle,),
    hints=(
        "Write the step with w = ‖w‖u. What is the gradient at w, if it is g̃ at u = w/‖w‖?",
        "∂L/∂w at w is g̃/‖w‖. Take the step, then split the result into length and direction.",
    ),
    cases=(
        Case("three weights", _case(3, 4.0, 0.8, 0.1)),
        Case("short weights", _case(5, 0.25, 0.05, 0.6), "‖w‖² is 0.25."),
        Case("no decay", _case(4, 2.0, 3.0, 0.0), "λ is 0."),
    ),
    returns=("u", "norm2"),
)
