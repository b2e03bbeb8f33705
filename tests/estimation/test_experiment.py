"""The networks of the accuracy table, their methods, and the training they share."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from bnbook.data.splits import Dataset, Split
from bnbook.estimation import experiment, experiment_bias
from bnbook.estimation.convnet import (
    ConvNet,
    DenseNet,
    hadamard_of_members,
    initialize,
)
from bnbook.estimation.experiment import (
    BATCH,
    LAST_LAYER,
    MOST,
    NETWORKS,
    Part,
    Stream,
    accuracies,
    build,
    copied,
    keep_members,
    limits,
    load_examples,
    make_optimizer,
    scale_gradients,
    set_rates,
    train,
)
from bnbook.estimation.experiment_bias import (
    COMPARED,
    EXACT,
    bias_rows,
    estimate,
    settle_statistics,
)
from bnbook.estimation.experiment_results import (
    at_baseline_peak,
    curves,
    difference,
    error_ratio,
    order_ceiling,
    order_correlation,
    reported,
)
from bnbook.estimation.experiment_runs import (
    CHOICE_SEEDS,
    MORE_SEEDS,
    RATES,
    SEEDS,
    TABLE,
    chosen_rate,
    claimed,
    methods_of,
    more_rows,
    table_rows,
)
from bnbook.estimation.methods import (
    BESIDE,
    METHODS,
    factories,
    members_loss,
    method_loss,
    observe_only,
)
from bnbook.estimation.two_stage import (
    TwoStageNorm,
    tower,
    two_stage_backward,
    two_stage_norms,
)
from bnbook.exercises import check
from bnbook.exercises.estimation.experiment_groups import group_factor
from bnbook.exercises.estimation.experiment_margin import judge_drop
from bnbook.exercises.estimation.experiment_peak import peak_summary
from bnbook.exercises.estimation.experiment_rank import rank_correlation
from bnbook.exercises.estimation.experiment_running import running_mean_after
from bnbook.intervals import t_interval

F64 = torch.float64
SETTING = {"data": "digits", "examples": 64, "steps": 12, "every": 6}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.manual_seed(seed))


def labels(*shape, seed=0):
    return torch.randint(0, 10, shape, generator=torch.manual_seed(seed))


def network(name, method="batch", seeds=(3,), **changed):
    model = build(name, METHODS[method], seeds, 8).double().train()
    for norm in two_stage_norms(model):
        for key, value in changed.items():
            setattr(norm, key, value)
    return model


def gradients(model, method, x, t, **options):
    model.zero_grad()
    method_loss(METHODS[method], model, x, t, members_loss, **options).backward()
    return [
        torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for p in model.parameters()
    ]


class TestNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    @pytest.mark.parametrize("side", [8, 28])
    def test_shapes(self, name, side):
        model = build(name, METHODS["batch"], (0, 1, 2), side)
        assert model(torch.randn(4, 3, side, side)).shape == (4, 30)

    @pytest.mark.parametrize(("depth", "wide"), [(2, 0), (4, 2), (6, 2), (10, 4)])
    def test_depth(self, depth, wide):
        """`wide` of the convolutions have twice the channels, and the rest the first size."""
        model = ConvNet(depth=depth, width=8)
        widths = [layer[0].out_channels for layer in model.layers]
        assert widths == [8] * (depth - wide) + [16] * wide
        assert sum(layer[0].stride == (2, 2) for layer in model.layers) == (wide > 0)

    def test_skips(self):
        """A 1 × 1 convolution, normalized, where the channels change, and nothing else."""
        model = ConvNet(depth=10, width=8, residual=True)
        kinds = [type(skip) for skip in model.skips]
        projected, kept = nn.Sequential, nn.Identity
        assert kinds == [projected, kept, kept, projected, kept]
        assert isinstance(model.skips[3][1], nn.BatchNorm2d)
        assert model.skips[3][0].kernel_size == (1, 1)

    def test_identity_without_the_branch(self):
        """With γ = 0 in the branch a block passes on what is positive already."""
        model = ConvNet(depth=4, width=8, in_channels=8, residual=True).double().eval()
        with torch.no_grad():
            model.layers[1][1].weight.zero_()
        x = draw(2, 8, 5, 5).abs()
        first, second, skip = model.layers[0], model.layers[1], model.skips[0]
        block = torch.relu(second(torch.relu(first(x))) + skip(x))
        torch.testing.assert_close(block, x)

    def test_plain_network_is_the_sequence_of_its_layers(self):
        model = network("plain 6")
        x = draw(3, 1, 8, 8)
        y = nn.Sequential(*(nn.Sequential(m, nn.ReLU()) for m in model.layers))(x)
        expected = nn.functional.linear(
            y.mean((2, 3)), model.classify.weight[:, :, 0, 0], model.classify.bias
        )
        torch.testing.assert_close(model(x), expected)

    def test_dense_network_is_made_of_linear_layers(self):
        model = network("dense 4")
        x = y = draw(5, 1, 8, 8)
        y = y.flatten(1)
        for linear, norm in model.layers:
            y = y @ linear.weight[:, :, 0, 0].T
            y = torch.relu((y - y.mean(0)) / (y.var(0, correction=0) + norm.eps).sqrt())
        y = y @ model.classify.weight[:, :, 0, 0].T
        torch.testing.assert_close(model(x), y)

    @pytest.mark.parametrize(
        "bad",
        [
            {"depth": 5},
            {"depth": 0},
            {"width": 0},
            {"members": 0},
            {"classes": 1.5},
            {"in_channels": 0},
            {"first_stride": 3},
        ],
    )
    def test_refuses(self, bad):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ConvNet(**bad)

    def test_dense_refuses(self):
        with pytest.raises(ValueError, match="depth"):
            DenseNet(64, depth=0)
        with pytest.raises(ValueError, match="network"):
            build("plain", METHODS["batch"], (0,), 8)


class TestMembers:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", ["plain 6", "residual 10", "dense 4"])
    def test_alone_as_in_company(self, name, method):
        """Values and gradients of a member are those of the network that it is."""
        seeds, x, t = (4, 5, 6), draw(4, 3, 8, 8), labels(4, 3)
        x_first = draw(2, 3, 8, 8, seed=1) if METHODS[method].first else None
        together, alone = network(name, method, seeds), network(name, method, (5,))
        for model, part in ((together, x), (alone, x[:, 1:2])):
            observe_only(METHODS[method], model, part)
        own_first = None if x_first is None else x_first[:, 1:2]
        of_all = gradients(together, method, x, t, x_first=x_first)
        of_one = gradients(alone, method, x[:, 1:2], t[:, 1:2], x_first=own_first)
        for many, one in zip(of_all, of_one, strict=True):
            torch.testing.assert_close(many.chunk(3)[1], one, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            together.eval()(x).chunk(3, 1)[1], alone.eval()(x[:, 1:2])
        )

    def test_same_start_for_every_method(self):
        """The weights depend on the seed, not on the layers."""
        kernels = [
            [
                p
                for name, p in network("residual 10", m).named_parameters()
                if p.ndim > 1
            ]
            for m in METHODS
        ]
        for others in kernels[1:]:
            for a, b in zip(kernels[0], others, strict=True):
                torch.testing.assert_close(a, b)

    def test_initial_scale(self):
        model = build("plain 10", METHODS["none"], tuple(range(6)), 8)
        for layer in (model.layers[3][0], model.layers[8][0]):
            fan_in = layer.weight[0].numel()
            assert layer.weight.var().item() * fan_in == pytest.approx(2, rel=0.1)
            assert not layer.bias.any()

    def test_refuses_other_numbers_of_seeds(self):
        with pytest.raises(ValueError, match="3 members need as many seeds"):
            initialize(ConvNet(members=3), [0, 1])

    @pytest.mark.parametrize(("channels", "members"), [(8, 1), (24, 3), (12, 3)])
    def test_rotation(self, channels, members):
        turn = hadamard_of_members(channels, members)
        torch.testing.assert_close(turn @ turn.T, torch.eye(channels, dtype=F64))
        size = channels // members
        assert (turn.abs() > 0).sum() == members * size**2

    def test_rotation_refuses(self):
        with pytest.raises(ValueError, match="dealt"):
            hadamard_of_members(10, 3)
        with pytest.raises(ValueError, match="random"):
            hadamard_of_members(18, 3)


class TestMethods:
    def test_batch_is_the_gradient_of_torch(self):
        model, x, t = network("plain 6"), draw(6, 1, 8, 8), labels(6, 1)
        found = gradients(model, "batch", x, t)
        loss = nn.functional.cross_entropy(model(x), t[:, 0])
        expected = torch.autograd.grad(loss, list(model.parameters()))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)

    def test_frozen_is_the_gradient_of_inference(self):
        """Away from the bound the statistics are constants in value and gradient."""
        model, x, t = network("plain 6", "frozen"), draw(6, 1, 8, 8), labels(6, 1)
        for _ in range(40):
            observe_only(METHODS["frozen"], model, x)
        before = copied(model)
        found = gradients(model, "frozen", x, t)
        model.load_state_dict(before)
        loss = members_loss(model.eval()(x), t)
        for a, b in zip(
            found, torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("first", [None, 4])
    def test_two_stages_stream(self, first):
        """The towers' gradient is the one that is found one example at a time."""
        model, x, t = network("plain 6", "two_stage"), draw(6, 1, 8, 8), labels(6, 1)
        x_first = None if first is None else draw(first, 1, 8, 8, seed=2)
        streamed = copy.deepcopy(model)
        found = gradients(model, "two_stage", x, t, x_first=x_first)
        two_stage_backward(streamed, x, t, members_loss, x_first=x_first)
        for a, p in zip(found, streamed.parameters(), strict=True):
            torch.testing.assert_close(a, p.grad)

    def test_microbatches_are_groups(self):
        """Two examples that share statistics are not touched by the other groups."""
        model, x, t = network("plain 6", "improved_2"), draw(6, 1, 8, 8), labels(6, 1)
        alone = copy.deepcopy(model)
        of_all = gradients(model, "improved_2", x, t)
        parts = [
            gradients(copy.deepcopy(alone), "improved_2", x[i : i + 2], t[i : i + 2])
            for i in (0, 2, 4)
        ]
        for whole, *three in zip(of_all, *parts, strict=True):
            torch.testing.assert_close(whole, sum(three) / 3)

    @pytest.mark.parametrize(
        ("method", "trains"),
        [("single", False), ("single_turned", False), ("single_shrunk", True)],
    )
    def test_dense_layers_below_the_last(self, method, trains):
        """With one value an example, r_m = 1 cancels what goes to the layer below."""
        model = network("dense 4", method)
        gradients(model, method, draw(6, 1, 8, 8), labels(6, 1))
        below = [p.grad for layer in model.layers[:-1] for p in layer.parameters()]
        assert any(g is not None and g.any() for g in below) == trains
        assert all(p.grad.any() for p in model.layers[-1].parameters())

    @pytest.mark.parametrize("method", METHODS)
    def test_values_are_those_of_inference(self, method):
        """But for batch normalization, renormalization while it is limited, and bounds."""
        model, x = network("plain 6", method, u_max=None), draw(8, 1, 8, 8)
        if METHODS[method].kind in ("batch", "renorm"):
            return
        for _ in range(30):
            observe_only(METHODS[method], model, x)
        at_inference = copy.deepcopy(model).eval()(x)
        seen = []

        def loss(scores, _):
            seen.append(scores)
            return scores.sum()

        method_loss(METHODS[method], model, x, labels(8, 1), loss)
        torch.testing.assert_close(seen[0], at_inference)

    def test_observing_leaves_the_weights(self):
        model = network("plain 6", "two_stage")
        before = copied(model)
        observe_only(METHODS["two_stage"], model, draw(8, 1, 8, 8))
        for name, p in model.named_parameters():
            assert torch.equal(p, before[name])
            assert p.grad is None
        norm = model.layers[2][0]
        expected = before["layers.2.0.running_var"]
        assert not torch.equal(norm.running_var, expected)

    def test_loss_of_members(self):
        scores, t = draw(5, 30), labels(5, 3)
        expected = sum(
            nn.functional.cross_entropy(scores[:, 10 * s : 10 * s + 10], t[:, s])
            for s in range(3)
        )
        torch.testing.assert_close(members_loss(scores, t), expected)

    def test_hadamard_needs_a_power_of_two(self):
        made = factories(METHODS["single_turned"], 1)
        with pytest.raises(ValueError, match="random"):
            ConvNet(width=12, **made)

    def test_numbers_of_the_source(self):
        peaks = [m.peak for m in METHODS.values() if m.peak is not None]
        assert len(peaks) == 11
        assert max(peaks) == METHODS["batch"].peak == 78.5
        assert min(peaks) == METHODS["single"].peak == 63.8


