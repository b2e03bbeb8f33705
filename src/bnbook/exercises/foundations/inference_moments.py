"""Exercise: an unbiased variance from running averages of two raw moments."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def variance_from_moments(
    mean: np.ndarray, mean_square: np.ndarray, alpha: float, count: int
) -> np.ndarray:
    """Estimate the population variance from running averages of E[z] and E[z²].

    The averages have run long enough to forget their initial values, the batches are
    independent draws of `count` independent values each.

    Args:
        mean: running average of the batch means, (D,).
        mean_square: running average of the mean squares of the batches, (D,).
        alpha: weight of the old value in both averages, in [0, 1).
        count: M, the number of values in a batch. It may be 1.

    Returns:
        An estimate whose expectation is the population variance, (D,).
    """
    window = (1 + alpha) / (1 - alpha)
    return (mean_square - mean**2) / (1 - 1 / (count * window))


def not_corrected(mean, mean_square, alpha, count):
    """You return E[z²] − E[z]² as it is. The running mean has a variance of its own,
    τ²/(M · window), and its square takes that away from the estimate."""
    return mean_square - mean**2


def corrected_like_one_batch(mean, mean_square, alpha, count):
    """You correct by M/(M − 1), as if the mean were that of one batch. It averages
    M · window values: the factor is 1/(1 − 1/(M · window))."""
    return (mean_square - mean**2) * count / max(count - 1, 1e-3)


def size_forgotten(mean, mean_square, alpha, count):
    """You leave out M: the running mean averages M values in each of the batches, so
    its variance is τ²/(M · window)."""
    return (mean_square - mean**2) * (1 + alpha) / (2 * alpha)


def time_constant_as_window(mean, mean_square, alpha, count):
    """You take the time constant 1/(1 − alpha) for the window. The variance of the
    average is Σ weight² = (1 − alpha)/(1 + alpha) times that of a batch mean."""
    return (mean_square - mean**2) / (1 - (1 - alpha) / count)


def window_upside_down(mean, mean_square, alpha, count):
    """Your window is upside down: it is (1 + alpha)/(1 − alpha), which grows with
    alpha."""
    return (mean_square - mean**2) / (1 - (1 + alpha) / (1 - alpha) / count)


def corrected_the_wrong_way(mean, mean_square, alpha, count):
    """You multiply by 1 − 1/(M · window). The difference is too small by this factor:
    divide."""
    return (mean_square - mean**2) * (1 - (1 - alpha) / (1 + alpha) / count)


def momentum_convention(mean, mean_square, alpha, count):
    """You read alpha as the weight of the new batch. Here it is the weight of the old
    value."""
    return (mean_square - mean**2) / (1 - alpha / (2 - alpha) / count)


def solved_for_the_excess(mean, mean_square, alpha, count):
    """The same, by adding what the square of the running mean takes away."""
    lost = (1 - alpha) / ((1 + alpha) * count)
    found = mean_square - np.square(mean)
    return found + found * lost / (1 - lost)


_rng = np.random.default_rng(304)


def _moments(features):
    mean = _rng.normal(2.0, 1.0, size=features)
    return mean, mean**2 + _rng.uniform(0.5, 3.0, size=features)


EXERCISE = FunctionExercise(
    id="inference-moments",
    chapter="foundations/inference",
    title="A variance from two moments",
    level="hard",
    reference=variance_from_moments,
    why="E[running mean²] = ξ² + τ² Σ weight²/M, so the difference has the expectation τ²(1 − 1/(M n)) with "
    "the window n = (1 + α)/(1 − α). Unlike an average of batch variances it works for M = 1.",
    mistakes=variants(
        not_corrected,
        corrected_like_one_batch,
        size_forgotten,
        time_constant_as_window,
        window_upside_down,
        corrected_the_wrong_way,
        momentum_convention,
    ),
    alternatives=(solved_for_the_excess,),
    hints=(
        "The average of the mean squares is unbiased for ξ² + τ². What is the expectation of the square of "
        "the running mean?",
        "A batch mean has the variance τ²/M, the running mean Σ weight² = (1 − alpha)/(1 + alpha) times it. "
        "That is missing from the difference.",
    ),
    cases=(
        Case("M = 4, alpha 0.6", (*_moments(3), 0.6, 4), count=4),
        Case(
            "M = 1, alpha 0.8", (*_moments(2), 0.8, 1), "there is one value a batch.", 1
        ),
        Case(
            "M = 16, alpha 0.1",
            (*_moments(3), 0.1, 16),
            "the average hardly remembers.",
            16,
        ),
    ),
    returns=("var",),
)
