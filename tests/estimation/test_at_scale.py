"""Several processes against one, and runs that are killed and resumed."""

import copy
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DistributedSampler

from bnbook.estimation import train_data
from bnbook.estimation.at_scale import (
    killed_and_resumed,
    largest_difference,
    make_step,
    step_of_one,
    step_of_workers,
)
from bnbook.estimation.communication import (
    INCEPTION_V3,
    RESNET_50,
    messages,
    sizes,
)
from bnbook.estimation.convert import METHODS, convert_normalization
from bnbook.estimation.example_noise import ExampleNoise, Keyed, step_keys, uniform
from bnbook.estimation.population_norm import PopulationNorm
from bnbook.estimation.small_nets import inception_style, resnet_style
from bnbook.estimation.sync_norm import SyncNorm, combined
from bnbook.estimation.train import (
    Training,
    _store_of_restart,
    main,
    make_optimizer,
    train,
)
from bnbook.estimation.train_data import StepSampler, batches, make_data, make_model
from bnbook.estimation.train_settings import Settings, load_settings, same_run
from bnbook.estimation.train_state import (
    Log,
    load_checkpoint,
    read_log,
    save_checkpoint,
)
from bnbook.estimation.two_stage import TwoStageNorm, _feed, two_stage_backward
from bnbook.estimation.workers import StatisticsMean, run_workers, sum_over_workers
from bnbook.exercises.estimation.at_scale_backward import sync_backward
from bnbook.exercises.estimation.at_scale_combine import combine_shards
from bnbook.exercises.estimation.at_scale_feed import shared_feed
from bnbook.exercises.estimation.at_scale_gradient import gradient_of_all
from bnbook.exercises.estimation.at_scale_position import next_indices

F64 = torch.float64


def fail_alone():
    """Worker 1 raises, and worker 0, which waits for it, finds the connection closed."""
    if dist.get_rank() == 1:
        raise ValueError("why")
    dist.barrier()


def resume_apart(settings, folder):
    """Rank 0 sees the checkpoint, rank 1 another folder."""
    train(settings, folder if dist.get_rank() == 0 else folder / "other")


TINY = (
    "updates=5 warm_up=2 settle_updates=2 settle_steps=1 checkpoint_every=3 examples=48 "
    "validation=16 width=2 batch=4 decay_every=4 evaluate_every=2"
).split()


def tiny(*changes):
    return load_settings("laptop", [*TINY, *changes])


def shaken(model, seed=0):
    """A copy in float64, in training mode, with non-trivial parameters and statistics."""
    model = copy.deepcopy(model).double().train()
    generator = torch.manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.normal_(generator=generator)
                m.running_var.uniform_(0.4, 2.0, generator=generator)
                m.weight.uniform_(0.5, 1.5, generator=generator)
                m.bias.normal_(generator=generator)
    return model


def pictures(count, side=12):
    generator = torch.manual_seed(count)
    x = torch.randn(count, 3, side, side, dtype=F64, generator=generator)
    return x, torch.randint(0, 10, (count,), generator=generator)


def assert_same_step(step, other, atol=1e-10):
    assert list(step.gradients) == list(other.gradients)
    assert abs(step.loss - other.loss) < atol
    for what in ("gradients", "statistics"):
        one, two = step.flat(what), other.flat(what)
        torch.testing.assert_close(one, two, rtol=0, atol=atol)


class TestRunWorkers:
    def test_results_come_by_rank(self):
        assert run_workers(math.gcd, 12, 18) == [6, 6]
        assert len(set(run_workers(os.getpid, workers=3))) == 3

    def test_what_goes_wrong_is_told(self):
        with pytest.raises(
            RuntimeError, match=r"(?s)worker 0 raised:.*math domain error"
        ):
            run_workers(math.sqrt, -1.0)
        with pytest.raises(RuntimeError, match="worker 0 died without an answer"):
            run_workers(os._exit, 3, workers=1)
        with pytest.raises(TimeoutError, match="worker 0 has not answered within 2"):
            run_workers(time.sleep, 60, workers=1, timeout=2)
        with pytest.raises(ValueError, match="workers must be at least 1"):
            run_workers(os.getpid, workers=0)

    def test_the_cause_is_told_and_not_what_follows(self):
        with pytest.raises(
            RuntimeError, match=r"(?s)worker 1 raised:.*ValueError: why"
        ):
            run_workers(fail_alone)