class TestTraining:
    def test_examples(self):
        parts = load_examples("digits", (0, 1), 300)
        train_x = parts.train.x
        assert train_x.shape == (300, 2, 8, 8)
        assert parts.validation.x.shape[0] == 359
        assert parts.test.x.shape[0] == 1797 - 300 - 359
        for s in range(2):
            torch.testing.assert_close(
                train_x[:, s].mean(), torch.tensor(0.0), atol=1e-5, rtol=0
            )
            assert train_x[:, s].std().item() == pytest.approx(1, abs=1e-3)
        assert not torch.equal(train_x[:, 0], train_x[:, 1])

    def test_parts_are_disjoint(self):
        parts = load_examples("digits", (2,), 300)
        pictures = torch.cat([p.x for p in (parts.train, parts.validation, parts.test)])
        assert len(torch.unique(pictures.flatten(1), dim=0)) == len(pictures) == 1797

    @pytest.mark.parametrize("examples", [BATCH - 1, 2000])
    def test_examples_refused(self, examples):
        with pytest.raises(ValueError, match="examples must be"):
            load_examples("digits", (0,), examples)

    @settings(max_examples=20, deadline=None)
    @given(
        count=st.integers(3, 20),
        sizes=st.lists(st.integers(1, 12), min_size=3, max_size=6),
    )
    def test_stream_goes_through_all(self, count, sizes):
        """Each pass has every example once, whatever the sizes of the batches."""
        stream = Stream((7, 8), count, 1)
        taken = torch.cat([stream.take(size) for size in sizes])
        assert taken.shape == (sum(sizes), 2)
        for start in range(0, len(taken) - count + 1, count):
            for member in range(2):
                part = taken[start : start + count, member]
                assert sorted(part.tolist()) == list(range(count))

    def test_streams_differ(self):
        def first(seeds, purpose):
            return Stream(seeds, 100, purpose).take(20)

        assert torch.equal(first((7, 8), 1)[:, 1], first((8,), 1)[:, 0])
        assert not torch.equal(first((7,), 1), first((7,), 2))

    def test_optimizer(self):
        """The last layer is slower, and biases decay at half the speed."""
        model = network("plain 6", "two_stage")
        of = {
            id(p): (group["scale"], group["power"])
            for group in make_optimizer(model).param_groups
            for p in group["params"]
        }
        assert len(of) == len(list(model.parameters()))
        assert of[id(model.classify.weight)] == (LAST_LAYER, 1.0)
        assert of[id(model.classify.bias)] == (LAST_LAYER, 0.5)
        assert of[id(model.layers[0][0].conv.weight)] == (1.0, 1.0)
        assert of[id(model.layers[0][0].weight)] == (1.0, 1.0)
        assert of[id(model.layers[0][0].bias)] == (1.0, 0.5)

    def test_rates_in_the_run(self):
        """They fall tenfold, those of biases by its root, and start at the layer's scale."""
        optimizer = make_optimizer(network("plain 6"))
        for done, factor in ((0.0, 1.0), (0.5, 10**-0.5), (1.0, 0.1)):
            set_rates(optimizer, done)
            for group in optimizer.param_groups:
                expected = group["scale"] * factor ** group["power"]
                assert group["lr"] == pytest.approx(expected)

    def test_rates_of_members(self):
        model = network("plain 6", seeds=(1, 2, 3))
        gradients(model, "batch", draw(4, 3, 8, 8), labels(4, 3))
        before = [p.grad.clone() for p in model.parameters()]
        with torch.no_grad():
            model.classify.bias.grad.view(3, -1)[1, 0] = torch.nan
        gone = scale_gradients(model, torch.tensor([0.5, 0.1, 0.0], dtype=F64))
        assert gone.tolist() == [False, True, False]
        for p, g in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.grad.chunk(3)[0], 0.5 * g.chunk(3)[0])
            assert not p.grad.chunk(3)[1].any()
            assert not p.grad.chunk(3)[2].any()

    def test_keep_members(self):
        model, other = (
            network("plain 6", "single_turned", s) for s in ((1, 2), (3, 4))
        )
        kept = copied(model)
        keep_members(kept, other.state_dict(), np.array([False, True]))
        for name, old in model.state_dict().items():
            if name.endswith("weight"):
                new = other.state_dict()[name]
                assert torch.equal(kept[name].chunk(2)[0], old.chunk(2)[0])
                assert torch.equal(kept[name].chunk(2)[1], new.chunk(2)[1])

    def test_accuracies(self):
        scores = draw(150, 20)
        t = labels(150, 2)
        found = accuracies(nn.Identity(), Part(scores, t))
        expected = (scores.unflatten(1, (2, 10)).argmax(2) == t).double().mean(0)
        np.testing.assert_allclose(found, expected)

    def test_accuracies_at_inference(self):
        """They move no statistics and leave the mode as it was."""
        model = network("plain 6", "batch")
        before = copied(model)
        accuracies(model, Part(draw(70, 1, 8, 8), labels(70, 1)))
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_limits(self):
        """Batch normalization at first, Ioffe's limits later."""
        assert limits(0, 300) == (1.0, 0.0)
        assert limits(299, 300) == (3.0, 5.0)
        assert limits(12, 300) == (1.0, 0.0)
        assert limits(13, 300) > (1.0, 0.0)
        assert limits(59, 300).d_max < limits(60, 300).d_max == 5.0
        assert limits(89, 300).r_max < limits(90, 300).r_max == 3.0

    def test_train_repeats_and_learns(self):
        options = {**SETTING, "examples": 300, "steps": 40, "every": 20}
        runs = [
            train(
                "dense 4",
                METHODS["improved_4"],
                seeds=(0, 1),
                rates=(0.1, 0.1),
                **options,
            )
            for _ in range(2)
        ]
        np.testing.assert_array_equal(runs[0].curve, runs[1].curve)
        assert runs[0].curve.shape == (2, 2)
        assert runs[0].test_end.min() > 0.6
        for s in range(2):
            at = runs[0].curve[:, s].argmax()
            assert runs[0].peak_step[s] == 20 * (at + 1)
            assert runs[0].peak[s] == runs[0].curve[at, s]

    def test_a_lost_member_leaves_the_others(self):
        """A learning rate without measure stops one network, and that one only."""
        options = {"seeds": (0, 1), **SETTING}
        run = train("plain 10", METHODS["none"], rates=(1e6, 0.01), **options)
        assert run.lost[0] >= 0
        assert run.lost[1] == -1
        alone = train("plain 10", METHODS["none"], seeds=(1,), rates=(0.01,), **SETTING)
        assert abs(run.curve[:, 1] - alone.curve[:, 0]).max() < 0.03

    def test_the_first_of_equal_peaks(self, monkeypatch):
        looks = iter(
            [0.5, 0.7, 0.7, 0.2]
        )  # then the test part, at the end and at the peak
        monkeypatch.setattr(
            experiment, "accuracies", lambda model, part: np.array([next(looks, 0.6)])
        )
        options = {**SETTING, "every": 3}
        run = train("dense 4", METHODS["batch"], seeds=(0,), rates=(0.1,), **options)
        assert run.peak[0] == 0.7
        assert run.peak_step[0] == 6

    def test_reports_the_weights_of_the_peak(self, monkeypatch):
        """The looks are at the validation part; the test part is seen at the end, by the
        weights at the end and by those of the peak."""
        seen, values = [], iter([0.5, 0.7, 0.2, 0.6, 0.6])

        def look(model, part):
            seen.append((model.classify.weight.detach().clone(), len(part.x)))
            return np.array([next(values)])

        monkeypatch.setattr(experiment, "accuracies", look)
        options = {**SETTING, "steps": 9, "every": 3}
        train("dense 4", METHODS["batch"], seeds=(0,), rates=(0.1,), **options)
        (_, a), (peak, b), (last, c), (at_end, d), (at_peak, e) = seen
        parts = load_examples("digits", (0,), SETTING["examples"])
        assert a == b == c == len(parts.validation.x)
        assert d == e == len(parts.test.x)
        assert torch.equal(at_end, last)
        assert torch.equal(at_peak, peak)
        assert not torch.equal(peak, last)

    @pytest.mark.parametrize(
        ("name", "size"), [("two_stage_4", 4), ("two_stage", None)]
    )
    def test_hands_the_first_tower_its_examples(self, monkeypatch, name, size):
        handed = []

        def spy(*args, x_first=None):
            handed.append(x_first)
            return method_loss(*args, x_first=x_first)

        monkeypatch.setattr(experiment, "method_loss", spy)
        train("dense 4", METHODS[name], seeds=(0, 1), rates=(0.1, 0.1), **SETTING)
        assert len(handed) == SETTING["steps"]
        assert {None if x is None else x.shape[:2] for x in handed} == {
            size and (size, 2)
        }

    @pytest.mark.parametrize(("name", "which"), [("renorm_4", 0), ("renorm_4_open", 1)])
    def test_sets_the_limits(self, monkeypatch, name, which):
        found = []
        monkeypatch.setattr(
            experiment, "set_renorm_limits", lambda model, at: found.append(tuple(at))
        )
        method = (METHODS | BESIDE)[name]
        train("dense 4", method, seeds=(0,), rates=(0.1,), **SETTING)
        steps = range(SETTING["steps"])
        scheduled = [tuple(limits(step, SETTING["steps"])) for step in steps]
        assert found == (scheduled, [(3.0, 5.0)] * len(steps))[which]

    @pytest.mark.parametrize(
        ("name", "expected"), [("two_stage", 40 + 20 * 4), ("batch", 0), ("none", 0)]
    )
    def test_steps_that_only_observe(self, monkeypatch, name, expected):
        sizes = []
        monkeypatch.setattr(
            experiment, "observe_only", lambda method, model, x: sizes.append(len(x))
        )
        options = {**SETTING, "steps": 22, "every": 22}
        train("dense 4", METHODS[name], seeds=(0,), rates=(0.1,), **options)
        assert sizes == [BATCH] * expected

    @pytest.mark.parametrize("name", ["plain 6", "dense 4"])
    def test_larger_pictures(self, monkeypatch, name):
        """Nothing is made for 8 × 8 pixels, nor for the sizes of the digits' parts."""

        def pictures(data, seed):
            x = np.random.default_rng(seed).uniform(size=(2600, 784)).astype(np.float32)
            t = np.arange(2600) % 10
            names = tuple(map(str, range(784)))
            cut = slice(0, 100), slice(100, 1800), slice(1800, 2600)
            return Dataset(data, names, *(Split(x[part], t[part]) for part in cut))

        monkeypatch.setattr(experiment, "images", pictures)
        parts = load_examples("mnist", (0, 1), 64)
        assert parts.train.x.shape == (64, 2, 28, 28)
        assert len(parts.validation.x) == MOST
        assert len(parts.test.x) == 800 + 100 - 64
        options = {"data": "mnist", "examples": 64, "steps": 2, "every": 2}
        run = train(name, METHODS["batch"], seeds=(0,), rates=(0.1,), **options)
        assert np.isfinite(run.test).all()

    def test_refuses_rates(self):
        with pytest.raises(ValueError, match="rate"):
            train("dense 4", METHODS["batch"], seeds=(0, 1), rates=(0.1,), **SETTING)
        with pytest.raises(ValueError, match="rate"):
            train("dense 4", METHODS["batch"], seeds=(0,), rates=(0.0,), **SETTING)


