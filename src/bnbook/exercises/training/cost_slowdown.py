"""Exercise: what a slowdown in percent is a percentage of."""

from bnbook.exercises.model import Case, FunctionExercise, variants


def slowdown(control: float, norm: float) -> tuple[float, float]:
    """How much slower a step has become, told in two ways.

    Args:
        control: time of a step without batch normalization, in seconds.
        norm: time of a step with it.

    Returns:
        added_time, the added part of the time of a step, and lost_throughput, the lost part
        of the steps in an hour; both as fractions, 0 where the times are equal.
    """
    return norm / control - 1, 1 - control / norm


def both_as_time(control, norm):
    """Your second number is the added time again. Steps in an hour are 3600 s divided by the time
    of a step: compare control/norm with 1."""
    return norm / control - 1, norm / control - 1


def both_as_throughput(control, norm):
    """Your first number is the lost throughput again. Added time is a fraction of the time of the
    control: divide the difference by that."""
    return 1 - control / norm, 1 - control / norm


def exchanged(control, norm):
    """You have both numbers, in the wrong order: the added time comes first. It is the larger one."""
    return 1 - control / norm, norm / control - 1


def percent(control, norm):
    """You return percentages. Return fractions: 0.25, not 25."""
    return 100 * (norm / control - 1), 100 * (1 - control / norm)


def ratios(control, norm):
    """You return ratios. For equal times both numbers must be 0: compare with 1."""
    return norm / control, control / norm


def seconds(control, norm):
    """Your first number is a difference in seconds. Divide it by the time of the control, so that
    it has no unit."""
    return norm - control, 1 - control / norm


def by_differences(control, norm):
    """The same from the difference."""
    difference = norm - control
    return difference / control, difference / norm


def by_counting(control, norm):
    """The same from the steps in an hour."""
    before, after = 3600 / control, 3600 / norm
    return before / after - 1, (before - after) / before


EXERCISE = FunctionExercise(
    id="cost-slowdown",
    chapter="training/cost",
    title="Two kinds of slowdown",
    level="warm-up",
    reference=slowdown,
    why="The difference of the two times is divided by the time before for the added time, and by the "
    "time after for the lost throughput.",
    mistakes=variants(
        both_as_time, both_as_throughput, exchanged, percent, ratios, seconds
    ),
    alternatives=(by_differences, by_counting),
    hints=(
        "A step that takes twice as long adds 100% of the time and loses 50% of the steps in an hour.",
        "Both have norm − control above the line. Below it is the time before, or the time after.",
    ),
    cases=(
        Case("0.124 s and 0.166 s", (0.124, 0.166)),
        Case("twice as long", (1.5, 3.0)),
        Case("a quarter more", (0.8, 1.0)),
        Case("a speed-up", (0.5, 0.4), "the step became faster: both are negative."),
    ),
    returns=("added_time", "lost_throughput"),
)
