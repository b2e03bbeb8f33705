"""Exercise: how large a start may be, by depth and learning rate."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def largest_start(layers: np.ndarray, rate: float) -> np.ndarray:
    """The weight above which the network of equal weights explodes.

    All L layers have the one weight w > 0, so large that the loss gives the score the slope ½.
    A step of gradient descent takes every layer from w to w − η · ½ · w^(L−1). It explodes where
    |w| grows.

    Args:
        layers: L, (N,), whole numbers of at least 3 in floating point.
        rate: η > 0.

    Returns:
        weight: the largest w that a step does not make larger in absolute value, (N,).
    """
    return (4 / rate) ** (1 / (layers - 2))


def up_to_zero(layers, rate):
    """You let the step reach 0 and no further, η/2 · w^(L−2) = 1. It may go on to −w: there the size is
    the old one."""
    return (2 / rate) ** (1 / (layers - 2))


def half_twice(layers, rate):
    """You halve the gradient twice: the border is η/2 · w^(L−2) = 2, not 4."""
    return (8 / rate) ** (1 / (layers - 2))


def one_layer_too_many(layers, rate):
    """Your exponent is 1/(L − 1). The step is of order w^(L−1), and it is compared with 2w: one power
    cancels."""
    return (4 / rate) ** (1 / (layers - 1))


def power_of_the_score(layers, rate):
    """Your exponent is 1/L. The score is w^L, its slope by one layer w^(L−1), and compared with w it is
    w^(L−2)."""
    return (4 / rate) ** (1 / layers)


def rate_turned(layers, rate):
    """Your border grows with the learning rate. A larger rate explodes from smaller weights."""
    return (4 * rate) ** (1 / (layers - 2))


def by_logarithms(layers, rate):
    """The same, by logarithms."""
    return np.exp((np.log(4) - np.log(rate)) / (layers - 2))


EXERCISE = FunctionExercise(
    id="learning-rate-border",
    chapter="optimization/learning_rate",
    title="The border",
    level="core",
    reference=largest_start,
    why="|w − (η/2) w^(L−1)| ≤ w holds up to (η/2) w^(L−2) = 2.",
    mistakes=variants(
        up_to_zero, half_twice, one_layer_too_many, power_of_the_score, rate_turned
    ),
    alternatives=(by_logarithms,),
    hints=(
        "At the border the step overshoots 0 and ends at −w.",
        "Solve w − (η/2) w^(L−1) = −w for w > 0.",
    ),
    cases=(
        Case("rate 1", (np.array([3.0, 4.0, 5.0, 10.0, 20.0]), 1.0)),
        Case("a small rate", (np.array([3.0, 6.0, 50.0]), 0.01), "the rate is small."),
        Case(
            "a large rate",
            (np.array([3.0, 10.0]), 9.0),
            "the rate is above 4, and the border lies below 1.",
        ),
    ),
    returns=("weight",),
)