class TestRuns:
    def test_rows(self):
        rows = table_rows(
            network="dense 4", method="batch", data="digits", examples=64, steps=25
        )
        choose = [row for row in rows if row["purpose"] == "choose"]
        report = [row for row in rows if row["purpose"] == "report"]
        assert len(choose) == len(RATES) * len(CHOICE_SEEDS)
        assert [row["seed"] for row in report] == list(SEEDS)
        assert not {row["seed"] for row in choose} & set(SEEDS)
        means = {
            rate: np.mean([row["peak"] for row in choose if row["rate"] == rate])
            for rate in RATES
        }
        assert {row["rate"] for row in report} == {max(means, key=means.get)}

    def test_settings(self):
        assert {s["network"] for s in TABLE.settings} == set(NETWORKS)
        assert TABLE.on("mnist").settings[0]["data"] == "mnist"
        with_peak = [name for name, m in METHODS.items() if m.peak is not None]
        for name in NETWORKS[:2] + NETWORKS[3:]:
            assert set(with_peak) <= set(methods_of(name))
        with_resnet = [name for name, m in METHODS.items() if m.resnet is not None]
        assert set(with_resnet) <= set(methods_of("residual 10"))

    def test_more_seeds(self):
        """They take the stored rate, are new ones, and belong to rows with a claim."""
        assert chosen_rate("dense 4", "none") in RATES
        with pytest.raises(ValueError, match="no run of 'none' in 'plain 7'"):
            chosen_rate("plain 7", "none")
        assert not set(MORE_SEEDS) & {*SEEDS, *CHOICE_SEEDS}
        assert claimed("residual 10") == ("batch", "two_stage", "improved_2_resnet")
        assert len(claimed("plain 6")) == 11
        rows = more_rows(
            network="dense 4", method="none", data="digits", examples=64, steps=25
        )
        assert [row["seed"] for row in rows] == list(MORE_SEEDS)
        assert {row["rate"] for row in rows} == {chosen_rate("dense 4", "none")}

    def test_stored_rates_are_the_chosen(self):
        stored = TABLE.load()
        for _, cell in stored.groupby(["network", "method"]):
            choose = cell[cell.purpose == "choose"]
            means = choose.groupby("rate").peak.mean()
            report = cell[cell.purpose == "report"]
            assert report.rate.nunique() == 1
            assert means[report.rate.iloc[0]] >= means.max() - 1e-4  # rounded peaks
            assert sorted(report.seed) == list(SEEDS)


