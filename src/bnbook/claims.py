"""The claims ledger: every claim of the sources, and the evidence that settles it.

``book/claims.yml`` lists the claims. A notebook cell settles one with `settle`, which computes the verdict
from what the cell has just computed and refuses to disagree silently with the ledger. The page
``book/appendix/claims`` and the tests read the settlements back from the notebooks' stored outputs.
"""

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from bnbook.evidence import Interval as Interval  # notebooks say claims.Interval
from bnbook.evidence import LedgerError, ManyEvidence, judge

BOOK = Path(__file__).parents[2] / "book"
LEDGER = BOOK / "claims.yml"
MIME = "application/vnd.bnbook.claim+json"

HOLDS, CORRECTED, ASSUMING = "holds", "corrected", "holds under assumptions"
NOT_REPRODUCED, PENDING = "not reproduced", "pending"
VERDICTS = (HOLDS, CORRECTED, ASSUMING, NOT_REPRODUCED, PENDING)
KINDS = ("proof", "numeric", "measured")

SOURCES = {
    "yu2021": "Yu (2021)",
    "sari2020quantized": "Sari and Partovi Nia (2020)",
    "morwani2020understanding": "Morwani (2020)",
    "extreme2022": "Anonymous (2022)",
    "book": "This book",
}


@dataclass(frozen=True)
class Claim:
    """One row of the ledger; `statement` and `corrected` are Markdown with LaTeX between dollar signs."""

    id: str
    source: str
    where: str
    statement: str
    kind: str
    verdict: str
    corrected: str | None
    chapter: str

    @property
    def cited(self) -> str:
        """Source and place, as in "Yu (2021), Eq. (12)"."""
        return f"{SOURCES[self.source]}, {self.where}"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML's safe loader, except that it refuses a key given twice, of which it would keep the last."""

    def construct_mapping(self, node, deep=False):
        """Compare the keys before they become a dictionary."""
        keys = [key.value for key, _ in node.value]
        if doubled := {str(key) for key in keys if keys.count(key) > 1}:
            raise LedgerError(
                f"{', '.join(sorted(doubled))} is given twice{node.start_mark}"
            )
        return super().construct_mapping(node, deep)


def load_ledger(path: Path | None = None) -> dict[str, Claim]:
    """Read and validate the ledger, `LEDGER` unless a path is given.

    Returns:
        The claims by id, in the order of the file.

    Raises:
        LedgerError: the file is not a YAML list; an entry lacks a key, has a foreign one or one given twice,
            repeats an id or has one that is no word for an address, names an unknown source, kind or
            verdict, has an empty text, or is corrected without saying how.
    """
    names = [field.name for field in fields(Claim)]
    claims: dict[str, Claim] = {}
    try:
        entries = yaml.load((path or LEDGER).read_text(encoding="utf-8"), _Loader) or []
    except yaml.YAMLError as error:
        raise LedgerError(f"the ledger is not valid YAML: {error}") from error
    if not isinstance(entries, list):
        raise LedgerError(
            f"the ledger must be a list of entries, got {type(entries).__name__}"
        )
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != set(names):
            raise LedgerError(
                f"an entry must have exactly the keys {names}, got {entry!r:.200}"
            )
        claim = Claim(**entry)
        if not isinstance(claim.id, str) or not re.fullmatch(
            r"[a-z0-9]+(-[a-z0-9]+)*", claim.id
        ):
            raise LedgerError(
                f"an id is lower-case words and numbers joined by hyphens, got {claim.id!r}"
            )
        if claim.id in claims:
            raise LedgerError(f"{claim.id} is in the ledger twice")
        for name, allowed in (
            ("source", tuple(SOURCES)),
            ("kind", KINDS),
            ("verdict", VERDICTS),
        ):
            if (value := getattr(claim, name)) not in allowed:
                raise LedgerError(
                    f"{claim.id}: {name} must be one of {allowed}, got {value!r}"
                )
        for name in ("where", "statement", "chapter"):
            if (
                not isinstance(getattr(claim, name), str)
                or not getattr(claim, name).strip()
            ):
                raise LedgerError(f"{claim.id}: {name} is empty")
        if claim.corrected is not None and not (
            isinstance(claim.corrected, str) and claim.corrected.strip()
        ):
            raise LedgerError(
                f"{claim.id}: corrected must be null or a text, got {claim.corrected!r}"
            )
        if claim.verdict == CORRECTED and claim.corrected is None:
            raise LedgerError(f"{claim.id} is corrected: give the corrected form")
        claims[claim.id] = claim
    return claims


