"""`bnbook.foundations.geometry` and `scale_invariance`: projections and training laws."""

import functools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from bnbook.exercises.foundations import (
    geometry_growth,
    geometry_leverage,
    geometry_line,
    geometry_property,
    geometry_spectrum,
    geometry_weights,
)
from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.geometry import (
    gradient_energy,
    leverage,
    normalization_jacobian,
    projector,
    regression_residual,
)
from bnbook.foundations.scale_invariance import (
    Network,
    kept_share,
    loss_and_gradient,
    make_network,
    make_problem,
    train,
)

EPS = [0.0, 1e-5, 0.7]


def normalized(x, eps=0.0):
    """ẑ of the columns of x."""
    features = x.shape[1]
    return batch_norm(x, np.ones(features), np.zeros(features), eps=eps)[1].z_hat


def example(count=7, seed=0):
    """z and g of one feature, neither of them special."""
    rng = np.random.default_rng(seed)
    return rng.normal(3.0, 1.6, count), rng.normal(0.5, 1.0, count)


# An honest batch: its values differ by more than rounding.
batches = arrays(
    np.float64, st.integers(2, 9), elements=st.floats(-100, 100, allow_subnormal=False)
).filter(lambda z: np.std(z) > 1e-2)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("gamma", [1.3, -0.4])
def test_jacobian_equals_autograd(eps, gamma):
    z, g = example()

    def layer(values):
        weight, bias = (
            torch.full((1,), gamma, dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
        )
        return F.batch_norm(
            values[:, None],
            None,
            None,
            weight,
            bias,
            training=True,
            eps=max(eps, 1e-300),
        )[:, 0]

    expected = torch.autograd.functional.jacobian(layer, torch.tensor(z)).numpy()
    ours = normalization_jacobian(z, gamma, eps=eps)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    cache = batch_norm(z[:, None], np.array([gamma]), np.ones(1), eps=eps)[1]
    np.testing.assert_allclose(
        ours @ g, batch_norm_backward(g[:, None], cache).dx[:, 0], rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("eps", EPS)
def test_jacobian_equals_complex_step(eps):
    z, _ = example()
    columns = []
    for at in range(len(z)):
        moved = z.astype(complex)
        moved[at] += 1e-30j
        columns.append(
            batch_norm(moved[:, None], np.array([1.3]), np.ones(1), eps=eps)[0][
                :, 0
            ].imag
            / 1e-30
        )
    np.testing.assert_allclose(
        normalization_jacobian(z, 1.3, eps=eps),
        np.stack(columns, 1),
        rtol=0,
        atol=1e-13,
    )


@given(batches, st.sampled_from(EPS))
def test_spectrum_of_the_projector(z, eps):
    """Eigenvalues 0 on 1, r on ẑ, 1 elsewhere; P² = P − r ẑẑᵀ/M; trace M − 2 + r."""
    z_hat = normalized(z[:, None], eps)[:, 0]
    count, r = len(z), eps / (np.var(z) + eps)
    p = projector(z_hat)
    np.testing.assert_array_equal(p, p.T)
    np.testing.assert_allclose(p.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(p @ z_hat, r * z_hat, atol=1e-12)
    np.testing.assert_allclose(
        p @ p, p - r * np.outer(z_hat, z_hat) / count, atol=1e-12
    )
    np.testing.assert_allclose(np.trace(p), count - 2 + r, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(p), np.sort([0.0, r, *np.ones(count - 2)]), atol=1e-12
    )


@given(batches)
def test_leverage(z):
    z_hat = normalized(z[:, None])[:, 0]
    h = leverage(z_hat)
    np.testing.assert_allclose(h, 1 - np.diag(projector(z_hat)), atol=1e-12)
    np.testing.assert_allclose(h.sum(), 2, atol=1e-12)
    assert (h <= 1 + 1e-12).all()
    assert (np.abs(z_hat) <= np.sqrt(len(z) - 1) * (1 + 1e-12)).all()


def test_leverage_is_the_diagonal_of_the_hat_matrix():
    """By the textbook formula X (XᵀX)⁻¹ Xᵀ, and for every column of a matrix."""
    x = np.random.default_rng(1).normal(size=(6, 3))
    for column, h in zip(x.T, leverage(normalized(x)).T, strict=True):
        design = np.stack([np.ones(6), column], 1)
        np.testing.assert_allclose(
            np.diag(design @ np.linalg.solve(design.T @ design, design.T)),
            h,
            rtol=1e-12,
        )


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_outlier_at_the_bound(count):
    """All others equal: |ẑ| = √(M − 1), no gradient there, and the others share theirs as if alone."""
    z, g = np.full(count, 2.0), np.random.default_rng(3).normal(size=(count, 1))
    z[1] = -5.0
    cache = batch_norm(z[:, None], np.ones(1), np.zeros(1), eps=0.0)[1]
    np.testing.assert_allclose(abs(cache.z_hat[1, 0]), np.sqrt(count - 1), rtol=1e-13)
    dx = (batch_norm_backward(g, cache).dx * cache.std)[:, 0]
    assert abs(dx[1]) < 1e-13 * np.sqrt(count)
    others = np.delete(g[:, 0], 1)
    np.testing.assert_allclose(np.delete(dx, 1), others - others.mean(), atol=1e-12)


@pytest.mark.parametrize("eps", EPS)
def test_backward_is_a_regression_residual(eps):
    z, g = example()
    count, r = len(z), eps / (z.var() + eps)
    cache = batch_norm(z[:, None], np.array([-0.7]), np.zeros(1), eps=eps)[1]
    grads, z_hat = batch_norm_backward(g[:, None], cache), cache.z_hat[:, 0]
    fits = (
        regression_residual(g, z_hat, ridge=count * r),
        regression_residual(g, z, ridge=count * eps),
    )
    for fit in fits:
        np.testing.assert_allclose(
            -0.7 / cache.std.item() * fit.residual, grads.dx[:, 0], rtol=0, atol=1e-13
        )
    np.testing.assert_allclose(fits[0].intercept, grads.dbeta[0] / count, atol=1e-14)
    np.testing.assert_allclose(fits[0].slope, grads.dgamma[0] / count, atol=1e-14)
    plain = regression_residual(g, z_hat)
    np.testing.assert_allclose(
        plain.slope, grads.dgamma[0] / count / (1 - r), rtol=1e-12
    )


@given(batches, st.floats(0, 100))
def test_regression_is_the_best_line(z, ridge):
    """Moving either coefficient makes the penalized sum of squares larger."""
    z, g = z / np.abs(z).max(), np.random.default_rng(len(z)).normal(size=len(z))
    fit = regression_residual(g, z, ridge=ridge)

    def cost(a, b):
        return ((g - a - b * z) ** 2).sum() + ridge * b**2

    best = cost(fit.intercept, fit.slope)
    np.testing.assert_allclose(
        fit.residual, g - fit.intercept - fit.slope * z, atol=1e-14
    )
    for da, db in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)]:
        assert cost(fit.intercept + da, fit.slope + db) >= best - 1e-12 * (1 + best)


@pytest.mark.parametrize("eps", EPS)
def test_energy_splits_and_predicts_what_the_backward_pass_keeps(eps):
    rng = np.random.default_rng(5)
    x, g, gamma = (
        rng.normal(size=(6, 4)) * [1, 2, 3, 4],
        rng.normal(size=(6, 4)),
        rng.normal(size=4),
    )
    cache = batch_norm(x, gamma, np.zeros(4), eps=eps)[1]
    energy, r = gradient_energy(g, cache.z_hat), eps / (x.var(0) + eps)
    np.testing.assert_allclose(energy.total, (g**2).sum(0), rtol=1e-13)
    kept = (gamma / cache.std[0]) ** 2 * (energy.rest + r**2 * energy.z_hat)
    np.testing.assert_allclose(
        kept, (batch_norm_backward(g, cache).dx ** 2).sum(0), rtol=1e-12
    )


def test_kept_energy_of_iid_gradients():
    """(M − 2)/M, as for any direction drawn uniformly from the sphere."""
    rng = np.random.default_rng(6)
    energy = gradient_energy(
        rng.normal(size=(5, 40_000)), normalized(rng.normal(size=(5, 40_000)))
    )
    share = energy.rest / energy.total
    error = share.std(ddof=1) / np.sqrt(share.size)
    assert abs(share.mean() - 3 / 5) < 4 * error < 0.01


def test_energy_of_a_constant_feature():
    g = np.array([[1.0], [2.0], [6.0]])
    energy = gradient_energy(
        g, np.zeros((3, 1))
    )  # what ε > 0 makes of a constant feature
    np.testing.assert_allclose(
        [energy.ones, energy.z_hat, energy.rest], [[27.0], [0.0], [14.0]], rtol=1e-14
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_dtypes_count_as_normalized(dtype):
    z_hat = normalized(np.random.default_rng(7).normal(size=(50, 3))).astype(dtype)
    assert leverage(z_hat).dtype == dtype
    assert projector(z_hat[:, 0]).dtype == np.float64
    gradient_energy(z_hat, z_hat)


@pytest.mark.parametrize(
    "call",
    [
        lambda z: projector(z[:, None]),
        lambda z: projector(z + 1e-3),
        lambda z: projector(1.01 * z),
        lambda z: projector(z[:0]),
        lambda z: projector(np.zeros(1)),
        lambda z: projector(np.where(z > 1, np.nan, z)),
        lambda z: leverage(z[:, None, None]),
        lambda z: leverage(3.0 * z),
        lambda z: gradient_energy(z, z),
        lambda z: gradient_energy(z[:, None], np.stack([z, z], 1)),
        lambda z: gradient_energy(z[1:, None], z[:, None]),
        lambda z: normalization_jacobian(z[:, None], 1.0),
        lambda z: normalization_jacobian(z, np.inf),
        lambda z: normalization_jacobian(z, 1.0, eps=-1e-5),
        lambda z: normalization_jacobian(np.full(3, 2.0), 1.0, eps=0.0),
        lambda z: normalization_jacobian(z[:1], 1.0),
        lambda z: regression_residual(z, z[1:]),
        lambda z: regression_residual(z[:, None], z),
        lambda z: regression_residual(z, np.full(7, 2.0)),
        lambda z: regression_residual(z, z, ridge=-1.0),
        lambda z: regression_residual(z, z, ridge=np.nan),
        lambda z: regression_residual(z[:1], z[:1]),
    ],
)
def test_values_that_cannot_be(call):
    z_hat = normalized(example()[0][:, None])[:, 0]
    with pytest.raises(ValueError, match=r";"):  # what was expected; how to mend it
        call(z_hat)


@pytest.mark.parametrize(
    "call",
    [
        lambda z: projector(z.tolist()),
        lambda z: projector(np.array([-1, 0, 1])),
        lambda z: leverage(torch.tensor(z)),
        lambda z: gradient_energy(z[:, None] + 0j, z[:, None]),
        lambda z: normalization_jacobian(z, "1"),
        lambda z: normalization_jacobian(z, True),
        lambda z: regression_residual(z, z + 0j),
        lambda z: regression_residual(z, z, ridge="no"),
    ],
)
def test_types_that_cannot_be(call):
    z_hat = normalized(example()[0][:, None])[:, 0]
    with pytest.raises(TypeError, match=r";"):
        call(z_hat)


def test_arguments_are_left_alone():
    z, g = example()
    z_hat = normalized(z[:, None])[:, 0]
    for values in (z, g, z_hat):
        values.flags.writeable = False
    (
        projector(z_hat),
        leverage(z_hat),
        normalization_jacobian(z, 1.0),
        regression_residual(g, z),
    )
    gradient_energy(g[:, None], z_hat[:, None])


# Scale invariance


@pytest.mark.parametrize("eps", EPS)
def test_network_gradient_equals_autograd(eps):
    x, labels = make_problem(20, seed=4)
    network = make_network(seed=2)
    network = replace(
        network,
        gamma=network.gamma + 0.3,
        beta=network.beta - 0.2,
        head_bias=network.head_bias + 0.1,
    )
    result = loss_and_gradient(network, x, labels, eps=eps)
    leaves = [
        torch.tensor(getattr(network, field.name), requires_grad=True)
        for field in fields(Network)
    ]
    weight, gamma, beta, head, head_bias = leaves
    y = F.batch_norm(
        torch.tensor(x) @ weight.T,
        None,
        None,
        gamma,
        beta,
        training=True,
        eps=max(eps, 1e-300),
    )
    loss = F.cross_entropy(torch.relu(y) @ head.T + head_bias, torch.tensor(labels))
    expected = torch.autograd.grad(loss, [*leaves, y])
    np.testing.assert_allclose(result.loss, loss.item(), rtol=1e-13)
    ours = [getattr(result.gradient, field.name) for field in fields(Network)]
    for mine, theirs in zip([*ours, result.dy], expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("eps", EPS)
def test_radial_component_of_the_weight_gradient(eps):
    """⟨w, ∂L/∂w⟩ = γ r ∂L/∂γ at every step; 0 for ε = 0."""
    run = train(steps=40, batch=16, rate=1.0, eps=eps)
    scale = np.sqrt(run.gradient_norm2 * run.weight_norm2[:-1]).max()
    np.testing.assert_allclose(
        run.inner, run.inner_from_eps, rtol=0, atol=1e-13 * scale
    )
    assert (np.abs(run.inner).max() > 1e-9) == (eps > 0)


@pytest.mark.parametrize("eps", [0.0, 0.7])
def test_growth_of_the_weights(eps):
    run = train(steps=40, batch=16, rate=1.5, eps=eps)
    grown = np.diff(run.weight_norm2, axis=0)
    expected = 1.5**2 * run.gradient_norm2 - 2 * 1.5 * run.inner_from_eps
    np.testing.assert_allclose(grown, expected, rtol=0, atol=1e-13)
    if eps == 0:
        assert (grown >= 0).all()
        np.testing.assert_allclose(
            np.tan(run.angle),
            1.5 * np.sqrt(run.gradient_norm2 / run.weight_norm2[:-1]),
            rtol=1e-11,
            atol=1e-13,
        )


@given(st.floats(1e-3, 1e3), st.sampled_from(EPS))
def test_gradient_at_scaled_weights(c, eps):
    """The loss is that of w if ε is multiplied by c², and the gradient of W is 1/c of that at w."""
    x, labels = make_problem(16, seed=1)
    network = make_network(seed=1)
    there = loss_and_gradient(
        replace(network, weight=c * network.weight), x, labels, eps=c**2 * eps
    )
    here = loss_and_gradient(network, x, labels, eps=eps)
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-12)
    np.testing.assert_allclose(
        c * there.gradient.weight, here.gradient.weight, rtol=0, atol=1e-13
    )


def test_a_scaled_start_with_a_squared_rate_is_the_same_run():
    same = train(steps=40, scale=5.0, weight_rate=0.5 * 25)
    np.testing.assert_allclose(same.loss, train(steps=40).loss, rtol=1e-11)
    np.testing.assert_allclose(
        same.weight_norm2, 25 * train(steps=40).weight_norm2, rtol=1e-11
    )
    assert np.abs(train(steps=40, scale=5.0).loss - same.loss).max() > 0.05


def test_training_learns_and_repeats():
    run = train(steps=200)
    assert run.loss[-20:].mean() < 0.6 * run.loss[:5].mean()
    assert run.weight_norm2.shape == (201, 16)
    assert run.angle.shape == run.inner.shape == (200, 16)
    np.testing.assert_array_equal(run.loss, train(steps=200).loss)
    assert train(steps=5, seed=1).loss[0] != run.loss[0]


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (ValueError, lambda n, x, t: make_problem(0, seed=0)),
        (ValueError, lambda n, x, t: make_network(neurons=0)),
        (ValueError, lambda n, x, t: make_network(classes=2.5)),
        (TypeError, lambda n, x, t: loss_and_gradient(n, x.astype(int), t)),
        (TypeError, lambda n, x, t: loss_and_gradient(n, x, t.astype(float))),
        (TypeError, lambda n, x, t: loss_and_gradient(n, x, t.tolist())),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x[:, :9], t)),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x[0], t)),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x, t[1:])),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x, t + 1)),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x, t - 1)),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x[:1], t[:1])),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x[:0], t[:0])),
        (ValueError, lambda n, x, t: loss_and_gradient(n, x, t, eps=-1.0)),
        (ValueError, lambda n, x, t: train(steps=0)),
        (ValueError, lambda n, x, t: train(batch=1)),
        (ValueError, lambda n, x, t: train(rate=0.0)),
        (ValueError, lambda n, x, t: train(weight_rate=-1.0)),
        (ValueError, lambda n, x, t: train(scale=np.inf)),
        (TypeError, lambda n, x, t: train(scale="big")),
        (TypeError, lambda n, x, t: train(rate=True)),
        (ValueError, lambda n, x, t: train(eps=-1e-5)),
    ],
)
def test_bad_input_to_the_experiment(error, call):
    x, labels = make_problem(12, seed=0)
    with pytest.raises(error, match=r";"):
        call(make_network(), x, labels)


