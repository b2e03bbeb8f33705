"""Computing a variance: six algorithms in the arithmetic of their input, and bounds.

Every elementary operation is rounded to the dtype of the input: sums run over the
examples in order and are kept in that dtype, as no library would do it, so that the
algorithms themselves can be compared. Input is a NumPy array, or a PyTorch tensor where
NumPy has no such dtype (torch.bfloat16 rounds each operation too). The exact values to
compare with are in `bnbook.foundations.accuracy`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from bnbook.foundations.forward import batch_statistics
from bnbook.validation import (
    require_axes,
    require_batch,
    require_float_array,
    require_float_tensor,
    require_shape,
)

Rows = np.ndarray | torch.Tensor


def unit_roundoff(dtype: np.dtype | type | torch.dtype) -> float:
    """Largest relative error u of one rounding in `dtype`: half the gap above 1.

    Raises:
        TypeError: `dtype` is not a floating-point type.
    """
    try:
        info = torch.finfo(dtype) if isinstance(dtype, torch.dtype) else np.finfo(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"dtype must be a floating-point type, got {dtype!r}; use for example np.float32"
        ) from error
    return float(info.eps) / 2


def _require_rows(x: Rows) -> int:
    """Check x and return M."""
    if torch.is_tensor(x):
        largest = torch.finfo(require_float_tensor("x", x).dtype).max
    else:
        if np.iscomplexobj(require_float_array("x", x)):
            raise TypeError("x must be real, got complex numbers; pass x.real or |x|")
        largest = float(np.finfo(x.dtype).max)
    require_axes(0, x.ndim)
    count = len(x)
    require_batch(count, f"axis 0 of x with shape {tuple(x.shape)}")
    if count > largest:
        raise ValueError(
            f"{x.dtype} cannot count {count} examples; convert x to a wider dtype"
        )
    return count


def _require_finite(var: Rows, x: Rows) -> Rows:
    """Return `var` unless a sum or square on the way left the range of the dtype."""
    finite = torch.isfinite(var) if torch.is_tensor(var) else np.isfinite(var)
    if not finite.all():
        raise ValueError(
            f"a sum or a square overflows {x.dtype}; convert x to a wider dtype or rescale it"
        )
    return var


def _total(rows: Rows) -> Rows:
    """Sum over axis 0, one row after the other."""
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total


def one_pass_terms(x: Rows) -> tuple[Rows, Rows]:
    """The two terms E[x²] and E[x]² whose difference is the one-pass variance.

    Args and errors as for `variance_one_pass`; each term has the shape of one row
    and the dtype of x.
    """
    count = _require_rows(x)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _total(x) / count
        mean_square = _total(x * x) / count
        return _require_finite(mean_square, x), _require_finite(mean * mean, x)


def variance_one_pass(x: Rows) -> Rows:
    """The textbook formula σ² = E[x²] − E[x]²; both sums can be formed in one pass.

    Args:
        x: the values, (M, …), M ≥ 2; statistics are taken over axis 0.

    Returns:
        The biased variance, shape of one row, dtype of x. It can be negative.

    Raises:
        TypeError: x is not a real floating-point array or tensor.
        ValueError: M < 2, a value is not finite, or a sum or square overflows the
            dtype of x.

    Source: Chan, Golub and LeVeque (1983), the textbook algorithm.
    """
    mean_square, square_of_mean = one_pass_terms(x)
    return mean_square - square_of_mean


def variance_shifted(x: Rows, shift: Rows | float | None = None) -> Rows:
    """The one-pass formula for x − d, which has the same variance and a smaller mean.

    Args:
        x: as for `variance_one_pass`.
        shift: d, a number or one per feature (the shape of one row); by default the
            first row of x.

    Returns and raises:
        as `variance_one_pass`; ValueError also if shift has another shape or is not
        finite.

    Source: Chan, Golub and LeVeque (1983), shifted data.
    """
    _require_rows(x)
    if shift is None:
        shift = x[0]
    elif torch.is_tensor(x):
        shift = torch.as_tensor(shift, dtype=x.dtype)
    else:
        shift = np.asarray(shift, dtype=x.dtype)
    finite = (torch if torch.is_tensor(x) else np).isfinite(shift)
    if not finite.all():
        raise ValueError(
            f"shift must be finite in {x.dtype}; use a value near the mean of x"
        )
    if shift.ndim:
        require_shape("shift", shift, tuple(x.shape[1:]), "the shape of one row of x")
    with np.errstate(over="ignore"):
        moved = x - shift
    return variance_one_pass(_require_finite(moved, x))


def variance_two_pass(x: Rows, *, corrected: bool = False) -> Rows:
    """The definition σ² = E[(x − μ)²]: one pass for the mean, one for the squares.

    Args:
        x: as for `variance_one_pass`.
        corrected: subtract E[x − μ]², which is 0 but for the rounding error of μ.

    Returns and raises: as `variance_one_pass`.

    Source: Yu (2021), Eq. (7); Chan, Golub and LeVeque (1983), the two-pass algorithm
    and its corrected form.
    """
    count = _require_rows(x)
    with np.errstate(over="ignore", invalid="ignore"):
        centred = x - _total(x) / count
        squares = _total(centred * centred)
        if corrected:
            remainder = _total(centred)
            squares = squares - remainder * remainder / count
        return _require_finite(squares / count, x)


def variance_welford(x: Rows) -> Rows:
    """Update mean and M2 = Σ (x − μ)² with each example, as the data arrive.

    Returns and raises: as `variance_one_pass`.

    Source: Welford (1962).
    """
    count = _require_rows(x)
    mean, m2 = x[0], 0 * x[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for seen, row in enumerate(x[1:], start=2):
            delta = row - mean
            mean = mean + delta / seen
            m2 = m2 + delta * (row - mean)
        return _require_finite(m2 / count, x)


def variance_pairwise(x: Rows) -> Rows:
    """Split the batch in halves, down to single examples, and merge their statistics.

    Returns and raises: as `variance_one_pass`.

    Source: Chan, Golub and LeVeque (1983), the pairwise algorithm.
    """
    count = _require_rows(x)
    with np.errstate(over="ignore", invalid="ignore"):
        _, _, m2 = _merged_tree(x)
        return _require_finite(m2 / count, x)


def _merged_tree(rows: Rows) -> tuple[int, Rows, Rows]:
    if len(rows) == 1:
        return 1, rows[0], 0 * rows[0]
    half = len(rows) // 2
    return _merge(_merged_tree(rows[:half]), _merged_tree(rows[half:]))


def _merge(
    a: tuple[int, Rows, Rows], b: tuple[int, Rows, Rows]
) -> tuple[int, Rows, Rows]:
    """(count, mean, M2) of the union; ratios of counts are Python floats."""
    (count_a, mean_a, m2_a), (count_b, mean_b, m2_b) = a, b
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * (count_b / count)
    m2 = m2_a + m2_b + delta * delta * (count_a * count_b / count)
    return count, mean, m2


@dataclass(frozen=True)
class Moments:
    """Statistics of one group of examples, enough to merge it with another.

    Attributes:
        count: number of values n ≥ 1 behind each mean.
        mean: μ, one per feature.
        m2: Σ (x − μ)² ≥ 0, the shape of mean; n times the biased variance.

    Raises (when made):
        TypeError: count is not an integer, or mean or m2 is not a real floating-point
            array.
        ValueError: count < 1; mean and m2 differ in shape, are not finite, or m2 is
            negative.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray

    def __post_init__(self) -> None:
        """Refuse statistics that no group of examples can have."""
        if not isinstance(self.count, Integral) or isinstance(
            self.count, bool | np.bool_
        ):
            raise TypeError(
                f"count must be an integer, got {type(self.count).__name__}"
            )
        if self.count < 1:
            raise ValueError(
                f"count must be at least 1, got {self.count}; an empty group has no mean: leave it out"
            )
        for name, value in (("mean", self.mean), ("m2", self.m2)):
            if np.iscomplexobj(require_float_array(name, value)):
                raise TypeError(f"{name} must be real, got complex numbers")
        require_shape("m2", self.m2, self.mean.shape, "the shape of mean")
        if (self.m2 < 0).any():
            raise ValueError(
                f"m2 is a sum of squares, got {self.m2.min():.3g}; compute it from centred values"
            )

    @property
    def var(self) -> np.ndarray:
        """Biased variance σ², the shape of mean."""
        return self.m2 / self.count


