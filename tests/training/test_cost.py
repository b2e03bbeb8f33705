"""What batch normalization costs: the fast functions equal the readable ones, and the counts."""

import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.training import blocks, cost, cost_results, ladder, timing
from bnbook.training.cost import D, M
from bnbook.training.fast_batch_norm import fast_batch_norm, fast_batch_norm_backward
from bnbook.training.fast_network import FastStep, fold, predictor
from bnbook.training.network import Network, training_step
from bnbook.training.sgd import SGD

UNIT = 2.0**-24  # unit roundoff of float32
BOUND = 32  # units, relative to the largest entry


def batch(rows, columns, dtype=np.float64, *, mean=0.5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, rng.uniform(0.5, 2.0, columns), size=(rows, columns))
    others = rng.normal(size=(2, columns)), rng.normal(size=(rows, columns))
    return [v.astype(dtype) for v in (x, *others[0], others[1])]


def reference(x, gamma, beta, dy, eps=1e-5):
    """y, dx, dgamma and dbeta by the readable functions, in float64."""
    y, cache = batch_norm(*(v.astype(float) for v in (x, gamma, beta)), eps=eps)
    grads = batch_norm_backward(dy.astype(float), cache)
    return y, grads.dx, grads.dgamma, grads.dbeta


def fast(x, gamma, beta, dy, eps=1e-5, **options):
    y, cache = fast_batch_norm(x, gamma, beta, eps=eps, **options)
    grads = fast_batch_norm_backward(dy, cache, **options)
    return y, grads.dx, grads.dgamma, grads.dbeta


def error(got, expected):
    """Largest deviation of each result, relative to its largest entry."""
    return max(
        np.abs(g - e).max() / max(np.abs(e).max(), 1e-300)
        for g, e in zip(got, expected, strict=True)
    )


