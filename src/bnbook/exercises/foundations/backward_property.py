"""Exercise: a test that tells a correct backward pass from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, Variant, variants


def test_batch_norm_backward(batch_norm_backward) -> None:
    """Test an implementation of the backward pass: pass if it is correct, fail an `assert` if it is not.

    Args:
        batch_norm_backward: a function of dy (M, D), x (M, D), gamma (D,) and eps that returns dx (M, D),
            dgamma (D,) and dbeta (D,), for y = γẑ + β with ẑ = (x − μ)/√(σ² + ε) over axis 0. All arrays are
            float64.
    """

    def loss(dy, x, gamma, beta, eps):
        y = gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta
        return (dy * y).sum()  # its gradient with respect to y is dy

    rng = np.random.default_rng(0)
    for count, features, eps in [(2, 3, 0.5), (5, 2, 0.1), (4, 4, 2.0)]:
        x = rng.normal(2.0, 1.5, size=(count, features))
        dy = rng.normal(0.5, 1.0, size=(count, features))
        gamma, beta = rng.normal(size=features), rng.normal(size=features)
        gradients = batch_norm_backward(dy, x, gamma, eps)
        # Along a random direction, the loss must change by the gradient times the step.
        h = 1e-5
        for argument, gradient in zip((x, gamma, beta), gradients, strict=True):
            for _ in range(3):
                step = h * rng.normal(size=argument.shape)
                moved = [
                    loss(
                        dy,
                        *(
                            a + sign * step if a is argument else a
                            for a in (x, gamma, beta)
                        ),
                        eps,
                    )
                    for sign in (1, -1)
                ]
                slope = (moved[0] - moved[1]) / (2 * h)
                np.testing.assert_allclose(
                    (gradient * step).sum() / h, slope, rtol=1e-6, atol=1e-7
                )


def _parts(x, eps, ddof=0):
    std = np.sqrt(x.var(axis=0) * len(x) / max(len(x) - ddof, 1) + eps)
    return (x - x.mean(axis=0)) / std, std


def _gradients(dy, x, gamma, eps, ddof=0):
    z_hat, std = _parts(x, eps, ddof)
    dx = gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))
    return dx, (dy * z_hat).sum(axis=0), dy.sum(axis=0)


def plain(dy, x, gamma, eps):
    """it is the closed form."""
    return _gradients(dy, x, gamma, eps)


def step_by_step(dy, x, gamma, eps):
    """it adds up the three paths one by one, which rounds differently."""
    count = len(x)
    centred = x - x.mean(axis=0)
    v = (centred**2).mean(axis=0) + eps
    dvar = (dy * gamma * centred).sum(axis=0) * -0.5 * v**-1.5
    dmean = (-dy * gamma / np.sqrt(v)).sum(axis=0) - 2 * dvar * centred.mean(axis=0)
    dx = dy * gamma * v**-0.5 + dvar * 2 * centred / count + dmean / count
    return dx, (dy * centred * v**-0.5).sum(axis=0), sum(dy[::-1])


def by_jacobian(dy, x, gamma, eps):
    """it multiplies by the M×M Jacobian of each feature, which rounds differently."""
    z_hat, std = _parts(x, eps)
    projection = np.eye(len(x))[None] - (
        1 + np.einsum("id,jd->dij", z_hat, z_hat)
    ) / len(x)
    dx = np.einsum("dij,jd->id", projection, dy * gamma / std)
    return dx, np.einsum("md,md->d", dy, z_hat), np.einsum("md->d", dy)


def mean_path_dropped(dy, x, gamma, eps):
    """it drops the path through the mean."""
    z_hat, std = _parts(x, eps)
    _, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    return gamma / std * (dy - z_hat * dgamma / len(x)), dgamma, dbeta


def variance_path_dropped(dy, x, gamma, eps):
    """it drops the path through the variance, which is invisible where Σ g ẑ = 0, for example where all g
    are equal."""
    _, std = _parts(x, eps)
    _, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    return gamma / std * (dy - dy.mean(axis=0)), dgamma, dbeta


def detached_statistics(dy, x, gamma, eps):
    """it treats the batch statistics as constants."""
    _, std = _parts(x, eps)
    _, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    return gamma / std * dy, dgamma, dbeta


def gamma_lost(dy, x, gamma, eps):
    """its dx leaves out γ, which is invisible where γ = 1, and to a test of Σ dx = 0 alone."""
    return _gradients(dy, x, np.ones_like(gamma), eps)


def eps_hard_coded(dy, x, gamma, eps):
    """it uses ε = 1e-5 whatever it is given, which only shows where ε is not tiny."""
    return _gradients(dy, x, gamma, 1e-5)


def eps_outside_root(dy, x, gamma, eps):
    """it divides by σ + ε, which only shows where ε is not tiny."""
    std = x.std(axis=0) + eps
    z_hat = (x - x.mean(axis=0)) / std
    dx = gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))
    return dx, (dy * z_hat).sum(axis=0), dy.sum(axis=0)


def exact_projection(dy, x, gamma, eps):
    """its path through the variance forgets that ε keeps mean(ẑ²) below 1, so its dx is orthogonal to ẑ;
    that only shows where ε is not tiny."""
    z_hat, std = _parts(x, eps)
    _, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    share = dgamma / ((z_hat**2).sum(axis=0) + 1e-300)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * share), dgamma, dbeta


def unbiased_variance(dy, x, gamma, eps):
    """it normalizes with the variance of M − 1."""
    return _gradients(dy, x, gamma, eps, ddof=1)


def parameters_averaged(dy, x, gamma, eps):
    """its dgamma and dbeta are means over the batch and not sums: look at all three results."""
    dx, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    return dx, dgamma / len(x), dbeta / len(x)


def dgamma_not_normalized(dy, x, gamma, eps):
    """its dgamma is Σ g (x − μ), without the division by √(σ² + ε): look at all three results."""
    dx, _, dbeta = _gradients(dy, x, gamma, eps)
    return dx, (dy * (x - x.mean(axis=0))).sum(axis=0), dbeta


def sign_lost(dy, x, gamma, eps):
    """its dx has the wrong sign, which no test of Σ dx = 0 can see."""
    dx, dgamma, dbeta = _gradients(dy, x, gamma, eps)
    return -dx, dgamma, dbeta


def _batch(eps=0.5):
    rng = np.random.default_rng(1)
    x = rng.normal(2.0, 1.5, size=(5, 3))
    return rng.normal(0.5, 1.0, size=(5, 3)), x, np.array([1.5, -0.7, 2.2]), eps


def _compare(gradients, expected, count=3):
    for got, want in list(zip(gradients, expected, strict=True))[:count]:
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def never_fails(batch_norm_backward):
    """Your test calls the implementation and asserts nothing that a wrong one violates, such as shapes.
    Compare the values of dx, dgamma and dbeta with what they must be."""
    dy, x, gamma, eps = _batch()
    dx, dgamma, dbeta = batch_norm_backward(dy, x, gamma, eps)
    assert dx.shape == x.shape
    assert dgamma.shape == dbeta.shape == gamma.shape


def only_the_sum_of_dx(batch_norm_backward):
    """Your test seems to check Σ dx = 0 only. That follows from the path through the mean and says nothing
    about the other paths, γ, ε, dgamma or dbeta."""
    dx, _, _ = batch_norm_backward(*_batch())
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)


def upstream_of_ones(batch_norm_backward):
    """Your test seems to use the same upstream gradient for every example, for example the loss y.sum().
    Then dx is 0 whatever the path through the variance, γ and ε do: draw dy at random."""
    _, x, gamma, eps = _batch()
    _compare(
        batch_norm_backward(np.ones_like(x), x, gamma, eps),
        plain(np.ones_like(x), x, gamma, eps),
    )


def equal_rows(calls):
    """Whether every upstream gradient was the same for all examples."""
    return all((call["dy"] == call["dy"][:1]).all() for call in calls)


def unit_gamma(calls):
    """Whether every γ was 1."""
    return all((call["gamma"] == 1).all() for call in calls)


def only_the_sum_of_dx_and_dbeta(batch_norm_backward):
    """Your test seems to check Σ dx = 0 and dbeta only. Σ dx = 0 follows from the path through the mean and
    says nothing about the path through the variance, γ or ε: look at single values of dx, and at dgamma."""
    dx, _, dbeta = batch_norm_backward(*_batch())
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(dbeta, plain(*_batch())[2], rtol=1e-10)


def only_dx(batch_norm_backward):
    """Your test seems to look at dx only. dgamma and dbeta can be wrong unseen: check all three."""
    _compare(batch_norm_backward(*_batch()), plain(*_batch()), count=1)


def only_the_parameters(batch_norm_backward):
    """Your test seems to look at dgamma and dbeta only. dx is where the paths through μ and σ² are: check
    all three."""
    _compare(batch_norm_backward(*_batch())[1:], plain(*_batch())[1:])


def unit_scale(batch_norm_backward):
    """Your test seems to use γ = 1, where an implementation that leaves out γ passes. Draw γ at random."""
    dy, x, _, eps = _batch()
    _compare(batch_norm_backward(dy, x, np.ones(3), eps), plain(dy, x, np.ones(3), eps))


def tiny_eps(batch_norm_backward):
    """Your test seems to use a tiny ε or a wide tolerance, where it hardly matters how ε enters. Use one
    comparable with the variance, for example 0.5."""
    for got, want in zip(
        batch_norm_backward(*_batch(eps=1e-9)), plain(*_batch(eps=1e-9)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-3)


def exact_equality(batch_norm_backward):
    """Your test seems to demand exact equality. A correct implementation that adds in another order differs
    in the last digit: compare with a tolerance, for example `np.testing.assert_allclose(…, rtol=1e-10)`."""
    for got, want in zip(batch_norm_backward(*_batch()), plain(*_batch()), strict=True):
        assert (got == want).all()


def by_complex_step(batch_norm_backward):
    """The same, entry by entry, with the complex step."""

    def loss(dy, x, gamma, beta, eps):
        centred = x - x.mean(axis=0)
        return (
            dy
            * (gamma * centred / np.sqrt((centred * centred).mean(axis=0) + eps) + beta)
        ).sum()

    dy, x, gamma, eps = _batch()
    arguments = [x, gamma, np.zeros(3)]
    for k, gradient in enumerate(batch_norm_backward(dy, x, gamma, eps)):
        for index in np.ndindex(arguments[k].shape):
            moved = [a.astype(complex) for a in arguments]
            moved[k][index] += 1e-30j
            assert abs(gradient[index] - loss(dy, *moved, eps).imag / 1e-30) < 1e-12


def by_formula(batch_norm_backward):
    """The same, against the step-by-step formula."""
    rng = np.random.default_rng(2)
    for count in (3, 6):
        x, dy = rng.normal(1.0, 2.0, size=(count, 4)), rng.normal(size=(count, 4))
        gamma = rng.normal(size=4)
        for got, want in zip(
            batch_norm_backward(dy, x, gamma, 0.7),
            step_by_step(dy, x, gamma, 0.7),
            strict=True,
        ):
            assert np.abs(got - want).max() < 1e-11


EXERCISE = PropertyExercise(
    id="backward-property",
    chapter="foundations/backward",
    title="A test for the backward pass",
    level="hard",
    reference=test_batch_norm_backward,
    why="A gradient predicts how the loss changes along any direction, so random directions test it "
    "without repeating its formula. Random dy, γ ≠ 1 and an ε comparable with σ² keep every path visible.",
    mistakes=(
        *variants(never_fails, only_the_sum_of_dx),
        Variant.of(upstream_of_ones, seen=equal_rows),
        *variants(only_the_sum_of_dx_and_dbeta, only_dx, only_the_parameters),
        Variant.of(unit_scale, seen=unit_gamma),
        *variants(tiny_eps, exact_equality),
    ),
    alternatives=(by_complex_step, by_formula),
    hints=(
        "With the loss L = Σ g y the upstream gradient is g. Write the forward pass inside your test and "
        "see how L changes when x, γ or β change a little.",
        "A central difference, (L(x + h) − L(x − h))/(2h) with h = 1e-5, agrees with a correct gradient to"
        " about 1e-8: allow 1e-6.",
        "Choose inputs on which mistakes show: random dy, γ not 1, ε comparable with the variance, and "
        "check dx, dgamma and dbeta.",
    ),
    correct=variants(plain, step_by_step, by_jacobian),
    mutants=variants(
        mean_path_dropped,
        variance_path_dropped,
        detached_statistics,
        gamma_lost,
        sign_lost,
        eps_hard_coded,
        eps_outside_root,
        exact_projection,
        unbiased_variance,
        parameters_averaged,
        dgamma_not_normalized,
    ),
)
