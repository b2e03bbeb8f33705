"""`bnbook.propagation.binary` and its theory, thresholds and training: parity, exact laws, bad input."""

import copy
import itertools
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bnbook.experiments import deviation
from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.intervals import mean_and_error
from bnbook.propagation import binary_arguments as arguments
from bnbook.propagation import binary_shapes as shapes
from bnbook.propagation import binary_training as training
from bnbook.propagation.binary import (
    ESTIMATORS,
    BinaryConv2d,
    BinaryLinear,
    Sign,
    SignSTE,
    clip_latent,
    sign,
    ste_derivative,
)
from bnbook.propagation.binary_bias import sign_rule
from bnbook.propagation.binary_theory import (
    ACTIVATIONS,
    B,
    autograd_variances,
    batch_averages,
    lattice_slope,
    normalized_slope,
    sign_theory,
    slope,
)
from bnbook.propagation.binary_training import Part, SignNetworks, accuracies, train
from bnbook.propagation.variance import simulate, weight_law

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
EDGES = [-math.inf, -1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, math.inf]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SIGNS = weight_law("signs", "1")


class TestSign:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_values_and_dtype(self, dtype):
        y = sign(torch.tensor(EDGES, dtype=dtype))
        assert y.dtype == dtype
        assert y.tolist() == [-1] * 4 + [1] * 6

    def test_nan_stays_nan(self):
        assert torch.isnan(sign(torch.tensor([math.nan]))).all()

    def test_does_not_change_its_input(self):
        s = torch.tensor(EDGES)
        kept = s.clone()
        sign(s)
        assert torch.equal(s, kept)

    @pytest.mark.parametrize("bad", [torch.tensor([1, -1]), [0.5], np.ones(2)])
    def test_refuses_what_is_no_float_tensor(self, bad):
        with pytest.raises(TypeError, match="floating-point"):
            sign(bad)

    @given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1), st.floats(1e-3, 1e3))
    def test_a_positive_factor_changes_nothing(self, values, factor):
        s = torch.tensor(values, dtype=torch.float64)
        assert torch.equal(sign(factor * s), sign(s))


class TestEstimators:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("estimator", "passed"),
        [
            ("identity", [1] * 10),
            ("hardtanh", [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]),
            ("relu", [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]),
        ],
    )
    def test_backward_is_exact(self, estimator, passed, dtype):
        s = torch.tensor(EDGES, dtype=dtype, requires_grad=True)
        dy = torch.arange(1, 11).to(dtype)
        SignSTE.apply(s, estimator).backward(dy)
        assert s.grad.dtype == dtype
        assert s.grad.tolist() == [
            p * d for p, d in zip(passed, dy.tolist(), strict=True)
        ]

    @pytest.mark.parametrize(
        ("estimator", "twin"),
        [
            ("identity", lambda s: s),
            ("hardtanh", functional.hardtanh),
            ("relu", functional.relu),
        ],
    )
    def test_backward_is_the_derivative_of_its_name(self, estimator, twin):
        s = torch.tensor(np.random.default_rng(0).normal(size=200), requires_grad=True)
        expected = torch.autograd.grad(twin(s).sum(), s)[0]
        (got,) = torch.autograd.grad(SignSTE.apply(s, estimator).sum(), s)
        assert torch.equal(got, expected)
        torch.autograd.gradcheck(twin, (s,))

    def test_default_is_the_identity(self):
        s = torch.tensor(EDGES, requires_grad=True)
        SignSTE.apply(s).sum().backward()
        assert (s.grad == 1).all()

    @every_estimator
    def test_equals_the_pair_of_the_monte_carlo(self, estimator):
        s = torch.tensor(EDGES, dtype=torch.float64)
        pair = ACTIVATIONS[estimator]
        np.testing.assert_array_equal(sign(s).numpy(), pair.f(s.numpy()))
        np.testing.assert_array_equal(
            ste_derivative(s, estimator).numpy(), pair.derivative(s.numpy())
        )

    def test_unknown_names_are_refused(self):
        s = torch.ones(2)
        for call in (
            lambda: SignSTE.apply(s, "tanh"),
            lambda: ste_derivative(s, "tanh"),
            lambda: Sign("tanh"),
            lambda: BinaryLinear(2, 2, estimator="tanh"),
            lambda: slope("tanh"),
            lambda: batch_averages("tanh"),
        ):
            with pytest.raises(ValueError, match="identity, hardtanh, relu"):
                call()