class TestFastBatchNorm:
    @pytest.mark.parametrize("shape", [(2, 1), (7, 4), (64, 33), (1000, 70), (37, 999)])
    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("mean", [0.0, 1.5, 1e4])
    def test_float64_equals_the_readable_functions(self, shape, threads, mean):
        arrays = batch(*shape, mean=mean)
        # The input carries a relative error of its own: κ units, with κ = mean/σ.
        bound = 1e-12 * max(1.0, mean / 100)
        assert (
            error(fast(*arrays, eps=1e-3, threads=threads), reference(*arrays, 1e-3))
            < bound
        )

    @pytest.mark.parametrize("mean", [0.0, 1.0, 10.0, 1e3, 1e4, -1e5])
    def test_float32_is_within_a_few_roundings_of_float64(self, mean):
        arrays = batch(1024, 60, np.float32, mean=mean)
        assert error(fast(*arrays), reference(*arrays)) < BOUND * UNIT

    def test_pytorch_loses_the_digits_that_this_keeps(self):
        x, gamma, beta, _ = batch(1024, 20, np.float32, mean=1e4)
        exact = reference(x, gamma, beta, x)[0]
        theirs = torch.nn.functional.batch_norm(
            torch.tensor(x),
            None,
            None,
            torch.tensor(gamma),
            torch.tensor(beta),
            training=True,
        ).numpy()
        mine = fast_batch_norm(x, gamma, beta)[0]
        assert error([mine], [exact]) < BOUND * UNIT
        assert error([theirs], [exact]) > 100 * UNIT

    def test_gradients_are_those_of_pytorch(self):
        x, gamma, beta, dy = batch(19, 6)
        tensors = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
        y = torch.nn.functional.batch_norm(
            tensors[0], None, None, *tensors[1:], training=True, eps=0.1
        )
        y.backward(torch.tensor(dy))
        expected = [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]
        assert error(fast(x, gamma, beta, dy, eps=0.1), expected) < 1e-12

    def test_gradient_is_that_of_finite_differences(self):
        x, gamma, beta, dy = batch(6, 3)
        dx = fast(x, gamma, beta, dy)[1]
        for index in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[index] = 1e-6
            up, down = (fast_batch_norm(x + s * step, gamma, beta)[0] for s in (1, -1))
            assert abs(((up - down) * dy).sum() / 2e-6 - dx[index]) < 1e-7

    @given(
        rows=st.integers(2, 90),
        columns=st.integers(1, 40),
        mean=st.sampled_from([0.0, 1.0, -30.0, 1e6]),
        threads=st.integers(1, 4),
        tile=st.sampled_from([8, 64, 512]),
        seed=st.integers(0, 2**16),
    )
    @settings(max_examples=60, deadline=None)
    def test_blocks_and_threads_change_nothing(
        self, rows, columns, mean, threads, tile, seed
    ):
        arrays = batch(rows, columns, mean=mean, seed=seed)
        expected = reference(*arrays, 1e-2)
        before = blocks.BLOCK_BYTES, blocks.SHARED_BLOCK_BYTES, blocks.TILE_BYTES
        try:
            blocks.BLOCK_BYTES = blocks.SHARED_BLOCK_BYTES = 4 * tile
            blocks.TILE_BYTES = tile
            blocks.plan.cache_clear()
            got = fast(*arrays, eps=1e-2, threads=threads)
        finally:
            blocks.BLOCK_BYTES, blocks.SHARED_BLOCK_BYTES, blocks.TILE_BYTES = before
            blocks.plan.cache_clear()
        bound = 1e-8 if mean == 1e6 else 1e-11
        # Of two examples hardly any gradient is left: judge dx by the terms that cancel.
        x, gamma, _, dy = arrays
        terms = np.abs(gamma * dy / np.sqrt(x.var(axis=0) + 1e-2)).max()
        assert np.abs(got[1] - expected[1]).max() < bound * terms
        others = [[v for i, v in enumerate(each) if i != 1] for each in (got, expected)]
        assert error(*others) < bound

    def test_shift_is_taken_only_where_it_is_needed(self):
        x, gamma, beta, _ = batch(50, 3)
        assert fast_batch_norm(x, gamma, beta)[1].shift is None
        x[:, 1] += 1e4
        assert fast_batch_norm(x, gamma, beta)[1].shift is not None

    @pytest.mark.parametrize(("mean", "shifted"), [(1.9, False), (2.1, True)])
    def test_shift_is_taken_from_two_deviations_on(self, mean, shifted):
        x = np.tile([[mean - 1], [mean + 1]], (8, 3))
        cache = fast_batch_norm(x, np.ones(3), np.zeros(3))[1]
        assert (cache.shift is not None) == shifted

    @pytest.mark.parametrize("value", [0.0, 3.7, -1e6])
    def test_constant_feature(self, value):
        x, gamma, beta, dy = batch(40, 3, np.float32)
        x[:, 1] = value
        y, dx, dgamma, _ = fast(x, gamma, beta, dy)
        np.testing.assert_allclose(y[:, 1], beta[1], rtol=1e-6)
        assert np.isfinite(dx).all()
        assert abs(dgamma[1]) < 1e-4

    def test_statistics_are_those_of_the_batch(self):
        x, gamma, beta, _ = batch(30, 4, mean=70.0)
        statistics = fast_batch_norm(x, gamma, beta)[1].statistics
        np.testing.assert_allclose(statistics.mean[0], x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(statistics.var[0], x.var(axis=0), rtol=1e-10)
        assert statistics.count == 30

    def test_relu_is_part_of_both_passes(self):
        x, gamma, beta, da = batch(33, 5)
        y = reference(x, gamma, beta, da)[0]
        a, cache = fast_batch_norm(x, gamma, beta, relu=True)
        np.testing.assert_allclose(a, np.maximum(y, 0), atol=1e-12)
        expected = reference(x, gamma, beta, da * (y > 0))[1:]
        for out in (None, da.copy()):
            upstream = da if out is None else out
            grads = fast_batch_norm_backward(upstream, cache, out=out, relu_output=a)
            assert error((grads.dx, grads.dgamma, grads.dbeta), expected) < 1e-12

    def test_nothing_is_modified_but_out(self):
        arrays = batch(40, 6, mean=20.0)
        before = [v.copy() for v in arrays]
        out = np.empty_like(arrays[0])
        y, cache = fast_batch_norm(*arrays[:3], out=out)
        assert y is out
        assert fast_batch_norm_backward(arrays[3], cache, out=out).dx is out
        fast_batch_norm_backward(arrays[3], cache, relu_output=np.maximum(y, 0))
        for after, old in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(after, old)

    def test_an_array_in_another_order_is_copied(self):
        x, gamma, beta, dy = batch(12, 5)
        expected = fast(x, gamma, beta, dy)
        assert error(fast(np.asfortranarray(x), gamma, beta, dy), expected) < 1e-15
        assert error(fast(x, gamma, beta, np.asfortranarray(dy)), expected) < 1e-15


class TestBadInput:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("index", [(0, 0), (11, 3)])
    def test_what_is_not_finite_is_named(self, bad, index):
        x, gamma, beta, dy = batch(12, 4)
        _, cache = fast_batch_norm(x, gamma, beta)
        broken = x.copy()
        broken[index] = bad
        with pytest.raises(ValueError, match=rf"x must be finite, got .* at .*{index}"):
            fast_batch_norm(broken, gamma, beta)
        broken = dy.copy()
        broken[index] = bad
        with pytest.raises(ValueError, match=r"dy must be finite"):
            fast_batch_norm_backward(broken, cache)

    def test_opposite_infinities_do_not_cancel(self):
        x, gamma, beta, _ = batch(12, 4)
        x[0, 1], x[1, 1] = np.inf, -np.inf
        with pytest.raises(ValueError, match="x must be finite"):
            fast_batch_norm(x, gamma, beta)

    @pytest.mark.parametrize(
        ("change", "error_type", "words"),
        [
            (lambda a: {"x": a[0].astype(int)}, TypeError, "float32 or float64"),
            (lambda a: {"x": a[0].astype(np.float16)}, TypeError, "batch_norm"),
            (lambda a: {"x": a[0] + 0j}, TypeError, "float32 or float64"),
            (lambda a: {"x": a[0].tolist()}, TypeError, "NumPy array"),
            (lambda a: {"x": a[0][0]}, ValueError, r"shape \(M, D\)"),
            (lambda a: {"x": a[0][:0]}, ValueError, r"shape \(M, D\)"),
            (lambda a: {"x": a[0][:1]}, ValueError, "one value per feature"),
            (lambda a: {"gamma": a[1][:2]}, ValueError, "gamma must have shape"),
            (lambda a: {"beta": a[2][None]}, ValueError, "beta must have shape"),
            (lambda a: {"beta": a[2].astype(np.float32)}, TypeError, "dtype of x"),
            (lambda a: {"gamma": a[1] * np.nan}, ValueError, "gamma must be finite"),
            (lambda a: {"eps": -1.0}, ValueError, "eps"),
            (lambda a: {"threads": 0}, ValueError, "threads"),
            (lambda a: {"threads": 1.5}, TypeError, "threads"),
            (lambda a: {"out": a[0]}, ValueError, "shares no memory"),
            (lambda a: {"out": np.empty((3, 3))}, ValueError, "out must be"),
        ],
    )
    def test_forward(self, change, error_type, words):
        arrays = batch(12, 4)
        given_ = dict(zip(("x", "gamma", "beta"), arrays, strict=False))
        with pytest.raises(error_type, match=words):
            fast_batch_norm(**(given_ | change(arrays)))

    def test_backward(self):
        x, gamma, beta, dy = batch(12, 4)
        _, cache = fast_batch_norm(x, gamma, beta)
        with pytest.raises(ValueError, match="dy must have shape"):
            fast_batch_norm_backward(dy[:5], cache)
        with pytest.raises(TypeError, match="dtype of x"):
            fast_batch_norm_backward(dy.astype(np.float32), cache)
        with pytest.raises(ValueError, match="shares no memory"):
            fast_batch_norm_backward(dy, cache, out=x)
        with pytest.raises(ValueError, match="relu_output must have shape"):
            fast_batch_norm_backward(dy, cache, relu_output=dy[:3])

    def test_overflow_and_no_variance(self):
        x, gamma, beta, _ = batch(12, 4, np.float32)
        with pytest.raises(ValueError, match="too large to square"):
            fast_batch_norm(x * np.float32(1e25), gamma, beta)
        with pytest.raises(ValueError, match="y overflows"):
            fast_batch_norm(x, np.full_like(gamma, 3e38), beta)
        x[:, 2] = 4.0
        with pytest.raises(ValueError, match=r"feature \(2,\) has no variance"):
            fast_batch_norm(x, gamma, beta, eps=0.0)


@pytest.mark.parametrize("rows", [1, 2, 31, 1024, 5000])
@pytest.mark.parametrize("columns", [1, 28, 1000, 70_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_plan_covers_every_row_once(rows, columns, threads):
    cut = blocks.plan(rows, columns, 4, threads)
    seen = [row for start, stop, _ in cut.blocks for row in range(start, stop)]
    assert seen == list(range(rows))
    assert all((stop - start) % tile == 0 for start, stop, tile in cut.blocks)
    assert cut.largest == max(stop - start for start, stop, _ in cut.blocks)
    assert len(cut.blocks) >= min(threads, rows)


def test_aligned_arrays_share_no_line():
    arrays = blocks.aligned([(3, 5), (1, 1), (7,)], np.float32)
    assert [a.shape for a in arrays] == [(3, 5), (1, 1), (7,)]
    assert all(a.ctypes.data % 64 == 0 and a.dtype == np.float32 for a in arrays)
    for value, array in enumerate(arrays):
        array[:] = value
    assert [set(a.ravel()) for a in arrays] == [{0}, {1}, {2}]


SIZES = (7, 12, 9, 1)


def pair(batch_norm_, sizes=SIZES, **options):
    return [
        Network(sizes, batch_norm=batch_norm_, seed=3, dtype=np.float64, **options)
        for _ in range(2)
    ]


def examples(sizes=SIZES, rows=21, seed=1):
    rng = np.random.default_rng(seed)
    classes = max(sizes[-1], 2)
    return rng.normal(size=(rows, sizes[0])), rng.integers(0, classes, rows)


@pytest.mark.parametrize("batch_norm_", [False, True])
class TestFastNetwork:
    @pytest.mark.parametrize(
        ("sizes", "loss"), [(SIZES, "logistic"), ((7, 5, 5, 5, 3), "softmax")]
    )
    @pytest.mark.parametrize("l2", [0.0, 0.3])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_steps_equal_those_of_the_readable_network(
        self, batch_norm_, sizes, loss, l2, threads
    ):
        slow, quick = pair(batch_norm_, sizes, loss=loss)
        step, optimizer = FastStep(quick, 21, threads=threads), SGD(0.2)
        for seed in range(6):
            x, t = examples(sizes, seed=seed)
            expected = training_step(slow, optimizer, x, t, l2=l2)
            assert abs(step(x, t, learning_rate=0.2, l2=l2) - expected) < 1e-12
        for name, value in slow.parameters.items():
            np.testing.assert_allclose(quick.parameters[name], value, atol=1e-12)
        for one, other in zip(slow.running, quick.running, strict=True):
            np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
            np.testing.assert_allclose(one.var, other.var, atol=1e-12)
        predicted = predictor(quick, 21, threads=threads)(x)
        np.testing.assert_allclose(predicted, slow.predict(x), atol=1e-11)

    def test_a_failed_step_changes_nothing(self, batch_norm_):
        network = pair(batch_norm_)[0]
        network.parameters["W3"][:] = np.inf
        before = network.state()
        x, t = examples()
        with pytest.raises(FloatingPointError, match="not finite"):
            FastStep(network, 21)(x, t, learning_rate=0.1)
        for name, value in before.parameters.items():
            np.testing.assert_array_equal(network.parameters[name], value)
        assert all(running.count == 0 for running in network.running)

    def test_bad_input(self, batch_norm_):
        network = pair(batch_norm_)[0]
        x, t = examples()
        with pytest.raises(ValueError, match="of 20 rows"):
            FastStep(network, 20)(x, t, learning_rate=0.1)
        with pytest.raises(ValueError, match="float64 array"):
            FastStep(network, 21)(x.astype(np.float32), t, learning_rate=0.1)
        with pytest.raises(ValueError, match="batch_size"):
            FastStep(network, 0)
        with pytest.raises(TypeError, match="float32 or float64"):
            FastStep(network.astype(complex), 21)

    def test_memory_is_one_activation_a_layer_more(self, batch_norm_):
        if not batch_norm_:
            return
        sizes, rows, peaks = (20, 300, 300, 300, 300, 1), 4096, []
        x, t = examples(sizes, rows)
        for kind in (False, True):
            network = pair(kind, sizes)[0]
            tracemalloc.start()
            step = FastStep(network, rows)
            step(x, t, learning_rate=0.1)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert len(step.z) == 4 * kind
        extra = (peaks[1] - peaks[0]) / (8 * rows * sum(sizes[1:-1]))
        assert 1.0 <= extra < 1.1


class TestFolding:
    def test_predicts_the_same(self):
        network = pair(True)[0]
        x, t = examples()
        for _ in range(4):
            training_step(network, SGD(0.3), x, t)
        folded = fold(network)
        assert not folded.batch_norm
        np.testing.assert_allclose(folded.predict(x), network.predict(x), atol=1e-12)
        np.testing.assert_allclose(
            predictor(folded, 21)(x), network.predict(x), atol=1e-12
        )

    def test_keeps_a_bias_before_the_norm(self):
        network = pair(True, bias_before_norm=True)[0]
        x, t = examples()
        training_step(network, SGD(0.3), x, t)
        network.parameters["b1"] += 1.5
        np.testing.assert_allclose(
            fold(network).predict(x), network.predict(x), atol=1e-12
        )
        with pytest.raises(ValueError, match="bias_before_norm=False"):
            FastStep(network, 21)

    def test_needs_a_norm_that_has_seen_a_batch(self):
        with pytest.raises(ValueError, match="no batch normalization"):
            fold(pair(False)[0])
        with pytest.raises(ValueError, match="batch"):
            fold(pair(True)[0])


class TestLadder:
    @pytest.mark.parametrize("step", ladder.STEPS, ids=lambda step: step.__name__)
    def test_every_step_gives_the_gradient(self, step):
        x, gamma, beta, dy = batch(40, 7)
        before = [v.copy() for v in (x, dy)]
        got = step(x, gamma, beta, dy, (np.empty_like(x), np.empty_like(x)))
        for after, old in zip((x, dy), before, strict=True):
            np.testing.assert_array_equal(after, old)
        np.testing.assert_allclose(got, reference(x, gamma, beta, dy)[1], atol=1e-12)


class TestCounts:
    def test_formulas_are_those_of_the_book(self):
        x, gamma, beta, dy = batch(9, 4)
        y, cache = batch_norm(x, gamma, beta, eps=0.1)
        np.testing.assert_allclose(
            cost.forward_formula(x, gamma, beta, 0.1), y, atol=1e-13
        )
        dx = cost.backward_formula(dy, cache.z_hat, gamma / cache.std[0], 9)
        np.testing.assert_allclose(dx, batch_norm_backward(dy, cache).dx, atol=1e-13)
        mean, var = x.mean(axis=0), x.var(axis=0)
        y = cost.inference_formula(x, mean, var, gamma, beta, 0.1)
        scale = gamma / np.sqrt(var + 0.1)
        np.testing.assert_allclose(
            cost.scale_and_shift(x, scale, beta - scale * mean), y, atol=1e-13
        )

    @pytest.mark.parametrize(
        ("formula", "per_entry"),
        [
            (cost.forward_formula, 7),
            (cost.backward_formula, 7),
            (cost.inference_formula, 4),
            (cost.scale_and_shift, 2),
        ],
    )
    def test_flops_of_an_entry(self, formula, per_entry):
        flops = cost.polynomial(formula, cost.formula_arguments(formula), "flops")
        assert flops.coeff(M * D) == per_entry

    def test_sums_and_operands_are_counted(self):
        x = np.ones((5, 3))
        tally = cost.count(lambda a: np.add.reduce(a, axis=0), x)
        assert (tally.flops, tally.moved) == (12, 18)
        tally = cost.count(lambda a, b: a * b + 1, x, np.ones(3))
        assert (tally.flops, tally.moved) == (30, 15 + 3 + 15 + 15 + 1 + 15)

    def test_an_operand_that_occurs_twice_is_read_once(self):
        x = np.ones((5, 3))
        assert cost.count(lambda a: a * a, x).moved == 15 + 15
        assert cost.count(lambda a, b: a * b, x, x.copy()).moved == 15 + 15 + 15

    def test_another_form_is_refused(self):
        def squared(x):
            return (
                np.add.reduce(x * x, axis=0)[:, None]
                if x.value.shape[0] > 4
                else x + x + x
            )

        with pytest.raises((ValueError, TypeError)):
            cost.polynomial(squared, lambda m, d: (np.ones((m, d)),), "flops")

    def test_matrix_products(self):
        assert cost.matmul_flops((2, 3, 1), 10, training=False) == 2 * 10 * (6 + 3)
        assert cost.matmul_flops((2, 3, 1), 10, training=True) == 20 * (2 * 6 + 3 * 3)


class TestRoofline:
    machine = cost.Machine(flops=100.0, bandwidth=10.0)

    def test_attainable(self):
        assert self.machine.ridge == 10
        np.testing.assert_allclose(
            self.machine.attainable([1.0, 10.0, 50.0]), [10.0, 100.0, 100.0]
        )

    def test_seconds(self):
        assert self.machine.seconds(200, 10) == 2
        assert self.machine.seconds(100, 50) == 5
        with pytest.raises(ValueError, match="negative"):
            self.machine.seconds(-1, 0)

    def test_step(self):
        fast_memory = cost.Machine(flops=1.0, bandwidth=1e30)
        for norm in (False, True):
            found = cost.predicted_step((3, 4, 1), 8, fast_memory, batch_norm=norm)
            assert found == pytest.approx(
                cost.matmul_flops((3, 4, 1), 8, training=True)
            )
        extra = [
            cost.predicted_step((3, 4, 1), 8, self.machine, batch_norm=norm)
            for norm in (False, True)
        ]
        assert extra[1] - extra[0] == pytest.approx(5 * 4 * 8 * 4 / 10)

    def test_step_by_hand(self):
        # 8 × 4 activations, 5 passes without and 10 with a norm; 5 passes over 16 weights.
        slow_memory = cost.Machine(flops=1e30, bandwidth=10.0)
        for norm, traffic in ((False, 4 * (160 + 80)), (True, 4 * (320 + 80))):
            found = cost.predicted_step((3, 4, 1), 8, slow_memory, batch_norm=norm)
            assert found == pytest.approx(traffic / 10)

    def test_passes_by_hand(self):
        # forward: read x; read x, write y. backward: read g, x; read g, x, write dx.
        assert cost.FAST_PASSES == {"forward": 1 + 2, "backward": 2 + 3}
        # forward as fast. backward: read g, a, x, write g; read g, x, write dx.
        assert cost.NORM_PASSES == {"forward": 3, "backward": 4 + 3}
        assert cost.layer_traffic(cost.FAST_PASSES, 2, 3) == 4 * 6 * 8
        assert cost.layer_traffic(cost.FUSED_PASSES, 2, 3) == 4 * 6 * 5


class TestSourceNumbers:
    def test_throughput_and_time(self):
        assert cost.lost_throughput(0.249, 0.387) == pytest.approx(0.356, abs=1e-3)
        assert cost.added_time(0.249, 0.387) == pytest.approx(0.554, abs=1e-3)

    def test_rounding(self):
        ratio, low, high = cost.rounded_ratio(0.387, 0.249, 0.0005)
        assert low < ratio < high
        assert high - low < 0.011
        with pytest.raises(ValueError, match="rounding"):
            cost.rounded_ratio(1.0, 0.0, 0.1)


class TestTimeToALevel:
    def frame(self):
        def run(model, rate, seed, accuracies):
            best = int(np.argmax(accuracies)) + 1
            return [
                {
                    "model": model,
                    "rate": rate,
                    "seed": seed,
                    "outcome": "finished",
                    "epoch": epoch,
                    "validation_accuracy": accuracy,
                    "best_epoch": best,
                }
                | dict.fromkeys(
                    ("train_loss", "train_accuracy", "validation_loss"), 0.5
                )
                | {"test_accuracy": 0.5}
                for epoch, accuracy in enumerate(accuracies, 1)
            ]

        rows = []
        for seed in range(2):
            rows += run("control", 0.1, seed, [0.5, 0.6, 0.6, 0.7])
            rows += run("control", 0.2, seed, [0.5, 0.5, 0.5, 0.5])
            rows += run("bn", 0.3, seed, [0.6, 0.8, 0.8, 0.8] if seed else [0.69] * 4)
        return pd.DataFrame(rows)

    def test_epochs_times_step_time(self):
        found = cost.time_ratios(self.frame(), 1.5)
        assert found.control.tolist() == [4, 4]
        assert found.bn.tolist() == [5, 2]
        assert found.reached.tolist() == [False, True]
        assert found.ratio.tolist() == [5 / 4 * 1.5, 2 / 4 * 1.5]

    def test_bad_ratio(self):
        with pytest.raises(ValueError, match="step_ratio"):
            cost.time_ratios(self.frame(), 0.0)


class TestCommittedResults:
    """A short or disturbed run cannot pass for a measurement."""

    def broken(self, change):
        results = timing.load("cost")
        change(results)
        return results

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda r: r["runs"][0]["step"].update(turns=3), "3 turns"),
            (lambda r: r["runs"][-1]["layer"]["new"].update(turns=14), "14 turns"),
            (lambda r: r["experiments"]["digits"].update(turns=1), "1 turns"),
            (lambda r: r["growth"]["width"].pop(), "growth by width"),
            (lambda r: r["growth"]["depth"][0].update(turns=5), "5 turns"),
            (lambda r: r["runs"][0]["layer"].pop("one"), "implementations"),
            (lambda r: r["runs"].reverse(), "on one thread, then on all"),
            (
                lambda r: r["runs"][-1].update(flops=0.8 * r["runs"][0]["flops"]),
                "products are slower",
            ),
            (
                lambda r: r["runs"][-1]["torch_seconds"].update(
                    median=1.3 * r["runs"][0]["torch_seconds"]["median"]
                ),
                "PyTorch's layer is slower",
            ),
        ],
    )
    def test_is_refused(self, change, words):
        with pytest.raises(ValueError, match=words):
            cost_results.check(self.broken(change))


