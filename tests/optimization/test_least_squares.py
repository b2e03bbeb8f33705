"""Least squares through batch normalization: autograd, finite differences, samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.exercises.optimization import (
    least_squares_gradients,
    least_squares_limits,
    least_squares_star,
    least_squares_step,
)
from bnbook.experiments import Diverged
from bnbook.optimization.decoupling import (
    best_length,
    decoupled_descent,
    gaussian_classes,
    kohler_step,
    logistic_factor,
    logistic_length,
    logistic_loss,
)
from bnbook.optimization.least_squares import (
    Problem,
    bn_gradients,
    bn_loss,
    descend_bn,
    descend_ols,
    effective_weight,
    equivalent_gamma,
    excess_loss,
    gradient,
    loss,
)
from bnbook.optimization.pseudo_condition import (
    h_star,
    linear_map,
    pseudo_kappa,
    random_problem,
    shares,
    spectrum,
    star_eigenvalues,
)
from bnbook.optimization.rate_sweep import (
    HOLD,
    STEPS,
    random_start,
    sweep_bn,
    sweep_ols,
    tuned_steps,
)

PROBLEM = random_problem(spectrum(4, 20), 1)
W = np.random.default_rng(5).normal(size=4)
seeds = st.integers(0, 10_000)
dimensions = st.integers(2, 7)


def close(found, expected, rtol=1e-10, atol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


class TestProblem:
    def test_moments_of_a_sample(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3))
        x -= x.mean(0)
        y = x @ rng.normal(size=3) + rng.normal(size=50)
        problem = Problem(x.T @ x / 50, x.T @ y / 50, float((y**2).mean()))
        close(problem.u, np.linalg.lstsq(x, y)[0])
        w = rng.normal(size=3)
        close(loss(problem, w), ((y - x @ w) ** 2).mean() / 2)
        z_hat = (x @ w) / (x @ w).std()
        close(bn_loss(problem, -0.7, w), ((y + 0.7 * z_hat) ** 2).mean() / 2)

    @pytest.mark.parametrize(
        "hessian, message",
        [
            (np.diag([1.0, 0.0]), "positive definite"),
            (np.array([[1.0, 2.0], [2.0, 4.0]]), "positive definite"),
            (np.diag([1.0, -1.0]), "positive definite"),
            (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
            (np.eye(3), "shape"),
            (np.diag([1.0, np.nan]), "finite"),
        ],
    )
    def test_refuses_a_matrix_that_is_no_covariance(self, hessian, message):
        with pytest.raises(ValueError, match=message):
            Problem(hessian, np.ones(2), 10.0)

    def test_refuses_the_rest(self):
        with pytest.raises(TypeError, match="hessian"):
            Problem([[1.0]], np.ones(1), 1.0)
        with pytest.raises(TypeError, match="g must hold"):
            Problem(np.eye(2), np.ones(2, int), 9.0)
        with pytest.raises(TypeError, match="real"):
            Problem(np.eye(2) + 0j, np.ones(2), 9.0)
        with pytest.raises(ValueError, match="no y has these moments"):
            Problem(np.eye(2), np.ones(2), 1.9)
        with pytest.raises(ValueError, match=r"shape \(d,\)"):
            Problem(np.eye(2), np.ones((2, 1)), 9.0)

    def test_eigenvalues_are_those_asked_for(self):
        close(PROBLEM.eigenvalues, spectrum(4, 20))
        close(PROBLEM.kappa, 20)
        close(np.linalg.norm(PROBLEM.u), 1)
        close(np.linalg.norm(random_problem(spectrum(3, 9), 2, isotropic="g").g), 1)
        for bad in [(1, 10.0), (3, 0.5), (3, np.inf)]:
            with pytest.raises(ValueError, match="dimension"):
                spectrum(*bad)
        with pytest.raises(ValueError, match="isotropic"):
            random_problem(spectrum(2, 2), 0, isotropic="w")


class TestGradients:
    @given(seeds, dimensions, st.floats(-3, 3))
    @settings(max_examples=25, deadline=None)
    def test_autograd(self, seed, d, gamma):
        problem, rng = (
            random_problem(spectrum(d, 50), seed),
            np.random.default_rng(seed),
        )
        w = torch.tensor(rng.normal(size=d), requires_grad=True)
        scale = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
        hessian, g = torch.tensor(problem.hessian), torch.tensor(problem.g)
        sigma = torch.sqrt(w @ hessian @ w)
        value = problem.square / 2 - scale * (g @ w) / sigma + scale**2 / 2
        value.backward()
        found = bn_gradients(problem, gamma, w.detach().numpy())
        close(bn_loss(problem, gamma, w.detach().numpy()), value.item())
        close(found.gamma, scale.grad.item())
        close(found.w, w.grad.numpy(), rtol=1e-8, atol=1e-10)

    @given(seeds, dimensions, st.floats(0.01, 100))
    @settings(max_examples=25, deadline=None)
    def test_scale_invariance(self, seed, d, factor):
        problem = random_problem(spectrum(d, 50), seed)
        w = np.random.default_rng(seed).normal(size=d)
        one, two = (bn_gradients(problem, 1.4, v) for v in (w, factor * w))
        close(one.w @ w, 0, atol=1e-10)
        close(two.w * factor, one.w, rtol=1e-8, atol=1e-10)
        close(two.gamma, one.gamma)

    def test_effective_weight_is_the_plain_weight(self):
        v = effective_weight(PROBLEM, 1.3, W)
        close(loss(PROBLEM, v), bn_loss(PROBLEM, 1.3, W))
        close(v @ PROBLEM.hessian @ v, 1.3**2)  # polar: |γ| is the length in H
        close(effective_weight(PROBLEM, equivalent_gamma(PROBLEM, W), W), W)

    def test_excess_is_the_loss_above_its_minimum(self):
        least = loss(PROBLEM, PROBLEM.u)
        close(excess_loss(PROBLEM, W), loss(PROBLEM, W) - least)
        close(gradient(PROBLEM, PROBLEM.u), 0)

    def test_many_weights_at_once(self):
        ws = np.random.default_rng(2).normal(size=(3, 5, 4))
        gammas = np.random.default_rng(3).normal(size=(3, 5))
        all_at_once = bn_gradients(PROBLEM, gammas, ws)
        one = bn_gradients(PROBLEM, gammas[1, 2], ws[1, 2])
        close(all_at_once.w[1, 2], one.w)
        close(all_at_once.gamma[1, 2], one.gamma)

    def test_refuses_a_weight_of_zero(self):
        for function in (bn_loss, bn_gradients, effective_weight):
            with pytest.raises(ValueError, match="w is 0"):
                function(PROBLEM, 1.0, np.zeros(4))
        with pytest.raises(ValueError, match="w is 0"):
            descend_bn(PROBLEM, 1.0, np.zeros(4), rate_gamma=1.0, rate_w=1.0, steps=3)


class TestPseudoCondition:
    @given(seeds, dimensions, st.floats(1, 1000))
    @settings(max_examples=40, deadline=None)
    def test_interlacing(self, seed, d, kappa):
        problem = random_problem(spectrum(d, kappa), seed)
        values, star = problem.eigenvalues, star_eigenvalues(problem)
        slack = 1e-9
        assert (star <= values[:-1] + slack).all()
        assert (star >= values[1:] - slack).all()
        assert pseudo_kappa(problem) <= kappa * (1 + 1e-7)

    def test_null_direction(self):
        close(h_star(PROBLEM) @ PROBLEM.u, 0)
        close(np.linalg.eigvalsh(h_star(PROBLEM))[1:], star_eigenvalues(PROBLEM)[::-1])

    def test_two_inputs_have_one_eigenvalue(self):
        problem = random_problem(spectrum(2, 1e4), 3)
        assert pseudo_kappa(problem) == 1
        (value,) = star_eigenvalues(problem)
        close(value, (shares(problem) * problem.eigenvalues[::-1]).sum())

    @pytest.mark.parametrize("isotropic", ["u", "g"])
    def test_one_eigenvalue_apart(self, isotropic):
        apart = np.array([300.0, 1, 1, 1, 1, 1])
        problem = random_problem(apart, 2, isotropic=isotropic)
        share = shares(problem)[0]
        close(pseudo_kappa(problem), share + (1 - share) * 300, rtol=1e-8)

    def test_eigenvalues_balance_the_shares(self):
        p = shares(PROBLEM)
        close(p.sum(), 1)
        for mu in star_eigenvalues(PROBLEM):
            terms = p / (PROBLEM.eigenvalues - mu)
            assert abs(terms.sum()) < 1e-8 * abs(terms).sum()

    def test_squared_distance_from_the_line(self):
        u, hessian = PROBLEM.u, PROBLEM.hessian
        t = np.linspace(-5, 5, 200_001)[:, None]
        distance = ((W - t * u) * ((W - t * u) @ hessian)).sum(1).min()
        close(W @ h_star(PROBLEM) @ W, distance, rtol=1e-7)

    @pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
    def test_linear_map_by_finite_differences(self, scale):
        rates = {"rate_gamma": 0.7, "rate_w": 1.9}

        def step(state):
            d = bn_gradients(PROBLEM, state[0], state[1:])
            return state - np.append(0.7 * d.gamma, 1.9 * d.w)

        at = np.append(np.sqrt(PROBLEM.explained), scale * PROBLEM.u)
        close(step(at), at)
        h = 1e-5
        columns = [(step(at + h * e) - step(at - h * e)) / (2 * h) for e in np.eye(5)]
        found = linear_map(PROBLEM, scale=scale, **rates)
        close(found, np.transpose(columns), rtol=1e-6, atol=1e-6)

    def test_refuses(self):
        nothing = Problem(np.eye(2), np.zeros(2), 1.0)
        with pytest.raises(ValueError, match="g is 0"):
            h_star(nothing)
        with pytest.raises(ValueError, match="one input"):
            star_eigenvalues(Problem(np.eye(1), np.ones(1), 1.0))
        with pytest.raises(ValueError, match="scale"):
            linear_map(PROBLEM, rate_gamma=1.0, rate_w=1.0, scale=0.0)


class TestDescent:
    def test_plain_limit(self):
        problem, limit = PROBLEM, 2 / PROBLEM.eigenvalues[0]
        below = descend_ols(problem, W, rate=0.99 * limit, steps=2000)
        above = descend_ols(problem, W, rate=1.01 * limit, steps=2000)
        assert below.excess[-1] < 1e-12 < 1e6 < above.excess[-1]

    def test_gamma_limit(self):
        at = {"rate_w": 1.0, "steps": 4000}
        below = descend_bn(PROBLEM, 1.0, W, rate_gamma=1.95, **at)
        above = descend_bn(PROBLEM, 1.0, W, rate_gamma=2.05, **at)
        assert below.excess[-1] < 1e-10 < 1e6 < above.excess[-1]

    @given(st.floats(-2, 3))
    @settings(max_examples=15, deadline=None)
    def test_any_rate_of_w(self, exponent):
        rate, star = 10**exponent, star_eigenvalues(PROBLEM)
        path = descend_bn(PROBLEM, 1.0, W, rate_gamma=1.0, rate_w=rate, steps=300)
        length = np.linalg.norm(path.w, axis=1)
        assert (np.diff(length) >= -1e-12 * length[1:]).all()  # w only grows
        assert path.excess[-1] < 0.5 * path.excess[:2].max() + 1e-9
        if path.excess[-1] < 1e-12:
            assert rate / length[-1] ** 2 * star[0] < 2 / (PROBLEM.u @ PROBLEM.u) * 1.01

    def test_diverged_is_an_error_for_one_run(self):
        with pytest.raises(Diverged, match="not finite"):
            descend_ols(PROBLEM, W, rate=50.0, steps=2000)
        with pytest.raises(Diverged, match="not finite"):
            descend_bn(PROBLEM, 1.0, W, rate_gamma=9.0, rate_w=1.0, steps=2000)

    def test_refuses(self):
        with pytest.raises(ValueError, match="rates"):
            descend_ols(PROBLEM, W, rate=-1.0, steps=3)
        with pytest.raises(ValueError, match="shape"):
            descend_ols(PROBLEM, W[:2], rate=1.0, steps=3)
        with pytest.raises(TypeError, match="floating"):
            descend_ols(PROBLEM, np.ones(4, int), rate=1.0, steps=3)


class TestSweep:
    def test_counts_as_one_run_does(self):
        rates = np.array([0.3, 1.0, 1.7])
        found = sweep_ols(PROBLEM, W, rates, steps=3000)
        for rate, steps in zip(rates, found.steps, strict=True):
            excess = descend_ols(PROBLEM, W, rate=rate, steps=3000).excess
            assert steps == np.flatnonzero(excess > 1e-6 * excess[0])[-1] + 1
        assert found.best == found.steps.min()
        at = {"steps": 3000}
        found = sweep_bn(PROBLEM, W, rates, 0.9, **at)
        gamma = float(equivalent_gamma(PROBLEM, W))
        for rate, steps in zip(rates, found.steps, strict=True):
            both = {"rate_gamma": 0.9, "rate_w": rate}
            excess = descend_bn(PROBLEM, gamma, W, **both, **at).excess
            assert steps == np.flatnonzero(excess > 1e-6 * excess[0])[-1] + 1

    def test_a_diverged_run_is_recorded_and_the_others_go_on(self):
        found = sweep_ols(PROBLEM, W, np.array([1.0, 1e4, 1e-6]), steps=500)
        assert list(found.outcome) == ["converged", "diverged", "unfinished"]
        assert list(found.steps[1:]) == [-1, -1]
        assert np.isfinite(found.w).all()
        found = sweep_bn(PROBLEM, W, 1.0, np.array([1.0, 30.0]), steps=2000)
        assert list(found.outcome) == ["converged", "diverged"]
        assert sweep_ols(PROBLEM, W, np.array([1e4]), steps=300).best == -1

    def test_a_loss_that_rises_again_has_not_converged(self):
        # At one of these rates the loss is below 1e-6 from step 317, and 1e-4 at 385.
        problem, rates = random_problem(spectrum(3, 1000), 6), 2 ** np.arange(0, 8, 0.5)
        w, found = random_start(problem, 6), []
        gamma = float(equivalent_gamma(problem, w))
        for rate in rates:
            both = {"rate_gamma": 1.0, "rate_w": rate, "steps": 3000}
            excess = descend_bn(problem, gamma, w, **both).excess
            last = np.flatnonzero(excess > 1e-6 * excess[0])[-1] + 1
            found.append(-1 if last > 2900 else last)
        # Unstable steps amplify rounding, so a count may be off by a few.
        close(sweep_bn(problem, w, rates, steps=2910).steps, found, rtol=0.02)

    def test_one_step_to_the_solution_counts_as_one(self):
        # H = 1: the rate 1 leads from any start to the solution, and 1.9 does not.
        problem, w = Problem.from_solution(np.eye(2), np.ones(2)), np.array([3.0, -1.0])
        found = sweep_ols(problem, w, np.array([1.0, 1.9]), steps=400)
        assert found.steps[0] == found.best == 1 < found.steps[1]
        # The direction is right already, and η_γ = 1 sets the length in one step.
        found = sweep_bn(problem, 3 * problem.u, np.array([0.1, 1.0]))
        assert list(found.steps) == [1, 1]

    def test_first_stops_early(self):
        rates = np.array([1e-3, 1.5])
        found = sweep_ols(PROBLEM, W, rates, first=True)
        assert list(found.outcome) == ["unfinished", "converged"]
        assert found.best == sweep_ols(PROBLEM, W, rates[1:]).best
        assert HOLD > 0

    @pytest.mark.parametrize("factor", [0.1, 30.0])
    def test_units(self, factor):
        """Units of x change nothing; those of y scale γ and the gradient of w."""
        hessian, g, square = PROBLEM.hessian, PROBLEM.g, PROBLEM.square
        root, one = np.sqrt(factor), bn_gradients(PROBLEM, 0.7, W)
        x_only = Problem(factor * hessian, root * g, square)
        found = bn_gradients(x_only, 0.7, W)
        close(bn_loss(x_only, 0.7, W), bn_loss(PROBLEM, 0.7, W))
        close(found.w, one.w)
        close(found.gamma, one.gamma)
        y_only = Problem(hessian, root * g, factor * square)
        both = Problem(factor * hessian, factor * g, factor * square)
        close(both.u, PROBLEM.u)
        for problem in (y_only, both):
            found = bn_gradients(problem, root * 0.7, W)
            close(found.w, factor * one.w)
            close(found.gamma, root * one.gamma)

    def test_scaling_h_scales_the_rate_of_w(self):
        larger = Problem(9 * PROBLEM.hessian, 9 * PROBLEM.g, 9 * PROBLEM.square)
        rates = np.array([0.1, 0.4])
        one = sweep_bn(PROBLEM, W, 9 * rates, 0.8, steps=3000)
        two = sweep_bn(larger, W, rates, 0.8, steps=3000)
        assert (one.steps == two.steps).all()

    def test_stored_counts_are_whole_runs(self):
        counts = STEPS.load().loc[:, "plain":"fixed_small"]
        assert counts.shape == (len(STEPS.settings), 6)
        assert ((counts == -1) | ((counts >= 1) & (counts <= 10_000))).all(axis=None)

    def test_refuses(self):
        with pytest.raises(ValueError, match="positive"):
            sweep_ols(PROBLEM, W, np.array([1.0, 0.0]))
        with pytest.raises(ValueError, match="finite"):
            sweep_bn(PROBLEM, W, np.array([1.0, np.inf]))
        with pytest.raises(ValueError, match="tolerance"):
            sweep_ols(PROBLEM, W, np.array([1.0]), tolerance=0.0)
        with pytest.raises(ValueError, match="start is the solution"):
            sweep_ols(PROBLEM, PROBLEM.u, np.array([1.0]))
        with pytest.raises(ValueError, match="w is 0"):
            sweep_bn(PROBLEM, np.zeros(4), np.array([1.0]))

    def test_experiment(self):
        row = tuned_steps(2, 10, "u", 0)
        assert set(row) >= {"plain", "tuned", "fixed_large", "pseudo"}
        assert row["pseudo"] == 1
        assert row["tuned"] <= row["one_small"] * 3
        assert len(STEPS.settings) == 1114
        close(np.linalg.norm(random_start(PROBLEM, 3)), 1)


class TestDecoupling:
    @given(seeds, dimensions)
    @settings(max_examples=20, deadline=None)
    def test_rate_of_kohler(self, seed, d):
        problem = random_problem(spectrum(d, 30), seed)
        w = np.random.default_rng(seed).normal(size=d)
        _, excess = decoupled_descent(problem, w, 40)
        bound = excess[0] * (1 - 1 / problem.kappa) ** (2 * np.arange(41))
        assert (excess <= bound * (1 + 1e-9) + 1e-14).all()

    def test_is_plain_descent_with_the_length_reset(self):
        ways, _ = decoupled_descent(PROBLEM, W, 6)
        v = best_length(PROBLEM, W)
        for way in ways[1:]:
            v = v - gradient(PROBLEM, v) / PROBLEM.eigenvalues[0]
            v = best_length(PROBLEM, v)
            close(best_length(PROBLEM, way), v)

    def test_refuses(self):
        with pytest.raises(ValueError, match="saddle"):
            kohler_step(Problem(np.eye(2), np.array([1.0, 0.0]), 1.0), np.eye(2)[1])
        with pytest.raises(ValueError, match="steps"):
            decoupled_descent(PROBLEM, W, 0)
        with pytest.raises(ValueError, match="positive"):
            logistic_length(gaussian_classes(np.ones(2), np.eye(2)), -np.ones(2))

    def test_logistic(self):
        mean = np.array([0.5, -0.2, 0.3])
        covariance = np.diag([1.0, 0.4, 0.2]) + 0.05
        problem = gaussian_classes(mean, covariance)
        best = 2 * np.linalg.solve(covariance, mean)  # log-odds of two normal classes
        close(logistic_length(problem, 0.1 * best), best, rtol=1e-6)
        z = np.random.default_rng(0).multivariate_normal(mean, covariance, 400_000)
        v = np.array([0.7, 0.4, -1.0])
        close(logistic_loss(problem, v), np.logaddexp(0, -z @ v).mean(), rtol=0.01)
        # Stein: the gradient by the direction is that of least squares, but for a factor.
        h = 1e-5
        sigma = lambda w: np.sqrt(w @ problem.hessian @ w)
        value = lambda w: logistic_loss(problem, 1.6 * w / sigma(w))
        numeric = [(value(v + h * e) - value(v - h * e)) / (2 * h) for e in np.eye(3)]
        factor = logistic_factor(problem, 1.6 * v / sigma(v))
        close(factor * bn_gradients(problem, 1.6, v).w, numeric, rtol=1e-6, atol=1e-9)


class TestExercises:
    def test_references_are_the_chapters_functions(self):
        for seed in range(5):
            problem = random_problem(spectrum(4, 40), seed)
            w = np.random.default_rng(seed).normal(size=4)
            hessian, g, u = problem.hessian, problem.g, problem.u
            reference = least_squares_gradients.EXERCISE.reference(hessian, g, -1.2, w)
            found = bn_gradients(problem, -1.2, w)
            close(reference[0], found.gamma)
            close(reference[1], found.w)
            smallest, largest = least_squares_star.EXERCISE.reference(hessian, g)
            close(largest / smallest, pseudo_kappa(problem))
            step = least_squares_step.EXERCISE.reference(hessian, g, w)
            close(step, best_length(problem, kohler_step(problem, w)), rtol=1e-8)
            limits = least_squares_limits.EXERCISE.reference(hessian, u, 3 * u)
            doubled = linear_map(
                problem, rate_gamma=2 * limits[1], rate_w=2 * limits[2], scale=3.0
            )
            close(doubled[0, 0], -1)
            close(np.linalg.eigvalsh(doubled[1:, 1:])[0], -1)
            close(limits[0], 1 / problem.eigenvalues[0])
