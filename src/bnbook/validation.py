"""Checks on input that every public function shares.

Each check raises an error that says what was expected, what came, and how to mend it. None of them
changes its argument.
"""

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np
import torch


def require_float_array(name: str, value: np.ndarray) -> np.ndarray:
    """Return `value` if it is an array of finite floating-point (or complex) numbers.

    Complex arrays pass because the book differentiates its functions by the complex-step method.

    Raises:
        TypeError: `value` is not a NumPy array, or holds integers, booleans or objects.
        ValueError: `value` holds NaN or infinity.
    """
    if type(value) is not np.ndarray:  # a matrix or a masked array follows other rules
        raise TypeError(
            f"{name} must be a plain NumPy array, got {type(value).__name__}; convert it with np.array"
        )
    if value.dtype.kind not in "fc":
        raise TypeError(
            f"{name} must hold floating-point numbers, got dtype {value.dtype}; "
            f"convert it with {name}.astype(np.float64)"
        )
    finite = np.isfinite(value)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name} must be finite, got {value[where]} at index {where}; "
            "remove or impute such entries before normalizing"
        )
    return value


def require_float_tensor(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return `value` if it is a tensor of finite floating-point numbers.

    Raises:
        TypeError: `value` is not a tensor, or does not hold real floating-point numbers.
        ValueError: `value` holds NaN or infinity.
    """
    if not torch.is_tensor(value):
        raise TypeError(
            f"{name} must be a floating-point tensor, got {type(value).__name__}; use torch.as_tensor"
        )
    if not value.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point tensor, got {value.dtype}; convert it with .double()"
        )
    if not torch.isfinite(value).all():
        raise ValueError(
            f"{name} must be finite, got NaN or infinity; remove or impute such entries first"
        )
    return value


def require_axes(axes: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return the axes to average over as a sorted tuple of distinct non-negative integers.

    Raises:
        TypeError: an axis is not an integer.
        ValueError: no axis is given, an axis is out of range, or an axis is repeated.
    """
    if ndim == 0:
        raise ValueError(
            "x has no axes: it is one number; pass an array whose first axis is the batch"
        )
    given = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    try:
        numbers = [
            operator.index(axis)
            for axis in given
            if not isinstance(axis, bool | np.bool_)
        ]
    except TypeError as error:
        raise TypeError(
            f"axes must be an integer or a tuple of integers, got {axes!r}"
        ) from error
    if len(numbers) != len(given):
        raise TypeError(f"axes must be an integer or a tuple of integers, got {axes!r}")
    if not numbers:
        raise ValueError(
            "axes is empty: name at least the batch axis, for example axes=0"
        )
    for axis in numbers:
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"axis {axis} is out of range for x with {ndim} axes; use {-ndim} to {ndim - 1}"
            )
    positive = sorted(axis % ndim for axis in numbers)
    if len(set(positive)) != len(positive):
        raise ValueError(
            f"axes {axes!r} names the same axis twice; name each axis once"
        )
    return tuple(positive)


def require_shape(
    name: str, value: np.ndarray | torch.Tensor, shape: tuple[int, ...], why: str
) -> None:
    """Raise a ValueError unless `value` has exactly this `shape`; `why` says where the shape comes from."""
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"{name} must have shape {tuple(shape)}, {why}, got {tuple(value.shape)}; "
            "reshape it (nothing is broadcast silently)"
        )


def require_eps(eps: float) -> float:
    """Return `eps` as a float if it is a finite number that is not negative.

    Raises:
        TypeError: `eps` is not a real number.
        ValueError: `eps` is negative, NaN or infinite.
    """
    if not isinstance(eps, Real) or isinstance(eps, bool | np.bool_):
        raise TypeError(
            f"eps must be a real number, got {type(eps).__name__}; use for example eps=1e-5"
        )
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(
            f"eps must be finite and at least 0, got {eps}; use for example eps=1e-5"
        )
    return float(eps)


def require_batch(count: int, what: str) -> None:
    """Raise a ValueError unless a batch statistic over `count` values is defined and informative.

    `what` describes the averaged axes, for the message.
    """
    if count == 0:
        raise ValueError(
            f"the batch is empty: {what} hold no values; pass at least two examples"
        )
    if count == 1:
        raise ValueError(
            f"the batch has one value per feature: {what} hold a single value, whose variance is 0 whatever "
            "the data; pass at least two examples, or normalize with running statistics instead"
        )


def require_normalizable(
    std: np.ndarray | torch.Tensor, features: tuple[int, ...], dtype: object
) -> None:
    """Raise a ValueError if dividing by √(σ² + ε) would not give finite numbers.

    `std` holds one √(σ² + ε) per feature, `features` is the shape of γ, and `dtype` that of the input.
    """
    values = std.detach().double().cpu().numpy() if torch.is_tensor(std) else std
    values = values.reshape(features)
    if not np.isfinite(values).all():
        raise ValueError(
            f"the variance overflows {dtype}: x holds values too large to square; "
            "rescale x or convert it to a wider dtype"
        )
    if not values.all():
        where = tuple(int(i) for i in np.argwhere(values == 0)[0])
        raise ValueError(
            f"feature {where} has no variance in {dtype} and ε adds none, so ẑ is 0/0; use a larger eps, "
            "rescale the feature, or drop it"
        )


def cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return `value` in `dtype`.

    Raises:
        ValueError: a finite entry does not fit into `dtype`.
    """
    with np.errstate(over="ignore"):
        result = value.astype(dtype)
    if not np.isfinite(result).all():
        raise ValueError(
            f"{name} overflows {dtype}: it reaches {np.abs(value).max():.3g}; use a wider dtype"
        )
    return result
