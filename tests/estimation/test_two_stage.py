"""Two towers, two stages: against autograd, Algorithm 1 as printed, and PyTorch."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bnbook.estimation.gradient_error import calibrate
from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.population_norm import PopulationNorm, deferred
from bnbook.estimation.rotation import hadamard_rotation
from bnbook.estimation.scale_grad import scale_grad
from bnbook.estimation.two_stage import (
    TwoStageNorm,
    _feed,
    tower,
    two_stage_backward,
    two_stage_norms,
    two_tower_loss,
)
from bnbook.estimation.two_stage_bias import ORDERS, errors_by_layer, stack
from bnbook.estimation.two_stage_conv import TwoStageConv2d, summed
from bnbook.estimation.two_stage_cost import (
    METHODS,
    load_cost,
    operations,
    peak_bytes,
    training_step,
)
from bnbook.exercises.estimation.two_stage_bias import folded_bias
from bnbook.exercises.estimation.two_stage_feed import second_stage_feed
from bnbook.exercises.estimation.two_stage_within import seen_share

F64 = torch.float64
LOSS = F.cross_entropy


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.manual_seed(seed))


def labels(count, seed=0):
    return torch.randint(0, 5, (count,), generator=torch.manual_seed(seed))


def shake(model, seed=0):
    """Non-trivial parameters and statistics."""
    generator = torch.manual_seed(seed)
    with torch.no_grad():
        for norm in two_stage_norms(model):
            for value in (norm.weight, norm.bias, norm.running_mean):
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
            norm.running_var.mul_(
                0.4 + torch.rand(len(norm.running_var), generator=generator)
            )
    return model


def bounded(model, x):
    """The share of examples and channels that the bound scales down, in each layer."""
    model, shares = copy.deepcopy(model), []
    for norm in two_stage_norms(model):
        norm.register_forward_pre_hook(
            lambda norm, args: shares.append(seen(norm, *args)), prepend=True
        )

    def seen(norm, x):
        p = norm.center(x, norm.running_mean)
        bound = norm.bound(norm.moments(x, p)[1][1])
        return 0.0 if bound is None else (bound < 1).double().mean().item()

    with tower(model, "first"), deferred(model), torch.no_grad():
        model(x)
    return shares


def network(kind="conv", depth=2, channels=4, **options):
    """A classifier of (M, 2, 5, 5), or (M, 2), with `depth` normalized layers."""
    torch.manual_seed(1)
    options |= {"dtype": F64}
    parts, width = [], 2
    for _ in range(depth):
        if kind == "conv":
            parts += [TwoStageConv2d(width, channels, 3, padding=1, eps=0.1, **options)]
        elif kind == "after":
            parts += [nn.Conv2d(width, channels, 3, padding=1, dtype=F64)]
            parts += [TwoStageNorm(channels, eps=0.1, **options)]
        else:
            parts += [nn.Linear(width, channels, dtype=F64)]
            parts += [TwoStageNorm(channels, eps=0.1, **options)]
        parts.append(nn.ReLU())
        width = channels
    size = channels if kind == "dense" else 25 * channels
    return shake(nn.Sequential(*parts, nn.Flatten(), nn.Linear(size, 5, dtype=F64)))


def inputs(kind, count=5, seed=0):
    shape = (count, 2) if kind == "dense" else (count, 2, 5, 5)
    return draw(*shape, seed=seed) + 0.4


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def autograd(model, *args, **options):
    model = copy.deepcopy(model)
    two_tower_loss(model, *args, **options).backward()
    return gradients(model)


def streamed(model, *args, **options):
    model = copy.deepcopy(model)
    two_stage_backward(model, *args, **options)
    return gradients(model)


def assert_equal(ours, expected, bound=1e-12):
    scale = max(e.abs().max() for e in expected)
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= bound * scale


class TestEquality:
    @pytest.mark.parametrize("kind", ["conv", "after", "dense"])
    @pytest.mark.parametrize("rotation", [None, "hadamard", "random"])
    @pytest.mark.parametrize(
        ("r_m", "r_v", "f_max", "u_max"),
        [(1, 1, 2, 5), (0.5, 0.7, 1, 1), (0, 0.8, None, None), (1, 0, 2, None)],
    )
    def test_streaming_is_autograd_through_two_towers(
        self, kind, rotation, r_m, r_v, f_max, u_max
    ):
        options = {"rotation": rotation, "r_m": r_m, "r_v": r_v}
        model = network(kind, 3, f_max=f_max, u_max=u_max, **options)
        x, t = inputs(kind), labels(5)
        calibrate(model, x)  # else no example reaches the bound
        shake(model)
        assert u_max != 1 or 0 < min(bounded(model, x)) < 1
        for first in (None, inputs(kind, 3, seed=9)):
            args = model, x, t, LOSS
            expected = autograd(*args, x_first=first)
            assert_equal(streamed(*args, x_first=first), expected)
            assert_equal(streamed(*args, x_first=first, chunk=2), expected)
            assert_equal(streamed(*args, x_first=first, chunk=5), expected)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
    def test_depth_batch_and_chunk(self, depth, count, chunk, seed):
        model, x = network("conv", depth), inputs("conv", count, seed=seed)
        args = model, x, labels(count), LOSS
        assert_equal(streamed(*args, chunk=chunk), autograd(*args))

    def test_the_same_loss_and_statistics(self):
        one, other = network(), network()
        x, t, first = inputs("conv"), labels(5), inputs("conv", 3, seed=9)
        a = two_tower_loss(one, x, t, LOSS, x_first=first)
        b = two_stage_backward(other, x, t, LOSS, x_first=first)
        torch.testing.assert_close(a.detach(), b)
        for left, right in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(left, right)
        assert two_stage_norms(one)[0].num_batches_tracked == 1

    def test_all_at_once_takes_one_forward_pass_and_the_same_statistics(self):
        one, other, calls = network(), network(), []
        x, t = inputs("conv"), labels(5)
        one.register_forward_hook(lambda *_: calls.append(1))
        a = two_stage_backward(one, x, t, LOSS, chunk=5)
        b = two_stage_backward(other, x, t, LOSS)
        assert len(calls) == 1
        torch.testing.assert_close(a, b)
        for left, right in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(left, right)

    @pytest.mark.parametrize("chunk", [1, 5])
    def test_parts_that_the_loss_does_not_see(self, chunk):
        """A layer beside the path to the loss, and a frozen parameter."""

        class Branched(nn.Module):
            def __init__(self):
                super().__init__()
                self.main, self.idle = network("dense"), TwoStageNorm(2, dtype=F64)

            def forward(self, x):
                self.idle(x)
                return self.main(x)

        model, x, t = Branched(), inputs("dense"), labels(5)
        expected = streamed(model.main, x, t, LOSS, chunk=chunk)
        model.main[0].weight.requires_grad_(False)
        two_stage_backward(model, x, t, LOSS, chunk=chunk)
        assert model.idle.num_batches_tracked == 1
        assert model.main[0].weight.grad is None
        found = [p.grad for p in model.main.parameters()]
        assert_equal(found[1:], expected[1:])

    def test_gradients_accumulate(self):
        model, x, t = network(), inputs("conv"), labels(5)
        expected = [2 * g for g in streamed(model, x, t, LOSS)]
        with deferred(model):  # else the second step sees other statistics
            two_stage_backward(model, x, t, LOSS)
            two_stage_backward(model, x, t, LOSS)
        assert_equal(gradients(model), expected)

    def test_eq_1_by_jacobians_of_single_examples(self):
        """Eq. (1): both factors from single examples, averaged, and multiplied out."""
        model = network("conv", 2, u_max=None)
        x, t, count = inputs("conv", 4), labels(4), 4
        expected = autograd(model, x, t, LOSS)
        norms, parameters = two_stage_norms(model), list(model.parameters())
        jacobian = lambda y: torch.autograd.grad(
            y, parameters, retain_graph=True, materialize_grads=True
        )
        pairs = [(n.running_mean, n.running_var) for n in norms]
        still = torch.cat([v for pair in pairs for v in pair])  # every S, in one vector
        of_square = torch.cat(
            [torch.full(v.shape, i == 1) for pair in pairs for i, v in enumerate(pair)]
        )
        direct, into_loss, moments = [], [], []
        with deferred(model):
            for b in range(count):
                leaves = [norm.leaves() for norm in norms]
                for norm, leaf in zip(norms, leaves, strict=True):
                    norm.shared = leaf
                with tower(model, "second"):
                    value = LOSS(model(x[b : b + 1]), t[b : b + 1])
                direct.append(jacobian(value))
                ends = [v for leaf in leaves for v in (leaf.mean, leaf.square)]
                into_loss.append(torch.cat(torch.autograd.grad(value, ends)))
                with tower(model, "first"):
                    model(x[b : b + 1])
                own = [v[0] for n in norms for v in (n.own.mean, n.own.square)]
                moments.append(torch.cat(own))  # every shared value of this example
        seen = torch.stack(moments).mean(0).detach()
        factor = torch.minimum(still / seen, torch.tensor(2.0))
        factor[~of_square] = 1.0
        into_loss = torch.stack(into_loss).mean(0)  # J(S, L)
        total = [torch.stack(g).mean(0) for g in zip(*direct, strict=True)]
        for s in range(len(seen)):
            rows = [jacobian(m[s]) if m[s].requires_grad else None for m in moments]
            for row in filter(None, rows):  # J_b(W, S), S† of the layers below included
                for k, j in enumerate(row):
                    total[k] = total[k] + factor[s] * into_loss[s] * j / count
        assert_equal(total, expected)


def algorithm_1(x, x_second, w, gamma, beta, state, *, r_m, r_v, f_max, eps, u_max, R):
    """ConvLayer_Train as printed, but channels first; one layer of both towers.

    The printed bound of q' takes ν of x; each tower takes its own here.
    """
    mean_ema, square_ema = state  # the latter with ε inside
    conv = lambda v: F.conv2d(F.pad(v, (1, 1, 1, 1), "circular"), w)
    wide = lambda v: v[..., None, None]
    total = w.sum((2, 3)).T  # (C_i, C_o)
    mean = x.mean((2, 3))
    p = conv(x) - wide(scale_grad(mean_ema, mean, r_m) @ total)
    nu = (p**2).mean((2, 3)) + eps
    factor = lambda n: r_v * (square_ema / n.detach()).clamp(max=f_max)
    nu_dagger = scale_grad(square_ema, nu, factor(nu))
    bound = lambda n: wide((u_max * (square_ema / n.detach()).sqrt()).clamp(max=1))
    q = p / wide(nu_dagger.sqrt()) * bound(nu)
    mean_2 = scale_grad(mean_ema, mean.mean(0), r_m)
    nu_2 = scale_grad(square_ema, nu.mean(0), factor(nu.mean(0)))
    p_2 = conv(x_second) - wide(mean_2 @ total)
    nu_b = (p_2**2).mean((2, 3)) + eps
    q_2 = p_2 / wide(nu_2.sqrt()) * bound(nu_b)
    turn = lambda v: torch.einsum("oc,mcij->moij", R, v * wide(gamma)) + wide(beta)
    return turn(q).relu(), turn(q_2).relu(), mean.mean(0), nu.mean(0)


class TestAlgorithm1:
    @pytest.mark.parametrize("same", [True, False])
    def test_as_printed(self, same):
        """ε inside ν, and so in the cap as well, matters to rounding only if it is small."""
        eps, options = 1e-15, {"r_m": 0.6, "r_v": 0.9, "f_max": 1.5, "u_max": 1.2}
        torch.manual_seed(3)
        model = shake(
            nn.Sequential(
                *[
                    nn.Sequential(
                        TwoStageConv2d(
                            c, 4, 3, padding=1, padding_mode="circular", eps=eps,
                            rotation="hadamard", dtype=F64, seen_by="first", **options,
                        ),
                        nn.ReLU(),
                    )
                    for c in (2, 4)
                ]
            )
        )  # fmt: skip
        x = inputs("conv")
        calibrate(model, x)
        shake(model)
        assert 0 < min(bounded(model, x)) < 1
        first = x if same else inputs("conv", 3, seed=8)
        layers = two_stage_norms(model)
        values = [p.detach().clone().requires_grad_() for p in model.parameters()]
        states = [(n.running_mean.clone(), n.running_var + eps) for n in layers]
        towers, seen = (first, x), []
        for i, state in enumerate(states):
            gamma, beta, w = values[3 * i : 3 * i + 3]
            *towers, mean, nu = algorithm_1(
                *towers,
                w,
                gamma,
                beta,
                state,
                eps=eps,
                R=hadamard_rotation(4),
                **options,
            )
            seen.append((mean, nu))
        g = draw(*towers[1].shape, seed=5)
        loss = lambda y, g: (y * g).sum((1, 2, 3)).mean()
        value = loss(towers[1], g)
        expected = torch.autograd.grad(value, values)
        found = two_stage_backward(model, x, g, loss, x_first=None if same else first)
        torch.testing.assert_close(found, value.detach())
        assert_equal(gradients(model), expected)
        for norm, (mean, square), (mean_b, nu_b) in zip(
            layers, states, seen, strict=True
        ):
            torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * mean_b)
            torch.testing.assert_close(norm.running_var, 0.9 * square + 0.1 * nu_b)

    def test_the_towers_have_equal_values(self):
        model, x = network("conv", 3, u_max=1.1), inputs("conv")
        calibrate(model, x)
        shake(model)
        assert 0 < min(bounded(model, x)) < 1
        with deferred(model):
            with tower(model, "first"):
                first = model(x)
            for norm in two_stage_norms(model):
                norm.shared = norm.aggregate()
            with tower(model, "second"):
                assert torch.equal(model(x), first)
            with tower(model, "joint"):
                assert torch.equal(model(x), first)


class TestExactness:
    def true(self, model, x, t, kind):
        """The gradient with batch normalization, by PyTorch's or by hand."""
        model = copy.deepcopy(model)
        if kind == "conv":
            LOSS(_population(model, x), t).backward()
            return gradients(model)
        for i, part in enumerate(model):
            if isinstance(part, TwoStageNorm):
                make = nn.BatchNorm1d if kind == "dense" else nn.BatchNorm2d
                model[i] = make(part.num_features, eps=part.eps, dtype=F64)
                model[i].load_state_dict(part.state_dict())
        LOSS(model(x), t).backward()
        return gradients(model)

    @pytest.mark.parametrize("kind", ["conv", "after", "dense"])
    def test_joint_statistics_give_the_true_gradient(self, kind):
        model, x, t = network(kind, 3, u_max=None), inputs(kind), labels(5)
        calibrate(model, x)
        expected = self.true(model, x, t, kind)
        with tower(model, "joint"):
            LOSS(model(x), t).backward()
        assert_equal(gradients(model), expected)

    def test_two_stages_give_it_for_the_last_layer_with_the_mean_before(self):
        model, x, t = network("conv", 3, u_max=None), inputs("conv"), labels(5)
        calibrate(model, x)
        expected, found = self.true(model, x, t, "conv"), streamed(model, x, t, LOSS)
        assert_equal(found[-5:], expected[-5:])
        assert (found[2] - expected[2]).abs().max() > 0.01 * expected[2].abs().max()

    def test_with_the_mean_after_not_even_there(self):
        model, x, t = network("after", 1, u_max=None), inputs("after"), labels(5)
        calibrate(model, x)
        expected, found = self.true(model, x, t, "after"), streamed(model, x, t, LOSS)
        assert_equal(found[2:], expected[2:])  # γ, β and the output layer
        assert (found[0] - expected[0]).abs().max() > 0.01 * expected[0].abs().max()

    @pytest.mark.parametrize("kind", ["after", "dense"])
    def test_with_the_mean_after_and_nu_about_the_running_mean_it_is(self, kind):
        model = network(kind, 3, u_max=None, nu_about="running")
        x, t = inputs(kind), labels(5)
        calibrate(model, x)
        expected, found = self.true(model, x, t, kind), streamed(model, x, t, LOSS)
        assert_equal(found[-6:], expected[-6:])
        assert (found[4] - expected[4]).abs().max() > 0.01 * expected[4].abs().max()

    def test_nu_about_changes_no_value_and_streams(self):
        model, x, t = network("after", 3), inputs("after"), labels(5)
        other = network("after", 3, nu_about="running")
        a, b = (
            two_stage_backward(m, x, t, LOSS) for m in (copy.deepcopy(model), other)
        )
        assert torch.equal(a, b)
        model = network("after", 3, nu_about="running")
        first = inputs("after", 3, seed=9)
        expected = autograd(model, x, t, LOSS, x_first=first)
        assert_equal(streamed(model, x, t, LOSS, x_first=first), expected)

    def test_joint_microbatches_are_separate_batches(self):
        x, t = inputs("conv", 6), labels(6)
        model = network("conv", 2, microbatch=2, u_max=1.2)
        other = copy.deepcopy(model)
        with tower(model, "joint"):
            LOSS(model(x), t).backward()
        with tower(other, "joint"), deferred(other):
            for some, targets in zip(x.split(2), t.split(2), strict=True):
                for norm in two_stage_norms(other):
                    norm.microbatch = None
                (LOSS(other(some), targets) / 3).backward()
        assert_equal(gradients(model), gradients(other))
        for a, b in zip(model.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b)

    def test_calibrated_statistics_stand_still(self):
        model, x = network("conv", 3, u_max=None), inputs("conv")
        calibrate(model, x)
        before = copy.deepcopy(model.state_dict())
        with tower(model, "first"), torch.no_grad():
            model(x)
        for name, value in model.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(value, before[name])
        assert model.training


