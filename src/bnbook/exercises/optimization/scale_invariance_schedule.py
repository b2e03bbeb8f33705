"""Exercise: angles under a schedule of the learning rate."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def angles_of_schedule(
    norm2: float, gradient2: float, rates: np.ndarray, decay: float
) -> np.ndarray:
    """Angle by which each step turns scale-invariant weights, for changing learning rates.

    The step is w − η(∂L/∂w + λw); ∂L/∂w is orthogonal to w with squared length ‖g̃‖²/‖w‖²,
    and ‖g̃‖² stays the same.

    Args:
        norm2: ‖w‖² before the first step.
        gradient2: ‖g̃‖².
        rates: η of each step, (T,).
        decay: λ.

    Returns:
        angle: in radians, (T,).
    """
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        along, across2 = (1 - rate * decay) ** 2 * norm2, rate**2 * gradient2 / norm2
        angles[step] = np.arctan(np.sqrt(across2 / along))
        norm2 = along + across2
    return angles


def settled_at_once(norm2, gradient2, rates, decay):
    """You return the angle of equilibrium of each rate. The length needs about 1/(4ηλ) steps to get
    there, and until then the angle is another one."""
    return np.arccos(1 - rates * decay)


def settled_at_small_angles(norm2, gradient2, rates, decay):
    """You return √(2ηλ), the angle of equilibrium for small ηλ. The length needs about 1/(4ηλ) steps to
    get there, and until then the angle is another one."""
    return np.sqrt(2 * rates * decay)


def length_frozen(norm2, gradient2, rates, decay):
    """You keep ‖w‖² at its first value. Decay and gradient change it in each step."""
    return np.arctan(rates * np.sqrt(gradient2) / ((1 - rates * decay) * norm2))


def length_updated_first(norm2, gradient2, rates, decay):
    """You take the length after the step for that before it. The gradient is taken before the step."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        norm2 = (1 - rate * decay) ** 2 * norm2 + rate**2 * gradient2 / norm2
        angles[step] = np.arctan(
            rate * np.sqrt(gradient2) / ((1 - rate * decay) * norm2)
        )
    return angles


def growth_only(norm2, gradient2, rates, decay):
    """You let the gradient lengthen w and forget that the decay shortens it."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        angles[step] = np.arctan(
            rate * np.sqrt(gradient2) / ((1 - rate * decay) * norm2)
        )
        norm2 = norm2 + rate**2 * gradient2 / norm2
    return angles


def decay_only(norm2, gradient2, rates, decay):
    """You let the decay shorten w and forget that each step lengthens it."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        angles[step] = np.arctan(
            rate * np.sqrt(gradient2) / ((1 - rate * decay) * norm2)
        )
        norm2 = (1 - rate * decay) ** 2 * norm2
    return angles


def decay_not_squared(norm2, gradient2, rates, decay):
    """You multiply ‖w‖² by 1 − ηλ. The length shrinks by 1 − ηλ, its square by (1 − ηλ)²."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        angles[step] = np.arctan(
            rate * np.sqrt(gradient2) / ((1 - rate * decay) * norm2)
        )
        norm2 = (1 - rate * decay) * norm2 + rate**2 * gradient2 / norm2
    return angles


def decay_left_out(norm2, gradient2, rates, decay):
    """You leave out the decay. It shortens w by 1 − ηλ in each step: the leg along w, and the length after
    the step."""
    return angles_of_schedule(norm2, gradient2, rates, 0.0)


def leg_not_shortened(norm2, gradient2, rates, decay):
    """Your length is right; in the angle you take ‖w‖ for the leg along w. The decay is part of the step,
    so that leg is (1 − ηλ)‖w‖."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        angles[step] = np.arctan(rate * np.sqrt(gradient2) / norm2)
        norm2 = (1 - rate * decay) ** 2 * norm2 + rate**2 * gradient2 / norm2
    return angles


def leg_not_squared(norm2, gradient2, rates, decay):
    """You shorten ‖w‖² by 1 − ηλ, in the angle and in the length. ‖w‖ shrinks by 1 − ηλ, its square by
    (1 − ηλ)²."""
    angles = np.empty(len(rates))
    for step, rate in enumerate(rates):
        along, across2 = (1 - rate * decay) * norm2, rate**2 * gradient2 / norm2
        angles[step] = np.arctan(np.sqrt(across2 / along))
        norm2 = along + across2
    return angles


def tangent_returned(norm2, gradient2, rates, decay):
    """You return the quotient of the legs, which is the tangent of the angle. For small angles the two are
    close: take the arc tangent."""
    return np.tan(angles_of_schedule(norm2, gradient2, rates, decay))


def tangent_squared(norm2, gradient2, rates, decay):
    """You take the arc tangent of the quotient of the squared legs. Take its root first."""
    return np.arctan(np.tan(angles_of_schedule(norm2, gradient2, rates, decay)) ** 2)


def degrees_returned(norm2, gradient2, rates, decay):
    """Your angles are in degrees; radians are asked for."""
    return np.degrees(angles_of_schedule(norm2, gradient2, rates, decay))


def in_the_plane(norm2, gradient2, rates, decay):
    """The same with a vector in the plane, whose gradient is always at a right angle."""
    w, angles = complex(np.sqrt(norm2)), []
    for rate in rates:
        gradient = 1j * w * np.sqrt(gradient2) / abs(w) ** 2
        after = w - rate * (gradient + decay * w)
        angles.append(abs(np.angle(after / w)))
        w = after
    return np.array(angles)


EXERCISE = FunctionExercise(
    id="scale-invariance-schedule",
    chapter="optimization/scale_invariance",
    title="After the drop",
    level="core",
    reference=angles_of_schedule,
    why="The angle follows the rate at once and the length slowly: a tenth of the rate is a tenth of the "
    "angle at first, and 1/√10 of it in the end.",
    mistakes=variants(
        settled_at_once,
        settled_at_small_angles,
        length_frozen,
        length_updated_first,
        growth_only,
        decay_only,
        decay_not_squared,
        decay_left_out,
        leg_not_shortened,
        leg_not_squared,
        tangent_returned,
        tangent_squared,
        degrees_returned,
    ),
    alternatives=(in_the_plane,),
    hints=(
        "Draw the right triangle of a step: (1 − ηλ)‖w‖ along w and η‖g̃‖/‖w‖ across.",
        "Its angle is what you return, the square of its hypotenuse is ‖w‖² of the next step.",
    ),
    cases=(
        Case("five equal steps", (2.0, 0.7, np.full(5, 0.7), 0.3)),
        Case(
            "a drop to a tenth",
            (0.4, 0.5, np.repeat([1.0, 0.1], 6), 0.05),
            "the rate falls to a tenth in the middle.",
        ),
        Case("no decay", (1.0, 0.9, np.linspace(2, 0.5, 7), 0.0), "λ is 0."),
    ),
    returns=("angle",),
)
