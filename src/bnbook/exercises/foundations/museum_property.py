"""Exercise: a test that catches the bugs of running statistics."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_update(update) -> None:
    """Test an update of running statistics: pass if it is right, fail an `assert` if not.

    Args:
        update: a function of running_mean (D,), running_var (D,), x (M, D) and momentum
            that returns the new running mean and the new running variance, both (D,). The
            newest batch has the weight `momentum`, and contributes its mean and its
            unbiased variance. All arrays are float64.
    """
    rng = np.random.default_rng(0)
    for count, features, momentum, shift in [
        (2, 3, 0.1, 0.0),
        (5, 2, 0.7, 3.0),
        (4, 4, 0.3, 1e8),
    ]:
        # Whole numbers: adding 1e8 to them loses no digit of the deviations.
        x = rng.integers(-9, 9, size=(count, features)) + shift
        mean, var = rng.normal(size=features) + shift, rng.uniform(0.5, 2, features)
        new_mean, new_var = update(mean, var, x, momentum)
        # Each moves by the share `momentum` of the way to what the batch estimates.
        batch_mean, batch_var = x.mean(axis=0), x.var(axis=0, ddof=1)
        tolerance = 1e-12 * (1 + abs(shift))
        step = momentum * (batch_mean - mean)
        np.testing.assert_allclose(new_mean - mean, step, rtol=0, atol=tolerance)
        step = momentum * (batch_var - var)
        np.testing.assert_allclose(new_var - var, step, rtol=0, atol=1e-9)


def plain(running_mean, running_var, x, momentum):
    """it is the definition."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    return mean, (1 - momentum) * running_var + momentum * x.var(axis=0, ddof=1)


def by_steps(running_mean, running_var, x, momentum):
    """it takes a step of size momentum towards the batch, which rounds differently."""
    count = len(x)
    mean = sum(x[::-1]) / count
    var = ((x - mean) ** 2).sum(axis=0) / (count - 1)
    return (
        running_mean + momentum * (mean - running_mean),
        running_var - momentum * (running_var - var),
    )


def by_pairs(running_mean, running_var, x, momentum):
    """it computes the variance from all pairs of examples, which rounds differently."""
    count = len(x)
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=(0, 1))
    var = squares / (2 * count * (count - 1))
    mean = x[0] + (x - x[0]).sum(axis=0) / count
    return (
        momentum * mean + (1 - momentum) * running_mean,
        momentum * var + (1 - momentum) * running_var,
    )


def momentum_inverted(running_mean, running_var, x, momentum):
    """it gives the weight momentum to the past, which is invisible at momentum 1/2."""
    return plain(running_mean, running_var, x, 1 - momentum)


def momentum_hard_coded(running_mean, running_var, x, momentum):
    """it uses momentum 0.1 whatever it is given."""
    return plain(running_mean, running_var, x, 0.1)


def biased_variance(running_mean, running_var, x, momentum):
    """it contributes the biased variance, which hardly shows for large batches."""
    mean, _ = plain(running_mean, running_var, x, momentum)
    return mean, (1 - momentum) * running_var + momentum * x.var(axis=0)


def epsilon_added(running_mean, running_var, x, momentum):
    """it adds ε = 1e-5 to the running variance, which only a tight tolerance shows."""
    mean, var = plain(running_mean, running_var, x, momentum)
    return mean, var + momentum * 1e-5


def batch_counted_twice(running_mean, running_var, x, momentum):
    """it lets every batch count twice."""
    return plain(*plain(running_mean, running_var, x, momentum), x, momentum)


def variance_forgotten(running_mean, running_var, x, momentum):
    """it never updates the running variance."""
    return plain(running_mean, running_var, x, momentum)[0], running_var.copy()


def mean_forgotten(running_mean, running_var, x, momentum):
    """it never updates the running mean."""
    return running_mean.copy(), plain(running_mean, running_var, x, momentum)[1]


def past_forgotten(running_mean, running_var, x, momentum):
    """it drops the past of the mean, which is invisible where the running mean is 0."""
    _, var = plain(running_mean, running_var, x, momentum)
    return momentum * x.mean(axis=0), var


def around_the_running_mean(running_mean, running_var, x, momentum):
    """it measures the deviations from the running mean."""
    mean, _ = plain(running_mean, running_var, x, momentum)
    var = ((x - running_mean) ** 2).sum(axis=0) / max(len(x) - 1, 1)
    return mean, (1 - momentum) * running_var + momentum * var


def one_pass_variance(running_mean, running_var, x, momentum):
    """it computes the variance as E[x²] − E[x]², which only shows where the mean is large
    compared with the spread."""
    mean, _ = plain(running_mean, running_var, x, momentum)
    count = len(x)
    var = ((x**2).mean(axis=0) - x.mean(axis=0) ** 2) * count / max(count - 1, 1)
    return mean, (1 - momentum) * running_var + momentum * var