def _population(model, x):
    """Algorithm 1's layers with the statistics of the batch, differentiated through."""
    for part in model:
        if isinstance(part, TwoStageConv2d):
            p = part.center(x, x.mean((0, 2, 3)))
            x = part.output(p, (p**2).mean((0, 2, 3)))
        else:
            x = part(x)
    return x


class TestConv:
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
    def test_fold(self, stride, mode):
        layer = shake(
            TwoStageConv2d(
                3, 4, 3, stride, 1, padding_mode=mode, rotation="random", dtype=F64
            )
        ).eval()
        x = draw(2, 3, 6, 6)
        torch.testing.assert_close(layer.fold()(x), layer(x))
        single = layer.float()
        torch.testing.assert_close(single.fold()(x.float()), single(x.float()))

    def test_fold_of_groups_and_without_affine(self):
        layer = TwoStageConv2d(4, 6, 3, groups=2, affine=False, dtype=F64).eval()
        layer.running_mean.copy_(draw(4))
        x = draw(2, 4, 5, 5)
        torch.testing.assert_close(layer.fold()(x), layer(x))

    @pytest.mark.parametrize("mode", ["circular", "reflect", "replicate", "valid"])
    def test_where_the_mean_may_move_behind_the_kernel(self, mode):
        padding = {} if mode == "valid" else {"padding": 1, "padding_mode": mode}
        layer = TwoStageConv2d(3, 4, 3, dtype=F64, **padding)
        x, mean = draw(2, 3, 6, 6), draw(3, seed=1)
        before = layer.conv(x - mean[:, None, None])
        torch.testing.assert_close(layer.center(x, mean), before)

    def test_zero_padding_differs_at_the_border_only(self):
        layer = TwoStageConv2d(3, 4, 3, padding=1, dtype=F64)
        x, mean = draw(2, 3, 6, 6), draw(3, seed=1)
        off = (layer.center(x, mean) - layer.conv(x - mean[:, None, None])).abs()
        assert off[..., 1:-1, 1:-1].max() < 1e-12 and off[..., 0, :].min() > 1e-6

    def test_means_of_examples(self):
        w, means = draw(4, 3, 2, 2), draw(5, 3, seed=1)
        torch.testing.assert_close(summed(w, means), means @ w.sum((2, 3)).T)
        torch.testing.assert_close(summed(w, means[0]), summed(w, means)[:1])