class TestSync:
    @given(
        counts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        shift=st.floats(-1e3, 1e3),
        seed=st.integers(0, 99),
    )
    def test_combined_statistics_are_those_of_the_union(self, counts, shift, seed):
        x = torch.randn(sum(counts), 3, dtype=F64, generator=torch.manual_seed(seed))
        parts = (x + shift).split(counts)
        found = combined(
            torch.tensor(counts, dtype=F64)[:, None],
            torch.stack([p.mean(0) for p in parts]),
            torch.stack([p.var(0, correction=0) for p in parts]),
        )
        assert found.count == sum(counts)
        torch.testing.assert_close(
            found.mean, x.mean(0) + shift, rtol=1e-12, atol=1e-10
        )
        torch.testing.assert_close(
            found.var, x.var(0, correction=0), rtol=1e-9, atol=1e-10
        )

    @pytest.mark.parametrize("shares", [(4, 4), (5, 3), (1, 1, 6)])
    def test_equals_batch_normalization_of_the_whole_batch(self, shares):
        model = convert_normalization(shaken(inception_style(width=4)), "sync")
        x, t = pictures(8)
        one = step_of_one(model, x, t)
        for step in step_of_workers(model, x, t, shares):
            assert_same_step(step, one)

    def test_without_exchange_it_would_not(self):
        model = convert_normalization(shaken(inception_style(width=4)), "batch")
        x, t = pictures(8)
        apart = step_of_workers(model, x, t, (4, 4))[0].flat("gradients")
        assert (apart - step_of_one(model, x, t).flat("gradients")).abs().max() > 0.01

    @pytest.mark.parametrize("options", [{}, {"affine": False}, {"momentum": None}])
    def test_alone_it_is_batch_normalization(self, options):
        x = torch.randn(3, 2, 4, dtype=F64, generator=torch.manual_seed(0)) + 100
        plain, norm = (
            nn.BatchNorm1d(2, dtype=F64, **options),
            SyncNorm(2, dtype=F64, **options),
        )
        upstream = torch.randn(x.shape, dtype=F64, generator=torch.manual_seed(1))
        found = []
        for layer in (plain, norm):
            z = x.clone().requires_grad_()
            for _ in range(2):
                y = layer(z)
            (y * upstream).sum().backward()
            found.append((y, z.grad, layer.running_mean, layer.running_var))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            norm.eval()(x), plain.eval()(x), rtol=1e-12, atol=1e-12
        )

    def test_its_backward_pass_against_finite_differences(self):
        norm = SyncNorm(2, dtype=F64)
        x = torch.randn(4, 2, 3, dtype=F64, generator=torch.manual_seed(2))
        assert torch.autograd.gradcheck(norm, x.requires_grad_())

    def test_half_precision_has_statistics_in_float32(self):
        x = torch.randn(64, 2, generator=torch.manual_seed(3)) + 200
        norm = SyncNorm(2)
        y = norm(x.bfloat16())
        assert y.dtype == torch.bfloat16 and norm.running_mean.dtype == torch.float32
        wanted = 0.1 * x.bfloat16().float().mean(0)
        torch.testing.assert_close(norm.running_mean, wanted, rtol=1e-5, atol=0)

    def test_folds(self):
        layer, norm = nn.Linear(3, 2).double(), SyncNorm(2, dtype=F64).eval()
        norm.running_var.fill_(3.0)
        x = torch.randn(4, 3, dtype=F64, generator=torch.manual_seed(0))
        torch.testing.assert_close(norm.fold(layer)(x), norm(layer(x)))


class TestTwoStage:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"rotation": "random", "r_m": 0.5, "r_v": 0.8, "u_max": 1.1},
            {"nu_about": "running", "f_max": None},
        ],
    )
    def test_two_processes_equal_one(self, options):
        model = convert_normalization(
            shaken(resnet_style(width=2), 3), "two_stage", **options
        )
        x, t = pictures(7)
        one = step_of_one(model, x, t)
        for step in step_of_workers(model, x, t, (5, 2)):
            assert_same_step(step, one)

    def test_the_exchange_is_between_the_stages(self):
        """Chunks of other sizes, and a first tower with other examples, and by hand."""
        model = convert_normalization(shaken(resnet_style(width=2), 3), "two_stage")
        x, t = pictures(6)
        few = pictures(4)[0]
        whole = copy.deepcopy(model)
        two_stage_backward(whole, x, t, F.cross_entropy, x_first=few, chunk=2)
        # Two workers in turn: what the exchange would bring is taken from a first round.
        rounds: list[list[list[torch.Tensor]]] = [[], []]
        for worker, (part, of_first) in enumerate(
            zip(x.split(3), few.split(2), strict=True)
        ):
            keep = lambda values, w=worker: rounds[w].append(
                [v.clone() for v in values]
            )
            targets = t.split(3)[worker]
            once = copy.deepcopy(model)
            # The share of the loss needs the number of all examples; here both have 3.
            two_stage_backward(
                once, part, targets, F.cross_entropy, x_first=of_first, reduce=keep
            )
        total = None
        for worker, (part, of_first) in enumerate(
            zip(x.split(3), few.split(2), strict=True)
        ):
            calls = iter(range(2))

            def add(values, calls=calls):
                number = next(calls)
                for i, value in enumerate(values):
                    other = rounds[0][number][i] + rounds[1][number][i]
                    # In the first round each thought itself alone: its g are too large.
                    gradient = number == 1 and i % 3 < 2
                    value.copy_(other / 2 if gradient else other)

            once = copy.deepcopy(model)
            two_stage_backward(
                once,
                part,
                t.split(3)[worker],
                F.cross_entropy,
                x_first=of_first,
                reduce=add,
            )
            flat = torch.cat([p.grad.flatten() for p in once.parameters()])
            total = flat if total is None else total + flat
        wanted = torch.cat([p.grad.flatten() for p in whole.parameters()])
        torch.testing.assert_close(total, wanted, rtol=0, atol=1e-12)


