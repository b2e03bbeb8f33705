"""What a function returned, copied into plain tuples before anything is compared.

No operator, method or attribute of a student's object takes part in a comparison: only exact NumPy arrays
and numbers are accepted, and they become Python floats at once. So an object with a generous `__eq__`, an
array subclass, or a patched `np.allclose` has nothing to act on.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy import ndarray

FLOOR = (
    1e-3  # results smaller than this are compared as if their largest entry were this
)
MAX_SIZE = 100_000  # entries that are copied; every exercise's result is far smaller
_WHOLE = (
    int,
    *(np.int8, np.int16, np.int32, np.int64, np.longlong),
    *(np.uint8, np.uint16, np.uint32, np.uint64, np.ulonglong),
)
_NUMBERS = (
    *_WHOLE,
    float,
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
)


@dataclass(frozen=True)
class Output:
    """One returned array or number.

    Attributes:
        shape: its shape, () for a number.
        dtype: name of its dtype.
        values: in C order; None unless they are real numbers and not too many.
        rtol: how far another result may be from this one, relative to its largest entry.
    """

    shape: tuple[int, ...]
    dtype: str
    values: tuple[float, ...] | None
    rtol: float

    @property
    def tolerance(self) -> float:
        """How far an entry of another result may be from the entry of this one."""
        return self.rtol * max(scale(self), FLOOR)


@dataclass(frozen=True)
class WrongType:
    """A return value that is no array, number or tuple where one was expected."""

    text: str


Observed = tuple[Output, ...] | WrongType


def is_whole(output: Output) -> bool:
    """Whether its dtype holds whole numbers only."""
    return output.dtype.startswith(("int", "uint"))


def comparable(got: Output, expected: Output) -> bool:
    """Whether the dtype of a result is the expected one, or one of whole numbers.

    Whole numbers may stand for floats: where the values are equal, nothing is lost, and where they
    are not, the values say so. A result in single precision has lost digits, so it may not.
    """
    if got.dtype == expected.dtype:
        return True
    return is_whole(got) and (expected.dtype == "float64" or is_whole(expected))


def observe(value: Any, names: tuple[str, ...], rtol: float) -> Observed:
    """Copy a return value: one output for a single name, else a tuple or list with one for each name."""
    if len(names) == 1:
        output = _output(value, names[0], f"`{names[0]}`", rtol)
        return output if isinstance(output, WrongType) else (output,)
    listed = f"({', '.join(names)})"
    if type(value) is list and len(value) == len(names):
        value = tuple(value)
    if type(value) is not tuple:
        return WrongType(
            f"Your function returned {_kind(value)}; return the tuple `{listed}`."
        )
    if len(value) != len(names):
        return WrongType(
            f"Your function returned a tuple of length {len(value)}; return {len(names)} arrays, `{listed}`."
        )
    outputs = [
        _output(item, name, f"`{listed}`", rtol)
        for item, name in zip(value, names, strict=True)
    ]
    wrong = [output for output in outputs if isinstance(output, WrongType)]
    return wrong[0] if wrong else tuple(outputs)


def _output(value: Any, name: str, expected: str, rtol: float) -> Output | WrongType:
    if type(value) is ndarray:
        real = value.dtype.kind in "fiu" and value.size <= MAX_SIZE
        flat = tuple(float(v) for v in value.ravel().tolist()) if real else None
        return Output(value.shape, str(value.dtype), flat, rtol)
    if type(value) in _NUMBERS:
        plain = type(value) is float or type(value) in _WHOLE
        dtype = "float64" if plain else str(value.dtype)
        return Output((), dtype, (float(value),), rtol)
    return WrongType(
        f"Your function returned {_kind(value)} where {expected} was expected.{_advice(value, name)}"
    )


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    if type(value) in (list, tuple):
        return f"a {name} of length {len(value)}"
    return f"{'an' if name.startswith(('nd', *'aeiouAEIO')) else 'a'} {name}"


def _advice(value: Any, name: str) -> str:
    if value is None:
        return " A function without `return` gives None."
    if type(value) is tuple:
        return f" Return `{name}` alone."
    if type(value) is list:
        return f" Return a NumPy array: `np.array({name})`."
    if type(value).__module__.partition(".")[0] == "torch":
        return f" Return a NumPy array: `{name}.detach().numpy()`."
    if type(value) in (Fraction, Decimal) or type(value).__module__.startswith(
        "sympy."
    ):
        return f" Its value may be right; the checker compares floats: return `float({name})`."
    if issubclass(type(value), ndarray):
        return f" It is a subclass of np.ndarray; return a plain array: `np.asarray({name})`."
    return " Return a NumPy array."


def scale(output: Output) -> float:
    """Largest finite magnitude among the values."""
    return max((abs(v) for v in output.values if math.isfinite(v)), default=0.0)


def close(got: float, expected: float, tolerance: float) -> bool:
    """Whether two numbers agree; NaN agrees with NaN, and an infinity with itself."""
    if math.isfinite(got) and math.isfinite(expected):
        return abs(got - expected) <= tolerance
    return got == expected or (math.isnan(got) and math.isnan(expected))


def agree(got: Observed, expected: Observed) -> bool:
    """Whether two results have the same shapes, comparable dtypes, and values equal near machine precision."""
    if isinstance(got, WrongType) or isinstance(expected, WrongType):
        return False
    return len(got) == len(expected) and all(
        _agree(g, e) for g, e in zip(got, expected, strict=True)
    )


def _agree(got: Output, expected: Output) -> bool:
    if (
        got.shape != expected.shape
        or not comparable(got, expected)
        or None in (got.values, expected.values)
    ):
        return False
    return not deviating(got, expected)


def deviating(got: Output, expected: Output) -> list[int]:
    """Flat indices of the entries that differ; both outputs have the same shape."""
    tolerance = expected.tolerance
    pairs = zip(got.values, expected.values, strict=True)
    return [i for i, (g, e) in enumerate(pairs) if not close(g, e, tolerance)]


def unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index of the entry number `flat` in C order."""
    index = []
    for length in reversed(shape):
        flat, last = divmod(flat, length)
        index.append(last)
    return tuple(reversed(index))