class TestMemory:
    def test_no_graph_holds_more_than_one_example(self):
        """The most that autograd keeps for a backward pass does not grow with the batch."""
        model = network("conv", 2)
        peaks = {}
        for count in (2, 16):
            held = most = 0

            class Kept:
                def __init__(self, tensor):
                    nonlocal held, most
                    self.tensor = tensor.detach()  # else a saved output is a cycle
                    self.size = tensor.numel()
                    held += self.size
                    most = max(most, held)

                def __del__(self):
                    nonlocal held
                    held -= self.size

            x, t = inputs("conv", count), labels(count)
            hooks = torch.autograd.graph.saved_tensors_hooks(Kept, lambda k: k.tensor)
            with hooks:
                two_stage_backward(model, x, t, LOSS)
            peaks[count] = most
        assert peaks[2] == peaks[16] > 0

    def test_nothing_stays_in_the_layers(self):
        model = network()
        two_tower_loss(model, inputs("conv"), labels(5), LOSS).backward()
        copy.deepcopy(model)  # would refuse a tensor with a graph
        for norm in two_stage_norms(model):
            assert norm.own is norm.shared is norm.tower is None


class TestBadInput:
    def test_a_layer_in_training_must_know_its_tower(self):
        norm = TwoStageNorm(2).double()
        with pytest.raises(
            ValueError, match="must know its tower; train with two_tower"
        ):
            norm(draw(3, 2))
        norm.eval()(draw(3, 2))
        with pytest.raises(ValueError, match="first did not reach"):
            with tower(norm.train(), "second"):
                norm(draw(3, 2))
        with pytest.raises(ValueError, match="tower must be one of"):
            with tower(norm, "third"):
                pass

    @pytest.mark.parametrize("function", [two_tower_loss, two_stage_backward])
    def test_models(self, function):
        x, t = inputs("dense"), labels(5)
        call = lambda model: function(model, x, t, LOSS)
        with pytest.raises(ValueError, match="has no TwoStageNorm"):
            call(nn.Linear(2, 5).double())
        with pytest.raises(ValueError, match="evaluation mode"):
            call(network("dense").eval())
        norm = TwoStageNorm(2).double()
        with pytest.raises(ValueError, match="ran twice in one pass"):
            call(nn.Sequential(norm, norm))
        joint = PopulationNorm(2, interaction="batch")
        for foreign in (nn.BatchNorm1d(2), joint, BatchRenorm(2)):
            with pytest.raises(ValueError, match="normalizes over the batch"):
                call(nn.Sequential(TwoStageNorm(2), foreign).double())

    def test_batches(self):
        model, x, t = network("dense"), inputs("dense"), labels(5)
        with pytest.raises(ValueError, match="same number of examples"):
            two_stage_backward(model, x, t[:4], LOSS)
        with pytest.raises(ValueError, match="at least 1"):
            two_stage_backward(model, x, t, LOSS, x_first=x[:0])
        with pytest.raises(ValueError, match="chunk must be"):
            two_stage_backward(model, x, t, LOSS, chunk=0)
        two_stage_backward(model, x[:1], t[:1], LOSS)  # one example is a batch

    def test_arguments(self):
        with pytest.raises(ValueError, match="seen_by"):
            TwoStageNorm(2, seen_by="third")
        with pytest.raises(ValueError, match="nu_about must be one of"):
            TwoStageNorm(2, nu_about="median")
        with pytest.raises(ValueError, match="r_v must lie"):
            TwoStageConv2d(2, 2, 3, r_v=2)
        with pytest.raises(ValueError, match=r"shape \(M, 3, H, W\)"):
            TwoStageConv2d(3, 4, 3).eval()(torch.zeros(2, 4, 5, 5))
        with pytest.raises(ValueError, match="training mode"):
            TwoStageConv2d(3, 4, 3).fold()
        with pytest.raises(ValueError, match="mixes all channels"):
            TwoStageConv2d(4, 4, 3, groups=2, rotation="random").eval().fold()

    def test_a_failed_step_leaves_the_statistics(self):
        model, x = network("dense"), inputs("dense")
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(IndexError):
            two_stage_backward(model, x, labels(5) + 9, LOSS)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])


