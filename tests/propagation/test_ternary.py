"""Ternary weights: the function, best levels, layers, random networks, training."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from bnbook.intervals import mean_and_error, t_interval
from bnbook.propagation.activations import LINEAR, RELU, moments
from bnbook.propagation.binary import clip_latent
from bnbook.propagation.ternary import (
    SCALES,
    TernaryConv2d,
    TernaryLinear,
    TernSTE,
    tern,
    ternary_parts,
)
from bnbook.propagation.ternary_gradients import (
    batch_moments,
    quantized_law,
    quantized_variance,
)
from bnbook.propagation.ternary_levels import (
    DENSITIES,
    NORMAL,
    UNIFORM,
    Delta,
    a,
    fixed_ternary,
    levels,
    optimal_ternary,
    optimal_threshold,
    sigma,
    tail_moment,
)
from bnbook.propagation.ternary_training import (
    RATE_SWEEP,
    TREATMENTS,
    TernaryNetwork,
    choose_rate,
    train_ternary,
)
from bnbook.propagation.variance import (
    layer_factor,
    simulate,
)

vectors = arrays(
    np.float64,
    st.integers(1, 6),
    elements=st.floats(-8, 8, allow_subnormal=False).map(lambda v: round(v, 3)),
)


def brute_force(weights):
    """Least mean error over all patterns, each with its best α ≥ 0."""
    best = np.mean(weights**2)
    for pattern in itertools.product((-1.0, 0.0, 1.0), repeat=weights.size):
        t = np.array(pattern)
        if t.any():
            alpha = max(0.0, (weights @ t) / (t @ t))
            best = min(best, np.mean((weights - alpha * t) ** 2))
    return best


class TestTern:
    def test_cases_and_ends(self):
        x = np.array([-2.0, -0.5, -0.4, -0.0, 0.0, 0.4, 0.5, 2.0])
        np.testing.assert_array_equal(tern(x, 0.5), [-1, 0, 0, 0, 0, 0, 0, 1])
        np.testing.assert_array_equal(tern(x, 0), [-1, -1, -1, 0, 0, 1, 1, 1])

    @given(vectors, st.floats(0, 5))
    def test_odd_idempotent_and_three_valued(self, x, delta):
        t = tern(x, delta)
        assert set(t.tolist()) <= {-1.0, 0.0, 1.0}
        np.testing.assert_array_equal(tern(-x, delta), -t)
        np.testing.assert_array_equal(t == 0, np.abs(x) <= delta)
        assert (t * x >= 0).all()
        if delta < 1:
            np.testing.assert_array_equal(tern(t, delta), t)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_shape_and_dtype(self, dtype):
        x = np.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3)
        x.flags.writeable = False
        assert tern(x, 0.3).dtype == dtype and tern(x, 0.3).shape == (2, 3)

    @pytest.mark.parametrize(
        ("x", "delta", "error", "message"),
        [
            (np.ones(2), -0.1, ValueError, "at least 0, got -0.1"),
            (np.ones(2), math.nan, ValueError, "delta must be finite"),
            (np.ones(2), math.inf, ValueError, "delta must be finite"),
            (np.ones(2), "0.5", TypeError, "delta must be a real number"),
            (np.ones(2), True, TypeError, "delta must be a real number"),
            (np.array([1.0, math.nan]), 0.5, ValueError, "x must be finite"),
            (np.ones(2, int), 0.5, TypeError, "must hold floating-point"),
            (np.ones(2, complex), 0.5, TypeError, "x must be real"),
            ([1.0], 0.5, TypeError, "plain NumPy array"),
        ],
    )
    def test_bad_input(self, x, delta, error, message):
        with pytest.raises(error, match=message):
            tern(x, delta)


class TestSTE:
    @given(vectors, st.floats(0, 5))
    def test_forward_is_the_reference(self, x, delta):
        np.testing.assert_array_equal(
            TernSTE.apply(torch.tensor(x), delta).numpy(), tern(x, delta)
        )

    @pytest.mark.parametrize("estimator", ["identity", "hardtanh"])
    def test_backward(self, estimator):
        w = torch.tensor([-2.0, -0.5, 0.1, 0.9, 1.5], requires_grad=True)
        dy = torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0])
        y = TernSTE.apply(w, 0.3, 2.0, estimator)
        y.backward(dy)
        np.testing.assert_array_equal(y.detach().numpy(), [-2, -2, 0, 2, 2])
        inside = torch.tensor([0.0, 1, 1, 1, 0]) if estimator == "hardtanh" else 1
        assert torch.equal(w.grad, dy * inside)

    def test_alpha_broadcasts_and_has_no_gradient(self):
        w = torch.randn(2, 3, requires_grad=True)
        alpha = torch.tensor([[2.0], [3.0]])
        y = TernSTE.apply(w, 0.1, alpha)
        y.sum().backward()
        assert torch.equal(w.grad, torch.ones(2, 3))
        assert torch.equal(y.detach().abs().amax(1), alpha[:, 0])

    def test_bad_input(self):
        w = torch.ones(2)
        for delta in (-1.0, math.nan):
            with pytest.raises(ValueError, match="delta must be finite"):
                TernSTE.apply(w, delta)
        with pytest.raises(ValueError, match="unknown estimator 'tanh'"):
            TernSTE.apply(w, 0.1, 1.0, "tanh")
        with pytest.raises(TypeError, match="floating-point tensor"):
            TernSTE.apply(torch.ones(2, dtype=torch.int64), 0.1)


class TestParts:
    w = torch.tensor([[3.0, -1.0, 0.2], [-0.1, 2.0, -2.5]], dtype=torch.float64)

    def test_layer(self):
        t, alpha, delta = ternary_parts(self.w, factor=0.7, scale="layer")
        same = fixed_ternary(self.w.numpy(), 0.7)
        np.testing.assert_array_equal(t.numpy(), same.t)
        assert float(alpha) == pytest.approx(same.scale, rel=1e-15)
        assert float(delta) == pytest.approx(same.threshold, rel=1e-15)

    def test_output(self):
        t, alpha, _ = ternary_parts(self.w, factor=0.7, scale="output")
        kept = [[3.0], [2.0, 2.5]]  # Δ = 0.7 · 8.8/6 = 1.03: −1 is no longer kept
        np.testing.assert_array_equal(t.numpy(), [[1, 0, 0], [0, 1, -1]])
        np.testing.assert_allclose(alpha[:, 0].numpy(), [np.mean(k) for k in kept])

    def test_xnor_is_the_case_without_zeros(self):
        t, alpha, delta = ternary_parts(self.w, factor=0, scale="output")
        assert torch.equal(t, self.w.sign()) and delta == 0
        np.testing.assert_allclose(alpha, self.w.abs().mean(1, keepdim=True))

    def test_variance_is_kept(self):
        t, alpha, _ = ternary_parts(self.w, scale="variance")
        assert float((alpha * t).square().mean()) == pytest.approx(
            float(self.w.square().mean()), rel=1e-14
        )

    @pytest.mark.parametrize("scale", SCALES)
    def test_all_zero_weights(self, scale):
        t, alpha, delta = ternary_parts(torch.zeros(2, 3), scale=scale)
        assert not t.any() and delta == 0 and torch.isfinite(alpha).all()
        assert not (alpha * t).any()

    def test_an_output_without_weights(self):
        w = torch.tensor([[5.0, 5.0], [0.1, 0.1]])
        _, alpha, _ = ternary_parts(w, scale="output")
        assert alpha[:, 0].tolist() == [5.0, 0.0]

    @pytest.mark.parametrize(
        ("w", "given", "error", "message"),
        [
            (torch.tensor([[1.0, math.nan]]), {}, ValueError, "w must be finite"),
            (torch.ones(3), {}, ValueError, r"shape \(outputs, inputs"),
            (torch.ones(0, 3), {}, ValueError, "hold a weight"),
            (torch.ones(2, 2, dtype=torch.int8), {}, TypeError, "floating-point"),
            (np.ones((2, 2)), {}, TypeError, "floating-point tensor, got ndarray"),
            (torch.ones(2, 2), {"factor": -0.7}, ValueError, "factor must be"),
            (torch.ones(2, 2), {"factor": True}, ValueError, "factor must be"),
            (torch.ones(2, 2), {"scale": "row"}, ValueError, "unknown scale 'row'"),
        ],
    )
    def test_bad_input(self, w, given, error, message):
        with pytest.raises(error, match=message):
            ternary_parts(w, **given)


class TestLayers:
    @pytest.mark.parametrize("scale", SCALES)
    def test_linear_is_the_product(self, scale):
        layer = TernaryLinear(5, 3, scale=scale, bias=True, dtype=torch.float64)
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        x = torch.randn(2, 4, 5, dtype=torch.float64)
        t, alpha, _ = ternary_parts(layer.weight, scale=scale)
        torch.testing.assert_close(layer(x), x @ (alpha * t).T + layer.bias)

    def test_linear_gradients(self):
        layer = TernaryLinear(4, 3, scale="output", dtype=torch.float64)
        x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        ds = torch.randn(6, 3, dtype=torch.float64)
        layer(x).backward(ds)
        torch.testing.assert_close(x.grad, ds @ layer.ternary_weight().detach())
        torch.testing.assert_close(layer.weight.grad, ds.T @ x.detach())

    @pytest.mark.parametrize(
        ("stride", "padding", "kernel"), [(1, 0, 3), (2, 1, (2, 3))]
    )
    def test_conv_is_a_linear_layer_on_patches(self, stride, padding, kernel):
        layer = TernaryConv2d(
            2, 4, kernel, stride=stride, padding=padding, dtype=torch.float64
        )
        x = torch.randn(3, 2, 6, 7, dtype=torch.float64)
        y = layer(x)
        patches = torch.nn.functional.unfold(
            x, layer.kernel_size, stride=stride, padding=padding
        )
        by_patches = layer.ternary_weight().flatten(1) @ patches
        torch.testing.assert_close(y.flatten(2), by_patches)
        y.sum().backward()
        assert layer.weight.grad.shape == layer.weight.shape

    def test_bias_of_conv(self):
        layer = TernaryConv2d(2, 3, 1, bias=True)
        with torch.no_grad():
            layer.bias.fill_(2.0)
        assert torch.equal(layer(torch.zeros(1, 2, 2, 2)), torch.full((1, 3, 2, 2), 2))

    def test_start(self):
        draw = [
            TernaryLinear(400, 50, generator=torch.Generator().manual_seed(3))
            for _ in range(2)
        ]
        assert torch.equal(draw[0].weight, draw[1].weight)
        weight = draw[0].weight.detach()
        assert weight.abs().max() <= math.sqrt(6 / 400)
        assert float(weight.var()) == pytest.approx(2 / 400, rel=0.03)
        assert draw[0].sparsity() == pytest.approx(0.35, abs=0.01)
        conv = TernaryConv2d(8, 40, 3).weight.detach()
        assert float(conv.var()) == pytest.approx(2 / 72, rel=0.06)

    def test_clip(self):
        layers = torch.nn.ModuleList([TernaryLinear(2, 2), TernaryLinear(2, 2)])
        layers[1].clip = False
        for layer in layers:
            with torch.no_grad():
                layer.weight.fill_(3.0)
        clip_latent(layers)
        assert [float(layer.weight.detach().max()) for layer in layers] == [1.0, 3.0]

    def test_shown(self):
        assert "factor=0.7, scale='none'" in repr(TernaryLinear(2, 3))
        assert "kernel_size=(3, 3)" in repr(TernaryConv2d(2, 3, 3))

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: TernaryLinear(0, 2), ValueError, "in_features must be"),
            (lambda: TernaryLinear(2, -1), ValueError, "out_features must be"),
            (lambda: TernaryLinear(2, True), ValueError, "out_features must be"),
            (lambda: TernaryLinear(2, 2, factor=-1), ValueError, "factor must be"),
            (lambda: TernaryLinear(2, 2, scale="x"), ValueError, "unknown scale"),
            (lambda: TernaryLinear(2, 2, dtype=torch.int8), TypeError, "dtype must"),
            (lambda: TernaryConv2d(2, 0, 3), ValueError, "out_channels must be"),
            (lambda: TernaryConv2d(2, 2, 0), ValueError, "kernel_size must be"),
            (lambda: TernaryConv2d(2, 2, (1, 2, 3)), ValueError, "kernel_size must"),
            (lambda: TernaryConv2d(2, 2, 3, padding=-1), ValueError, "padding must"),
            (lambda: TernaryConv2d(2, 2, 3, stride=0), ValueError, "stride must"),
        ],
    )
    def test_bad_sizes(self, make, error, message):
        with pytest.raises(error, match=message):
            make()

    @pytest.mark.parametrize(
        ("layer", "x", "error", "message"),
        [
            (TernaryLinear(3, 2), torch.ones(4, 2), ValueError, "3 features"),
            (TernaryLinear(3, 2), torch.tensor(1.0), ValueError, "3 features"),
            (TernaryLinear(3, 2), torch.ones(4, 3).int(), TypeError, "got torch.int32"),
            (TernaryLinear(3, 2), np.ones((4, 3)), TypeError, "got ndarray"),
            (TernaryConv2d(2, 2, 3), torch.ones(2, 5, 5), ValueError, r"\(B, 2, "),
            (TernaryConv2d(2, 2, 3), torch.ones(1, 3, 5, 5), ValueError, "channels"),
            (TernaryConv2d(2, 2, 3), torch.ones(1, 2, 2, 5), ValueError, "pad it more"),
        ],
    )
    def test_bad_inputs(self, layer, x, error, message):
        with pytest.raises(error, match=message):
            layer(x)

    def test_a_latent_weight_that_is_not_finite(self):
        layer = TernaryLinear(2, 2)
        with torch.no_grad():
            layer.weight[0, 0] = math.nan
        with pytest.raises(ValueError, match="w must be finite"):
            layer(torch.ones(1, 2))


class TestLevels:
    @pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
    @pytest.mark.parametrize("power", [0, 1, 2])
    @pytest.mark.parametrize("delta", [0.0, 0.4, 1.1])
    def test_tail_moments(self, density, power, delta):
        spread = 1.3
        inside = sp.lambdify(
            sp.Symbol("w", real=True), density.inside.subs(density.spread, spread)
        )
        end = spread if density is UNIFORM else 12 * spread
        expected = integrate.quad(lambda v: 2 * v**power * inside(v), delta, end)[0]
        found = tail_moment(density, power).subs({density.spread: spread, Delta: delta})
        assert float(found) == pytest.approx(expected, rel=1e-8)

    @pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
    def test_parts_of_the_variance(self, density):
        found = levels(density)
        second = tail_moment(density, 2).subs(Delta, 0)
        assert sp.simplify(found.kept + found.error - second) == 0
        assert sp.simplify(found.scale**2 * found.variance - found.kept) == 0
        assert sp.simplify(found.sparsity + found.variance - 1) == 0

    def test_known_values(self):
        found = levels(UNIFORM)
        assert optimal_threshold(UNIFORM) == a / 3
        assert found.error.subs(Delta, a / 3) == a**2 / 27
        assert (
            sp.simplify(
                (levels(NORMAL).sparsity - sp.erf(Delta / sigma / sp.sqrt(2))).rewrite(
                    sp.erf
                )
            )
            == 0
        )
        # Max (1960), Table I, N = 3: threshold 0.6120, output 1.224, error 0.1902
        best = optimal_threshold(NORMAL).subs(sigma, 1)
        at = {sigma: 1, Delta: best}
        normal = levels(NORMAL)
        assert float(best) == pytest.approx(0.6120, abs=5e-5)
        assert float(normal.scale.subs(at)) == pytest.approx(1.224, abs=5e-4)
        assert float(normal.error.subs(at)) == pytest.approx(0.1902, abs=5e-5)

    @pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
    def test_the_threshold_is_the_minimum(self, density):
        error = sp.lambdify(Delta, levels(density).error.subs(density.spread, 1))
        best = float(optimal_threshold(density).subs(density.spread, 1))
        grid = np.linspace(0.001, 0.999 if density is UNIFORM else 4, 400)
        assert all(error(best) <= error(d) + 1e-15 for d in grid)
        slope = np.diff([error(d) for d in grid])
        assert (np.diff(np.sign(slope)) != 0).sum() == 1  # and the only one

    def test_bad_input(self):
        with pytest.raises(ValueError, match="power must"):
            tail_moment(NORMAL, -1)
        with pytest.raises(ValueError, match="digits must"):
            optimal_threshold(NORMAL, 1)


class TestOptimalTernary:
    @settings(max_examples=40)
    @given(vectors)
    def test_no_pattern_is_better(self, weights):
        found = optimal_ternary(weights)
        assert found.error == pytest.approx(brute_force(weights), abs=1e-12)
        np.testing.assert_allclose(
            np.mean((weights - found.scale * found.t) ** 2), found.error, atol=1e-14
        )
        fixed = fixed_ternary(weights)
        assert fixed.error >= found.error - 1e-12
        if found.scale:
            np.testing.assert_array_equal(tern(weights, found.threshold), found.t)
            assert found.scale == pytest.approx(np.abs(weights)[found.t != 0].mean())

    @pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
    def test_any_size(self, size):
        weights = size * np.array([1.0, -3.0, 0.5, 2.5])
        with np.errstate(over="ignore", under="ignore"):  # of the error, not of t and α
            found = optimal_ternary(weights)
        np.testing.assert_array_equal(found.t, [0, -1, 0, 1])
        assert found.scale == pytest.approx(2.75 * size)

    @pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
    def test_is_the_continuous_optimum_on_many_weights(self, density):
        middle = (np.arange(20_000) + 0.5) / 20_000
        weights = 2 * middle - 1 if density is UNIFORM else stats.norm.ppf(middle)
        at = {
            density.spread: 1,
            Delta: optimal_threshold(density).subs(density.spread, 1),
        }
        found, expected = optimal_ternary(weights), levels(density)
        assert found.scale == pytest.approx(float(expected.scale.subs(at)), rel=1e-3)
        assert found.error == pytest.approx(float(expected.error.subs(at)), rel=1e-3)
        assert (found.t == 0).mean() == pytest.approx(
            float(expected.sparsity.subs(at)), rel=1e-3
        )

    def test_zeros_and_dtype(self):
        found = optimal_ternary(np.zeros((2, 2), np.float32))
        assert (found.scale, found.error) == (0.0, 0.0) and not found.t.any()
        assert found.t.dtype == np.float32 and found.t.shape == (2, 2)

    @pytest.mark.parametrize("function", [optimal_ternary, fixed_ternary])
    def test_bad_input(self, function):
        with pytest.raises(ValueError, match="weights is empty"):
            function(np.ones(0))
        with pytest.raises(ValueError, match="weights must be finite"):
            function(np.array([1.0, math.inf]))
        with pytest.raises(TypeError, match="plain NumPy array"):
            function([1.0])
        with pytest.raises(ValueError, match="delta must be"):
            fixed_ternary(np.ones(2), -1.0)


class TestLaws:
    @pytest.mark.parametrize("kind", DENSITIES)
    @pytest.mark.parametrize("factor", [0.0, 0.7, 1.1])
    @pytest.mark.parametrize("scale", SCALES)
    def test_variance_of_the_samples(self, kind, factor, scale):
        law = quantized_law(kind, factor, scale)
        w = law.sample(np.random.default_rng(5), 500, 400)
        assert w.shape == (500, 400)
        assert w.var() == pytest.approx(law.variance(500, 400), rel=0.015)
        assert abs(w.mean()) < 5 * w.std() / w.size**0.5

    def test_outputs_are_columns(self):
        w = quantized_law("normal", 0.7, "output").sample(
            np.random.default_rng(6), 30, 20
        )
        for column in w.T:
            assert len(set(np.abs(column[column != 0]))) == 1
        assert len(set(np.abs(w).max(axis=0))) == 20

    def test_paper_values(self):
        assert quantized_variance("uniform", 0.7) == pytest.approx(0.65, rel=1e-14)
        assert quantized_variance("normal", 0.7) == pytest.approx(
            math.erfc(0.7 / math.sqrt(math.pi)), rel=1e-14
        )
        assert quantized_variance("uniform", 0, "layer") == pytest.approx(3 / 4)
        assert quantized_variance("normal", 0, "output") == pytest.approx(2 / math.pi)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("laplace",), "kind must be one of"),
            (("uniform", 2.0), "sets every weight to 0; use less than 2"),
            (("uniform", 0.7, "row"), "unknown scale 'row'"),
        ],
    )
    def test_bad_input(self, given, message):
        with pytest.raises(ValueError, match=message):
            quantized_law(*given)


class TestGradients:
    """Theory against Monte Carlo; |z| < 4 by a fixed seed."""

    @pytest.mark.parametrize("scale", SCALES)
    @pytest.mark.parametrize("norm", [False, True])
    def test_factor_per_layer(self, scale, norm):
        law = quantized_law("uniform", 0.7, scale)
        at = {"batch": 64, "networks": 12, "seed": 4, "skip": 2}
        factor = layer_factor([96] * 9, RELU, law, norm=norm, **at)
        assert abs(factor.z) < 4 and factor.error < 0.03 * factor.theory
        expected = 1.491 if norm else 48 * law.variance(96, 96)  # π/(π−1) · 62/61
        assert factor.theory == pytest.approx(expected, rel=1e-3)

    def test_ratio_of_widths(self):
        widths = [64, 128, 64, 256, 128, 64, 128]
        run = simulate(
            widths, RELU, quantized_law(), norm=True, batch=128, networks=24, seed=2
        )
        ratio = np.array([c / b for b, c in zip(widths[1:], widths[3:], strict=False)])
        scaled = (run.factors[:, 1:] / ratio).mean(axis=1)
        mean, error = mean_and_error(scaled)
        # The leading order leaves terms of order 1/K.
        assert abs(mean - math.pi / (math.pi - 1) * 126 / 125) < 4 * error + 1 / 64
        assert t_interval(scaled)[1] > 1.3  # and not the printed 1

    def test_batch_moments(self):
        run = batch_moments([256] * 5, quantized_law(), batch=256, networks=8, seed=1)
        assert run.spread.shape == run.shift.shape == (8, 3)
        mean, error = mean_and_error(run.spread.mean(axis=1))
        expected = float(moments(RELU).variance)
        assert abs(mean - expected) < 4 * error + 1 / 256
        np.testing.assert_allclose((run.spread + run.shift).mean(), 0.5, atol=0.02)

    def test_batch_variance_over_all_weights(self):
        """E over weights of the batch variance, for any one batch: exact."""
        rng = np.random.default_rng(7)
        batch = np.maximum(rng.normal(size=(5, 4)) + 0.3, 0)
        variance, total = 0.65, 0.0
        for pattern in itertools.product((-1, 0, 1), repeat=4):
            t = np.array(pattern)
            chance = np.where(t == 0, 1 - variance, variance / 2).prod()
            total += chance * (batch @ t).var()
        assert total == pytest.approx(variance * batch.var(axis=0).sum(), rel=1e-12)

    def test_linear_activation_has_no_shift(self):
        run = batch_moments([200] * 3, quantized_law(), LINEAR, batch=200, seed=3)
        assert run.spread.mean() == pytest.approx(1.0, rel=0.02)
        assert run.shift.max() < 1e-12  # ŝ has mean 0 in every batch

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (([4, 4], quantized_law()), ValueError, "number of layers"),
            (([4, 0, 4], quantized_law()), ValueError, "every width"),
            (([4, 4, 4], 0.7), TypeError, "law must be a WeightLaw"),
            (([4, 4, 4], quantized_law(), "relu"), TypeError, "must be an Activation"),
        ],
    )
    def test_bad_input(self, given, error, message):
        with pytest.raises(error, match=message):
            batch_moments(*given, batch=8)

    def test_bad_counts(self):
        for counts in ({"batch": 1}, {"batch": 8, "networks": 0}):
            with pytest.raises(ValueError, match="must be an integer of at least"):
                batch_moments([4, 4, 4], quantized_law(), **counts)


class TestTraining:
    def test_treatments(self):
        for treatment in TREATMENTS:
            network = TernaryNetwork([6, 5, 4, 3], treatment=treatment, seed=1)
            x = torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
            for layer, norm in zip(network.hidden, network.norms, strict=True):
                assert (layer.scale == "layer") == (treatment in ("scale", "both"))
                with_norm = isinstance(norm, torch.nn.BatchNorm1d)
                assert with_norm == (treatment in ("norm", "both"))
            assert network(x).shape == (7, 3)
            shares = [float((h.ternary_weight() == 0).sum()) for h in network.hidden]
            assert network.sparsity() == pytest.approx(sum(shares) / 50)

    def test_a_rate_where_both_learn(self):
        first = train_ternary("both", 0.1, 0)
        assert first["test"] > 0.8 and 0.3 < first["sparsity"] < 0.5
        assert set(first) == {"validation", "test", "loss", "sparsity"}

    def test_bad_input(self):
        with pytest.raises(ValueError, match="unknown treatment 'bn'"):
            TernaryNetwork([2, 2, 2], treatment="bn")
        with pytest.raises(ValueError, match="hidden layer"):
            TernaryNetwork([2, 2], treatment="norm")
        for rate in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="rate must be positive"):
                train_ternary("norm", rate, 0)

    def test_choice_of_the_rate(self):
        rows = [
            ("norm", 0.1, 1, 0.8, 0.7),
            ("norm", 0.1, 0, 0.9, 0.6),
            ("norm", 0.01, 0, 0.81, 0.9),
            ("norm", 0.01, 1, 0.81, 0.9),
            ("norm", 1.0, 0, 1.0, 1.0),
            ("norm", 1.0, 1, math.nan, math.nan),  # diverged
            ("scale", 10.0, 0, 1.0, 1.0),
        ]
        columns = ["treatment", "rate", "seed", "validation", "test"]
        results = pd.DataFrame(rows, columns=columns)
        chosen = choose_rate(results, "norm")
        assert chosen.rate == 0.1 and chosen.good == (0.01, 0.1)
        assert chosen.runs.test.tolist() == [0.6, 0.7]  # by seed
        assert choose_rate(results, "norm", room=0.01).good == (0.1, 0.1)
        assert choose_rate(results, "norm", room=0.5).good == (0.01, 1.0)
        with pytest.raises(ValueError, match="no run of 'both'"):
            choose_rate(results, "both")

    def test_settings(self):
        assert len(RATE_SWEEP.settings) == 4 * 21 * 3
