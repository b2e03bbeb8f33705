"""Exercise: what a step of gradient descent does to the length of the weights."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def length_parts(
    weight: np.ndarray, gradient: np.ndarray, rate: float
) -> tuple[float, float, float]:
    """Split the change of ‖w‖² in the step w − η g, and find the rate that leaves it as it is.

    Args:
        weight: w, any shape.
        gradient: g, the same shape, not 0, with ⟨w, g⟩ not 0.
        rate: η > 0.

    Returns:
        along: the part of the change that is of first order in η.
        across: the part that is of second order.
        limit: the η, other than 0, at which the two cancel; negative if there is no such step.
    """
    inner, square = (weight * gradient).sum(), (gradient**2).sum()
    return (
        float(-2 * rate * inner),
        float(rate**2 * square),
        float(2 * inner / square),
    )


def cross_term_once(weight, gradient, rate):
    """Your first-order part is −η⟨w, g⟩. The square of a difference has the mixed term twice."""
    along, across, limit = length_parts(weight, gradient, rate)
    return along / 2, across, limit


def rate_once(weight, gradient, rate):
    """Your second-order part is η‖g‖². The step is η g, so its square has η²."""
    along, across, limit = length_parts(weight, gradient, rate)
    return along, across / rate, limit


def sign_lost(weight, gradient, rate):
    """Your first-order part has the wrong sign: gradient descent subtracts, so a gradient along w
    shortens w."""
    along, across, limit = length_parts(weight, gradient, rate)
    return -along, across, limit


def factor_lost(weight, gradient, rate):
    """Your limit is ⟨w, g⟩/‖g‖². That is the rate at which w gets shortest. It has its old length again
    at twice that rate."""
    along, across, limit = length_parts(weight, gradient, rate)
    return along, across, limit / 2


def of_lengths(weight, gradient, rate):
    """Your limit is 2‖w‖/‖g‖, as if w and g pointed the same way. Use their inner product."""
    along, across, _ = length_parts(weight, gradient, rate)
    ratio = np.sqrt((weight**2).sum() / (gradient**2).sum())
    return along, across, float(2 * ratio)


def from_the_step(weight, gradient, rate):
    """The same, by a step forward and a step back."""
    w, g = weight.ravel(), gradient.ravel()
    forward, back = w - rate * g, w + rate * g
    across = (forward @ forward + back @ back) / 2 - w @ w
    along = (forward @ forward - back @ back) / 2
    return float(along), float(across), float(-rate * along / across)


_rng = np.random.default_rng(4102)

EXERCISE = FunctionExercise(
    id="learning-rate-length",
    chapter="optimization/learning_rate",
    title="Too long a step",
    level="core",
    reference=length_parts,
    why="‖w − ηg‖² = ‖w‖² − 2η⟨w, g⟩ + η²‖g‖². The change vanishes at η = 0 and at 2⟨w, g⟩/‖g‖².",
    mistakes=variants(cross_term_once, rate_once, sign_lost, factor_lost, of_lengths),
    alternatives=(from_the_step,),
    hints=(
        "Expand ‖w − ηg‖², entry by entry, and collect powers of η.",
        "For the limit, set the sum of both parts to 0 and divide by η.",
    ),
    cases=(
        Case(
            "a matrix, gradient partly along it",
            (
                _w := _rng.normal(size=(3, 4)),
                0.5 * _w + _rng.normal(size=(3, 4)),
                0.3,
            ),
            rtol=1e-9,
        ),
        Case(
            "gradient against the weights",
            (np.array([1.0, 2.0, -1.0]), np.array([-0.5, -1.0, 0.25]), 2.0),
            "the gradient points against the weights, and every step lengthens them.",
            rtol=1e-9,
        ),
        Case(
            "gradient along the weights",
            (np.array([3.0, 4.0]), np.array([0.3, 0.4]), 5.0),
            "gradient and weights are parallel.",
            rtol=1e-9,
        ),
    ),
    returns=("along", "across", "limit"),
)
