"""`bnbook.foundations.numerics`: exact references, invariants, bounds, properties, and bad input."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnbook.foundations.accuracy import (
    error_grid,
    exact_moments,
    spread_one,
    variance_error,
)
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.numerics import (
    ALGORITHMS,
    Moments,
    error_bound,
    merge_statistics,
    moments,
    unit_roundoff,
    variance_one_pass,
    variance_pairwise,
    variance_shifted,
    variance_two_pass,
    variance_welford,
)

every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
DTYPES = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": torch.bfloat16,
}


def exact(x):
    return np.array([float(exact_moments(column)[1]) for column in x.T])


class TestAlgorithms:
    @every_algorithm
    @pytest.mark.parametrize("shape", [(2,), (7, 4), (3, 2, 5), (65, 1)])
    def test_equals_numpy_and_pytorch_on_gentle_data(self, name, shape):
        x = np.random.default_rng(0).normal(1.0, 2.0, shape)
        computed = ALGORITHMS[name](x)
        assert np.shape(computed) == shape[1:]
        np.testing.assert_allclose(computed, x.var(axis=0), rtol=1e-12)
        np.testing.assert_allclose(
            computed, torch.tensor(x).var(0, correction=0).numpy(), rtol=1e-12
        )

    @every_algorithm
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_stays_in_the_dtype(self, name, dtype):
        x = spread_one(1.0, count=20, features=3, seed=1)
        if dtype == "bfloat16":
            x = torch.tensor(x).to(torch.bfloat16)
        else:
            x = x.astype(DTYPES[dtype])
        computed = ALGORITHMS[name](x)
        assert computed.dtype == x.dtype
        assert variance_error(x, computed).max() < 40 * unit_roundoff(DTYPES[dtype])

    @every_algorithm
    def test_half_precision_is_rounded_after_every_operation(self, name):
        """The same algorithm on an array type that works in float64 and rounds to float16 by hand."""

        class Half:
            ndim = 1

            def __init__(self, values):
                self.values = (
                    np.asarray(values, np.float64).astype(np.float16).astype(np.float64)
                )

            def __len__(self):
                return len(self.values)

            def __getitem__(self, item):
                return Half(self.values[item])

            def _with(self, other, operation):
                other = (
                    other.values
                    if isinstance(other, Half)
                    else float(np.float16(other))
                )
                return Half(operation(self.values, other))

            def __add__(self, other):
                return self._with(other, np.add)

            def __sub__(self, other):
                return self._with(other, np.subtract)

            def __mul__(self, other):
                return self._with(other, np.multiply)

            def __truediv__(self, other):
                return self._with(other, np.divide)

            __rmul__ = __mul__

        def by_hand(x):  # the formulas again, without the checks of the module
            count = len(x)

            def total(rows):
                out = rows[0]
                for i in range(1, count):
                    out = out + rows[i]
                return out

            if name == "shifted":
                x = x - x[0]
            if name in ("one-pass", "shifted"):
                mean = total(x) / count
                return total(x * x) / count - mean * mean
            if "two-pass" in name:
                c = x - total(x) / count
                squares, rest = total(c * c), total(c)
                return (
                    squares - rest * rest / count if "corrected" in name else squares
                ) / count
            if name == "Welford":
                mean, m2 = x[0], 0 * x[0]
                for n in range(2, count + 1):
                    delta = x[n - 1] - mean
                    mean = mean + delta / n
                    m2 = m2 + delta * (x[n - 1] - mean)
                return m2 / count
            return tree(x)[2] / count

        def tree(x):
            if len(x) == 1:
                return 1, x[0], 0 * x[0]
            (a, mean_a, m2_a), (b, mean_b, m2_b) = (
                tree(x[: len(x) // 2]),
                tree(x[len(x) // 2 :]),
            )
            d = mean_b - mean_a
            return (
                a + b,
                mean_a + d * (b / (a + b)),
                m2_a + m2_b + d * d * (a * b / (a + b)),
            )

        x = spread_one(3.0, count=37, features=1, seed=2)[:, 0].astype(np.float16)
        assert float(ALGORITHMS[name](x)) == float(by_hand(Half(x)).values)

    def test_bfloat16_tensors_round_after_every_operation(self):
        def rounded(values):  # to 8 bits, ties to even, on the bits of float32
            bits = np.asarray(values, np.float32).view(np.uint32)
            return (
                ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000)
                .astype(np.uint32)
                .view(np.float32)
            )

        x = torch.tensor(spread_one(2.0, count=33, features=2, seed=3)).to(
            torch.bfloat16
        )
        values = x.float().numpy()
        mean, squares = values[0], rounded(values[0] * values[0])
        for row in values[1:]:
            mean, squares = rounded(mean + row), rounded(squares + rounded(row * row))
        mean = rounded(mean / np.float32(33))
        by_hand = rounded(rounded(squares / np.float32(33)) - rounded(mean * mean))
        np.testing.assert_array_equal(variance_one_pass(x).float().numpy(), by_hand)

    def test_one_pass_can_be_negative_and_the_others_cannot(self):
        x = spread_one(1e4, count=100, features=40, seed=4).astype(np.float32)
        assert (variance_one_pass(x) < 0).any()
        assert (
            variance_one_pass(x) % 8 == 0
        ).all()  # float32 near 1e8 counts in eights
        for computed in (
            variance_two_pass(x),
            variance_welford(x),
            variance_pairwise(x),
        ):
            np.testing.assert_allclose(computed, exact(x), rtol=1e-3)

    def test_shift(self):
        x = spread_one(1e6, count=50, features=3, seed=5)
        for shift in (None, 1e6, np.array([1e6, 1e6 + 1, 1e6 - 1])):
            np.testing.assert_allclose(variance_shifted(x, shift), exact(x), rtol=1e-12)
        np.testing.assert_array_equal(variance_shifted(x, 0.0), variance_one_pass(x))
        tensor = torch.tensor(x)
        np.testing.assert_array_equal(
            variance_shifted(tensor, 1e6).numpy(), variance_shifted(x, 1e6)
        )

    def test_correction_repairs_a_bad_mean(self):
        x = spread_one(1e8, count=1000, features=5, seed=6).astype(np.float32)
        x[::2] += 8
        plain = variance_error(x, variance_two_pass(x)).max()
        corrected = variance_error(x, variance_two_pass(x, corrected=True)).max()
        assert corrected < 1e-3 * exact(x).min() < plain

    @every_algorithm
    def test_constant_data(self, name):
        x = np.full((6, 1), 3.0)
        assert ALGORITHMS[name](x) == 0

    @every_algorithm
    def test_nothing_is_modified(self, name):
        x = spread_one(5.0, count=9, features=2, seed=7)
        x.flags.writeable = False
        tensor = torch.tensor(x)
        ALGORITHMS[name](x)
        ALGORITHMS[name](tensor)
        np.testing.assert_array_equal(tensor.numpy(), x)

    @every_algorithm
    @given(
        x=arrays(
            np.float64,
            st.integers(2, 20),
            elements=st.floats(-100, 100, allow_subnormal=False),
        )
    )
    def test_is_the_variance(self, name, x):
        tolerance = 1e-12 * (1 + (x**2).mean())
        assert abs(float(ALGORITHMS[name](x)) - float(exact_moments(x)[1])) <= tolerance

    @every_algorithm
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_error_bounds_hold_over_the_grid(self, name, dtype):
        means = [0, 1, 10, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]
        one = {name: ALGORITHMS[name]}
        errors = error_grid(one, DTYPES[dtype], means, count=200, features=4, seed=8)[
            name
        ]
        unit = unit_roundoff(DTYPES[dtype])
        for mean, row in zip(means, errors, strict=True):
            kappa = 2.0 if name == "shifted" else math.hypot(1, mean)
            assert row.max() <= error_bound(name, 200, unit, kappa)

    def test_the_one_pass_bound_is_not_idle(self):
        errors = error_grid(
            {"f": variance_one_pass}, np.float32, [1e4], count=200, features=20, seed=9
        )
        assert errors["f"].max() > 0.005 * error_bound("one-pass", 200, 2.0**-24, 1e4)


class TestUnitRoundoff:
    @pytest.mark.parametrize(
        ("dtype", "bits"),
        [(np.float64, 53), ("f4", 24), (np.float16, 11), (torch.bfloat16, 8)],
    )
    def test_value(self, dtype, bits):
        assert unit_roundoff(dtype) == 2.0**-bits

    @pytest.mark.parametrize("dtype", [np.int32, torch.int8, "nonsense"])
    def test_needs_a_floating_type(self, dtype):
        with pytest.raises(TypeError, match="dtype must be a floating-point type"):
            unit_roundoff(dtype)


groups = arrays(
    np.float64,
    st.tuples(st.integers(2, 9), st.just(3)),
    elements=st.floats(-50, 50, allow_subnormal=False),
)


def close(a, b):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-10, atol=1e-9)


class TestMerge:
    @given(groups, groups)
    def test_is_the_union(self, a, b):
        merged = merge_statistics(moments(a), moments(b))
        close(merged, moments(np.concatenate([a, b])))
        close(merge_statistics(moments(b), moments(a)), merged)

    @given(groups, groups, groups)
    def test_is_associative(self, a, b, c):
        a, b, c = map(moments, (a, b, c))
        left = merge_statistics(merge_statistics(a, b), c)
        close(left, merge_statistics(a, merge_statistics(b, c)))

    def test_single_examples_may_be_merged(self):
        x = np.random.default_rng(10).normal(1e6, 1.0, (5, 2))
        rows = [Moments(1, row, np.zeros(2)) for row in x]
        merged = rows[0]
        for row in rows[1:]:
            merged = merge_statistics(merged, row)
        np.testing.assert_allclose(merged.var, exact(x), rtol=1e-9)

    def test_synchronized_batch_norm(self):
        x = (
            np.random.default_rng(11).normal(3.0, 2.0, (12, 4, 2, 2))
            + np.arange(12)[:, None, None, None]
        )
        axes = (0, 2, 3)
        parts = [moments(part, axes) for part in np.split(x, [3, 4, 9])]
        whole = parts[0]
        for part in parts[1:]:
            whole = merge_statistics(whole, part)
        y, _ = batch_norm(x, np.ones(4), np.zeros(4), axes=axes)
        shape = (1, 4, 1, 1)
        by_merge = (x - whole.mean.reshape(shape)) / np.sqrt(
            whole.var.reshape(shape) + 1e-5
        )
        np.testing.assert_allclose(by_merge, y, atol=1e-12)

    def test_nothing_is_modified(self):
        parts = [moments(np.random.default_rng(s).normal(size=(3, 2))) for s in (0, 1)]
        for part in parts:
            part.mean.flags.writeable = part.m2.flags.writeable = False
        merge_statistics(*parts)

    @pytest.mark.parametrize(
        ("error", "message", "a", "b"),
        [
            (
                ValueError,
                r"b\.mean must have shape \(2,\)",
                Moments(2, np.ones(2), np.ones(2)),
                Moments(2, np.ones(3), np.ones(3)),
            ),
            (
                TypeError,
                "b must be Moments, got tuple",
                Moments(2, np.ones(2), np.ones(2)),
                (2, np.ones(2), np.ones(2)),
            ),
            (TypeError, "a must be Moments, got NoneType", None, None),
            (
                ValueError,
                "overflows float64",
                Moments(2, np.full(1, 1e200), np.ones(1)),
                Moments(2, np.zeros(1), np.ones(1)),
            ),
        ],
    )
    def test_bad_pairs(self, error, message, a, b):
        with pytest.raises(error, match=message):
            merge_statistics(a, b)

    @pytest.mark.parametrize(
        ("error", "message", "arguments"),
        [
            (
                ValueError,
                "count must be at least 1, got 0; an empty group",
                (0, np.ones(2), np.ones(2)),
            ),
            (
                ValueError,
                "count must be at least 1, got -3",
                (-3, np.ones(2), np.ones(2)),
            ),
            (
                TypeError,
                "count must be an integer, got float",
                (2.0, np.ones(2), np.ones(2)),
            ),
            (
                TypeError,
                "count must be an integer, got bool",
                (True, np.ones(2), np.ones(2)),
            ),
            (ValueError, r"m2 must have shape \(2,\)", (2, np.ones(2), np.ones(3))),
            (
                ValueError,
                "m2 is a sum of squares, got -1",
                (2, np.ones(2), np.array([1.0, -1.0])),
            ),
            (ValueError, "mean must be finite", (2, np.array([np.nan]), np.ones(1))),
            (
                TypeError,
                "mean must hold floating-point",
                (2, np.ones(2, int), np.ones(2)),
            ),
            (TypeError, "mean must be real", (2, np.ones(2) + 0j, np.ones(2))),
            (
                TypeError,
                "m2 must be a plain NumPy array, got list",
                (2, np.ones(1), [1.0]),
            ),
        ],
    )
    def test_bad_moments(self, error, message, arguments):
        with pytest.raises(error, match=message):
            Moments(*arguments)


class TestBadInput:
    @every_algorithm
    @pytest.mark.parametrize(
        ("error", "message", "x"),
        [
            (TypeError, "must be a plain NumPy array, got list", [1.0, 2.0]),
            (TypeError, "got dtype int64.*astype", np.arange(4)),
            (TypeError, "x must be real, got complex", np.ones(4, complex)),
            (TypeError, "floating-point tensor, got torch.int64", torch.arange(4)),
            (
                ValueError,
                r"x must be finite, got nan at index \(1,\)",
                np.array([0.0, np.nan]),
            ),
            (ValueError, "x must be finite", torch.tensor([0.0, math.inf])),
            (ValueError, "the batch is empty", np.ones((0, 3))),
            (ValueError, "one value per feature", np.ones((1, 3))),
            (ValueError, "x has no axes", np.array(3.0)),
            (
                ValueError,
                "float16 cannot count 70000 examples",
                np.ones(70_000, np.float16),
            ),
        ],
    )
    def test_is_refused(self, name, error, message, x):
        with pytest.raises(error, match=message):
            ALGORITHMS[name](x)

    @pytest.mark.parametrize(
        ("function", "x"),
        [
            (variance_one_pass, np.full(4, 300, np.float16)),
            (variance_two_pass, np.full(400, 300, np.float16)),
            (variance_welford, np.array([-6e4, 6e4], np.float16)),
            (variance_pairwise, np.array([-6e4, 6e4], np.float16)),
            (variance_shifted, np.array([-6e4, 6e4], np.float16)),
            (variance_one_pass, torch.full((4,), 300.0).half()),
        ],
    )
    def test_overflow_is_reported(self, function, x):
        with pytest.raises(
            ValueError, match=r"overflows .*float16; convert x to a wider dtype"
        ):
            function(x)

    @pytest.mark.parametrize("shift", [np.nan, np.inf, np.ones(3), np.ones((4, 2))])
    def test_bad_shift(self, shift):
        with pytest.raises(ValueError, match="shift must"):
            variance_shifted(np.ones((4, 2)), shift)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("kahan", 9, 0.1, 2.0),
            ("one-pass", 1, 0.1, 2.0),
            ("one-pass", 9, 0.0, 2.0),
            ("one-pass", 9, 0.1, 0.5),
        ],
    )
    def test_bad_bound(self, arguments):
        with pytest.raises(ValueError, match=r"algorithm must be|need count"):
            error_bound(*arguments)


def test_moments_are_batch_statistics():
    x = np.random.default_rng(12).normal(2.0, 3.0, (6, 3, 4))
    result = moments(x, (0, 2))
    assert (result.count, result.mean.shape) == (24, (3,))
    np.testing.assert_allclose(result.var, x.var((0, 2)), rtol=1e-13)
    assert exact_moments(x[:, 0, 0])[0] == sum(map(Fraction, x[:, 0, 0])) / 6


class TestExercises:
    """Each reference solution equals the functions of the chapter."""

    @pytest.fixture
    def answers(self):
        from bnbook.exercises.foundations import EXERCISES

        return {e.id.removeprefix("numerics-"): e.reference for e in EXERCISES}

    def test_one_batch(self, answers):
        x = np.random.default_rng(13).normal(1e5, [1.0, 2.0], (9, 2))
        np.testing.assert_allclose(answers["variance"](x), exact(x), rtol=1e-9)
        means = x.mean(axis=0)
        np.testing.assert_allclose(
            answers["kappa"](x), np.hypot(1, means / np.sqrt(exact(x))), rtol=1e-9
        )

    def test_groups(self, answers):
        x = np.random.default_rng(14).normal(3.0, 2.0, (12, 3))
        a, b, whole = moments(x[:5]), moments(x[5:]), moments(x)
        merged = answers["merge"](a.count, a.mean, a.m2, b.count, b.mean, b.m2)
        close(Moments(12, *merged), whole)
        before = moments(x[:-1])
        close(
            Moments(12, *answers["welford"](11, before.mean, before.m2, x[-1])), whole
        )
        parts = [moments(part) for part in (x[:2], x[2:9], x[9:])]
        mean, var = answers["sync"](
            np.array([float(p.count) for p in parts]),
            np.array([p.mean for p in parts]),
            np.array([p.var for p in parts]),
        )
        close(Moments(12, mean, 12 * var), whole)

    def test_epsilon(self, answers):
        sigma = np.array([0.0, 1.0, 1e4])
        outside = [Fraction(e) for e in answers["eps"](sigma, 1e-5).tolist()]
        for s, e in zip(sigma.tolist(), outside, strict=True):
            # (σ + e)² = σ² + ε, without any rounding
            assert (
                abs((Fraction(s) + e) ** 2 - Fraction(s) ** 2 - Fraction(1e-5)) < 1e-20
            )
