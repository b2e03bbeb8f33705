"""`bnbook.foundations.accuracy`: rational arithmetic, and how accurate `batch_norm` is beside PyTorch's."""

import statistics
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnbook.foundations.accuracy import (
    error_grid,
    exact_moments,
    normalization_error,
    spread_one,
    variance_error,
)
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.numerics import (
    unit_roundoff,
    variance_one_pass,
    variance_two_pass,
)

MEANS = [0.0, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]
GRID = [
    (dtype, mean)
    for dtype in (np.float64, np.float32, np.float16)
    for mean in MEANS
    if mean < float(np.finfo(dtype).max)
]


@pytest.mark.parametrize(("dtype", "mean"), GRID)
@pytest.mark.parametrize("layout", ["dense", "convolutional"])
def test_batch_norm_is_at_least_as_accurate_as_pytorch(dtype, mean, layout):
    rng = np.random.default_rng(0)
    x = spread_one(mean, count=1000, features=4, seed=1).astype(dtype)
    gamma, beta = (
        rng.normal(1.0, 0.5, 4).astype(dtype),
        rng.normal(size=4).astype(dtype),
    )
    ours, _ = batch_norm(x, gamma, beta)
    tensor = torch.tensor(x)
    if layout == "convolutional":
        tensor = (
            tensor.reshape(10, 100, 4).movedim(2, 1).reshape(10, 4, 10, 10).contiguous()
        )
    kernel = F.batch_norm(
        tensor, None, None, torch.tensor(gamma), torch.tensor(beta), training=True
    )
    if layout == "convolutional":
        kernel = kernel.reshape(10, 4, 100).movedim(1, 2).reshape(1000, 4)
    mine = normalization_error(ours, x, gamma, beta, eps=1e-5)
    theirs = normalization_error(kernel.numpy(), x, gamma, beta, eps=1e-5)
    assert np.sqrt((mine**2).mean()) <= np.sqrt((theirs**2).mean())
    # In float64 with a mean near 0 both are right but for the last digit, and luck picks the largest error.
    rounding = 4 * unit_roundoff(dtype) * np.abs(ours.astype(float)).max()
    assert mine.max() <= rounding
    assert mine.max() <= theirs.max() or theirs.max() <= rounding


def test_exact_moments_equal_the_standard_librarys():
    x = np.random.default_rng(2).normal(1e8, 1.0, 50)
    mean, var = exact_moments(x)
    fractions = [Fraction(v) for v in x.tolist()]
    assert mean == statistics.mean(fractions)
    assert var == statistics.pvariance(fractions)
    assert exact_moments(np.array([0.1, 0.1]))[1] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_exact_moments_of_narrow_numbers(dtype):
    x = torch.tensor([1.5, -2.25, 300.0]).to(dtype)
    mean, var = exact_moments(x)
    assert mean == Fraction(299.25) / 3
    assert var == sum((Fraction(v) - mean) ** 2 for v in (1.5, -2.25, 300.0)) / 3


def test_variance_error_sees_one_unit_in_the_last_place():
    x = np.array([[1.0], [4.0]])
    assert variance_error(x, np.array([2.25])) == 0
    assert variance_error(x, np.nextafter([2.25], 3)) == np.spacing(2.25)


def test_normalization_error_by_decimal():
    x, gamma, beta, eps = (
        np.array([[1.0], [2.0], [6.0]]),
        np.array([1.5]),
        np.array([0.25]),
        0.1,
    )
    with localcontext(prec=50):
        root = (Decimal(14) / 3 + Decimal(eps)).sqrt()
        y = [
            Decimal("1.5") * (Decimal(v) - 3) / root + Decimal("0.25")
            for v in (1, 2, 6)
        ]
    computed = np.array([[float(v)] for v in y])
    assert normalization_error(computed, x, gamma, beta, eps=eps).max() <= 2.3e-16
    computed[1] += 1e-9
    errors = normalization_error(computed, x, gamma, beta, eps=eps)
    assert errors.shape == (3, 1)
    assert errors[1, 0] == pytest.approx(1e-9, rel=1e-6)
    assert errors[[0, 2]].max() <= 2.3e-16


def test_spread_one():
    x = spread_one(3.0, count=20_000, features=2, seed=0)
    np.testing.assert_allclose(x.std(0), 1, rtol=0.01)
    assert abs(x - 3).max() <= 3**0.5
    np.testing.assert_array_equal(x, spread_one(3.0, count=20_000, features=2, seed=0))


def test_grid_marks_overflow():
    both = {"one-pass": variance_one_pass, "two-pass": variance_two_pass}
    errors = error_grid(both, np.float16, [1.0, 300.0], count=20, features=3, seed=0)
    assert errors["one-pass"].shape == (2, 3)
    assert np.isnan(errors["one-pass"]).tolist() == [[False] * 3, [True] * 3]
    assert np.isfinite(errors["two-pass"]).all()


def bad_algorithm(x):
    raise ValueError("something else")


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"values must have shape \(M,\)",
            lambda: exact_moments(np.ones((2, 2))),
        ),
        (ValueError, "batch is empty", lambda: exact_moments(np.ones(0))),
        (
            TypeError,
            "float16, float32 or float64, got complex",
            lambda: exact_moments(np.ones(2, complex)),
        ),
        (
            TypeError,
            "float16, float32 or float64, got longdouble|float128",
            lambda: exact_moments(np.ones(2, np.longdouble) * 1),
        ),
        (
            ValueError,
            r"x must have shape \(M, D\)",
            lambda: variance_error(np.ones(3), np.ones(1)),
        ),
        (
            ValueError,
            r"computed must have shape \(2,\)",
            lambda: variance_error(np.ones((3, 2)), np.ones(1)),
        ),
        (
            ValueError,
            "need a finite mean",
            lambda: spread_one(np.inf, count=2, features=1, seed=0),
        ),
        (
            ValueError,
            "need a finite mean",
            lambda: spread_one(0.0, count=0, features=1, seed=0),
        ),
        (
            ValueError,
            "overflows.*leave it out",
            lambda: error_grid({}, np.float16, [1e6], count=2, features=1, seed=0),
        ),
        (
            ValueError,
            "something else",
            lambda: error_grid(
                {"f": bad_algorithm}, np.float32, [0.0], count=2, features=1, seed=0
            ),
        ),
        (
            ValueError,
            "y must have shape",
            lambda: normalization_error(
                np.ones((2, 2)), np.ones((2, 1)), np.ones(1), np.ones(1), eps=0.1
            ),
        ),
        (
            ValueError,
            "gamma must have shape",
            lambda: normalization_error(
                np.ones((2, 1)), np.ones((2, 1)), np.ones(2), np.ones(1), eps=0.1
            ),
        ),
        (
            ValueError,
            "is constant and eps is 0",
            lambda: normalization_error(
                np.ones((2, 1)), np.ones((2, 1)), np.ones(1), np.ones(1), eps=0
            ),
        ),
        (
            ValueError,
            r"x must have shape \(M, D\)",
            lambda: normalization_error(
                np.ones(2), np.ones(2), np.ones(1), np.ones(1), eps=0.1
            ),
        ),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()
