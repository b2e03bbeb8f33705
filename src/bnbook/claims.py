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


Evidence = bool | np.bool_ | float | np.ndarray | sp.Basic | sp.MatrixBase | Interval
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
    if not 0 <= tolerance < np.inf:
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
    judged = [(what, *_judge(claim, evidence, tolerance)) for what, evidence in trials]

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


def _judge(claim: Claim, evidence, tolerance: float) -> tuple[bool, tuple[str, ...]]:
    """Whether the evidence supports the claim, and that in words."""
    if isinstance(evidence, Mapping):
        named = list(evidence.items())
    else:
        named = [
            ("", item)
            for item in (evidence if isinstance(evidence, list | tuple) else [evidence])
        ]
    if not named:
        raise LedgerError(
            f"{claim.id}: the evidence is empty; pass what the cell computed"
        )
    judged = [(name, *_judge_one(claim, item, tolerance)) for name, item in named]
    words = [f"{name}: {text}" if name else text for name, _, text in judged]
    return all(holds for _, holds, _ in judged), tuple(
        dict.fromkeys(words)
    )  # without repetitions


def _judge_one(claim: Claim, item, tolerance: float) -> tuple[bool, str]:
    if claim.kind == "measured" and not isinstance(item, Interval):
        got = type(item).__name__
        raise LedgerError(
            f"{claim.id} is a measurement: settle it with an Interval, got {got}"
        )
    if isinstance(item, bool | np.bool_ | sp.logic.boolalg.BooleanAtom):
        return bool(item), "yes" if item else "no"
    if (
        claim.kind == "numeric"
        and isinstance(item, sp.Expr)
        and item.is_number
        and item.has(sp.Float)
    ):
        item = complex(item)
    if isinstance(item, sp.Basic | sp.MatrixBase):
        return _judge_symbolic(claim, item)
    if claim.kind == "proof":
        raise LedgerError(
            f"{claim.id} is a proof: settle it with SymPy, got {type(item).__name__}"
        )
    if isinstance(item, Interval):
        holds = bool(item.claim_low <= item.low and item.high <= item.claim_high)
        words = f"measured {item.estimate:.3g}, interval {item.low:.3g} to {item.high:.3g}; claimed "
        if np.isinf(item.claim_low):
            return holds, words + f"at most {item.claim_high:.3g}"
        if np.isinf(item.claim_high):
            return holds, words + f"at least {item.claim_low:.3g}"
        return holds, words + f"{item.claim_low:.3g} to {item.claim_high:.3g}"
    return _judge_residuals(claim, item, tolerance)


def _judge_symbolic(claim: Claim, item: sp.Basic | sp.MatrixBase) -> tuple[bool, str]:
    entries = list(item) if isinstance(item, sp.MatrixBase) else [item]
    if not entries or not all(
        isinstance(e, sp.Expr) and not isinstance(e, sp.MatrixExpr) for e in entries
    ):
        raise LedgerError(
            f"{claim.id}: {item!r:.200} is neither decided nor a residual; pass lhs - rhs or is_zero(…)"
        )
    for entry in entries:
        if entry.has(sp.Float, sp.nan, sp.zoo) or entry.is_infinite:
            raise LedgerError(
                f"{claim.id}: a symbolic residual must be exact and finite, got {entry!r:.200}"
            )
    nonzero = [entry for entry in entries if entry != 0]
    # SymPy's numeric test of an identity takes minutes on large sums, and can fail there.
    if any(entry.equals(0) for entry in nonzero if not entry.has(sp.Sum)):
        # An identity that was not simplified must not convict its source.
        raise LedgerError(
            f"{claim.id}: the residual is 0 but not in normal form; simplify it first"
        )
    return (
        not nonzero,
        "the residual is not 0" if nonzero else "the residual is 0 identically",
    )


def _judge_residuals(claim: Claim, item, tolerance: float) -> tuple[bool, str]:
    try:
        residuals = np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LedgerError(
            f"{claim.id}: residuals must be numbers, got {item!r:.200}"
        ) from error
    if residuals.dtype == bool:
        raise LedgerError(
            f"{claim.id}: an array of booleans is no residual; pass its .all()"
        )
    if residuals.dtype.kind not in "iufc":
        raise LedgerError(f"{claim.id}: residuals must be numbers, got {item!r:.200}")
    residuals = np.abs(residuals)
    if residuals.size == 0 or not np.isfinite(residuals).all():
        raise LedgerError(
            f"{claim.id}: residuals must be finite and at least one, got {item!r:.200}"
        )
    largest, count = (
        residuals.max(),
        f"{residuals.size} value{'s' if residuals.size > 1 else ''}",
    )
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
