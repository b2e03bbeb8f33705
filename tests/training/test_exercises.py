"""The exercises of the part `training`."""

import numpy as np
import pytest

from bnbook.exercises import check
from bnbook.exercises.training import EXERCISES as LISTED

EXERCISES = {exercise.id: exercise for exercise in LISTED}
CHAPTERS = tuple(dict.fromkeys(exercise.chapter for exercise in LISTED))


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def answer(name):
    return EXERCISES[name].reference


class TestNetwork:
    """The references of this chapter equal the functions that the chapter trains with."""

    def test_linear(self):
        from bnbook.training.layers import linear, linear_backward

        rng = np.random.default_rng(0)
        a, w, dz = (rng.normal(size=s) for s in ((5, 3), (3, 2), (5, 2)))
        grads = linear_backward(dz, linear(a, w, np.zeros(2))[1])
        got = answer("network-linear")(dz, a, w)
        for mine, theirs in zip(got, (grads.da, grads.dw, grads.db), strict=True):
            close(mine, theirs)

    def test_losses(self):
        from bnbook.training.losses import LOSSES

        rng = np.random.default_rng(1)
        z, t = 200 * rng.normal(size=(7, 4)), rng.integers(0, 4, size=7)
        for name, logits, labels, given in (
            ("logistic", z[:, 0], t % 2, (t % 2).astype(float)),
            ("softmax", z, t, np.eye(4)[t]),
        ):
            loss_of, backward_of = LOSSES[name]
            loss, cache = loss_of(logits, labels)
            got = answer(f"network-{name}")(logits, given)
            close(got[0], loss)
            close(got[1], backward_of(cache))

    def test_step(self):
        from bnbook.training.sgd import SGD

        rng = np.random.default_rng(2)
        parameters, optimizer, l2 = {"w": rng.normal(size=(3, 2))}, SGD(0.3, 0.7), 0.2
        w, v = parameters["w"], np.zeros((3, 2))
        for g in rng.normal(size=(4, 3, 2)):
            w, v = answer("network-step")(w, v, g, 0.3, 0.7, l2)
            optimizer.update(parameters, {"w": g + l2 * parameters["w"]})
            close(w, parameters["w"])
            close(v, optimizer.velocity["w"])

    def test_property(self):
        from bnbook.training.network import Network, loss_and_gradients

        network = Network((3, 4, 1), batch_norm=True, seed=0, dtype=np.float64)
        rng = np.random.default_rng(3)
        for name, value in network.parameters.items():
            network.parameters[name] = rng.normal(size=value.shape)
        network.parameters["b2"] = np.zeros(1)
        x, t = rng.normal(size=(6, 3)), np.array([0.0, 1, 1, 0, 1, 0])
        p = network.parameters
        args = p["W1"], p["gamma1"], p["beta1"], p["W2"][:, 0], x, t
        loss, g = loss_and_gradients(network, x, t)
        exact = loss, g["W1"], g["gamma1"], g["beta1"], g["W2"][:, 0]
        exercise = EXERCISES["network-property"]
        for variant in exercise.correct:
            for mine, theirs in zip(variant.function(*args), exact, strict=True):
                close(mine, theirs)
        for variant in exercise.mutants:
            found = variant.function(*args)
            close(found[0], loss)
            off = [abs(a - b).max() for a, b in zip(found[1:], exact[1:], strict=True)]
            assert max(off) > 1e-3, variant.id


