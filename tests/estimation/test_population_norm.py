"""The layer that the part Estimation is built on: values, gradients, statistics, folding."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnbook.estimation.population_norm import (
    PopulationNorm,
    deferred,
    population_norms,
    position_moments,
)
from bnbook.estimation.rotation import hadamard_rotation, make_rotation, random_rotation
from bnbook.estimation.scale_grad import scale_grad

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.manual_seed(seed))


def make(channels=4, **options):
    """A layer with non-trivial parameters and statistics."""
    norm = PopulationNorm(channels, eps=0.1, dtype=F64, **options)
    with torch.no_grad():
        norm.weight.copy_(draw(channels, seed=1) + 0.5)
        norm.bias.copy_(draw(channels, seed=2))
        norm.running_mean.copy_(draw(channels, seed=3))
        norm.running_var.copy_(draw(channels, seed=4) ** 2 + 0.5)
    return norm


def at_batch_statistics(norm, x):
    """Give the layer the statistics of x, as an EMA of a still model would have them."""
    over = [0, *range(2, x.ndim)]
    with torch.no_grad():
        norm.running_mean.copy_(x.mean(over))
        norm.running_var.copy_(x.var(over, correction=0))


class TestScaleGrad:
    @given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
    def test_the_value_is_s_to_the_last_bit_and_the_gradient_goes_to_q(self, s, q, r):
        s, q = (torch.tensor([v], dtype=F64, requires_grad=True) for v in (s, q))
        got = scale_grad(s, q, r)
        assert torch.equal(got, s)
        (3.0 * got).backward()
        assert s.grad is None and q.grad.item() == pytest.approx(3 * r)

    def test_no_gradient_goes_to_the_factor(self):
        r = torch.tensor(0.5, dtype=F64, requires_grad=True)
        scale_grad(
            torch.ones(2, dtype=F64), draw(2).requires_grad_(), r
        ).sum().backward()
        assert r.grad is None

    def test_what_is_not_finite_is_refused(self):
        with pytest.raises(ValueError, match="finite"):
            scale_grad(torch.ones(1), torch.tensor([torch.inf]), 1.0)


class TestValues:
    @pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2)])
    @pytest.mark.parametrize("interaction", ["example", "batch"])
    def test_training_and_evaluation_give_the_same(self, shape, interaction):
        norm, x = (
            make(interaction=interaction, u_max=None, rotation="random"),
            draw(*shape),
        )
        expected = norm.eval()(x)
        torch.testing.assert_close(norm.train()(x), expected, rtol=0, atol=0)

    def test_evaluation_is_that_of_batch_norm(self):
        norm, x = make(), draw(5, 4, 3, 3)
        theirs = nn.BatchNorm2d(4, eps=0.1).double().eval()
        theirs.load_state_dict(norm.state_dict())
        torch.testing.assert_close(norm.eval()(x), theirs(x))

    def test_an_example_beyond_the_bound_is_scaled_to_it(self):
        norm = make(u_max=2.0)
        x = draw(5, 4, 6) + norm.running_mean[:, None]
        x[1] = norm.running_mean[:, None] + 100 * (x[1] - norm.running_mean[:, None])
        y = norm(x)
        q = (y - norm.bias[:, None]) / norm.weight[:, None]
        second = (q**2).mean(2).detach()
        assert (
            second.max().item() == pytest.approx(4.0, rel=1e-3)
            and (second[1] > 3.9).all()
        )
        assert torch.equal(make(u_max=2.0).eval()(x)[0], make(u_max=None).eval()(x)[0])


class TestGradients:
    def gradients(self, norm, x, g):
        x = x.clone().requires_grad_()
        y = norm(x)
        return torch.autograd.grad((y * g).sum(), [x, norm.weight, norm.bias])

    @pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5)])
    def test_at_the_batch_statistics_batch_interaction_is_batch_norm(self, shape):
        x, g = draw(*shape) * 2 + 1, draw(*shape, seed=7)
        norm = make(interaction="batch", u_max=None)
        at_batch_statistics(norm, x)
        theirs = nn.BatchNorm1d(4, eps=0.1).double()
        theirs.load_state_dict(norm.state_dict())
        for ours, expected in zip(
            self.gradients(norm, x, g), self.gradients(theirs, x, g), strict=True
        ):
            torch.testing.assert_close(ours, expected)

    @pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 2)])
    def test_microbatches_are_separate_batches_of_one_update(self, shape):
        one = make(interaction="batch", microbatch=2)
        other = make(interaction="batch")
        x, g = draw(*shape, seed=5).requires_grad_(), draw(*shape, seed=6)
        dx, dgamma = torch.autograd.grad(one(x), [x, one.weight], g)
        found = []
        with deferred(other):
            for some, g_some in zip(x.split(2), g.split(2), strict=True):
                parts = torch.autograd.grad(other(some), [some, other.weight], g_some)
                found.append(parts)
        torch.testing.assert_close(dx, torch.cat([f[0] for f in found]))
        torch.testing.assert_close(dgamma, sum(f[1] for f in found))
        for a, b in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(a, b)
        with pytest.raises(ValueError, match="no multiple of the microbatch, 2"):
            one(x[:5])

    def test_a_microbatch_of_one_is_the_example_alone(self):
        x, g = draw(3, 4, 5, seed=5).requires_grad_(), draw(3, 4, 5, seed=6)
        found = [
            torch.autograd.grad(make(**options)(x), x, g)[0]
            for options in ({}, {"interaction": "batch", "microbatch": 1})
        ]
        torch.testing.assert_close(*found)

    def test_examples_do_not_interact(self):
        x, g = draw(6, 4, 5), draw(6, 4, 5, seed=7)
        whole = self.gradients(make(), x, g)[0]
        for b in range(6):
            alone = self.gradients(make(), x[b : b + 1], g[b : b + 1])[0]
            torch.testing.assert_close(whole[b : b + 1], alone)

    @pytest.mark.parametrize("f_max", [2.0, 1.0, None])
    def test_through_the_statistics_by_hand(self, f_max):
        norm, r_m, r_v = make(r_m=0.4, r_v=0.7, f_max=f_max, u_max=None), 0.4, 0.7
        x, g = draw(3, 4, 5), draw(3, 4, 5, seed=7)
        d, root = 5, (norm.running_var + 0.1).sqrt()[:, None]
        p = x - norm.running_mean[:, None]
        upstream = g * norm.weight[:, None]
        # ∂/∂p of p/√(ν† + ε): directly, and through ν† = … mean(p²), where p keeps μ†
        ratio = norm.running_var / (p**2).mean(2)
        factor = torch.ones_like(ratio) if f_max is None else ratio.clamp(max=f_max)
        dnu = -(upstream * p).sum(2) / (2 * root**3).squeeze(1)
        dp = upstream / root + (r_v * factor * dnu)[..., None] * 2 * p / d
        dx = dp - r_m * dp.mean(2, keepdim=True)
        torch.testing.assert_close(self.gradients(norm, x, g)[0], dx)

    def test_frozen_statistics_are_constants(self):
        x, g = draw(3, 4, 5), draw(3, 4, 5, seed=7)
        norm = make(r_m=0.0, r_v=0.0, u_max=None)
        expected = g * (norm.weight / (norm.running_var + 0.1).sqrt())[:, None]
        torch.testing.assert_close(self.gradients(norm, x, g)[0], expected)

    def test_one_value_an_example_gives_no_gradient_of_its_mean(self):
        x, g = draw(6, 4), draw(6, 4, seed=7)
        torch.testing.assert_close(
            self.gradients(make(), x, g)[0], torch.zeros(6, 4, dtype=F64)
        )

    def test_an_example_without_variation_has_finite_gradients(self):
        norm = make()
        x = norm.running_mean[:, None].expand(3, 4, 5).clone()
        assert all(v.isfinite().all() for v in self.gradients(norm, x, draw(3, 4, 5)))


class TestStatistics:
    def test_one_update_is_that_of_batch_norm_at_mean_zero(self):
        x = draw(8, 4, 5)
        norm, theirs = (
            PopulationNorm(4, momentum=0.3).double(),
            nn.BatchNorm1d(4, momentum=0.3).double(),
        )
        norm(x), theirs(x)
        torch.testing.assert_close(norm.running_mean, theirs.running_mean)
        # About the running mean, 0, and divided by the count, where BatchNorm divides by one less.
        expected = 0.7 + 0.3 * (x**2).mean((0, 2))
        torch.testing.assert_close(norm.running_var, expected)
        assert norm.num_batches_tracked == 1

    def test_cumulative_average(self):
        norm = PopulationNorm(2, momentum=None).double()
        batches = [draw(6, 2, seed=s) for s in range(4)]
        for x in batches:
            norm(x)
        torch.testing.assert_close(norm.running_mean, torch.stack(batches).mean((0, 1)))

    def test_deferred_microbatches_see_one_state_and_count_once(self):
        x = draw(9, 4, 5)
        whole, parts = make(), make()
        expected = whole(x)
        with deferred(parts):
            got = torch.cat([parts(x[:2]), parts(x[2:])])
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(parts.running_mean, whole.running_mean)
        torch.testing.assert_close(parts.running_var, whole.running_var)
        assert parts.num_batches_tracked == whole.num_batches_tracked == 1

    def test_a_block_inside_a_block_waits_for_the_outer_one(self):
        one, other = make(), make()
        with deferred(one):
            with deferred(one):
                one(draw(3, 4, seed=1))
            assert one.num_batches_tracked == 0
            one(draw(3, 4, seed=2))
        with deferred(other):
            other(draw(3, 4, seed=1))
            other(draw(3, 4, seed=2))
        for a, b in zip(one.buffers(), other.buffers(), strict=True):
            assert torch.equal(a, b)

    def test_a_failed_block_updates_nothing(self):
        norm = make()
        before = copy.deepcopy(norm.state_dict())
        with pytest.raises(RuntimeError, match="stop"), deferred(norm):
            norm(draw(3, 4))
            raise RuntimeError("stop")
        assert torch.equal(norm.running_mean, before["running_mean"])
        norm(draw(3, 4))
        assert norm.num_batches_tracked == 1

    def test_evaluation_updates_nothing(self):
        norm = make().eval()
        norm(draw(3, 4))
        assert norm.num_batches_tracked == 0

    def test_population_norms_finds_them(self):
        model = nn.Sequential(nn.Linear(4, 4), make(), nn.Sequential(make()))
        assert population_norms(model) == [model[1], model[2][0]]


class TestFold:
    @pytest.mark.parametrize("rotation", [None, "hadamard", "random"])
    @pytest.mark.parametrize("dtype", [F64, torch.float32])
    def test_layers(self, rotation, dtype):
        norm = make(rotation=rotation).to(dtype).eval()
        cases = [
            (nn.Linear(3, 4), draw(5, 3)),
            (nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), draw(5, 3, 6, 6)),
            (nn.Conv1d(3, 4, 2, padding_mode="circular", padding=1), draw(5, 3, 6)),
        ]
        for layer, x in cases:
            layer, x = layer.to(dtype), x.to(dtype)
            torch.testing.assert_close(norm.fold(layer)(x), norm(layer(x)))

    def test_without_affine(self):
        norm, layer = (
            PopulationNorm(4, affine=False, rotation="random").double().eval(),
            nn.Linear(3, 4).double(),
        )
        x = draw(5, 3)
        torch.testing.assert_close(norm.fold(layer)(x), norm(layer(x)))

    def test_refusals(self):
        norm = make(rotation="random").eval()
        for layer in (nn.Conv2d(4, 4, 1, groups=2), nn.ConvTranspose2d(3, 4, 1)):
            with pytest.raises(ValueError, match="mixes all channels"):
                norm.fold(layer.double())
        with pytest.raises(ValueError, match="training mode"):
            make().fold(nn.Linear(3, 4).double())
        with pytest.raises(TypeError):
            norm.fold(nn.ReLU())


class TestRotation:
    @given(st.integers(1, 9), st.integers(0, 5))
    def test_orthogonal(self, size, seed):
        matrix = random_rotation(size, seed=seed)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=F64))

    @pytest.mark.parametrize("size", [1, 2, 8, 64])
    def test_hadamard_has_entries_of_one_size(self, size):
        matrix = hadamard_rotation(size)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=F64))
        torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, size**-0.5))

    def test_the_layer_rotates_before_the_shift(self):
        x = draw(5, 4, 3)
        plain, turned = make().eval(), make(rotation="hadamard").eval()
        before = plain(x) - plain.bias[:, None]
        expected = torch.einsum("oc,mcs->mos", hadamard_rotation(4), before)
        torch.testing.assert_close(turned(x), expected + plain.bias[:, None])

    def test_the_state_dict_holds_it(self):
        one, other = make(rotation="random", seed=1), make(rotation="random", seed=2)
        assert not torch.equal(one.rotation, other.rotation)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.rotation, other.rotation)

    def test_refusals(self):
        with pytest.raises(
            ValueError, match=r"powers of two, got 6 channels; .*random"
        ):
            make(6, rotation="hadamard")
        with pytest.raises(ValueError, match="orthogonal"):
            make(rotation=torch.ones(4, 4))
        with pytest.raises(ValueError, match=r"shape \(4, 4\)"):
            make(rotation=torch.eye(3))
        with pytest.raises(ValueError, match="unknown rotation"):
            make(rotation="givens")
        with pytest.raises(TypeError, match="rotation must be"):
            make(rotation=3)
        assert make_rotation(None, 4) is None


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"num_features": 0}, "num_features"),
            ({"eps": 0.0}, "eps"),
            ({"momentum": 0.0}, "momentum"),
            ({"track_running_stats": False}, "track_running_stats=True"),
            ({"interaction": "all"}, "interaction"),
            ({"r_m": 1.1}, "r_m must lie between 0 and 1"),
            ({"r_v": -0.1}, "r_v must lie"),
            ({"r_v": float("nan")}, "r_v must lie"),
            ({"f_max": 0.9}, "f_max must be at least 1"),
            ({"u_max": 0.0}, "u_max must be at least 1"),
            ({"microbatch": 0}, "microbatch must be at least 1"),
        ],
    )
    def test_arguments(self, options, match):
        with pytest.raises(ValueError, match=match):
            PopulationNorm(**({"num_features": 4} | options))

    @pytest.mark.parametrize("shape", [(4,), (3, 5), (0, 4), (3, 4, 0)])
    def test_shapes(self, shape):
        with pytest.raises(ValueError, match=r"shape \(M, 4, …\)"):
            make()(torch.zeros(shape, dtype=F64))

    def test_values_that_are_not_finite(self):
        x = draw(3, 4)
        x[1, 2] = torch.nan
        with pytest.raises(ValueError, match="finite"):
            make()(x)


class TestMoments:
    def test_values_gradients_second_derivatives_and_vmap(self):
        p = draw(3, 4, 2, 5).requires_grad_()
        mean, square = position_moments(p)
        torch.testing.assert_close(mean, p.mean((2, 3)))
        torch.testing.assert_close(square, (p**2).mean((2, 3)))
        assert torch.autograd.gradcheck(position_moments, p)
        assert torch.autograd.gradgradcheck(position_moments, p)
        each = torch.func.vmap(lambda v: position_moments(v[None])[1][0])(p)
        torch.testing.assert_close(each, square)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_sums_in_single(self, dtype):
        p = (6 + draw(2, 3, 64, 64)).to(dtype).requires_grad_()
        mean, square = position_moments(p)
        assert mean.dtype == square.dtype == torch.float32
        wide = p.detach().double()
        torch.testing.assert_close(
            square.double(), (wide**2).mean((2, 3)), rtol=1e-4, atol=0
        )
        torch.testing.assert_close(mean.double(), wide.mean((2, 3)), rtol=1e-4, atol=0)
        (mean.sum() + square.sum()).backward()
        assert p.grad.dtype == dtype
        flat = position_moments(p[:, :, 0, 0])
        assert flat[0].dtype == flat[1].dtype == torch.float32

    def test_no_value_at_all_in_a_channel(self):
        p = torch.zeros(2, 3, 4, dtype=F64, requires_grad=True)
        position_moments(p)[1].sum().backward()
        assert torch.equal(p.grad, torch.zeros_like(p))