class TestOtherMethods:
    @pytest.mark.parametrize("method", ["single_example", "frozen"])
    def test_examples_that_do_not_interact_need_no_exchange(self, method):
        model = convert_normalization(shaken(resnet_style(width=2)), method)
        x, t = pictures(7)
        one = step_of_one(model, x, t)
        for step in step_of_workers(model, x, t, (5, 2)):
            assert_same_step(step, one)

    @pytest.mark.parametrize("method", ["renorm", "improved_renorm"])
    def test_workers_are_microbatches(self, method):
        model = shaken(resnet_style(width=2))
        x, t = pictures(6)
        one = step_of_one(convert_normalization(model, method, microbatch=3), x, t)
        steps = step_of_workers(convert_normalization(model, method), x, t, (3, 3))
        for step in steps:
            assert_same_step(step, one)
        for what in ("gradients", "statistics"):  # one model on all, to the last bit
            assert torch.equal(steps[0].flat(what), steps[1].flat(what))

    def test_statistics_are_the_mean_over_the_microbatches(self):
        norm = nn.BatchNorm1d(2, momentum=0.3, dtype=F64)
        twins = [copy.deepcopy(norm) for _ in range(2)]
        parts = [
            torch.randn(4, 2, dtype=F64, generator=torch.manual_seed(i)) for i in (1, 2)
        ]
        mean = StatisticsMean(norm)
        for part, twin in zip(parts, twins, strict=True):
            norm(part)
            twin(part)
            mean.add(4)
        assert torch.equal(norm.running_mean, torch.zeros(2, dtype=F64))
        mean.finish()
        for name in ("running_mean", "running_var"):
            wanted = sum(getattr(twin, name) for twin in twins) / 2
            torch.testing.assert_close(getattr(norm, name), wanted)
        assert norm.num_batches_tracked == 1
        with pytest.raises(ValueError, match="call add first"):
            StatisticsMean(norm).finish()

    def test_shares(self):
        model = convert_normalization(resnet_style(width=2).double(), "frozen")
        x, t = pictures(4)
        for shares in ((2, 1), (4, 0)):
            with pytest.raises(
                ValueError, match="shares must be positive and add up to 4"
            ):
                step_of_workers(model, x, t, shares)

    def test_one_process_needs_no_group(self):
        tensors = [torch.ones(2), torch.ones(1, dtype=F64)]
        sum_over_workers(tensors)
        assert tensors[0].tolist() == [1, 1]


class TestMessages:
    @pytest.mark.parametrize("method", METHODS)
    def test_counted_is_what_is_sent(self, method):
        model = convert_normalization(shaken(resnet_style(width=2)), method)
        x, t = pictures(4)
        step = step_of_workers(model, x, t, (2, 2))[1]
        told = messages(method, sizes(model))
        assert (len(step.within), sum(step.within)) == (told.within, told.numbers)
        assert (len(step.after), sum(step.after)) == (
            told.after,
            told.gradients + told.statistics,
        )

    def test_large_networks(self):
        assert (INCEPTION_V3.layers, INCEPTION_V3.features) == (94, 17_216)
        assert (RESNET_50.layers, RESNET_50.features) == (53, 26_560)
        with pytest.raises(ValueError, match="method must be one of"):
            messages("layer", RESNET_50)

    @pytest.mark.parametrize(
        "name, wanted", [("inception_v3", INCEPTION_V3), ("resnet50", RESNET_50)]
    )
    def test_torchvision(self, name, wanted):
        models = pytest.importorskip("torchvision.models", exc_type=ImportError)
        options = {"aux_logits": False, "init_weights": False} if name[0] == "i" else {}
        assert sizes(models.get_model(name, weights=None, **options)) == wanted


