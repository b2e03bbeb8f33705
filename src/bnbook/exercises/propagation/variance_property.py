"""Exercise: a test for an initialization."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_initialization(draw) -> None:
    """Test an initialization for ReLU: pass if it keeps the forward variance, else fail an `assert`.

    Args:
        draw: a function of (rng, fan_in, fan_out), with rng a numpy.random.Generator. It must return
            independent, centred weights of shape (fan_in, fan_out) and variance 2/fan_in. Their
            distribution is free: normal, uniform, two signs, …
    """
    rng = np.random.default_rng(0)
    for fan_in, fan_out in [(300, 80), (80, 300)]:
        weights = draw(rng, fan_in, fan_out)
        assert weights.shape == (fan_in, fan_out)
        scaled = weights * np.sqrt(fan_in / 2)
        assert abs(scaled.mean()) < 0.05
        assert abs((scaled**2).mean() - 1) < 0.1
        # Independence: no row, column or second draw repeats another.
        for products in (scaled[1:] * scaled[:-1], scaled[:, 1:] * scaled[:, :-1]):
            assert abs(products.mean()) < 0.05
        again = draw(rng, fan_in, fan_out) * np.sqrt(fan_in / 2)
        assert abs((again * scaled).mean()) < 0.05


def normal(rng, fan_in, fan_out):
    """it draws from a normal distribution."""
    return rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / fan_in)


def uniform(rng, fan_in, fan_out):
    """it draws from a uniform distribution with limit √(6/fan_in)."""
    limit = np.sqrt(6 / fan_in)
    return rng.uniform(-limit, limit, (fan_in, fan_out))


def signs(rng, fan_in, fan_out):
    """it draws ±√(2/fan_in)."""
    return (2 * rng.integers(0, 2, (fan_in, fan_out)) - 1) * np.sqrt(2 / fan_in)


def fan_out(rng, fan_in, fan_out):
    """it uses the fan-out, which keeps the gradient and not the forward variance, and is invisible
    where the fans are equal."""
    return rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / fan_out)


def average_fan(rng, fan_in, fan_out):
    """it uses 4/(fan_in + fan_out), which is invisible where the fans are equal."""
    return rng.normal(size=(fan_in, fan_out)) * np.sqrt(4 / (fan_in + fan_out))


def for_linear(rng, fan_in, fan_out):
    """it uses 1/fan_in, which is right without ReLU."""
    return rng.normal(size=(fan_in, fan_out)) * np.sqrt(1 / fan_in)


def variance_as_deviation(rng, fan_in, fan_out):
    """it uses 2/fan_in as the standard deviation."""
    return rng.normal(size=(fan_in, fan_out)) * 2 / fan_in


def limit_as_deviation(rng, fan_in, fan_out):
    """it draws uniformly with limit √(2/fan_in), whose variance is a third of 2/fan_in."""
    limit = np.sqrt(2 / fan_in)
    return rng.uniform(-limit, limit, (fan_in, fan_out))


def transposed(rng, fan_in, fan_out):
    """it returns the shape (fan_out, fan_in), which is invisible where the fans are equal."""
    return normal(rng, fan_in, fan_out).T


def positive(rng, fan_in, fan_out):
    """it returns positive weights with the right second moment."""
    return abs(normal(rng, fan_in, fan_out))


def copied_columns(rng, fan_in, fan_out):
    """it gives every neuron the same weights."""
    return np.repeat(normal(rng, fan_in, 1), fan_out, axis=1)


def frozen(rng, fan_in, fan_out):
    """it ignores the generator: every layer of the same shape gets the same weights."""
    return normal(np.random.default_rng(5), fan_in, fan_out)


def _draws(draw, fan_in=200, fan_out=100):
    return draw(np.random.default_rng(1), fan_in, fan_out)


def never_fails(draw):
    """Your test asserts nothing that a wrong initialization violates: compare the variance with
    2/fan_in."""
    assert np.isfinite(_draws(draw)).all()


def equal_fans(draw):
    """Your test seems to use layers with as many inputs as outputs. There every rule that confuses
    the fans is right: use unequal ones."""
    weights = _draws(draw, 200, 200)
    assert weights.shape == (200, 200)
    assert abs(weights.mean()) < 0.01
    assert abs(weights.var() * 100 - 1) < 0.1


def only_the_variance(draw):
    """Your test seems to check only the variance around the mean. Weights that are not centred can
    have any: check the mean, or the second moment together with it."""
    assert abs(_draws(draw).std() ** 2 * 100 - 1) < 0.5


def only_the_shape(draw):
    """Your test seems to check only the shape."""
    assert _draws(draw).shape == (200, 100)


def no_independence(draw):
    """Your test seems to check mean, variance and shape only. Neurons with identical weights have
    all three right, and so has a generator that is ignored: compare columns, and two draws."""
    weights = _draws(draw)
    assert weights.shape == (200, 100)
    assert abs(weights.mean()) < 0.02
    assert abs((weights**2).mean() * 100 - 1) < 0.25


def too_strict(draw):
    """Your test seems to demand a sample variance closer to 2/fan_in than its sample allows. A sample
    fluctuates: for n normal weights by about √(2/n), relatively. Allow for that, or draw more."""
    np.testing.assert_allclose((_draws(draw) ** 2).mean(), 0.01, rtol=1e-6)


def only_normal(draw):
    """Your test seems to demand a normal distribution. Uniform weights and signs have the right
    variance too."""
    weights = _draws(draw) * 10
    assert abs((weights**4).mean() - 3) < 0.5


def by_the_layer(draw):
    """The same, watching a layer at work: outputs have variance 2 E a², and gradients fan_out/fan_in
    times that."""
    rng = np.random.default_rng(3)
    for fan_in, fan_out in [(400, 100), (100, 400)]:
        weights = [draw(rng, fan_in, fan_out) for _ in range(4)]
        assert all(w.shape == (fan_in, fan_out) for w in weights)
        stacked = np.concatenate(weights, axis=1)
        a = np.ones(fan_in) + rng.normal(size=(50, fan_in))
        s = a @ stacked
        assert abs((s**2).mean() / (2 * (a**2).mean()) - 1) < 0.3
        gram = stacked.T @ stacked / 2
        off = gram - np.diag(np.diag(gram))
        assert abs(off).max() < 0.75
        assert abs(stacked.mean()) * np.sqrt(fan_in / 2) < 0.05


EXERCISE = PropertyExercise(
    id="variance-property",
    chapter="propagation/variance",
    title="A test for an initialization",
    level="hard",
    reference=test_initialization,
    why="Unequal fans tell the rules apart, the mean and the second moment find wrong scales, and products "
    "of neighbours and of two draws find weights that are not independent.",
    mistakes=variants(
        never_fails,
        equal_fans,
        only_the_variance,
        only_the_shape,
        no_independence,
        too_strict,
        only_normal,
    ),
    alternatives=(by_the_layer,),
    hints=(
        "Draw a few ten thousand weights and compare their mean square with 2/fan_in, with a tolerance of "
        "several percent. Use fan_in ≠ fan_out, both ways round.",
        "Check the shape, the mean, and that neighbouring columns, neighbouring rows and two draws are "
        "uncorrelated.",
    ),
    correct=variants(normal, uniform, signs),
    mutants=variants(
        fan_out,
        average_fan,
        for_linear,
        variance_as_deviation,
        limit_as_deviation,
        transposed,
        positive,
        copied_columns,
        frozen,
    ),
)