def moments(x: np.ndarray, axes: int | Sequence[int] = 0) -> Moments:
    """Count, mean and M2 of each feature of one group, accumulated in at least float64.

    Args and errors as for `bnbook.foundations.forward.batch_statistics`.
    """
    statistics = batch_statistics(x, axes)
    axes = require_axes(axes, x.ndim)
    mean, var = (np.squeeze(value, axes) for value in (statistics.mean, statistics.var))
    return Moments(statistics.count, mean, var * statistics.count)


def merge_statistics(a: Moments, b: Moments) -> Moments:
    """Statistics of the union of two groups, exact but for rounding.

    With δ = μ_b − μ_a and n = n_a + n_b, the mean is μ_a + δ n_b/n and M2 is
    M2_a + M2_b + δ² n_a n_b/n. Neither the examples nor equal counts are needed.

    Raises:
        TypeError: an argument is not a `Moments`.
        ValueError: the groups differ in their features (shapes), or the result
            overflows.

    Source: Chan, Golub and LeVeque (1983), the pairwise algorithm.
    """
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, Moments):
            raise TypeError(
                f"{name} must be Moments, got {type(value).__name__}; make them with moments(x)"
            )
    require_shape(
        "b.mean", b.mean, a.mean.shape, "the shape of a.mean, one entry per feature"
    )
    with np.errstate(over="ignore", invalid="ignore"):
        count, mean, m2 = _merge((a.count, a.mean, a.m2), (b.count, b.mean, b.m2))
    return Moments(
        count,
        _require_finite(np.asarray(mean), mean),
        _require_finite(np.asarray(m2), m2),
    )


