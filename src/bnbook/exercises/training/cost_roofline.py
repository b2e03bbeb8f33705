"""Exercise: the rate that a machine allows."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def attainable_rate(
    flops: np.ndarray, moved: np.ndarray, peak: float, bandwidth: float
) -> np.ndarray:
    """Highest rate, in flops a second, at which pieces of work can run.

    Args:
        flops: operations of each piece, (n,).
        moved: float32 numbers that each reads or writes, (n,); a number has four bytes.
        peak: flops a second that the machine can do.
        bandwidth: bytes a second that its memory delivers.

    Returns:
        The rates, (n,).
    """
    intensity = flops / (4 * moved)
    return np.minimum(peak, intensity * bandwidth)


def four_forgotten(flops, moved, peak, bandwidth):
    """You take numbers for bytes. A float32 number has four bytes, so the intensity is a quarter of
    yours."""
    return np.minimum(peak, flops / moved * bandwidth)


def larger_limit(flops, moved, peak, bandwidth):
    """You take the larger of the two limits. Work has to respect both: the smaller one holds."""
    return np.maximum(peak, flops / (4 * moved) * bandwidth)


def no_peak(flops, moved, peak, bandwidth):
    """You forget the peak: no work runs faster than that, however little it moves."""
    return flops / (4 * moved) * bandwidth


def inverse_intensity(flops, moved, peak, bandwidth):
    """Your intensity is upside down: it is flops a byte, not bytes a flop."""
    return np.minimum(peak, 4 * moved / flops * bandwidth)


def one_after_the_other(flops, moved, peak, bandwidth):
    """You add the time of the arithmetic and the time of the traffic. The roofline lets them overlap:
    the longer of the two counts."""
    return flops / (flops / peak + 4 * moved / bandwidth)


def the_time(flops, moved, peak, bandwidth):
    """You return the shortest time, in seconds. The exercise asks for the rate: flops divided by that time."""
    return np.maximum(flops / peak, 4 * moved / bandwidth)


def eight_bytes(flops, moved, peak, bandwidth):
    """You count eight bytes a number, as in float64. A float32 number has four."""
    return attainable_rate(flops, 2 * moved, peak, bandwidth)


def by_times(flops, moved, peak, bandwidth):
    """The same from times."""
    return flops / np.maximum(flops / peak, 4 * moved / bandwidth)


def by_ridge(flops, moved, peak, bandwidth):
    """The same from the ridge."""
    intensity, ridge = flops / (4 * moved), peak / bandwidth
    return np.where(intensity < ridge, peak * intensity / ridge, peak)


EXERCISE = FunctionExercise(
    id="cost-roofline",
    chapter="training/cost",
    title="Under the roof",
    level="warm-up",
    reference=attainable_rate,
    why="The arithmetic cannot be faster than the peak, the traffic not faster than the bandwidth; the "
    "smaller limit holds.",
    mistakes=variants(
        four_forgotten,
        larger_limit,
        no_peak,
        inverse_intensity,
        one_after_the_other,
        the_time,
        eight_bytes,
    ),
    alternatives=(by_times, by_ridge),
    hints=(
        "First the arithmetic intensity: flops for each byte. Mind how many bytes a number has.",
        "Intensity times bandwidth is the rate that the memory allows. Which of the two limits is felt?",
    ),
    cases=(
        Case(
            "batch normalization and a matrix product",
            (np.array([7e6, 2e9]), np.array([3e6, 3e6]), 1e11, 1e10),
        ),
        Case(
            "around the ridge",
            (np.array([7.9, 8.0, 8.1, 60.0]), np.ones(4), 20.0, 10.0),
            "the ridge lies at 2 flops a byte.",
        ),
        Case("one piece", (np.array([3.0]), np.array([12.0]), 5.0, 4.0)),
    ),
    returns=("rate",),
)
