"""The bug museum: bugs of batch normalization that shipped, what catches each, and its mend.

An exhibit pairs a bug from `museum_bugs` with the right decision from `museum_practice`
and with an invariant from `museum_invariants`. `examine` runs one, `catches` runs all
invariants on all bugs.
"""

import html
from dataclasses import dataclass

import numpy as np
from torch import nn

from bnbook.foundations.forward import BatchNorm
from bnbook.foundations.museum_exhibits import EXHIBITS, Exhibit, exhibit
from bnbook.foundations.museum_invariants import Setting
from bnbook.foundations.museum_practice import Implementation


class TorchLayer(nn.BatchNorm1d):
    """PyTorch's own layer, with γ and β under the names that the invariants use."""

    gamma = property(lambda self: self.weight)
    beta = property(lambda self: self.bias)


CORRECT = {
    "the mend": Implementation(),
    "the book's BatchNorm": Implementation(layer=BatchNorm),
    "torch.nn.BatchNorm1d": Implementation(layer=TorchLayer),
}


@dataclass(frozen=True)
class Examination:
    """Whether each implementation satisfies an exhibit's invariant; shown as a table in
    a notebook.
    """

    exhibit: Exhibit
    verdicts: tuple[tuple[str, bool], ...]

    def __repr__(self) -> str:
        """Plain text, which nbval compares."""
        width = max(len(name) for name, _ in self.verdicts)
        lines = [
            f"  {name:<{width}}  {self._word(holds)}" for name, holds in self.verdicts
        ]
        return "\n".join([self.exhibit.invariant.statement, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{self._word(holds)}</td></tr>"
            for name, holds in self.verdicts
        )
        head = html.escape(self.exhibit.invariant.statement)
        return (
            f'<table class="bn-agreement"><thead><tr><th>{head}</th><th>Holds?</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    @staticmethod
    def _word(holds: bool) -> str:
        return "✓ holds" if holds else "✗ violated"


def examine(exhibit_id: str, setting: Setting | None = None) -> Examination:
    """Run an exhibit's invariant on its bug and on each correct implementation.

    Args:
        exhibit_id: for example "one-pass".
        setting: sizes, constants and seed.

    Raises:
        AssertionError: the bug satisfies the invariant, or another one violates it:
            the museum is wrong.
        ValueError: there is no such exhibit.
    """
    shown = exhibit(exhibit_id)
    tried = {"the bug": shown.implementation, **CORRECT}
    verdicts = tuple(
        (name, shown.invariant.holds(tried[name], setting)) for name in tried
    )
    for name, holds in verdicts:
        if holds == (name == "the bug"):
            raise AssertionError(
                f"{shown.id}: {name} {'satisfies' if holds else 'violates'} the invariant"
            )
    return Examination(shown, verdicts)


def catches(setting: Setting | None = None) -> np.ndarray:
    """Which invariant catches which bug: booleans, bugs in rows and invariants in
    columns, as in EXHIBITS.
    """
    return np.array(
        [
            [
                not column.invariant.holds(row.implementation, setting)
                for column in EXHIBITS
            ]
            for row in EXHIBITS
        ]
    )
