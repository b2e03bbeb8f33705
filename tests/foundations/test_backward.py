"""`bnbook.foundations.backward`: parity with autograd, derivatives without calculus, invariants, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from bnbook.foundations.backward import (
    BatchNormFunction,
    batch_norm_backward,
    batch_norm_backward_steps,
    batch_norm_torch,
    best_logistic_scale,
    detached_error,
)
from bnbook.foundations.forward import batch_norm

LAYOUTS = {
    "dense": ((7, 4), 0),
    "sequence": ((5, 4, 6), (0, 2)),
    "convolutional": ((3, 4, 5, 6), (0, 2, 3)),
}


def example(layout, seed=0):
    """Non-trivial x, γ, β and g: zeros or ones in any of them could hide a mistake."""
    rng = np.random.default_rng(seed)
    shape, axes = LAYOUTS[layout]
    return (
        rng.normal(5.0, 2.0, shape),
        rng.normal(1.0, 0.5, 4),
        rng.normal(0.0, 2.0, 4),
        rng.normal(size=shape),
        axes,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("eps", [1e-9, 1e-5, 0.1])
def test_equals_autograd(layout, eps):
    x, gamma, beta, dy, axes = example(layout)
    grads = batch_norm_backward(dy, batch_norm(x, gamma, beta, eps=eps, axes=axes)[1])
    inputs = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
    y = F.batch_norm(inputs[0], None, None, *inputs[1:], training=True, eps=eps)
    expected = torch.autograd.grad(y, inputs, torch.tensor(dy))
    for ours, theirs in zip(
        (grads.dx, grads.dgamma, grads.dbeta), expected, strict=True
    ):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["dense", "sequence"])
def test_equals_complex_step(layout):
    x, gamma, beta, dy, axes = example(layout)
    h, eps = 1e-30, 0.1
    grads = batch_norm_backward(dy, batch_norm(x, gamma, beta, eps=eps, axes=axes)[1])

    def derivative(arrays_, which):
        at, result = arrays_[which], np.empty(arrays_[which].shape)
        for position in np.ndindex(at.shape):
            step = [v.astype(complex) for v in arrays_]
            step[which][position] += 1j * h
            result[position] = (
                dy * batch_norm(*step, eps=eps, axes=axes)[0]
            ).sum().imag / h
        return result

    for which, ours in enumerate((grads.dx, grads.dgamma, grads.dbeta)):
        np.testing.assert_allclose(
            ours, derivative([x, gamma, beta], which), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_step_by_step_equals_closed_form(layout):
    x, gamma, beta, dy, axes = example(layout)
    cache = batch_norm(x, gamma, beta, eps=0.1, axes=axes)[1]
    steps = batch_norm_backward_steps(dy, cache)
    np.testing.assert_allclose(
        steps.dx, batch_norm_backward(dy, cache).dx, rtol=0, atol=1e-13
    )
    np.testing.assert_allclose(
        steps.dx,
        steps.path_z_hat + steps.path_var + steps.path_mean,
        rtol=0,
        atol=1e-15,
    )


def test_every_step_equals_its_own_derivative():
    """Each intermediate against autograd through a graph in which μ and σ² are leaves."""
    x, gamma, beta, dy, _ = example("dense")
    eps = 0.1
    steps = batch_norm_backward_steps(dy, batch_norm(x, gamma, beta, eps=eps)[1])
    z = torch.tensor(x, requires_grad=True)
    mean = torch.tensor(x.mean(0), requires_grad=True)
    var = torch.tensor(x.var(0), requires_grad=True)
    z_hat = ((z - mean) / torch.sqrt(var + eps)).requires_grad_()
    loss = (torch.tensor(dy) * (torch.tensor(gamma) * z_hat + torch.tensor(beta))).sum()
    dz_hat, dvar, dmean, path = torch.autograd.grad(loss, [z_hat, var, mean, z])
    for ours, theirs in (
        (steps.dz_hat, dz_hat),
        (steps.dvar[0], dvar),
        (steps.dmean[0], dmean),
        (steps.path_z_hat, path),
    ):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_the_dtype(dtype):
    x, gamma, beta, dy, _ = example("dense")
    cache = batch_norm(*(v.astype(dtype) for v in (x, gamma, beta)))[1]
    grads = batch_norm_backward(dy.astype(dtype), cache)
    assert {grads.dx.dtype, grads.dgamma.dtype, grads.dbeta.dtype} == {np.dtype(dtype)}


def test_half_precision_sums_in_more_digits():
    rng = np.random.default_rng(6)
    x, dy = (
        rng.normal(size=(20_000, 1)),
        rng.normal(2.0, 1.0, (20_000, 1)),
    )  # Σ g = 40000
    halves = [v.astype(np.float16) for v in (x, np.ones(1), np.zeros(1))]
    grads = batch_norm_backward(dy.astype(np.float16), batch_norm(*halves)[1])
    exact = batch_norm_backward(dy, batch_norm(x, np.ones(1), np.zeros(1))[1])
    np.testing.assert_allclose(grads.dbeta, exact.dbeta, rtol=2e-3)
    np.testing.assert_allclose(grads.dx, exact.dx, atol=2e-2)


def test_overflow_of_a_gradient_is_reported():
    x, dy = np.arange(8.0)[:, None], np.full((8, 1), 1e4)
    _, cache = batch_norm(*(v.astype(np.float16) for v in (x, np.ones(1), np.zeros(1))))
    with pytest.raises(ValueError, match="dbeta overflows float16"):
        batch_norm_backward(dy.astype(np.float16), cache)


bounded = st.floats(-100, 100, allow_subnormal=False)


@st.composite
def batch_and_gradient(draw):
    """A batch whose features vary, and an upstream gradient of the same shape."""
    shape = draw(st.tuples(st.integers(2, 10), st.integers(1, 3)))
    x = draw(
        arrays(np.float64, shape, elements=bounded).filter(
            lambda v: (v.std(0) > 1e-2).all()
        )
    )
    return x, draw(arrays(np.float64, shape, elements=bounded))


@given(batch_and_gradient(), st.floats(0.0, 10.0))
def test_invariants(batch, eps):
    """Σ dx = 0, and Σ dx ẑ = γ/√(σ²+ε) · ε/(σ²+ε) · Σ g ẑ."""
    x, dy = batch
    gamma = np.full(x.shape[1], 1.7)
    _, cache = batch_norm(x, gamma, 0 * gamma, eps=eps)
    dx, var = batch_norm_backward(dy, cache).dx, x.var(0)
    scale = 1e-11 * (1 + np.abs(dy).sum(0)) * (1 + 1.7 / np.sqrt(var + eps)) * len(x)
    assert (np.abs(dx.sum(0)) <= scale).all()
    expected = 1.7 / np.sqrt(var + eps) * eps / (var + eps) * (dy * cache.z_hat).sum(0)
    assert (np.abs((dx * cache.z_hat).sum(0) - expected) <= 10 * scale * len(x)).all()


@given(batch_and_gradient(), st.floats(-5, 5), st.floats(-5, 5))
def test_gradient_ignores_what_normalization_removes(batch, a, b):
    """Adding a + b ẑ to the upstream gradient changes nothing when ε = 0."""
    x, dy = batch
    ones = np.ones(x.shape[1])
    _, cache = batch_norm(x, ones, 0 * ones, eps=0.0)
    plain = batch_norm_backward(dy, cache).dx
    shifted = batch_norm_backward(dy + a + b * cache.z_hat, cache).dx
    np.testing.assert_allclose(
        shifted, plain, atol=1e-9 * (1 + np.abs(dy).max()) / x.std(0).min()
    )


def test_batch_of_two_gets_no_gradient_without_eps():
    x, dy = np.array([[3.0], [700.0]]), np.array([[5.0], [-2.0]])
    _, cache = batch_norm(x, np.array([1.3]), np.zeros(1), eps=0.0)
    assert np.abs(batch_norm_backward(dy, cache).dx).max() < 1e-17
    _, cache = batch_norm(x / 700, np.array([1.3]), np.zeros(1), eps=0.1)
    assert np.abs(batch_norm_backward(dy, cache).dx).max() > 0.1  # with ε it does


def test_nothing_is_modified():
    x, gamma, beta, dy, _ = example("dense")
    _, cache = batch_norm(x, gamma, beta)
    for array in (dy, cache.z_hat, cache.gamma, cache.std):
        array.flags.writeable = False  # a write would raise
    batch_norm_backward(dy, cache)
    batch_norm_backward_steps(dy, cache)


@pytest.mark.parametrize("function", [batch_norm_backward, batch_norm_backward_steps])
@pytest.mark.parametrize(
    ("error", "message", "dy"),
    [
        (TypeError, "dy must be a plain NumPy array", [[1.0]]),
        (
            TypeError,
            "dy must hold floating-point numbers, got dtype int64",
            np.ones((4, 3), int),
        ),
        (
            ValueError,
            r"dy must have shape \(4, 3\), the shape of y, got \(3,\)",
            np.ones(3),
        ),
        (ValueError, r"dy must have shape \(4, 3\)", np.ones((3, 4))),
        (ValueError, "dy must be finite, got nan at index", np.full((4, 3), np.nan)),
        (TypeError, "dy is complex and x was real", np.full((4, 3), 1j)),
    ],
)
def test_bad_input(function, error, message, dy):
    _, cache = batch_norm(np.arange(12.0).reshape(4, 3), np.ones(3), np.zeros(3))
    with pytest.raises(error, match=message):
        function(dy, cache)


class TestTorch:
    """`batch_norm_torch`, whose gradient is the closed form."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_value_and_gradient_equal_pytorch(self, layout):
        x, gamma, beta, dy, axes = example(layout)
        inputs = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
        expected = F.batch_norm(
            inputs[0], None, None, *inputs[1:], training=True, eps=0.1
        )
        got = batch_norm_torch(*inputs, eps=0.1, axes=axes)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
        upstream = torch.tensor(dy)
        for ours, theirs in zip(
            torch.autograd.grad(got, inputs, upstream),
            torch.autograd.grad(expected, inputs, upstream),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("shape", "axes"), [((5, 3), 0), ((2, 3, 2, 2), (0, 2, 3))]
    )
    def test_gradcheck_and_gradgradcheck(self, shape, axes):
        rng = np.random.default_rng(5)
        inputs = [
            torch.tensor(v, requires_grad=True)
            for v in (
                rng.normal(2, 3, shape),
                rng.normal(1, 0.5, 3),
                rng.normal(0, 1, 3),
            )
        ]
        function = lambda *a: batch_norm_torch(*a, eps=0.1, axes=axes)
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)

    def test_the_closed_form_is_what_runs(self, monkeypatch):
        """The gradient comes from our backward pass, not from autograd through the forward pass."""
        monkeypatch.setattr(
            BatchNormFunction,
            "backward",
            staticmethod(lambda ctx, dy: (dy * 0 + 42, None, None, None, None)),
        )
        x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
        (dx,) = torch.autograd.grad(
            batch_norm_torch(x, torch.ones(2).double(), torch.zeros(2).double()).sum(),
            x,
        )
        assert (dx == 42).all()

    @pytest.mark.parametrize(
        ("error", "message", "change"),
        [
            (
                TypeError,
                "x must be a floating-point tensor, got torch.int64",
                {"x": torch.ones(4, 3, dtype=torch.int64)},
            ),
            (
                TypeError,
                "x must be a floating-point tensor, got ndarray",
                {"x": np.ones((4, 3))},
            ),
            (
                ValueError,
                "beta must be finite",
                {"beta": torch.full((3,), float("inf"))},
            ),
            (ValueError, "the batch is empty", {"x": torch.ones(0, 3)}),
            (ValueError, "one value per feature", {"x": torch.ones(1, 3)}),
            (ValueError, r"gamma must have shape \(3,\)", {"gamma": torch.ones(4)}),
            (ValueError, "axis 5 is out of range", {"axes": 5}),
            (ValueError, "eps must be finite", {"eps": -1.0}),
            (
                ValueError,
                "has no variance in torch.float32",
                {"x": torch.ones(4, 3), "eps": 0.0},
            ),
        ],
    )
    def test_bad_input(self, error, message, change):
        arguments = {
            "x": torch.arange(12.0).reshape(4, 3),
            "gamma": torch.ones(3),
            "beta": torch.zeros(3),
        } | change
        with pytest.raises(error, match=message):
            batch_norm_torch(**arguments)


