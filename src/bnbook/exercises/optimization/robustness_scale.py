"""Exercise: what a new scale of the inputs is, in terms of weights and rates."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def rescaled_start(
    w: np.ndarray, b: np.ndarray, rate: float, s: float
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """The same training on other inputs.

    Plain gradient descent with this rate trains z = (s x) Wᵀ + b from W and b. On the inputs
    x instead, which start and which two rates give the same z after every step?

    Args:
        w: the initial weights W, (K, D).
        b: the initial bias b, (K,).
        rate: η, of W and b.
        s: what the inputs are multiplied by, positive.

    Returns:
        weight, (K, D), and bias, (K,), to start from; weight_rate and bias_rate.
    """
    return s * w, b, s**2 * rate, rate


def rate_times_s(w, b, rate, s):
    """You multiply the rate of the weights by s. The gradient by W carries one s, and the step has
    to be translated from W to sW, which is another."""
    return s * w, b, s * rate, rate


def rate_divided(w, b, rate, s):
    """You divide the rate by s². That is the rate on the inputs s x which equals a given rate on x;
    asked is the way back."""
    return s * w, b, rate / s**2, rate


def weights_divided(w, b, rate, s):
    """You divide the weights by s. On the inputs x the product of weight and input must be what it was
    on s x: multiply."""
    return w / s, b, s**2 * rate, rate


def everything_inverted(w, b, rate, s):
    """You divide where you should multiply, the weights by s and their rate by s². That translates from
    the inputs x to s x; asked is the way from s x to x."""
    return w / s, b, rate / s**2, rate


def rate_kept(w, b, rate, s):
    """You move the start and keep the rate. z is then the same before the first step only."""
    return s * w, b, rate, rate


def start_kept(w, b, rate, s):
    """You change the rate and keep the start. z differs already before the first step."""
    return w, b, s**2 * rate, rate


def bias_scaled(w, b, rate, s):
    """You scale the bias too. No input multiplies it: start and rate of the bias stay."""
    return s * w, s * b, s**2 * rate, s**2 * rate


def bias_rate_scaled(w, b, rate, s):
    """You scale the rate of the bias too. Its gradient is the sum of ∂L/∂z, which has no s in it."""
    return s * w, b, s**2 * rate, s**2 * rate


def by_a_step(w, b, rate, s):
    """The same, read off one step of one weight."""
    slope = 1.0  # ∂L/∂z of one example with x = 1
    moved = s * (w - rate * s * slope) - s * w
    weight_rate = float(-moved.ravel()[0] / slope)
    return np.multiply(w, s), b.copy(), weight_rate, rate


_rng = np.random.default_rng(801)

EXERCISE = FunctionExercise(
    id="robustness-scale",
    chapter="optimization/robustness",
    title="Other units",
    level="warm-up",
    reference=rescaled_start,
    why="With V = sW, z is the same. A step of W by −η s Gᵀx, with G = ∂L/∂z, moves V by −η s² Gᵀx.",
    mistakes=variants(
        rate_times_s,
        rate_divided,
        weights_divided,
        everything_inverted,
        rate_kept,
        start_kept,
        bias_scaled,
        bias_rate_scaled,
    ),
    alternatives=(by_a_step,),
    hints=(
        "Name V = sW. Then z = x Vᵀ + b, whatever W is. How does V move when W makes a step?",
        "∂L/∂W = s (∂L/∂z)ᵀ x, so V moves by s times −η s (∂L/∂z)ᵀ x.",
    ),
    cases=(
        Case(
            "2 neurons, 3 inputs, s = 0.5",
            (_rng.normal(size=(2, 3)), _rng.normal(size=2), 0.3, 0.5),
        ),
        Case(
            "3 neurons, 2 inputs, s = 4",
            (_rng.normal(size=(3, 2)), _rng.normal(size=3), 0.01, 4.0),
            "s is larger than 1.",
        ),
    ),
    returns=("weight", "bias", "weight_rate", "bias_rate"),
)
