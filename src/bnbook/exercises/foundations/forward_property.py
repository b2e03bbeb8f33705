"""Exercise: a test that tells a correct batch normalization from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_batch_norm(batch_norm) -> None:
    """Test an implementation of batch normalization: pass if it is correct, fail an `assert` if it is not.

    Args:
        batch_norm: a function of x (M, D), gamma (D,), beta (D,) and eps that returns y (M, D), for
            y = γẑ + β with ẑ = (x − μ)/√(σ² + ε), the statistics over axis 0. All arrays are float64.
    """
    rng = np.random.default_rng(0)
    for count, features, eps in [(2, 3, 0.5), (7, 4, 1e-3), (5, 5, 2.0)]:
        x = rng.normal(3.0, 2.0, size=(count, features))
        gamma, beta = rng.normal(size=features), rng.normal(size=features)
        y = batch_norm(x, gamma, beta, eps)
        assert y.shape == x.shape
        # The mean of y is β, its variance falls short of γ² by the share of ε, and y is a line in x.
        share = x.var(axis=0) / (x.var(axis=0) + eps)
        np.testing.assert_allclose(y.mean(axis=0), beta, rtol=0, atol=1e-12)
        np.testing.assert_allclose(y.var(axis=0), gamma**2 * share, rtol=1e-10)
        covariance = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
        np.testing.assert_allclose(
            covariance / (x.std(axis=0) * y.std(axis=0)), np.sign(gamma), rtol=1e-10
        )


def plain(x, gamma, beta, eps):
    """it is the textbook formula."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta


def scale_and_shift_merged(x, gamma, beta, eps):
    """it computes y = a x + (β − a μ) with a = γ/√(σ² + ε), which rounds differently."""
    a = gamma / np.sqrt(((x - x.mean(axis=0)) ** 2).mean(axis=0) + eps)
    return a * x + (beta - a * x.mean(axis=0))


def summed_backwards(x, gamma, beta, eps):
    """it adds up the examples one by one, the last one first, which rounds differently."""
    mean = sum(x[::-1]) / len(x)
    var = sum((row - mean) ** 2 for row in x[::-1]) / len(x)
    return beta + gamma * ((x - mean) * (var + eps) ** -0.5)


def unbiased_variance(x, gamma, beta, eps):
    """it divides the squared deviations by M − 1."""
    return (
        gamma
        * (x - x.mean(axis=0))
        / np.sqrt(x.var(axis=0) * len(x) / max(len(x) - 1, 1) + eps)
        + beta
    )


def eps_outside_root(x, gamma, beta, eps):
    """it divides by σ + ε, which only shows where ε is not tiny."""
    return gamma * (x - x.mean(axis=0)) / (x.std(axis=0) + eps) + beta


def eps_hard_coded(x, gamma, beta, eps):
    """it uses ε = 1e-5 whatever it is given, which only shows where ε is not tiny."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) + beta


def shift_lost(x, gamma, beta, eps):
    """it leaves out β, which is invisible where β = 0."""
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def scale_lost(x, gamma, beta, eps):
    """it leaves out γ, which is invisible where γ = 1."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta


def scale_without_sign(x, gamma, beta, eps):
    """it uses |γ|, which is invisible to the mean and the variance of y and where γ > 0."""
    return abs(gamma) * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta


def shift_scaled(x, gamma, beta, eps):
    """it computes γ(ẑ + β), which is invisible where β = 0 or γ = 1."""
    return gamma * ((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta)


def one_spread_for_all(x, gamma, beta, eps):
    """it centres each feature but divides all of them by one common standard deviation, which is invisible
    with one feature."""
    centred = x - x.mean(axis=0)
    return gamma * centred / np.sqrt((centred**2).mean() + eps) + beta


def examples_shuffled(x, gamma, beta, eps):
    """it returns the right rows in the reverse order, which is invisible to the mean and the variance of
    y."""
    return plain(x, gamma, beta, eps)[::-1].copy()


def per_example(x, gamma, beta, eps):
    """it takes the statistics of each example over its features, as layer normalization does."""
    z_hat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(
        x.var(axis=1, keepdims=True) + eps
    )
    return gamma * z_hat + beta


def _batch(features=3, eps=0.3):
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 2.0, size=(6, features)) * np.linspace(0.5, 2.0, features)
    return x, rng.normal(size=features), rng.normal(size=features), eps


