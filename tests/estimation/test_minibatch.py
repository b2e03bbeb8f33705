"""Batch Renormalization, how well a minibatch estimates, and the stored runs."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnbook.estimation.minibatch import (
    BatchRenorm,
    RenormLimits,
    batch_renorm,
    batch_renorm_backward,
    renorm_limits,
    set_renorm_limits,
)
from bnbook.estimation.minibatch_bias import BIAS, squared_mean
from bnbook.estimation.minibatch_estimates import (
    effective_size,
    mean_over_batches,
    position_correlation,
    std_factor,
)
from bnbook.estimation.minibatch_runs import (
    TRAINING,
    chosen,
    grouped_rows,
    mode_gaps,
    norm_inputs,
    set_population,
    small_network,
)
from bnbook.estimation.minibatch_worth import (
    MOMENTS,
    batch_correlation,
    batch_worth,
    measured_worth,
)
from bnbook.estimation.population_norm import PopulationNorm
from bnbook.exercises.estimation.minibatch_backward import renorm_input_gradient
from bnbook.exercises.estimation.minibatch_property import (
    test_trains_as_it_infers as trains_as_it_infers,
)
from bnbook.exercises.estimation.minibatch_renorm import renormalize
from bnbook.exercises.estimation.minibatch_shrunk import mean_batch_gradient
from bnbook.exercises.estimation.minibatch_worth import independent_values
from bnbook.experiments import deviation
from bnbook.foundations.forward import batch_norm

F64 = torch.float64
FREE = {"r_max": math.inf, "d_max": math.inf}
PLAIN = {"r_max": 1.0, "d_max": 0.0}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.manual_seed(seed))


def make(channels=4, **options):
    """A layer with non-trivial parameters and statistics."""
    norm = BatchRenorm(channels, eps=0.1, dtype=F64, **options)
    with torch.no_grad():
        norm.weight.copy_(draw(channels, seed=1) + 0.5)
        norm.bias.copy_(draw(channels, seed=2))
        norm.running_mean.copy_(draw(channels, seed=3))
        norm.running_var.copy_(draw(channels, seed=4) ** 2 + 0.5)
    return norm


def torch_norm(norm, dimensions=1):
    theirs = getattr(nn, f"BatchNorm{dimensions}d")(norm.num_features, eps=norm.eps)
    theirs.double().load_state_dict(norm.state_dict())
    theirs.momentum = norm.momentum
    return theirs


def gradients(norm, x, g):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((norm(x) * g).sum(), [x, norm.weight, norm.bias])


class TestBatchRenorm:
    @pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2), (1, 4, 3, 2)])
    def test_without_limits_training_gives_the_values_of_evaluation(self, shape):
        norm, x = make(**FREE), draw(*shape)
        expected = norm.eval()(x)
        torch.testing.assert_close(norm.train()(x), expected)

    @pytest.mark.parametrize("momentum", [0.1, 1.0, None])
    @pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2)])
    def test_at_r_1_and_d_0_it_is_batch_norm(self, shape, momentum):
        norm = make(**PLAIN, momentum=momentum)
        theirs = torch_norm(norm, max(1, len(shape) - 2))
        for seed in (5, 6):
            x, g = draw(*shape, seed=seed), draw(*shape, seed=9)
            for a, b in zip(
                gradients(norm, x, g), gradients(theirs, x, g), strict=True
            ):
                torch.testing.assert_close(a, b)
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(norm.state_dict()[key], value)
        torch.testing.assert_close(norm.eval()(x), theirs.eval()(x))

    @pytest.mark.parametrize("limits", [(1.2, 0.3), (3.0, 5.0), (math.inf, 0.0)])
    @pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
    def test_value_and_gradients_by_hand(self, shape, limits):
        norm = make(r_max=limits[0], d_max=limits[1])
        x, g = draw(*shape) * 2 + 1, draw(*shape, seed=7)
        over, keep = [0, *range(2, x.ndim)], (slice(None), *[None] * (x.ndim - 2))
        mean, std = x.mean(over)[keep], (x.var(over, correction=0) + 0.1).sqrt()[keep]
        old = (norm.running_var + 0.1).sqrt()[keep]
        r = (std / old).clamp(1 / limits[0], limits[0])
        d = ((mean - norm.running_mean[keep]) / old).clamp(-limits[1], limits[1])
        z = (x - mean) / std
        u = g * norm.weight[keep]
        average = lambda v: v.mean(over)[keep]
        dx = r / std * (u - average(u) - z * average(u * z))
        expected = norm.weight[keep] * (z * r + d) + norm.bias[keep]
        torch.testing.assert_close(copy.deepcopy(norm)(x), expected)
        found = gradients(norm, x, g)
        torch.testing.assert_close(found[0], dx)
        torch.testing.assert_close(found[1], (g * (z * r + d)).sum(over))
        torch.testing.assert_close(found[2], g.sum(over))

    def test_gradient_is_r_times_that_of_batch_norm_and_sees_no_statistics_of_r(self):
        norm, x, g = make(**FREE), draw(6, 4) * 3, draw(6, 4, seed=7)
        r = (x.var(0, correction=0) + 0.1).sqrt() / (norm.running_var + 0.1).sqrt()
        theirs = gradients(torch_norm(norm), x, g)[0]
        torch.testing.assert_close(gradients(norm, x, g)[0], r * theirs)

    def test_statistics_are_updated_after_the_values_and_only_in_training(self):
        norm, x = make(momentum=0.25), draw(8, 4)
        before = copy.deepcopy(norm.state_dict())
        norm.eval()(x)
        assert all(torch.equal(norm.state_dict()[k], v) for k, v in before.items())
        norm.train()(x)
        for name, seen in (("mean", x.mean(0)), ("var", x.var(0))):
            key = f"running_{name}"
            torch.testing.assert_close(
                norm.state_dict()[key], 0.75 * before[key] + 0.25 * seen
            )
        assert norm.num_batches_tracked == 1

    @pytest.mark.parametrize("options", [PLAIN, FREE, {}])
    def test_microbatches_are_batches_that_come_alone(self, options):
        x, g = draw(6, 4, 3), draw(6, 4, 3, seed=7)
        norm = make(microbatch=2, momentum=1.0, **options)
        expected, statistics = [], []
        for part, grad in zip(x.split(2), g.split(2), strict=True):
            alone = make(momentum=1.0, **options)
            expected.append(gradients(alone, part, grad))
            statistics.append(alone.running_var)
        found = gradients(norm, x, g)
        torch.testing.assert_close(found[0], torch.cat([e[0] for e in expected]))
        for k in (1, 2):
            torch.testing.assert_close(found[k], sum(e[k] for e in expected))
        torch.testing.assert_close(norm.running_var, torch.stack(statistics).mean(0))

    @pytest.mark.parametrize(
        ("layer", "x"),
        [
            (nn.Linear(3, 4), draw(5, 3)),
            (nn.Conv2d(3, 4, 3, padding=1), draw(2, 3, 5, 5)),
            (nn.ConvTranspose1d(3, 4, 2), draw(2, 3, 5)),
        ],
    )
    @pytest.mark.parametrize("affine", [True, False])
    def test_fold(self, layer, x, affine):
        layer = layer.double()
        norm = make() if affine else BatchRenorm(4, affine=False, dtype=F64)
        norm.eval()
        torch.testing.assert_close(norm.fold(layer)(x), norm(layer(x)))

    def test_fold_refuses_training_mode(self):
        with pytest.raises(ValueError, match="training mode"):
            make().fold(nn.Linear(3, 4).double())

    @given(
        st.integers(0, 2**31),
        st.floats(0.5, 4),
        st.floats(-50, 50),
        st.floats(1.0, 4.0),
        st.floats(0.0, 6.0),
    )
    @settings(max_examples=40, deadline=None)
    def test_corrections_stay_within_their_limits(self, seed, scale, shift, r, d):
        norm, x = make(r_max=r, d_max=d), draw(5, 4, seed=seed) * scale + shift
        y = (norm(x) - norm.bias) / norm.weight
        assert (y.mean(0).abs() <= d + 1e-9).all()
        spread = y.std(0, correction=0)
        z = x.std(0, correction=0) / (x.var(0, correction=0) + 0.1).sqrt()
        assert (spread <= r * z + 1e-9).all() and (spread >= z / r - 1e-9).all()

    def test_one_value_a_channel_cannot_train_but_can_infer(self):
        for norm, x in ((make(), draw(1, 4)), (make(microbatch=1), draw(6, 4))):
            with pytest.raises(ValueError, match="no spread"):
                norm(x)
            assert norm.eval()(x).shape == x.shape
        assert make(microbatch=1)(draw(6, 4, 2)).isfinite().all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"r_max": 0.5}, "r_max"),
            ({"r_max": math.nan}, "r_max"),
            ({"d_max": -1.0}, "d_max"),
            ({"eps": 0.0}, "eps"),
            ({"momentum": 0.0}, "momentum"),
            ({"momentum": 1.5}, "momentum"),
            ({"track_running_stats": False}, "track_running_stats"),
            ({"microbatch": 0}, "microbatch"),
        ],
    )
    def test_bad_settings(self, options, message):
        with pytest.raises(ValueError, match=message):
            BatchRenorm(4, **options)
        with pytest.raises(ValueError, match="num_features"):
            BatchRenorm(0)

    def test_bad_input(self):
        for shape in ((4,), (5, 3), (0, 4)):
            with pytest.raises(ValueError, match="shape"):
                make()(draw(*shape))
        with pytest.raises(ValueError, match="multiple of the microbatch"):
            make(microbatch=4)(draw(6, 4))

    def test_checkpoints(self):
        make().load_state_dict(nn.BatchNorm2d(4).state_dict())
        plain = PopulationNorm(4).state_dict()
        make().load_state_dict(plain)
        other = nn.Sequential(PopulationNorm(4, rotation="hadamard")).state_dict()
        with pytest.raises(ValueError, match="another method"):
            nn.Sequential(make()).load_state_dict(other)


class TestArrays:
    @pytest.mark.parametrize("limits", [FREE, PLAIN, {}, {"r_max": 1.3, "d_max": 0.2}])
    def test_parity_with_the_layer(self, limits):
        norm, x, g = make(**limits), draw(5, 4, 3), draw(5, 4, 3, seed=7)
        state = [
            v.detach().numpy().copy()
            for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        ]
        y, cache = batch_renorm(x.numpy(), *state, eps=0.1, axes=(0, 2), **limits)
        np.testing.assert_allclose(y, copy.deepcopy(norm)(x).detach(), atol=1e-12)
        found = batch_renorm_backward(g.numpy(), cache)
        for a, b in zip(
            (found.dx, found.dgamma, found.dbeta), gradients(norm, x, g), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-12)

    def test_gradient_by_differences_with_r_and_d_held_still(self):
        rng = np.random.default_rng(0)
        x, g = rng.normal(size=(5, 3)) * 2, rng.normal(size=(5, 3))
        gamma, beta, mean = rng.normal(size=(3, 3))
        var = rng.uniform(0.5, 2, 3)
        _, cache = batch_renorm(x, gamma, beta, mean, var, **FREE)
        std = np.sqrt(var + 1e-5)
        r = np.sqrt(x.var(0) + 1e-5) / std
        d = (x.mean(0) - mean) / std
        numeric, h = np.empty_like(x), 1e-30
        for at in np.ndindex(*x.shape):
            moved = x.astype(complex)
            moved[at] += 1j * h
            one = np.ones(3, complex)
            z = batch_norm(moved, one, 0 * one)[0]
            numeric[at] = (g * (gamma * (z * r + d) + beta)).sum().imag / h
        np.testing.assert_allclose(batch_renorm_backward(g, cache).dx, numeric)

    def test_bad_input(self):
        x, one = np.ones((3, 2)) * np.arange(3.0)[:, None], np.ones(2)
        with pytest.raises(ValueError, match="running_var"):
            batch_renorm(x, one, one, one, -one)
        with pytest.raises(ValueError, match="running_mean"):
            batch_renorm(x, one, one, np.ones(3), one)
        with pytest.raises(ValueError, match="r_max"):
            batch_renorm(x, one, one, one, one, r_max=0.9)
        with pytest.raises(ValueError, match="one value per feature"):
            batch_renorm(x[:1], one, one, one, one)


class TestLimits:
    def test_schedule_of_the_paper(self):
        assert renorm_limits(0) == renorm_limits(5_000) == (1.0, 0.0)
        assert renorm_limits(25_000)[1] == 5.0 and renorm_limits(25_000)[0] < 3
        assert renorm_limits(40_000) == renorm_limits(10**6) == (3.0, 5.0)
        assert renorm_limits(15_000).d_max == pytest.approx(2.5)

    @given(st.integers(0, 100), st.integers(0, 20), st.integers(21, 60))
    def test_limits_only_widen(self, step, start, end):
        at = {"start": start, "r_end": end, "d_end": end}
        a, b = renorm_limits(step, **at), renorm_limits(step + 1, **at)
        assert 1 <= a.r_max <= b.r_max <= 3 and 0 <= a.d_max <= b.d_max <= 5

    def test_set(self):
        model = nn.Sequential(make(), nn.BatchNorm1d(4), nn.Sequential(make()))
        set_renorm_limits(model, RenormLimits(2.0, 0.5))
        assert model[0].r_max == model[2][0].r_max == 2.0 and model[0].d_max == 0.5
        with pytest.raises(ValueError, match="d_max"):
            set_renorm_limits(model, RenormLimits(2.0, -0.5))

    def test_bad_schedules(self):
        with pytest.raises(ValueError, match="steps must be"):
            renorm_limits(-1)
        with pytest.raises(ValueError, match="steps must be"):
            renorm_limits(1, start=5, r_end=5)
        with pytest.raises(ValueError, match="finite"):
            renorm_limits(1, r_max=math.inf)


class TestHowWell:
    @given(st.integers(1, 6), st.floats(-0.15, 1.0))
    def test_effective_size_is_the_variance_of_a_mean(self, count, rho):
        covariance = np.full((count, count), rho) + (1 - rho) * np.eye(count)
        assert 1 / effective_size(count, rho) == pytest.approx(covariance.mean())

    def test_std_factor_by_monte_carlo(self):
        assert std_factor(2) == pytest.approx(1 / math.sqrt(math.pi))
        rng = np.random.default_rng(0)
        for count in (3, 8):
            stds = rng.normal(size=(40_000, count)).std(axis=1)
            error = stds.std() / 200
            assert abs(stds.mean() - std_factor(count)) < 4 * error

    def test_position_correlation(self):
        rng = np.random.default_rng(1)
        shared = rng.normal(size=(4000, 2, 1))
        z = shared * np.sqrt([[[0.3], [0.0]]]) + rng.normal(
            size=(4000, 2, 9)
        ) * np.sqrt([[[0.7], [1.0]]])
        found = position_correlation(z)
        np.testing.assert_allclose(found, [0.3, 0.0], atol=0.02)
        constant = np.repeat(rng.normal(size=(5, 1, 1)), 4, axis=2)
        np.testing.assert_allclose(position_correlation(constant), 1.0)
        images = z.reshape(4000, 2, 3, 3)
        np.testing.assert_allclose(position_correlation(images), found)

    def test_mean_over_batches(self):
        z = np.arange(5.0)
        assert mean_over_batches(lambda b: z[b].mean(), 5, 3) == pytest.approx(2.0)
        every = [z[list(b)].var() for b in itertools.combinations(range(5), 2)]
        assert mean_over_batches(lambda b: z[b].var(), 5, 2) == np.mean(every)

    @pytest.mark.parametrize(
        "call",
        [
            lambda: effective_size(0, 0.1),
            lambda: effective_size(3, -0.5),
            lambda: effective_size(3, 1.1),
            lambda: std_factor(1),
            lambda: position_correlation(np.ones((3, 2))),
            lambda: position_correlation(np.ones((3, 2, 4))),
            lambda: mean_over_batches(len, 5, 6),
            lambda: mean_over_batches(len, 40, 20),
        ],
    )
    def test_bad_input(self, call):
        with pytest.raises(ValueError):
            call()


class TestWorth:
    def test_worth_of_groups_by_hand(self):
        groups = np.array([[[1.0, 3.0]], [[-1.0, -1.0]], [[0.0, 4.0]]])  # (3, 1, 2)
        # Values 1, 3, −1, −1, 0, 4 have the variance 11/3; means 2, −1, 2 have 2.
        np.testing.assert_allclose(measured_worth(groups), [11 / 6], rtol=1e-12)
        twice = np.stack([groups, groups[::-1]])
        np.testing.assert_allclose(measured_worth(twice), [11 / 6], rtol=1e-12)
        with pytest.raises(ValueError, match="G at least 2"):
            measured_worth(groups[:1])

    def test_independent_values_are_worth_their_number(self):
        groups = np.random.default_rng(0).normal(size=(40_000, 2, 6))
        np.testing.assert_allclose(measured_worth(groups), 6, rtol=0.05)
        np.testing.assert_allclose(measured_worth(groups**2), 6, rtol=0.05)

    @pytest.mark.parametrize("positions", (1, 5))
    @pytest.mark.parametrize("power", (1, 2))
    def test_correlation_in_a_batch_predicts_its_worth(self, positions, power):
        rng, (classes, examples) = np.random.default_rng(1), (12, 8)
        parts = ((classes, 1, 1, 1), (classes, examples, 1, 1))
        shape = (classes, examples, 2, positions)
        values = sum(rng.normal(size=part) for part in (*parts, shape))
        values = (values - values.mean((0, 1, 3), keepdims=True)) ** power
        # A batch is any 3 of the 8 examples of a class: all of them, with no order.
        chosen_3 = np.array(list(itertools.product(range(examples), repeat=3)))
        chosen_3 = chosen_3[[len(set(row)) == 3 for row in chosen_3.tolist()]]
        groups = values[:, chosen_3].transpose(0, 1, 3, 2, 4)  # (K, G, C, 3, P)
        groups = groups.reshape(classes * len(chosen_3), 2, -1)
        expected = effective_size(3 * positions, batch_correlation(values, 3))
        np.testing.assert_allclose(measured_worth(groups), expected, rtol=1e-10)

    def test_normal_squares_correlate_by_the_square(self):
        rng, rho = np.random.default_rng(2), 0.6
        z = rng.normal(size=(400_000, 1, 2))
        z[..., 1] = rho * z[..., 0] + math.sqrt(1 - rho**2) * z[..., 1]
        found = [position_correlation(values)[0] for values in (z, z**2)]
        np.testing.assert_allclose(found, [rho, rho**2], atol=0.01)

    @pytest.mark.parametrize("network", ("dense", "conv"))
    def test_worth_of_digits(self, network):
        found = batch_worth(network, 0)
        assert list(found.moment.unique()) == list(MOMENTS)
        close = found[found.batch != "1 image"]
        np.testing.assert_allclose(close.measured, close.worth, rtol=0.1)
        squares = found[(found.moment == MOMENTS[1]) & (found.batch != "16 mixed")]
        assert (squares.rho > 0).all()


class TestRuns:
    def test_every_update_has_the_same_classes_and_other_groups(self):
        t = np.repeat(np.arange(10), 30)
        for mixed in (0, 1, 2):
            rows = grouped_rows(t, 16, mixed, np.random.default_rng(0))
            assert len({*rows}) == 160 and (np.bincount(t[rows]) == 16).all()
            kinds = {len({*t[g]}) for g in rows.reshape(10, 16)}
            assert kinds == {mixed} if mixed else min(kinds) > 2
        with pytest.raises(ValueError, match="mixed"):
            grouped_rows(t, 16, 3, np.random.default_rng(0))
        with pytest.raises(ValueError, match="examples"):
            grouped_rows(t, 31, 0, np.random.default_rng(0))

    @pytest.mark.parametrize("kind", ["dense", "conv", "deep"])
    def test_population_statistics_make_evaluation_the_full_batch(self, kind):
        model, x = small_network(kind, 64, 10, dtype=F64), draw(40, 64)
        set_population(model, x)
        assert max(mode_gaps(model, x, 40)) < 1e-12
        assert min(mode_gaps(model, x, 4)) > 0.05
        for z, norm in zip(
            norm_inputs(model, x),
            (layer for layer in model if isinstance(layer, BatchRenorm)),
            strict=True,
        ):
            torch.testing.assert_close(z.mean((0, 2)), norm.running_mean)
            torch.testing.assert_close(z.var((0, 2), correction=0), norm.running_var)
        torch.testing.assert_close(model.eval()(x), model.train()(x))

    def test_bad_networks(self):
        with pytest.raises(ValueError, match="kind"):
            small_network("wide", 64, 10)
        with pytest.raises(ValueError, match="square"):
            small_network("conv", 63, 10)

    def test_a_full_batch_has_no_bias_but_when_frozen(self):
        at = {"data": "digits", "network": "dense", "microbatch": 1024}
        at |= {"activation": "tanh", "trained": 2}
        for method in ("batch", "renorm", "frozen"):
            found = BIAS.run(**at, method=method, seed=0)
            assert (found["bias"] < 1e-20) == (method != "frozen")

    def test_squared_mean_is_the_mean_product_of_different_samples(self):
        samples = draw(5, 3) + 1
        pairs = [
            samples[a] @ samples[b] for a, b in itertools.permutations(range(5), 2)
        ]
        torch.testing.assert_close(squared_mean(samples), sum(pairs) / 20)
        torch.testing.assert_close(squared_mean(samples[:1]), samples[0].square().sum())

    def test_stored_results_are_what_the_code_gives(self):
        calm = {"microbatch": 160, "mixed": 0, "rate": 0.02, "seed": 1}
        found = TRAINING.replay(network="dense", method="batch", **calm)
        assert deviation(*found) < 0.03
        assert not TRAINING.missing() and not BIAS.missing()
        runs = chosen(TRAINING.load(), network="dense", method="batch", microbatch=2)
        assert len(runs) == 6
        with pytest.raises(ValueError, match="no run"):
            chosen(TRAINING.load(), network="wide")
        smooth = {"activation": "tanh", "method": "renorm", "microbatch": 64, "seed": 0}
        assert deviation(*BIAS.replay(network="dense", **smooth)) < 1e-6


class TestExercises:
    def test_worth_is_the_effective_size(self):
        rho = np.array([0.0, 0.2, 1.0])
        np.testing.assert_allclose(
            independent_values(3, 16, rho), 3 * effective_size(16, rho)
        )

    def test_shrunk_is_the_mean_over_all_batches(self):
        rng = np.random.default_rng(0)
        x, t = torch.from_numpy(rng.normal(size=(2, 7)))

        def gradient(rows):
            w = torch.tensor(0.6, dtype=F64, requires_grad=True)
            z = w * (x[rows] - x[rows].mean())
            ((z - t[rows]) ** 2 / 2).mean().backward()
            return w.grad.item()

        for batch in range(1, 8):
            expected = mean_over_batches(gradient, 7, batch)
            found = mean_batch_gradient(0.6, x.numpy(), t.numpy(), batch)
            assert found == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("limits", [(1.0, 0.0), (1.2, 0.3), (50.0, 50.0)])
    def test_renorm_forward_and_backward_are_the_chapter_s(self, limits):
        rng = np.random.default_rng(1)
        z, g = rng.normal(size=(2, 6, 3)) * np.array([5.0, 1.0, 0.1])
        mean, std, one = rng.normal(size=3), rng.uniform(0.5, 2, 3), np.ones(3)
        expected, cache = batch_renorm(
            z, one, 0 * one, mean, std**2, eps=0.0, r_max=limits[0], d_max=limits[1]
        )
        np.testing.assert_allclose(renormalize(z, mean, std, *limits), expected)
        dx = batch_renorm_backward(g, cache).dx
        np.testing.assert_allclose(
            renorm_input_gradient(z, g, std, limits[0]), dx, atol=1e-14
        )

    def test_property_accepts_the_layer_without_limits_and_rejects_it_with(self):
        def layer(limits):
            def normalize(z, mean, std, training):
                norm = BatchRenorm(3, eps=1e-12, dtype=F64, **limits)
                norm.running_mean.copy_(torch.from_numpy(mean))
                norm.running_var.copy_(torch.from_numpy(std**2))
                return norm.train(training)(torch.from_numpy(z)).detach().numpy()

            return normalize

        trains_as_it_infers(layer(FREE))
        for limits in (PLAIN, {}, {"r_max": math.inf}, {"d_max": math.inf}):
            with pytest.raises(AssertionError):
                trains_as_it_infers(layer(limits))