class TestExercises:
    """The reference solutions say what the chapter's functions say."""

    def test_bias(self):
        layer = shake(TwoStageConv2d(3, 4, 3, dtype=F64)).eval()
        found = folded_bias(
            layer.conv.weight.detach().numpy(),
            layer.running_mean.numpy(),
            layer.running_var.numpy(),
            layer.weight.detach().numpy(),
            layer.bias.detach().numpy(),
            layer.eps,
        )
        np.testing.assert_allclose(found, layer.fold().bias.detach().numpy())

    def test_feed(self):
        norm = TwoStageNorm(3, dtype=F64, r_v=0.7)
        norm.running_var.copy_(torch.tensor([0.8, 9.0, 1.5]))
        norm.shared, g = norm.leaves(), draw(5, 3)
        norm.shared.mean.grad, norm.shared.square.grad = g.mean(0), g.mean(0)
        squares = draw(4, 3, seed=2) ** 2 + 0.1
        norm.square_sum = squares.sum(0)
        found = second_stage_feed(
            g.numpy(), squares.numpy(), norm.running_var.numpy(), 0.7, 2.0
        )
        np.testing.assert_allclose(found, _feed(norm, 4).square.numpy())

    @pytest.mark.parametrize("positions", [1, 6])
    def test_share(self, positions):
        """The share of ∂ν/∂w that reaches the weight of z = w u through the first tower."""
        u, w = draw(4, 1, positions) + 1.5, torch.tensor(0.7, dtype=F64)
        w.requires_grad_()
        norm = TwoStageNorm(1, dtype=F64, f_max=None)
        calibrate(norm, w.detach() * u)
        grads = {}
        for name in ("first", "joint"):
            with tower(norm, name), deferred(norm):
                mean_b, of_p = norm.moments(w * u, w * u - norm.running_mean[:, None])
                own = mean_b if name == "first" else mean_b.mean(0)
                square, _ = norm.second_moment(of_p, norm.through_mean(own))
            grads[name] = torch.autograd.grad(square.mean(), w)[0]
        expected = seen_share(u[:, 0].numpy())
        assert (grads["first"] / grads["joint"]).item() == pytest.approx(expected)


