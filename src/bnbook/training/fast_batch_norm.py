"""Batch normalization in NumPy, fast: the formulas of `bnbook.foundations`, in fewer passes.

The readable functions widen to float64 and make one pass over memory for each operation.
These stay in the dtype of the input, work block by block (`bnbook.training.blocks`), and
keep no normalized copy: the backward pass starts from the input, which is kept anyway.
"""

from dataclasses import dataclass

import numpy as np

from bnbook.foundations.backward import BatchNormGrads
from bnbook.foundations.forward import BatchStatistics
from bnbook.foundations.inference import require_count
from bnbook.training.blocks import (
    affine,
    aligned,
    column_sums,
    long_rows,
    plan,
    share,
)
from bnbook.validation import (
    require_batch,
    require_eps,
    require_float_array,
    require_normalizable,
    require_shape,
)

DTYPES = (np.float32, np.float64)
CANCELLATION = 4.0  # a mean square above this many variances costs more than two bits


@dataclass(frozen=True)
class FastCache:
    """What the backward pass needs of the forward pass.

    Attributes:
        x: the input itself, (M, D), not a copy: leave it as it is until the backward
            pass is done.
        shift: what was subtracted first, (D,), or None.
        offset: mean of x − shift, (D,), in float64.
        gamma: scale γ, (D,).
        std: √(σ² + ε), (D,), in float64.
        count: M.
        statistics: batch mean and variance, (1, D), for running averages.
    """

    x: np.ndarray
    shift: np.ndarray | None
    offset: np.ndarray
    gamma: np.ndarray
    std: np.ndarray
    count: int
    statistics: BatchStatistics


def fast_batch_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float = 1e-5,
    threads: int = 1,
    out: np.ndarray | None = None,
    relu: bool = False,
) -> tuple[np.ndarray, FastCache]:
    """Normalize a training batch: y = γ (x − μ)/√(σ² + ε) + β, in two passes over x.

    The first pass sums x and x². Where that would cancel, because a mean is large beside
    its deviation (μ² > 4 σ² for some feature), a further pass sums x − μ and its square
    instead. The second pass writes y.

    Args:
        x: input, (M, D), float32 or float64; copied if it is not C-contiguous.
        gamma: scale γ, (D,), of the dtype of x.
        beta: shift β, (D,), of the dtype of x.
        eps: ε ≥ 0, added to the variance, in squared units of x.
        threads: how many work at once; the last digits may depend on it.
        out: where to write y, an array like x that does not overlap it; a new one if
            None.
        relu: return max(y, 0) instead of y.

    Returns:
        y, with the shape and dtype of x, and the cache for `fast_batch_norm_backward`.
        The cache refers to x itself.

    Raises:
        TypeError: an array has another dtype, or eps or threads is no number.
        ValueError: x is no batch of at least two examples, or not finite; a shape does
            not fit; eps is negative; the squares or y overflow; or √(σ² + ε) is 0 for a
            feature.

    Source: Yu (2021), Eqs. (2) and (3).
    """
    eps = require_eps(eps)
    threads = require_count("threads", threads, 1)
    x = _require_matrix("x", x)
    require_batch(len(x), f"the rows of x with shape {x.shape}")
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        require_float_array(name, parameter)
        _require_dtype(name, parameter, x.dtype)
        require_shape(name, parameter, x.shape[1:], "one number per feature")
    if out is None:
        (out,) = aligned([x.shape], x.dtype)
    else:
        _require_out(out, x)
    with np.errstate(over="ignore", invalid="ignore"):
        shift, (offset, var) = None, _moments(x, None, threads)
        if not (offset**2 <= CANCELLATION * var).all():  # also catches NaN
            _require_finite("x", x, offset, var)
            shift = offset.astype(x.dtype)
            offset, var = _moments(x, shift, threads)
        _require_finite("x", x, offset, var)
        std = np.sqrt(var + eps)
        require_normalizable(std, x.shape[1:], x.dtype)
        scale = gamma / std
        affine(
            x,
            out,
            shift=shift,
            scale=scale,
            offset=beta - scale * offset,
            relu=relu,
            threads=threads,
        )
        # |x − μ| is at most σ √(M − 1): only where this is too large, look at y itself.
        bound = np.abs(scale) * np.sqrt(len(x) * (var + offset**2))
        bound += np.abs(beta - scale * offset)
    if not (bound < np.finfo(x.dtype).max / 2).all() and not np.isfinite(out).all():
        raise ValueError(
            f"y overflows {x.dtype}: it can reach {bound.max():.3g}; use a wider dtype"
        )
    mean = offset if shift is None else shift + offset
    statistics = BatchStatistics(mean[None], var[None], len(x))
    return out, FastCache(x, shift, offset, gamma.copy(), std, len(x), statistics)


