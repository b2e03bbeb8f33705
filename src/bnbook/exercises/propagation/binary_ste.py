"""Exercise: the backward pass of a straight-through estimator."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def sign_backward(s: np.ndarray, da: np.ndarray) -> np.ndarray:
    """Backward pass of a = sign(s) with hard-tanh as stand-in for the derivative.

    Args:
        s: input of the sign, (B, K).
        da: ∂L/∂a, (B, K).

    Returns:
        ∂L/∂s, (B, K).
    """
    return np.where(np.abs(s) <= 1, da, 0.0)


def identity(s, da):
    """You pass every gradient on: that is the identity as stand-in. Hard-tanh is flat outside
    [−1, 1], and its derivative there is 0."""
    return da.copy()


def true_derivative(s, da):
    """You return 0, the derivative that the sign really has. With it nothing below the sign is
    ever trained; put the derivative of clip(s, −1, 1) in its place."""
    return np.zeros_like(da)


def clips_the_gradient(s, da):
    """You clip the gradient to [−1, 1]. The window is one for s: it decides which gradients pass,
    and those that do pass unchanged."""
    return np.clip(da, -1, 1)


def positive_side(s, da):
    """You pass gradients where s is positive: that is ReLU's derivative. Hard-tanh's window lies on
    both sides of 0."""
    return np.where(s > 0, da, 0.0)


def open_window(s, da):
    """You leave out |s| = 1. The window of the book is closed, |s| ≤ 1; sums of an odd number of
    signs take exactly the values −1 and 1."""
    return np.where(np.abs(s) < 1, da, 0.0)


def multiplied_by_clip(s, da):
    """You multiply by clip(s, −1, 1) itself. The backward pass needs its derivative, 1 inside and 0
    outside."""
    return np.clip(s, -1, 1) * da


def by_product(s, da):
    """The same, as a product with a mask."""
    return da * ((s >= -1) & (s <= 1))


_rng = np.random.default_rng(511)
_S = np.array([[-3.0, -1.0, -0.5], [0.0, 0.5, 1.0], [2.0, -1.25, 0.25]])

EXERCISE = FunctionExercise(
    id="binary-ste",
    chapter="propagation/binary",
    title="Straight through a sign",
    level="warm-up",
    reference=sign_backward,
    why="The derivative of clip(s, −1, 1) is 1 inside the window and 0 outside. It replaces the "
    "derivative of the sign, which would be 0 everywhere.",
    mistakes=variants(
        identity,
        true_derivative,
        clips_the_gradient,
        positive_side,
        open_window,
        multiplied_by_clip,
    ),
    alternatives=(by_product,),
    hints=(
        "Which values of s lie where clip(s, −1, 1) has slope 1?",
        "`np.abs(s) <= 1` is the mask; what it selects passes with its own value.",
    ),
    cases=(
        Case("edges of the window", (_S, _rng.normal(0.0, 3.0, _S.shape))),
        Case(
            "7 examples, 4 neurons",
            (_rng.normal(0.0, 1.5, (7, 4)), _rng.normal(0.0, 2.0, (7, 4))),
        ),
    ),
    returns=("ds",),
    new_arrays=True,
)
