"""What counts as evidence on a claim, and what it says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp


class LedgerError(ValueError):
    """The ledger is malformed, or a settlement contradicts it."""


@dataclass(frozen=True)
class Interval:
    """A measured quantity: `low` to `high` around `estimate`, and the values [claim_low, claim_high] claimed.

    The claim holds if the whole interval lies among the claimed values.
    """

    estimate: float
    low: float
    high: float
    claim_low: float = -np.inf
    claim_high: float = np.inf

    def __post_init__(self):
        """Refuse an interval that could support anything."""
        if (
            not self.low <= self.estimate <= self.high
            or not np.isfinite([self.low, self.high]).all()
        ):
            got = f"{self.low}, {self.estimate}, {self.high}"
            raise LedgerError(
                f"an interval needs finite low ≤ estimate ≤ high, got {got}"
            )
        if not self.claim_low <= self.claim_high or (
            self.claim_low == -np.inf and self.claim_high == np.inf
        ):
            raise LedgerError(
                "an interval needs the claimed values: give claim_low, claim_high or both"
            )


Evidence = bool | np.bool_ | float | np.ndarray | sp.Basic | sp.MatrixBase | Interval
ManyEvidence = Evidence | Sequence[Evidence] | Mapping[str, Evidence]


def judge(
    claim_id: str, kind: str, evidence, tolerance: float
) -> tuple[bool, tuple[str, ...]]:
    """Whether the evidence supports the claim, and that in words; ✗ marks what does not."""
    if isinstance(evidence, Mapping):
        named = list(evidence.items())
    else:
        named = [
            ("", item)
            for item in (evidence if isinstance(evidence, list | tuple) else [evidence])
        ]
    if not named:
        raise LedgerError(
            f"{claim_id}: the evidence is empty; pass what the cell computed"
        )
    judged = [
        (name, *_judge_one(claim_id, kind, item, tolerance)) for name, item in named
    ]
    words = [
        ("" if holds else "✗ ") + (f"{name}: {text}" if name else text)
        for name, holds, text in judged
    ]
    return all(holds for _, holds, _ in judged), tuple(
        dict.fromkeys(words)
    )  # without repetitions


def _judge_one(claim_id: str, kind: str, item, tolerance: float) -> tuple[bool, str]:
    if kind == "measured" and not isinstance(item, Interval):
        got = type(item).__name__
        raise LedgerError(
            f"{claim_id} is a measurement: settle it with an Interval, got {got}"
        )
    if isinstance(item, bool | np.bool_ | sp.logic.boolalg.BooleanAtom):
        return bool(item), "yes" if item else "no"
    if (
        kind == "numeric"
        and isinstance(item, sp.Expr)
        and item.is_number
        and item.has(sp.Float)
    ):
        item = complex(item)
    if isinstance(item, sp.Basic | sp.MatrixBase):
        return _judge_symbolic(claim_id, item)
    if kind == "proof":
        raise LedgerError(
            f"{claim_id} is a proof: settle it with SymPy, got {type(item).__name__}"
        )
    if isinstance(item, Interval):
        holds = bool(item.claim_low <= item.low and item.high <= item.claim_high)
        found = tuple(
            f"{v:.{_digits(item)}g}" for v in (item.estimate, item.low, item.high)
        )
        words = "measured {}, interval {} to {}; claimed ".format(*found)
        if np.isinf(item.claim_low):
            return holds, words + f"at most {item.claim_high:.3g}"
        if np.isinf(item.claim_high):
            return holds, words + f"at least {item.claim_low:.3g}"
        return holds, words + f"{item.claim_low:.3g} to {item.claim_high:.3g}"
    return _judge_residuals(claim_id, item, tolerance)


def _digits(item: Interval) -> int:
    """Significant digits that tell the ends of an interval apart; three at least, and
    where the ends differ by rounding error only."""
    largest, width = max(abs(item.low), abs(item.high)), item.high - item.low
    if not 1e-6 * largest < width < largest:
        return 3
    return max(3, math.ceil(math.log10(largest / width)) + 1)


def _judge_symbolic(claim_id: str, item: sp.Basic | sp.MatrixBase) -> tuple[bool, str]:
    entries = list(item) if isinstance(item, sp.MatrixBase) else [item]
    if not entries or not all(
        isinstance(e, sp.Expr) and not isinstance(e, sp.MatrixExpr) for e in entries
    ):
        raise LedgerError(
            f"{claim_id}: {item!r:.200} is neither decided nor a residual; pass lhs - rhs or is_zero(…)"
        )
    for entry in entries:
        if entry.has(sp.Float, sp.nan, sp.zoo) or entry.is_infinite:
            raise LedgerError(
                f"{claim_id}: a symbolic residual must be exact and finite, got {entry!r:.200}"
            )
    nonzero = [entry for entry in entries if entry != 0]
    # SymPy's numeric test of an identity takes minutes on large sums, and can fail there.
    if any(entry.equals(0) for entry in nonzero if not entry.has(sp.Sum)):
        # An identity that was not simplified must not convict its source.
        raise LedgerError(
            f"{claim_id}: the residual is 0 but not in normal form; simplify it first"
        )
    return (
        not nonzero,
        "the residual is not 0" if nonzero else "the residual is 0 identically",
    )


def _judge_residuals(claim_id: str, item, tolerance: float) -> tuple[bool, str]:
    try:
        residuals = np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LedgerError(
            f"{claim_id}: residuals must be numbers, got {item!r:.200}"
        ) from error
    if residuals.dtype == bool:
        raise LedgerError(
            f"{claim_id}: an array of booleans is no residual; pass its .all()"
        )
    if residuals.dtype.kind not in "iufc":
        raise LedgerError(f"{claim_id}: residuals must be numbers, got {item!r:.200}")
    residuals = np.abs(residuals)
    if residuals.size == 0 or not np.isfinite(residuals).all():
        raise LedgerError(
            f"{claim_id}: residuals must be finite and at least one, got {item!r:.200}"
        )
    largest, count = (
        residuals.max(),
        f"{residuals.size} value{'s' if residuals.size > 1 else ''}",
    )
    if largest <= tolerance:
        # The size of a rounding error depends on the machine, so the card states only the bound that holds.
        return True, f"largest residual of {count} is within {tolerance:.0e}"
    return False, f"largest residual of {count} is {largest:.2g}"