class TestTiming:
    def test_functions_take_turns(self):
        calls = []
        found = timing.interleaved(
            {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4
        )
        assert {name: len(v) for name, v in found.items()} == {"a": 4, "b": 4}
        assert calls.count("a") == calls.count("b") == 6
        pairs = [set(calls[i : i + 2]) for i in range(0, 12, 2)]
        assert all(each == {"a", "b"} for each in pairs)
        assert timing.ratio(found, "a", "a").median == 1

    def test_a_turn_may_start_with_calls_that_are_not_timed(self):
        calls = []
        functions = {name: (lambda n=name: calls.append(n)) for name in "ab"}
        timing.interleaved(functions, 3, warm_up=0, lead=2)
        assert len(calls) == 3 * 2 * 3
        assert all(len(set(calls[i : i + 3])) == 1 for i in range(0, 18, 3))

    def test_another_clock(self):
        ticks = iter(range(100))
        found = timing.interleaved({"a": lambda: None}, 3, clock=lambda: next(ticks))
        assert found["a"].tolist() == [1, 1, 1]

    def test_spread(self):
        spread = timing.Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
        assert (spread.median, spread.low, spread.high, spread.turns) == (3, 2, 4, 5)
        assert str(spread) == "3.00 (2.00 to 4.00)"
        # Of 21 values the quartiles are the 6th and the 16th: 6 to 15 lie below the median.
        beyond = 1 + 21 + 210 + 1330 + 5985 + 20349  # subsets of at most 5 of 21
        spread = timing.Spread.of(np.arange(21.0))
        assert (spread.low, spread.high) == (5, 15)
        assert spread.coverage == pytest.approx(1 - 2 * beyond / 2**21)
        assert timing.Spread(1.0, 1.0, 1.0, 1).coverage == 0
        for bad in ([], [np.nan]):
            with pytest.raises(ValueError, match="measurements"):
                timing.Spread.of(bad)

    def test_saved_results_come_back_whole(self, tmp_path):
        timing.save("x", {"a": 1}, tmp_path)
        timing.save("x", {"a": 2}, tmp_path)
        assert timing.load("x", tmp_path) == {"a": 2}
        with pytest.raises(TypeError):
            timing.save("x", {"a": object()}, tmp_path)
        assert timing.load("x", tmp_path) == {"a": 2}
        assert [p.name for p in tmp_path.iterdir()] == ["x.json"]

    def test_missing_and_broken_results(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="make bench ARGS=--save"):
            timing.load("x", tmp_path)
        (tmp_path / "x.json").write_text('{"a": ')
        with pytest.raises(ValueError, match="not valid JSON"):
            timing.load("x", tmp_path)
        (tmp_path / "x.json").write_text("[]")
        with pytest.raises(ValueError, match="object"):
            timing.load("x", tmp_path)

    def test_the_machine_has_no_names_or_paths(self):
        text = json.dumps(timing.machine())
        assert "/" not in text.replace("\\", "")
        assert {"processor", "cores", "numpy", "torch"} <= set(timing.machine())


@pytest.fixture(scope="module")
def module():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("training_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestBenchmark:
    """The benchmark measures what it says: the functions that it times agree."""

    def test_layers_agree(self, module):
        functions = module.layers(40, 6, 2)  # compares them all with PyTorch
        steps = {step.__name__ for step in ladder.STEPS}
        assert steps | set(cost_results.ARRAYS) | {"torch"} == set(functions)

    def test_predictions_agree_where_they_should(self, module):
        found = {n: f() for n, f in module.predictions((28, 9, 9, 1), 16, 1).items()}
        np.testing.assert_allclose(found["bn"], found["folded"], rtol=1e-3, atol=1e-4)
        assert not np.allclose(found["bn"], found["control"], atol=1e-2)

    def test_steps_run_for_both_losses(self, module):
        for sizes in ((28, 9, 1), (28, 9, 4)):
            losses = {n: f() for n, f in module.fast_steps(sizes, 16, 1).items()}
            assert set(losses) == {"control", "bn"}
            assert np.isfinite(list(losses.values())).all()

    def test_committed_results_are_complete(self, module, capsys):
        module.report(cost_results.load())
        assert "extra memory of BN in training" in capsys.readouterr().out
