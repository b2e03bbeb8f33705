"""How accurate is it? Exact variances and batch normalization, in rational arithmetic.

A floating-point number is a fraction, so the variance of any batch is one too, and can be
computed without any rounding. Errors are measured against that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch

from bnbook.validation import (
    require_batch,
    require_eps,
    require_float_array,
    require_float_tensor,
    require_shape,
)

_BITS = 1200  # after the point: more than any product of floats here needs


def spread_one(mean: float, *, count: int, features: int, seed: int) -> np.ndarray:
    """Uniformly distributed values with standard deviation 1 around `mean`, in float64.

    Only +, − and × on the generator's integers, so every machine makes the same bits.

    Args:
        mean: centre of the distribution.
        count: number of examples, M.
        features: number of features, D.
        seed: seed of the random numbers.

    Returns:
        Values, (M, D).

    Raises:
        ValueError: mean is not finite, or count or features is less than 1.
    """
    if not math.isfinite(mean) or count < 1 or features < 1:
        raise ValueError(
            f"need a finite mean, count ≥ 1 and features ≥ 1, got {mean}, {count} and {features}"
        )
    uniform = np.random.default_rng(seed).random((count, features))
    return mean + math.sqrt(12) * (uniform - 0.5)


def _integers(column: np.ndarray) -> tuple[list[int], int]:
    """Integers n and a power of two d with column = n/d exactly."""
    ratios = [value.as_integer_ratio() for value in column.tolist()]
    scale = max(bottom for _, bottom in ratios)
    return [top * (scale // bottom) for top, bottom in ratios], scale


def exact_moments(values: np.ndarray | torch.Tensor) -> tuple[Fraction, Fraction]:
    """Mean and biased variance of M numbers of any dtype up to float64, without rounding.

    Raises:
        TypeError: values are not real floating-point numbers of at most 64 bits.
        ValueError: values are not of shape (M,), there are fewer than two, or one is not
            finite.
    """
    values = _as_float64("values", values)
    if values.ndim != 1:
        raise ValueError(
            f"values must have shape (M,), got {values.shape}; pass one feature"
        )
    require_batch(len(values), f"values of shape {values.shape}")
    integers, scale = _integers(values)
    count, total = len(integers), sum(integers)
    squares = sum(integer * integer for integer in integers)
    mean = Fraction(total, count * scale)
    return mean, Fraction(count * squares - total * total, (count * scale) ** 2)


def _as_float64(name: str, values: np.ndarray | torch.Tensor) -> np.ndarray:
    """The same numbers in float64, for dtypes that it contains."""
    if torch.is_tensor(values):
        return require_float_tensor(name, values).detach().cpu().double().numpy()
    require_float_array(name, values)
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(
            f"{name} must be float16, float32 or float64, got {values.dtype}; convert it with .astype"
        )
    return values.astype(np.float64)


def variance_error(
    x: np.ndarray | torch.Tensor, computed: np.ndarray | torch.Tensor
) -> np.ndarray:
    """|computed − exact| for the variance of each feature of x as it is stored.

    Args:
        x: data, (M, D), of any dtype up to float64.
        computed: variances, (D,).

    Returns:
        Absolute errors, (D,), float64, in squared units of x.

    Raises:
        TypeError: an argument is not a floating-point array or tensor of at most 64 bits.
        ValueError: shapes do not match, M < 2, or an entry is not finite.
    """
    x, computed = _as_float64("x", x), _as_float64("computed", computed)
    if x.ndim != 2:
        raise ValueError(f"x must have shape (M, D), got {x.shape}; reshape it")
    require_shape(
        "computed", computed, x.shape[1:], "one variance for each column of x"
    )
    pairs = zip(x.T, computed.tolist(), strict=True)
    return np.array(
        [float(abs(Fraction(var) - exact_moments(column)[1])) for column, var in pairs]
    )


def error_grid(
    algorithms: Mapping[str, Callable],
    dtype: type | torch.dtype,
    means: Sequence[float],
    *,
    count: int,
    features: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Errors of variances over a range of means, against those of the data as stored.

    Args:
        algorithms: functions of x (M, D) that return D variances, by name.
        dtype: NumPy type, or PyTorch dtype: the data of `spread_one` are rounded to it.
        means: centres of the data.
        count: number of examples, M ≥ 2.
        features: number of features, D: as many variances for each mean.
        seed: seed of the random numbers.

    Returns:
        For each name errors (len(means), D), absolute: the variance before rounding to
        `dtype` is near 1. NaN where the algorithm overflows `dtype`.

    Raises:
        ValueError: a mean overflows `dtype`, or sizes are as `spread_one` refuses them.
    """
    errors = {name: np.full((len(means), features), np.nan) for name in algorithms}
    for row, mean in enumerate(means):
        x = spread_one(mean, count=count, features=features, seed=seed)
        info = torch.finfo(dtype) if isinstance(dtype, torch.dtype) else np.finfo(dtype)
        if abs(x).max() > float(info.max):
            raise ValueError(f"a mean of {mean:g} overflows {dtype}; leave it out")
        x = (
            torch.tensor(x).to(dtype)
            if isinstance(dtype, torch.dtype)
            else x.astype(dtype)
        )
        for name, algorithm in algorithms.items():
            try:
                errors[name][row] = variance_error(x, algorithm(x))
            except ValueError as error:
                if "overflows" not in str(error):
                    raise
    return errors


