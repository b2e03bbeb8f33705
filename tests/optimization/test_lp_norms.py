"""Normalization by any Lp norm: against PyTorch, finite differences, SymPy and itself."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from bnbook.data.images import images
from bnbook.exercises.optimization import (
    lp_norms_backward,
    lp_norms_gain,
    lp_norms_property,
    lp_norms_scale,
    lp_norms_ties,
)
from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.geometry import projector
from bnbook.optimization.dense import BatchNorm
from bnbook.optimization.descent import tensors
from bnbook.optimization.lp_gaussian import (
    absolute_moment,
    gaussian_angle,
    largest_of,
    matching_factor,
    mean_of_top,
)
from bnbook.optimization.lp_norms import (
    LpNorm,
    lp_direction,
    lp_norm,
    lp_norm_backward,
    lp_projection,
    lp_scale,
    obliqueness,
    require_order,
)
from bnbook.optimization.lp_precision import (
    FORMATS,
    LP_PRECISION,
    NarrowLpNorm,
    integer_bits,
    narrow_scale,
    round_to,
    train_narrow,
)
from bnbook.optimization.lp_training import (
    CHECKPOINTS,
    GAMMAS,
    LP_GAMMA,
    LP_NORMS,
    LP_RATES,
    STEPS,
    VARIANTS,
    best_validation,
    largest_good,
    make_network,
    matched_gamma,
    set_row_norms,
    train_at,
)

ORDERS = (1.0, 1.5, 2.0, 3.0, 4.0, math.inf)
orders = st.sampled_from([*ORDERS, 1.01, 7.3, 60.0])
every_case = pytest.mark.parametrize(
    ("p", "centred", "eps"), list(itertools.product(ORDERS, (True, False), (0.0, 0.1)))
)


def draw(shape=(9, 4), seed=0):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=shape) + 0.7, rng.normal(size=shape)
    return x, dy, rng.normal(size=shape[1]), rng.normal(size=shape[1])


def torch_gradient(x, dy, gamma, beta, p, centred, eps):
    norm = LpNorm(x.shape[1], p=p, centred=centred, eps=eps)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(gamma))
        norm.bias.copy_(torch.tensor(beta))
    z = torch.tensor(x, requires_grad=True)
    y = norm(z)
    y.backward(torch.tensor(dy))
    return [v.detach().numpy() for v in (y, z.grad, norm.weight.grad, norm.bias.grad)]


class TestLpNorm:
    @every_case
    def test_forward_and_backward_equal_autograd(self, p, centred, eps):
        x, dy, gamma, beta = draw()
        y, cache = lp_norm(x, gamma, beta, p, centred=centred, eps=eps)
        grads = lp_norm_backward(dy, cache)
        expected = torch_gradient(x, dy, gamma, beta, p, centred, eps)
        for found, value in zip(
            (y, grads.dx, grads.dgamma, grads.dbeta), expected, strict=True
        ):
            np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)

    @every_case
    def test_backward_equals_finite_differences(self, p, centred, eps):
        x, dy, gamma, beta = draw((6, 2), seed=3)
        _, cache = lp_norm(x, gamma, beta, p, centred=centred, eps=eps)
        dx, step = lp_norm_backward(dy, cache).dx, 1e-6
        for where in np.ndindex(*x.shape):
            moved = [x.copy(), x.copy()]
            moved[0][where] += step
            moved[1][where] -= step
            ends = [
                (dy * lp_norm(m, gamma, beta, p, centred=centred, eps=eps)[0]).sum()
                for m in moved
            ]
            assert dx[where] == pytest.approx(
                (ends[0] - ends[1]) / (2 * step), abs=1e-7
            )

    @pytest.mark.parametrize("eps", [1e-9, 0.3])
    def test_order_two_is_batch_normalization(self, eps):
        x, dy, gamma, beta = draw()
        y, cache = lp_norm(x, gamma, beta, 2, eps=eps)
        expected, other = batch_norm(x, gamma, beta, eps=eps)
        np.testing.assert_allclose(y, expected, atol=1e-13)
        np.testing.assert_allclose(
            lp_norm_backward(dy, cache).dx,
            batch_norm_backward(dy, other).dx,
            atol=1e-13,
        )
        z = torch.tensor(x)
        torch.testing.assert_close(LpNorm(4, eps=eps)(z), BatchNorm(4, eps=eps)(z))

    def test_scale_by_hand(self):
        x = np.array([[0.0], [0.0], [3.0], [-5.0]])
        for p, value in ((1, 2), (2, 34**0.5 / 2), (math.inf, 5)):
            assert lp_scale(x, p, centred=False)[0] == pytest.approx(value)
        assert lp_scale(x, 1)[0] == pytest.approx(9 / 4)  # the mean is −1/2
        assert lp_scale(x, math.inf)[0] == 4.5

    @given(orders, st.booleans(), st.integers(0, 99), st.floats(-60, 60))
    @settings(max_examples=40, deadline=None)
    def test_scale_and_shift_of_the_input_cancel(self, p, centred, seed, power):
        x, dy, gamma, beta = draw((6, 2), seed)
        factor = 2.0**power
        one, cache = lp_norm(x, gamma, beta, p, centred=centred, eps=0.0)
        shift = 5.0 * factor if centred else 0.0
        two, other = lp_norm(
            factor * x + shift, gamma, beta, p, centred=centred, eps=0.0
        )
        np.testing.assert_allclose(two, one, rtol=1e-9, atol=1e-9)
        first, second = (lp_norm_backward(dy, c).dx for c in (cache, other))
        np.testing.assert_allclose(second * factor, first, rtol=1e-7, atol=1e-7)

    @given(orders, st.integers(0, 99), st.floats(0.0, 2.0))
    @settings(max_examples=30, deadline=None)
    def test_the_mean_power_is_one(self, p, seed, eps):
        x, _, gamma, _ = draw((7, 2), seed)
        _, cache = lp_norm(x, gamma, gamma, p, eps=eps)
        if math.isinf(p):
            size = np.maximum(np.abs(cache.z_hat).max(0), math.sqrt(eps) / cache.scale)
        else:
            size = (np.abs(cache.z_hat) ** p).mean(0) + (
                math.sqrt(eps) / cache.scale
            ) ** p
        np.testing.assert_allclose(size, 1, rtol=1e-10)

    def test_large_orders_do_not_overflow_and_reach_the_maximum(self):
        x = draw()[0] * 1e200
        np.testing.assert_allclose(lp_scale(x, 1e6), lp_scale(x, math.inf), rtol=1e-4)
        assert np.isfinite(lp_scale(x * 1e-300, 300.0)).all()

    def test_narrow_dtype_is_kept(self):
        x, dy, gamma, beta = (a.astype(np.float32) for a in draw())
        y, cache = lp_norm(x, gamma, beta, 3)
        assert y.dtype == lp_norm_backward(dy, cache).dx.dtype == np.float32

    def test_bad_input(self):
        x, dy, gamma, beta = draw()
        for p in (0.5, 0, -1, -math.inf, math.nan):
            with pytest.raises(ValueError, match="p must be at least 1"):
                lp_norm(x, gamma, beta, p)
            with pytest.raises(ValueError, match="p must be at least 1"):
                LpNorm(3, p=p)
        for p in ("2", True, None, 1j):
            with pytest.raises(TypeError, match="p must be a real number"):
                require_order(p)
        constant = x.copy()
        constant[:, 2] = 4.0
        with pytest.raises(ValueError, match="feature 2 has equal entries"):
            lp_norm(constant, gamma, beta, 3, eps=0.0)
        assert np.isfinite(lp_norm(constant, gamma, beta, 3)[0]).all()
        with pytest.raises(ValueError, match="feature 1 is 0 in the whole batch"):
            lp_norm(x * [1, 0, 1, 1], gamma, beta, 1, centred=False, eps=0.0)
        with pytest.raises(ValueError, match="scale 0"):
            LpNorm(4, p=1, eps=0.0)(torch.tensor(constant))
        with pytest.raises(ValueError, match="one value per feature"):
            lp_norm(x[:1], gamma, beta, 1)
        with pytest.raises(ValueError, match="empty"):
            lp_norm(x[:0], gamma, beta, 1, centred=False)
        with pytest.raises(ValueError, match=r"\(M, D\)"):
            lp_scale(x[0], 1)
        with pytest.raises(ValueError, match="finite"):
            lp_norm(np.where(x > 1, math.nan, x), gamma, beta, 1)
        with pytest.raises(ValueError, match="gamma must have shape"):
            lp_norm(x, gamma[:2], beta, 1)
        with pytest.raises(TypeError, match="real"):
            lp_norm(x.astype(complex), gamma, beta, 1)
        with pytest.raises(TypeError, match="floating"):
            lp_norm(np.ones((3, 2), dtype=int), gamma, beta, 1)
        with pytest.raises(ValueError, match="eps"):
            lp_norm(x, gamma, beta, 1, eps=-1.0)
        with pytest.raises(ValueError, match="dy must have shape"):
            lp_norm_backward(dy[:3], lp_norm(x, gamma, beta, 1)[1])
        with pytest.raises(ValueError, match="one feature"):
            lp_projection(x, 1)


class TestTies:
    def test_equal_shares_at_the_maximum(self):
        c = np.array([[2.0], [-2.0], [1.0], [2.0]])
        v = lp_direction(c / 2, math.inf)[:, 0]
        np.testing.assert_allclose(v, np.array([1, -1, 0, 1]) * 4 / 3)
        late = lp_direction(c / lp_scale(c, 5000.0, centred=False), 5000.0)[:, 0]
        np.testing.assert_allclose(late, v, rtol=1e-2)  # the limit p → ∞

    def test_zero_at_order_one(self):
        c = np.array([[1.0], [0.0], [-3.0]])
        np.testing.assert_array_equal(lp_direction(c, 1)[:, 0], [1, 0, -1])

    @pytest.mark.parametrize("p", [1.0, math.inf])
    @pytest.mark.parametrize("centred", [True, False])
    def test_ties_follow_pytorch(self, p, centred):
        x = np.array([[3.0], [-3.0], [0.0], [1.0], [-1.0], [0.0]])
        dy = np.arange(1.0, 7.0)[:, None] ** 2
        one = np.ones(1)
        _, cache = lp_norm(x, one, one, p, centred=centred, eps=0.0)
        expected = torch_gradient(x, dy, one, one, p, centred, 0.0)[1]
        np.testing.assert_allclose(lp_norm_backward(dy, cache).dx, expected, atol=1e-14)

    def test_a_large_eps_takes_the_maximum_over(self):
        x, _, gamma, beta = draw()
        _, cache = lp_norm(x, gamma, beta, math.inf, eps=100.0)
        assert (cache.scale == 10).all() and (cache.v == 0).all()


class TestProjection:
    @given(orders, st.booleans(), st.integers(0, 99))
    @settings(max_examples=40, deadline=None)
    def test_is_a_projection_with_the_jacobian_of_autograd(self, p, centred, seed):
        x = np.random.default_rng(seed).normal(size=7) + 1
        found = lp_projection(x, p, centred=centred)
        norm = LpNorm(1, p=p, centred=centred, eps=0.0)
        jacobian = torch.autograd.functional.jacobian(
            lambda z: norm(z[:, None])[:, 0], torch.tensor(x)
        )
        scale = lp_scale(x[:, None], p, centred=centred)[0]
        np.testing.assert_allclose(found, scale * jacobian.numpy(), atol=1e-10)
        size = np.abs(found).max()
        np.testing.assert_allclose(found @ found, found, atol=1e-12 * size**2)
        rank = 5 if centred else 6
        assert np.trace(found) == pytest.approx(rank)
        assert np.linalg.matrix_rank(found, tol=1e-8) == rank

    @pytest.mark.parametrize("centred", [True, False])
    def test_symmetric_for_order_two_only(self, centred):
        x = draw()[0][:, 0]
        for p in ORDERS:
            found = lp_projection(x, p, centred=centred)
            gap = np.abs(found - found.T).max()
            assert gap < 1e-14 if p == 2 else gap > 0.01
        if centred:
            z_hat = (x - x.mean()) / x.std()
            np.testing.assert_allclose(
                lp_projection(x, 2.0), projector(z_hat), atol=1e-14
            )

    @given(orders, st.booleans(), st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_the_largest_gain_is_one_over_the_cosine(self, p, centred, seed):
        x = np.random.default_rng(seed).normal(size=8) + 0.3
        found = lp_projection(x, p, centred=centred)
        gain = 1 / math.cos(obliqueness(x, p, centred=centred))
        assert np.linalg.norm(found, 2) == pytest.approx(gain, rel=1e-8)
        rank = 6 if centred else 7
        assert (found**2).sum() == pytest.approx(rank - 1 + gain**2, rel=1e-8)

    @pytest.mark.parametrize("p", ORDERS)
    def test_batches_of_two_values_have_no_angle(self, p):
        x = np.array([1.0, 1.0, 4.0, 1.0, 4.0])
        assert obliqueness(x, p) == pytest.approx(0, abs=1e-12)

    def test_eps_lets_a_share_through(self):
        x = draw()[0][:, 0]
        for p in (1.0, 2.0, 3.0):
            one = np.ones(1)
            _, cache = lp_norm(x[:, None], one, one, p, eps=0.2)
            z_hat = cache.z_hat[:, 0]
            share = (0.2**0.5 / cache.scale[0]) ** p
            np.testing.assert_allclose(
                lp_projection(x, p, eps=0.2) @ z_hat, share * z_hat, atol=1e-13
            )


class TestModule:
    @pytest.mark.parametrize("p", ORDERS)
    @pytest.mark.parametrize("centred", [True, False])
    def test_first_and_second_derivatives(self, p, centred):
        norm = LpNorm(2, p=p, centred=centred)
        z = torch.tensor(draw((5, 2), seed=4)[0], requires_grad=True)
        assert gradcheck(norm, (z,))
        assert gradgradcheck(norm, (z,))

    @pytest.mark.parametrize("p", ORDERS)
    @pytest.mark.parametrize("centred", [True, False])
    def test_evaluation_on_the_fitted_batch_equals_training(self, p, centred):
        norm, z = LpNorm(4, p=p, centred=centred), torch.tensor(draw()[0])
        expected = norm(z)
        norm.fit(z)
        torch.testing.assert_close(norm.eval()(z), expected)
        assert not torch.allclose(norm(z[:3]), norm.train()(z[:3]))

    def test_starting_gamma(self):
        z = torch.tensor(draw()[0])
        torch.testing.assert_close(LpNorm(4, p=1, gamma=0.5)(z), LpNorm(4, p=1)(z) / 2)


class TestGaussian:
    def test_moments(self):
        for p, value in ((0, 1), (1, math.sqrt(2 / math.pi)), (2, 1), (4, 3), (6, 15)):
            assert absolute_moment(p) == pytest.approx(value)
        assert matching_factor(1) == pytest.approx(math.sqrt(math.pi / 2))
        assert matching_factor(2) == pytest.approx(1)

    def test_against_draws(self):
        x = np.random.default_rng(0).normal(size=(400, 250))
        found = np.abs(x).max(axis=1)
        error = found.std() / 20
        assert abs(found.mean() - largest_of(250)) < 4 * error
        assert largest_of(1) == pytest.approx(math.sqrt(2 / math.pi))
        x = x.ravel()
        for p in (1.0, 1.5, 2.0, 3.0):
            scale = lp_scale(x[:, None], p)[0] * matching_factor(p)
            assert scale == pytest.approx(1, rel=0.01)
            assert obliqueness(x, p) == pytest.approx(gaussian_angle(p), abs=0.02)
        for share in (0.02, 0.3, 1.0):
            top = np.sort(np.abs(x))[-int(share * len(x)) :].mean()
            assert top == pytest.approx(mean_of_top(share), rel=0.01)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="finite"):
            absolute_moment(math.inf)
        with pytest.raises(ValueError, match="at least 1"):
            matching_factor(0.5)
        with pytest.raises(ValueError, match="examples"):
            largest_of(0)
        with pytest.raises(ValueError, match="share"):
            mean_of_top(0.0)


class TestPrecision:
    def test_formats(self):
        np.testing.assert_array_equal(
            round_to(np.array([1 + 2.0**-11, 65504.0, 1e5, 2.0**-26]), "float16"),
            [1, 65504, math.inf, 0],
        )
        assert round_to(np.array(1 + 2.0**-8), "bfloat16") == 1
        with pytest.raises(ValueError, match="unknown format"):
            round_to(np.ones(2), "float8")

    @pytest.mark.parametrize("accumulator", ["wide", "same"])
    def test_float64_rounds_nothing(self, accumulator):
        c = draw()[0][:, 0]
        for p in (1.0, 2.0, math.inf):
            found = narrow_scale(c, p, "float64", accumulator=accumulator)
            expected = lp_scale(c[:, None], p, centred=False)[0]
            assert found == pytest.approx(expected, rel=1e-14)

    def test_where_squares_leave_float16(self):
        c = np.random.default_rng(0).normal(size=256)
        for power in (9, -14):
            small = c * 2.0**power
            assert narrow_scale(small, 2, "float16") in (0.0, math.inf)
            for p in (1.0, math.inf):
                expected = lp_scale(small[:, None], p, centred=False)[0]
                assert narrow_scale(small, p, "float16") == pytest.approx(
                    expected, rel=1e-3
                )

    def test_sums_stall_in_a_narrow_accumulator(self):
        ones = np.ones(1000)
        assert narrow_scale(ones, 1, "bfloat16", accumulator="same") < 0.3
        assert narrow_scale(ones, 1, "bfloat16") == 1
        assert narrow_scale(ones, math.inf, "bfloat16", accumulator="same") == 1

    @given(st.integers(1, 12), st.integers(1, 300))
    @settings(max_examples=30, deadline=None)
    def test_integer_bits(self, bits, examples):
        largest = 2**bits - 1
        for p, total in (
            (1, examples * largest),
            (2, examples * largest**2),
            (math.inf, largest),
        ):
            needed = integer_bits(bits, examples, p)
            assert 2 ** (needed - 1) <= total < 2**needed

    @pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
    def test_module_in_float64_is_lp_norm(self, p):
        z = torch.tensor(draw()[0], requires_grad=True)
        dy = torch.tensor(draw()[1])
        grads = []
        for norm in (NarrowLpNorm(4, p=p, name="float64"), LpNorm(4, p=p, eps=0.0)):
            grads.append(torch.autograd.grad((norm(z) * dy).sum(), z)[0])
        torch.testing.assert_close(*grads)
        narrow = NarrowLpNorm(4, p=p, name="float16")
        grad = torch.autograd.grad((narrow(z) * dy).sum(), z)[0]
        torch.testing.assert_close(grad, grads[1], rtol=0.02, atol=0.02)
        assert not torch.equal(grad, grads[1])

    def test_factor_changes_nothing_in_float64(self):
        rows = [train_narrow("digits", "L1", "float64", f, 3) for f in (1.0, 2.0**10)]
        assert rows[0] == rows[1]

    def test_bad_input(self):
        c = np.ones(4)
        for p in (3, 1.5):
            with pytest.raises(ValueError, match="p must be 1, 2 or ∞"):
                narrow_scale(c, p, "float16")
            with pytest.raises(ValueError, match="p must be 1, 2 or ∞"):
                NarrowLpNorm(2, p=p, name="float16")
        with pytest.raises(ValueError, match="accumulator"):
            narrow_scale(c, 1, "float16", accumulator="none")
        with pytest.raises(ValueError, match="one feature"):
            narrow_scale(c[:, None], 1, "float16")
        with pytest.raises(ValueError, match="bits"):
            integer_bits(0, 3, 1)
        with pytest.raises(ValueError, match="unknown norm"):
            train_narrow("digits", "L3", "float16", 1.0, 0)


@pytest.fixture(scope="module")
def data():
    return tensors(images("digits", seed=0).standardized().train)


class TestTraining:
    def test_variants(self, data):
        networks = [make_network(v, 64, 10, 1) for v in VARIANTS]
        assert len(networks) == 9 and not networks[-1].normalized
        first = networks[0].linears[0].weight
        assert all(torch.equal(n.linears[0].weight, first) for n in networks)
        scores = [n(data[0]) for n in networks]
        for a, b in itertools.combinations(scores, 2):
            assert not torch.allclose(a, b)
        with pytest.raises(ValueError, match="unknown variant"):
            make_network("L4", 64, 10, 0)

    @pytest.mark.parametrize("variant", ["L1 centred", "L∞ uncentred"])
    def test_row_norms_leave_the_function(self, data, variant):
        network = make_network(variant, 64, 10, 0)
        with torch.no_grad():
            for linear in network.linears:
                linear.bias.normal_(generator=torch.manual_seed(0))
        for norm in network.norms:
            norm.eps = 0.0
        before = network(data[0])
        set_row_norms(network, 3.0)
        torch.testing.assert_close(network(data[0]), before)
        weight, bias = network.linears[1].weight, network.linears[1].bias
        lengths = (weight.square().sum(1) + bias.square()).sqrt()
        torch.testing.assert_close(lengths, torch.full_like(lengths, 3.0))
        with pytest.raises(ValueError, match="would change"):
            set_row_norms(make_network("none", 64, 10, 0))
        with pytest.raises(ValueError, match="positive"):
            set_row_norms(network, 0.0)

    @pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "none"])
    def test_matched_gamma_makes_outputs_equally_large(self, variant):
        z = torch.tensor(np.random.default_rng(0).normal(size=(1000, 50)))
        norm = VARIANTS[variant](50)
        torch.nn.init.constant_(norm.weight, matched_gamma(variant, 1000))
        assert norm(z).square().mean().item() == pytest.approx(1, rel=0.03)

    def test_matched_gamma_of_no_norm(self):
        for variant in ("none", "L4 centred", "L2"):
            with pytest.raises(ValueError, match="is no normalization; use one of L1"):
                matched_gamma(variant, 10)
        with pytest.raises(ValueError, match="examples"):
            matched_gamma("L∞ centred", 0)

    def test_choices(self):
        sweep = pd.DataFrame(
            {
                "variant": "none",
                "rate": [1.0, 1.0, 2.0, 2.0, 4.0, 4.0],
                "seed": [0, 1] * 3,
                "validation": [0.8, 0.9, 0.9, 0.95, math.nan, 0.76],
            }
        )
        assert largest_good(sweep, "none").tolist() == [2.0, 4.0]
        rate, found = best_validation(sweep, "none")
        assert rate == 2.0 and found.tolist() == [0.9, 0.95]
        for choose in (largest_good, best_validation):
            with pytest.raises(ValueError, match="no run"):
                choose(sweep, "L1 centred")
        with pytest.raises(ValueError, match="no rate"):
            largest_good(sweep, "none", good=0.93)

    def test_experiments(self):
        assert not LP_RATES.missing()
        assert not LP_NORMS.missing()
        assert not LP_GAMMA.missing()
        assert not LP_PRECISION.missing()
        assert CHECKPOINTS[-1] == STEPS
        row = train_at("digits", "none", 0.32, 0)
        assert set(row) == {"loss", "validation"} and row["validation"] > 0.8
        assert set(FORMATS) == {"float16", "bfloat16", "float64"}

    def test_the_starting_gamma_matters(self):
        one, matched = (
            train_at("digits", "L∞ uncentred", 0.56, 5, gamma) for gamma in GAMMAS
        )
        assert matched["loss"] < one["loss"] / 2
        same = [train_at("digits", "L2 uncentred", 0.32, 5, g)["loss"] for g in GAMMAS]
        assert same[0] == pytest.approx(same[1], rel=1e-6)
        with pytest.raises(ValueError, match="unknown gamma 'two'"):
            train_at("digits", "L1 centred", 0.32, 5, "two")
        with pytest.raises(ValueError, match="is no normalization"):
            train_at("digits", "none", 0.32, 5, "matched")


class TestExercises:
    def test_scale(self):
        x = draw()[0]
        for p in ORDERS:
            np.testing.assert_allclose(
                lp_norms_scale.order_scale(x, p), lp_scale(x, p), rtol=1e-13
            )

    def test_backward(self):
        x, dy, gamma, beta = draw()
        for p in (1.5, 2.0, 3.0, 4.0):
            _, cache = lp_norm(x, gamma, beta, p, eps=0.0)
            expected = lp_norm_backward(dy, cache).dx
            for d in range(x.shape[1]):
                found = lp_norms_backward.order_backward(dy[:, d], x[:, d], gamma[d], p)
                np.testing.assert_allclose(found, expected[:, d], atol=1e-13)

    def test_ties(self):
        c = np.array([1.0, -4.0, 4.0, 2.0])
        expected = lp_direction(c / 4, math.inf) / 4
        np.testing.assert_allclose(lp_norms_ties.largest_gradient(c), expected)

    def test_gain(self):
        x = draw()[0][:, 0]
        for p in (1.5, 3.0, 4.0):
            assert lp_norms_gain.oblique_gain(x, p) == pytest.approx(
                1 / math.cos(obliqueness(x, p))
            )

    def test_property(self):
        def ours(x, p):
            one = np.ones(x.shape[1])
            return lp_norm(x, one, 0 * one, p, eps=0.0)[0]

        lp_norms_property.test_order_normalization(ours)

        def wrong(x, p):
            one = np.ones(x.shape[1])
            return lp_norm(x, one, 0 * one, p)[0]  # with an ε

        with pytest.raises(AssertionError):
            lp_norms_property.test_order_normalization(wrong)


def test_cache_is_frozen():
    x, _, gamma, beta = draw()
    cache = lp_norm(x, gamma, beta, 2)[1]
    assert replace(cache, centred=False).centred is False
    with pytest.raises(AttributeError):
        cache.scale = None