class TestDetachedError:
    """The experiment on constant statistics."""

    def test_batch_of_two_loses_everything(self):
        np.testing.assert_allclose(
            detached_error(2, "independent", runs=20, seed=0), 1, rtol=1e-12
        )

    def test_independent_gradients_lose_two_of_their_dimensions(self):
        squared = detached_error(64, "independent", runs=4000, seed=1) ** 2
        standard_error = squared.std(ddof=1) / np.sqrt(len(squared))
        assert abs(squared.mean() - 2 / 64) < 4 * standard_error

    def test_gradients_of_a_loss_keep_an_error(self):
        small, large = (
            detached_error(size, "logistic", runs=200, seed=2).mean()
            for size in (256, 4096)
        )
        assert large > 0.8 * small > 0.1

    def test_at_the_best_scale_nothing_is_left_to_lose(self):
        """At the optimum ∂L/∂γ and ∂L/∂β vanish but for noise, so the error falls as for independent gradients."""
        best = best_logistic_scale()
        small, large = (
            detached_error(size, "logistic", gamma=best, runs=200, seed=2).mean()
            for size in (256, 4096)
        )
        assert large < 0.3 * small

    def test_best_scale_is_the_stationary_point(self):
        rng = np.random.default_rng(8)
        z = rng.normal(size=1_000_000)
        label = z + rng.normal(size=z.shape) > 0
        slope = z * (1 / (1 + np.exp(-best_logistic_scale() * z)) - label)
        assert abs(slope.mean()) < 4 * slope.std() / 1000

    def test_is_reproducible(self):
        first, second = (
            detached_error(8, "logistic", runs=5, seed=3) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)
        assert first.shape == (5,)

    @pytest.mark.parametrize(
        ("message", "arguments"),
        [
            ("size must be at least 2", (1, "independent", 3)),
            ("runs at least 1", (4, "independent", 0)),
            ('must be "independent" or "logistic"', (4, "other", 3)),
        ],
    )
    def test_bad_input(self, message, arguments):
        size, gradients, runs = arguments
        with pytest.raises(ValueError, match=message):
            detached_error(size, gradients, runs=runs, seed=0)