class TestCost:
    @pytest.mark.parametrize("method", METHODS)
    def test_each_step_runs_and_the_peak_is_counted(self, method):
        assert peak_bytes(training_step(method, width=4, batch=2, side=8)) > 1000

    def test_peaks_of_known_size(self):
        def two_arrays():
            a = torch.empty(1000, dtype=F64)
            return torch.empty(500, dtype=F64).sum() + a.sum()

        assert 12000 <= peak_bytes(two_arrays) < 14000

    def test_refusals(self):
        with pytest.raises(ValueError, match="method must be"):
            training_step("none", width=4, batch=2)
        with pytest.raises(ValueError, match="order must be"):
            stack("between", 1)

    def test_what_is_stored_is_flat_in_batch_size(self):
        rows = [r for r in load_cost()["memory"] if r["method"] == "streamed"]
        assert max(r["bytes"] for r in rows) <= 1.05 * min(r["bytes"] for r in rows)


class TestBias:
    @pytest.mark.parametrize("order", ORDERS)
    def test_only_the_last_kernel_with_the_mean_before(self, order):
        x, t = draw(6, 1, 5, 5), labels(6)
        model = stack(order, 2, width=4)
        calibrate(model, x)
        errors = errors_by_layer(model, x, t)
        assert max(errors["joint"]) < 1e-10 and min(errors["single example"]) > 0.01
        assert errors["two-stage"][0] > 0.01
        assert (errors["two-stage"][1] < 1e-10) == (order == "before")