class TestHiggs:
    """The references of this chapter equal the functions of the chapter."""

    def test_mass_of_two_jets(self):
        from bnbook.data.kinematics import four_vector, mass

        rng = np.random.default_rng(10)
        one, other = (
            (rng.uniform(20, 90, 9), rng.normal(size=9), rng.uniform(-3, 3, 9))
            for _ in range(2)
        )
        expected = mass(four_vector(*one) + four_vector(*other))
        np.testing.assert_allclose(
            answer("higgs-mass")(*one, *other), expected, rtol=1e-9
        )

    def test_neutrino(self):
        from bnbook.data.higgs_masses import neutrino_pz
        from bnbook.data.higgs_toy import signal

        rng = np.random.default_rng(11)
        lepton = signal(50, rng)["lepton"]
        px, py = rng.normal(0, 60, (2, 50))
        np.testing.assert_allclose(
            answer("higgs-neutrino")(lepton, px, py, 80.4),
            neutrino_pz(lepton, px, py, 80.4),
            rtol=1e-9,
        )

    def test_standardize(self):
        from bnbook.data.digits import digits

        data = digits()
        wide = [part.x.astype(np.float64) for part in data.parts().values()]
        for got, part in zip(
            answer("higgs-standardize")(*wide),
            data.standardized().parts().values(),
            strict=True,
        ):
            np.testing.assert_allclose(got, part.x, rtol=1e-5, atol=1e-5)

    def test_interval(self):
        from bnbook.intervals import t_interval

        bn, control = np.random.default_rng(12).normal(size=(2, 7))
        close(
            answer("higgs-interval")(bn, control, 0.9),
            t_interval(bn - control, 0.9)[1:],
        )

    def test_the_correct_decays_are_the_boost_of_the_book(self):
        from bnbook.data.kinematics import boosted, decay_momentum, four_vector

        rng = np.random.default_rng(13)
        parent = four_vector(
            rng.uniform(1, 200, 8), rng.normal(size=8), rng.uniform(-3, 3, 8), 173.0
        )
        directions = rng.normal(size=(8, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        p = decay_momentum(np.full(8, 173.0), 80.4, 4.7)
        still = np.column_stack([np.hypot(p, 80.4), p[:, None] * directions])
        expected = boosted(still, parent)
        for variant in EXERCISES["higgs-property"].correct:
            first, second = variant.function(parent, 80.4, 4.7, directions)
            np.testing.assert_allclose(first, expected, rtol=1e-8)
            np.testing.assert_allclose(first + second, parent, rtol=1e-8, atol=1e-7)


class TestSearch:
    """The references of this chapter equal the functions of the search."""

    def test_rate(self):
        from bnbook.training.genetic_search import draw

        u = np.random.default_rng(20).random(9)
        bounds = np.array([-4.0, 0.5])
        close(answer("search-rate")(*bounds, u), 10 ** draw(bounds, u))

    def test_bounds(self):
        from bnbook.training.genetic_search import next_bounds

        logs = np.random.default_rng(21).normal(-2.0, 1.0, size=5)
        expected = next_bounds(logs[:, None], factor=1.2)[0]
        close(answer("search-bounds")(10**logs, 1.2), expected)

    def test_select(self):
        from bnbook.training.genetic_search import Trial, select

        rng = np.random.default_rng(22)
        scores = rng.integers(0, 4, size=12) / 4
        scores[[2, 7]] = np.nan
        rates = rng.normal(size=12)
        trials = [
            Trial(0, 0.0, rate, -np.inf if np.isnan(score) else score)
            for rate, score in zip(rates, scores, strict=True)
        ]
        expected = [trial.log_rate for trial in select(trials, 3)]
        close(answer("search-select")(rates, scores), expected)

    def test_budget(self):
        count = answer("search-budget")(0.7, 10.0, 0.95)
        draws = np.random.default_rng(23).random((20_000, count))
        found = (draws < 0.07).any(axis=1).mean()
        assert 0.94 < found < 0.96
        assert 1 - 0.93 ** (count - 1) < 0.95 <= 1 - 0.93**count

    def test_spread(self):
        from bnbook.training.shrinkage import returned_spread

        for generations in (1, 4, 10):
            mine = answer("search-spread")(7.0, generations)
            close(mine, returned_spread(7.0, generations))

    def test_property(self):
        from bnbook.training.genetic_search import next_bounds

        def implementation(logs):
            return tuple(next_bounds(logs).T)

        EXERCISES["search-property"].reference(implementation)
        logs = np.random.default_rng(24).normal(-0.5, [0.4, 2.0], size=(4, 2))
        for variant in EXERCISES["search-property"].correct:
            close(variant.function(logs), implementation(logs))
        for variant in EXERCISES["search-property"].mutants:
            wrong = np.array(variant.function(logs)) - implementation(logs)
            assert abs(wrong).max() > 1e-3, variant.id


class TestCost:
    """The references of this chapter equal the functions that the chapter counts and times with."""

    def test_slowdown(self):
        from bnbook.training.cost import added_time, lost_throughput

        got = answer("cost-slowdown")(0.249, 0.387)
        close(got, (added_time(0.249, 0.387), lost_throughput(0.249, 0.387)))

    def test_roofline(self):
        from bnbook.training.cost import Machine

        flops, moved = np.array([7e6, 2e9, 8.0]), np.array([3e6, 3e6, 1.0])
        machine = Machine(1e11, 1e10)
        got = answer("cost-roofline")(flops, moved, 1e11, 1e10)
        close(got, machine.attainable(flops / (4 * moved)))

    def test_flops(self):
        from bnbook.training.cost import SOURCE_SIZES, matmul_flops

        got = answer("cost-flops")(28, 1000, 4, 1, 1024)
        assert got == matmul_flops(SOURCE_SIZES, 1024, training=True)

    def test_backward(self):
        from bnbook.training.fast_batch_norm import (
            fast_batch_norm,
            fast_batch_norm_backward,
        )

        rng = np.random.default_rng(0)
        x, dy = rng.normal(2.0, 1.5, size=(2, 9, 4))
        gamma, beta = rng.normal(size=(2, 4))
        y, cache = fast_batch_norm(x, gamma, beta, eps=0.3)
        grads = fast_batch_norm_backward(dy, cache)
        close(answer("cost-output")(dy, y, gamma, beta, cache.std), grads.dx)
        a, b, c = answer("cost-coefficients")(
            gamma, x.mean(axis=0), cache.std, grads.dgamma, grads.dbeta, 9
        )
        close(a * dy + b * x + c, grads.dx)

    def test_property(self):
        from bnbook.training.fast_batch_norm import fast_batch_norm

        test = answer("cost-property")
        test(lambda x, gamma, beta, eps: fast_batch_norm(x, gamma, beta, eps=eps)[0])


@pytest.mark.parametrize("name", EXERCISES)
def test_references_are_correct_in_a_second(name):
    assert check(name, answer(name)).outcome == "correct"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_has_enough_exercises(chapter):
    exercises = [exercise for exercise in LISTED if exercise.chapter == chapter]
    assert len(exercises) >= 4
    assert any(exercise.id.endswith("-property") for exercise in exercises)
    for exercise in exercises:
        assert exercise.id.startswith(chapter.rpartition("/")[2] + "-")
        assert len(exercise.mistakes) >= 3
        assert len(exercise.hints) >= 2
        assert exercise.alternatives