class TestNoise:
    def test_uniform_numbers(self):
        keys = step_keys(0, 0, torch.arange(400))
        u = uniform(keys, 0, (10, 20), torch.float32)
        assert u.shape == (400, 10, 20) and 0 <= u.min() and u.max() < 1
        counts = torch.histc(u, 50, 0, 1)
        chi2 = float(((counts - 1600) ** 2 / 1600).sum())
        assert 20 < chi2 < 90  # 49 degrees of freedom
        for other in (
            uniform(keys, 1, (10, 20), torch.float32),
            uniform(step_keys(0, 1, torch.arange(400)), 0, (10, 20), torch.float32),
            uniform(step_keys(1, 0, torch.arange(400)), 0, (10, 20), torch.float32),
            u.roll(1, 0),
            u.roll(1, 2),
        ):
            pair = torch.corrcoef(torch.stack([u.flatten(), other.flatten()]))
            assert abs(pair[0, 1]) < 0.02

    def test_it_belongs_to_the_example(self):
        keys = step_keys(3, 5, torch.arange(6))
        whole = uniform(keys, 2, (4,), F64)
        assert torch.equal(whole[2:5], uniform(keys[2:5], 2, (4,), F64))

    def test_after_normalization_and_in_dropout(self):
        model = convert_normalization(
            nn.Sequential(nn.BatchNorm1d(50), nn.Dropout(0.4)), "frozen"
        )
        names = list(model.state_dict())
        noise = ExampleNoise(scale=0.1, shift=0.2)
        noise.attach(model)
        keyed = Keyed(model, noise)
        keyed.begin(step_keys(0, 0, torch.arange(200)))
        x = torch.full((200, 50), 3.0)
        y = keyed(x)
        assert list(model.state_dict()) == names
        kept = y[y != 0] * 0.6
        assert abs((y != 0).float().mean() - 0.6) < 0.02
        assert 3 * 0.9 - 0.2 <= kept.min() < 2.6 and 3.4 < kept.max() <= 3 * 1.1 + 0.2
        assert abs(kept.mean() - 3) < 0.02
        norm = model[0]  # its running statistics have moved
        plain = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        torch.testing.assert_close(keyed.eval()(x), plain)

    @pytest.mark.parametrize("chunk", [1, 4])
    def test_both_stages_see_the_same(self, chunk):
        """In pieces, where each example runs twice, and at once, where it runs once."""
        found, net = [], shaken(resnet_style(width=2, dropout=0.3))
        for size in (6, chunk):
            model = convert_normalization(net, "two_stage")
            noise = ExampleNoise(scale=0.3, shift=0.3)
            noise.attach(model)
            keyed = Keyed(model, noise)
            keyed.begin(step_keys(0, 0, torch.arange(6)))
            two_stage_backward(keyed, *pictures(6), F.cross_entropy, chunk=size)
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="must be at least 0"):
            ExampleNoise(scale=-1.0)
        noise = ExampleNoise(shift=0.1)
        model = nn.Sequential(nn.BatchNorm1d(2))
        noise.attach(model)
        with pytest.raises(ValueError, match="a key for each of 3 examples, got none"):
            model(torch.randn(3, 2))
        with pytest.raises(ValueError, match=r"call begin\(keys\)"):
            Keyed(model, noise)(torch.randn(3, 2))


class TestMixedPrecision:
    def test_statistics_stay_in_float32(self):
        model = convert_normalization(resnet_style(width=2), "improved_renorm")
        seen = []
        for m in model.modules():
            if isinstance(m, PopulationNorm):
                m.register_forward_hook(
                    lambda m, i, o: seen.append((i[0].dtype, o.dtype))
                )
        keyed = Keyed(model, autocast=torch.bfloat16)
        inside = []
        model[1].conv.register_forward_hook(lambda m, i, o: inside.append(o.dtype))
        x = pictures(4)[0].float()
        y = keyed(x)
        assert (
            set(seen) == {(torch.float32, torch.float32)} and y.dtype == torch.float32
        )
        assert inside == [torch.bfloat16]
        assert model[0].bn.running_mean.dtype == torch.float32

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_trains(self, method, tmp_path):
        changes = "precision=mixed", f"method={method}", "workers=1"
        train(tiny(*changes), tmp_path)
        losses = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
        assert len(losses) == 5 and np.isfinite(losses).all()


class TestSettings:
    def test_the_paper(self):
        s = load_settings("imagenet")
        assert (s.workers, s.batch, s.warm_up, s.settle_updates, s.settle_steps) == (
            50,
            32,
            200,
            50,
            50,
        )
        assert s.options == {"u_max": 5.0, "f_max": 2.0, "r_m": 1.0, "r_v": 1.0}
        assert (s.dropout, s.noise_scale, s.noise_shift) == (0.4, 0.1, 0.1)
        assert (s.statistics_rate, s.last_layer_rate, s.bias_decay_speed) == (
            0.2,
            0.1,
            0.5,
        )
        assert s.rate(0) == 0.045 and s.rate(1602) == pytest.approx(0.045 * 0.94)
        assert s.rate(3204, bias=True, last=True) == pytest.approx(0.0045 * 0.94)
        assert s.steps == 200 + 50 * 50 + 150_000

    @settings(max_examples=50)
    @given(
        warm_up=st.integers(0, 4),
        settle_updates=st.integers(0, 4),
        settle_steps=st.integers(0, 3),
        more=st.integers(1, 5),
    )
    def test_the_plan(self, warm_up, settle_updates, settle_steps, more):
        s = replace(
            tiny(),
            warm_up=warm_up,
            settle_updates=settle_updates,
            settle_steps=settle_steps,
            updates=settle_updates + more,
        )
        written = [False] * warm_up
        written += ([True] + [False] * settle_steps) * settle_updates + [True] * more
        assert [s.is_update(step) for step in range(s.steps)] == written
        assert [s.updates_before(step) for step in range(s.steps + 1)] == [
            sum(written[:step]) for step in range(s.steps + 1)
        ]

    def test_changes_and_files(self, tmp_path):
        assert load_settings("laptop", ["learning_rate=1e-3"]).learning_rate == 1e-3
        s = load_settings("laptop", ["batch=8", "options.r_m=0.5", "clip=1"])
        assert (s.batch, s.options, s.clip) == (8, {"r_m": 0.5}, 1.0)
        path = tmp_path / "own.yml"
        path.write_text(json.dumps(asdict(s)))
        assert load_settings(path) == s

    @pytest.mark.parametrize(
        "change, message",
        [
            ("batch", "a change is name=value"),
            ("bach=3", "with the name of a setting, got 'bach=3'"),
            ("batch.x=3", "a change is name=value"),
            ("batch=big", "batch must be int, got 'big'"),
            ("batch=0", "batch must lie in 1 to"),
            ("batch=true", "batch must be int, got True"),
            ("clip=no", "clip must be float or NoneType, got False"),
            ("decay=1.5", "decay must lie in 0.0 to 1.0, got 1.5"),
            ("batch={", "the value in 'batch={' is no YAML"),
            ("method=layer", "method must be one of batch, sync"),
            ("precision=half", "precision must be one of float64"),
            ("options.depth=3", "two_stage has no option depth"),
            ("settle_updates=99", "settle_updates must be at most updates"),
            ("learning_rate=fast", "learning_rate must be float, got 'fast'"),
            ("learning_rate=nan", "learning_rate must be float, got 'nan'"),
            ("options.seen_by=second", "use both or first"),
        ],
    )
    def test_bad_changes(self, change, message):
        with pytest.raises(ValueError, match=message):
            load_settings("laptop", [change])

    def test_bad_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="use laptop or imagenet"):
            load_settings(tmp_path / "none.yml")
        path = tmp_path / "own.yml"
        for text, message in (
            ("- 1", "missing are .*'batch'"),
            ("{", "is no YAML"),
            ("batch: 3\nfoo: 1", "unknown .*foo"),
        ):
            path.write_text(text)
            with pytest.raises(ValueError, match=message):
                load_settings(path)
        assert len(fields(Settings)) == len(asdict(tiny()))