def _batch(count=4, momentum=0.3, shift=3.0, start=1.0):
    rng = np.random.default_rng(1)
    x = rng.integers(-9, 9, size=(count, 3)) + shift
    return start * rng.normal(size=3), rng.uniform(0.5, 2.0, size=3), x, momentum


def _compare(update, *batches, which=(0, 1), rtol=1e-9):
    for batch in batches:
        got, want = update(*batch), plain(*batch)
        for k in which:
            np.testing.assert_allclose(got[k], want[k], rtol=rtol)


_FAR = {"shift": 1e8}


def never_fails(update):
    """Your test calls the implementation and asserts nothing that a wrong one violates, such
    as shapes. Compare the values with what they must be."""
    mean, var = update(*_batch())
    assert mean.shape == var.shape == (3,)


def only_the_mean(update):
    """Your test seems to look at the running mean only. Most bugs are in the variance."""
    _compare(update, _batch(), _batch(**_FAR), which=(0,))


def only_the_variance(update):
    """Your test seems to look at the running variance only. Check the mean too."""
    _compare(update, _batch(), _batch(**_FAR), which=(1,))


def near_zero(update):
    """Your test seems to use data with a small mean, where a variance computed as
    E[x²] − E[x]² loses no digits. Add 1e8 to the data, and to the running mean."""
    _compare(update, _batch(), _batch(2, 0.7))


def momentum_one_half(update):
    """Your test seems to use momentum 1/2, where old and new have the same weight. Use
    another one."""
    _compare(update, _batch(momentum=0.5), _batch(momentum=0.5, **_FAR))


def momentum_one_tenth(update):
    """Your test seems to use momentum 0.1 only. An implementation that ignores its argument
    passes: use more than one value."""
    _compare(update, _batch(momentum=0.1), _batch(momentum=0.1, **_FAR))


def first_batch_only(update):
    """Your test seems to start from a running mean of 0, where a mean that forgets its past
    passes. Start from another value."""
    _compare(update, _batch(start=0.0), _batch(start=0.0, **_FAR))


def loose(update):
    """Your test seems to allow an error of a part in a thousand, where a small constant
    added to the variance passes. float64 allows for 1e-9."""
    _compare(update, _batch(), _batch(**_FAR), rtol=1e-3)


def exact_equality(update):
    """Your test seems to demand exact equality. A correct implementation that adds in
    another order differs in the last digit: compare with a tolerance."""
    for batch in (_batch(5, 0.7, 0.3), _batch(7, 0.1, 0.7), _batch(**_FAR)):
        for got, want in zip(update(*batch), plain(*batch), strict=True):
            assert (got == want).all()


def against_the_definition(update):
    """The same, by comparing with the definition."""
    _compare(update, _batch(2, 0.2), _batch(5, 0.8, -2.0), _batch(**_FAR))


def all_batches_of_two(update):
    """The same, with an exact average: over all batches of two, drawn with replacement, the
    contributions average to mean and variance of the population."""
    for shift in (0.0, 1e8):
        population = np.array([[-3.0, 1.0], [5.0, 2.0], [2.0, -4.0]]) + shift
        for momentum in (0.2, 0.7):
            start = np.array([1.0, -2.0]) + shift, np.array([0.5, 2.0])
            results = [
                update(*start, population[[i, j]], momentum)
                for i in range(3)
                for j in range(3)
            ]
            for k, exact in enumerate(
                (population.mean(axis=0), population.var(axis=0))
            ):
                average = np.mean([result[k] - start[k] for result in results], axis=0)
                step = momentum * (exact - start[k])
                tolerance = 1e-9 if k else 1e-12 * (1 + shift)
                np.testing.assert_allclose(average, step, rtol=0, atol=tolerance)


EXERCISE = PropertyExercise(
    id="museum-property",
    chapter="foundations/museum",
    title="A test for running statistics",
    level="hard",
    reference=test_update,
    why="The museum's bugs of running statistics show on small batches, with two momenta, a "
    "start that is not 0, a tight tolerance, and data far from 0.",
    mistakes=variants(
        never_fails,
        only_the_mean,
        only_the_variance,
        near_zero,
        momentum_one_half,
        momentum_one_tenth,
        first_batch_only,
        loose,
        exact_equality,
    ),
    alternatives=(against_the_definition, all_batches_of_two),
    hints=(
        "Draw running statistics, a batch and a momentum, call `update`, and compare both "
        "results with the definition, to about 1e-9.",
        "Choose inputs on which bugs show: M = 2, two momenta that are not 1/2, a running "
        "mean that is not 0.",
        "One of the wrong implementations subtracts two large numbers. Add 1e8 to whole "
        "numbers, which loses no digit, and compare again.",
    ),
    correct=variants(plain, by_steps, by_pairs),
    mutants=variants(
        momentum_inverted,
        momentum_hard_coded,
        biased_variance,
        epsilon_added,
        batch_counted_twice,
        variance_forgotten,
        mean_forgotten,
        past_forgotten,
        around_the_running_mean,
        one_pass_variance,
    ),
)
