"""Exercise: a test for the gradient by a normalized weight."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_normalized_gradient(gradient) -> None:
    """Test the gradient of ½E(y − γ xᵀw/σ)² by w: pass if it is right, else fail an `assert`.

    Args:
        gradient: a function of (hessian, g, gamma, w) that returns ∂L/∂w, (d,), for a symmetric
            positive definite hessian, (d, d), g, (d,), a number gamma and w, (d,). σ² = wᵀHw.
    """
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 3))
    hessian, g, w = factor @ factor.T + np.eye(3), rng.normal(size=3), factor[0]

    def loss(w, gamma):
        return gamma**2 / 2 - gamma * (g @ w) / np.sqrt(w @ hessian @ w)

    for gamma in (1.3, -0.4):
        for v in (w, 5 * w):
            found = gradient(hessian, g, gamma, v)
            steps = 1e-5 * np.eye(3)
            numeric = [(loss(v + e, gamma) - loss(v - e, gamma)) / 2e-5 for e in steps]
            np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-8)


def plain(hessian, g, gamma, w):
    """it is the formula of the chapter."""
    h_w = hessian @ w
    square = w @ h_w
    return -gamma / np.sqrt(square) * (g - (w @ g) / square * h_w)


def through_the_effective_weight(hessian, g, gamma, w):
    """it sends the plain gradient back through γw/σ."""
    h_w = hessian @ w
    sigma = np.sqrt(w @ h_w)
    jacobian = gamma * (np.eye(len(w)) / sigma - np.outer(w, h_w) / sigma**3)
    return jacobian.T @ (hessian @ w * gamma / sigma - g)


def sigma_constant(hessian, g, gamma, w):
    """it treats σ as a constant, so it is not orthogonal to w."""
    return -gamma / np.sqrt(w @ hessian @ w) * g


def projected_on_w(hessian, g, gamma, w):
    """it projects g on the plane across w instead of the one that H gives. It is orthogonal to w, and
    falls as 1/‖w‖, like the true gradient."""
    across = g - (w @ g) / (w @ w) * w
    return -gamma / np.sqrt(w @ hessian @ w) * across


def wrong_scale(hessian, g, gamma, w):
    """it divides by σ² instead of σ in front, which is invisible where σ = 1."""
    return plain(hessian, g, gamma, w) / np.sqrt(w @ hessian @ w)


def sign_lost(hessian, g, gamma, w):
    """it uses |γ|, which is invisible for positive γ."""
    return plain(hessian, g, abs(gamma), w)


def doubled(hessian, g, gamma, w):
    """it is the gradient of the mean square without the half."""
    return 2 * plain(hessian, g, gamma, w)


def diagonal_only(hessian, g, gamma, w):
    """it uses the diagonal of H alone, which is invisible for diagonal H."""
    return plain(np.diag(np.diag(hessian)), g, gamma, w)


def gamma_ignored(hessian, g, gamma, w):
    """it leaves γ out, which is invisible for γ = 1."""
    return plain(hessian, g, 1.0, w)


def uphill(hessian, g, gamma, w):
    """it has the wrong sign."""
    return -plain(hessian, g, gamma, w)


_H = np.array([[2.0, 0.7], [0.7, 1.5]])
_G, _W = np.array([1.0, -0.5]), np.array([0.8, 0.6])


def only_orthogonal(gradient):
    """Your test seems to check only that the gradient is orthogonal to w. Its length, its sign and its
    direction in the plane across w are then free."""
    assert abs(gradient(_H, _G, 1.3, _W) @ _W) < 1e-9
    assert abs(gradient(_H, _G, -1.3, _W) @ _W) < 1e-9


def only_the_scaling(gradient):
    """Your test seems to check only how the gradient changes with the length of w. A gradient that
    falls as 1/‖w‖ can still point anywhere."""
    first, second = gradient(_H, _G, 1.3, _W), gradient(_H, _G, 1.3, 4 * _W)
    np.testing.assert_allclose(first, 4 * second, rtol=1e-9)


def positive_gamma(gradient):
    """Your test seems to use γ > 0 only, so it cannot see a lost sign."""
    np.testing.assert_allclose(
        gradient(_H, _G, 1.3, _W), plain(_H, _G, 1.3, _W), rtol=1e-9
    )


def diagonal_hessian(gradient):
    """Your test seems to use a diagonal H only. Correlated inputs are the point."""
    h = np.diag([2.0, 0.5])
    for gamma in (1.3, -0.7):
        np.testing.assert_allclose(
            gradient(h, _G, gamma, _W), plain(h, _G, gamma, _W), rtol=1e-9
        )


def unit_sigma(gradient):
    """Your test seems to use weights with σ = 1 only, where powers of σ cannot be told apart."""
    w = _W / np.sqrt(_W @ _H @ _W)
    for gamma in (1.3, -0.7):
        np.testing.assert_allclose(
            gradient(_H, _G, gamma, w), plain(_H, _G, gamma, w), rtol=1e-9
        )


def _all_positive(calls):
    return all(c["gamma"] > 0 for c in calls)


def _all_diagonal(calls):
    return all(
        np.array_equal(c["hessian"], np.diag(np.diag(c["hessian"]))) for c in calls
    )


def _all_unit(calls):
    return all(abs(c["w"] @ c["hessian"] @ c["w"] - 1) < 1e-6 for c in calls)


def never_fails(gradient):
    """Your test asserts nothing that a wrong gradient violates: compare with finite differences of
    the loss."""
    assert gradient(_H, _G, 1.3, _W).shape == (2,)


def too_strict(gradient):
    """Your test seems to compare floating-point numbers for equality. Two correct ways to compute the
    gradient differ in the last digits."""
    assert (gradient(_H, _G, 1.3, _W) == plain(_H, _G, 1.3, _W)).all()


def by_the_closed_form(gradient):
    """The same, against the closed form."""
    rng = np.random.default_rng(2)
    for d in (2, 5):
        factor = rng.normal(size=(d, d))
        hessian, g, w = factor @ factor.T + np.eye(d), rng.normal(size=d), factor[0]
        for gamma in (0.3, -2.0):
            expected = plain(hessian, g, gamma, 3 * w)
            np.testing.assert_allclose(
                gradient(hessian, g, gamma, 3 * w), expected, rtol=1e-9
            )


EXERCISE = PropertyExercise(
    id="least-squares-property",
    chapter="optimization/least_squares",
    title="A test for the normalized gradient",
    level="hard",
    reference=test_normalized_gradient,
    why="Finite differences of the loss see every error, if H is not diagonal, γ takes both signs and σ "
    "is not 1.",
    mistakes=(
        *variants(never_fails, only_orthogonal, only_the_scaling),
        Variant.of(positive_gamma, seen=_all_positive),
        Variant.of(diagonal_hessian, seen=_all_diagonal),
        Variant.of(unit_sigma, seen=_all_unit),
        Variant.of(too_strict),
    ),
    alternatives=(by_the_closed_form,),
    hints=(
        "Write the loss as a function of w, and compare the gradient with central differences of step "
        "1e-5.",
        "Use an H with entries off the diagonal, a negative γ too, and two lengths of w.",
    ),
    correct=variants(plain, through_the_effective_weight),
    mutants=variants(
        sigma_constant,
        projected_on_w,
        wrong_scale,
        sign_lost,
        doubled,
        diagonal_only,
        gamma_ignored,
        uphill,
    ),
)