class TestData:
    def test_the_examples_of_a_step_do_not_depend_on_the_processes(self):
        data = range(50)
        kind = {"workers": 4, "batch": 3, "seed": 1, "epoch": 2}
        whole = list(StepSampler(data, mine=range(4), **kind))
        halves = [
            list(StepSampler(data, mine=m, **kind)) for m in (range(2), range(2, 4))
        ]
        assert len(whole) == 4 == len(StepSampler(data, mine=range(4), **kind))
        assert whole == [a + b for a, b in zip(*halves, strict=True)]
        assert len({i for step in whole for i in step}) == 48
        later = StepSampler(data, mine=range(4), start=2, **kind)
        assert list(later) == whole[2:] and len(later) == 2
        kind["epoch"] = 3
        assert list(StepSampler(data, mine=range(4), **kind)) != whole

    def test_batches_go_on_from_any_step(self):
        s = tiny()
        data = make_data(s)[0]
        stream = batches(data, s, range(2), 0)
        first = [next(stream) for _ in range(14)]  # more than two epochs of 6 steps
        again = batches(make_data(s)[0], s, range(2), 8)
        for x, t in first[8:]:
            other = next(again)
            assert torch.equal(x, other[0]) and torch.equal(t, other[1])

    def test_too_few_examples(self):
        with pytest.raises(
            ValueError, match="5 examples are too few for one step of 2"
        ):
            StepSampler(range(5), workers=2, batch=3, mine=range(2), seed=0, epoch=0)

    def test_a_folder_of_images(self, tmp_path):
        from PIL import Image

        rng = np.random.default_rng(0)
        for part, names in (("train", "ab"), ("val", "ab"), ("other", "a")):
            for name in names:
                folder = tmp_path / part / name
                folder.mkdir(parents=True)
                for i in range(8):
                    values = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                    Image.fromarray(values).save(folder / f"{i}.png")
        s = tiny(f"data={tmp_path}", "classes=2", "updates=2")
        train(s, tmp_path / "run")
        assert 0 <= read_log(tmp_path / "run")[-1]["accuracy"] <= 1
        with pytest.raises(ValueError, match=r"2 classes for training and 2 .* say 3"):
            make_data(replace(s, classes=3))
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            make_data(replace(s, data=str(tmp_path / "val")))

    def test_models(self, monkeypatch):
        state = torch.get_rng_state()
        one, two = make_model(tiny()), make_model(tiny())
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(one[0].conv.weight, two[0].conv.weight)
        assert not torch.equal(
            one[0].conv.weight, make_model(tiny("seed=1"))[0].conv.weight
        )
        monkeypatch.setitem(sys.modules, "torchvision", None)
        with pytest.raises(
            ValueError, match="needs torchvision, which is not installed"
        ):
            make_model(tiny("model=resnet50"))

    def test_models_of_torchvision(self):
        pytest.importorskip("torchvision.models", exc_type=ImportError)
        s = tiny("model=inception_v3", "image_size=75", "classes=3")
        model = make_model(s)
        assert model.dropout.p == s.dropout and model.AuxLogits is None
        with pytest.raises(ValueError, match="unknown model 'vit'"):
            make_model(tiny("model=vit"))
        assert "inception_v3" not in train_data.SMALL


