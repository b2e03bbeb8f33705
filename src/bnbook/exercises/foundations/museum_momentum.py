"""Exercise: the momentum that undoes a double update."""

import math

from bnbook.exercises.model import Case, FunctionExercise, variants


def momentum_for_repeats(momentum: float, repeats: int) -> float:
    """Find the momentum to set where every batch enters the running statistics repeatedly.

    Recomputing the forward pass updates the running statistics again with the same batch.
    The running statistics shall come out as if each batch had entered once.

    Args:
        momentum: weight that a batch should have in total, in [0, 1).
        repeats: how many times each batch enters, at least 1.

    Returns:
        The momentum of a single update, a number.
    """
    return 1 - (1 - momentum) ** (1 / repeats)


def divided(momentum, repeats):
    """You divide the momentum by the number of updates. That is right for tiny momenta
    only: a second update also shrinks what the first one added."""
    return momentum / repeats


def what_repeating_does(momentum, repeats):
    """You return the weight that the batch gets if nothing is done. The question is the
    other way round: which momentum gives the wanted weight after all updates?"""
    return 1 - (1 - momentum) ** repeats


def root_of_momentum(momentum, repeats):
    """You take the root of the momentum. It is the weight of the *past*, 1 − momentum, that
    is multiplied by itself at each update."""
    return momentum ** (1 / repeats)


def weight_of_the_past(momentum, repeats):
    """You return the weight of the past in one update. The momentum is the weight of the
    newest batch: 1 minus that."""
    return (1 - momentum) ** (1 / repeats)


def always_two(momentum, repeats):
    """You assume two updates. A batch may enter more often: use `repeats`."""
    return 1 - math.sqrt(1 - momentum)


def by_bisection(momentum, repeats):
    """The same, found by halving an interval."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        past = 1.0
        for _ in range(int(repeats)):
            past *= 1 - middle
        low, high = (middle, high) if 1 - past < momentum else (low, middle)
    return (low + high) / 2


EXERCISE = FunctionExercise(
    id="museum-momentum",
    chapter="foundations/museum",
    title="Twice the same batch",
    level="core",
    reference=momentum_for_repeats,
    why="Each update leaves the past the share 1 − m. After n updates with one batch that is "
    "(1 − m)ⁿ, which must equal 1 − momentum.",
    mistakes=variants(
        divided, what_repeating_does, root_of_momentum, weight_of_the_past, always_two
    ),
    alternatives=(by_bisection,),
    hints=(
        "Follow the weight of the past. One update with momentum m multiplies it by 1 − m, "
        "whatever the batch.",
        "After n updates the past has the weight (1 − m)ⁿ. Set that equal to 1 − momentum "
        "and solve for m.",
    ),
    cases=(
        Case("momentum 0.19, twice", (0.19, 2)),
        Case("momentum 0.5, three times", (0.5, 3), "the batch enters three times."),
        Case("momentum 0.3, once", (0.3, 1), "the batch enters once."),
        Case("momentum 0.9, twice", (0.9, 2), "the momentum is large."),
    ),
    returns=("momentum",),
)