class TestLinear:
    def test_forward_and_backward_by_hand(self):
        layer = BinaryLinear(5, 3, bias=True, dtype=torch.float64)
        x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        dy = torch.randn(4, 3, dtype=torch.float64)
        w = sign(layer.weight.detach())
        s = layer(x)
        torch.testing.assert_close(s, x @ w.T + layer.bias)
        s.backward(dy)
        torch.testing.assert_close(x.grad, dy @ w)
        torch.testing.assert_close(layer.weight.grad, dy.T @ x.detach())
        torch.testing.assert_close(layer.bias.grad, dy.sum(0))

    def test_gradcheck_with_respect_to_x(self):
        layer = BinaryLinear(3, 2, dtype=torch.float64)
        x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (x,))

    def test_hardtanh_weights_stop_outside_the_window(self):
        layer = BinaryLinear(2, 1, estimator="hardtanh")
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, 1.5]]))
        layer(torch.ones(1, 2)).sum().backward()
        assert layer.weight.grad.tolist() == [[1.0, 0.0]]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_dtype(self, dtype):
        layer = BinaryLinear(4, 2, dtype=dtype)
        assert layer(torch.ones(3, 4, dtype=dtype)).dtype == dtype
        assert set(layer.binary_weight().flatten().tolist()) <= {-1.0, 1.0}

    def test_evaluation_mode_changes_nothing(self):
        layer, x = BinaryLinear(6, 4), torch.randn(3, 6)
        assert torch.equal(layer.train()(x), layer.eval()(x))

    def test_seed_and_sums_are_integers_of_one_parity(self):
        make = lambda: BinaryLinear(7, 5, generator=torch.Generator().manual_seed(3))
        assert torch.equal(make().weight, make().weight)
        s = make()(sign(torch.randn(20, 7)))
        assert (s % 2 == 1).all() and (s.abs() <= 7).all()

    def test_state_dict_round_trip(self):
        a, b = BinaryLinear(4, 3), BinaryLinear(4, 3)
        b.load_state_dict(a.state_dict())
        assert torch.equal(a.binary_weight(), b.binary_weight())

    @pytest.mark.parametrize("clip", [True, False])
    def test_clipping_is_an_option(self, clip):
        network = nn.Sequential(BinaryLinear(3, 2, clip=clip), nn.Linear(2, 2))
        with torch.no_grad():
            for layer in network:
                layer.weight.fill_(2.5)
        clip_latent(network)
        assert (network[0].weight == (1.0 if clip else 2.5)).all()
        assert (network[1].weight == 2.5).all()

    @pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 2), (2.0, 2), (True, 2)])
    def test_bad_sizes(self, sizes):
        with pytest.raises(ValueError, match="at least 1"):
            BinaryLinear(*sizes)

    def test_bad_input(self):
        layer = BinaryLinear(3, 2)
        with pytest.raises(TypeError, match="floating-point"):
            layer(torch.ones(2, 3, dtype=torch.int64))
        with pytest.raises(ValueError, match="3 features"):
            layer(torch.ones(2, 4))
        with pytest.raises(ValueError, match="3 features"):
            layer(torch.tensor(1.0))
        with pytest.raises(TypeError, match="latent"):
            BinaryLinear(3, 2, dtype=torch.int8)


