"""The landscape in raw and in relative units, noise behind the normalization, and results."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.exercises.optimization import (
    landscape_deflation,
    landscape_moved,
    landscape_product,
    landscape_property,
    landscape_walk,
)
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import descend, tensors
from bnbook.optimization.hessian import (
    Hessian,
    classifier_loss,
    lanczos,
    top_eigenvalues,
)
from bnbook.optimization.landscape import (
    RelativeHessian,
    distance,
    probe,
    relative_eigenvalues,
    rescaled,
)
from bnbook.optimization.landscape_results import (
    best_rate,
    largest_good_rate,
    load_benchmark,
    log_ratios,
    product_ratio,
    rank_correlations,
)
from bnbook.optimization.landscape_runs import (
    EXPERIMENTS,
    noise_run,
    sharpness_run,
    smoothness_run,
)
from bnbook.optimization.noisy_norm import NoisyBatchNorm, layer_moments, noisy, shift

SMALL, EXACT = (64, 6, 5, 10), partial(BatchNorm, eps=1e-14)


@pytest.fixture(scope="module")
def data():
    x, t = tensors(digits().standardized().train)
    return x[:200], t[:200]


@pytest.fixture(scope="module", params=[EXACT, None], ids=["norm", "plain"])
def network(request, data):
    network = DenseNetwork(SMALL, normalization=request.param)
    descend(network, *data, rate=0.1, steps=20)
    return network


class TestProbe:
    def test_raw_walk_is_gradient_descent(self, network, data):
        steps = [0.01, 0.3]
        seen = probe(network, *data, steps)
        loss, point = classifier_loss(network, *data)
        gradient = torch.func.grad(loss)(point)
        for n, step in enumerate(steps):
            there = point - step * gradient
            moved = torch.func.grad(loss)(there) - gradient
            assert seen.losses[n] == pytest.approx(loss(there).item())
            assert seen.changes[n] == pytest.approx(moved.norm().item())
            assert seen.distances[n] == pytest.approx(step * gradient.norm().item())
        assert seen.loss == pytest.approx(loss(point).item())
        assert seen.gradient == pytest.approx(gradient.norm().item())

    def test_relative_step_is_the_relative_change(self, network, data):
        seen = probe(network, *data, [1e-6], relative=True)
        loss, point = classifier_loss(network, *data)
        gradient = torch.func.grad(loss)(point)
        slope = (seen.losses[0] - seen.loss) / seen.distances[0]
        assert slope == pytest.approx(-(point.abs() * gradient).norm().item(), rel=1e-3)
        assert seen.distances[0] == pytest.approx(1e-6 * math.sqrt(len(point)))

    def test_smoothness_of_small_steps_is_below_the_largest_eigenvalue(
        self, network, data
    ):
        hessian = Hessian(*classifier_loss(network, *data))
        largest = abs(np.linalg.eigvalsh(hessian.dense())).max()
        g = hessian.gradient
        expected = np.linalg.norm(hessian @ g) / np.linalg.norm(g)
        found = probe(network, *data, [1e-6]).smoothness
        assert found == pytest.approx(expected, rel=1e-2) and found <= largest * 1.01

    def test_ranges_of_known_losses(self, network, data):
        seen = probe(network, *data, [0.01, 0.1])
        losses = [*seen.losses, seen.loss]
        assert seen.loss_range == pytest.approx(max(losses) - min(losses))
        blown = type(seen)(np.array([np.nan]), np.array([np.inf]), np.ones(1), 1.0, 1.0)
        assert blown.loss_range == blown.smoothness == math.inf

    @pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [math.inf], [[0.1]]])
    def test_bad_steps(self, network, data, bad):
        with pytest.raises(ValueError, match="steps must be positive"):
            probe(network, *data, bad)

    def test_no_direction(self, data):
        network = DenseNetwork(SMALL, normalization=None)
        with torch.no_grad():
            for p in network.parameters():
                p.zero_()
        with pytest.raises(ValueError, match="no direction"):
            probe(network, *data, [0.1], relative=True)


class TestSymmetries:
    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.floats(0.2, 5), min_size=2, max_size=2))
    def test_change_raw_and_leave_relative_measures(self, network, data, factors):
        other = rescaled(network, factors)
        torch.testing.assert_close(
            other(data[0]), network(data[0]), rtol=1e-6, atol=1e-8
        )
        at, there = (
            probe(n, *data, [0.003, 0.02], relative=True) for n in (network, other)
        )
        np.testing.assert_allclose(there.losses, at.losses, rtol=1e-6)
        np.testing.assert_allclose(there.changes, at.changes, rtol=1e-5)
        values = [relative_eigenvalues(n, *data, 3).values for n in (network, other)]
        np.testing.assert_allclose(*values, rtol=2e-3)

    def test_gradient_and_hessian_move_by_the_chain_rule(self, data):
        network = DenseNetwork(SMALL, normalization=EXACT)
        descend(network, *data, rate=0.1, steps=5)
        one, other = (
            Hessian(*classifier_loss(n, *data))
            for n in (network, rescaled(network, (3.0, 3.0)))
        )
        d = torch.cat(
            [
                torch.full((p.numel(),), 3.0 if name[:9] in HIDDEN else 1.0)
                for name, p in network.named_parameters()
            ]
        ).numpy()
        np.testing.assert_allclose(d * other.gradient, one.gradient, atol=1e-8)
        moved = d[:, None] * other.dense() * d
        np.testing.assert_allclose(moved, one.dense(), atol=1e-7)
        sharp = [top_eigenvalues(n, *data, 1).values[0] for n in (network,)]
        assert sharp[0] > lanczos(other, 1).values[0]

    def test_the_original_stays(self, network):
        before = [p.clone() for p in network.parameters()]
        rescaled(network, (2.0, 0.5))
        for p, old in zip(network.parameters(), before, strict=True):
            assert torch.equal(p, old)

    @pytest.mark.parametrize("bad", [(1.0,), (1.0, 0.0), (1.0, -2.0), (1.0, math.nan)])
    def test_bad_factors(self, network, bad):
        with pytest.raises(ValueError, match="2 positive numbers"):
            rescaled(network, bad)

    def test_relative_hessian_equals_matrices(self, network, data):
        loss, point = classifier_loss(network, *data)
        hessian = Hessian(loss, point)
        units = np.diag(np.abs(point.numpy()))
        expected = units @ hessian.dense() @ units
        values = np.linalg.eigvalsh(expected)[::-1][:4]
        found = relative_eigenvalues(network, *data, 4)
        np.testing.assert_allclose(found.values, values, rtol=1e-3)
        relative = RelativeHessian(hessian, point)
        v = np.random.default_rng(0).normal(size=hessian.size)
        np.testing.assert_allclose(relative @ v, expected @ v, atol=1e-12)
        assert relative.products == hessian.products

    def test_distance(self, network):
        assert distance(network, network) == 0
        flat = [
            np.concatenate([p.detach().numpy().ravel() for p in n.parameters()])
            for n in (network, rescaled(network, (2.0, 3.0)))
        ]
        expected = np.linalg.norm(flat[0] - flat[1])
        assert distance(network, rescaled(network, (2.0, 3.0))) == pytest.approx(
            expected
        )


HIDDEN = ("linears.0", "linears.1")


class TestNoise:
    def test_has_the_stated_moments(self):
        norm, z = NoisyBatchNorm(4000, noise=0.6, seed=0), torch.zeros(40, 4000)
        z[:20] = 1.0  # ẑ is ±1
        added = norm(z.double()) - BatchNorm(4000)(z.double())
        means = added.mean(0)
        assert means.abs().max() > 0.6 and means.mean().abs() < 0.02
        within = added.var(0, correction=1).mean()
        assert within.item() == pytest.approx(0.6**2 / 3, rel=0.05)
        spread = means.var() - within / 40
        assert spread.item() == pytest.approx(0.6**2 / 3, rel=0.1)

    def test_is_new_each_pass_reproducible_and_absent_in_evaluation(self):
        z = torch.randn(8, 3, dtype=torch.float64, generator=torch.manual_seed(0))
        one, two = (NoisyBatchNorm(3, noise=0.5, seed=4) for _ in range(2))
        first = one(z)
        assert torch.equal(first, two(z)) and not torch.equal(first, one(z))
        one.fit(z)
        torch.testing.assert_close(one.eval()(z), BatchNorm(3)(z))
        quiet = NoisyBatchNorm(3, noise=0.0, seed=1)
        torch.testing.assert_close(quiet(z), BatchNorm(3)(z))

    def test_layers_draw_independent_noise(self):
        network = DenseNetwork((4, 5, 5, 2), normalization=noisy(1.0, seed=2))
        z = torch.randn(8, 5, dtype=torch.float64, generator=torch.manual_seed(0))
        assert not torch.equal(network.norms[0](z), network.norms[1](z))

    def test_bad_noise(self):
        for bad in (-0.1, math.nan, math.inf):
            with pytest.raises(ValueError, match="noise must be finite"):
                NoisyBatchNorm(3, noise=bad, seed=0)


class TestShift:
    def test_in_units_of_the_spread(self):
        y = torch.randn(50, 4, dtype=torch.float64, generator=torch.manual_seed(0))
        before = layer_moments([y, y])
        assert shift(before, before) == 0
        size = y.std(0, correction=0).square().mean().sqrt().item()
        moved = layer_moments([y + 0.3, y])
        assert shift(before, moved) == pytest.approx(0.3 / size / 2)
        wider = shift(before, layer_moments([2 * y, 2 * y]))
        centred = y - y.mean(0)
        assert shift(layer_moments([centred]), layer_moments([2 * centred])) == 1.0
        assert wider > 1
        scaled = [layer_moments([7 * y, y]), layer_moments([7 * (y + 0.3), y])]
        assert shift(*scaled) == pytest.approx(0.3 / size / 2)

    def test_bad_input(self):
        y = torch.ones(3, 2)
        with pytest.raises(ValueError, match="same layers"):
            shift(layer_moments([y]), layer_moments([y, y]))
        with pytest.raises(ValueError, match="same values"):
            shift(layer_moments([y]), layer_moments([y]))


class TestRuns:
    def test_noise(self):
        row = noise_run(treatment="noise 0.5", rate=0.3, seed=0, data="digits")
        assert row["test"] > 0.9 and 0.2 < row["shift"] < 0.6 and row["loss"] < 0.2
        assert row == noise_run(treatment="noise 0.5", rate=0.3, seed=0, data="digits")

    def test_smoothness(self, monkeypatch):
        monkeypatch.setattr("bnbook.optimization.landscape_runs.CHECKPOINTS", (0, 5))
        monkeypatch.setattr("bnbook.optimization.landscape_runs.DEPTH", 2)
        monkeypatch.setattr("bnbook.optimization.landscape_runs.WIDTH", 8)
        rows = smoothness_run(kind="norm", seed=0, data="digits")
        assert [(r["step"], r["scale"]) for r in rows] == [
            (step, scale) for step in (0, 5) for scale in (0.25, 1.0, 4.0)
        ]
        for a, b, c in (rows[:3], rows[3:]):
            assert a["loss"] == pytest.approx(c["loss"], rel=1e-9)
            assert a["relative_range"] == pytest.approx(c["relative_range"], rel=1e-6)
            assert a["raw_top"] > b["raw_top"] > c["raw_top"]

    def test_sharpness_stops_at_the_loss(self):
        row = sharpness_run(rate=1.0, batch=300, seed=0, data="digits")
        assert 0.003 < row["loss"] <= 0.03 and row["steps"] % 5 == 0
        assert 0 < row["errors"] < 0.2 and row["distance"] > 1

    @pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
    def test_is_stored_and_takes_the_data_by_name(self, experiment):
        assert "data" in experiment.names and len(experiment.load())


class TestResults:
    def test_best_rate(self):
        rows = pd.DataFrame(
            {
                "treatment": ["a"] * 6,
                "rate": [0.1, 0.1, 0.3, 0.3, 1.0, 1.0],
                "seed": [1, 0, 1, 0, 1, 0],
                "loss": [0.5, 0.5, 0.2, 0.3, 0.01, np.nan],
            }
        )
        rate, best = best_rate(rows, "a")
        assert rate == 0.3 and best.loss.tolist() == [0.3, 0.2]
        for treatment, some in (("b", rows), ("a", rows[4:])):
            with pytest.raises(ValueError, match="no learning rate"):
                best_rate(some, treatment)

    def test_rank_correlations(self):
        rows = pd.DataFrame(
            {
                "seed": [0, 0, 0, 1, 1, 1],
                "a": [1, 2, 3, 1, 2, 3],
                "b": [1, 8, 9, 3, 2, 1],
            }
        )
        np.testing.assert_allclose(rank_correlations(rows, "a", "b"), [1, -1])
        with pytest.raises(ValueError, match="three runs"):
            rank_correlations(rows[:5], "a", "b")

    def test_log_ratios(self):
        rows = pd.DataFrame(
            {
                "kind": ["norm", "norm", "plain", "plain", "norm", "norm"],
                "scale": [1.0, 1.0, 1.0, 1.0, 4.0, 4.0],
                "seed": [0] * 6,
                "step": [0, 5] * 3,
                "a": [2.0, 2.0, 4.0, 1.0, 8.0, 2.0],
            }
        )
        np.testing.assert_allclose(log_ratios(rows, "a"), [0.0], atol=1e-15)
        np.testing.assert_allclose(log_ratios(rows, "a", scale=4.0), [np.log(2)])
        with pytest.raises(ValueError, match="scale 3"):
            log_ratios(rows, "a", scale=3.0)

    def test_largest_good_rate(self):
        rows = pd.DataFrame(
            {
                "treatment": ["a"] * 4,
                "seed": [0, 0, 1, 1],
                "rate": [0.1, 1.0, 0.1, 1.0],
                "test": [0.95, 0.5, 0.9, 0.92],
            }
        )
        assert largest_good_rate(rows, "a").tolist() == [0.1, 1.0]
        with pytest.raises(ValueError, match=r"0\.93 at no rate for seeds {1}"):
            largest_good_rate(rows, "a", least=0.93)

    def test_benchmark_saves_a_factor_of_three(self):
        _, runs = load_benchmark()
        assert (product_ratio(runs) >= 3).all()
        assert (runs.lanczos_error <= 1e-3).all() and (runs.power_error <= 1e-3).all()


class TestExercises:
    rng = np.random.default_rng(5)

    def test_product_is_that_of_the_chapter(self):
        x, w, v = (self.rng.normal(size=s) for s in ((6, 3), 3, 3))
        t = torch.tensor([1.0, -1, 1, 1, -1, 1], dtype=torch.float64)

        def loss(theta):
            return functional.softplus(-t * (torch.from_numpy(x) @ theta)).mean()

        expected = Hessian(loss, torch.from_numpy(w)) @ v
        found = landscape_product.logistic_product(x, w, v)
        np.testing.assert_allclose(found, expected, atol=1e-14)

    def test_moved_hessian_is_that_of_a_rescaled_network(self, data):
        network = DenseNetwork((64, 3, 10), normalization=None)
        descend(network, *data, rate=0.1, steps=5)
        other = rescaled(network, (2.0,))
        loss, point = classifier_loss(network, *data)
        moved, there = classifier_loss(other, *data)
        ratio = torch.where(point == 0, torch.ones_like(point), there / point)
        hessian, relative = landscape_moved.moved_hessian(
            Hessian(loss, point).dense(), point.numpy(), ratio.numpy()
        )
        np.testing.assert_allclose(hessian, Hessian(moved, there).dense(), atol=1e-10)
        value = relative_eigenvalues(other, *data, 1).values[0]
        assert relative == pytest.approx(value, rel=1e-3)

    def test_walk_is_the_probe_of_a_quadratic(self):
        matrix = np.diag([3.0, 1.0, -0.5])
        theta, steps = np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.4])
        losses, changes = landscape_walk.walk(matrix, theta, steps)
        h = torch.from_numpy(matrix)
        hessian = Hessian(lambda w: w @ h @ w / 2, torch.from_numpy(theta))
        there = theta - steps[:, None] * hessian.gradient
        for n in range(2):
            end = Hessian(lambda w: w @ h @ w / 2, torch.from_numpy(there[n]))
            assert losses[n] == pytest.approx(end.value)
            change = np.linalg.norm(end.gradient - hessian.gradient)
            assert changes[n] == pytest.approx(change)

    def test_deflated_steps_find_the_second_eigenvalue(self):
        matrix = np.diag([9.0, 4.0, 1.0, -2.0])
        v = self.rng.normal(size=4)
        for _ in range(40):
            v, value, residual = landscape_deflation.deflated_step(
                matrix, np.eye(4)[:1], v
            )
        assert value == pytest.approx(4.0) and residual < 1e-8

    def test_property_test_accepts_lanczos(self):
        class Matrix:
            def __init__(self, matrix):
                self.matrix, self.size, self.products = matrix, len(matrix), 0

            def __matmul__(self, v):
                self.products += 1
                return self.matrix @ v

        landscape_property.test_top_eigenvalues(
            lambda m, k: lanczos(Matrix(m), k).values
        )