class TestTraining:
    def test_rates_of_biases_and_of_the_last_layer(self, tmp_path):
        training = Training(tiny("noise_shift=0"), tmp_path)
        training.step = training.settings.steps - 1
        x, t = next(batches(training.data, training.settings, range(2), 0))
        training.make_step(x, t)
        rates = {
            (group["bias"], group["last"]): group["lr"]
            for group in training.optimizer.param_groups
        }
        s = training.settings
        assert rates == {
            (b, last): s.rate(4, bias=b, last=last)
            for b in (True, False)
            for last in (True, False)
        }
        groups = make_optimizer(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Linear(3, 4)), s)
        sizes_ = {
            (g["bias"], g["last"]): sum(p.numel() for p in g["params"])
            for g in groups.param_groups
        }
        assert sizes_ == {
            (False, False): 6,
            (True, False): 3,
            (False, True): 12,
            (True, True): 4,
        }

    def test_weights_move_in_updates_only(self, tmp_path):
        training = Training(tiny(), tmp_path)
        weight, running = (
            training.model[0].conv.weight,
            training.model[0].bn.running_var,
        )
        for step, (x, t) in zip(
            range(6),
            batches(training.data, training.settings, range(2), 0),
            strict=False,
        ):
            before, seen = weight.detach().clone(), running.clone()
            loss = training.make_step(x, t)
            training.step += 1
            moves = training.settings.is_update(step)
            assert (loss is not None) is moves is not torch.equal(before, weight)
            assert not torch.equal(running, seen)

    @pytest.mark.parametrize("method", [m for m in METHODS if m != "sync"])
    def test_an_interrupted_run_ends_with_the_same_weights(self, method, tmp_path):
        class Stop(Exception):
            pass

        def stop(step):
            if step == 7:
                raise Stop

        s = tiny(f"method={method}", "precision=float64")
        train(s, tmp_path / "whole")
        with pytest.raises(Stop):
            train(s, tmp_path / "broken", after_step=stop)
        assert load_checkpoint(tmp_path / "broken")["step"] == 6
        train(s, tmp_path / "broken")
        states = [load_checkpoint(tmp_path / name) for name in ("whole", "broken")]
        assert largest_difference(*states) == 0
        log = read_log(tmp_path / "whole")
        assert log == read_log(tmp_path / "broken")
        assert [line["step"] for line in log if "accuracy" in line] == [5, 8, 9]

    @pytest.mark.parametrize("precision", ["float64", "mixed"])
    def test_a_killed_worker(self, precision, tmp_path):
        changes = f"precision={precision}", "method=two_stage"
        whole, resumed, step = killed_and_resumed(tiny(*changes), tmp_path, kill_at=8)
        assert step == 6 and whole["step"] == 9 == resumed["step"]
        assert largest_difference(whole, resumed) == 0
        assert read_log(tmp_path / "whole") == read_log(tmp_path / "broken")

    def test_torchrun_restarts_a_killed_worker(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(
            "import os, signal\n"
            "from bnbook.estimation.train import main\n"
            "def kill(step):\n"
            "    first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'\n"
            "    if first and step == 7 and os.environ['RANK'] == '1':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "main(after_step=kill)\n"
        )
        changes = [*TINY, "precision=float64", "method=batch"]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [
            "--nproc-per-node",
            "2",
            "--max-restarts",
            "1",
            str(script),
            "laptop",
        ]
        command += ["--output", str(tmp_path / "run"), "--set", *changes]
        done = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "SIGKILL" in done.stderr or "exitcode: -9" in done.stderr
        # One process that plays both workers, without interruption.
        train(tiny("precision=float64", "method=batch"), tmp_path / "one")
        states = [load_checkpoint(tmp_path / name) for name in ("run", "one")]
        assert largest_difference(*states) < 1e-10
        assert (tmp_path / "run" / "settings.yml").is_file()

    def test_a_restart_does_not_find_what_was_stored_before(self, monkeypatch):
        server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(server.port))
        stores = []
        for restart in (0, 1):
            monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restart))
            stores.append(_store_of_restart())
        stores[0].set("address", "old")
        assert stores[0].check(["address"]) and not stores[1].check(["address"])

    def test_other_runs_are_refused(self, tmp_path):
        s = tiny("updates=2")
        train(s, tmp_path)
        with pytest.raises(
            ValueError, match=r"of the method two_stage, this run of frozen;"
        ):
            train(replace(s, method="frozen"), tmp_path)
        with pytest.raises(ValueError, match=r"other settings: batch \(4, now 6\)"):
            train(replace(s, batch=6), tmp_path)
        log = read_log(tmp_path)
        train(s, tmp_path)  # nothing is left to do
        assert read_log(tmp_path) == log
        train(replace(s, updates=3), tmp_path)  # more of the same is fine
        assert load_checkpoint(tmp_path)["step"] == 7
        same_run(asdict(s), replace(s, data="elsewhere"))

    def test_the_data_and_the_device_must_stay(self, tmp_path, monkeypatch):
        s = tiny("updates=2")
        train(s, tmp_path)
        more = replace(s, updates=3)
        state = load_checkpoint(tmp_path)
        for name, value in (
            ("number of training images", 47),
            ("autocast", "torch.float16"),
            ("names of the classes", ["a"]),
        ):
            changed = state | {"made with": state["made with"] | {name: value}}
            changed.pop("format")
            save_checkpoint(tmp_path, changed)
            with pytest.raises(ValueError, match=f"of a run with another {name}"):
                train(more, tmp_path)

    def test_all_processes_must_find_one_checkpoint(self, tmp_path):
        s = tiny("updates=2", "method=batch")
        train(s, tmp_path)
        told = r"\(rank 0: step 6, rank 1: none\); --output must be one folder"
        with pytest.raises(RuntimeError, match=told):
            run_workers(resume_apart, replace(s, updates=3), tmp_path)

    def test_a_large_seed_and_modules_that_draw_themselves(self, tmp_path, monkeypatch):
        """Dropout2d takes its numbers from the common generator."""

        def with_dropout(settings):
            model = make_model(settings)
            return nn.Sequential(model[0], nn.Dropout2d(0.4), *model[1:])

        monkeypatch.setattr("bnbook.estimation.train.make_model", with_dropout)
        s = tiny("method=batch", "precision=float64", f"seed={10**12}")
        train(s, tmp_path / "whole")
        with pytest.raises(ZeroDivisionError):
            train(s, tmp_path / "broken", after_step=lambda step: 1 / (7 - step))
        torch.manual_seed(5)  # a new process starts from another state
        train(s, tmp_path / "broken")
        states = [load_checkpoint(tmp_path / name) for name in ("whole", "broken")]
        assert largest_difference(*states) == 0

    def test_the_noise_of_a_process_is_that_of_its_own_examples(
        self, tmp_path, monkeypatch
    ):
        found = []
        for rank, world in ((0, 1), (1, 2)):
            monkeypatch.setattr(
                "bnbook.estimation.train._place", lambda p=(rank, world): p
            )
            monkeypatch.setattr(Training, "_resume", lambda self: None)
            training = Training(tiny("method=two_stage"), tmp_path)
            keys = []
            monkeypatch.setattr(
                training.keyed, "begin", lambda k, keys=keys: keys.append(k)
            )
            monkeypatch.setattr(
                training, "_two_stages", lambda x, t, k, s: found.append(k)
            )
            monkeypatch.setattr(training, "_update", lambda update: None)
            monkeypatch.setattr(StatisticsMean, "finish", lambda self: None)
            training.step = training.settings.warm_up  # an update
            count = len(training.mine) * training.settings.batch
            training.make_step(torch.zeros(count, 3, 16, 16), torch.zeros(count).long())
        whole, second = found
        assert torch.equal(whole[4:], second)

    def test_float64_throughout(self, tmp_path):
        s = tiny("method=batch", "precision=float64")
        training = Training(s, tmp_path)
        x, t = next(batches(training.data, s, range(2), 0))
        keys = step_keys(0, 0, torch.arange(len(x)))
        loss = training._one_stage(x.double(), t, keys, StatisticsMean(training.model))
        assert loss.dtype == F64

    def test_damaged_checkpoints(self, tmp_path):
        assert load_checkpoint(tmp_path) is None
        for content in (b"", b"no checkpoint"):
            (tmp_path / "checkpoint.pt").write_bytes(content)
            with pytest.raises(ValueError, match="damaged or no checkpoint"):
                load_checkpoint(tmp_path)
        torch.save({"other": 1}, tmp_path / "checkpoint.pt")
        with pytest.raises(ValueError, match="is no checkpoint of this program"):
            load_checkpoint(tmp_path)

    def test_a_checkpoint_is_old_or_new(self, tmp_path):
        save_checkpoint(tmp_path, {"step": 1})

        class Unpicklable:
            def __reduce__(self):
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            save_checkpoint(tmp_path, {"step": Unpicklable()})
        assert load_checkpoint(tmp_path)["step"] == 1
        (tmp_path / ".checkpoint-left").write_bytes(b"half")  # killed while it wrote
        save_checkpoint(tmp_path, {"step": 2})
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        if os.name == "posix":
            (tmp_path / "plain").touch()  # others may read as much of it as of any file
            modes = {path.stat().st_mode for path in tmp_path.iterdir()}
            assert len(modes) == 1

    def test_the_log_ends_where_the_checkpoint_does(self, tmp_path):
        log = Log(tmp_path, 0)
        for step in (1, 2, 3):
            log.write(step=step, loss=0.5)
        log.close()
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"step": 4, "lo')  # killed while it wrote
        assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
        log = Log(tmp_path, 2)
        log.write(step=3, loss=0.4)
        log.close()
        assert [line["loss"] for line in read_log(tmp_path)] == [0.5, 0.5, 0.4]

    def test_it_learns(self, tmp_path, capsys):
        changes = "method=batch updates=40 examples=128 workers=1 settle_updates=0 "
        changes += "width=4 batch=16 decay_every=30"
        main(["laptop", "--output", str(tmp_path), "--set", *TINY, *changes.split()])
        losses = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
        assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
        assert "updates: 40" in (tmp_path / "settings.yml").read_text()

    def test_the_command_line(self, tmp_path, capsys):
        for arguments in (["nowhere"], ["laptop", "--set", "batch=-1"]):
            with pytest.raises(SystemExit, match="2"):
                main([*arguments, "--output", str(tmp_path)])
        assert "batch must lie in 1 to" in capsys.readouterr().err
        for change, message in (
            ("options.r_m=a", "error: "),
            ("options.r_m=2", "error: 0.bn: r_m"),
            ("model=vit_of_mine", "error: "),
            ("data=/nowhere", "error: there is no folder"),
        ):
            with pytest.raises(SystemExit, match="2"):
                main(["laptop", "--output", str(tmp_path), "--set", *TINY, change])
            told = capsys.readouterr().err.strip()
            assert told.startswith(message) and "\n" not in told

    def test_changes_may_be_given_apart(self, tmp_path):
        apart = [part for change in TINY for part in ("--set", change)]
        main(["laptop", "--output", str(tmp_path), *apart])
        assert "updates: 5\n" in (tmp_path / "settings.yml").read_text()
        assert "batch: 4\n" in (tmp_path / "settings.yml").read_text()

    def test_interrupted_by_hand(self, tmp_path, capsys):
        def interrupt(step):
            if step == 4:
                raise KeyboardInterrupt

        arguments = ["laptop", "--output", str(tmp_path), "--set", *TINY]
        with pytest.raises(SystemExit, match="130"):
            main(arguments, after_step=interrupt)
        assert "stored up to step 3 of 9. The same" in capsys.readouterr().err
        main(arguments)
        assert load_checkpoint(tmp_path)["step"] == 9

    def test_processes_and_workers(self, tmp_path, monkeypatch):
        with pytest.raises(
            ValueError, match="sync normalizes over all workers at once"
        ):
            Training(tiny("method=sync"), tmp_path)
        monkeypatch.setattr("bnbook.estimation.train._place", lambda: (0, 3))
        with pytest.raises(
            ValueError, match="2 workers cannot be shared out evenly among 3"
        ):
            Training(tiny(), tmp_path)

    def test_the_worker_must_die(self, tmp_path):
        with pytest.raises(RuntimeError, match="the worker survived"):
            killed_and_resumed(tiny("updates=2"), tmp_path, kill_at=99, workers=1)
        with pytest.raises(ValueError, match="the checkpoints differ"):
            largest_difference({"a": torch.ones(1)}, {"b": torch.ones(1)})