@dataclass(frozen=True)
class Settlement:
    """The outcome of `settle`: a claim, the verdict computed for it, and the evidence in words."""

    claim: Claim
    verdict: str
    evidence: tuple[tuple[str, tuple[str, ...]], ...]

    def __repr__(self) -> str:
        """Plain text, which nbval compares."""
        lines = [f"[{self.claim.id}] {self.claim.cited}: {self.verdict}"]
        return "\n".join(
            lines + [f"  {what}: {'; '.join(found)}" for what, found in self.evidence]
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        evidence = [[what, list(found)] for what, found in self.evidence]
        return {
            "text/plain": repr(self),
            "text/html": self._card(),
            MIME: {"id": self.claim.id, "verdict": self.verdict, "evidence": evidence},
        }

    def _card(self) -> str:
        claim = self.claim
        kind = (
            "assumption" if self.verdict == ASSUMING else self.verdict.replace(" ", "-")
        )
        rows = [("Claim", (claim.statement,))]
        if claim.corrected:
            rows.append(
                (
                    "Corrected" if self.verdict == CORRECTED else "Note",
                    (claim.corrected,),
                )
            )
        rows += [(what[:1].upper() + what[1:], found) for what, found in self.evidence]
        body = "".join(
            f"<dt>{_math_html(what)}</dt><dd>{'<br>'.join(map(_math_html, texts))}</dd>"
            for what, texts in rows
        )
        return (
            f'<div class="bn-claim bn-claim--{kind}" id="claim-{claim.id}"><p class="bn-claim__head">'
            f"<strong>{html.escape(claim.cited)}</strong> <code>{claim.id}</code> "
            f'<span class="bn-claim__verdict">{self.verdict}</span></p>'
            f'<dl class="bn-claim__body">{body}</dl></div>'
        )


def _math_html(markdown: str) -> str:
    """Escape text, keep LaTeX between dollar signs as MathJax expects it, and `code` as code."""
    parts = re.split(r"\$(.+?)\$", markdown)
    for position, part in enumerate(parts):
        text = html.escape(part)
        if position % 2:
            parts[position] = (
                rf'<span class="math notranslate nohighlight">\({text}\)</span>'
            )
        else:
            parts[position] = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return "".join(parts)


def settle(
    claim_id: str,
    *,
    printed: ManyEvidence,
    corrected: ManyEvidence | None = None,
    assuming: Mapping[str, ManyEvidence] | None = None,
    tolerance: float = 1e-10,
) -> Settlement:
    """Settle a claim with what a cell has just computed, and return a card that shows it.

    Evidence is one of

    - a boolean that the cell computed (for SymPy, `is_zero(…)`);
    - a SymPy expression or matrix: the residual lhs − rhs in normal form, which supports the claim if it
      is 0;
    - a number or array of residuals, which supports it if no entry exceeds `tolerance` in absolute value;
    - an `Interval`;
    - a list of those, which supports the claim if every entry does.

    Args:
        claim_id: id of the claim in the ledger.
        printed: evidence on the claim as printed in its source.
        corrected: evidence on the corrected form, where the printed one fails.
        assuming: for a claim that fails in general, evidence on it under each named assumption.
        tolerance: largest residual that counts as agreement.

    Returns:
        The settlement. Its verdict is `holds` if the printed form is supported; otherwise `corrected` if
        the corrected form is, `holds under assumptions` if it is supported under every named
        assumption, and else `not reproduced`.

    Raises:
        LedgerError: the claim is unknown; the verdict differs from the ledger's; the evidence is empty, not
            finite, undecided or not of a type that fits the claim's kind (a proof needs SymPy without
            floats or a decided boolean, a measurement an Interval).
    """
    if not 0 <= tolerance < math.inf:
        raise LedgerError(
            f"{claim_id}: the tolerance must be finite and not negative, got {tolerance}"
        )
    ledger = load_ledger()
    if claim_id not in ledger:
        raise LedgerError(
            f"no claim {claim_id!r} in the ledger; add it to book/claims.yml first"
        )
    claim = ledger[claim_id]
    if corrected is not None and assuming:
        raise LedgerError(
            f"{claim_id}: give either a corrected form or assumptions, not both"
        )
    trials = [("as printed", printed)]
    if corrected is not None:
        trials.append(("corrected form", corrected))
    trials += [
        (f"assuming {name}", evidence) for name, evidence in (assuming or {}).items()
    ]
    judged = [
        (what, *judge(claim.id, claim.kind, evidence, tolerance))
        for what, evidence in trials
    ]

    printed_holds, others_hold = (
        judged[0][1],
        len(judged) > 1 and all(holds for _, holds, _ in judged[1:]),
    )
    if printed_holds:
        verdict = HOLDS
    elif others_hold:
        verdict = CORRECTED if corrected is not None else ASSUMING
    else:
        verdict = NOT_REPRODUCED
    settlement = Settlement(
        claim, verdict, tuple((what, words) for what, _, words in judged)
    )
    if verdict != claim.verdict:
        raise LedgerError(
            f"{claim_id}: the evidence says {verdict!r} and the ledger says {claim.verdict!r}.\n"
            f"{settlement!r}\nMend the derivation, or the ledger if the evidence is right."
        )
    return settlement


@dataclass(frozen=True)
class Found:
    """A settlement as stored in a notebook: its chapter, verdict, evidence and the number of its cell."""

    id: str
    chapter: str
    verdict: str
    evidence: tuple[tuple[str, tuple[str, ...]], ...]
    cell: int


def found_in_notebooks(book: Path | None = None) -> list[Found]:
    """Read the settlements from the stored outputs of every notebook of the book, `BOOK` unless given."""
    found, book = [], book or BOOK
    for path in sorted(book.rglob("*.ipynb")):
        relative = path.relative_to(book)
        if {".ipynb_checkpoints", "_build"} & set(relative.parts):
            continue
        chapter = relative.with_suffix("").as_posix()
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for number, cell in enumerate(cells, start=1):
            for output in cell.get("outputs", []):
                record = output.get("data", {}).get(MIME)
                if record:
                    evidence = tuple(
                        (what, tuple(words)) for what, words in record["evidence"]
                    )
                    found.append(
                        Found(
                            record["id"], chapter, record["verdict"], evidence, number
                        )
                    )
    return found


def disagreements(ledger: Mapping[str, Claim], found: Iterable[Found]) -> list[str]:
    """List every way in which the notebooks and the ledger contradict each other; empty if they agree."""
    problems, by_id = [], {}
    for settlement in found:
        by_id.setdefault(settlement.id, []).append(settlement)
    for claim_id, settlements in by_id.items():
        chapters = [settlement.chapter for settlement in settlements]
        if claim_id not in ledger:
            problems.append(
                f"{claim_id} is settled in {chapters[0]} but is not in the ledger"
            )
            continue
        claim = ledger[claim_id]
        if len(settlements) > 1:
            problems.append(
                f"{claim_id} is settled {len(settlements)} times: {', '.join(chapters)}"
            )
        for one in settlements:
            if one.verdict != claim.verdict:
                verdicts = (
                    f"{one.chapter} says {one.verdict!r}, the ledger {claim.verdict!r}"
                )
                problems.append(f"{claim_id}: {verdicts}")
            if one.chapter != claim.chapter:
                problems.append(
                    f"{claim_id} is settled in {one.chapter}, the ledger says {claim.chapter}"
                )
    for claim in ledger.values():
        if claim.verdict != PENDING and claim.id not in by_id:
            problems.append(
                f"{claim.id}: the ledger says {claim.verdict!r} and no notebook settles it"
            )
    return problems