def test_kept_share():
    """What passes of the energy, over all neurons together, on the batches of the seed."""
    network = make_network(seed=3)
    shares = kept_share(network, 20, runs=3, seed=8)
    x, labels = make_problem(60, seed=8)
    for run, share in enumerate(shares):
        now = slice(20 * run, 20 * run + 20)
        result = loss_and_gradient(network, x[now], labels[now])
        kept = sum(
            (projector(z_hat) @ g) @ (projector(z_hat) @ g)
            for z_hat, g in zip(result.cache.z_hat.T, result.dy.T, strict=True)
        )
        np.testing.assert_allclose(share, kept / (result.dy**2).sum(), rtol=1e-12)
    for bad in ({"runs": 0}, {"batch": 1}, {"eps": -1.0}):
        with pytest.raises(ValueError, match=r";"):
            kept_share(network, **{"batch": 20, "runs": 2, "seed": 8, **bad})


# The reference solutions of the exercises


def test_exercises_agree_with_the_book():
    rng = np.random.default_rng(9)
    x, dy, gamma = (
        rng.normal(1.0, 2.0, (7, 3)),
        rng.normal(size=(7, 3)),
        rng.normal(size=3),
    )
    eps, var = 0.4, x.var(0)
    cache = batch_norm(x, gamma, np.zeros(3), eps=eps)[1]
    grads, z_hat = batch_norm_backward(dy, cache), cache.z_hat
    close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)
    close(geometry_leverage.leverage(x, eps), leverage(z_hat))
    close(
        geometry_spectrum.spectrum(x[:, 0], eps),
        np.linalg.eigvalsh(projector(z_hat[:, 0])),
    )
    lines = geometry_line.least_squares_line(grads.dgamma, grads.dbeta, var, eps, 7)
    for d in range(3):
        fit = regression_residual(dy[:, d], z_hat[:, d])
        close([lines[0][d], lines[1][d]], [fit.intercept, fit.slope])

    inputs, weight = rng.normal(size=(7, 4)), rng.normal(size=(3, 4))
    leaf = torch.tensor(weight, requires_grad=True)
    y = F.batch_norm(
        torch.tensor(inputs) @ leaf.T,
        None,
        None,
        torch.tensor(gamma),
        training=True,
        eps=eps,
    )
    exact = torch.autograd.grad(y, leaf, torch.tensor(dy))[0].numpy()
    close(geometry_weights.weight_gradient(dy, inputs, weight, gamma, eps), exact)
    z = inputs @ weight.T
    grads = batch_norm_backward(dy, batch_norm(z, gamma, np.zeros(3), eps=eps)[1])
    grown = geometry_growth.next_norm2(
        (weight**2).sum(1), (exact**2).sum(1), gamma, grads.dgamma, z.var(0), 0.3, eps
    )
    close(grown, ((weight - 0.3 * exact) ** 2).sum(1))


def test_implementations_of_the_property_exercise():
    g, x = np.random.default_rng(10).normal(1.0, 1.0, (2, 8))
    exact = regression_residual(g, x).residual
    exercise = geometry_property.EXERCISE
    for variant in exercise.correct:
        np.testing.assert_allclose(variant.function(g, x), exact, rtol=0, atol=1e-12)
    for variant in exercise.mutants:
        assert np.abs(variant.function(g, x) - exact).max() > 1e-3, variant.id
