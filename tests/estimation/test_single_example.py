"""Gradients of single examples: against autograd, and against the gradient of all data."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.gradient_error import (
    GradientError,
    by_layer,
    calibrate,
    choose,
    example_gradients,
    full_gradient,
    gradient_error,
    network,
    train_exactly,
    unchanged,
    weighted_layers,
)
from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.population_norm import PopulationNorm, population_norms
from bnbook.estimation.rotation import random_rotation
from bnbook.estimation.single_example import (
    capped_share,
    scaling,
    single_example_backward,
    single_example_norm,
)
from bnbook.estimation.single_example_dependence import (
    dependence,
    second_moment_edges,
)
from bnbook.estimation.single_example_runs import (
    BATCH_MAP,
    CAP_MAP,
    CAP_PAIR_MAP,
    DEPENDENCE_MAP,
    EXPERIMENTS,
    SHRINKAGE_MAP,
    example_squares,
    population,
)
from bnbook.estimation.single_example_training import (
    ALONG,
    MEASURED,
    RATES,
    TRAINING,
    start,
    updates,
)
from bnbook.estimation.single_example_training import EXPERIMENTS as TRAININGS
from bnbook.exercises import check
from bnbook.exercises.estimation import (
    single_example_backward as ex_backward,
)
from bnbook.exercises.estimation import (
    single_example_fold,
    single_example_property,
    single_example_scaling,
    single_example_shrinkage,
)
from bnbook.optimization.descent import accuracy

F64 = torch.float64


def arrays(count=6, d=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.7, 1.0, (count, d)) * rng.uniform(0.2, 3.0, (count, 1))
    return x, rng.normal(size=(count, d))


class TestOneChannel:
    @pytest.mark.parametrize("f_max", [None, 1.0, 2.0, math.inf])
    @pytest.mark.parametrize("d", [1, 5])
    def test_is_the_layer(self, f_max, d):
        x, dy = arrays(d=d)
        norm = PopulationNorm(
            1, eps=0.1, affine=False, r_m=0.4, r_v=0.7, f_max=f_max, u_max=None
        ).double()
        norm.running_mean.fill_(0.3), norm.running_var.fill_(1.4)
        given_x = torch.tensor(x[:, None], requires_grad=True)
        y = norm(given_x)
        y.backward(torch.tensor(dy[:, None]))
        ours, cache = single_example_norm(x, 0.3, 1.4, eps=0.1)
        np.testing.assert_allclose(ours, y.detach()[:, 0].numpy(), rtol=1e-13)
        dx = single_example_backward(dy, cache, r_m=0.4, r_v=0.7, f_max=f_max)
        np.testing.assert_allclose(dx, given_x.grad[:, 0].numpy(), atol=1e-13)

    def test_is_the_derivative_of_a_joint_normalization_where_one_example_is_all(self):
        x, dy = arrays(count=1, d=6)
        mean, square, h = x.mean(), x.var(), 1e-30

        def loss(v):  # one example is the population: its statistics are its own
            p = v - v.mean()
            return (dy * p / np.sqrt((p * p).mean() + 0.2)).sum()

        steps = [loss(x + 1j * h * np.eye(6)[i]).imag / h for i in range(6)]
        _, cache = single_example_norm(x, mean, square, eps=0.2)
        np.testing.assert_allclose(
            single_example_backward(dy, cache)[0], steps, rtol=1e-12
        )

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 200), st.floats(0.05, 20), st.integers(1, 8))
    def test_without_cap_the_gradient_is_orthogonal_and_knows_no_scale(
        self, seed, c, d
    ):
        x, dy = arrays(d=d, seed=seed)
        options = {"r_m": 0.0, "f_max": math.inf}
        _, cache = single_example_norm(x, 0.0, 1.3, eps=0.0)
        dx = single_example_backward(dy, cache, **options)
        np.testing.assert_allclose((dx * x).sum(1), 0, atol=1e-9)
        _, scaled = single_example_norm(c * x, 0.0, 1.3, eps=0.0)
        again = single_example_backward(dy, scaled, **options)
        np.testing.assert_allclose(again, dx, atol=1e-9)

    def test_one_value_an_example(self):
        x, dy = arrays(d=1)
        _, cache = single_example_norm(x, 0.3, 1.4, eps=0.0)
        assert (single_example_backward(dy, cache, f_max=2.0) == 0).all()  # r_m = 1
        by_square = single_example_backward(dy, cache, r_m=0.0, f_max=math.inf)
        np.testing.assert_allclose(by_square, 0, atol=1e-14)
        assert abs(single_example_backward(dy, cache, r_m=0.0, f_max=2.0)).max() > 0.01

    def test_a_constant_example(self):
        x = np.full((2, 3), 0.5)
        _, cache = single_example_norm(x, 0.5, 1.0)
        dx = single_example_backward(np.ones((2, 3)), cache, r_m=0.0, f_max=math.inf)
        assert np.isfinite(dx).all()

    def test_capped_share(self):
        rng = np.random.default_rng(3)
        for d in (1, 4, 16):
            q = (rng.normal(size=(40_000, d)) ** 2).mean(1)
            got = (scaling(q, 1.0, math.inf) > 2).mean()
            assert abs(got - capped_share(d, 2.0)) < 0.01
        assert capped_share(1, 2.0) == pytest.approx(stats.chi2.cdf(0.5, 1))

    @pytest.mark.parametrize(
        ("call", "error", "match"),
        [
            (
                lambda: single_example_norm(np.ones((2, 3), int), 0, 1),
                TypeError,
                "float",
            ),
            (lambda: single_example_norm(np.ones(3), 0, 1), ValueError, r"\(M, d\)"),
            (
                lambda: single_example_norm(np.ones((2, 0)), 0, 1),
                ValueError,
                r"\(M, d\)",
            ),
            (
                lambda: single_example_norm(np.ones((2, 3)), 0, 0),
                ValueError,
                "positive",
            ),
            (
                lambda: scaling(np.ones(2), 1.0, 0.5),
                ValueError,
                "f_max must be at least",
            ),
            (lambda: capped_share(0, 2.0), ValueError, "at least 1"),
        ],
    )
    def test_bad_input(self, call, error, match):
        with pytest.raises(error, match=match):
            call()

    def test_bad_backward(self):
        x, dy = arrays()
        _, cache = single_example_norm(x, 0.0, 1.0)
        with pytest.raises(ValueError, match="the shape of x"):
            single_example_backward(dy[:2], cache)
        for name in ("r_m", "r_v"):
            with pytest.raises(ValueError, match=f"{name} must lie"):
                single_example_backward(dy, cache, **{name: 1.2})


def small(kind="convolutional", rotation=None, count=12):
    rng = torch.manual_seed(5)
    x = torch.randn(count, 36, dtype=F64, generator=rng)
    t = torch.arange(count) % 3
    model = network(kind, 36, 3, rotation=rotation, width=4, seed=2)
    train_exactly(model, x, t, steps=2, rate=0.1)
    return model, x, t


class TestNetworks:
    @pytest.mark.parametrize("kind", ["convolutional", "dense"])
    def test_the_full_gradient_is_that_of_batch_norm(self, kind):
        model, x, t = small(kind)
        make = nn.BatchNorm1d if kind == "dense" else nn.BatchNorm2d
        theirs = nn.Sequential(
            *[make(4) if isinstance(p, PopulationNorm) else p for p in model]
        ).double()
        for mine, other in zip(model, theirs, strict=True):
            if isinstance(mine, PopulationNorm):
                with torch.no_grad():
                    other.weight.copy_(mine.weight), other.bias.copy_(mine.bias)
        loss = F.cross_entropy(theirs.train()(x), t)
        weights = [layer.weight for layer in weighted_layers(model)]
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        torch.testing.assert_close(full_gradient(model, x, t), expected)

    @pytest.mark.parametrize("kind", ["convolutional", "dense"])
    @pytest.mark.parametrize("rotation", [None, "random"])
    def test_each_example_gets_what_it_gets_alone(self, kind, rotation):
        model, x, t = small(kind, rotation)
        found = example_gradients(model, x, t, r_m=0.3, r_v=0.6, f_max=2.0)
        weights = [layer.weight for layer in weighted_layers(model)]
        for m in (0, 5):
            with unchanged(model):
                loss = F.cross_entropy(model(x[m : m + 1]), t[m : m + 1])
            parts = torch.autograd.grad(loss, weights)
            alone = torch.cat([g.flatten() for g in parts])
            torch.testing.assert_close(found[m], alone)

    def test_frozen_statistics_give_an_unbiased_estimate_of_the_frozen_gradient(self):
        model, x, t = small()
        found = example_gradients(model, x, t, r_m=0.0, r_v=0.0).mean(0)
        weights = [layer.weight for layer in weighted_layers(model)]
        loss = F.cross_entropy(model.eval()(x), t)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        torch.testing.assert_close(found, expected)

    def test_one_value_an_example_sends_nothing_through_the_mean(self):
        model, x, t = small("dense")
        found = example_gradients(model, x, t, r_m=1.0, r_v=0.5, f_max=2.0)
        assert (found == 0).all()

    def test_calibrate_and_unchanged(self):
        model, x, _ = small()
        norm = population_norms(model)[0]
        z = model[1](model[0](x))
        torch.testing.assert_close(norm.running_mean, z.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, z.var((0, 2, 3), correction=0))
        kept = norm.running_mean.clone()
        with unchanged(model):
            model.train()(x + 1)
        assert torch.equal(norm.running_mean, kept)
        calibrate(model, x + 1)
        assert not torch.equal(norm.running_mean, kept)

    def test_by_layer_and_squares(self):
        model, x, t = small()
        parts = by_layer(model, full_gradient(model, x, t))
        assert [len(p) for p in parts] == [36, 144, 144]
        ratios = example_squares(model, x)
        assert [tuple(r.shape) for r in ratios] == [(12, 4)] * 3
        torch.testing.assert_close(
            (1 / ratios[0]).mean(0), torch.ones(4, dtype=F64)
        )  # E[Q/S] = 1

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda: network("linear", 36, 3), "kind must be one of"),
            (lambda: network("dense", 35, 3), "square number"),
            (lambda: choose(nn.ReLU(), rotation=None), "unknown options"),
            (lambda: gradient_error(torch.ones(3, 2), torch.ones(3)), "must be"),
            (lambda: gradient_error(torch.ones(3, 2), torch.zeros(2)), "is 0"),
            (lambda: GradientError(0.1, 0.2, 0.9).mean_square(0), "at least 1"),
        ],
    )
    def test_bad_input(self, call, match):
        with pytest.raises(ValueError, match=match):
            call()


class TestDependence:
    @pytest.mark.parametrize("kind", ["convolutional", "dense"])
    @pytest.mark.parametrize("rotation", [None, "random"])
    def test_edges_are_derivatives(self, kind, rotation):
        model, x, t = small(kind, rotation)
        norms, n, channel = population_norms(model), 5, 2
        rng = torch.manual_seed(3)
        with torch.no_grad():
            for norm in norms:
                norm.weight.uniform_(0.5, 2.0, generator=rng)
                norm.bias.uniform_(-0.3, 0.3, generator=rng)
        edges = second_moment_edges(model, x, t)
        for norm in norms:  # every statistic is a node of its own
            norm.running_var.requires_grad_()
        loss = F.cross_entropy(model.eval()(x[n : n + 1]), t[n : n + 1])
        slopes = torch.autograd.grad(loss, [norm.running_var for norm in norms])
        for norm in norms:
            norm.running_var.requires_grad_(False)
        h, at = x[n : n + 1], iter(zip(edges, slopes, strict=True))
        for part, after in zip(model, [*model][1:], strict=False):
            z = part(h)
            if isinstance(after, PopulationNorm):
                found, slope = next(at)
                torch.testing.assert_close(found.slope[n], slope)
                p = z[0].flatten(1) if z.ndim > 2 else z[0][:, None]
                square = ((p - after.running_mean[:, None]) ** 2).mean(1)
                torch.testing.assert_close(found.ratio[n], after.running_var / square)
                (J,) = torch.autograd.grad(square[channel], part.weight)
                mine = found.contribution[n, channel]
                torch.testing.assert_close(mine, J[channel].flatten())
                assert J.flatten(1).norm(dim=1).nonzero().item() == channel
            h = z.detach()
        assert next(at, None) is None

    def test_dependence_is_the_correlation_of_numbers(self):
        rng = torch.manual_seed(4)
        a, noise = torch.randn(2, 40, 3, dtype=F64, generator=rng)
        b = 0.3 * a + noise
        got = dependence(a, 5 * b[:, :, None] + 2)
        expected = [
            torch.corrcoef(torch.stack([a[:, c], b[:, c]]))[0, 1] for c in range(3)
        ]
        torch.testing.assert_close(got, torch.stack(expected).abs())

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 1000), st.integers(2, 30), st.integers(1, 5))
    def test_dependence_is_at_most_1(self, seed, count, width):
        rng = torch.manual_seed(seed)
        a = torch.randn(count, 2, dtype=F64, generator=rng)
        b = torch.randn(count, 2, width, dtype=F64, generator=rng)
        assert (dependence(a, b) <= 1 + 1e-12).all()
        direction = torch.randn(width, dtype=F64, generator=rng)
        along = dependence(a, a[:, :, None] * direction - 1)
        torch.testing.assert_close(along, torch.ones(2, dtype=F64))
        turn = random_rotation(width, seed=seed)
        torch.testing.assert_close(dependence(a, b @ turn), dependence(a, b))

    def test_dependence_of_a_constant_and_of_independent_factors(self):
        assert (dependence(torch.ones(5, 2), torch.rand(5, 2, 3)) == 0).all()
        rng = torch.manual_seed(6)
        a = torch.randn(256, 400, dtype=F64, generator=rng)
        b = torch.randn(256, 400, 9, dtype=F64, generator=rng)
        square = (dependence(a, b) ** 2).mean().item()
        assert square == pytest.approx(1 / 256, rel=0.1)

    @pytest.mark.parametrize(
        ("a", "b"), [((5, 2), (5, 3, 4)), ((5, 2), (5, 2)), ((1, 2), (1, 2, 3))]
    )
    def test_bad_input(self, a, b):
        with pytest.raises(ValueError, match="N at least 2"):
            dependence(torch.ones(a), torch.ones(b))


class TestRenormalization:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 500), st.floats(0.3, 3.0), st.sampled_from([(), (4,)]))
    def test_is_the_batch_with_scaling_where_the_means_agree(self, seed, var, places):
        rng = torch.manual_seed(seed)
        x, dy = torch.randn(2, 8, 3, *places, dtype=F64, generator=rng)
        options = {"eps": 1e-30, "affine": False, "dtype": F64}

        def gradient(layer):
            layer.running_mean.copy_(x.mean((0, *range(2, x.ndim))))
            layer.running_var.fill_(var)
            leaf = x.clone().requires_grad_()
            layer(leaf).backward(dy)
            return leaf.grad

        ours = PopulationNorm(
            3, interaction="batch", f_max=math.inf, u_max=None, **options
        )
        theirs = BatchRenorm(3, r_max=math.inf, d_max=math.inf, **options)
        torch.testing.assert_close(gradient(ours), gradient(theirs))


class TestErrors:
    def test_mean_square_is_that_of_batches(self):
        rng = torch.manual_seed(1)
        examples = torch.randn(8, 3, dtype=F64, generator=rng)
        truth = torch.ones(3, dtype=F64)
        error = gradient_error(examples, truth)
        pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
        square = ((examples[pairs].mean(1) - truth) ** 2).sum(1).mean() / 3
        assert error.mean_square(2) == pytest.approx(square.item())
        assert gradient_error(truth.repeat(4, 1), truth) == GradientError(
            0.0, 0.0, pytest.approx(1.0)
        )


class TestRuns:
    @pytest.mark.parametrize(
        "experiment", (*EXPERIMENTS, *TRAININGS), ids=lambda e: e.name
    )
    def test_the_results_are_there(self, experiment):
        assert (experiment.load().outcome == "finished").all()

    def test_settings(self):
        assert len(SHRINKAGE_MAP.settings) == 64 and len(CAP_MAP.settings) == 288
        assert len(CAP_PAIR_MAP.settings) == 64 and len(DEPENDENCE_MAP.settings) == 144
        assert len(BATCH_MAP.settings) == 10 and len(TRAINING.settings) == 110
        assert len(RATES.settings) == 95 and len(ALONG.settings) == 40

    def test_a_population_is_calibrated(self):
        model, x, _ = population("dense", "none", False, "digits", 32, 0)
        first = population_norms(model)[0]
        torch.testing.assert_close(first.running_mean, model[0](x).mean(0))

    def test_updates_are_those_of_batch_norm(self):
        model, parts = start("digits", "none", 1)
        x, t = (part[:96] for part in parts["train"])
        assert abs(parts["train"][0].mean()) < 1e-12
        choose(model, interaction="batch", r_m=1.0, r_v=1.0, f_max=None, u_max=None)
        theirs = nn.Sequential(
            *[
                nn.BatchNorm2d(8) if isinstance(p, PopulationNorm) else copy.deepcopy(p)
                for p in model
            ]
        ).double()
        theirs.load_state_dict(
            {k: v.clone() for k, v in model.state_dict().items()}, strict=False
        )
        optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
        order = np.random.default_rng([1, 3]).permutation(96)
        for pick in np.array_split(order, 3):
            optimizer.zero_grad()
            F.cross_entropy(theirs.train()(x[pick]), t[pick]).backward()
            optimizer.step()
        options = {"rate": 0.1, "epochs": 1, "seed": 1, "own_statistics": True}
        assert list(updates(model, x, t, **options)) == [0, 1, 2]
        for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)

    def test_measured_along_the_way(self):
        rows = ALONG.load()
        assert tuple(rows.step.unique()) == MEASURED
        # ‖Eĝ − g‖² = ‖Eĝ‖² − 2 Eĝ·g + ‖g‖²
        np.testing.assert_allclose(
            rows.bias**2, rows.length**2 - 2 * rows.share + 1, atol=1e-12
        )

    def test_accuracy(self):
        model, parts = start("digits", "hadamard", 0)
        x, _ = parts["test"]
        calibrate(model, x)
        predicted = model.eval()(x).argmax(1)
        assert accuracy(model, x, predicted) == 1.0
        assert accuracy(model, x, (predicted + 1) % 10) == 0.0


class TestExercises:
    def test_scaling(self):
        x, _ = arrays()
        q = ((x - 0.3) ** 2).mean(1)
        ours = single_example_scaling.second_moment_factor(x, 0.3, 1.4, 2.0)
        np.testing.assert_allclose(ours, scaling(q, 1.4, 2.0))

    def test_backward(self):
        x, dy = arrays()
        _, cache = single_example_norm(x, 0.3, 1.4, eps=0.0)
        expected = single_example_backward(dy, cache, r_m=0.4, r_v=0.7, f_max=math.inf)
        for m in range(len(x)):
            got = ex_backward.example_backward(dy[m], x[m] - 0.3, 1.4, 0.4, 0.7)
            np.testing.assert_allclose(got, expected[m], atol=1e-13)

    def test_fold(self):
        norm = PopulationNorm(4, eps=0.1, rotation=random_rotation(4, seed=1)).double()
        rng = torch.manual_seed(0)
        with torch.no_grad():
            for part in (norm.weight, norm.bias, norm.running_mean):
                part.copy_(torch.randn(4, dtype=F64, generator=rng))
            norm.running_var.fill_(0.8)
        layer = nn.Linear(3, 4, bias=False).double()
        folded = norm.eval().fold(layer)
        parts = (layer.weight, norm.weight, norm.bias, norm.running_mean)
        given_ = [p.detach().numpy() for p in (*parts, norm.running_var, norm.rotation)]
        kernel, shift = single_example_fold.fold_with_rotation(*given_, 0.1)
        np.testing.assert_allclose(kernel, folded.weight.detach().numpy(), atol=1e-13)
        np.testing.assert_allclose(shift, folded.bias.detach().numpy(), atol=1e-13)

    def test_shrinkage(self):
        rng = np.random.default_rng(2)
        a, b = rng.normal(0.3, 1, (20, 4)), rng.normal(0.2, 1, (20, 4))
        truth = a.mean(0) + 0.5 * b.mean(0)
        batches = np.array([1.0, 30.0])
        best = single_example_shrinkage.best_shrinkage(a, b, truth, batches)
        grid = np.linspace(0, 1, 2001)
        found = [
            gradient_error(torch.tensor(a + r * b), torch.tensor(truth)) for r in grid
        ]
        for r, batch in zip(best, batches, strict=True):
            errors = [error.mean_square(batch) for error in found]
            assert r == pytest.approx(grid[np.argmin(errors)], abs=6e-4)

    def test_property(self):
        def ours(dy, x, square):
            _, cache = single_example_norm(x, 0.0, square, eps=0.0)
            return single_example_backward(dy, cache, r_m=0.0, f_max=math.inf)

        single_example_property.test_scaled_gradient(ours)

    def test_no_cap_is_accepted(self):
        def with_cap(dy, p, square, r_m, r_v, cap):
            factor = min(square / (p * p).mean(), cap)
            dp = (dy - r_v * factor * (dy * p).mean() / square * p) / np.sqrt(square)
            return dp - r_m * dp.mean()

        for cap in (1.2, 1.5, 2.0, 3.0, 10.0):
            result = check(
                "single-example-backward",
                lambda dy, p, square, r_m, r_v, cap=cap: with_cap(
                    dy, p, square, r_m, r_v, cap
                ),
            )
            assert result.outcome == "incorrect"
            assert (result.mistake == "capped") == (cap == 2.0)

    @pytest.mark.parametrize(
        "asserts",
        [
            lambda dx, dy, x, s: np.testing.assert_allclose((dx * dy).sum(1), 0),
            lambda dx, dy, x, s: np.testing.assert_allclose(
                dx, single_example_property.projector(dy, x, s) / np.sqrt(s)
            ),
            lambda dx, dy, x, s: np.testing.assert_array_equal(0, 1),
        ],
        ids=["orthogonal to dy", "divided by S", "never true"],
    )
    def test_a_wrong_demand_is_not_called_a_matter_of_rounding(self, asserts):
        def wrong(backward):
            rng = np.random.default_rng(3)
            dy, x = rng.normal(size=(2, 4, 6))
            asserts(backward(dy, x, 1.5), dy, x, 1.5)

        result = check("single-example-property", wrong)
        assert result.outcome == "incorrect" and result.mistake is None
        assert "Either the statement is not true in general" in result.message