class TestConv:
    @pytest.mark.parametrize("pad_value", [0.0, -1.0, 1.0])
    @pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), (2, 2)])
    def test_is_unfold_and_a_linear_layer(self, stride, padding, pad_value):
        make = {"stride": stride, "padding": padding, "pad_value": pad_value}
        conv = BinaryConv2d(2, 3, (3, 2), dtype=torch.float64, **make)
        x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
        got = conv(x)
        padded = functional.pad(x, (padding,) * 4, value=pad_value)
        columns = functional.unfold(padded, (3, 2), stride=stride).transpose(1, 2)
        linear = BinaryLinear(12, 3, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(conv.weight.reshape(3, 12))
        expected = linear(columns).transpose(1, 2).reshape(got.shape)
        torch.testing.assert_close(got, expected)
        dy = torch.randn_like(got)
        (dx,) = torch.autograd.grad(got, x, dy, retain_graph=True)
        torch.testing.assert_close(
            dx, torch.autograd.grad(expected, x, dy, retain_graph=True)[0]
        )
        got.backward(dy)
        expected.backward(dy)
        torch.testing.assert_close(conv.weight.grad.reshape(3, 12), linear.weight.grad)

    @pytest.mark.parametrize(
        ("arguments", "options"),
        [
            ((0, 1, 3), {}),
            ((1, 0, 3), {}),
            ((1, 1, 0), {}),
            ((1, 1, (3, 3, 3)), {}),
            ((1, 1, 3), {"stride": 0}),
            ((1, 1, 3), {"padding": -1}),
            ((1, 1, 3), {"pad_value": math.nan}),
        ],
    )
    def test_bad_sizes(self, arguments, options):
        with pytest.raises(ValueError, match="must be"):
            BinaryConv2d(*arguments, **options)

    def test_bad_input(self):
        conv = BinaryConv2d(2, 3, 3)
        with pytest.raises(ValueError, match=r"\(B, 2, height, width\)"):
            conv(torch.ones(2, 5, 5))
        with pytest.raises(ValueError, match="input channels"):
            conv(torch.ones(1, 3, 5, 5))
        with pytest.raises(ValueError, match="smaller than the window"):
            conv(torch.ones(1, 2, 2, 5))
        with pytest.raises(TypeError, match="floating-point"):
            conv(torch.ones(1, 2, 5, 5, dtype=torch.uint8))


class TestTheory:
    @every_estimator
    @pytest.mark.parametrize("fan_in", [1, 2, 3, 6, 9])
    def test_lattice_law_by_every_case(self, estimator, fan_in):
        count, total = 0, 0
        for case in range(2**fan_in):
            s = sum(1 if case >> bit & 1 else -1 for bit in range(fan_in))
            h = ste_derivative(torch.tensor([float(s)]), estimator).item()
            count, total = count + 1, total + int(h)
        assert lattice_slope(estimator, fan_in) == Fraction(total, count)

    def test_parity_doubles_the_window(self):
        for even in (64, 256, 1024):
            p_even = float(lattice_slope("hardtanh", even))
            p_odd = float(lattice_slope("hardtanh", even - 1))
            assert p_odd == 2 * p_even
            gauss = float(slope("hardtanh", sp.Integer(even)))
            assert abs(p_even / gauss - 1) < 0.2 / even

    @every_estimator
    def test_normalized_factor_by_monte_carlo(self, estimator):
        rng, size = np.random.default_rng(0), 120_000
        for batch in (8, 16):
            s = rng.normal(3.0, 2.0, size=(batch, size))
            z, cache = batch_norm(s, np.ones(size), np.zeros(size), eps=0.0)
            dz = rng.normal(size=s.shape) * ACTIVATIONS[estimator].derivative(z)
            passed = 4.0 * np.square(batch_norm_backward(dz, cache).dx).mean(axis=0)
            mean, error = mean_and_error(passed)
            expected = float(normalized_slope(estimator).subs(B, batch))
            assert abs(mean - expected) < 4 * error
            assert error < 0.01 * expected

    @every_estimator
    @pytest.mark.parametrize("batch", [4, 7, 64])
    def test_batch_averages_by_quadrature(self, estimator, batch):
        """ŝ² = (B − 1) v, v ~ Beta: with v = u² the density has no pole at 0."""
        nodes, weights = np.polynomial.legendre.leggauss(200)
        end = math.sqrt(1 / (batch - 1))
        got = [float(e.subs(B, batch)) for e in batch_averages(estimator)]
        expected = np.zeros(2)
        for low, high in ((-1, -end), (-end, 0), (0, end), (end, 1)):
            u = low + (high - low) * (nodes + 1) / 2
            dense = (1 - u**2) ** (batch / 2 - 2) * weights * (high - low) / 2
            dense *= math.gamma((batch - 1) / 2) / math.gamma(batch / 2 - 1)
            s = math.sqrt(batch - 1) * u
            h = ACTIVATIONS[estimator].derivative(s)
            expected += [(h * dense).sum(), (h * s**2 * dense).sum()]
        np.testing.assert_allclose(got, expected / math.sqrt(math.pi), rtol=1e-10)

    @every_estimator
    def test_normalized_factor_tends_to_the_slope(self, estimator):
        far = float(normalized_slope(estimator).subs(B, 10**6))
        assert abs(far - float(slope(estimator))) < 1e-5

    @every_estimator
    @pytest.mark.parametrize("norm", [False, True])
    def test_monte_carlo_equals_autograd_through_the_layers(self, estimator, norm):
        widths, how = (9, 12, 7, 16, 5), {"norm": norm, "batch": 24, "seed": 4}
        run = simulate(widths, ACTIVATIONS[estimator], SIGNS, networks=3, **how)
        got, weights = autograd_variances(widths, estimator, networks=3, **how)
        np.testing.assert_allclose(got.forward, run.forward, rtol=1e-12)
        np.testing.assert_allclose(got.backward, run.backward, rtol=1e-10)
        assert weights.shape == (3, 4) and (weights > 0).all()

    @every_estimator
    @pytest.mark.parametrize(("norm", "width"), [(False, 64), (False, 65), (True, 255)])
    def test_factors_agree_with_the_monte_carlo(self, estimator, norm, width):
        widths = [width] * 5
        how = {"norm": norm, "batch": 32, "seed": 6}
        run = simulate(widths, ACTIVATIONS[estimator], SIGNS, networks=12, **how)
        theory = sign_theory(widths, estimator, norm=norm, batch=32 if norm else None)
        mean, error = mean_and_error(run.factors[:, 1:].mean(axis=1))
        expected = (theory[:-1] / theory[1:])[1:].mean()
        assert abs(mean - expected) < 4 * error + 0.01 * expected
        assert error < 0.03 * expected

    @given(st.lists(st.integers(1, 500), min_size=3, max_size=9))
    def test_the_width_ratios_telescope(self, widths):
        theory = sign_theory(widths, "identity", norm=True)
        invariant = theory * np.array(widths[1:]) * np.array(widths[:-1])
        np.testing.assert_allclose(invariant, invariant[-1], rtol=1e-12)

    def test_first_layer_sees_a_gaussian(self):
        theory = sign_theory((64, 63, 10), "hardtanh", norm=False)
        expected = 10 * math.erf(1 / math.sqrt(2 * 64))
        assert abs(theory[0] / expected - 1) < 1e-12

    def test_bad_input(self):
        for bad in ((5,), (5, 0, 3), (5, 2.5, 3)):
            with pytest.raises(ValueError, match="width"):
                sign_theory(bad, "identity", norm=False)
            with pytest.raises(ValueError, match="width"):
                autograd_variances(bad, "identity", norm=False)
        with pytest.raises(ValueError, match="batch"):
            sign_theory((5, 5, 5), "identity", norm=True, batch=3)
        with pytest.raises(ValueError, match="fan_in"):
            lattice_slope("identity", 0)


class TestRule:
    @settings(max_examples=200)
    @given(
        st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.5, 2.0]),
        st.sampled_from([-2.0, -0.5, 0.0, 0.25, 3.0]),
        st.sampled_from([-4.0, 0.0, 1.0]),
        st.sampled_from([0.5, 1.0, 4.0]),
        st.integers(-64, 64),
    )
    def test_equals_normalization_and_sign(self, gamma, beta, mean, std, eighths):
        """Exact: on these grids float64 rounds nothing but β σ/γ, and that by no eighth."""
        exact = [Fraction(v) for v in (gamma, beta, mean, std)]
        s = Fraction(eighths, 8)
        y = exact[0] * (s - exact[2]) / exact[3] + exact[1]
        rule = sign_rule(*(np.array([v]) for v in (gamma, beta, mean, std)))
        assert rule(np.array([float(s)]))[0] == (1 if y >= 0 else -1)

    def test_ties_go_up_for_both_signs_of_gamma(self):
        one, zero = np.ones(2), np.zeros(2)
        rule = sign_rule(np.array([2.0, -2.0]), zero, one, one)
        np.testing.assert_array_equal(
            rule(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])),
            [[-1, 1], [1, 1], [1, -1]],
        )

    def test_no_gamma_no_dependence(self):
        rule = sign_rule(
            np.zeros(3), np.array([-1.0, 0.0, 2.0]), np.ones(3), np.ones(3)
        )
        s = np.random.default_rng(0).normal(size=(5, 3))
        np.testing.assert_array_equal(rule(s), np.tile([-1.0, 1.0, 1.0], (5, 1)))

    def test_equals_a_trained_normalization(self):
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(6).double()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, -1.0, 0.3, -2.0, 0.0, 0.0]))
            norm.bias.copy_(torch.tensor([0.2, 0.1, -0.4, 0.3, -0.2, 0.2]))
        norm(3 + 2 * torch.randn(50, 6).double())
        norm.eval()
        s = 3 + 2 * torch.randn(200, 6).double()
        rule = sign_rule(
            norm.weight.detach().numpy(),
            norm.bias.detach().numpy(),
            norm.running_mean.numpy(),
            torch.sqrt(norm.running_var + norm.eps).numpy(),
        )
        np.testing.assert_array_equal(rule(s.numpy()), sign(norm(s).detach()).numpy())

    def test_bad_input(self):
        one = np.ones(2)
        with pytest.raises(ValueError, match="finite"):
            sign_rule(one, one, np.array([0.0, np.nan]), one)
        with pytest.raises(ValueError, match="finite"):
            sign_rule(one, one, one, np.array([1.0, np.inf]))
        with pytest.raises(ValueError, match="positive"):
            sign_rule(one, one, one, np.array([1.0, 0.0]))
        with pytest.raises(ValueError, match="shape"):
            sign_rule(one, np.ones(3), one, one)
        with pytest.raises(ValueError, match="overflows"):
            sign_rule(1e-300 * one, 1e20 * one, one, one)
        with pytest.raises(TypeError, match="floating-point"):
            sign_rule(np.ones(2, int), one, one, one)
        with pytest.raises(ValueError, match="shape"):
            sign_rule(one, one, one, one)(np.ones((4, 3)))


