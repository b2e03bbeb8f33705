"""Exercise: how many random draws find a good region."""

import math

from bnbook.exercises.model import Case, FunctionExercise, variants


def draws_needed(good: float, allowed: float, confidence: float) -> int:
    """Fewest random draws of which one is good with a given probability.

    The good values of log10 of the learning rate fill `good` decades of the `allowed`
    ones; draws are independent and uniform in decades.

    Args:
        good: width of the good region, in decades; it lies within the bounds.
        allowed: width of the bounds, in decades.
        confidence: required probability of at least one good draw, in (0, 1).

    Returns:
        count.
    """
    share = good / allowed
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))


def one_expected(good, allowed, confidence):
    """You count the draws until one is good on average, allowed/good. With that many draws the
    probability is only about 1 − 1/e."""
    return math.ceil(allowed / good)


def share_times_confidence(good, allowed, confidence):
    """You add up probabilities, as if no two draws could both be good: the probability of at least one
    is 1 − (1 − share)ⁿ, not n · share."""
    return math.ceil(confidence * allowed / good)


def rounded_down(good, allowed, confidence):
    """You round down. One draw fewer does not reach the confidence: round up."""
    share = good / allowed
    return math.floor(math.log(1 - confidence) / math.log(1 - share))


def all_good(good, allowed, confidence):
    """You ask for all draws to be good, confidence = shareⁿ. One is enough."""
    return math.ceil(math.log(confidence) / math.log(good / allowed))


def confidence_for_its_complement(good, allowed, confidence):
    """You set the probability that no draw is good to the confidence. It must be 1 − confidence."""
    return math.ceil(math.log(confidence) / math.log(1 - good / allowed))


def width_for_share(good, allowed, confidence):
    """You take e to the minus good as the probability of missing, without dividing by the width of the
    bounds. The share of good draws is good/allowed."""
    return math.ceil(-math.log(1 - confidence) / good)


def counted(good, allowed, confidence):
    """The same, by counting up."""
    missed, count = 1.0, 0
    while missed > 1 - confidence:
        missed *= 1 - good / allowed
        count += 1
    return count


EXERCISE = FunctionExercise(
    id="search-budget",
    chapter="training/search",
    title="How many random draws?",
    level="core",
    reference=draws_needed,
    why="All n draws miss with probability (1 − share)ⁿ. Set that to 1 − confidence and solve for n. The "
    "other hyperparameters do not enter, which is why random search beats a grid.",
    mistakes=variants(
        one_expected,
        share_times_confidence,
        rounded_down,
        all_good,
        confidence_for_its_complement,
        width_for_share,
    ),
    alternatives=(counted,),
    hints=(
        "With what probability does one draw miss? And all n of them?",
        "Solve (1 − good/allowed)ⁿ = 1 − confidence for n with logarithms, and round up.",
    ),
    cases=(
        Case("1 of 10 decades, 95%", (1.0, 10.0, 0.95)),
        Case("half of 4 decades, 90%", (0.5, 4.0, 0.9)),
        Case("0.2 of 10 decades, 80%", (0.2, 10.0, 0.8)),
    ),
    returns=("count",),
)