class TestState:
    """What a step leaves behind, and what it does not bear."""

    def test_a_layer_can_be_copied_and_saved_in_the_middle_of_a_step(self):
        model = network()
        with tower(model, "first"), deferred(model):
            model(inputs("conv"))
        assert two_stage_norms(model)[0].own is not None
        twin = copy.deepcopy(model)
        assert two_stage_norms(twin)[0].own is None
        for a, b in zip(model.buffers(), twin.buffers(), strict=True):
            assert torch.equal(a, b)

    def test_a_failed_step_inside_deferred_leaves_no_statistics(self):
        model, other = network("dense"), network("dense")
        x, t = inputs("dense"), labels(5)
        with deferred(model):
            two_stage_backward(model, x, t, LOSS)
            with pytest.raises(IndexError):
                two_stage_backward(model, 9 * x, t + 9, LOSS)
        two_stage_backward(other, x, t, LOSS)
        for a, b in zip(model.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("reentrant", [False, True])
    @pytest.mark.parametrize("chunk", [1, 5])
    def test_checkpointing_is_refused(self, reentrant, chunk):
        """It would run layers again, which counts their moments twice."""

        class Checkpointed(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = network("dense")

            def forward(self, x):
                y = self.model[:2](x)
                y = checkpoint(self.model[2:5], y, use_reentrant=reentrant)
                return self.model[5:](y)

        with pytest.raises(ValueError, match="checkpointing runs layers again"):
            two_stage_backward(
                Checkpointed(), inputs("dense"), labels(5), LOSS, chunk=chunk
            )

    def test_whole_numbers_as_input(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Embedding(7, 4), TwoStageNorm(4), nn.ReLU(), nn.Linear(4, 5)
        )
        x = torch.arange(5)
        total = two_stage_backward(copy.deepcopy(model), x, labels(5), LOSS)
        loss = two_tower_loss(model, x, labels(5), LOSS)
        torch.testing.assert_close(total, loss.detach())

    @pytest.mark.parametrize("kind", ["conv", "after", "dense"])
    def test_half_precision_keeps_its_statistics_in_single(self, kind):
        model = network(kind, 2, rotation="hadamard").float()
        x, t = inputs(kind).float(), labels(5)
        expected = two_stage_backward(copy.deepcopy(model), x, t, LOSS)
        with torch.autocast("cpu", torch.bfloat16):
            found = two_stage_backward(model, x, t, LOSS, chunk=5)
        assert abs(found - expected) < 0.05 * abs(expected)
        for norm in two_stage_norms(model):
            assert norm.running_mean.dtype == norm.running_var.dtype == torch.float32
            assert norm.num_batches_tracked == 1
        assert all(p.grad.isfinite().all() for p in model.parameters())


class TestOperations:
    def test_passes_are_counted(self):
        """A backward pass of a convolution takes twice the operations of a forward pass;
        the first layer's has no gradient of its input."""
        found = operations(width=16, batch=8)
        assert found["batch normalization"] == 1
        assert found["single example"] == pytest.approx(1)
        assert found["two towers"] == pytest.approx(2, rel=0.01)
        assert found["streamed"] == pytest.approx(2, rel=0.01)
        assert found["one forward pass"] == pytest.approx(5 / 3, rel=0.03)
        assert found["4 in first tower"] == pytest.approx(1.5, rel=0.01)
