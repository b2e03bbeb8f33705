"""Exercise: a test that a normalization does not see the scale of its input."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_scale_free(normalize) -> None:
    """Test a normalization: pass if the scale of each feature makes no difference, else fail an `assert`.

    Args:
        normalize: a function of z (M, D), floating point, that returns an array (M, D). For
            s > 0, z and s z must have the same result, also if s differs between features.
            Results may still depend on s by rounding. Nothing else is asked of it; in particular
            it need not subtract a mean, or divide by a standard deviation.
    """
    rng = np.random.default_rng(0)
    z = rng.normal(0.7, 1.0, (6, 4))
    expected = normalize(z)
    assert expected.shape == z.shape
    for s in (1e-6, 0.3, 1e6, np.array([1e-4, 0.5, 30.0, 1e4])):
        np.testing.assert_allclose(normalize(s * z), expected, rtol=1e-7, atol=1e-9)


def batch_norm_exact(z):
    """it is batch normalization with ε = 0."""
    return (z - z.mean(0)) / z.std(0)


def mean_magnitude(z):
    """it centres and divides by the mean magnitude, the L1 normalization."""
    centred = z - z.mean(0)
    return centred / np.abs(centred).mean(0)


def root_mean_square(z):
    """it divides by the root mean square and subtracts nothing."""
    return z / np.sqrt((z**2).mean(0))


def with_eps(z):
    """it adds ε = 1e-5 to the variance, which is everything for inputs that are small enough."""
    return (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)


def only_centred(z):
    """it subtracts the mean and leaves the scale."""
    return z - z.mean(0)


def by_variance(z):
    """it divides by the variance, so that the result shrinks where the input grows."""
    return (z - z.mean(0)) / z.var(0)


def one_spread(z):
    """it divides by one standard deviation of all features, which is blind to a common scale only."""
    return (z - z.mean(0)) / (z - z.mean(0)).std()


def capped(z):
    """it never divides by less than 0.1."""
    return (z - z.mean(0)) / np.maximum(z.std(0), 0.1)


def clipped_input(z):
    """it clips its input at ±1000 before it normalizes, which only large inputs show."""
    return batch_norm_exact(np.clip(z, -1000, 1000))


def guarded(z):
    """it leaves the scale alone where all entries are small, as a guard against 0/0. One large feature
    hides that: all must be small together."""
    centred = z - z.mean(0)
    return centred if z.std() < 1e-3 else centred / z.std(0)


def frozen(z):
    """it divides by statistics that it keeps from elsewhere."""
    return (z - 0.7) / 1.1


def _batch():
    return np.random.default_rng(1).normal(0.7, 1.0, (6, 4))


def never_fails(normalize):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare its
    results for z and s z."""
    assert normalize(_batch()).shape == (6, 4)


def one_common_scale(normalize):
    """Your test seems to give all features the same scale. A normalization that divides by one spread of
    all features passes that: let s differ between features."""
    z = _batch()
    for s in (1e-6, 0.3, 1e6):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-7, atol=1e-9)


def only_moderate(normalize):
    """Your test seems to use moderate scales only. An ε, a floor under σ or a clipping shows itself only
    where inputs are very small or very large."""
    z = _batch()
    for s in (2.0, 5.0, np.array([1.0, 2.0, 3.0, 4.0])):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-4, atol=1e-4)


def only_small(normalize):
    """Your test seems to use small scales only, and does not see what happens to large inputs."""
    z = _batch()
    for s in (1e-6, 0.3, np.array([1e-4, 0.5, 0.9, 1e-3])):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-7, atol=1e-9)


def only_large(normalize):
    """Your test seems to use large scales only, where no ε and no floor under σ is seen."""
    z = _batch() * 10
    for s in (10.0, 1e6, np.array([1.0, 30.0, 1e4, 3.0])):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-6, atol=1e-6)


def one_vector(normalize):
    """Your test seems never to make all features small together. What a normalization does to a batch
    that is small as a whole, a feature of ordinary or large size hides: use a common s as well."""
    z, s = _batch(), np.array([1e-6, 1.0, 1e3, 1e6])
    np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-6, atol=1e-8)


def _scales(calls):
    """Factors, one per feature, between the inputs of two calls; of calls so related."""
    found, kept = [], [c["z"] for c in calls if isinstance(c["z"], np.ndarray)][:60]
    for n, one in enumerate(kept):
        for other in kept[:n]:
            if one.shape != other.shape or one.ndim != 2 or len(one) < 2:
                continue
            at = np.abs(other).argmax(axis=0), np.arange(one.shape[1])
            if other[at].all() and np.isfinite(s := one[at] / other[at]).all():
                if np.allclose(one, s * other, rtol=1e-6, atol=0):
                    found.append(s)
    return found


