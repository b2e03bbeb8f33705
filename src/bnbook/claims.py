"""The claims ledger: every claim of the sources, and the evidence that settles it.

``book/claims.yml`` lists the claims. A notebook cell settles one with `settle`, which computes the verdict
from what the cell has just computed and refuses to disagree silently with the ledger. The page
``book/appendix/claims`` and the tests read the settlements back from the notebooks' stored outputs.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import sympy as sp
import yaml

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


class LedgerError(ValueError):
    """The ledger is malformed, or a settlement contradicts it."""


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
        if not self.low <= self.estimate <= self.high or not np.isfinite([self.low, self.high]).all():
            raise LedgerError(f"an interval needs finite low ≤ estimate ≤ high, got {self.low}, {self.estimate}, {self.high}")
        if not self.claim_low <= self.claim_high or (self.claim_low == -np.inf and self.claim_high == np.inf):
            raise LedgerError("an interval needs the claimed values: give claim_low, claim_high or both")


def load_ledger(path: Path = LEDGER) -> dict[str, Claim]:
    """Read and validate the ledger.

    Returns:
        The claims by id, in the order of the file.

    Raises:
        LedgerError: an entry lacks a key or has a foreign one, repeats an id, names an unknown source, kind
            or verdict, has an empty text, or is corrected without saying how.
    """
    names = [field.name for field in fields(Claim)]
    claims: dict[str, Claim] = {}
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
        if not isinstance(entry, dict) or sorted(entry) != sorted(names):
            raise LedgerError(f"an entry must have exactly the keys {names}, got {entry!r:.200}")
        claim = Claim(**entry)
        if claim.id in claims:
            raise LedgerError(f"{claim.id} is in the ledger twice")
        for name, allowed in (("source", tuple(SOURCES)), ("kind", KINDS), ("verdict", VERDICTS)):
            if getattr(claim, name) not in allowed:
                raise LedgerError(f"{claim.id}: {name} must be one of {allowed}, got {getattr(claim, name)!r}")
        for name in ("where", "statement", "chapter"):
            if not isinstance(getattr(claim, name), str) or not getattr(claim, name).strip():
                raise LedgerError(f"{claim.id}: {name} is empty")
        if claim.verdict == CORRECTED and not claim.corrected:
            raise LedgerError(f"{claim.id} is corrected: give the corrected form")
        claims[claim.id] = claim
    return claims


@dataclass(frozen=True)
class Settlement:
    """The outcome of `settle`: a claim, the verdict computed for it, and the evidence in words."""

    claim: Claim
    verdict: str
    evidence: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        """Plain text, which nbval compares."""
        lines = [f"[{self.claim.id}] {self.claim.cited}: {self.verdict}"]
        return "\n".join(lines + [f"  {what}: {found}" for what, found in self.evidence])

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": repr(self),
            "text/html": self._card(),
            MIME: {"id": self.claim.id, "verdict": self.verdict, "evidence": [list(row) for row in self.evidence]},
        }

    def _card(self) -> str:
        claim = self.claim
        kind = self.verdict.replace(" under ", " ").replace(" ", "-").replace("holds-assumptions", "assumption")
        rows = [("Claim", claim.statement)]
        if claim.corrected:
            rows.append(("Corrected" if self.verdict == CORRECTED else "Note", claim.corrected))
        rows += [(what.capitalize(), found) for what, found in self.evidence]
        body = "".join(f"<dt>{html.escape(what)}</dt><dd>{_math_html(text)}</dd>" for what, text in rows)
        return (
            f'<div class="bn-claim bn-claim--{kind}" id="claim-{claim.id}"><p class="bn-claim__head">'
            f"<strong>{html.escape(claim.cited)}</strong> <code>{claim.id}</code> "
            f'<span class="bn-claim__verdict">{self.verdict}</span></p><dl class="bn-claim__body">{body}</dl></div>'
        )


def _math_html(markdown: str) -> str:
    """Escape text, keep LaTeX between dollar signs as MathJax expects it, and `code` as code."""
    parts = re.split(r"\$(.+?)\$", markdown)
    for position, part in enumerate(parts):
        text = html.escape(part)
        if position % 2:
            parts[position] = rf'<span class="math notranslate nohighlight">\({text}\)</span>'
        else:
            parts[position] = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return "".join(parts)


Evidence = bool | np.bool_ | float | np.ndarray | sp.Basic | Interval
ManyEvidence = Evidence | Sequence[Evidence] | Mapping[str, Evidence]


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
    - a SymPy expression: the residual lhs − rhs in normal form, which supports the claim if it is 0;
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
            finite or not of a type that fits the claim's kind (a proof needs SymPy or a decided
            boolean, a measurement an Interval).
    """
    ledger = load_ledger()
    if claim_id not in ledger:
        raise LedgerError(f"no claim {claim_id!r} in the ledger; add it to book/claims.yml first")
    claim = ledger[claim_id]
    if corrected is not None and assuming:
        raise LedgerError(f"{claim_id}: give either a corrected form or assumptions, not both")
    trials = [("as printed", printed)]
    if corrected is not None:
        trials.append(("corrected form", corrected))
    trials += [(f"assuming {name}", evidence) for name, evidence in (assuming or {}).items()]
    judged = [(what, *_judge(claim, evidence, tolerance)) for what, evidence in trials]

    printed_holds, others_hold = judged[0][1], len(judged) > 1 and all(holds for _, holds, _ in judged[1:])
    if printed_holds:
        verdict = HOLDS
    elif others_hold:
        verdict = CORRECTED if corrected is not None else ASSUMING
    else:
        verdict = NOT_REPRODUCED
    settlement = Settlement(claim, verdict, tuple((what, words) for what, _, words in judged))
    if verdict != claim.verdict:
        raise LedgerError(
            f"{claim_id}: the evidence says {verdict!r} and the ledger says {claim.verdict!r}.\n{settlement!r}\n"
            "Mend the derivation, or the ledger if the evidence is right."
        )
    return settlement


