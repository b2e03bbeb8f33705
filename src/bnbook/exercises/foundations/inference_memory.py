"""Exercise: three answers to how far an exponential average looks back."""

import math

from bnbook.exercises.model import Case, FunctionExercise, variants


def memory(alpha: float) -> tuple[float, float, float]:
    """How far a running average looks back, in batches.

    The average follows new = alpha · old + (1 − alpha) · batch and has run for a long
    time.

    Args:
        alpha: weight of the old value, 0 < alpha < 1.

    Returns:
        mean_age: average age of what it averages; the newest batch has age 0.
        half_life: number n for which the last n batches carry half of the weight; a
            real number.
        window: length of the plain average with the same variance, for independent
            batches.
    """
    return (
        alpha / (1 - alpha),
        math.log(0.5) / math.log(alpha),
        (1 + alpha) / (1 - alpha),
    )


def ages_from_one(alpha):
    """Your mean age counts the newest batch as one step old, which gives 1/(1 − alpha).
    Its age is 0, so that a memory of one batch has the mean age 0."""
    return 1 / (1 - alpha), math.log(0.5) / math.log(alpha), (1 + alpha) / (1 - alpha)


def time_constant_as_window(alpha):
    """Your window is the time constant 1/(1 − alpha). A plain average over n batches
    has the variance 1/n, the running one Σ weight² = (1 − alpha)/(1 + alpha): equate
    these."""
    return alpha / (1 - alpha), math.log(0.5) / math.log(alpha), 1 / (1 - alpha)


def sum_of_squares_as_window(alpha):
    """Your window is Σ weight², the variance itself. The plain average over n batches
    has 1/n, so n is its reciprocal."""
    return (
        alpha / (1 - alpha),
        math.log(0.5) / math.log(alpha),
        (1 - alpha) / (1 + alpha),
    )


def natural_life(alpha):
    """Your half-life is the time to fall to 1/e, −1/ln alpha. For half of the weight it
    is ln ½ / ln alpha."""
    return alpha / (1 - alpha), -1 / math.log(alpha), (1 + alpha) / (1 - alpha)


def half_life_inverted(alpha):
    """Your half-life is upside down: alpha^n = ½ gives n = ln ½ / ln alpha."""
    return (
        alpha / (1 - alpha),
        math.log(alpha) / math.log(0.5),
        (1 + alpha) / (1 - alpha),
    )


def momentum_convention(alpha):
    """You read alpha as the weight of the new batch, as in PyTorch's `momentum`. Here
    it is the weight of the old value."""
    return memory(1 - alpha)


def from_sums(alpha):
    """The same, from sums over many weights."""
    weight, mean_age, squares = 1 - alpha, 0.0, 0.0
    for age in range(20_000):
        mean_age += age * weight
        squares += weight**2
        weight *= alpha
    return mean_age, -1 / math.log2(alpha), 1 / squares


EXERCISE = FunctionExercise(
    id="inference-memory",
    chapter="foundations/inference",
    title="How far does it look back",
    level="core",
    reference=memory,
    why="The weights are (1 − α)αᵏ. Their mean is α/(1 − α), the last n sum to 1 − αⁿ, and their squares "
    "sum to (1 − α)/(1 + α), the variance that a plain average over (1 + α)/(1 − α) batches has.",
    mistakes=variants(
        ages_from_one,
        time_constant_as_window,
        sum_of_squares_as_window,
        natural_life,
        half_life_inverted,
        momentum_convention,
    ),
    alternatives=(from_sums,),
    hints=(
        "The batch of age k has the weight (1 − alpha) · alpha^k, and Σ k · alpha^k = alpha/(1 − alpha)².",
        "The last n batches have the weight 1 − alpha^n. The squares of the weights are a geometric "
        "series with the ratio alpha², and a plain average over n batches has the variance 1/n.",
    ),
    cases=(
        Case("alpha 0.97", (0.97,)),
        Case("alpha 0.5", (0.5,), "alpha is one half."),
        Case("alpha 0.2", (0.2,), "most of the weight is on the newest batch."),
    ),
    returns=("mean_age", "half_life", "window"),
)
