"""Exercise: a test that tells the right next bounds from wrong ones."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_next_bounds(next_bounds) -> None:
    """Test an implementation of the next bounds: pass if it is right, else fail an `assert`.

    Args:
        next_bounds: a function of logs, (k, P), log10 of P hyperparameters of the k
            selected models. It must return lower and upper, (P,) each, mean ± 1.5 std of
            each hyperparameter, where std divides by k.
    """
    rng = np.random.default_rng(0)
    for count, center in [(3, -8.0), (3, 1.0), (5, -0.5), (2, -4.0)]:
        logs = rng.normal(center, [0.3, 1.0, 2.5], size=(count, 3))
        lower, upper = next_bounds(logs)
        assert lower.shape == upper.shape == (3,)
        mean = logs.sum(axis=0) / count
        std = np.sqrt(((logs - mean) ** 2).sum(axis=0) / count)
        np.testing.assert_allclose(lower, mean - 1.5 * std, rtol=1e-9)
        np.testing.assert_allclose(upper, mean + 1.5 * std, rtol=1e-9)


def plain(logs):
    """it is the formula."""
    mean, std = logs.mean(axis=0), logs.std(axis=0)
    return mean - 1.5 * std, mean + 1.5 * std


def by_second_moment(logs):
    """it computes std from the second moment, which rounds differently."""
    mean = logs.mean(axis=0)
    std = np.sqrt(np.maximum((logs**2).mean(axis=0) - mean**2, 0))
    return mean - 1.5 * std, mean + 1.5 * std


def by_pairs(logs):
    """it computes std from the differences of all pairs, which rounds differently."""
    gaps = logs[:, None] - logs[None]
    std = np.sqrt((gaps**2).mean(axis=(0, 1)) / 2)
    return logs.mean(axis=0) - 1.5 * std, logs.mean(axis=0) + 1.5 * std


def sample_deviation(logs):
    """its std divides by k − 1."""
    mean, std = logs.mean(axis=0), logs.std(axis=0, ddof=1)
    return mean - 1.5 * std, mean + 1.5 * std


def median_centre(logs):
    """its centre is the median, which is invisible where the selected models lie symmetrically."""
    center, std = np.median(logs, axis=0), logs.std(axis=0)
    return center - 1.5 * std, center + 1.5 * std


def reversed_bounds(logs):
    """it returns upper before lower."""
    return plain(logs)[::-1]


def extremes(logs):
    """its bounds are the smallest and the largest selected value."""
    return logs.min(axis=0), logs.max(axis=0)


def half_width(logs):
    """its bounds are 1.5 std apart, not 3."""
    mean, std = logs.mean(axis=0), logs.std(axis=0)
    return mean - 0.75 * std, mean + 0.75 * std


def cut_off(logs):
    """it cuts the upper bound off at 0, which is invisible where all values are far below."""
    lower, upper = plain(logs)
    return lower, np.minimum(upper, 0)


def one_width(logs):
    """it gives all hyperparameters the same std, which is invisible with one hyperparameter."""
    mean = logs.mean(axis=0)
    std = np.full(logs.shape[1], np.sqrt(logs.var(axis=0).mean()))
    return mean - 1.5 * std, mean + 1.5 * std


def always_three(logs):
    """it divides by 3 whatever k is, which is invisible for three models."""
    mean = logs.mean(axis=0)
    std = np.sqrt(((logs - mean) ** 2).sum(axis=0) / 3)
    return mean - 1.5 * std, mean + 1.5 * std


def _logs(center=-8.0, count=3, width=3):
    rng = np.random.default_rng(1)
    return rng.normal(center, [0.3, 1.0, 2.5][:width], size=(count, width))


def _both(next_bounds, logs, rtol=1e-9):
    for got, expected in zip(next_bounds(logs), plain(logs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=rtol)


def never_fails(next_bounds):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare both
    bounds with what they must be."""
    lower, upper = next_bounds(_logs())
    assert lower.shape == upper.shape == (3,)


