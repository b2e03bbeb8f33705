"""Exercise: a test that tells an accurate variance from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_variance(variance) -> None:
    """Test an implementation of the variance: pass if it is accurate, else fail an `assert`.

    Args:
        variance: a function of x (M, D) that returns the biased variance of each feature,
            (D,). It must be right to six digits also where the mean is a million times the
            spread.
    """
    rng = np.random.default_rng(0)
    for count, features, mean in [(2, 3, 0.0), (7, 4, 5.0), (5, 5, -1e6), (40, 2, 1e6)]:
        spread = np.linspace(0.5, 2.0, features)
        x = rng.normal(mean, spread, size=(count, features))
        result = variance(x)
        assert result.shape == (features,)
        expected = ((x - x.mean(axis=0)) ** 2).mean(axis=0)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        # Moving the data changes nothing, scaling them by c changes the variance by c².
        np.testing.assert_allclose(variance(4 * x + 3), 16 * expected, rtol=1e-6)


def two_passes(x):
    """it averages the squared deviations."""
    return ((x - x.mean(axis=0)) ** 2).mean(axis=0)


def updating(x):
    """it is Welford's algorithm, which rounds differently."""
    mean, m2 = x[0].copy(), np.zeros(x.shape[1])
    for seen, row in enumerate(x[1:], start=2):
        delta = row - mean
        mean = mean + delta / seen
        m2 = m2 + delta * (row - mean)
    return m2 / len(x)


def shifted(x):
    """it subtracts the first example and uses one pass, which rounds differently."""
    moved = x - x[0]
    return (moved**2).mean(axis=0) - moved.mean(axis=0) ** 2


def one_pass(x):
    """it computes E[x²] − E[x]², which only shows where the mean is large."""
    return (x**2).mean(axis=0) - x.mean(axis=0) ** 2


def one_pass_clamped(x):
    """it computes E[x²] − E[x]² and replaces negative results by 0, which hides the symptom and not the
    error."""
    return np.maximum((x**2).mean(axis=0) - x.mean(axis=0) ** 2, 0)


def single_precision(x):
    """it works in float32, which costs digits, and all of them where the mean is large."""
    return x.astype(np.float32).var(axis=0).astype(np.float64)


def unbiased(x):
    """it divides by M − 1."""
    return x.var(axis=0) * len(x) / (len(x) - 1)


def deviation(x):
    """it returns the standard deviation, which is invisible where σ = 1."""
    return x.std(axis=0)


def second_moment(x):
    """it does not subtract the mean, which is invisible where the mean is 0."""
    return (x**2).mean(axis=0)


def absolute(x):
    """it averages absolute deviations, not squares."""
    return abs(x - x.mean(axis=0)).mean(axis=0)


def shared(x):
    """it gives all features the average of their variances, which is invisible with one feature."""
    return np.full(x.shape[1], x.var(axis=0).mean())


def _batch(mean=0.0, features=3):
    rng = np.random.default_rng(1)
    return rng.normal(mean, np.linspace(0.5, 2.0, features), size=(8, features))


def never_fails(variance):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare the
    values with what they must be."""
    assert variance(_batch()).shape == (3,)


def only_nonnegative(variance):
    """Your test seems to check only that the variance is not negative. An implementation that
    clamps at 0 passes, and so does every other that returns positive numbers: compare values."""
    assert (variance(_batch(1e8)) >= 0).all()


def only_gentle_means(variance):
    """Your test seems to use data with a small mean only. The one-pass formula is right there and
    loses its digits where the mean is large: add data with a mean of a million."""
    np.testing.assert_allclose(
        variance(_batch(2.0)), two_passes(_batch(2.0)), rtol=1e-10
    )


def only_centred_data(variance):
    """Your test seems to use data with mean 0 only, where even an implementation that forgets to
    subtract the mean is right."""
    x = _batch() - _batch().mean(axis=0)
    np.testing.assert_allclose(variance(x), two_passes(x), rtol=1e-10)


def only_translation(variance):
    """Your test seems to check only that moving the data changes nothing. Many wrong formulas have
    that property too: check values, or how the result scales."""
    x = _batch(1.0)
    np.testing.assert_allclose(variance(x + 1e6), variance(x), rtol=1e-3)


def only_scaling(variance):
    """Your test seems to check only that scaling the data by c scales the variance by c². A wrong
    factor, or a forgotten mean, passes: check values."""
    x = _batch(1.0)
    np.testing.assert_allclose(variance(4 * x), 16 * variance(x), rtol=1e-3)


def one_feature(variance):
    """Your test seems to use a single feature, where a variance shared by all features is
    invisible. Use several, of different spread."""
    for mean in (2.0, 1e6):
        x = _batch(mean, features=1)
        np.testing.assert_allclose(variance(x), two_passes(x), rtol=1e-6)


def exact_equality(variance):
    """Your test seems to demand exact equality. A correct algorithm that adds in another order
    differs in the last digits: compare with a tolerance, for example rtol=1e-6."""
    for mean in (2.0, 1e6):
        assert (variance(_batch(mean)) == two_passes(_batch(mean))).all()


def against_fractions(variance):
    """The same, against exact arithmetic."""
    from fractions import Fraction

    for seed, mean in enumerate((1.0, 1e6, -1e6)):
        x = np.random.default_rng(seed).normal(mean, [0.5, 1.5], size=(6, 2))
        exact = []
        for column in x.T:
            values = [Fraction(v) for v in column.tolist()]
            center = sum(values) / len(values)
            exact.append(float(sum((v - center) ** 2 for v in values) / len(values)))
        assert (abs(variance(x) - exact) <= 1e-7 * np.array(exact)).all()


def with_hypothesis(variance):
    """The same, on batches that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    @given(
        st.integers(2, 9), st.sampled_from([0.0, 3.0, 1e6]), st.integers(0, 2**32 - 1)
    )
    def holds(count, mean, seed):
        x = np.random.default_rng(seed).normal(mean, [0.5, 1.0, 3.0], size=(count, 3))
        np.testing.assert_allclose(variance(x), two_passes(x), rtol=1e-5, atol=1e-7)

    holds()


EXERCISE = PropertyExercise(
    id="numerics-property",
    chapter="foundations/numerics",
    title="A test for a variance",
    level="hard",
    reference=test_variance,
    why="The large mean tells the one-pass formula from the others, in either sign and clamped or not. "
    "Different spreads in different features, and a batch of two, find the rest.",
    mistakes=variants(
        never_fails,
        only_nonnegative,
        only_gentle_means,
        only_centred_data,
        only_translation,
        only_scaling,
        one_feature,
        exact_equality,
    ),
    alternatives=(against_fractions, with_hypothesis),
    hints=(
        "Compute the expected values in your test by two passes, and compare with a tolerance. "
        "`np.testing.assert_allclose` raises an AssertionError.",
        "Use data with several features of different spread, and do so twice: once with a small mean, "
        "once with a mean of a million.",
    ),
    correct=variants(two_passes, updating, shifted),
    mutants=variants(
        one_pass,
        one_pass_clamped,
        single_precision,
        unbiased,
        deviation,
        second_moment,
        absolute,
        shared,
    ),
)