def fast_batch_norm_backward(
    dy: np.ndarray,
    cache: FastCache,
    *,
    threads: int = 1,
    out: np.ndarray | None = None,
    relu_output: np.ndarray | None = None,
) -> BatchNormGrads:
    """Closed form: dx = γ/√(σ² + ε) · (g − mean(g) − ẑ · mean(g ẑ)), with g = ∂L/∂y.

    One pass sums g and g · x, one writes dx as a · (g + b · x + c) with three numbers
    a, b and c a feature.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D), of the dtype of x.
        cache: what `fast_batch_norm` returned beside y.
        threads: how many work at once; the last digits may depend on it.
        out: where to write dx, an array like dy, or dy itself; a new one if None.
        relu_output: if the forward pass had relu=True, what it returned; dy is then the
            gradient of that, and counts only where it is positive.

    Returns:
        dx, (M, D), dgamma and dbeta, (D,), with the dtype of dy.

    Raises:
        TypeError: dy has another dtype than x, or threads is no number.
        ValueError: dy has not the shape of y, or its sums are not finite. Unlike the
            readable function, this one does not look for an overflow in dx itself.

    Source: Yu (2021), Eqs. (12), (13) and (14).
    """
    threads = require_count("threads", threads, 1)
    dy = _require_matrix("dy", dy)
    _require_dtype("dy", dy, cache.x.dtype)
    require_shape("dy", dy, cache.x.shape, "the shape of y")
    if out is None:
        (out,) = aligned([dy.shape], dy.dtype)
    elif out is not dy:
        _require_out(out, dy)
        _require_out(out, cache.x)
    if relu_output is not None:
        require_shape("relu_output", relu_output, dy.shape, "the shape of y")
        _require_dtype("relu_output", relu_output, dy.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        dbeta, product = _gradient_sums(dy, cache, threads, relu_output, out)
        if relu_output is not None:
            dy = out  # it holds the gradient of y now
        _require_finite("dy", dy, dbeta, product)
        dgamma = (product - cache.offset * dbeta) / cache.std
        _write_dx(dy, cache, dgamma, dbeta, out, threads)
        grads = dgamma.astype(dy.dtype), dbeta.astype(dy.dtype)
    _require_finite("dy", dy, *grads)
    return BatchNormGrads(out, *grads)


def _moments(
    x: np.ndarray, shift: np.ndarray | None, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of x − shift and variance of x, (D,), in float64: one pass."""
    cut = plan(*x.shape, x.itemsize, threads)
    before = None if shift is None else cut.repeat(shift, x.dtype)
    ones = np.ones(cut.largest, x.dtype) if threads == 1 else None

    def work(blocks) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.zeros((2, x.shape[1]))
        if before is not None:
            scratch = np.empty((cut.largest, x.shape[1]), x.dtype)
        for block in blocks:
            start, stop, tile = block
            t = x[start:stop]
            if before is not None:
                t = scratch[: stop - start]
                np.subtract(
                    long_rows(x, block),
                    before[: tile * x.shape[1]],
                    out=long_rows(t, (0, stop - start, tile)),
                )
            first += column_sums(t, ones)
            second += np.einsum("md,md->d", t, t)
        return first, second

    sums = share(work, cut.blocks, threads)
    mean, square = (sum(part) / len(x) for part in zip(*sums, strict=True))
    return mean, np.maximum(square - mean**2, 0)  # NaN stays NaN


def _gradient_sums(
    dy: np.ndarray,
    cache: FastCache,
    threads: int,
    relu_output: np.ndarray | None,
    out: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Σ g and Σ g · (x − shift), (D,), in float64: one pass.

    With a ReLU, g is dy where its output is positive; g is left in `out`.
    """
    x, cut = cache.x, plan(*dy.shape, dy.itemsize, threads)
    ones = np.ones(cut.largest, x.dtype) if threads == 1 else None

    def work(blocks) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.zeros((2, x.shape[1]))
        scratch = np.empty((cut.largest, x.shape[1]), bool)
        for start, stop, _ in blocks:
            g, t = dy[start:stop], x[start:stop]
            if relu_output is not None:
                positive = scratch[: stop - start]
                np.greater(relu_output[start:stop], 0, out=positive)
                g = np.multiply(g, positive, out=out[start:stop])
            if cache.shift is not None:
                t = t - cache.shift
            first += column_sums(g, ones)
            second += np.einsum("md,md->d", g, t)
        return first, second

    sums = share(work, cut.blocks, threads)
    return tuple(sum(part) for part in zip(*sums, strict=True))


def _write_dx(dy, cache, dgamma, dbeta, out, threads) -> None:
    """dx = a (g + b (x − shift) + c), one pass; see `fast_batch_norm_backward`.

    The sum grows in `out`, or in a scratch block where `out` still holds g.
    """
    x, cut = cache.x, plan(*dy.shape, dy.itemsize, threads)
    scale = cache.gamma / cache.std
    per_x = -dgamma / (cache.count * cache.std)
    rest = -dbeta / cache.count - per_x * cache.offset
    a, b, c = (cut.repeat(v, x.dtype) for v in (scale, per_x, rest))
    shift = None if cache.shift is None else cut.repeat(cache.shift, x.dtype)

    def work(blocks) -> None:
        if out is dy:
            (scratch,) = aligned([(cut.largest, x.shape[1])], x.dtype)
        for block in reversed(blocks):
            start, stop, tile = block
            width = tile * x.shape[1]
            source, dx = long_rows(x, block), long_rows(out, block)
            t = long_rows(scratch, (0, stop - start, tile)) if out is dy else dx
            if shift is not None:
                source = np.subtract(source, shift[:width], out=t)
            np.multiply(source, b[:width], out=t)
            np.add(t, c[:width], out=t)
            np.add(long_rows(dy, block), t, out=dx)
            np.multiply(dx, a[:width], out=dx)

    share(work, cut.blocks, threads)


def _require_matrix(name: str, value: np.ndarray) -> np.ndarray:
    """Return `value`, C-contiguous, if it is an (M, D) array of float32 or float64.

    Its values are not looked at: a pass over them would cost as much as a sum, and what
    is not finite shows in the sums.
    """
    if type(value) is not np.ndarray or value.dtype not in DTYPES:
        found = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{name} must be a NumPy array of float32 or float64, got {found}; convert it, or use "
            "bnbook.foundations.forward.batch_norm, which takes every float dtype"
        )
    if value.ndim != 2 or value.size == 0:
        raise ValueError(
            f"{name} must have shape (M, D) with M > 0 and D > 0, got {value.shape}; reshape it, one "
            "example in each row"
        )
    return np.ascontiguousarray(value)


def _require_dtype(name: str, value: np.ndarray, dtype: np.dtype) -> None:
    if value.dtype != dtype:
        raise TypeError(
            f"{name} must have the dtype of x, {dtype}, got {value.dtype}; convert it with "
            f"{name}.astype(np.{dtype})"
        )


def _require_out(out: np.ndarray, like: np.ndarray) -> None:
    if (
        type(out) is not np.ndarray
        or out.shape != like.shape
        or out.dtype != like.dtype
        or not out.flags.c_contiguous
        or np.may_share_memory(out, like)
    ):
        raise ValueError(
            f"out must be a C-contiguous array of shape {like.shape} and dtype {like.dtype} that "
            "shares no memory with the input; pass np.empty_like of it, or None"
        )


def _require_finite(name: str, value: np.ndarray, *statistics: np.ndarray) -> None:
    """Raise a ValueError if a statistic is not finite, and say why."""
    if all(np.isfinite(each).all() for each in statistics):
        return
    require_float_array(name, value)
    raise ValueError(
        f"a sum over {name} overflows {value.dtype}: {name} holds values too large to square or add; "
        "rescale it or convert it to a wider dtype"
    )
