"""A plain table as the output of a notebook cell, in HTML and in text."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
LONG = 26  # characters from which a cell may be broken into lines


@dataclass(frozen=True)
class Table:
    """Header and rows of text; Markdown links in a cell become links on the page."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        """Columns aligned with spaces, which nbval compares."""
        widths = [
            max(map(len, column))
            for column in zip(self.header, *self.rows, strict=True)
        ]
        lines = [
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            )
            for row in (self.header, *self.rows)
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{_html(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        return (
            '<div style="overflow-x: auto" tabindex="0"><table class="bn-agreement">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Table:
    """Make a table that a notebook shows.

    Args:
        header: names of the columns.
        rows: their entries, as many in each row; anything that `str` turns into text.

    Raises:
        ValueError: there is no row, or a row has more or fewer entries than the header.
    """
    names, lines = _texts(header), tuple(map(_texts, rows))
    if not lines:
        raise ValueError("the table has no rows; pass at least one")
    for line in lines:
        if len(line) != len(names):
            raise ValueError(
                f"the header has {len(names)} columns and a row has {len(line)}: {line}"
            )
    return Table(names, lines)


def _texts(cells: Sequence[object]) -> tuple[str, ...]:
    return tuple(map(str, cells))


def _cell(text: str) -> str:
    long = len(LINK.sub(r"\1", text)) > LONG
    style = ' style="white-space: normal; min-width: 14em"' if long else ""
    return f"<td{style}>{_html(text)}</td>"


def _html(text: str) -> str:
    return LINK.sub(r'<a href="\2">\1</a>', html.escape(text, quote=False))