def _some_negative(calls):
    return any((s < 0).any() for s in _scales(calls))


def _positive_only(calls):
    scales = _scales(calls)
    return any((s != 1).any() for s in scales) and all((s > 0).all() for s in scales)


def _common_only(calls):
    scales = _scales(calls)
    return bool(scales) and all(np.allclose(s, s[0]) for s in scales)


def _never_small(calls):
    return all(np.std(c["z"]) > 1e-3 for c in calls)


def _never_large(calls):
    return all(np.abs(c["z"]).max() < 1000 for c in calls)


def _moderate(calls):
    return _never_large(calls) and all(c["z"].std(0).min() > 1e-3 for c in calls)


def negative_scale(normalize):
    """Your test seems to use a negative s. Scale-free is meant for s > 0: a negative s turns the sign of
    the result around, in correct implementations too."""
    z = _batch()
    for s in (1e-6, -1.0, 1e6, np.array([1e-4, 0.5, 30.0, 1e4])):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-6, atol=1e-8)


def unit_variance(normalize):
    """Your test seems to ask for mean 0 and variance 1. Scale-free normalizations need not have them,
    and the property is about two inputs, not one."""
    for s in (1e-6, 1.0, 1e6, np.array([1e-4, 0.5, 30.0, 1e4])):
        out = normalize(s * _batch())
        np.testing.assert_allclose(out.mean(0), 0, atol=1e-7)
        np.testing.assert_allclose(out.std(0), 1, rtol=1e-7)


def bit_by_bit(normalize):
    """Your test seems to demand equal bits. s z is rounded, so leave a little room."""
    z = _batch()
    for s in (1e-6, 0.3, 1e6, np.array([1e-4, 0.5, 30.0, 1e4])):
        assert (normalize(s * z) == normalize(z)).all()


def feature_by_feature(normalize):
    """The same, one feature rescaled at a time, then all of them."""
    z = np.random.default_rng(2).normal(0.5, 2.0, (5, 3))
    before = normalize(z)
    for j in range(3):
        for s in (1e-7, 1e-3, 1e3, 1e7):
            scaled = z.copy()
            scaled[:, j] *= s
            assert np.abs(normalize(scaled) - before).max() < 1e-6
    for s in (1e-5, 1e5):
        assert np.abs(normalize(s * z) - before).max() < 1e-6


def with_hypothesis(normalize):
    """The same, with scales that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    @given(st.lists(st.integers(-6, 6), min_size=3, max_size=3))
    def holds(powers):
        z = np.random.default_rng(3).normal(1.0, 1.0, (7, 3))
        s = 10.0 ** np.array(powers)
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-6, atol=1e-8)

    holds()
    z = np.random.default_rng(4).normal(1.0, 1.0, (7, 3))
    for s in (1e-6, 1e6, np.array([1e-6, 1.0, 1e6])):
        np.testing.assert_allclose(normalize(s * z), normalize(z), rtol=1e-6, atol=1e-8)


EXERCISE = PropertyExercise(
    id="robustness-property",
    chapter="optimization/robustness",
    title="A test for blindness to scale",
    level="hard",
    reference=test_scale_free,
    why="The property compares two calls, so no formula of the normalization is needed. An ε shows itself for "
    "small inputs, a clipping for large ones, a shared spread when the features are scaled apart, and a guard "
    "against 0/0 when all of them are small together.",
    mistakes=(
        Variant.of(never_fails),
        Variant.of(one_common_scale, seen=_common_only),
        Variant.of(only_moderate, seen=_moderate),
        Variant.of(only_small, seen=_never_large),
        Variant.of(only_large, seen=_never_small),
        Variant.of(one_vector, seen=_never_small),
        Variant.of(unit_variance),
        Variant.of(negative_scale, seen=_some_negative),
        Variant.of(bit_by_bit, seen=_positive_only),
    ),
    alternatives=(feature_by_feature, with_hypothesis),
    hints=(
        "Normalize z and s z, and compare. Which s would reveal an ε of 1e-5? Which a clipping?",
        "Use one very small s, one very large s, and one vector s with a different factor for each feature.",
    ),
    correct=variants(batch_norm_exact, mean_magnitude, root_mean_square),
    mutants=variants(
        with_eps,
        only_centred,
        by_variance,
        one_spread,
        capped,
        clipped_input,
        guarded,
        frozen,
    ),
)