class TestParts:
    @pytest.fixture
    def s(self):
        return torch.tensor(np.random.default_rng(1).normal(2, 3, (2, 40, 5))).float()

    def test_each_part_does_what_it_says(self, s):
        expected = {
            "none": s,
            "bias": s,
            "scale": s / math.sqrt(9),
            "centre": s - s.mean(1, keepdim=True),
            "rms": s / torch.sqrt((s**2).mean(1, keepdim=True) + 1e-5),
            "bn": torch.stack([nn.BatchNorm1d(5)(one) for one in s]),
        }
        assert set(expected) == set(training.NORMS)
        for kind, z in expected.items():
            torch.testing.assert_close(Part(kind, 2, 5, 9)(s), z)

    def test_gradient_of_bn_is_that_of_pytorch(self, s):
        s.requires_grad_()
        dz = torch.randn_like(s)
        (got,) = torch.autograd.grad(Part("bn", 2, 5, 9)(s), s, dz)
        whole = torch.stack([nn.BatchNorm1d(5)(one) for one in s])
        torch.testing.assert_close(got, torch.autograd.grad(whole, s, dz)[0])

    @pytest.mark.parametrize("kind", ["centre", "rms", "bn"])
    def test_running_statistics_reach_those_of_the_data(self, kind, s):
        part = Part(kind, 2, 5, 9)
        for _ in range(200):
            trained = part(s)
        part.eval()
        kept = part.running_mean.clone(), part.running_var.clone()
        torch.testing.assert_close(part(s), trained)
        assert torch.equal(kept[0], part.running_mean)
        assert torch.equal(kept[1], part.running_var)

    def test_parameters_can_learn(self, s):
        counts = {"none": 0, "bias": 1, "scale": 0, "centre": 1, "rms": 2, "bn": 2}
        for kind, count in counts.items():
            part = Part(kind, 2, 5, 9)
            parameters = list(part.parameters())
            assert len(parameters) == count
            if count:
                (part(s) ** 3).sum().backward()
                assert all((p.grad != 0).any() for p in parameters)

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="unknown norm"):
            Part("layer", 2, 5, 9)


