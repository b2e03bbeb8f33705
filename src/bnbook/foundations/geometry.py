"""What batch normalization removes from a gradient, and what it keeps.

All functions speak of P = I − 11ᵀ/M − ẑẑᵀ/M, with which the gradient of one feature is
∂L/∂z = γ/√(σ² + ε) · P g. For ε = 0, P is the orthogonal projection on the directions
that change neither the mean nor the spread of the batch. What follows for the weights
in front of the layer is in `bnbook.foundations.scale_invariance`.
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from bnbook.foundations.forward import batch_norm
from bnbook.validation import require_batch, require_float_array, require_shape


@dataclass(frozen=True)
class Regression:
    """A line fitted to a batch, intercept + slope · x, and the `residual` (M,)."""

    intercept: float
    slope: float
    residual: np.ndarray


@dataclass(frozen=True)
class GradientEnergy:
    """Squared length of a gradient in three orthogonal parts, one number per feature.

    Attributes:
        ones: along 1, the part that would shift the batch.
        z_hat: along ẑ, the part that would stretch it.
        rest: orthogonal to both.
    """

    ones: np.ndarray
    z_hat: np.ndarray
    rest: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """‖g‖²."""
        return self.ones + self.z_hat + self.rest


def projector(z_hat: np.ndarray) -> np.ndarray:
    """P = I − 11ᵀ/M − ẑẑᵀ/M of one feature, a matrix of shape (M, M).

    Its eigenvalues are 0 on 1, r = 1 − mean(ẑ²) on ẑ, and 1 on everything orthogonal to
    both. If ẑ was normalized with ε = 0, then r = 0 and P is an orthogonal projection
    of rank M − 2; with ε > 0, r = ε/(σ² + ε).

    Args:
        z_hat: the normalized values ẑ of one feature, (M,), without unit.

    Raises:
        TypeError: z_hat is not a floating-point array.
        ValueError: z_hat is not one-dimensional, is empty, holds one value, is not
            finite, or is not normalized: mean 0 and mean square at most 1.

    Source: Morwani (2020), §3.1, with the 1/M that the source leaves out before ẑẑᵀ.
    """
    require_normalized(z_hat, (1,))
    count = len(z_hat)
    z_hat = z_hat.astype(np.result_type(z_hat.dtype, np.float64))
    return np.eye(count) - (1 + np.outer(z_hat, z_hat)) / count


def normalization_jacobian(
    x: np.ndarray, gamma: float, *, eps: float = 1e-5
) -> np.ndarray:
    """J = γ/√(σ² + ε) · P of one feature, (M, M), with J[k, i] = ∂y_k/∂x_i.

    J is symmetric. So the gradient is ∂L/∂x = J g, and a small change dx of the input
    changes the output by J dx.

    Args:
        x: the values of one feature before normalization, (M,).
        gamma: its scale γ.
        eps: ε ≥ 0, in squared units of x.

    Raises:
        TypeError: x is not a floating-point array, gamma or eps not a real number.
        ValueError: x is not one-dimensional; or as for
            `bnbook.foundations.forward.batch_norm`.

    Source: Yu (2021), Eq. (12), as a matrix; Morwani (2020), §3.1, mended.
    """
    require_float_array("x", x)
    _require_ndim("x", x, (1,))
    _require_number("gamma", gamma)
    dtype = np.result_type(x.dtype, np.float64)
    x = x.astype(dtype)
    _, cache = batch_norm(x[:, None], np.ones(1), np.zeros(1), eps=eps)
    return gamma / cache.std.item() * projector(cache.z_hat[:, 0])


def leverage(z_hat: np.ndarray) -> np.ndarray:
    """Leverage h_m = (1 + ẑ_m²)/M of each example; the diagonal of P is 1 − h.

    It is the share of its own gradient that an example loses. In a regression on
    [1, ẑ] with ε = 0, h is the statistician's leverage: it sums to 2 and never exceeds
    1, so |ẑ_m| ≤ √(M − 1).

    Args:
        z_hat: normalized values ẑ, (M,) or (M, D), the batch along axis 0.

    Returns:
        h, with the shape of z_hat.

    Raises:
        TypeError: z_hat is not a floating-point array.
        ValueError: z_hat has another number of axes, is empty, holds one value per
            feature, is not finite, or is not normalized.
    """
    require_normalized(z_hat, (1, 2))
    return (1 + z_hat**2) / len(z_hat)


def regression_residual(
    target: np.ndarray, x: np.ndarray, *, ridge: float = 0.0
) -> Regression:
    """Fit target ≈ a + b x by least squares with the penalty ridge · b², and keep what
    is left.

    With target = g and x = ẑ, the gradient that batch normalization passes back is
    γ/√(σ² + ε) times the residual: for ε = 0 without a penalty, otherwise with ridge =
    M ε/(σ² + ε). Regressing on z instead, the penalty is M ε.

    Args:
        target: what to explain, (M,).
        x: what to explain it with, (M,). Its values must differ, or ridge must be
            positive.
        ridge: penalty on the slope ≥ 0, in squared units of x. The intercept is free.

    Raises:
        TypeError: target or x is not a real floating-point array, or ridge is not a
            real number.
        ValueError: shapes differ or are not (M,), M < 2, values are not finite, ridge
            is negative or not finite, or the slope is undetermined.
    """
    for name, values in (("target", target), ("x", x)):
        require_float_array(name, values)
        _require_ndim(name, values, (1,))
        if np.iscomplexobj(values):
            raise TypeError(
                f"{name} must be real, got {values.dtype}; pass {name}.real"
            )
    require_shape("target", target, x.shape, "one value for each value of x")
    require_batch(len(x), f"axis 0 of x with shape {x.shape}")
    ridge = _require_number("ridge", ridge)
    if not 0 <= ridge < math.inf:
        raise ValueError(
            f"ridge must be finite and at least 0, got {ridge}; "
            "use 0.0 for plain least squares"
        )
    if ridge == 0 and np.ptp(x) == 0:
        raise ValueError(
            "every value of x is the same, so the slope is undetermined; "
            "vary x or use ridge > 0"
        )
    # A penalty is one more row: √ridge · b should be 0.
    design = np.vstack([np.column_stack([np.ones_like(x), x]), [0.0, math.sqrt(ridge)]])
    (intercept, slope), *_ = np.linalg.lstsq(design, np.append(target, 0.0))
    return Regression(float(intercept), float(slope), target - intercept - slope * x)


def gradient_energy(dy: np.ndarray, z_hat: np.ndarray) -> GradientEnergy:
    """Split ‖g‖² of each feature into the parts along 1, along ẑ, and orthogonal to
    both.

    Batch normalization keeps the third part whole, none of the first, and the share r²
    of the second, where r = ε/(σ² + ε). Multiplied by (γ/√(σ² + ε))², what it keeps is
    ‖∂L/∂z‖².

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        z_hat: normalized values ẑ, (M, D), with any ε.

    Raises:
        TypeError: dy or z_hat is not a real floating-point array.
        ValueError: their shapes differ or are not (M, D), M < 2, or values are not
            finite or not normalized.
    """
    require_normalized(z_hat, (2,))
    require_float_array("dy", dy)
    require_shape("dy", dy, z_hat.shape, "the shape of z_hat")
    for name, values in (("dy", dy), ("z_hat", z_hat)):
        if np.iscomplexobj(values):
            raise TypeError(
                f"{name} must be real, got {values.dtype}; pass {name}.real"
            )
    dy, z_hat = dy.astype(np.float64), z_hat.astype(np.float64)
    mean = dy.mean(axis=0)
    length = np.sqrt((z_hat**2).sum(axis=0))
    direction = np.divide(z_hat, length, out=np.zeros_like(z_hat), where=length > 0)
    along = (dy * direction).sum(axis=0)
    rest = ((dy - mean - along * direction) ** 2).sum(axis=0)
    return GradientEnergy(len(dy) * mean**2, along**2, rest)


def require_normalized(z_hat: np.ndarray, ndims: tuple[int, ...]) -> None:
    """Raise an error unless z_hat could have come out of batch normalization along axis
    0.

    Its mean must be 0 and its mean square at most 1, up to the square root of the
    dtype's precision.

    Raises:
        TypeError: z_hat is not a floating-point array.
        ValueError: z_hat has another number of axes than one of `ndims`, M < 2, or
            values are not finite or not normalized.
    """
    require_float_array("z_hat", z_hat)
    _require_ndim("z_hat", z_hat, ndims)
    require_batch(len(z_hat), f"axis 0 of z_hat with shape {z_hat.shape}")
    wide = z_hat.astype(np.result_type(z_hat.dtype, np.float64))
    tolerance = math.sqrt(np.finfo(z_hat.dtype).eps)
    mean, square = np.abs(wide.mean(axis=0)), np.abs((wide * wide).mean(axis=0))
    if (mean > tolerance).any() or (square > 1 + tolerance).any():
        raise ValueError(
            "z_hat must be normalized along axis 0, "
            f"got means up to {mean.max(initial=0):.3g} and mean squares up to "
            f"{square.max(initial=0):.3g}, expected 0 and at most 1; "
            "pass (x - mean)/√(var + eps) with the biased variance"
        )


def _require_ndim(name: str, values: np.ndarray, ndims: tuple[int, ...]) -> None:
    if values.ndim not in ndims:
        shapes = " or ".join({1: "(M,)", 2: "(M, D)"}[ndim] for ndim in ndims)
        raise ValueError(
            f"{name} must have shape {shapes}, got {values.shape}; "
            "the batch is axis 0, a feature is a column"
        )


def _require_number(name: str, value: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{name} must be a real number, got {type(value).__name__}; pass one number"
        )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}; pass an ordinary number")
    return float(value)