ALGORITHMS = {
    "one-pass": variance_one_pass,
    "shifted": variance_shifted,
    "Welford": variance_welford,
    "pairwise merge": variance_pairwise,
    "two-pass": variance_two_pass,
    "corrected two-pass": lambda x: variance_two_pass(x, corrected=True),
}


def error_bound(algorithm: str, count: int, unit: float, kappa: float) -> float:
    """Leading term of the worst-case relative error of a variance, without constants.

    Args:
        algorithm: a key of `ALGORITHMS`.
        count: M ≥ 2, summed one after the other (pairwise in "pairwise merge").
        unit: unit roundoff u of the working dtype.
        kappa: condition number κ = √(1 + μ²/σ²) ≥ 1; for "shifted" that of the shifted
            data.

    Returns:
        The bound, in units of σ². It says nothing where M u is not small.

    Raises:
        ValueError: an argument is out of range.

    Source: Chan, Golub and LeVeque (1983), with this book's constants: none.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {list(ALGORITHMS)}, got {algorithm!r}"
        )
    if not (count >= 2 and 0 < unit < 1 and 1 <= kappa < math.inf):
        raise ValueError(
            f"need count ≥ 2, 0 < unit < 1 and 1 ≤ kappa < ∞, got {count}, {unit} and {kappa}"
        )
    drift = count * unit
    return {
        "one-pass": drift * kappa**2,
        "shifted": drift * kappa**2,
        "Welford": drift * kappa,
        "pairwise merge": unit * math.log2(count) * kappa,
        "two-pass": drift + (drift * kappa) ** 2,
        "corrected two-pass": drift + drift * (drift * kappa) ** 2,
    }[algorithm]