def _judge(claim: Claim, evidence, tolerance: float) -> tuple[bool, str]:
    """Whether the evidence supports the claim, and that in words."""
    if isinstance(evidence, Mapping):
        named = list(evidence.items())
    else:
        named = [("", item) for item in (evidence if isinstance(evidence, list | tuple) else [evidence])]
    if not named:
        raise LedgerError(f"{claim.id}: the evidence is empty; pass what the cell computed")
    judged = [(name, *_judge_one(claim, item, tolerance)) for name, item in named]
    words = [f"{name}: {text}" if name else text for name, _, text in judged]
    return all(holds for _, holds, _ in judged), "; ".join(dict.fromkeys(words))  # without repetitions


def _judge_one(claim: Claim, item, tolerance: float) -> tuple[bool, str]:
    symbolic = isinstance(item, sp.Basic)
    decided = isinstance(item, bool | np.bool_ | sp.logic.boolalg.BooleanAtom)
    if claim.kind == "measured" and not isinstance(item, Interval):
        raise LedgerError(f"{claim.id} is a measurement: settle it with an Interval, got {type(item).__name__}")
    if claim.kind == "proof" and not (symbolic or decided):
        raise LedgerError(f"{claim.id} is a proof: settle it with SymPy, got {type(item).__name__}")
    if decided:
        return bool(item), "yes" if item else "no"
    if symbolic:
        holds = item == 0
        return bool(holds), "the residual is 0 identically" if holds else "the residual is not 0"
    if isinstance(item, Interval):
        holds = item.claim_low <= item.low and item.high <= item.claim_high
        words = f"measured {item.estimate:.3g}, interval {item.low:.3g} to {item.high:.3g}"
        return holds, f"{words}; claimed {item.claim_low:.3g} to {item.claim_high:.3g}"
    residuals = np.abs(np.asarray(item, dtype=float))
    if residuals.size == 0 or not np.isfinite(residuals).all():
        raise LedgerError(f"{claim.id}: residuals must be finite and at least one, got {item!r:.200}")
    largest, count = residuals.max(), f"{residuals.size} value{'s' if residuals.size > 1 else ''}"
    if largest <= tolerance:
        # The size of a rounding error depends on the machine, so the card states only the bound that holds.
        return True, f"largest residual of {count} is within {tolerance:.0e}"
    return False, f"largest residual of {count} is {largest:.2g}"


@dataclass(frozen=True)
class Found:
    """A settlement as stored in a notebook: its chapter, verdict, evidence and the number of its cell."""

    id: str
    chapter: str
    verdict: str
    evidence: tuple[tuple[str, str], ...]
    cell: int


def found_in_notebooks(book: Path = BOOK) -> list[Found]:
    """Read the settlements from the stored outputs of every notebook of the book."""
    found = []
    for path in sorted(book.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts or "_build" in path.parts:
            continue
        chapter = path.relative_to(book).with_suffix("").as_posix()
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for number, cell in enumerate(cells, start=1):
            for output in cell.get("outputs", []):
                record = output.get("data", {}).get(MIME)
                if record:
                    evidence = tuple((what, words) for what, words in record["evidence"])
                    found.append(Found(record["id"], chapter, record["verdict"], evidence, number))
    return found


def disagreements(ledger: Mapping[str, Claim], found: Iterable[Found]) -> list[str]:
    """List every way in which the notebooks and the ledger contradict each other; empty if they agree."""
    problems, by_id = [], {}
    for settlement in found:
        by_id.setdefault(settlement.id, []).append(settlement)
    for claim_id, settlements in by_id.items():
        chapters = [settlement.chapter for settlement in settlements]
        if claim_id not in ledger:
            problems.append(f"{claim_id} is settled in {chapters[0]} but is not in the ledger")
            continue
        claim = ledger[claim_id]
        if len(settlements) > 1:
            problems.append(f"{claim_id} is settled {len(settlements)} times: {', '.join(chapters)}")
        for settlement in settlements:
            if settlement.verdict != claim.verdict:
                problems.append(f"{claim_id}: {settlement.chapter} says {settlement.verdict!r}, the ledger {claim.verdict!r}")
            if settlement.chapter != claim.chapter:
                problems.append(f"{claim_id} is settled in {settlement.chapter}, the ledger says {claim.chapter}")
    for claim in ledger.values():
        if claim.verdict != PENDING and claim.id not in by_id:
            problems.append(f"{claim.id}: the ledger says {claim.verdict!r} and no notebook settles it")
    return problems
