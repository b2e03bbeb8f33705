"""Exercise: a test for the gradient of a scale-invariant loss."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_scale_invariant(gradient) -> None:
    """Test whether a gradient can be that of a scale-invariant loss: pass if so, else fail an `assert`.

    Args:
        gradient: a function of w, (4,), float64 and not 0, that returns ∂L/∂w, (4,). If
            L(cw) = L(w) for every c > 0, two statements hold for it at every w.
    """
    rng = np.random.default_rng(0)
    for length in (0.01, 1.0, 30.0):
        for _ in range(3):
            w = rng.normal(size=4)
            w *= length / np.linalg.norm(w)
            g = gradient(w)
            size = np.linalg.norm(g)
            assert abs(w @ g) <= 1e-9 * size * length  # Euler
            for factor in (0.3, 7.0):  # degree −1
                np.testing.assert_allclose(
                    gradient(factor * w), g / factor, rtol=0, atol=1e-9 * size / factor
                )


_SPREAD = np.array([0.2, 0.5, 1.1, 1.7])
_rng = np.random.default_rng(813)
_X, _T = _rng.normal(size=(9, 4)), _rng.normal(size=9)
_AIM = np.array([0.5, -1.0, 0.3, 0.8])


def quotient(w):
    """it belongs to a Rayleigh quotient, ½ Σ λ w²/Σ w²."""
    norm2 = w @ w
    return (_SPREAD - (_SPREAD * w * w).sum() / norm2) * w / norm2


def _layer(w, eps):
    z = _X @ w
    z = z - z.mean()
    std = np.sqrt((z * z).mean() + eps)
    z_hat, count = z / std, len(z)
    dy = z_hat - _T
    dz = (dy - dy.mean() - z_hat * (dy @ z_hat) / count) / std
    return _X.T @ dz


def normalized_layer(w):
    """it belongs to a neuron with batch normalization, ε = 0 and the squared error."""
    return _layer(w, 0.0)


def negative_cosine(w):
    """it belongs to minus the cosine of the angle between w and a fixed vector."""
    length = np.sqrt(w @ w)
    return -(_AIM - w * (w @ _AIM) / length**2) / length


def with_decay(w):
    """it contains weight decay, which is not orthogonal to w."""
    return quotient(w) + 0.05 * w


def radial(w):
    """it belongs to log ‖w‖: it scales as it should, and points along w."""
    return w / (w @ w)


def degree_zero(w):
    """it is orthogonal to w and does not shrink when w grows."""
    return negative_cosine(w) * np.sqrt(w @ w)


def degree_minus_two(w):
    """it is orthogonal to w and falls with ‖w‖², not with ‖w‖."""
    return quotient(w) / np.sqrt(w @ w)


def unit_vectors_only(w):
    """it leaves out the division by ‖w‖², so it is right for unit vectors only."""
    return (_SPREAD - (_SPREAD * w * w).sum()) * w


def layer_with_eps(w):
    """it belongs to batch normalization with ε = 0.001, which short weights feel."""
    return _layer(w, 1e-3)


def layer_with_small_eps(w):
    """it belongs to batch normalization with ε = 1e-5, the usual one, which only weights much shorter
    than 1 feel."""
    return _layer(w, 1e-5)


def constant(w):
    """it belongs to a linear loss."""
    return _AIM.copy()


def _draw(length=1.0):
    w = np.random.default_rng(5).normal(size=4)
    return length * w / np.linalg.norm(w)


def never_fails(gradient):
    """Your test asserts nothing that a wrong gradient violates. State what scale invariance demands."""
    assert np.isfinite(gradient(_draw(2.0))).all()


def only_orthogonality(gradient):
    """Your test seems to check only that the gradient is orthogonal to w. It must also shrink like
    1/‖w‖."""
    for length in (0.01, 1.0, 30.0):
        w = _draw(length)
        g = gradient(w)
        assert abs(w @ g) <= 1e-9 * np.linalg.norm(g) * length


def only_scaling(gradient):
    """Your test seems to check only that the gradient shrinks like 1/‖w‖. The gradient of log ‖w‖ does
    that too: it must also be orthogonal to w."""
    for length in (0.01, 1.0):
        w = _draw(length)
        g = gradient(w)
        np.testing.assert_allclose(
            gradient(7 * w), g / 7, rtol=0, atol=1e-9 * np.linalg.norm(g)
        )


def only_unit_vectors(gradient):
    """Your test seems to look at unit vectors only. A forgotten ‖w‖ does not show there: use several
    lengths."""
    w = _draw()
    g = gradient(w)
    assert abs(w @ g) <= 1e-9 * np.linalg.norm(g)


def long_weights_only(gradient):
    """Your test seems to use long weights only. What ε does shows where the weights are short."""
    for length in (1e4, 3e4):
        w = _draw(length)
        g = gradient(w)
        size = np.linalg.norm(g)
        assert abs(w @ g) <= 1e-9 * size * length
        np.testing.assert_allclose(gradient(7 * w), g / 7, rtol=0, atol=1e-9 * size)


def not_short_enough(gradient):
    """Your test sees an ε of 0.001 and not the usual 1e-5. What ε does grows as the weights get shorter:
    use lengths far below 1, and tolerances near rounding."""
    w = np.array([1.0, 2.0, 3.0, 4.0])
    g = gradient(w)
    size = np.linalg.norm(g)
    assert abs(w @ g) <= 2e-5 * np.linalg.norm(w) * size
    np.testing.assert_allclose(gradient(2 * w), g / 2, rtol=0.01, atol=0)


def _unit(calls):
    return all(abs(np.linalg.norm(c["w"]) - 1) < 1e-6 for c in calls)


def _long(calls):
    return all(np.linalg.norm(c["w"]) > 0.3 for c in calls)


def too_strict(gradient):
    """Your test seems to demand exact equality. Rounding leaves about 1e-16 of the largest number
    involved."""
    for length in (0.01, 1.0, 30.0):
        w = _draw(length)
        assert w @ gradient(w) == 0
        assert (gradient(7 * w) == gradient(w) / 7).all()


def by_differences(gradient):
    """The same, by how the gradient at unit vectors continues along rays."""
    rng = np.random.default_rng(9)
    for _ in range(4):
        u = rng.normal(size=4)
        u /= np.linalg.norm(u)
        at_one = gradient(u)
        size = np.linalg.norm(at_one)
        for length in (1e-2, 0.5, 1.0, 20.0):
            g = length * gradient(length * u)
            assert np.linalg.norm(g - at_one) <= 1e-8 * size
            assert abs(u @ g) <= 1e-8 * size


EXERCISE = PropertyExercise(
    id="scale-invariance-property",
    chapter="optimization/scale_invariance",
    title="A test for scale invariance",
    level="hard",
    reference=test_scale_invariant,
    why="Euler's theorem gives orthogonality, differentiating L(cw) = L(w) by w gives the degree −1. Several "
    "lengths are needed, short ones too: there ε shows.",
    mistakes=(
        *variants(never_fails, only_orthogonality, only_scaling),
        Variant.of(only_unit_vectors, seen=_unit),
        Variant.of(long_weights_only, seen=_long),
        *variants(not_short_enough, too_strict),
    ),
    alternatives=(by_differences,),
    hints=(
        "Differentiate L(cw) = L(w) once by c and once by w. Which two statements on the gradient follow?",
        "⟨w, ∂L/∂w⟩ = 0, and ∂L/∂w at cw is 1/c of that at w. Check both at several lengths of w, with "
        "tolerances relative to the size of the gradient.",
    ),
    correct=variants(quotient, normalized_layer, negative_cosine),
    mutants=variants(
        with_decay,
        radial,
        degree_zero,
        degree_minus_two,
        unit_vectors_only,
        layer_with_eps,
        layer_with_small_eps,
        constant,
    ),
)
