"""Exercise: what each example of the first tower is fed with."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def second_stage_feed(
    from_examples: np.ndarray, squares: np.ndarray, running: np.ndarray, r_v: float,
    f_max: float,
) -> np.ndarray:  # fmt: skip
    """∂ℓ/∂ν_b of each example of the first tower, from which stage (b) backpropagates.

    Args:
        from_examples: ∂L_b/∂ν‡ of the losses of the single examples of the second tower,
            whose mean is ℓ, (B', C).
        squares: ν_b of the examples of the first tower, (B, C).
        running: running second moment, (C,).
        r_v: shrinkage.
        f_max: cap of the factor.

    Returns:
        feed: the same for each of the B examples, (C,).
    """
    g = from_examples.mean(0)
    factor = np.minimum(running / squares.mean(0), f_max)
    return r_v * factor * g / len(squares)


def not_divided(from_examples, squares, running, r_v, f_max):
    """You do not divide by B. ν‡ passes its gradient to the mean of the ν_b, and each has the share 1/B."""
    return second_stage_feed(from_examples, squares, running, r_v, f_max) * len(squares)


def divided_by_the_other(from_examples, squares, running, r_v, f_max):
    """You divide by the size of the second tower's batch. The mean of ν_b runs over the first tower."""
    feed = second_stage_feed(from_examples, squares, running, r_v, f_max)
    return feed * len(squares) / len(from_examples)


def summed_losses(from_examples, squares, running, r_v, f_max):
    """You add up the gradients of the losses. ℓ is their mean over the second tower's batch."""
    feed = second_stage_feed(from_examples, squares, running, r_v, f_max)
    return feed * len(from_examples)


def mean_of_factors(from_examples, squares, running, r_v, f_max):
    """You average the factors of the single examples. ν‡ has one factor, that of the mean of ν_b."""
    factor = np.minimum(running / squares, f_max).mean(0)
    return r_v * factor * from_examples.mean(0) / len(squares)


def uncapped(from_examples, squares, running, r_v, f_max):
    """You leave out the cap f_max."""
    return r_v * running / squares.mean(0) * from_examples.mean(0) / len(squares)


def inverted(from_examples, squares, running, r_v, f_max):
    """Your factor is upside down: it is ν̄ over the batch's second moment."""
    factor = np.minimum(squares.mean(0) / running, f_max)
    return r_v * factor * from_examples.mean(0) / len(squares)


def shrinkage_in_the_cap(from_examples, squares, running, r_v, f_max):
    """You cap r_v times the factor. The shrinkage multiplies what the cap has left."""
    factor = np.minimum(r_v * running / squares.mean(0), f_max)
    return factor * from_examples.mean(0) / len(squares)


def cap_of_the_mean_factor(from_examples, squares, running, r_v, f_max):
    """You average the ratios of the single examples and cap once. ν‡ has one ratio: ν̄ over the mean of ν_b."""
    factor = np.minimum((running / squares).mean(0), f_max)
    return r_v * factor * from_examples.mean(0) / len(squares)


def not_shrunk(from_examples, squares, running, r_v, f_max):
    """You leave out the shrinkage r_v."""
    factor = np.minimum(running / squares.mean(0), f_max)
    return factor * from_examples.mean(0) / len(squares)


def by_streaming(from_examples, squares, running, r_v, f_max):
    """The same, one example at a time."""
    g, total = np.zeros_like(running), np.zeros_like(running)
    for row in from_examples:
        g = g + row / len(from_examples)
    for row in squares:
        total = total + row
    factor = running * len(squares) / total
    return r_v * np.where(factor < f_max, factor, f_max) * g / len(squares)


_rng = np.random.default_rng(812)

EXERCISE = FunctionExercise(
    id="two-stage-feed",
    chapter="estimation/two_stage",
    title="What the second stage is fed with",
    level="core",
    reference=second_stage_feed,
    why="ℓ is a mean over the second tower's examples, and ν‡ passes r_v min(ν̄/E ν_b, f_max) of its "
    "gradient to a mean over the first tower's.",
    mistakes=variants(
        not_divided,
        divided_by_the_other,
        summed_losses,
        mean_of_factors,
        uncapped,
        inverted,
        shrinkage_in_the_cap,
        cap_of_the_mean_factor,
        not_shrunk,
    ),
    alternatives=(by_streaming,),
    hints=(
        "First ∂ℓ/∂ν‡: ℓ is the mean of the losses of the second tower. Then go back through ScaleGrad.",
        "ScaleGrad multiplies by r_v min(ν̄/E_b ν_b, f_max); the mean over the first tower then divides "
        "by its number of examples.",
    ),
    cases=(
        Case(
            "5 examples and 3, three channels",
            (
                _rng.normal(size=(5, 3)),
                _rng.uniform(0.2, 3, (3, 3)),
                np.array([0.8, 9.0, 1.5]),
                0.7,
                2.0,
            ),
        ),
        Case(
            "4 examples and 6, cap 1",
            (
                _rng.normal(size=(4, 2)),
                _rng.uniform(0.2, 3, (6, 2)),
                np.array([0.4, 5.0]),
                0.5,
                1.0,
            ),
            "the cap is 1.",
        ),
    ),
    returns=("feed",),
)
