"""`bnbook.foundations.forward`: parity with PyTorch, invariants, properties, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from bnbook.foundations.forward import (
    BatchNorm,
    batch_norm,
    batch_statistics,
    least_squares_descent,
)

LAYOUTS = {
    "dense": ((7, 4), 0),
    "sequence": ((5, 4, 6), (0, 2)),
    "convolutional": ((3, 4, 5, 6), (0, 2, 3)),
    "volume": ((2, 4, 3, 2, 3), (0, 2, 3, 4)),
}


def example(layout, dtype=np.float64, seed=0):
    """Non-trivial input: large mean, unequal spreads, γ ≠ 1, β ≠ 0."""
    rng = np.random.default_rng(seed)
    shape, axes = LAYOUTS[layout]
    x = rng.normal(5.0, 2.0, shape)
    gamma, beta = rng.normal(1.0, 0.5, 4), rng.normal(0.0, 2.0, 4)
    return x.astype(dtype), gamma.astype(dtype), beta.astype(dtype), axes


def reference(x, gamma, beta, eps):
    """PyTorch's own kernel on the batch statistics."""
    t = torch.tensor
    return F.batch_norm(
        t(x), None, None, t(gamma), t(beta), training=True, eps=eps
    ).numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_equals_pytorch(layout, eps, dtype, bound):
    x, gamma, beta, axes = example(layout, dtype)
    y, _ = batch_norm(x, gamma, beta, eps=eps, axes=axes)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, reference(x, gamma, beta, eps), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_keeps_the_dtype(dtype):
    x, gamma, beta, _ = example("dense", dtype)
    y, cache = batch_norm(x, gamma, beta)
    assert y.dtype == cache.z_hat.dtype == dtype


def test_half_precision_accumulates_in_single():
    rng = np.random.default_rng(1)
    x = rng.normal(0, 100.0, (20_000, 1)).astype(
        np.float16
    )  # the sum of squares overflows float16
    statistics = batch_statistics(x)
    np.testing.assert_allclose(
        statistics.var, x.astype(np.float64).var(0, keepdims=True), rtol=1e-5
    )


