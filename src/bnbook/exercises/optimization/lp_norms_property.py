"""Exercise: a test for a normalization of any order."""

import math

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_order_normalization(normalize) -> None:
    """Test a normalization: pass if it divides by the Lp scale of the batch, else fail an `assert`.

    Args:
        normalize: a function of (x, p), with x of shape (M, D) and p ≥ 1 or math.inf. It must return
            (x − μ)/s with s = (mean |x − μ|^p)^(1/p), the largest |x − μ| for p = ∞, and add no ε.
    """
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(9, 3))
    for p in (1.0, 2.0, 3.0, 4.5, math.inf):
        z_hat = normalize(x, p)
        assert z_hat.shape == x.shape
        assert np.abs(z_hat.mean(axis=0)).max() < 1e-12
        size = np.abs(z_hat)
        power = size.max(axis=0) if math.isinf(p) else (size**p).mean(axis=0)
        assert np.abs(power - 1).max() < 1e-12
        again = normalize(1e-3 * x + 5, p)  # scale and shift cancel
        assert np.abs(again - z_hat).max() < 1e-9
        assert np.abs(normalize(-x, p) + z_hat).max() < 1e-9


def plain(x, p):
    """it follows the formula."""
    c = x - x.mean(axis=0)
    size = np.abs(c)
    if math.isinf(p):
        return c / size.max(axis=0)
    return c / (size**p).mean(axis=0) ** (1 / p)


def scaled_first(x, p):
    """it divides by the largest entry before it takes powers, which no power overflows."""
    c = x - x.mean(axis=0)
    c = c / np.abs(c).max(axis=0)
    return c if math.isinf(p) else c / (np.abs(c) ** p).mean(axis=0) ** (1 / p)


def by_norm(x, p):
    """it uses NumPy's vector norms."""
    c = x - x.mean(axis=0)
    power = 0.0 if math.isinf(p) else 1 / p
    return c / np.linalg.norm(c, ord=p, axis=0) * len(x) ** power


def not_centred(x, p):
    """it does not subtract the mean."""
    size = np.abs(x)
    return x / (
        size.max(axis=0) if math.isinf(p) else (size**p).mean(axis=0) ** (1 / p)
    )


def sum_for_mean(x, p):
    """it divides by the norm itself, without the factor M^(1/p)."""
    c = x - x.mean(axis=0)
    return c / np.linalg.norm(c, ord=p, axis=0)


def always_two(x, p):
    """it divides by the standard deviation for every p."""
    return (x - x.mean(axis=0)) / x.std(axis=0)


def with_eps(x, p):
    """it adds 1e-3 to the scale, which matters for small inputs."""
    c = x - x.mean(axis=0)
    size = np.abs(c)
    scale = size.max(axis=0) if math.isinf(p) else (size**p).mean(axis=0) ** (1 / p)
    return c / (scale + 1e-3)


def signed_power(x, p):
    """it leaves out the absolute value, which shows for odd p."""
    c = x - x.mean(axis=0)
    if math.isinf(p):
        return c / np.abs(c).max(axis=0)
    power = np.abs(c) ** p * (np.sign(c) if p % 2 == 1 else 1)
    return c / np.abs(power.mean(axis=0)) ** (1 / p)


def maximum_for_infinity(x, p):
    """it uses max(x − μ) for p = ∞, which is wrong where the largest deviation is negative."""
    c = x - x.mean(axis=0)
    return c / c.max(axis=0) if math.isinf(p) else plain(x, p)


def whole_array(x, p):
    """it takes one scale for all features."""
    c = x - x.mean(axis=0)
    size = np.abs(c)
    return c / (size.max() if math.isinf(p) else (size**p).mean() ** (1 / p))


def magnitudes(x, p):
    """it returns |ẑ|."""
    return np.abs(plain(x, p))


def _batch():
    return np.random.default_rng(1).exponential(size=(8, 2))