def test_make_step_leaves_the_model_alone():
    model = convert_normalization(shaken(resnet_style(width=2)), "improved_renorm")
    before = copy.deepcopy(model.state_dict())
    make_step(model, *pictures(4), examples=4)
    assert all(v.equal(before[n]) for n, v in model.state_dict().items())


class TestExercises:
    def test_combine_and_backward(self):
        x = torch.randn(9, 3, dtype=F64, generator=torch.manual_seed(4)) + 2
        parts = x.split((5, 3, 1))
        counts = torch.tensor([5.0, 3.0, 1.0], dtype=F64)
        means = torch.stack([p.mean(0) for p in parts])
        variances = torch.stack([p.var(0, correction=0) for p in parts])
        found = combined(counts[:, None], means, variances)
        mean, var = combine_shards(counts.numpy(), means.numpy(), variances.numpy())
        np.testing.assert_allclose(mean, found.mean, rtol=1e-13)
        np.testing.assert_allclose(var, found.var, rtol=1e-13)
        upstream = torch.randn(9, 3, dtype=F64, generator=torch.manual_seed(5))
        z = x.clone().requires_grad_()
        norm = SyncNorm(3, affine=False, dtype=F64)
        y = norm(z)
        y.backward(upstream)
        sums = torch.stack([upstream.sum(0), (upstream * y).sum(0)]).detach()
        dx = sync_backward(
            upstream[:4].numpy(),
            y[:4].detach().numpy(),
            (found.var + norm.eps).sqrt().numpy(),
            sums.numpy(),
            9.0,
        )
        np.testing.assert_allclose(dx, z.grad[:4], rtol=1e-10, atol=1e-14)

    def test_feed(self):
        norm = TwoStageNorm(2, dtype=F64, r_v=0.8, r_m=0.5)
        norm.running_var.copy_(torch.tensor([1.0, 9.0]))
        g, squares = torch.tensor([[0.3, -1.0], [2.0, 0.4]], dtype=F64), [2.5, 3.0]
        counts = np.array([3.0, 2.0])
        norm.shared = norm.leaves()
        norm.shared.mean.grad = torch.zeros(2, dtype=F64)
        norm.shared.square.grad = g.sum(0) / 5
        norm.square_sum = torch.tensor(squares, dtype=F64)
        own = np.array([[1.5, 1.0], [1.0, 2.0]])  # their sum is `squares`
        found = shared_feed(g.numpy(), own, counts, norm.running_var.numpy(), 0.8, 2.0)
        np.testing.assert_allclose(found, _feed(norm, 5.0).square, rtol=1e-13)

    def test_gradient_and_position(self):
        x, t = pictures(6)
        model = convert_normalization(shaken(resnet_style(width=2)), "frozen")
        flat = [
            step_of_one(model, x[part], t[part]).flat("gradients").numpy()
            for part in (slice(None), slice(4), slice(4, None))
        ]
        found = gradient_of_all(np.stack(flat[1:]), np.array([4.0, 2.0]))
        np.testing.assert_allclose(found, flat[0], rtol=1e-9, atol=1e-13)
        data = range(50)
        for step in (0, 3, 9):
            epoch, start = divmod(step, 4)
            orders = np.stack([order(e) for e in range(3)])
            kind = {"workers": 4, "batch": 3, "seed": 1, "epoch": epoch, "start": start}
            sampler = StepSampler(data, mine=range(2, 3), **kind)
            wanted = next(iter(sampler))
            assert next_indices(orders, 4, 2, 3, step).tolist() == wanted


def order(epoch):
    sampler = DistributedSampler(range(50), 1, 0, seed=1)
    sampler.set_epoch(epoch)
    return list(sampler)