WIDE = (8, 16, 12, 2)


def make(norm="bn", estimator="hardtanh", seeds=(0, 1), **options):
    return SignNetworks(WIDE, norm=norm, estimator=estimator, seeds=seeds, **options)


class Single(nn.Module):
    """One of the stacked networks, from the layers of `binary` and PyTorch."""

    def __init__(self, networks, at):
        super().__init__()
        self.linear = nn.ModuleList(BinaryLinear(*p) for p in itertools.pairwise(WIDE))
        for layer, weight in zip(self.linear, networks.weights, strict=True):
            with torch.no_grad():
                layer.weight.copy_(weight[at].T)
        self.norms = nn.ModuleList(nn.BatchNorm1d(k) for k in WIDE[1:-1])
        for norm, part in zip(self.norms, networks.parts, strict=True):
            with torch.no_grad():
                norm.bias.copy_(part.beta[at, 0])
        self.sign = Sign(networks.estimator)

    def forward(self, x):
        for linear, norm in zip(self.linear, self.norms, strict=False):
            x = self.sign(norm(linear(x)))
        return self.linear[-1](x) / math.sqrt(WIDE[-2])


class TestTraining:
    @pytest.fixture
    def examples(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(96, 8)).astype(np.float32)
        return torch.tensor(x), torch.tensor((x[:, 0] > 0).astype(np.int64))

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_updates_are_those_of_pytorch(self, optimizer):
        start, rates = torch.randn(2, 3, 4), (0.05, 0.2)
        stacked = nn.Parameter(start.clone())
        update = training._updater(optimizer, [stacked], torch.tensor(rates))
        alone = [nn.Parameter(one.clone()) for one in start]
        theirs = [
            torch.optim.SGD([p], rate, momentum=0.9)
            if optimizer == "sgd"
            else torch.optim.Adam([p], rate)
            for p, rate in zip(alone, rates, strict=True)
        ]
        for _ in range(5):
            stacked.grad = torch.randn(2, 3, 4)
            update()
            for p, g, other in zip(alone, stacked.grad, theirs, strict=True):
                p.grad = g
                other.step()
        torch.testing.assert_close(stacked.detach(), torch.stack(alone).detach())

    @every_estimator
    def test_is_each_network_alone_with_pytorch(self, examples, estimator):
        """A whole training, with the layers of `binary` and an optimizer of PyTorch."""
        torch.manual_seed(0)
        x, t = examples
        networks, rates = make(estimator=estimator, seeds=(3, 4)), (0.05, 0.2)
        with torch.no_grad():  # s is an integer, and μ may be the same: no sign of 0
            for part in networks.parts:
                part.beta += 0.1 * torch.randn(part.beta.shape)
        singles = [Single(networks, at) for at in range(2)]
        train(
            networks,
            x,
            t,
            optimizer="sgd",
            rates=rates,
            seeds=(5, 6),
            epochs=2,
            batch=32,
        )
        for at, single in enumerate(singles):
            update = torch.optim.SGD(single.parameters(), rates[at], momentum=0.9)
            generator = torch.Generator().manual_seed((5, 6)[at])
            for _ in range(2):
                for rows in torch.randperm(96, generator=generator).view(-1, 32):
                    update.zero_grad()
                    functional.cross_entropy(single(x[rows]), t[rows]).backward()
                    update.step()
                    clip_latent(single)
            for layer, weight in zip(single.linear, networks.weights, strict=True):
                torch.testing.assert_close(
                    weight[at].T, layer.weight, atol=1e-4, rtol=0
                )

    def test_learns_and_repeats_itself(self, examples):
        results = []
        for _ in range(2):
            networks = make()
            how = {"optimizer": "sgd", "rates": (0.3, 0.3), "seeds": (0, 1)}
            assert (train(networks, *examples, batch=32, epochs=30, **how) == -1).all()
            networks.eval()
            results.append(networks(examples[0].expand(2, -1, -1)))
        assert torch.equal(*results)
        assert (results[0].argmax(2) == examples[1]).float().mean() > 0.8
        assert all((weight.abs() <= 1).all() for weight in networks.weights)

    def test_full_precision_is_a_clipped_linear_network(self, examples):
        networks = make(precision="full")
        x = examples[0].expand(2, -1, -1)
        expected = x
        for weight, part in zip(networks.weights, networks.parts, strict=False):
            expected = functional.hardtanh(part(expected @ weight))
        expected = expected @ networks.weights[-1] / math.sqrt(12)
        torch.testing.assert_close(networks(x), expected)

    def test_forward_is_blind_to_a_fixed_scale_and_backward_is_not(self, examples):
        """The gradients differ by one known factor a layer."""
        none, scale = make("none", "identity"), make("scale", "identity")
        x, t = examples[0].expand(2, -1, -1), examples[1].expand(2, -1)
        assert torch.equal(none(x), scale(x))
        for networks in (none, scale):
            networks.losses(x, t).sum().backward()
        for at, factor in enumerate((math.sqrt(8 * 16), math.sqrt(16), 1.0)):
            torch.testing.assert_close(
                none.weights[at].grad, factor * scale.weights[at].grad
            )

    def test_a_diverged_network_leaves_the_others_alone(self, examples):
        x, t = examples
        both, alone = make(), make(seeds=(1,))
        with torch.no_grad():
            both.weights[0][0] = math.nan
        how = {"optimizer": "sgd", "epochs": 2, "batch": 32}
        diverged = train(both, x, t, rates=(0.1, 0.1), seeds=(0, 1), **how)
        train(alone, x, t, rates=(0.1,), seeds=(1,), **how)
        assert diverged.tolist() == [0, -1]
        for a, b in zip(both.weights, alone.weights, strict=True):
            torch.testing.assert_close(a[1:], b)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"optimizer": "lion"}, "optimizer"),
            ({"rates": (0.1, 0.0)}, "rates"),
            ({"rates": (0.1,)}, "one rate"),
            ({"batch": 97}, "batch of 97"),
            ({"epochs": 0}, "epochs"),
        ],
    )
    def test_bad_options(self, examples, options, match):
        how = {
            "optimizer": "sgd",
            "rates": (0.1, 0.1),
            "seeds": (0, 1),
            "epochs": 1,
            "batch": 32,
        }
        with pytest.raises(ValueError, match=match):
            train(make(), *examples, **how | options)

    def test_bad_networks(self):
        with pytest.raises(ValueError, match="hidden layer"):
            SignNetworks((8, 2), norm="bn", estimator="identity", seeds=(0,))
        with pytest.raises(ValueError, match="width"):
            SignNetworks((8, 0, 2), norm="bn", estimator="identity", seeds=(0,))
        for options, match in (
            ({"precision": "half"}, "precision"),
            ({"estimator": "tanh"}, "estimator"),
            ({"norm": "layer"}, "norm"),
            ({"seeds": ()}, "seeds"),
        ):
            with pytest.raises(ValueError, match=match):
                make(**options)

    def test_accuracies(self):
        split = training.data().validation
        networks = SignNetworks((64, 8, 10), norm="bn", estimator="relu", seeds=(1, 2))
        shares = accuracies(networks, split)
        assert not networks.training and shares.shape == (2,)
        for at, share in enumerate(shares):
            scores = networks(torch.tensor(split.x).expand(2, -1, -1))[at]
            assert share == np.mean(scores.argmax(1).numpy() == split.t)

    def test_best_rate_is_chosen_by_validation(self):
        rows = pd.DataFrame(
            {
                "learning_rate": [0.1, 0.1, 1.0, 1.0],
                "seed": [1, 0, 1, 0],
                "validation": [0.5, 0.6, 0.9, 0.1],
                "test": [0.3, 0.4, 1.0, 1.0],
            }
        )
        rate, test = training.at_best_rate(rows)
        assert rate == 0.1 and test.tolist() == [0.4, 0.3]
        with pytest.raises(ValueError, match="no rows"):
            training.at_best_rate(rows[:0])

    def test_grid_trains_every_pair_alone(self):
        """The row of a rate and a seed does not depend on its neighbours."""
        names = {"norm": "bn", "estimator": "hardtanh"}
        how = {"widths": (64, 8, 10), "names": names, "optimizer": "sgd", "epochs": 2}
        rows = training.train_grid(**how, rates=(0.01, 1.0), seeds=(7, 3))
        assert [(r["learning_rate"], r["seed"]) for r in rows] == [
            (0.01, 7), (0.01, 3), (1.0, 7), (1.0, 3)
        ]  # fmt: skip
        (alone,) = training.train_grid(**how, rates=(1.0,), seeds=(7,))
        assert alone["seed"] == 7 and alone["diverged_at"] == -1
        assert abs(alone["test"] - rows[2]["test"]) < 0.02
        assert abs(alone["test"] - rows[0]["test"]) > 0.1