def test_variance_survives_a_large_mean():
    x = (np.random.default_rng(2).normal(size=(1000, 1)) + 1e4).astype(np.float32)
    exact = x.astype(np.float64).var()
    one_pass = (x**2).mean() - x.mean() ** 2
    assert abs(batch_statistics(x).var.item() - exact) < 1e-4 * exact
    assert abs(one_pass - exact) > 0.1 * exact  # the formula that this function avoids


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [8, 1000, 100_000])
def test_at_least_as_accurate_as_pytorch(mean, dtype, size):
    mean = min(mean, float(np.finfo(dtype).max) / 8)
    x = (np.random.default_rng(3).normal(size=(size, 4)) + mean).astype(dtype)
    wide = x.astype(np.longdouble)
    exact = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + np.longdouble(1e-5))
    ours, _ = batch_norm(x, np.ones(4, dtype), np.zeros(4, dtype))
    theirs = reference(x, np.ones(4, dtype), np.zeros(4, dtype), 1e-5)
    error = np.abs(ours - exact).max()
    rounding = 4 * np.finfo(dtype).eps * np.abs(exact).max()
    assert error <= max(rounding, np.abs(theirs - exact).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_constant_is_recognized(dtype):
    rng = np.random.default_rng(4)
    for value in np.concatenate(
        [rng.normal(size=50), [0.1, 123456.7, 20000.1, 1e6, 1e-3]]
    ):
        for size in (2, 3, 7, 1000):
            y, _ = batch_norm(
                np.full((size, 1), value, dtype),
                np.ones(1, dtype),
                np.array([2.0], dtype),
            )
            np.testing.assert_array_equal(y, np.full((size, 1), 2.0, dtype))


def test_cache_does_not_follow_later_changes_of_gamma():
    x, gamma, beta, _ = example("dense")
    _, cache = batch_norm(x, gamma, beta)
    before = cache.gamma.copy()
    gamma -= 0.5  # an optimizer's step
    np.testing.assert_array_equal(cache.gamma, before)


def test_statistics_are_those_of_numpy():
    x, _, _, axes = example("convolutional")
    statistics = batch_statistics(x, axes)
    assert statistics.count == 3 * 5 * 6
    np.testing.assert_allclose(statistics.mean, x.mean(axes, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(statistics.var, x.var(axes, keepdims=True), rtol=1e-13)


def test_cache_describes_the_forward_pass():
    x, gamma, beta, axes = example("convolutional")
    y, cache = batch_norm(x, gamma, beta, eps=0.1, axes=(-1, 0, 2))
    assert cache.axes == axes and cache.count == 3 * 5 * 6
    np.testing.assert_allclose(
        cache.std**2, x.var(axes, keepdims=True) + 0.1, rtol=1e-12
    )
    np.testing.assert_allclose(
        y, cache.gamma * cache.z_hat + np.expand_dims(beta, axes), rtol=1e-14
    )


finite = st.floats(-1e3, 1e3, allow_subnormal=False)
batches = arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=finite
)


def spread_out(x):
    """Whether every feature varies enough for a relative statement about ẑ."""
    return (x.std(0) > 1e-3).all()


@given(batches, st.floats(1e-6, 10.0))
def test_moments_of_the_output(x, eps):
    ones = np.ones(x.shape[1])
    _, cache = batch_norm(x, ones, 0 * ones, eps=eps)
    var = x.var(0)
    np.testing.assert_allclose(cache.z_hat.mean(0), 0, atol=1e-7)
    np.testing.assert_allclose(
        (cache.z_hat**2).mean(0), var / (var + eps), rtol=1e-6, atol=1e-9
    )


@given(batches.filter(spread_out), st.floats(-100, 100), st.floats(0.1, 10.0))
def test_shift_is_absorbed_and_scale_is_too_without_eps(x, shift, scale):
    ones = np.ones(x.shape[1])
    plain, _ = batch_norm(x, ones, 0 * ones, eps=0.0)
    moved, _ = batch_norm(scale * x + shift, ones, 0 * ones, eps=0.0)
    np.testing.assert_allclose(moved, plain, atol=1e-5)


@given(batches, st.randoms(use_true_random=False))
def test_permuting_the_batch_permutes_the_output(x, random):
    order = list(range(len(x)))
    random.shuffle(order)
    ones = np.ones(x.shape[1])
    y, _ = batch_norm(x, 2 * ones, ones)
    permuted, _ = batch_norm(x[order], 2 * ones, ones)
    np.testing.assert_allclose(permuted, y[order], atol=1e-6)


@given(batches)
def test_nothing_is_modified(x):
    gamma, beta = np.full(x.shape[1], 2.0), np.full(x.shape[1], -1.0)
    before = x.copy(), gamma.copy(), beta.copy()
    for array in (x, gamma, beta):
        array.flags.writeable = False  # a write would raise
    batch_norm(x, gamma, beta)
    for array, copy in zip((x, gamma, beta), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_gamma_and_beta_recover_the_identity_on_that_batch_only():
    x, _, _, _ = example("dense")
    _, cache = batch_norm(x, np.ones(4), np.zeros(4))
    gamma, beta = cache.std.ravel(), cache.statistics.mean.ravel()
    np.testing.assert_allclose(batch_norm(x, gamma, beta)[0], x, rtol=1e-13)
    other, _, _, _ = example("dense", seed=1)
    assert np.abs(batch_norm(other, gamma, beta)[0] - other).max() > 0.1


def test_two_examples_become_their_order():
    y, _ = batch_norm(np.array([[3.0], [700.0]]), np.ones(1), np.zeros(1), eps=0.0)
    np.testing.assert_allclose(y, [[-1.0], [1.0]], rtol=1e-14)


def test_constant_feature_becomes_beta():
    y, _ = batch_norm(np.full((5, 1), 7.0), np.array([3.0]), np.array([-2.0]))
    np.testing.assert_array_equal(y, np.full((5, 1), -2.0))


def test_complex_input_gives_the_analytic_continuation():
    x, gamma, beta, _ = example("dense")
    h = 1e-30
    step = x.astype(complex)
    step[2, 1] += 1j * h
    slope = batch_norm(step, gamma, beta)[0].imag / h
    difference = 1e-6 * np.eye(7)[:, [2]] * np.eye(4)[[1]]
    central = (
        batch_norm(x + difference, gamma, beta)[0]
        - batch_norm(x - difference, gamma, beta)[0]
    ) / 2e-6
    np.testing.assert_allclose(slope, central, atol=1e-8)


GOOD = np.arange(12.0).reshape(4, 3)
THREE = np.ones(3)


@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (
            TypeError,
            "must be a plain NumPy array, got list",
            ([[1.0, 2.0]], THREE, THREE),
            {},
        ),
        (
            TypeError,
            "got dtype int64.*astype",
            (np.arange(12).reshape(4, 3), THREE, THREE),
            {},
        ),
        (TypeError, "got dtype object", (GOOD.astype(object), THREE, THREE), {}),
        (TypeError, "got dtype bool", (GOOD > 3, THREE, THREE), {}),
        (
            TypeError,
            "gamma must hold floating-point",
            (GOOD, np.ones(3, int), THREE),
            {},
        ),
        (TypeError, "gamma is complex and x is real", (GOOD, 1j * THREE, THREE), {}),
        (
            ValueError,
            "x must be finite, got nan at index",
            (np.where(GOOD == 5, np.nan, GOOD), THREE, THREE),
            {},
        ),
        (
            ValueError,
            "x must be finite, got inf",
            (np.where(GOOD == 5, np.inf, GOOD), THREE, THREE),
            {},
        ),
        (
            ValueError,
            "beta must be finite",
            (GOOD, THREE, np.array([0.0, np.nan, 0.0])),
            {},
        ),
        (ValueError, "the batch is empty", (np.empty((0, 3)), THREE, THREE), {}),
        (
            ValueError,
            "one value per feature.*running statistics",
            (GOOD[:1], THREE, THREE),
            {},
        ),
        (
            ValueError,
            r"gamma must have shape \(3,\).*got \(4,\)",
            (GOOD, np.ones(4), THREE),
            {},
        ),
        (
            ValueError,
            r"beta must have shape \(3,\).*got \(1, 3\)",
            (GOOD, THREE, THREE[None]),
            {},
        ),
        (ValueError, "axis 2 is out of range", (GOOD, THREE, THREE), {"axes": 2}),
        (ValueError, "axis -3 is out of range", (GOOD, THREE, THREE), {"axes": -3}),
        (
            ValueError,
            "names the same axis twice",
            (GOOD, THREE, THREE),
            {"axes": (0, -2)},
        ),
        (ValueError, "axes is empty", (GOOD, THREE, THREE), {"axes": ()}),
        (TypeError, "axes must be an integer", (GOOD, THREE, THREE), {"axes": 0.5}),
        (TypeError, "axes must be an integer", (GOOD, THREE, THREE), {"axes": True}),
        (
            ValueError,
            "eps must be finite and at least 0, got -1e-05",
            (GOOD, THREE, THREE),
            {"eps": -1e-5},
        ),
        (ValueError, "eps must be finite", (GOOD, THREE, THREE), {"eps": float("nan")}),
        (ValueError, "eps must be finite", (GOOD, THREE, THREE), {"eps": float("inf")}),
        (
            TypeError,
            "eps must be a real number",
            (GOOD, THREE, THREE),
            {"eps": "small"},
        ),
        (
            ValueError,
            r"feature \(1,\) has no variance in float64",
            (GOOD * [1, 0, 1], THREE, THREE),
            {"eps": 0},
        ),
        (
            ValueError,
            "has no variance",
            (np.full((3, 3), 0.1), THREE, THREE),
            {"eps": 0},
        ),
        (ValueError, "variance overflows float64", (1e200 * GOOD, THREE, THREE), {}),
        (
            ValueError,
            "y overflows float16",
            (GOOD.astype(np.float16), 1e5 * THREE, THREE),
            {},
        ),
        (ValueError, "x has no axes", (np.array(1.0), THREE, THREE), {}),
        (
            TypeError,
            "plain NumPy array, got MaskedArray",
            (np.ma.array(GOOD), THREE, THREE),
            {},
        ),
    ],
)
def test_bad_input(error, message, arguments, options):
    with pytest.raises(error, match=message):
        batch_norm(*arguments, **options)


def test_no_features_is_an_empty_result():
    y, _ = batch_norm(np.empty((4, 0)), np.empty(0), np.empty(0))
    assert y.shape == (4, 0)


class TestModule:
    """`BatchNorm` against `torch.nn.functional.batch_norm` and `torch.nn.BatchNorm*d`."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(
        ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
    )
    def test_training_step_equals_pytorch(self, layout, dtype, bound):
        x, gamma, beta, _ = (
            torch.tensor(v, dtype=dtype) if isinstance(v, np.ndarray) else v
            for v in example(layout)
        )
        ours = BatchNorm(4, eps=1e-3, momentum=0.3, dtype=dtype)
        with torch.no_grad():
            ours.gamma.copy_(gamma)
            ours.beta.copy_(beta)
        mean, var = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
        for seed in range(3):
            batch = x + seed
            expected = F.batch_norm(
                batch, mean, var, gamma, beta, training=True, momentum=0.3, eps=1e-3
            )
            torch.testing.assert_close(ours(batch), expected, rtol=0, atol=bound)
        torch.testing.assert_close(ours.running_mean, mean, rtol=0, atol=10 * bound)
        torch.testing.assert_close(ours.running_var, var, rtol=0, atol=10 * bound)
        ours.eval()
        expected = F.batch_norm(x, mean, var, gamma, beta, training=False, eps=1e-3)
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=bound)

    def test_mode_is_explicit_and_not_inferred_from_gradients(self):
        layer, x = (
            BatchNorm(4),
            torch.randn(6, 4, generator=torch.Generator().manual_seed(0)),
        )
        layer(x)
        with torch.no_grad():
            in_training = layer(x)
        torch.testing.assert_close(
            in_training.mean(0), torch.zeros(4), atol=1e-6, rtol=0
        )
        layer.eval()
        before = layer.running_mean.clone()
        assert (
            layer(x).requires_grad
        )  # evaluated with gradients enabled, and still in evaluation mode
        torch.testing.assert_close(layer.running_mean, before)

    def test_one_example_is_fine_at_inference(self):
        layer = BatchNorm(4).eval()
        assert layer(torch.ones(1, 4)).shape == (1, 4)

    def test_gradients_equal_pytorch(self):
        x, gamma, beta, _ = example("convolutional")
        upstream = torch.tensor(np.random.default_rng(3).normal(size=x.shape))
        inputs = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
        expected = torch.autograd.grad(
            F.batch_norm(inputs[0], None, None, *inputs[1:], training=True),
            inputs,
            upstream,
        )
        layer = BatchNorm(4, dtype=torch.float64)
        with torch.no_grad():
            layer.gamma.copy_(inputs[1])
            layer.beta.copy_(inputs[2])
        got = torch.autograd.grad(
            layer(inputs[0]), [inputs[0], layer.gamma, layer.beta], upstream
        )
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_keeps_a_finite_running_variance(self, dtype):
        x = (
            torch.randn(4096, 1, generator=torch.Generator().manual_seed(0)).to(dtype)
            * 5
        )
        layer = BatchNorm(1, momentum=1.0, dtype=dtype)
        assert layer(x).dtype == dtype
        assert abs(layer.running_var.item() - 25) < 2

    def test_print_names_the_settings(self):
        assert (
            repr(BatchNorm(np.int64(3), eps=1e-3))
            == "BatchNorm(3, eps=0.001, momentum=0.1)"
        )

    def test_state_dict_round_trip(self):
        layer = BatchNorm(3)
        layer(torch.randn(8, 3))
        other = BatchNorm(3)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other.running_var, layer.running_var)

    @pytest.mark.parametrize(
        ("error", "message", "call"),
        [
            (ValueError, "features must be a positive integer", lambda: BatchNorm(0)),
            (ValueError, "momentum must lie in", lambda: BatchNorm(3, momentum=1.5)),
            (
                ValueError,
                "momentum must lie in",
                lambda: BatchNorm(3, momentum=float("nan")),
            ),
            (ValueError, "eps must be finite", lambda: BatchNorm(3, eps=-1.0)),
            (
                TypeError,
                "floating-point tensor, got torch.int64",
                lambda: BatchNorm(3)(torch.ones(4, 3, dtype=torch.int64)),
            ),
            (
                TypeError,
                "floating-point tensor, got ndarray",
                lambda: BatchNorm(3)(np.ones((4, 3))),
            ),
            (
                TypeError,
                "x is torch.float64 and the layer is torch.float32",
                lambda: BatchNorm(3)(torch.ones(4, 3).double()),
            ),
            (
                ValueError,
                r"must have shape \(M, 3\)",
                lambda: BatchNorm(3)(torch.ones(4, 2)),
            ),
            (
                ValueError,
                r"must have shape \(M, 3\)",
                lambda: BatchNorm(3)(torch.ones(3)),
            ),
            (ValueError, "the batch is empty", lambda: BatchNorm(3)(torch.ones(0, 3))),
            (
                ValueError,
                "one value per feature",
                lambda: BatchNorm(3)(torch.ones(1, 3)),
            ),
            (
                ValueError,
                "x must be finite",
                lambda: BatchNorm(3)(torch.full((4, 3), float("nan"))),
            ),
            (
                ValueError,
                "overflows",
                lambda: BatchNorm(3)(torch.tensor([[1e30], [-1e30]]).repeat(1, 3)),
            ),
            (
                ValueError,
                "has no variance in torch.float32",
                lambda: BatchNorm(3, eps=0.0)(torch.ones(4, 3)),
            ),
            (
                ValueError,
                "has no variance",
                lambda: BatchNorm(3, eps=1e-50)(torch.full((4, 3), 3.0)),
            ),
            (ValueError, "momentum must lie in", lambda: BatchNorm(3, momentum=None)),
            (
                ValueError,
                "features must be a positive integer",
                lambda: BatchNorm(True),
            ),
            (
                TypeError,
                "dtype must be a floating-point dtype",
                lambda: BatchNorm(3, dtype=torch.int64),
            ),
        ],
    )
    def test_bad_input(self, error, message, call):
        with pytest.raises(error, match=message):
            call()


class TestDescent:
    """`least_squares_descent` on problems with known answers."""

    def problem(self):
        rng = np.random.default_rng(4)
        x = rng.normal(size=(50, 2)) * [1.0, 5.0]
        return x, x @ np.array([2.0, -1.0])

    def test_converges_to_the_least_squares_solution(self):
        x, target = self.problem()
        rate = 1 / np.linalg.eigvalsh(x.T @ x / 50)[-1]
        run = least_squares_descent(x, target, np.zeros(2), rate=rate, steps=2000)
        np.testing.assert_allclose(run.path[-1], [2.0, -1.0], atol=1e-8)
        assert run.path.shape == (2001, 2) and run.loss.shape == (2001,)
        assert (np.diff(run.loss) <= 1e-15).all()

    def test_first_step_follows_the_gradient_of_the_loss(self):
        x, target = self.problem()
        run = least_squares_descent(x, target, np.array([0.3, 0.4]), rate=1e-3, steps=1)
        loss = lambda w: 0.5 * np.mean((x @ w - target) ** 2)
        numeric = [
            (loss(run.path[0] + d) - loss(run.path[0] - d)) / 2e-6
            for d in 1e-6 * np.eye(2)
        ]
        np.testing.assert_allclose(
            (run.path[0] - run.path[1]) / 1e-3, numeric, rtol=1e-6
        )
        np.testing.assert_allclose(run.loss, [loss(w) for w in run.path])

    @pytest.mark.parametrize("factor", [0.99, 1.01])
    def test_the_limit_is_two_over_the_largest_eigenvalue(self, factor):
        x, target = self.problem()
        limit = 2 / np.linalg.eigvalsh(x.T @ x / 50)[-1]
        run = least_squares_descent(
            x, target, np.zeros(2), rate=factor * limit, steps=3000
        )
        assert (run.loss[-1] < run.loss[0]) == (factor < 1)

    @pytest.mark.parametrize(
        ("message", "change"),
        [
            ("rate must be positive", {"rate": 0.0}),
            ("rate must be positive", {"rate": float("nan")}),
            ("rate must be positive and finite", {"rate": float("inf")}),
            ("steps must be at least 1", {"steps": 0}),
            (r"target must have shape \(4,\)", {"target": np.ones(3)}),
            (r"start must have shape \(3,\)", {"start": np.ones(2)}),
            ("x must have shape", {"x": np.ones(4)}),
            ("x must have shape", {"x": np.empty((0, 3)), "target": np.empty(0)}),
            ("target must be finite", {"target": np.array([1.0, np.nan, 0.0, 0.0])}),
        ],
    )
    def test_bad_input(self, message, change):
        arguments = {
            "x": GOOD,
            "target": np.ones(4),
            "start": np.zeros(3),
            "rate": 0.1,
            "steps": 3,
        } | change
        with pytest.raises(ValueError, match=message):
            least_squares_descent(
                arguments["x"],
                arguments["target"],
                arguments["start"],
                rate=arguments["rate"],
                steps=arguments["steps"],
            )