class TestBias:
    """The true gradient in the networks of the table, and its estimates."""

    def test_settled(self):
        """Afterwards the running statistics are those of the batch, at every layer."""
        model, x = (
            network("residual 10", "improved_4", microbatch=None),
            draw(6, 1, 8, 8),
        )
        settle_statistics(model, x)
        before = copied(model)
        observe_only(METHODS["improved_4"], model, x)
        for name, value in model.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(value, before[name])

    def test_truth_is_the_gradient_of_batch_normalization(self):
        """With circular padding batch normalization's mean, after, is the one before."""
        torch.manual_seed(0)
        circular = partial(nn.Conv2d, bias=False, padding_mode="circular")
        plain = {"convolution": circular, "normalization": nn.BatchNorm2d}
        made = factories(EXACT, 1)
        made["convolution"] = partial(made["convolution"], padding_mode="circular")
        models = [
            ConvNet(depth=2, width=4, **kind).double().train() for kind in (plain, made)
        ]
        for model in models:
            initialize(model, [3])
        x, t = draw(6, 1, 5, 5), labels(6, 1)
        loss = members_loss(models[0](x), t)
        kernels = [layer[0].weight for layer in models[0].layers]
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, kernels)])
        for norm in two_stage_norms(models[1]):
            norm.u_max = None
        settle_statistics(models[1], x)
        found = estimate(models[1], EXACT, Part(x, t))
        torch.testing.assert_close(found[0], expected)

    def test_estimates_leave_the_statistics(self):
        model, part = (
            network("plain 6", "two_stage"),
            Part(draw(5, 1, 8, 8), labels(5, 1)),
        )
        before = copied(model)
        estimate(model, METHODS["frozen"], part)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_rows(self, monkeypatch):
        monkeypatch.setattr(experiment_bias, "SEEDS", (0, 1))
        rows = bias_rows(
            network="plain 6", steps=1, rate=0.1, data="digits", examples=32
        )
        assert {row["method"] for row in rows} == set(COMPARED)
        of = {name: [r for r in rows if r["method"] == name] for name in COMPARED}
        assert np.mean([r["error"] for r in of["two_stage"]]) < 0.5
        assert all(-1 <= r["cosine"] <= 1 for r in rows)


