"""Exercise: the factor on the gradient through the second moment of one example."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def second_moment_factor(
    x: np.ndarray, mean: float, square: float, f_max: float
) -> np.ndarray:
    """min(S/Q, f_max) of each example.

    S is the running second moment of x − mean, and Q that of the example itself.

    Args:
        x: d values of one channel for each of M examples, (M, d).
        mean: the running mean.
        square: S > 0.
        f_max: cap, at least 1.

    Returns:
        factor: (M,).
    """
    q = ((x - mean) ** 2).mean(axis=1)
    return np.minimum(square / q, f_max)


def inverted(x, mean, square, f_max):
    """You scale by Q/S. An example with a large second moment is to count less: the factor is S/Q."""
    return np.minimum(((x - mean) ** 2).mean(axis=1) / square, f_max)


def own_mean(x, mean, square, f_max):
    """You take Q about the mean of the example, its variance. The forward pass subtracts the running mean,
    so Q is the second moment of x − mean."""
    return np.minimum(square / x.var(axis=1), f_max)


def not_centred(x, mean, square, f_max):
    """You take Q of x itself. The running mean is subtracted first."""
    return np.minimum(square / (x**2).mean(axis=1), f_max)


def floor(x, mean, square, f_max):
    """You use f_max as a floor. It caps the factor: the smaller of the two counts."""
    return np.maximum(square / ((x - mean) ** 2).mean(axis=1), f_max)


def not_capped(x, mean, square, f_max):
    """You leave the cap out. An example close to the mean would multiply its gradient without bound."""
    return square / ((x - mean) ** 2).mean(axis=1)


def summed(x, mean, square, f_max):
    """You sum the squares of an example. Q is their mean over the d values."""
    return np.minimum(square / ((x - mean) ** 2).sum(axis=1), f_max)


def whole_batch(x, mean, square, f_max):
    """You take Q over the whole batch. Every example has a Q of its own: average over its d values only."""
    q = np.full(len(x), ((x - mean) ** 2).mean())
    return np.minimum(square / q, f_max)


def rooted(x, mean, square, f_max):
    """You take the root of S/Q. The ratio of second moments is not rooted; the root belongs to the bound
    u_max on activations."""
    return np.minimum(np.sqrt(square / ((x - mean) ** 2).mean(axis=1)), f_max)


def by_a_product(x, mean, square, f_max):
    """The same, from norms."""
    length = np.linalg.norm(x - mean, axis=1)
    return np.clip(square * x.shape[1] / length**2, None, f_max)


_rng = np.random.default_rng(811)

EXERCISE = FunctionExercise(
    id="single-example-scaling",
    chapter="estimation/single_example",
    title="The factor S/Q",
    level="warm-up",
    reference=second_moment_factor,
    why="Q is the second moment of what the layer divides, x − mean; the cap takes the smaller of two "
    "numbers.",
    mistakes=variants(
        inverted,
        own_mean,
        not_centred,
        floor,
        not_capped,
        summed,
        whole_batch,
        rooted,
    ),
    alternatives=(by_a_product,),
    hints=(
        "First subtract the running mean, then take the mean of the squares over the d values of each "
        "example.",
        "`np.minimum(square / q, f_max)` caps element by element.",
    ),
    cases=(
        Case(
            "6 examples of 3 values",
            (
                _rng.normal(1.0, 1.0, (6, 3)) * np.array([[3, 1, 0.4, 2, 0.9, 1.2]]).T,
                0.4,
                1.7,
                2.0,
            ),
        ),
        Case("one value an example", (_rng.normal(size=(7, 1)), -0.3, 0.9, 4.0)),
        Case("cap 1", (_rng.normal(size=(5, 8)), 0.1, 1.0, 1.0), "the cap is 1."),
    ),
    returns=("factor",),
)