class TestShapes:
    def test_have_equally_many_weights(self):
        def count(shape):
            return sum(a * b for a, b in itertools.pairwise(shapes.widths_of(shape)))

        six = [count(shape) for shape in shapes.SHAPES]
        assert max(six) / min(six) < 1.1
        # the controls have no fewer than the constant network, so none loses by size
        assert min(map(count, shapes.CONTROLS)) >= count("constant")

    def test_controls_put_the_narrow_layer_elsewhere(self):
        narrow = {"first24": 0, "mid24": 2, "first16": 0, "last16": 4}
        assert set(shapes.CONTROLS) == set(narrow)
        for name, at in narrow.items():
            hidden = shapes.CONTROLS[name]
            assert hidden[at] == int(name[-2:])
            assert hidden[:at] + hidden[at + 1 :] == (80,) * 4
        assert shapes.SHAPES["bottleneck"] == (80, 80, 16, 80, 80)

    def test_unknown_shape(self):
        with pytest.raises(ValueError, match="unknown shape 'round'"):
            shapes.widths_of("round")

    def test_fresh_seeds_train_as_the_others(self):
        how = {"shape": "last16", "epochs": 1}
        rows = shapes.shape_run(precision="binary", seeds=2, **how)
        (row,) = [r for r in rows if (r["learning_rate"], r["seed"]) == (1.0, 1)]
        (fresh,) = shapes.fresh_run(learning_rate=1.0, first_seed=1, seeds=1, **how)
        assert fresh["seed"] == 1 and "learning_rate" not in fresh
        assert abs(fresh["test"] - row["test"]) < 0.02
        assert abs(fresh["validation"] - row["validation"]) < 0.02


