"""Exercise: what weight decay does to a scale that the loss ignores."""

import math

from bnbook.exercises.model import Case, FunctionExercise, variants


def decayed_gamma(gamma: float, rate: float, decay: float, steps: int) -> float:
    """Return γ after some steps of SGD with weight decay, where the loss has no gradient.

    Args:
        gamma: γ before the first step.
        rate: learning rate η > 0.
        decay: weight decay λ ≥ 0; each step subtracts η · (gradient + λ γ), gradient 0.
        steps: number of steps.

    Returns:
        γ after the last step, a number.
    """
    return gamma * (1 - rate * decay) ** steps


def linear_decay(gamma, rate, decay, steps):
    """You subtract the first step's amount every time. Each step takes a share of what is
    left, so the shares multiply: (1 − ηλ) to the power of the number of steps."""
    return gamma * (1 - rate * decay * steps)


def exponential(gamma, rate, decay, steps):
    """You use exp(−ηλ) for the factor of one step. That is its limit for small ηλ; SGD
    multiplies by 1 − ηλ."""
    return gamma * math.exp(-rate * decay * steps)


def rate_forgotten(gamma, rate, decay, steps):
    """You decay by λ in each step. In SGD the penalty's gradient λγ is multiplied by the
    learning rate, like every gradient: the factor is 1 − ηλ."""
    return gamma * (1 - decay) ** steps


def towards_one(gamma, rate, decay, steps):
    """You let γ return to 1. Weight decay knows nothing of the start at 1: it pulls every
    parameter towards 0, and with γ = 0 the feature is switched off."""
    return 1 + (gamma - 1) * (1 - rate * decay) ** steps


def penalty_doubled(gamma, rate, decay, steps):
    """You use 2λγ, the gradient of λγ². Optimizers take λγ, which belongs to the penalty
    λγ²/2."""
    return gamma * (1 - 2 * rate * decay) ** steps


def step_by_step(gamma, rate, decay, steps):
    """The same, by running the steps."""
    for _ in range(int(steps)):
        gamma = gamma - rate * (0.0 + decay * gamma)
    return gamma


EXERCISE = FunctionExercise(
    id="museum-decay",
    chapter="foundations/museum",
    title="A scale that nobody needs",
    level="warm-up",
    reference=decayed_gamma,
    why="Every step multiplies γ by 1 − ηλ, so γ goes to 0 geometrically although the loss "
    "never asked for it.",
    mistakes=variants(
        linear_decay, exponential, rate_forgotten, towards_one, penalty_doubled
    ),
    alternatives=(step_by_step,),
    hints=(
        "Write one step: γ becomes γ − η(0 + λγ). By which factor did it change?",
        "The factor is 1 − ηλ in every step, so after n steps it is (1 − ηλ)ⁿ.",
    ),
    cases=(
        Case("three steps", (1.0, 0.5, 0.2, 3)),
        Case("γ = −2, ten steps", (-2.0, 0.3, 0.1, 10), "γ starts at −2."),
        Case("γ = 0.7, one step", (0.7, 0.4, 0.5, 1), "there is one step only."),
    ),
    returns=("gamma",),
)
