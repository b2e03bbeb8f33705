"""Exercise: a test that a normalization trains as it infers."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_trains_as_it_infers(normalize) -> None:
    """Test that both modes of a normalization give the same values, with `assert`.

    Args:
        normalize: a function of z (M, D), running_mean (D,), running_std (D,) and
            training, True or False, that returns an array (M, D). For every batch
            without constant features the result for training=True must be that for
            training=False, up to rounding. Nothing else is asked of it; the result
            in evaluation need not be (z − running_mean)/running_std.
    """
    rng = np.random.default_rng(0)
    for scale, shift in (
        (1.0, 0.0),
        (20.0, 0.0),
        (0.01, 0.0),
        (1.0, 30.0),
        (1.0, -30.0),
    ):
        z = rng.normal(size=(5, 3)) * scale + shift
        mean, std = rng.normal(size=3), rng.uniform(0.5, 2.0, 3)
        expected = normalize(z, mean, std, False)
        got = normalize(z, mean, std, True)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7)


def _infer(z, mean, std):
    return (z - mean) / std


def _renorm(z, mean, std, r_limit=np.inf, d_limit=np.inf, ddof=0):
    own_mean, own_std = z.mean(0), z.std(0)
    r = np.clip(z.std(0, ddof=ddof) / std, 1 / r_limit, r_limit)
    d = np.clip((own_mean - mean) / std, -d_limit, d_limit)
    return (z - own_mean) / own_std * r + d


def one_formula(z, running_mean, running_std, training):
    """it uses the running statistics in both modes."""
    return _infer(z, running_mean, running_std)


def renorm(z, running_mean, running_std, training):
    """it is batch renormalization without limits."""
    if training:
        return _renorm(z, running_mean, running_std)
    return _infer(z, running_mean, running_std)


def only_scaled(z, running_mean, running_std, training):
    """it divides by the running root mean square and subtracts nothing, in both modes."""
    square = np.sqrt(running_std**2 + running_mean**2)
    return (z / z.std(0)) * (z.std(0) / square) if training else z / square


def fixed_scale(z, running_mean, running_std, training):
    """it normalizes by the running statistics and doubles the result, in both modes."""
    return 2 * _infer(z, running_mean, running_std)


def with_epsilon(z, running_mean, running_std, training):
    """it has ε = 0.5 beside the running variance under the root, in both modes."""
    std = np.sqrt(running_std**2 + 0.5)
    return _renorm(z, running_mean, std) if training else _infer(z, running_mean, std)


def batch_norm(z, running_mean, running_std, training):
    """it is batch normalization: the batch in training, the running statistics in evaluation."""
    if training:
        return (z - z.mean(0)) / z.std(0)
    return _infer(z, running_mean, running_std)


def without_r(z, running_mean, running_std, training):
    """it corrects the mean in training, and not the scale."""
    if training:
        return (z - z.mean(0)) / z.std(0) + (z.mean(0) - running_mean) / running_std
    return _infer(z, running_mean, running_std)


def without_d(z, running_mean, running_std, training):
    """it corrects the scale in training, and not the mean."""
    if training:
        return (z - z.mean(0)) / running_std
    return _infer(z, running_mean, running_std)


def r_limited(z, running_mean, running_std, training):
    """it limits r to 1/3 … 3 in training, which only batches of another spread show."""
    if training:
        return _renorm(z, running_mean, running_std, r_limit=3.0)
    return _infer(z, running_mean, running_std)


def r_limited_below(z, running_mean, running_std, training):
    """it never lets r fall below 1/5 in training, which only batches of small spread show."""
    if training:
        z_hat, r = (z - z.mean(0)) / z.std(0), np.maximum(z.std(0) / running_std, 0.2)
        return z_hat * r + (z.mean(0) - running_mean) / running_std
    return _infer(z, running_mean, running_std)


def d_limited(z, running_mean, running_std, training):
    """it limits d to ±5 in training, which only batches far from the running mean show."""
    if training:
        return _renorm(z, running_mean, running_std, d_limit=5.0)
    return _infer(z, running_mean, running_std)


def unbiased_r(z, running_mean, running_std, training):
    """its r has the unbiased standard deviation and its ẑ the biased one."""
    if training:
        return _renorm(z, running_mean, running_std, ddof=1)
    return _infer(z, running_mean, running_std)


def never_fails(normalize):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare its
    results in the two modes."""
    z = np.random.default_rng(1).normal(size=(5, 3))
    assert normalize(z, np.zeros(3), np.ones(3), True).shape == (5, 3)


