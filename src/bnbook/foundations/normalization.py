"""Normalization as one function of the axes: batch, layer, group and others.

All of them subtract a mean and divide by √(second moment + ε). They differ in which
entries share these two numbers, and in whether the mean is subtracted at all. Learned
scale and shift are left out: where they differ, the docstring says so.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np

from bnbook.foundations.forward import batch_statistics
from bnbook.validation import (
    cast,
    require_axes,
    require_eps,
    require_float_array,
    require_normalizable,
)


def normalize(
    x: np.ndarray, axes: int | Sequence[int], *, center: bool = True, eps: float
) -> np.ndarray:
    """Subtract the mean over `axes`, then divide by the root mean square over them.

    With `center=False` the mean stays, as in RMS normalization: x/√(mean(x²) + ε).

    Args:
        x: data of any shape.
        axes: the axes over which entries share their statistics; M is the product of
            their lengths.
        center: whether to subtract the mean.
        eps: ε ≥ 0, added to the mean square, in squared units of x.

    Returns:
        ẑ, with the shape and dtype of x. It may be empty if the axes outside `axes`
        are.

    Raises:
        TypeError: x is not a floating-point array, eps is not a number, or axes are not
            integers.
        ValueError: x is not finite; axes are out of range, repeated, or hold no value
            (or, with `center`, only one); eps is negative; or √(mean square + ε) is 0
            somewhere, where ẑ would be 0/0.

    Source: Ioffe and Szegedy (2015), Algorithm 1, with the axes as an argument.
    """
    eps = require_eps(eps)
    require_float_array("x", x)
    axes = require_axes(axes, x.ndim)
    _require_values(x, axes, center)
    wide = x.astype(np.result_type(x.dtype, np.float64))
    if center:
        statistics = batch_statistics(x, axes)
        wide, mean_square = wide - statistics.mean, statistics.var
    else:
        mean_square = (wide * wide).mean(axis=axes, keepdims=True)
    std = np.sqrt(mean_square + eps)
    require_normalizable(
        std, tuple(n for axis, n in enumerate(x.shape) if axis not in axes), x.dtype
    )
    return cast("ẑ", wide / std, x.dtype)


def batch_normalize(x: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Batch normalization of (N, C, …): each channel over all examples and positions.

    γ and β have shape (C,). Errors as for `normalize`. Source: Ioffe and Szegedy
    (2015), §3.2.
    """
    _require_ndim(x, 2, "(N, C, …)")
    return normalize(x, [axis for axis in range(x.ndim) if axis != 1], eps=eps)


def layer_normalize(x: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Layer normalization of (N, …): each example over everything in it.

    γ and β have the shape of an example, (C, H, W) for images. Errors as for
    `normalize`.
    Source: Ba, Kiros and Hinton (2016), Eq. (3).
    """
    _require_ndim(x, 2, "(N, …)")
    return normalize(x, range(1, x.ndim), eps=eps)


def instance_normalize(x: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Instance normalization of (N, C, H, …): each channel of each example over its
    positions.

    γ and β have shape (C,). Errors as for `normalize`. Source: Ulyanov, Vedaldi and
    Lempitsky (2016).
    """
    _require_ndim(x, 3, "(N, C, H, …)")
    return normalize(x, range(2, x.ndim), eps=eps)


def group_normalize(x: np.ndarray, groups: int, *, eps: float = 1e-5) -> np.ndarray:
    """Group normalization of (N, C, …): `groups` runs of neighbouring channels of each
    example, each by itself.

    γ and β have shape (C,), also for one group. Errors as for `normalize`.

    Args:
        x: data, (N, C, …).
        groups: number of groups G, a divisor of C.
        eps: ε ≥ 0, added to the variance.

    Raises:
        TypeError: groups is not an integer.
        ValueError: groups does not divide the number of channels.

    Source: Wu and He (2018), Eq. (7).
    """
    _require_ndim(x, 2, "(N, C, …)")
    examples, channels = x.shape[:2]
    if isinstance(groups, bool) or not isinstance(groups, Integral):
        raise TypeError(
            f"groups must be an integer, got {groups!r}; use a divisor of the "
            f"{channels} channels"
        )
    if groups < 1 or channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        raise ValueError(
            f"groups must divide the {channels} channels, got {groups}; use one of "
            f"{divisors}"
        )
    grouped = x.reshape(examples, groups, channels // groups, *x.shape[2:])
    return normalize(grouped, range(2, grouped.ndim), eps=eps).reshape(x.shape)


def rms_normalize(x: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """RMS normalization of (N, …): each example over everything in it, not centred.

    γ has the shape of an example; there is no β. Errors as for `normalize`.
    Source: Zhang and Sennrich (2019), Eq. (4), which has no ε.
    """
    _require_ndim(x, 2, "(N, …)")
    return normalize(x, range(1, x.ndim), center=False, eps=eps)


def standardize_weights(w: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Weight standardization of (D, D_in, …): each output over all its weights.

    The data play no part, so the result is an ordinary weight array. Errors as for
    `normalize`.
    Source: Qiao et al. (2019).
    """
    _require_ndim(w, 2, "(D, D_in, …)", "w")
    return normalize(w, range(1, w.ndim), eps=eps)


def _require_ndim(x: np.ndarray, least: int, shape: str, name: str = "x") -> None:
    require_float_array(name, x)
    if x.ndim < least:
        raise ValueError(
            f"{name} must have shape {shape}, got {x.shape}; add the missing axes "
            "with reshape"
        )


def _require_values(x: np.ndarray, axes: tuple[int, ...], center: bool) -> None:
    count = math.prod(x.shape[axis] for axis in axes)
    if count == 0:
        raise ValueError(
            f"there is nothing to average: axes {axes} of x with shape {x.shape} "
            "hold no values; pass at least two values for each statistic"
        )
    if count == 1 and center:
        raise ValueError(
            f"each statistic would see one value: axes {axes} of x with shape "
            f"{x.shape} hold a single one, and x − mean is 0 whatever the data; "
            "average over more axes or pass more values"
        )


def shared_statistics(
    method: Callable[[np.ndarray], np.ndarray], shape: Sequence[int], *, seed: int = 0
) -> np.ndarray:
    """Find by experiment which entries share statistics: move one, see what moves.

    Args:
        method: a normalization, from an array to an array of the same shape.
        shape: shape of the input to try it on.
        seed: seed of the random input.

    Returns:
        An integer array of this shape; entries with the same number share their
        statistics.

    Raises:
        ValueError: shape has no entries, or some entry moves another that does not move
            it, so that `method` does not treat entries in groups.
    """
    x = np.random.default_rng(seed).normal(size=tuple(shape))
    if not x.size:
        raise ValueError(
            f"shape must have entries, got {tuple(shape)}; use lengths of at least 1"
        )
    labels = np.full(x.shape, -1)
    before = method(x)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += 0.5
        group = method(moved) != before
        if labels[index] < 0:
            labels[group] = labels.max() + 1
        if not group[index] or not (group == (labels == labels[index])).all():
            raise ValueError(
                f"entry {index} does not move the entries that move it; the groups "
                "must be mutual"
            )
    return labels