SLICES = [
    (training.SWEEP, training.SLICE),
    (training.LOW, training.LOW_SLICE),
    (shapes.WIDTHS, shapes.WIDTHS_SLICE),
    (shapes.FRESH, shapes.FRESH_SLICE),
]


class TestStored:
    @pytest.mark.parametrize(("experiment", "setting"), SLICES)
    def test_trainings_repeat_the_stored_ones(self, experiment, setting):
        live, stored = experiment.replay(**setting)
        found = ["validation", "test"]
        assert (live[found] - stored[found]).abs().to_numpy().max() < 0.1
        rest = [name for name in stored if name not in found]
        assert deviation(live[rest], stored[rest]) == 0

    def test_measurements_repeat_the_stored_ones(self):
        live, stored = arguments.ARGUMENTS.replay(**arguments.ARGUMENTS_SLICE)
        assert deviation(live, stored) < 0.05


class TestArguments:
    def test_measuring_changes_nothing(self):
        networks = make()
        before = copy.deepcopy(networks.state_dict())
        x, t = torch.randn(2, 16, 8), torch.arange(32).view(2, 16) % 2
        arguments.layer_gradients(networks, x, t)
        arguments.balances(networks, x)
        for name, value in networks.state_dict().items():
            assert torch.equal(value, before[name])

    def test_measures(self):
        a = [torch.ones(1, 2, 2), torch.full((1, 3, 1), 100.0)]
        assert abs(arguments.gradient_range(a) - 2) < 1e-12
        assert abs(arguments.gradient_cosine(a, [7 * g for g in a]) - 1) < 1e-12
        assert abs(arguments.gradient_cosine(a, [-a[0], a[1]])) < 1e-12
        none = [torch.ones(1, 2, 2), torch.zeros(1, 3, 1)]
        assert np.isinf(arguments.gradient_range(none))
        assert abs(arguments.gradient_cosine(none, none) - 0.5) < 1e-12

    @every_estimator
    def test_one_step_by_hand(self, estimator):
        """Each network alone, with the layers of `binary` and an optimizer of PyTorch."""
        torch.manual_seed(0)
        networks, rate = make(estimator=estimator, seeds=(3, 4)), 20.0
        with torch.no_grad():  # no sign of 0
            for part in networks.parts:
                part.beta += 0.1 * torch.randn(part.beta.shape)
        x, t = torch.randn(2, 32, 8), torch.randint(2, (2, 32))
        found = arguments.measure_step(networks, x, t, rate)
        assert set(found) == {"range", "cosine", "shift", "moved"}
        for at in range(2):
            single = Single(networks, at)
            layers = list(single.linear)
            states = []
            for _ in range(2):
                single.zero_grad()
                functional.cross_entropy(single(x[at]), t[at]).backward()
                a, means = x[at], []
                for linear, norm in zip(layers, single.norms, strict=False):
                    a = single.sign(norm(linear(a)))
                    means.append(a.detach().mean(0))
                gradients = [layer.weight.grad.clone() for layer in layers]
                signs = [sign(layer.weight.detach()) for layer in layers]
                states.append((torch.cat(means), gradients, signs))
                torch.optim.SGD([layer.weight for layer in layers], rate).step()
                clip_latent(single)
            (means, grads, signs), (means_, grads_, signs_) = states
            sizes = [g.square().mean().sqrt().item() for g in grads]
            cosines = [
                ((g * h).sum() / (g.norm() * h.norm())).item()
                for g, h in zip(grads, grads_, strict=True)
            ]
            turned = [(v != w).flatten() for v, w in zip(signs, signs_, strict=True)]
            expected = {
                "range": math.log10(max(sizes) / min(sizes)),
                "cosine": np.mean(cosines),
                "shift": (means - means_).abs().mean().item(),
                "moved": torch.cat(turned).float().mean().item(),
            }
            assert 0.01 < expected["moved"] < 0.9
            assert any((layer.weight.abs() == 1).any() for layer in layers)  # clipped
            for name, value in expected.items():
                assert abs(found[name][at] - value) < 1e-4, name

    @every_estimator
    def test_clipping_changes_no_measurement(self, estimator):
        """It turns no sign, and gradients go straight through to the latent weights."""
        wide = make(estimator=estimator)
        with torch.no_grad():
            for weight in wide.weights:
                weight *= 20
        clipped = copy.deepcopy(wide)
        clipped.clip_latent()
        x, t = torch.randn(2, 16, 8), torch.arange(32).view(2, 16) % 2
        assert not torch.equal(wide.weights[0], clipped.weights[0])
        assert torch.equal(arguments.balances(wide, x), arguments.balances(clipped, x))
        pairs = [arguments.layer_gradients(n, x, t) for n in (wide, clipped)]
        for g, h in zip(*pairs, strict=True):
            assert torch.equal(g, h)

    def test_a_small_run(self):
        how = {"estimator": "relu", "norm": "bn", "seeds": 2, "epochs": 1}
        slow, fast = (
            arguments.argument_run(learning_rate=rate, **how) for rate in (0.01, 0.1)
        )
        assert [row["seed"] for row in slow] == [0, 1]
        assert slow[0]["moved"] < fast[0]["moved"]
        for row in slow + fast:
            assert 0 <= row["shift"] <= 2 and abs(row["cosine"]) <= 1 + 1e-9
            assert row["range"] > 0