def at_the_batch_statistics(normalize):
    """Your test seems to give the batch's own mean and standard deviation as running statistics. There
    batch normalization has no mismatch either."""
    z = np.random.default_rng(1).normal(size=(5, 3))
    mean, std = z.mean(0), z.std(0)
    a, b = (normalize(z, mean, std, mode) for mode in (True, False))
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def only_near(normalize):
    """Your test seems to stay near the running statistics, where a limit on r or d is never reached."""
    z = np.random.default_rng(1).normal(size=(5, 3))
    a, b = (normalize(z, np.full(3, 0.1), np.full(3, 0.9), m) for m in (True, False))
    np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def only_far_means(normalize):
    """Your test seems to move the mean only. A limit on r shows itself where the spread is another."""
    rng = np.random.default_rng(1)
    for shift in (0.0, 40.0, -40.0):
        z = rng.normal(size=(5, 3)) + shift
        a, b = (normalize(z, np.zeros(3), np.ones(3), m) for m in (True, False))
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)


def standard_output(normalize):
    """Your test seems to ask for mean 0 and variance 1 in training. A normalization that trains as it
    infers cannot have them in every batch."""
    z = np.random.default_rng(1).normal(size=(5, 3)) * 3 + 1
    y = normalize(z, np.zeros(3), np.ones(3), True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-7)
    np.testing.assert_allclose(y.std(0), 1, atol=1e-7)


def the_usual_formula(normalize):
    """Your test seems to ask for (z − running_mean)/running_std. The property compares the two modes,
    whatever they compute."""
    rng = np.random.default_rng(1)
    for scale, shift in ((1.0, 0.0), (20.0, 0.0), (0.01, 0.0), (1.0, 40.0)):
        z = rng.normal(size=(5, 3)) * scale + shift
        y = normalize(z, np.full(3, 0.5), np.full(3, 1.5), True)
        np.testing.assert_allclose(y, (z - 0.5) / 1.5, rtol=1e-7, atol=1e-7)


def asks_for_the_input(normalize):
    """Your test seems to run the training mode alone, with 0 and 1 as running statistics, and to ask for z back.
    The result in evaluation need not be z there: run both modes and compare."""
    rng = np.random.default_rng(1)
    for scale, shift in ((1.0, 0.0), (20.0, 0.0), (0.01, 0.0), (1.0, 40.0)):
        z = rng.normal(size=(5, 3)) * scale + shift
        y = normalize(z, np.zeros(3), np.ones(3), True)
        np.testing.assert_allclose(y, z, rtol=1e-7, atol=1e-7)


def over_a_grid(normalize):
    """The same, over a grid of scales and shifts."""
    rng = np.random.default_rng(2)
    for scale in (1e-3, 0.1, 1.0, 30.0):
        for shift in (-100.0, -1.0, 0.0, 2.0, 100.0):
            z = rng.normal(size=(4, 2)) * scale + shift
            mean, std = rng.normal(size=2), rng.uniform(0.5, 2.0, 2)
            gap = normalize(z, mean, std, True) - normalize(z, mean, std, False)
            assert np.abs(gap).max() < 1e-6


def with_hypothesis(normalize):
    """The same, with numbers that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    def check(seed, power, shift):
        z = np.random.default_rng(seed).normal(size=(6, 2)) * 10.0**power + shift
        pair = [
            normalize(z, np.array([0.3, -1]), np.array([0.7, 2]), m) for m in (1, 0)
        ]
        np.testing.assert_allclose(*pair, rtol=1e-6, atol=1e-6)

    given(st.integers(0, 99), st.integers(-2, 2), st.integers(-60, 60))(check)()
    for power, shift in ((2, 0), (-2, 0), (0, 60), (0, -60)):
        check(0, power, shift)


EXERCISE = PropertyExercise(
    id="minibatch-property",
    chapter="estimation/minibatch",
    title="A test for one forward pass",
    level="hard",
    reference=test_trains_as_it_infers,
    why="The property compares two calls, so it needs no formula. A limit on r shows itself where the spread "
    "of the batch is another, a limit on d where its mean is far away.",
    mistakes=variants(
        never_fails,
        at_the_batch_statistics,
        only_near,
        only_far_means,
        standard_output,
        the_usual_formula,
        asks_for_the_input,
    ),
    alternatives=(over_a_grid, with_hypothesis),
    hints=(
        "Call it twice on the same batch, in the two modes, and compare. Which batches would show a limit?",
        "Use a batch of large spread, one of small spread, and two with means far above and below.",
    ),
    correct=variants(one_formula, renorm, only_scaled, fixed_scale, with_epsilon),
    mutants=variants(
        batch_norm,
        without_r,
        without_d,
        r_limited,
        r_limited_below,
        d_limited,
        unbiased_r,
    ),
)
