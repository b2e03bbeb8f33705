"""Scale-invariant weights: one step, equilibrium, bounds, training, exercises."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnbook.exercises.optimization import (
    scale_invariance_bounce,
    scale_invariance_schedule,
    scale_invariance_settled,
    scale_invariance_sphere,
    scale_invariance_twin,
)
from bnbook.foundations.scale_invariance import train
from bnbook.optimization import scale_training
from bnbook.optimization.dense import DenseNetwork
from bnbook.optimization.descent import descend
from bnbook.optimization.scale_invariance import (
    effective_rate,
    equilibrium,
    follow,
    gradient_bound,
    next_norm2,
    norm2_bound,
    rate_after_step,
    rayleigh,
    rayleigh_descent,
    step_angle,
)
from bnbook.optimization.scale_training import (
    SCALE_EQUILIBRIUM,
    classifier,
    descent_at_rate,
    noisy_descent,
    schedule_factor,
    train_scaled,
)

positive = st.floats(1e-3, 1e3)
EIGENVALUES = np.linspace(0, 1, 8)


def step(w, tangent, rate, decay):
    """A step from w, whose gradient is `tangent`, made orthogonal, over ‖w‖²."""
    u = w / np.linalg.norm(w)
    across = tangent - (tangent @ u) * u
    gradient = across / np.linalg.norm(w)
    return w - rate * (gradient + decay * w), across @ across


class TestStep:
    @given(positive, positive, st.floats(0, 0.9), st.integers(0, 99))
    def test_length_and_angle_of_a_vector(self, rate, scale, product, seed):
        rng = np.random.default_rng(seed)
        w, decay = scale * rng.normal(size=5), product / rate
        after, square = step(w, rng.normal(size=5), rate, decay)
        norm2 = w @ w
        assert next_norm2(norm2, square, rate, decay) == pytest.approx(after @ after)
        cosine = w @ after / math.sqrt(norm2 * (after @ after))
        assert math.cos(step_angle(norm2, square, rate, decay)) == pytest.approx(cosine)

    @given(positive, positive, positive)
    def test_what_survives_one_step(self, norm2, gradient, rate):
        angle = step_angle(norm2, gradient**2, rate)
        left = rate_after_step(angle, gradient**2)
        now = effective_rate(rate, next_norm2(norm2, gradient**2, rate))
        assert left == pytest.approx(now, rel=1e-6)
        assert left <= 0.5 / gradient * (1 + 1e-12)

    @given(positive, positive, positive)
    def test_too_large_and_too_small_alike(self, norm2, gradient, factor):
        best = norm2 / gradient
        found = [
            effective_rate(r, next_norm2(norm2, gradient**2, r))
            for r in (best * factor, best / factor)
        ]
        assert found[0] == pytest.approx(found[1])

    def test_bad_input(self):
        for bad in (0.0, -1.0, math.nan, math.inf, True, "1"):
            with pytest.raises(ValueError, match="rate must be positive"):
                next_norm2(1.0, 1.0, bad)
        for bad in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match="w = 0 has no direction"):
                effective_rate(0.1, bad)
        with pytest.raises(ValueError, match="decay must be a number of at least 0"):
            next_norm2(1.0, 1.0, 0.1, -0.1)
        for decay in (10.0, 20.0):
            with pytest.raises(ValueError, match="below 1"):
                step_angle(1.0, 1.0, 0.1, decay)
        with pytest.raises(ValueError, match="gradient2 must be finite"):
            next_norm2(1.0, -1.0, 0.1)
        with pytest.raises(ValueError, match="between 0 and"):
            rate_after_step(2.0, 1.0)


class TestEquilibrium:
    @given(positive, positive, st.floats(1e-4, 0.9))
    def test_is_a_fixed_point(self, square, rate, product):
        found = equilibrium(square, rate, product / rate)
        after = next_norm2(found.norm2, square, rate, product / rate)
        assert after == pytest.approx(found.norm2, rel=1e-9)
        angle = step_angle(found.norm2, square, rate, product / rate)
        assert angle == pytest.approx(found.angle, rel=1e-6)
        assert math.cos(found.angle) == pytest.approx(1 - product, abs=1e-12)

    @pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
    def test_by_simulation(self, momentum):
        """Weights in 2000 dimensions, whose gradients are fresh noise."""
        rng = np.random.default_rng(3)
        rate, decay, size = 0.5, 0.02, 2000
        expected = equilibrium(1.0, rate, decay, momentum)
        w = rng.normal(size=size)
        w *= math.sqrt(expected.norm2) / np.linalg.norm(w)
        v, norm4, angles = np.zeros(size), [], []
        for count in range(1500):
            u = w / np.linalg.norm(w)
            g = rng.normal(size=size)
            g -= (g @ u) * u
            g /= np.linalg.norm(g) * np.linalg.norm(w)
            v = momentum * v + g + decay * w
            after = w - rate * v
            if count >= 500:
                norm4.append((w @ w) ** 2)
                cosine = w @ after / np.linalg.norm(w) / np.linalg.norm(after)
                angles.append(math.acos(cosine))
            w = after
        assert np.mean(norm4) == pytest.approx(expected.norm2**2, rel=0.02)
        assert np.mean(angles) == pytest.approx(expected.angle, rel=0.01)

    def test_steps_to_settle(self):
        found = equilibrium(1.0, 0.1, 0.01)
        steps = round(found.steps)
        path = follow(1.001 * found.norm2, 1.0, np.full(steps, 0.1), 0.01)
        deviation = path.norm2**2 - found.norm2**2
        assert deviation[-1] / deviation[0] == pytest.approx(math.exp(-1), rel=0.01)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="without it the length only grows"):
            equilibrium(1.0, 0.1, 0.0)
        with pytest.raises(ValueError, match="rate × decay"):
            equilibrium(1.0, 1.0, 1.0)
        with pytest.raises(ValueError, match="gradient2 must be positive"):
            equilibrium(0.0, 0.1, 0.1)
        for bad in (-0.1, 1.0):
            with pytest.raises(ValueError, match="momentum"):
                equilibrium(1.0, 0.1, 0.1, bad)


class TestFollow:
    def test_drop_and_recovery(self):
        at = equilibrium(1.0, 1.0, 0.01)
        rates = np.repeat([1.0, 0.1], [10, 10_000])
        path = follow(at.norm2, 1.0, rates, 0.01)
        np.testing.assert_allclose(path.angle[:10], at.angle)
        assert path.angle[10] / at.angle == pytest.approx(0.1, rel=0.02)
        assert path.angle[-1] / at.angle == pytest.approx(math.sqrt(0.1), rel=0.01)

    def test_law_of_the_cosines(self):
        squares = np.random.default_rng(0).exponential(size=50)
        path = follow(2.0, squares, np.full(50, 0.7), 0.1)
        law = math.log(1 - 0.07) - math.log(path.norm2[-1] / 2.0) / 100
        assert np.log(np.cos(path.angle)).mean() == pytest.approx(law)

    def test_bad_input(self):
        for bad in (0.1, np.zeros(0), np.ones((2, 2))):
            with pytest.raises(ValueError, match="rates must have shape"):
                follow(1.0, 1.0, bad, 0.0)
        with pytest.raises(ValueError):
            follow(1.0, np.ones(3), np.ones(2), 0.0)
        with pytest.raises(ValueError, match="rate must be positive"):
            follow(1.0, 1.0, np.array([0.1, 0.0]), 0.0)


class TestRayleigh:
    def test_gradient_by_complex_step(self):
        w = np.random.default_rng(1).normal(size=8)
        _, gradient = rayleigh(w, EIGENVALUES)
        moved, _ = rayleigh(w + 1e-30j * np.eye(8), EIGENVALUES)
        np.testing.assert_allclose(moved.imag / 1e-30, gradient, atol=1e-14)

    @given(st.integers(0, 50), st.floats(1e-3, 1e3))
    def test_degrees(self, seed, factor):
        w = np.random.default_rng(seed).normal(size=8)
        loss, gradient = rayleigh(w, EIGENVALUES)
        scaled_loss, scaled = rayleigh(factor * w, EIGENVALUES)
        assert scaled_loss == pytest.approx(loss)
        np.testing.assert_allclose(factor * scaled, gradient, atol=1e-12)
        assert abs(w @ gradient) < 1e-12

    @given(st.floats(-4, 6), st.integers(0, 20))
    def test_bounds(self, exponent, seed):
        rate = 10.0**exponent
        run = rayleigh_descent(EIGENVALUES, np.array([rate]), steps=60, seed=seed)
        assert (np.diff(run.norm2[:, 0]) >= -1e-12 * run.norm2[1:, 0]).all()
        ceiling = norm2_bound(rate, 1.0, smoothness=2.0, slope=0.5, drop=0.5)
        assert (run.norm2 <= ceiling * (1 + 1e-12)).all()
        smallest = np.minimum.accumulate(run.gradient[:, 0])
        first = run.norm2[0, 0]
        last = np.maximum(run.norm2[1:, 0], first)
        steps = np.arange(1, 61)
        # where G hardly grows, its growth has lost digits
        slack = np.sqrt(1e-14) * first / rate
        assert (smallest <= gradient_bound(steps, rate, first, last) + slack).all()

    def test_steps_to(self):
        run = rayleigh_descent(EIGENVALUES, np.array([1e-6, 1.0]), steps=200)
        assert run.steps_to(1e-3)[0] == 200
        at = run.steps_to(1e-3)[1]
        assert run.gradient[at, 1] <= 1e-3 < run.gradient[at - 1, 1]

    def test_bad_input(self):
        with pytest.raises(ValueError, match="w must not be 0"):
            rayleigh(np.zeros(8), EIGENVALUES)
        with pytest.raises(ValueError, match="must end in the shape"):
            rayleigh(np.ones(7), EIGENVALUES)
        with pytest.raises(ValueError, match="steps"):
            rayleigh_descent(EIGENVALUES, np.ones(1), steps=0)
        with pytest.raises(ValueError, match="rate must be positive"):
            rayleigh_descent(EIGENVALUES, np.array([-1.0]), steps=3)
        with pytest.raises(ValueError, match="last at least first"):
            gradient_bound(10, 0.1, 2.0, 1.0)
        with pytest.raises(ValueError, match="slope must be positive"):
            norm2_bound(0.1, 1.0, smoothness=1.0, slope=0.0, drop=1.0)


@functools.cache
def recorded():
    network, x, t = classifier("digits", seed=0)
    at = {"rate": 2.0, "decay": 0.02, "batch": 64, "seed": 0}
    return train_scaled(network, x, t, steps=30, **at), network


class TestTraining:
    def test_orthogonal_and_pythagoras(self):
        run, _ = recorded()
        assert np.abs(run.cosine).max() < 1e-9
        expected = next_norm2(run.norm2[:-1], run.gradient2, 2.0, 0.02)
        np.testing.assert_allclose(run.norm2[1:], expected, rtol=1e-9)
        angle = step_angle(run.norm2[:-1], run.gradient2, 2.0, 0.02)
        np.testing.assert_allclose(run.angle, angle, atol=1e-9)

    def test_same_as_descend(self):
        _, network = recorded()
        other, x, t = classifier("digits", seed=0)
        hidden = [linear.weight for linear in other.linears[:-1]]
        rest = [p for p in other.parameters() if not any(p is w for w in hidden)]
        groups = [
            {"params": hidden, "lr": 2.0, "weight_decay": 0.02},
            {"params": rest},
        ]
        descend(other, x, t, rate=0.1, steps=30, batch=64, seed=0, parameters=groups)
        for a, b in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b)

    def test_schedule_reaches_every_group(self):
        losses = []
        for schedule in (None, lambda step: 1.0, lambda step: 0.5):
            network, x, t = classifier("digits", seed=1)
            run = train_scaled(
                network, x[:64], t[:64], rate=1.0, steps=3, schedule=schedule
            )
            losses.append(run.loss[-1])
        network, x, t = classifier("digits", seed=1)
        half = train_scaled(network, x[:64], t[:64], rate=0.5, other_rate=0.05, steps=3)
        assert losses[0] == losses[1]
        assert losses[2] == pytest.approx(half.loss[-1])

    def test_schedule_factor(self):
        assert schedule_factor("constant", 7, 10) == 1
        assert [schedule_factor("drop", s, 10) for s in (4, 5)] == [1, 0.1]
        assert schedule_factor("cosine", 5, 10) == pytest.approx(0.5)
        with pytest.raises(ValueError, match="schedule must be"):
            schedule_factor("linear", 0, 10)

    def test_bad_input(self):
        network, x, t = classifier("digits", seed=0)
        with pytest.raises(ValueError, match="rate must be positive"):
            train_scaled(network, x, t, rate=0.0, steps=1)
        with pytest.raises(ValueError, match="decay"):
            train_scaled(network, x, t, rate=0.1, decay=-1.0, steps=1)
        with pytest.raises(ValueError, match="below 1"):
            train_scaled(network, x, t, rate=0.1, decay=10.0, steps=1)
        network = DenseNetwork((64, 4, 10))
        with torch.no_grad():
            network.linears[0].weight[2] = 0
        with pytest.raises(ValueError, match="weights are all 0"):
            train_scaled(network, x, t, rate=0.1, steps=1)

    def test_rows(self, monkeypatch):
        rows = descent_at_rate("digits", True, 10.0, 30, 128, 0)
        assert [row["step"] for row in rows] == [1, 3, 10, 30]
        assert rows[0]["gradient"] >= rows[-1]["gradient"] > 0
        monkeypatch.setattr(scale_training, "CHECKPOINTS", (1, 10, 40))
        found = noisy_descent(10.0, 40, 0)
        run = train(steps=40, batch=16, rate=0.1, weight_rate=10.0, seed=0)
        effective = np.median(10.0 / run.weight_norm2[40])
        assert found[-1]["effective"] == pytest.approx(effective)
        assert all(row["law"] <= 1 + 1e-9 for row in found)

    def test_stored_equilibrium(self):
        """The committed results bear the theory out."""
        results = SCALE_EQUILIBRIUM.load()
        same = results[
            (results.rate * results.decay).round(9).eq(0.005)
            & results.momentum.eq(0)
            & results.eps.lt(1e-20)
        ]
        assert same.rate.nunique() == 4
        theory = equilibrium(1.0, 1.0, 0.005).angle
        assert same.angle.mean() == pytest.approx(theory, rel=0.05)


class TestExercises:
    def test_effective_after(self):
        norm2, gradient = np.array([1.0, 2.0]), np.array([0.3, 4.0])
        np.testing.assert_allclose(
            scale_invariance_bounce.effective_after(norm2, gradient, 3.0),
            effective_rate(3.0, next_norm2(norm2, gradient**2, 3.0)),
        )

    def test_settled(self):
        found = equilibrium(0.7, 0.4, 0.3, 0.8)
        assert scale_invariance_settled.settled(0.7, 0.4, 0.3, 0.8) == pytest.approx(
            (found.norm2, found.angle)
        )

    def test_angles_of_schedule(self):
        rates = np.linspace(1.0, 0.1, 9)
        np.testing.assert_allclose(
            scale_invariance_schedule.angles_of_schedule(2.0, 0.6, rates, 0.2),
            follow(2.0, 0.6, rates, 0.2).angle,
        )

    def test_sphere_step(self):
        w = np.array([3.0, 0.0, 4.0])
        after, square = step(w, np.array([1.0, 2.0, 3.0]), 0.5, 0.1)
        u = w / 5
        across = np.array([1.0, 2.0, 3.0])
        across = across - (across @ u) * u
        direction, norm2 = scale_invariance_sphere.sphere_step(
            u, across, 25.0, 0.5, 0.1
        )
        np.testing.assert_allclose(direction * math.sqrt(norm2), after)
        assert norm2 == pytest.approx(next_norm2(25.0, square, 0.5, 0.1))

    def test_twin_run(self):
        rng = np.random.default_rng(4)
        w, tangent = rng.normal(size=4), rng.normal(size=4)
        rate, decay = scale_invariance_twin.twin_run(0.3, 0.2, 5.0)
        after, _ = step(w, tangent, 0.3, 0.2)
        twin, _ = step(5 * w, tangent, rate, decay)
        np.testing.assert_allclose(twin, 5 * after)
