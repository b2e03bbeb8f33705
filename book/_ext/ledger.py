"""Sphinx directives that build the claims and errata pages from the ledger and the stored outputs."""

from collections import Counter

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bnbook import claims

BADGES = {
    claims.HOLDS: "holds",
    claims.CORRECTED: "corrected",
    claims.ASSUMING: "assumption",
    claims.NOT_REPRODUCED: "not-reproduced",
    claims.PENDING: "pending",
}


class _LedgerDirective(SphinxDirective):
    """Parse generated Markdown where the directive stands."""

    def _watch(self):
        self.env.note_dependency(str(claims.LEDGER))
        for path in claims.BOOK.rglob("*.ipynb"):
            self.env.note_dependency(str(path))

    def _parse(self, lines: list[str]) -> list[nodes.Node]:
        container = nodes.container()
        self.state.nested_parse(
            StringList(lines, source=str(claims.LEDGER)), self.content_offset, container
        )
        return container.children

    def _link(self, found: claims.Found | None) -> str:
        if not found:
            return "not yet"
        up = "../" * self.env.docname.count("/")
        words = found.chapter.replace("/", "/<wbr>").replace("_", "_<wbr>")
        return f'<a href="{up}{found.chapter}.html#claim-{found.id}">{words}</a>'


class ClaimsTable(_LedgerDirective):
    """``{claims-table} SOURCE``: the rows of one source, each linked to the cell that settles it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table; the class of each row names its verdict, for the filter."""
        self._watch()
        source = self.arguments[0]
        found = {
            settlement.id: settlement for settlement in claims.found_in_notebooks()
        }
        rows = [
            claim for claim in claims.load_ledger().values() if claim.source == source
        ]
        if not rows:
            raise self.error(f"the ledger has no claims of source {source!r}")
        return _table(
            self,
            ["Claim", "As printed", "Verdict", "Settled in"],
            [
                [
                    f"`{claim.id}`<br>{claim.where}",
                    _statement(claim, found.get(claim.id)),
                    _badge(claim),
                    self._where(claim, found),
                ]
                for claim in rows
            ],
            [claim.verdict for claim in rows],
        )

    def _where(self, claim, found):
        return (
            self._link(found[claim.id])
            if claim.id in found
            else f"{claim.chapter} (to come)"
        )


class ErrataTable(_LedgerDirective):
    """``{errata-table}``: every claim whose printed form fails and whose corrected form holds."""

    def run(self) -> list[nodes.Node]:
        """Return one table over all sources."""
        self._watch()
        found = {
            settlement.id: settlement for settlement in claims.found_in_notebooks()
        }
        rows = [
            claim
            for claim in claims.load_ledger().values()
            if claim.verdict == claims.CORRECTED
        ]
        if not rows:
            return [
                nodes.paragraph(text="No printed formula has been corrected so far.")
            ]
        return _table(
            self,
            ["Where", "As printed", "Corrected", "Shown in"],
            [
                [
                    f"{c.cited}<br>`{c.id}`",
                    c.statement,
                    c.corrected,
                    self._link(found.get(c.id)),
                ]
                for c in rows
            ],
            [claim.verdict for claim in rows],
        )


class LedgerProgress(_LedgerDirective):
    """``{claims-progress}``: how many claims of each source are settled."""

    def run(self) -> list[nodes.Node]:
        """Return a table with a progress bar for each source."""
        self._watch()
        ledger = claims.load_ledger().values()
        rows = []
        for source, title in claims.SOURCES.items():
            verdicts = Counter(
                claim.verdict for claim in ledger if claim.source == source
            )
            total, settled = (
                verdicts.total(),
                verdicts.total() - verdicts[claims.PENDING],
            )
            label = f"{title}: {settled} of {total} settled"
            # A maximum of 0 is not valid HTML.
            bar = f'<progress max="{total or 1}" value="{settled}" aria-label="{label}"></progress>'
            counts = (
                str(verdicts[verdict])
                for verdict in claims.VERDICTS
                if verdict != claims.PENDING
            )
            rows.append([title, f"{bar} {settled} of {total}", *counts])
        head = [
            "Source",
            "Settled",
            "Hold",
            "Corrected",
            "Under assumptions",
            "Not reproduced",
        ]
        return _table(self, head, rows, [""] * len(rows))


def _statement(claim: claims.Claim, found: claims.Found | None) -> str:
    text = claim.statement
    if claim.corrected:
        what = "Corrected" if claim.verdict == claims.CORRECTED else "Note"
        text += f"<br>*{what}:* {claim.corrected}"
    if found and claim.verdict == claims.ASSUMING:
        names = [what.removeprefix("assuming ") for what, _ in found.evidence[1:]]
        text += f"<br>*Holds assuming:* {'; '.join(names)}"
    return text


def _badge(claim: claims.Claim) -> str:
    return f'<span class="bn-verdict bn-verdict--{BADGES[claim.verdict]}">{claim.verdict}</span>'


def _table(
    directive: _LedgerDirective,
    head: list[str],
    rows: list[list[str]],
    verdicts: list[str],
) -> list[nodes.Node]:
    """A table whose cells are parsed as Markdown, so that mathematics and links work in them."""
    table = nodes.table(classes=["bn-ledger"])
    group = nodes.tgroup(cols=len(head))
    table += group
    group.extend(nodes.colspec(colwidth=1) for _ in head)
    group += nodes.thead("", _row(directive, head, "head"))
    kinds = [BADGES.get(verdict, "progress") for verdict in verdicts]
    group += nodes.tbody(
        "", *(_row(directive, row, kind) for row, kind in zip(rows, kinds, strict=True))
    )
    return [nodes.container("", table, classes=["bn-scroll"])]


def _row(directive: _LedgerDirective, cells: list[str], kind: str) -> nodes.row:
    row = nodes.row(classes=[f"bn-row--{kind}"])
    for cell in cells:
        row += nodes.entry("", *directive._parse([" ".join(cell.split())]))
    return row


def setup(app: Sphinx) -> dict:
    """Register the directives."""
    app.add_directive("claims-table", ClaimsTable)
    app.add_directive("errata-table", ErrataTable)
    app.add_directive("claims-progress", LedgerProgress)
    return {"version": "1", "parallel_read_safe": True}