def only_the_mean(normalize):
    """Your test seems to check only that the mean is 0. Any scale passes that."""
    assert np.abs(normalize(_batch(), 3.0).mean(axis=0)).max() < 1e-9


def only_two(normalize):
    """Your test seems to use p = 2 only. Other orders, and p = ∞, can be wrong independently of it."""
    z_hat = normalize(_batch(), 2.0)
    assert np.abs((z_hat**2).mean(axis=0) - 1).max() < 1e-9
    assert np.abs(z_hat.mean(axis=0)).max() < 1e-9


def no_infinity(normalize):
    """Your test seems to leave out p = ∞."""
    for p in (1.0, 3.0):
        z_hat = normalize(_batch(), p)
        assert np.abs((np.abs(z_hat) ** p).mean(axis=0) - 1).max() < 1e-9
        assert np.abs(z_hat.mean(axis=0)).max() < 1e-9


def skewed_upwards(normalize):
    """Your test uses p = ∞, but on data whose largest deviation lies above the mean in every feature.
    There max(x − μ) and max |x − μ| are one: take data with an outlier below too, for example −x."""
    x = 0.01 * _batch()
    for p in (1.0, 2.0, 3.0, math.inf):
        np.testing.assert_allclose(normalize(x, p), plain(x, p), atol=1e-9)


def _two_only(calls):
    return all(c["p"] == 2 for c in calls)


def _finite_only(calls):
    return all(math.isfinite(c["p"]) for c in calls)


def _never_below(calls):
    deviations = [c["x"] - c["x"].mean(axis=0) for c in calls if math.isinf(c["p"])]
    return bool(deviations) and all(
        (d.max(axis=0) >= -d.min(axis=0) * (1 - 1e-9)).all() for d in deviations
    )


def only_invariance(normalize):
    """Your test seems to check only that scale and shift of the input cancel. That holds for many
    scales: check also that mean |ẑ|^p is 1."""
    for p in (1.0, 2.0, 3.0, math.inf):
        one, two = normalize(_batch(), p), normalize(_batch() * 1e-3 + 7, p)
        assert np.abs(one - two).max() < 1e-7


def too_strict(normalize):
    """Your test seems to compare digit by digit. Rounding differs between correct implementations."""
    assert (normalize(_batch(), 3.0) == plain(_batch(), 3.0)).all()


def by_comparison(normalize):
    """The same, against a formula of its own, on batches that tell the mistakes apart."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.exponential(size=(7, 3)) * (-1) ** seed * 0.01
        for p in (1.0, 2.0, 3.0, math.inf):
            np.testing.assert_allclose(normalize(x, p), plain(x, p), atol=1e-9)


EXERCISE = PropertyExercise(
    id="lp-norms-property",
    chapter="optimization/lp_norms",
    title="A test for every order",
    level="core",
    reference=test_order_normalization,
    why="Mean 0 and mean |ẑ|^p = 1 fix the size, an input scaled down reveals an ε, and an asymmetric batch with "
    "both signs reveals missing absolute values.",
    mistakes=(
        Variant.of(only_the_mean),
        Variant.of(only_two, seen=_two_only),
        Variant.of(no_infinity, seen=_finite_only),
        Variant.of(skewed_upwards, seen=_never_below),
        *variants(only_invariance, too_strict),
    ),
    alternatives=(by_comparison,),
    hints=(
        "What are the mean of ẑ and the mean of |ẑ|^p? Ask for several p, and for p = ∞ the largest |ẑ|.",
        "Normalize a scaled and shifted copy, and −x: the first gives the same ẑ, the second −ẑ.",
    ),
    correct=variants(plain, scaled_first, by_norm),
    mutants=variants(
        not_centred,
        sum_for_mean,
        always_two,
        with_eps,
        signed_power,
        maximum_for_infinity,
        whole_array,
        magnitudes,
    ),
)
