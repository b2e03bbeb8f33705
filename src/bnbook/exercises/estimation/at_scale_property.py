"""Exercise: a test for a conversion between layers with different ε."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_conversion_of_eps(convert) -> None:
    """Test a conversion of a batch normalization to another ε: pass if it is right, else fail an `assert`.

    Args:
        convert: a function of (gamma, beta, mean, var, eps, new_eps); the first four have
            shape (C,), the last two are positive numbers. It must return new
            (gamma, beta, mean, var) for a layer with ε = new_eps, such that

            - at inference, γ (x − mean)/√(var + ε) + β is the same function of x;
            - mean and var, the running statistics, are as before;
            - its arguments are not changed.
    """
    rng = np.random.default_rng(0)
    for eps, new_eps in [(1e-5, 1e-3), (0.3, 0.01)]:
        gamma, beta, mean = rng.normal(size=(3, 4))
        var = rng.uniform(0.01, 2, 4)
        kept = gamma.copy(), beta.copy(), mean.copy(), var.copy()
        new = convert(gamma, beta, mean, var, eps, new_eps)
        for after, before in zip((gamma, beta, mean, var), kept, strict=True):
            assert np.array_equal(after, before)
        x = rng.normal(size=(5, 4))
        old_y = gamma * (x - mean) / np.sqrt(var + eps) + beta
        new_y = new[0] * (x - new[2]) / np.sqrt(new[3] + new_eps) + new[1]
        assert np.allclose(new_y, old_y, rtol=1e-9, atol=1e-12)
        assert np.allclose(new[2], mean) and np.allclose(new[3], var)


def _inference(x, gamma, beta, mean, var, eps):
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def rescaled(gamma, beta, mean, var, eps, new_eps):
    """it multiplies γ by √((var + new ε)/(var + ε))."""
    return (
        gamma * np.sqrt((var + new_eps) / (var + eps)),
        beta.copy(),
        mean.copy(),
        var.copy(),
    )


def through_the_slope(gamma, beta, mean, var, eps, new_eps):
    """it finds the slope of the old layer, and the γ that gives it in the new one."""
    slope = gamma / np.sqrt(var + eps)
    return slope * np.sqrt(var + new_eps), beta + 0.0, mean + 0.0, var + 0.0


def unchanged(gamma, beta, mean, var, eps, new_eps):
    """it leaves everything as it is."""
    return gamma.copy(), beta.copy(), mean.copy(), var.copy()


def upside_down(gamma, beta, mean, var, eps, new_eps):
    """it divides γ by the factor."""
    return rescaled(gamma, beta, mean, var, new_eps, eps)


def not_rooted(gamma, beta, mean, var, eps, new_eps):
    """it forgets the root."""
    return (
        gamma * (var + new_eps) / (var + eps),
        beta.copy(),
        mean.copy(),
        var.copy(),
    )


def beta_too(gamma, beta, mean, var, eps, new_eps):
    """it multiplies β by the factor too."""
    factor = np.sqrt((var + new_eps) / (var + eps))
    return gamma * factor, beta * factor, mean.copy(), var.copy()


def in_the_variance(gamma, beta, mean, var, eps, new_eps):
    """it puts the difference into the variance, which training would go on with."""
    return gamma.copy(), beta.copy(), mean.copy(), var + eps - new_eps


def mean_folded(gamma, beta, mean, var, eps, new_eps):
    """it moves the mean into β, so that the running mean is lost."""
    gamma, beta, mean, var = rescaled(gamma, beta, mean, var, eps, new_eps)
    return gamma, beta - gamma * mean / np.sqrt(var + new_eps), 0 * mean, var


def without_sign(gamma, beta, mean, var, eps, new_eps):
    """it loses the sign of γ."""
    gamma, beta, mean, var = rescaled(gamma, beta, mean, var, eps, new_eps)
    return np.abs(gamma), beta, mean, var


def in_place(gamma, beta, mean, var, eps, new_eps):
    """it changes γ of the layer that it was given."""
    gamma *= np.sqrt((var + new_eps) / (var + eps))
    return gamma, beta.copy(), mean.copy(), var.copy()


def averaged_factor(gamma, beta, mean, var, eps, new_eps):
    """it uses one factor for all channels, that of the mean variance."""
    factor = np.sqrt((var.mean() + new_eps) / (var.mean() + eps))
    return gamma * factor, beta.copy(), mean.copy(), var.copy()


def _layer(seed=1, *, positive=False, same=False):
    rng = np.random.default_rng(seed)
    gamma, beta, mean = rng.normal(size=(3, 3))
    var = np.full(3, 0.4) if same else rng.uniform(0.1, 2, 3)
    return np.abs(gamma) + 0.1 if positive else gamma, beta, mean, var


def only_the_shapes(convert):
    """Your test seems to check only the shapes of what comes back."""
    assert all(v.shape == (3,) for v in convert(*_layer(), 0.1, 0.3))


def only_back_and_forth(convert):
    """Your test seems to convert there and back only. A conversion that changes nothing passes, and so does one
    that is wrong by a factor there and by its inverse back: compare the functions of x, too."""
    layer = [v.copy() for v in _layer()]
    new = convert(*[v.copy() for v in layer], 0.1, 0.3)
    back = convert(*[v.copy() for v in new], 0.3, 0.1)
    assert all(np.allclose(a, b) for a, b in zip(back, layer, strict=True))


def only_the_function(convert):
    """Your test compares only what the layers compute at inference. The running statistics must stay as they are:
    training goes on with them."""
    layer = _layer()
    new = convert(*[v.copy() for v in layer], 0.1, 0.3)
    x = np.random.default_rng(2).normal(size=(4, 3))
    assert np.allclose(_inference(x, *new, 0.3), _inference(x, *layer, 0.1))


def at_the_mean(convert):
    """Your test seems to evaluate the layers at the running mean only, where both give β."""
    layer = _layer()
    new = convert(*[v.copy() for v in layer], 0.1, 0.3)
    y = _inference(layer[2][None], *new, 0.3)
    assert np.allclose(y, layer[1]) and np.allclose(new[2:], layer[2:])


def positive_gamma(convert):
    """Your test seems to use positive γ only. A conversion that loses the sign passes."""
    layer = _layer(positive=True)
    given = [v.copy() for v in layer]
    new = convert(*given, 0.1, 0.3)
    assert all(np.array_equal(a, b) for a, b in zip(given, layer, strict=True))
    x = np.random.default_rng(2).normal(size=(4, 3))
    assert np.allclose(_inference(x, *new, 0.3), _inference(x, *layer, 0.1))
    assert np.allclose(new[2:], layer[2:])


def by_slopes(convert):
    """The same, by the slope and the value at 0 of each channel."""
    rng = np.random.default_rng(7)
    gamma, beta, mean = rng.normal(size=(3, 6))
    var = rng.uniform(0.05, 3, 6)
    originals = gamma.copy(), beta.copy(), mean.copy(), var.copy()
    g, b, m, v = convert(gamma, beta, mean, var, 0.2, 0.02)
    for now, before in zip((gamma, beta, mean, var), originals, strict=True):
        assert (now == before).all()
    slope = originals[0] / np.sqrt(originals[3] + 0.2)
    assert np.allclose(g / np.sqrt(v + 0.02), slope)
    assert np.allclose(b - m * slope, originals[1] - originals[2] * slope)
    assert np.allclose(m, originals[2]) and np.allclose(v, originals[3])


EXERCISE = PropertyExercise(
    id="at-scale-property",
    chapter="estimation/at_scale",
    title="A test for a conversion",
    level="hard",
    reference=test_conversion_of_eps,
    why="There and back is not enough: the function of x, the running statistics and the arguments must be "
    "compared as well.",
    mistakes=variants(
        only_the_shapes,
        only_back_and_forth,
        only_the_function,
        at_the_mean,
        positive_gamma,
    ),
    alternatives=(by_slopes,),
    hints=(
        "List what must be equal before and after. Which wrong conversions pass a test of there and back?",
        "Compare γ (x − mean)/√(var + ε) + β at random x, with γ of both signs; then the statistics; then the "
        "arguments.",
    ),
    correct=variants(rescaled, through_the_slope),
    mutants=variants(
        unchanged,
        upside_down,
        not_rooted,
        beta_too,
        in_the_variance,
        mean_folded,
        without_sign,
        in_place,
        averaged_factor,
    ),
)