class TestResults:
    """Reading the stored runs, on a table that is small enough to read by eye."""

    @pytest.fixture
    def results(self):
        def rows(method, first, *more):
            return [
                {
                    "network": "plain 6",
                    "method": method,
                    "purpose": "report",
                    "seed": seed,
                    "peak_step": step,
                    "test": test,
                    "at_25": a,
                    "at_50": b,
                }
                for seed, step, test, a, b in (first, *more)
            ]

        table = [
            *rows("batch", (1, 50, 0.9, 0.8, 0.85), (0, 25, 0.8, 0.7, 0.6)),
            *rows("frozen", (0, 50, 0.5, 0.2, 0.3), (1, 50, 0.7, 0.4, 0.6)),
        ]
        other = {**table[0], "purpose": "choose", "seed": 100, "test": 0.0}
        return pd.DataFrame([other, *table])

    def test_reported_in_the_order_of_seeds(self, results):
        np.testing.assert_allclose(reported(results, "plain 6", "batch"), [80, 90])
        steps = reported(results, "plain 6", "batch", "peak_step")
        np.testing.assert_array_equal(steps, [25, 50])

    def test_paired(self, results):
        found = difference(results, "plain 6", "batch", "frozen")
        np.testing.assert_allclose(found, [30, 20])

    def test_pairs_only_common_seeds(self, results):
        fewer = results[(results.method == "frozen") <= (results.seed == 1)]
        found = difference(fewer, "plain 6", "batch", "frozen")
        np.testing.assert_allclose(found, [20])
        assert len(at_baseline_peak(fewer, "plain 6", "frozen")) == 1

    def test_curves(self, results):
        steps, curve = curves(results, "plain 6", "frozen")
        np.testing.assert_array_equal(steps, [25, 50])
        np.testing.assert_allclose(curve, [[20, 30], [40, 60]])

    def test_at_the_step_of_the_baseline(self, results):
        """Seed 0 of the baseline peaks at 25, seed 1 at 50."""
        found = at_baseline_peak(results, "plain 6", "frozen")
        np.testing.assert_allclose(found, [20, 60])

    def test_ceiling_of_the_order(self):
        """Without scatter it is 1; scatter stays with its row."""
        source, means = np.array([3.0, 1.0, 2.0]), np.array([[5.0], [9.0], [7.0]])
        np.testing.assert_allclose(order_ceiling(source, means + np.zeros((3, 4))), 1)
        scatter = np.array([[5.0, -5.0], [-5.0, 5.0], [0.0, 0.0]])
        # seed 1: rows at 9 − 5, 5 + 5, 7, the opposite of the source's order
        np.testing.assert_allclose(order_ceiling(source, means + scatter), [1, -1])

    def test_error_ratio(self, results):
        """Errors 50, 30 and 30 over 20, 10 and 10: ratios 2.5, 3 and 3."""
        more = results[results.seed == 1].assign(seed=2)
        mean, low, high = error_ratio(pd.concat([results, more]), "plain 6", "frozen")
        assert mean == pytest.approx(22.5 ** (1 / 3))
        assert low < mean < high

    def test_refuses_what_was_not_run(self, results):
        with pytest.raises(ValueError, match="no reported runs of 'none'"):
            reported(results, "plain 6", "none")


