"""Variances through a random network: against PyTorch, exact enumeration, SymPy and scipy."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bnbook.data.digits import digits
from bnbook.foundations.geometry import projector
from bnbook.intervals import mean_and_error
from bnbook.propagation.activations import (
    ACTIVATIONS,
    Activation,
    activation_named,
    expectation,
    hermite_energy,
    moments,
    q,
    quadrature_moments,
    x,
)
from bnbook.propagation.binary_theory import (
    B,
    lattice_slope,
    normalized_slope,
    sign_theory,
)
from bnbook.propagation.enumeration import enumerate_signs
from bnbook.propagation.finite_size import EXPERIMENTS, finite_factor
from bnbook.propagation.gradient_share import Classifier, gradient_shares, train
from bnbook.propagation.norm_factor import (
    norm_factor,
    norm_factor_samples,
    printed_factor,
    slope_factor,
    standardized_expectation,
)
from bnbook.propagation.variance import (
    Variances,
    factor_table,
    growth,
    layer_factor,
    simulate,
    theory,
    weight_law,
)
from bnbook.propagation.weights import RULES

NORMAL = weight_law("normal")
SMOOTH = ("linear", "ReLU", "tanh", "hard-tanh")  # f' is the derivative of f
names = st.sampled_from(sorted(ACTIVATIONS))


def alive(widths):
    """P(no layer before l is off as a whole) for ReLU, l = 1 … L; s^L has no ReLU."""
    hidden = [1 - 2.0**-width for width in widths[1:-2]]
    return np.append(np.cumprod([1.0, *hidden]), 1.0)


def z_scores(samples, expected):
    mean, error = mean_and_error(samples)
    return (mean - expected) / error


class TestActivations:
    @pytest.mark.parametrize("name", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("variance", [0.3, 1.0, 5.0])
    def test_moments_by_adaptive_quadrature(self, name, variance):
        a, density = ACTIVATIONS[name], stats.norm(0, math.sqrt(variance)).pdf
        found, edges = quadrature_moments(a, variance), (-40, *a.breaks, 40)

        def expect(values):
            return sum(
                integrate.quad(
                    lambda s: values(np.array([s]))[0] * density(s),
                    low,
                    high,
                    points=[(low + high) / 2] if low < 0 < high else None,
                    limit=300,
                )[0]
                for low, high in itertools.pairwise(edges)
            )

        assert found.mean == pytest.approx(expect(a.f), abs=1e-9)
        assert found.square == pytest.approx(expect(lambda s: a.f(s) ** 2), rel=1e-7)
        slope = expect(lambda s: a.derivative(s) ** 2)
        assert found.slope == pytest.approx(slope, rel=1e-7)

    @pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"tanh"}))
    def test_closed_forms(self, name):
        exact = moments(ACTIVATIONS[name], q)
        for variance in (0.25, 1.0, 9.0):
            found = quadrature_moments(ACTIVATIONS[name], variance)
            for part in ("mean", "square", "slope", "variance"):
                value = float(getattr(exact, part).subs(q, sp.Rational(str(variance))))
                got = getattr(found, part)
                assert value == pytest.approx(got, rel=1e-9, abs=1e-12)

    def test_tanh_stays_an_integral(self):
        exact, found = (
            moments(ACTIVATIONS["tanh"]),
            quadrature_moments(ACTIVATIONS["tanh"]),
        )
        assert exact.mean == 0
        for part in ("square", "slope"):
            integral = getattr(exact, part)
            assert isinstance(integral, sp.Integral)
            assert integral.limits == ((x, -sp.oo, sp.oo),)
            value = integrate.quad(sp.lambdify(x, integral.function), -30, 30)[0]
            assert value == pytest.approx(getattr(found, part), rel=1e-9)

    def test_known_values(self):
        assert moments(ACTIVATIONS["ReLU"]).chi.equals(sp.pi / (sp.pi - 1))
        assert moments(ACTIVATIONS["hard-tanh"]).slope == sp.erf(sp.sqrt(2) / 2)
        assert moments(ACTIVATIONS["linear"]).chi == 1
        assert moments(ACTIVATIONS["sign, identity"]).chi == 1

    @pytest.mark.parametrize("name", SMOOTH)
    def test_derivatives_by_differences(self, name):
        a = ACTIVATIONS[name]
        s = np.array([-2.3, -1.4, -0.6, -0.2, 0.3, 0.8, 1.7])
        slope = (a.f(s + 1e-6) - a.f(s - 1e-6)) / 2e-6
        np.testing.assert_allclose(a.derivative(s), slope, atol=1e-8)

    @pytest.mark.parametrize("name", sorted(ACTIVATIONS))
    def test_pieces_are_the_functions(self, name):
        a = ACTIVATIONS[name]
        for f, slope, low, high in a.pieces:
            ends = [
                float(e) if e.is_finite else 9 * float(sp.sign(e)) for e in (low, high)
            ]
            s = np.linspace(*ends, 7)[1:-1]
            for expression, function in ((f, a.f), (slope, a.derivative)):
                value = sp.lambdify(x, expression, "numpy")(s) * np.ones_like(s)
                np.testing.assert_allclose(function(s), value, atol=1e-15)
        edges = [(low, high) for *_, low, high in a.pieces]
        assert edges[0][0] == -sp.oo and edges[-1][1] == sp.oo
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))

    @pytest.mark.parametrize("name", SMOOTH)
    def test_poincare_and_hermite(self, name):
        a = ACTIVATIONS[name]
        found, energy = quadrature_moments(a), hermite_energy(a, 60)
        assert found.chi >= 1 - 1e-12
        assert energy[0] == pytest.approx(found.mean**2, abs=1e-12)
        # Partial sums come from below.
        assert energy.sum() <= found.square + 1e-12
        assert energy.sum() == pytest.approx(found.square, rel=2e-3)
        degree = (np.arange(60) * energy).sum()
        assert degree <= found.slope + 1e-9
        assert degree == pytest.approx(found.slope, rel=0.12)

    @given(st.lists(st.floats(-3, 3), min_size=2, max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_poincare_for_polynomials(self, coefficients):
        poly = np.polynomial.Polynomial(coefficients)
        slope = poly.deriv()
        a = Activation("polynomial", poly, slope)
        found = quadrature_moments(a)
        assert found.slope >= found.variance - 1e-9 * (1 + found.square)

    @given(names, st.floats(0.01, 20))
    @settings(max_examples=30, deadline=None)
    def test_expectation_is_linear_and_positive(self, name, variance):
        a = ACTIVATIONS[name]
        at = {"variance": variance, "breaks": a.breaks}
        one = expectation(np.ones_like, **at)
        assert one == pytest.approx(1, abs=1e-12)
        assert quadrature_moments(a, variance).variance >= -1e-12

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"unknown activation 'relu'.*ReLU"):
            activation_named("relu")
        with pytest.raises(TypeError, match="must be an Activation"):
            moments("ReLU")
        with pytest.raises(ValueError, match="no pieces"):
            moments(Activation("own", np.tanh, np.tanh))
        with pytest.raises(ValueError, match="positive"):
            moments(ACTIVATIONS["ReLU"], sp.Symbol("v"))
        for bad in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="variance must be finite"):
                expectation(np.tanh, variance=bad)
        with pytest.raises(TypeError, match="real number"):
            expectation(np.tanh, variance="1")
        with pytest.raises(ValueError, match="not finite"):
            expectation(lambda s: np.full_like(s, np.nan))
        with pytest.raises(ValueError, match="degrees"):
            hermite_energy(ACTIVATIONS["tanh"], 0)
        assert expectation(lambda s: s + 2, variance=0) == 2


class TestWeights:
    @pytest.mark.parametrize("kind", ["normal", "uniform", "signs"])
    @pytest.mark.parametrize("rule", sorted(RULES))
    def test_variance(self, kind, rule):
        law = weight_law(kind, rule, gain=1.5)
        w = law.sample(np.random.default_rng(1), 300, 700)
        assert w.shape == (300, 700)
        expected = law.variance(300, 700)
        assert expected == 1.5 * RULES[rule](300, 700)
        assert (w**2).mean() == pytest.approx(expected, rel=0.02)
        assert abs(w.mean()) < 5 * math.sqrt(expected / w.size)

    def test_rules_are_not_symmetric(self):
        assert RULES["He"](10, 40) == 0.2 and RULES["He, fan-out"](10, 40) == 0.05
        assert RULES["Xavier"](10, 40) == RULES["Xavier"](40, 10) == 0.04
        assert RULES["1/fan-in"](10, 40) == 0.1 and RULES["1/fan-out"](10, 40) == 0.025

    def test_bad_input(self):
        with pytest.raises(ValueError, match="kind"):
            weight_law("cauchy")
        with pytest.raises(ValueError, match="rule"):
            weight_law("normal", "Lecun")
        with pytest.raises(ValueError, match="gain"):
            weight_law("normal", gain=0)


class TestSimulation:
    @pytest.mark.parametrize("norm", [False, True])
    @pytest.mark.parametrize("name", ["linear", "ReLU", "tanh", "hard-tanh"])
    def test_parity_with_autograd(self, name, norm):
        widths, gamma, beta, eps = (5, 7, 4, 6), 0.8, 0.3, 0.2
        functions = {
            "linear": lambda s: s,
            "ReLU": torch.relu,
            "tanh": torch.tanh,
            "hard-tanh": torch.nn.functional.hardtanh,
        }
        at = {"gamma": gamma, "beta": beta, "eps": eps} if norm else {}
        run = simulate(
            widths,
            ACTIVATIONS[name],
            NORMAL,
            norm=norm,
            batch=9,
            networks=2,
            seed=4,
            **at,
        )
        for n in range(2):
            rng = np.random.default_rng([4, n])
            a, layers = torch.tensor(rng.normal(size=(9, 5))), []
            for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
                s = a @ torch.tensor(NORMAL.sample(rng, fan_in, fan_out))
                s.requires_grad_() if s.is_leaf else s.retain_grad()
                layers.append(s)
                if layer == 2:
                    break
                y = s
                if norm:
                    ones = torch.ones(fan_out).double()
                    y = torch.nn.functional.batch_norm(
                        s, None, None, gamma * ones, beta * ones, training=True, eps=eps
                    )
                a = functions[name](y)
            layers[-1].backward(torch.tensor(rng.normal(size=(9, 6))))
            for layer, s in enumerate(layers):
                forward = (s.detach() ** 2).mean().item()
                assert run.forward[n, layer] == pytest.approx(forward, rel=1e-12)
                backward = (s.grad**2).mean().item()
                assert run.backward[n, layer] == pytest.approx(backward, rel=1e-10)

    def test_straight_through(self):
        run = simulate(
            (4, 6, 3),
            ACTIVATIONS["sign, hard-tanh"],
            NORMAL,
            batch=8,
            networks=1,
            seed=2,
        )
        rng = np.random.default_rng([2, 0])
        a = rng.normal(size=(8, 4))
        w1 = NORMAL.sample(rng, 4, 6)
        s1 = a @ w1
        w2 = NORMAL.sample(rng, 6, 3)
        s2 = np.where(s1 >= 0, 1, -1) @ w2
        g = rng.normal(size=s2.shape)
        ds1 = (abs(s1) <= 1) * (g @ w2.T)
        np.testing.assert_allclose(run.forward[0], [(s1**2).mean(), (s2**2).mean()])
        np.testing.assert_allclose(run.backward[0], [(ds1**2).mean(), (g**2).mean()])

    @pytest.mark.parametrize("widths", [(2, 3, 1, 2), (1, 2, 2, 2), (3, 2, 2)])
    def test_linear_theory_is_exact(self, widths):
        forward, backward = enumerate_signs(widths)
        expected = theory(widths, ACTIVATIONS["linear"], weight_law("signs", "1"))
        np.testing.assert_allclose([float(v) for v in forward], expected.forward)
        np.testing.assert_allclose([float(v) for v in backward], expected.backward)
        assert all(isinstance(v, Fraction) for v in (*forward, *backward))

    @pytest.mark.parametrize("name", ["linear", "ReLU"])
    @pytest.mark.parametrize("kind", ["normal", "uniform", "signs"])
    def test_theory_at_small_unequal_widths(self, name, kind):
        # No ties: the inputs are continuous, so s = 0 only where a whole layer is off.
        widths, law = (9, 16, 4, 11, 7), weight_law(kind, "He")
        run = simulate(widths, ACTIVATIONS[name], law, batch=4, networks=3000, seed=5)
        expected = theory(widths, ACTIVATIONS[name], law)
        backward = expected.backward * (alive(widths) if name == "ReLU" else 1)
        assert abs(z_scores(run.forward, expected.forward)).max() < 4
        assert abs(z_scores(run.backward, backward)).max() < 4

    @pytest.mark.parametrize("widths", [(4, 1, 1, 4, 4), (4, 2, 2, 4, 4)])
    def test_a_layer_that_is_off(self, widths):
        law = weight_law("normal", "He")
        run = simulate(widths, ACTIVATIONS["ReLU"], law, batch=4, networks=3000, seed=3)
        expected = theory(widths, ACTIVATIONS["ReLU"], law)
        assert abs(z_scores(run.forward, expected.forward)).max() < 4
        exact = expected.backward * alive(widths)
        assert abs(z_scores(run.backward, exact)).max() < 4
        assert abs(z_scores(run.backward, expected.backward)).max() > 20

    @pytest.mark.parametrize("width", [160, 161])
    def test_a_window_narrower_than_the_lattice(self, width):
        """±1 weights under sign and hard-tanh: twice the Gaussian at odd widths."""
        widths, law = [width] * 8, weight_law("signs", "1")
        activation = ACTIVATIONS["sign, hard-tanh"]
        found = layer_factor(
            widths, activation, law, batch=32, networks=16, skip=2, seed=8
        )
        exact = width * float(lattice_slope("hardtanh", width))
        assert abs(found.measured - exact) < 4 * found.error
        assert exact / found.theory == pytest.approx(1 + width % 2, rel=0.01)
        of_signs = sign_theory(widths, "hardtanh", norm=False)
        assert of_signs[2] / of_signs[3] == pytest.approx(exact)

    @pytest.mark.parametrize("name", ["sign, identity", "sign, hard-tanh"])
    @pytest.mark.parametrize("widths", [(2, 3, 1, 2), (3, 2, 2, 1), (1, 2, 3, 2)])
    def test_every_case_of_a_sign_network(self, name, widths):
        stand_in = {"sign, identity": "identity", "sign, hard-tanh": "hardtanh"}[name]
        forward, backward = enumerate_signs(widths, ACTIVATIONS[name])
        assert list(forward) == list(widths[:-1])
        expected = [Fraction(1)]
        for layer in (2, 1):
            passed = lattice_slope(stand_in, widths[layer - 1])
            expected.insert(0, passed * widths[layer + 1] * expected[0])
        assert list(backward) == expected

    def test_every_case_by_simulation(self):
        """The same network, drawn: E over signs is what the enumeration says."""
        widths, law = (2, 3, 2, 1), weight_law("signs", "1")
        _, backward = enumerate_signs(widths, ACTIVATIONS["ReLU"])
        rng, total = np.random.default_rng(3), []
        for _ in range(4000):
            a, kept = 2.0 * rng.integers(0, 2, 2) - 1, []
            for fan_in, fan_out in itertools.pairwise(widths):
                kept.append((law.sample(rng, fan_in, fan_out), None))
                s = a @ kept[-1][0]
                kept[-1] = kept[-1][0], s > 0
                a = np.maximum(s, 0)
            ds = np.array([1.0])
            for (w, _), (_, on) in zip(kept[:0:-1], kept[-2::-1], strict=True):
                ds = on * (w @ ds)
            total.append((ds**2).mean())
        assert abs(z_scores(np.array(total), float(backward[0]))) < 4

    def test_theory_needs_the_right_fans(self):
        widths = (9, 16, 4, 11, 7)
        run = simulate(
            widths,
            ACTIVATIONS["ReLU"],
            weight_law("normal", "He"),
            batch=4,
            networks=1500,
        )
        wrong = theory(widths, ACTIVATIONS["ReLU"], weight_law("normal", "He, fan-out"))
        assert abs(z_scores(run.forward, wrong.forward)).max() > 10
        assert abs(z_scores(run.backward, wrong.backward)).max() > 10

    @pytest.mark.parametrize("name", ["tanh", "hard-tanh", "sign, hard-tanh"])
    def test_wide_networks(self, name):
        widths = (200, 150, 250, 200, 150)
        run = simulate(widths, ACTIVATIONS[name], NORMAL, batch=32, networks=16, seed=6)
        expected = theory(widths, ACTIVATIONS[name], NORMAL)
        np.testing.assert_allclose(run.forward.mean(0), expected.forward, rtol=0.05)
        np.testing.assert_allclose(run.backward.mean(0), expected.backward, rtol=0.06)

    @pytest.mark.parametrize("name", sorted(ACTIVATIONS))
    def test_normalized_factor_is_chi(self, name):
        found = layer_factor(
            [256] * 8,
            ACTIVATIONS[name],
            NORMAL,
            norm=True,
            batch=48,
            networks=4,
            skip=2,
        )
        assert found.measured == pytest.approx(found.theory, rel=0.03)
        chi = quadrature_moments(ACTIVATIONS[name]).chi
        assert found.theory == pytest.approx(chi * 46 / 45, rel=1e-12)

    def test_normalized_widths_enter_as_a_ratio(self):
        widths = (100, 300, 100, 200, 400, 100)
        run = simulate(
            widths,
            ACTIVATIONS["ReLU"],
            NORMAL,
            norm=True,
            batch=32,
            networks=16,
            seed=1,
        )
        expected = theory(widths, ACTIVATIONS["ReLU"], NORMAL, norm=True, batch=32)
        np.testing.assert_allclose(run.factors.mean(0), expected.factors, rtol=0.06)
        np.testing.assert_allclose(run.forward.mean(0), expected.forward, rtol=0.06)

    @given(st.floats(0.01, 100), names)
    @settings(max_examples=15, deadline=None)
    def test_weight_scale_cancels(self, gain, name):
        at = {"norm": True, "batch": 8, "networks": 2, "seed": 3}
        one = simulate((6, 8, 8, 5), ACTIVATIONS[name], NORMAL, **at)
        scaled = weight_law("normal", gain=gain)
        other = simulate((6, 8, 8, 5), ACTIVATIONS[name], scaled, **at)
        np.testing.assert_allclose(other.backward, one.backward, rtol=1e-9)
        np.testing.assert_allclose(other.forward, gain * one.forward, rtol=1e-9)

    def test_gamma(self):
        at = {"norm": True, "batch": 10, "networks": 3}
        one = simulate((6, 8, 8), ACTIVATIONS["ReLU"], NORMAL, **at)
        two = simulate((6, 8, 8), ACTIVATIONS["ReLU"], NORMAL, gamma=2.0, **at)
        np.testing.assert_allclose(two.forward[:, 1], 4 * one.forward[:, 1])
        np.testing.assert_allclose(two.backward[:, 0], 4 * one.backward[:, 0])
        wide = theory([50] * 4, ACTIVATIONS["tanh"], NORMAL, norm=True, gamma=2.0)
        found = quadrature_moments(ACTIVATIONS["tanh"], 4.0)
        assert wide.factors[1] == pytest.approx(4 * found.slope / found.variance)

    def test_seeds(self):
        a = simulate((4, 5, 3), ACTIVATIONS["tanh"], NORMAL, networks=5, seed=1)
        b = simulate((4, 5, 3), ACTIVATIONS["tanh"], NORMAL, networks=2, seed=1)
        assert (a.forward[:2] == b.forward).all() and (
            a.backward[:2] == b.backward
        ).all()
        assert len(np.unique(a.forward)) == a.forward.size

    def test_growth(self):
        run = Variances(np.ones((2, 4)), np.array([[8.0, 4, 2, 1], [27, 9, 3, 1]]))
        np.testing.assert_allclose(growth(run), np.log([2, 3]))
        np.testing.assert_allclose(growth(run, skip=2), np.log([2, 3]))
        np.testing.assert_allclose(run.factors[1], [3, 3, 3])
        with pytest.raises(ValueError, match="skip"):
            growth(run, skip=3)
        with pytest.raises(ValueError, match="no gradient"):
            growth(replace(run, backward=np.zeros((2, 4))))

    def test_table(self):
        rows = [
            layer_factor([16] * 5, ACTIVATIONS["ReLU"], NORMAL, norm=norm, batch=16)
            for norm in (False, True)
        ]
        shown = factor_table(rows)
        assert shown.rows[0][2] == "no" and shown.rows[1][2] == "yes"
        assert shown.rows[0][3] == "0.5"
        z = (rows[0].measured - 0.5) / rows[0].error
        assert rows[0].z == pytest.approx(z)

    def test_bad_input(self):
        relu = ACTIVATIONS["ReLU"]
        for widths in ((4,), (4, 0, 3), (4, -1), (4, 2.5), (4, True)):
            with pytest.raises(ValueError, match="width"):
                simulate(widths, relu, NORMAL)
            with pytest.raises(ValueError, match="width"):
                theory(widths, relu, NORMAL)
        for batch, norm in ((0, False), (1, True)):
            with pytest.raises(ValueError, match="batch must be"):
                simulate((4, 3), relu, NORMAL, batch=batch, norm=norm)
        with pytest.raises(ValueError, match="batch must be an integer of at least 4"):
            theory((4, 3, 2), relu, NORMAL, norm=True, batch=3)
        with pytest.raises(ValueError, match="networks"):
            simulate((4, 3), relu, NORMAL, networks=0)
        with pytest.raises(TypeError, match="Activation"):
            simulate((4, 3), np.tanh, NORMAL)
        with pytest.raises(TypeError, match="WeightLaw"):
            simulate((4, 3), relu, "normal")
        with pytest.raises(ValueError, match="inputs by outputs"):
            turned = replace(NORMAL, sample=lambda rng, a, b: rng.normal(size=(b, a)))
            simulate((4, 3), relu, turned)
        with pytest.raises(ValueError, match="skip"):
            layer_factor((4, 3, 2), relu, NORMAL, skip=1)
        with pytest.raises(ValueError, match="combinations"):
            enumerate_signs((5, 5, 5))
        with pytest.raises(ValueError, match="tanh does not map integers to integers"):
            enumerate_signs((2, 2, 2), ACTIVATIONS["tanh"])
        with pytest.raises(TypeError, match="Activation"):
            enumerate_signs((2, 2, 2), np.sign)

    def test_non_finite_variance(self):
        huge = weight_law("normal", "1", gain=1e150)
        with pytest.raises(ValueError, match="variance of layer 3 is not finite"):
            simulate([4] * 6, ACTIVATIONS["linear"], huge, networks=1)
        with pytest.raises(ValueError, match="variance of layer 3 is not finite"):
            theory([4] * 6, ACTIVATIONS["linear"], huge)


class TestNormFactor:
    @pytest.mark.parametrize("batch", [3, 4, 8, 64, 512])
    def test_monte_carlo_decides(self, batch):
        samples = norm_factor_samples(batch, draws=100_000 // batch, seed=1)
        assert abs(z_scores(samples, norm_factor(batch))) < 4
        assert abs(z_scores(samples, printed_factor(batch))) > 4 or batch == 512

    def test_batch_of_two_passes_nothing(self):
        assert norm_factor(2) == 0
        assert abs(norm_factor_samples(2, draws=50)).max() < 1e-20

    @given(st.integers(2, 40), st.floats(0.0, 10.0), st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_trace(self, batch, eps, seed):
        z = np.random.default_rng(seed).normal(size=batch)
        z_hat = (z - z.mean()) / np.sqrt(z.var() + eps)
        share = eps / (z.var() + eps)
        rows = (projector(z_hat) ** 2).sum(axis=1)
        of_one = 1 - 1 / batch - (1 + share) * z_hat**2 / batch
        np.testing.assert_allclose(rows, of_one, atol=1e-12)
        assert rows.mean() == pytest.approx(norm_factor(batch, share), abs=1e-12)

    def test_eps(self):
        samples = norm_factor_samples(6, draws=20_000, eps=0.7, seed=2)
        z = np.random.default_rng([2, 6]).normal(size=(2, 6, 20_000))[0]
        expected = norm_factor(6, 0.0)
        shares = 0.7 / (z.var(axis=0) + 0.7)
        exact = np.mean([(4 + r**2) / 6 for r in shares])
        assert abs(z_scores(samples, exact)) < 4
        assert abs(z_scores(samples, expected)) > 4

    @pytest.mark.parametrize("name", ["hard-tanh", "tanh", "ReLU"])
    def test_slope_inside_the_sum(self, name):
        """f' depends on ŝ: Monte Carlo takes the equation, not (1 − 2/B) E f'²."""
        a, batch = ACTIVATIONS[name], 8
        samples = norm_factor_samples(batch, draws=60_000, seed=1, activation=a)
        assert abs(z_scores(samples, slope_factor(a, batch))) < 4
        square = standardized_expectation(
            lambda s: a.derivative(s) ** 2, batch, breaks=a.breaks
        )
        z = abs(z_scores(samples, (1 - 2 / batch) * square))
        assert z < 4 if name == "ReLU" else z > 20

    @pytest.mark.parametrize("batch", [4, 5, 9, 64, 700])
    def test_slope_factor_is_that_of_the_binary_chapter(self, batch):
        for name, estimator in (
            ("sign, hard-tanh", "hardtanh"),
            ("hard-tanh", "hardtanh"),
            ("ReLU", "relu"),
            ("linear", "identity"),
        ):
            against_population = float(normalized_slope(estimator).subs(B, batch))
            expected = against_population * (batch - 3) / batch
            found = slope_factor(ACTIVATIONS[name], batch)
            assert found == pytest.approx(expected, rel=1e-12)
        assert found == pytest.approx(norm_factor(batch), rel=1e-12)

    @given(st.integers(3, 300))
    @settings(max_examples=20, deadline=None)
    def test_standardized_moments(self, batch):
        for power, expected in (
            (0, 1),
            (1, 0),
            (2, 1),
            (4, 3 * (batch - 1) / (batch + 1)),
        ):
            found = standardized_expectation(lambda s, n=power: s**n, batch)
            assert found == pytest.approx(expected, abs=1e-12)

    def test_slope_factor_of_large_batches(self):
        for name in sorted(ACTIVATIONS):
            limit = quadrature_moments(ACTIVATIONS[name]).slope
            found = slope_factor(ACTIVATIONS[name], 10**6)
            assert found == pytest.approx(limit, rel=1e-5)

    @pytest.mark.parametrize("batch", [8, 16, 64])
    def test_population(self, batch):
        samples = norm_factor_samples(
            batch, draws=200_000 // batch, seed=3, population=True
        )
        assert abs(z_scores(samples, (batch - 2) / (batch - 3))) < 4

    def test_bad_input(self):
        for function in (norm_factor, printed_factor):
            with pytest.raises(
                ValueError, match="batch must be an integer of at least 2"
            ):
                function(1)
        with pytest.raises(ValueError, match="share"):
            norm_factor(4, 1.5)
        with pytest.raises(ValueError, match="draws"):
            norm_factor_samples(4, draws=0)
        with pytest.raises(TypeError, match="Activation"):
            norm_factor_samples(4, draws=2, activation="ReLU")
        with pytest.raises(TypeError, match="Activation"):
            slope_factor("ReLU", 8)
        with pytest.raises(ValueError, match="batch must be an integer of at least 3"):
            slope_factor(ACTIVATIONS["ReLU"], 2)
        with pytest.raises(ValueError, match="not finite"):
            standardized_expectation(lambda s: np.full_like(s, np.nan), 8)


class TestRealLoss:
    @pytest.fixture
    def data(self):
        return digits().standardized().train

    def test_shares_by_hand(self, data):
        network = Classifier((64, 12, 9, 10), seed=1)
        found = gradient_shares(network, data, batch=16, draws=1, seed=3)
        np.testing.assert_allclose(found.ones + found.hat + found.kept, 1)
        rows = np.random.default_rng([3, 16]).choice(len(data.x), 16, replace=False)
        x, t = torch.tensor(data.x[rows]).double(), torch.tensor(data.t[rows])
        scores, hats, outputs = network.record(x)
        loss = torch.nn.functional.cross_entropy(scores, t)
        for layer, g in enumerate(torch.autograd.grad(loss, outputs)):
            g, hat = g.numpy(), hats[layer].detach().numpy()
            kept = 0.0
            for d in range(g.shape[1]):
                basis, _ = np.linalg.qr(np.column_stack([np.ones(16), hat[:, d]]))
                kept += ((g[:, d] - basis @ (basis.T @ g[:, d])) ** 2).sum()
            assert found.kept[layer] == pytest.approx(kept / (g**2).sum(), rel=1e-9)
            ones = 16 * (g.mean(axis=0) ** 2).sum() / (g**2).sum()
            assert found.ones[layer] == pytest.approx(ones, rel=1e-9)

    def test_training_learns(self, data):
        network = Classifier((64, 20, 10), seed=0)
        losses = train(network, data, steps=60, rate=0.1, batch=64, seed=0)
        assert len(losses) == 60 and losses[-1] < losses[0] / 2

    def test_bad_input(self, data):
        network = Classifier((64, 8, 10), seed=0)
        with pytest.raises(ValueError, match="hidden layer"):
            Classifier((64, 10), seed=0)
        for batch in (2, 10**6):
            with pytest.raises(ValueError, match="batch must lie"):
                gradient_shares(network, data, batch=batch, draws=1, seed=0)
        with pytest.raises(ValueError, match="draws"):
            gradient_shares(network, data, batch=8, draws=0, seed=0)
        with pytest.raises(ValueError, match="lower the rate"):
            train(network, data, steps=20, rate=1e300, batch=8, seed=0)


def test_experiment():
    (experiment,) = EXPERIMENTS
    assert not experiment.missing()
    row = finite_factor("ReLU", 64, 8, 0)
    assert set(row) == {"factor"} and 1 < row["factor"] < 3
