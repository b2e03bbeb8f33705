"""Exercise: one step of Welford's algorithm."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def welford_step(
    count: int, mean: np.ndarray, m2: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add one example to the running mean and sum of squared deviations of each feature.

    Args:
        count: number of examples seen before this one.
        mean: their mean, (D,).
        m2: their Σ (x − μ)², (D,).
        row: the new example, (D,).

    Returns:
        mean, (D,), and m2, (D,), of all count + 1 examples.
    """
    delta = row - mean
    new_mean = mean + delta / (count + 1)
    return new_mean, m2 + delta * (row - new_mean)


def divided_by_old_count(count, mean, m2, row):
    """You divide by the number of examples seen before. The mean is now taken over count + 1."""
    delta = row - mean
    new_mean = mean + delta / count
    return new_mean, m2 + delta * (row - new_mean)


def old_mean_twice(count, mean, m2, row):
    """You add the squared deviation from the old mean. The product needs one deviation from the
    old mean and one from the new."""
    delta = row - mean
    return mean + delta / (count + 1), m2 + delta**2


def new_mean_twice(count, mean, m2, row):
    """You add the squared deviation from the new mean. The product needs one deviation from the
    old mean and one from the new."""
    new_mean = mean + (row - mean) / (count + 1)
    return new_mean, m2 + (row - new_mean) ** 2


def past_lost(count, mean, m2, row):
    """Your new m2 holds the increment alone. Add it to the old m2."""
    delta = row - mean
    new_mean = mean + delta / (count + 1)
    return new_mean, delta * (row - new_mean)


def averaged(count, mean, m2, row):
    """You return a variance, m2 divided by the number of examples. The sum was asked for: divide
    once, at the end."""
    new_mean, new_m2 = welford_step(count, mean, m2, row)
    return new_mean, new_m2 / (count + 1)


def halfway(count, mean, m2, row):
    """You average the old mean and the new example with equal weights. The old mean stands for
    `count` examples: move it by 1/(count + 1) of the distance."""
    new_mean = (mean + row) / 2
    return new_mean, m2 + (row - mean) * (row - new_mean)


def mean_unchanged(count, mean, m2, row):
    """You leave the mean as it was. The new example moves it by (row − mean)/(count + 1)."""
    new_mean = mean + (row - mean) / (count + 1)
    return mean.copy(), m2 + (row - mean) * (row - new_mean)


def as_merge(count, mean, m2, row):
    """The same, as the merge with a group of one."""
    delta = row - mean
    return (count * mean + row) / (count + 1), m2 + delta**2 * count / (count + 1)


def from_the_end(count, mean, m2, row):
    """The same, with the deviation from the new mean first."""
    new_mean = mean * (count / (count + 1)) + row / (count + 1)
    rest = row - new_mean
    return new_mean, m2 + rest**2 * (count + 1) / count


_rng = np.random.default_rng(303)

EXERCISE = FunctionExercise(
    id="numerics-welford",
    chapter="foundations/numerics",
    title="One step of Welford's algorithm",
    level="core",
    reference=welford_step,
    why="The increment (x − μ_old)(x − μ_new) is never negative, because both factors have the same "
    "sign: nothing cancels.",
    mistakes=variants(
        divided_by_old_count,
        old_mean_twice,
        new_mean_twice,
        past_lost,
        averaged,
        halfway,
        mean_unchanged,
    ),
    alternatives=(as_merge, from_the_end),
    hints=(
        "Call row − mean δ. After this example there are count + 1 of them, so the mean moves by "
        "δ/(count + 1).",
        "m2 grows by δ times the deviation of the row from the *new* mean.",
    ),
    cases=(
        Case(
            "4 examples before, 3 features",
            (4, _rng.normal(size=3), _rng.uniform(1, 4, 3), _rng.normal(2.0, 1.5, 3)),
        ),
        Case(
            "one example before",
            (1, _rng.normal(5.0, 1.0, 2), np.zeros(2), _rng.normal(5.0, 1.0, 2)),
            "there was one example, so m2 was 0.",
        ),
        Case(
            "9 examples before, 4 features",
            (9, _rng.normal(-3.0, 1.0, 4), _rng.uniform(5, 9, 4), _rng.normal(size=4)),
            "nine examples have come before.",
        ),
    ),
    returns=("mean", "m2"),
)