def _root(value: Fraction) -> Fraction:
    """Square root to about 77 decimal places."""
    return Fraction(math.isqrt((value.numerator << 512) // value.denominator), 1 << 256)


def normalization_error(
    y: np.ndarray, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *, eps: float
) -> np.ndarray:
    """|y − exact|, with exact = γ (x − μ)/√(σ² + ε) + β of x as stored, to 70 digits.

    Args:
        y: computed output, (M, D).
        x: input, (M, D).
        gamma: scale γ, (D,).
        beta: shift β, (D,).
        eps: ε ≥ 0.

    Returns:
        Absolute errors, (M, D), float64.

    Raises:
        TypeError: an argument is not a floating-point array of at most 64 bits.
        ValueError: shapes do not match, M < 2, an entry is not finite, or a feature has
            σ² + ε = 0.
    """
    eps = require_eps(eps)
    named = {"y": y, "x": x, "gamma": gamma, "beta": beta}
    y, x, gamma, beta = (_as_float64(name, value) for name, value in named.items())
    if x.ndim != 2:
        raise ValueError(f"x must have shape (M, D), got {x.shape}; reshape it")
    require_shape("y", y, x.shape, "the shape of x")
    for name, value in (("gamma", gamma), ("beta", beta)):
        require_shape(name, value, x.shape[1:], "one number for each column of x")
    errors = np.empty(x.shape)
    for feature in range(x.shape[1]):
        mean, var = exact_moments(x[:, feature])
        if var + Fraction(eps) == 0:
            raise ValueError(
                f"feature {feature} is constant and eps is 0; pass a positive eps"
            )
        slope = Fraction(gamma[feature]) / _root(var + Fraction(eps))
        intercept = Fraction(beta[feature]) - slope * mean
        errors[:, feature] = _line_error(y[:, feature], x[:, feature], slope, intercept)
    return errors


def _line_error(
    y: np.ndarray, x: np.ndarray, slope: Fraction, intercept: Fraction
) -> list[float]:
    """|y − slope · x − intercept|, in fixed-point arithmetic."""
    integers, scale = _integers(x)
    slope_, intercept_ = (
        (value.numerator << _BITS) // value.denominator
        for value in (slope / scale, intercept)
    )
    ratios = (value.as_integer_ratio() for value in y.tolist())
    return [
        abs((top << _BITS) // bottom - slope_ * integer - intercept_) / (1 << _BITS)
        for (top, bottom), integer in zip(ratios, integers, strict=True)
    ]