class TestExercises:
    """The reference solutions say what the chapter's functions say."""

    def test_groups(self):
        layer = TwoStageNorm(1, microbatch=2, dtype=F64)
        layer.running_mean.fill_(0.4)
        layer.running_var.fill_(0.9)
        x = 0.4 + draw(6, 1, 5)
        square = ((x - 0.4) ** 2).mean((1, 2)).reshape(3, 2).mean(1)
        found = group_factor(x[:, 0].numpy(), 0.4, 0.9, 2, 2.0)
        np.testing.assert_allclose(found[::2], layer.factor(square).numpy())
        np.testing.assert_array_equal(found[::2], found[1::2])

    def test_running(self):
        layer = TwoStageNorm(1, momentum=0.2, dtype=F64)
        seen = []
        with tower(layer, "joint"), torch.no_grad():
            for step in range(5):
                x = draw(4, 1, 6, seed=step) + 2
                seen.append(x.mean().item())
                layer(x)
        running, left, enough = running_mean_after(np.array(seen), 0.2, 0.0)
        assert layer.running_mean.item() == pytest.approx(running[-1])
        assert left[-1] == pytest.approx(0.8**5)
        assert 0.8**enough < 0.01 <= 0.8 ** (enough - 1)

    def test_peak(self):
        run = train(
            "dense 4", METHODS["batch"], seeds=(0, 1, 2), rates=(0.03,) * 3, **SETTING
        )
        peak, step, _ = peak_summary(run.curve.T, np.array([6, 12]), 0)
        np.testing.assert_array_equal(peak, run.peak)
        np.testing.assert_array_equal(step, run.peak_step)

    def test_a_verdict_has_no_size(self):
        """A wrong verdict is a wrong kind: no factor and no relative error."""

        def undecided(method, baseline, margin, quantile):
            return *judge_drop(method, baseline, margin, quantile)[:2], 2

        message = check("experiment-margin", undecided).message
        assert "`verdict` should be 1, yours is 2." in message
        assert "relative" not in message
        assert "times" not in message

    def test_margin_and_rank(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(2, 6))
        mean, low, high = t_interval(b - a)
        quantile = stats.t.ppf(0.975, 5)
        found = judge_drop(a, b, mean, quantile)
        np.testing.assert_allclose(found, (low, high, 2))
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert order_correlation(a, b) == pytest.approx(rank_correlation(a, b))
