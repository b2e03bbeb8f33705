"""A table that compares independent computations of one quantity, and fails where they differ."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Rows of (what was compared, shape, bound that holds); shown as a table in a notebook."""

    reference: str
    rows: tuple[tuple[str, tuple[int, ...], float], ...]

    def __repr__(self) -> str:
        """Plain text, which nbval compares."""
        width = max(len(name) for name, _, _ in self.rows)
        lines = [
            f"largest difference from {self.reference}, relative to its largest entry:"
        ]
        lines += [
            f"  {name:<{width}}  {shape!s:<14} < {bound:.0e}"
            for name, shape, bound in self.rows
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{shape}</td><td>&lt; {bound:.0e}</td></tr>"
            for name, shape, bound in self.rows
        )
        return (
            '<table class="bn-agreement"><thead><tr><th>Computed by</th><th>Shape</th>'
            f"<th>Largest difference from {html.escape(self.reference)}, relative to its largest entry</th>"
            "</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )


def compare(
    reference: str,
    expected: np.ndarray,
    others: Mapping[str, np.ndarray],
    *,
    bound: float,
) -> Agreement:
    """Compare each of `others` with `expected`, relative to its largest entry.

    The size of a rounding error depends on the machine, so the table states the bound that holds.

    Raises:
        AssertionError: an array has another shape, is not finite, or differs by `bound` or more.
        ValueError: there is nothing to compare, or the bound is not positive and finite.
    """
    if not others or np.size(expected) == 0:
        raise ValueError(
            "there is nothing to compare; pass at least one other result and a non-empty array"
        )
    if not 0 < bound < np.inf:
        raise ValueError(f"the bound must be positive and finite, got {bound}")
    expected = np.asarray(expected)
    if not np.isfinite(expected).all():
        raise AssertionError(f"{reference} is not finite")
    scale = float(np.abs(expected).max()) or 1.0
    rows = []
    for name, value in others.items():
        value = np.asarray(value)
        if value.shape != expected.shape:
            raise AssertionError(
                f"{name} has shape {value.shape}, {reference} has {expected.shape}"
            )
        difference = float(np.abs(value - expected).max()) / scale
        if not difference < bound:  # also catches NaN
            by = f"{difference:.3g}, allowed is {bound:.0e}"
            raise AssertionError(f"{name} differs from {reference} by {by}")
        rows.append((name, value.shape, bound))
    return Agreement(reference, tuple(rows))