def only_order(next_bounds):
    """Your test seems to check only that lower comes before upper. Most wrong formulas have that
    property too: compare values."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            lower, upper = next_bounds(_logs(center, count))
            assert (lower < upper).all()


def only_the_midpoint(next_bounds):
    """Your test seems to check only the midpoint, which tells nothing about the width."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            logs = _logs(center, count)
            middle = sum(next_bounds(logs)) / 2
            np.testing.assert_allclose(middle, logs.mean(axis=0), rtol=1e-9)


def only_the_width(next_bounds):
    """Your test seems to check only the width. A wrong centre passes."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            logs = _logs(center, count)
            lower, upper = next_bounds(logs)
            np.testing.assert_allclose(upper - lower, 3 * logs.std(axis=0), rtol=1e-9)


def symmetric_models(next_bounds):
    """Your test seems to use models that lie symmetrically around their mean, where median and mean
    agree. Draw them at random."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            line = np.linspace(-1, 1, count)[:, None] * np.array([0.3, 1.0, 2.5])
            _both(next_bounds, center + line)


def always_far_below(next_bounds):
    """Your test seems to keep all bounds below 0. Whether an implementation lets them leave the first
    bounds only shows with values near 0 or above."""
    for count in (3, 5):
        _both(next_bounds, _logs(-30.0, count))


def one_hyperparameter(next_bounds):
    """Your test seems to use a single hyperparameter, where a deviation that is shared by all is
    invisible. Use several, of different spread."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            _both(next_bounds, _logs(center, count, width=1))


def always_three_models(next_bounds):
    """Your test seems to use three models only. Try another number, so that a fixed 3 shows."""
    for center in (-8.0, 2.0):
        _both(next_bounds, _logs(center))


def exact_equality(next_bounds):
    """Your test seems to demand exact equality. A correct implementation that adds in another order
    differs in the last digits: compare with a tolerance, for example rtol=1e-9."""
    for center in (-8.0, 2.0):
        for count in (3, 5):
            logs = _logs(center, count)
            for got, expected in zip(next_bounds(logs), plain(logs), strict=True):
                assert (got == expected).all()


def _all_symmetric(calls):
    """Whether no call can tell a median from a mean."""
    return all(
        np.allclose(np.median(call["logs"], axis=0), np.mean(call["logs"], axis=0))
        for call in calls
    )


def by_statistics(next_bounds):
    """The same, from the standard library."""
    import statistics

    for center in (-6.0, 0.5):
        for count in (2, 3, 6):
            rng = np.random.default_rng(count)
            logs = rng.normal(center, [0.5, 2.0], size=(count, 2))
            lower, upper = next_bounds(logs)
            for j in range(2):
                values = logs[:, j].tolist()
                half = 1.5 * statistics.pstdev(values)
                assert abs(lower[j] - (statistics.fmean(values) - half)) < 1e-9
                assert abs(upper[j] - (statistics.fmean(values) + half)) < 1e-9


EXERCISE = PropertyExercise(
    id="search-property",
    chapter="training/search",
    title="A test for the next bounds",
    level="hard",
    reference=test_next_bounds,
    why="Both bounds are compared with values from the formula. Random models break symmetries, several "
    "hyperparameters of different spread break a shared deviation, other numbers than three break a "
    "fixed 3, and a centre near 0 shows bounds that are cut off.",
    mistakes=(
        *variants(never_fails, only_order, only_the_midpoint),
        Variant.of(symmetric_models, seen=_all_symmetric),
        *variants(
            only_the_width,
            always_far_below,
            one_hyperparameter,
            always_three_models,
            exact_equality,
        ),
    ),
    alternatives=(by_statistics,),
    hints=(
        "Compute mean and standard deviation in your test from their definitions, and compare both "
        "bounds with a tolerance.",
        "Use several hyperparameters of different spread, several numbers of models, and centres far "
        "below 0 as well as near it.",
    ),
    correct=variants(plain, by_second_moment, by_pairs),
    mutants=variants(
        sample_deviation,
        median_centre,
        reversed_bounds,
        extremes,
        half_width,
        cut_off,
        one_width,
        always_three,
    ),
)