def never_fails(batch_norm):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare the values
    of y with what they must be."""
    y = batch_norm(*_batch())
    assert y.shape == (6, 3)


def only_the_mean(batch_norm):
    """Your test seems to look at the mean of y only. Every implementation that centres passes, however it
    scales: look at the spread of y too."""
    x, gamma, beta, eps = _batch()
    np.testing.assert_allclose(
        batch_norm(x, gamma, beta, eps).mean(axis=0), beta, atol=1e-12
    )


def only_mean_and_variance(batch_norm):
    """Your test seems to look at the mean and the variance of y only. They do not say which example got
    which value: a flipped sign or shuffled rows pass. Look at single values of y, or at how y moves with
    x."""
    x, gamma, beta, eps = _batch()
    y = batch_norm(x, gamma, beta, eps)
    np.testing.assert_allclose(y.mean(axis=0), beta, atol=1e-12)
    np.testing.assert_allclose(
        y.var(axis=0), gamma**2 * x.var(axis=0) / (x.var(axis=0) + eps), rtol=1e-10
    )


def trivial_parameters(batch_norm):
    """Your test seems to use γ = 1 and β = 0, where a lost scale or a lost shift is invisible. Draw them at
    random, with both signs."""
    x, _, _, eps = _batch()
    y = batch_norm(x, np.ones(3), np.zeros(3), eps)
    np.testing.assert_allclose(y, plain(x, 1.0, 0.0, eps), atol=1e-12)


def zero_shift(batch_norm):
    """Your test seems to use β = 0, where a lost or a scaled shift is invisible. Draw β at random."""
    x, gamma, _, eps = _batch()
    y = batch_norm(x, gamma, np.zeros(3), eps)
    np.testing.assert_allclose(y, plain(x, gamma, 0.0, eps), atol=1e-12)


def positive_scale(batch_norm):
    """Your test seems to use positive γ only, where an implementation that takes |γ| passes. Draw both
    signs."""
    x, gamma, beta, eps = _batch()
    y = batch_norm(x, abs(gamma), beta, eps)
    np.testing.assert_allclose(y, plain(x, abs(gamma), beta, eps), atol=1e-12)


def one_feature(batch_norm):
    """Your test seems to use a single feature, where statistics shared by all features are invisible. Use
    several, of different spread."""
    x, gamma, beta, eps = _batch(features=1)
    np.testing.assert_allclose(
        batch_norm(x, gamma, beta, eps), plain(x, gamma, beta, eps), atol=1e-12
    )
    np.testing.assert_allclose(
        batch_norm(x, -gamma, beta, eps), plain(x, -gamma, beta, eps), atol=1e-12
    )


def tiny_eps(batch_norm):
    """Your test seems to use a tiny ε or a wide tolerance, where it hardly matters how ε enters. Use one
    comparable with the variance, for example 0.5, and a tolerance near 1e-10."""
    x, gamma, beta, _ = _batch()
    y = batch_norm(x, gamma, beta, 1e-12)
    np.testing.assert_allclose(y, plain(x, gamma, beta, 1e-12), rtol=1e-4)


def exact_equality(batch_norm):
    """Your test seems to demand exact equality. A correct implementation that adds in another order differs
    in the last digit: compare with a tolerance, for example `np.testing.assert_allclose(…, rtol=1e-10)`."""
    x, gamma, beta, eps = _batch()
    assert (batch_norm(x, gamma, beta, eps) == plain(x, gamma, beta, eps)).all()


def no_shift(calls):
    """Whether every β was 0."""
    return not any(call["beta"].any() for call in calls)


def no_parameters(calls):
    """Whether every γ was 1 and every β was 0."""
    return no_shift(calls) and all((call["gamma"] == 1).all() for call in calls)


def no_sign(calls):
    """Whether no γ was negative."""
    return all((call["gamma"] >= 0).all() for call in calls)


def no_neighbours(calls):
    """Whether every batch had a single feature."""
    return all(call["x"].shape[1] == 1 for call in calls)


def against_the_formula(batch_norm):
    """The same, against the formula."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.normal(2.0, 3.0, size=(4, 3))
        gamma, beta = rng.normal(size=3), rng.normal(size=3)
        expected = gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + 0.5) + beta
        assert np.max(np.abs(batch_norm(x, gamma, beta, 0.5) - expected)) < 1e-11


def with_hypothesis(batch_norm):
    """The same, on batches that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    @given(
        st.integers(2, 8),
        st.integers(2, 5),
        st.floats(0.1, 2.0),
        st.integers(0, 2**32 - 1),
    )
    def holds(count, features, eps, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(2.0, 3.0, size=(count, features))
        gamma, beta = rng.normal(size=features), rng.normal(size=features)
        np.testing.assert_allclose(
            batch_norm(x, gamma, beta, eps), plain(x, gamma, beta, eps), atol=1e-10
        )

    holds()


EXERCISE = PropertyExercise(
    id="forward-property",
    chapter="foundations/forward",
    title="A test for batch normalization",
    level="hard",
    reference=test_batch_norm,
    why="Mean, variance and direction pin y down without repeating the formula. Random γ of both signs, β "
    "≠ 0, ε comparable with σ², M ≠ D and small M leave a wrong implementation nowhere to hide.",
    mistakes=(
        *variants(never_fails, only_the_mean, only_mean_and_variance),
        Variant.of(trivial_parameters, seen=no_parameters),
        Variant.of(zero_shift, seen=no_shift),
        Variant.of(positive_scale, seen=no_sign),
        Variant.of(one_feature, seen=no_neighbours),
        *variants(tiny_eps, exact_equality),
    ),
    alternatives=(against_the_formula, with_hypothesis),
    hints=(
        "Draw x, γ and β at random with a seeded generator, call `batch_norm`, and state with `assert` or "
        "`np.testing.assert_allclose` what must hold for y.",
        "Choose inputs on which mistakes show: γ of both signs and not 1, β not 0, ε comparable with the "
        "variance, several features of different spread, few examples.",
        "The mean of y is β, its variance is γ²σ²/(σ² + ε), and y rises with x where γ > 0. Or compare "
        "with the formula, to about 1e-10.",
    ),
    correct=variants(plain, scale_and_shift_merged, summed_backwards),
    mutants=variants(
        unbiased_variance,
        eps_outside_root,
        eps_hard_coded,
        shift_lost,
        scale_lost,
        scale_without_sign,
        shift_scaled,
        one_spread_for_all,
        examples_shuffled,
        per_example,
    ),
)
