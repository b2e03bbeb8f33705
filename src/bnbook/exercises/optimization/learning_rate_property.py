"""Exercise: a test for a criterion of divergence."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_divergence(diverged) -> None:
    """Test a criterion of divergence: pass if it is right, else fail an `assert`.

    Args:
        diverged: a function of the losses of a training, (N,), N ≥ 1, the first one finite and
            positive. It must return True if any loss is not finite or above 10 times the first,
            and False otherwise, as `bool` or `numpy.bool_`.
    """
    assert not diverged(np.array([2.5]))
    assert not diverged(np.array([2.5, 2.0, 24.0, 1.0]))
    assert not diverged(np.array([200.0, 30.0, 90.0]))  # high, yet not above its start
    assert not diverged(np.array([0.001, 0.009]))
    assert diverged(np.array([0.001, 0.5, 0.4]))
    assert diverged(np.array([2.5, 30.0, 2.3]))  # it came back, dead
    assert diverged(np.array([2.5, 2.0, 1.5, 16.0, 26.0]))  # step by step
    for bad in (np.nan, np.inf):
        assert diverged(np.array([2.5, 2.0, bad]))
        assert diverged(np.array([2.5, bad, 2.3]))


def by_numpy(losses):
    """it looks at all losses at once."""
    return not np.isfinite(losses).all() or losses.max() > 10 * losses[0]


def by_loop(losses):
    """it goes through the losses one by one."""
    for loss in losses:
        if not loss <= 10 * losses[0]:
            return True
    return False


def by_ratio(losses):
    """it compares logarithms."""
    with np.errstate(invalid="ignore"):
        return bool(
            (~np.isfinite(losses)).any()
            or np.nanmax(np.log(losses)) > np.log(10) + np.log(losses[0])
        )


def only_the_last(losses):
    """it looks at the last loss only, so that a network that exploded and came back dead passes."""
    return not np.isfinite(losses[-1]) or losses[-1] > 10 * losses[0]


def only_not_finite(losses):
    """it looks only for losses that are not finite."""
    return not np.isfinite(losses).all()


def nan_is_not_larger(losses):
    """it compares only, and NaN is never larger than anything."""
    return bool((losses > 10 * losses[0]).any())


def absolute(losses):
    """it compares with 10 and not with 10 times the first loss."""
    return not np.isfinite(losses).all() or bool((losses > 10).any())


def against_the_one_before(losses):
    """it compares each loss with the one before it, and misses a rise in several steps."""
    if not np.isfinite(losses).all():
        return True
    return bool((losses[1:] > 10 * losses[:-1]).any())


def against_the_smallest(losses):
    """it compares with the smallest loss, so that a noisy training after a good phase counts."""
    return not np.isfinite(losses).all() or losses.max() > 10 * losses.min()


def any_rise(losses):
    """it calls every rise above the start a divergence."""
    return not np.isfinite(losses).all() or losses.max() > losses[0]


def never_diverges(diverged):
    """Your test never shows the criterion a training that diverged."""
    assert not diverged(np.array([2.5, 2.0, 1.0]))


def only_nan_and_good(diverged):
    """Your test seems to try only losses that are not finite, and good ones. A dead network has a
    finite loss: show one that rises and comes back."""
    assert not diverged(np.array([2.5, 2.0, 1.0]))
    assert diverged(np.array([2.5, 2.0, np.nan]))
    assert diverged(np.array([2.5, np.inf]))


def only_at_the_end(diverged):
    """Your test seems to place every high loss at the end. A run that explodes and comes back has
    diverged as well."""
    assert not diverged(np.array([2.5, 2.0, 1.0]))
    assert not diverged(np.array([200.0, 100.0]))
    assert not diverged(np.array([2.5, 20.0, 1.5]))
    assert diverged(np.array([2.5, 16.0, 30.0]))
    assert diverged(np.array([2.5, 2.0, np.nan]))


def one_scale(diverged):
    """Your test seems to start every training at a similar loss. Then 10 and 10 times the start can
    hardly be told apart: use starts of 200 and of 0.001."""
    assert not diverged(np.array([1.0, 0.5, 9.0]))
    assert diverged(np.array([1.0, 2.0, 5.0, 12.0, 1.0]))
    assert diverged(np.array([1.0, np.nan, 0.5]))


def too_strict(diverged):
    """Your test seems to demand that a rise below 10 times the start is a divergence."""
    assert diverged(np.array([2.5, 5.0, 2.0]))


def wants_a_python_bool(diverged):
    """Your test seems to demand True or False itself. NumPy's booleans are allowed."""
    assert diverged(np.array([2.5, 30.0, 2.3])) is True


def many_random_runs(diverged):
    """The same, on random runs compared with the definition."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        losses = np.exp(rng.normal(0, 1.2, rng.integers(1, 8)) + rng.normal(0, 4))
        losses[1:] *= np.exp(rng.choice([0.0, 1.5], len(losses) - 1)).cumprod()
        if len(losses) > 2 and rng.random() < 0.3:
            losses[rng.integers(1, len(losses))] = rng.choice([np.nan, np.inf])
        expected = any(not (loss <= 10 * losses[0]) for loss in losses)
        assert bool(diverged(losses.copy())) == expected


EXERCISE = PropertyExercise(
    id="learning-rate-property",
    chapter="optimization/learning_rate",
    title="A test for a divergence",
    level="hard",
    reference=test_divergence,
    why="Each line kills one confusion: the end instead of the whole run, NaN in a comparison, an absolute "
    "bound, a bound against a neighbour or against the smallest loss.",
    mistakes=variants(
        never_diverges,
        only_nan_and_good,
        only_at_the_end,
        one_scale,
        too_strict,
        wants_a_python_bool,
    ),
    alternatives=(many_random_runs,),
    hints=(
        "What would a criterion say of a run that explodes at step 3 and ends with a finite loss?",
        "Use starts of 200 and of 0.001, a slow rise, and NaN in the middle and at the end.",
    ),
    correct=variants(by_numpy, by_loop, by_ratio),
    mutants=variants(
        only_the_last,
        only_not_finite,
        nan_is_not_larger,
        absolute,
        against_the_one_before,
        against_the_smallest,
        any_rise,
    ),
)
