"""`bnbook.claims`: what the ledger refuses, what evidence settles, and whether the notebooks agree."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import sympy as sp
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bnbook import claims
from bnbook.claims import (
    ASSUMING,
    CORRECTED,
    HOLDS,
    MIME,
    NOT_REPRODUCED,
    PENDING,
    Found,
    Interval,
    LedgerError,
    disagreements,
    found_in_notebooks,
    load_ledger,
    settle,
)
from bnbook.evidence import judge

# The ids of the list that the project started from; the ledger may hold more, never fewer.
LISTED = """
yu-std yu-shape yu-2 yu-bias yu-identity yu-4 yu-5 yu-6 yu-7 yu-8 yu-9 yu-10 yu-11 yu-12 yu-13 yu-14
yu-15 yu-ema yu-second yu-30 yu-ics yu-lr yu-acc yu-reg yu-ga yu-cost yu-worth
sari-bn sari-1 sari-dw sari-forward sari-backward sari-init sari-2 sari-sign sari-binary
sari-binary-bn sari-ratio sari-stable sari-3 sari-4 sari-5 sari-065 sari-6 sari-8 sari-explode sari-32x
morwani-gd morwani-polar morwani-hstar morwani-lr1 morwani-d2 morwani-d3 morwani-weq morwani-back
morwani-jac morwani-diverge morwani-norms morwani-explode morwani-lp morwani-noise
kohler cai arora hoffer bjorck santurkar
extreme-renorm extreme-paths extreme-bias extreme-1 extreme-sq extreme-cap extreme-rotation
extreme-shrink extreme-scalegrad extreme-two extreme-towers extreme-exact extreme-umax extreme-padding
extreme-before extreme-fold extreme-2x extreme-table
""".split()
PARTS = {"foundations", "training", "propagation", "optimization", "estimation"}

ENTRY = {
    "id": "a-1", "source": "yu2021", "where": "Eq. (1)", "statement": "the mean is $0$", "kind": "numeric",
    "verdict": HOLDS, "corrected": None, "chapter": "foundations/forward",
}
x, y = sp.symbols("x y", positive=True)


@pytest.fixture
def ledger_of(tmp_path, monkeypatch):
    """Make the given entries, each a set of changes to `ENTRY`, the ledger of the book."""

    def write(*changes):
        path = tmp_path / "claims.yml"
        path.write_text(yaml.safe_dump([ENTRY | change for change in changes]), encoding="utf-8")
        monkeypatch.setattr(claims, "LEDGER", path)
        return load_ledger()

    return write


@pytest.fixture
def settled(ledger_of):
    """Settle a claim of a kind whose ledger entry has the given verdict."""

    def settle_one(verdict=HOLDS, kind="numeric", entry=None, **evidence):
        corrected = "the mean is $\\mu$" if verdict == CORRECTED else None
        ledger_of({"kind": kind, "verdict": verdict, "corrected": corrected} | (entry or {}))
        return settle("a-1", **evidence)

    return settle_one


class TestLedger:
    def test_loads_in_order_with_every_field(self, ledger_of):
        ledger = ledger_of({"id": "b-2"}, {"id": "a-1", "verdict": CORRECTED, "corrected": "$1$"})
        assert list(ledger) == ["b-2", "a-1"]
        assert ledger["a-1"] == claims.Claim(**(ENTRY | {"verdict": CORRECTED, "corrected": "$1$"}))
        assert ledger["b-2"].cited == "Yu (2021), Eq. (1)"

    def test_a_path_is_read_instead_of_the_ledger_of_the_book(self, tmp_path):
        path = tmp_path / "other.yml"
        path.write_text(yaml.safe_dump([ENTRY]), encoding="utf-8")
        assert list(load_ledger(path)) == ["a-1"]

    def test_an_empty_file_holds_no_claims(self, tmp_path):
        (tmp_path / "empty.yml").write_text("# nothing yet\n", encoding="utf-8")
        assert load_ledger(tmp_path / "empty.yml") == {}

    @pytest.mark.parametrize(("change", "message"), [
        ({"note": "x"}, "exactly the keys"),
        ({1: "x"}, "exactly the keys"),
        ({"source": "yu2022"}, "source must be one of"),
        ({"kind": "guess"}, "kind must be one of"),
        ({"verdict": "true"}, "verdict must be one of"),
        ({"verdict": ["holds"]}, "verdict must be one of"),
        ({"where": "  "}, "where is empty"),
        ({"statement": ""}, "statement is empty"),
        ({"statement": None}, "statement is empty"),
        ({"chapter": None}, "chapter is empty"),
        ({"verdict": CORRECTED}, "give the corrected form"),
        ({"corrected": ""}, "null or a text"),
        ({"corrected": " \n"}, "null or a text"),
        ({"corrected": ["$1$"]}, "null or a text"),
        ({"id": 12}, "an id is"),
        ({"id": ["a"]}, "an id is"),
        ({"id": 'a" onclick="b'}, "an id is"),
        ({"id": "Two words"}, "an id is"),
    ])
    def test_refuses(self, ledger_of, change, message):
        with pytest.raises(LedgerError, match=message):
            ledger_of(change)

    @pytest.mark.parametrize("missing", list(ENTRY))
    def test_refuses_an_entry_without(self, missing, tmp_path):
        entry = {key: value for key, value in ENTRY.items() if key != missing}
        (tmp_path / "claims.yml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
        with pytest.raises(LedgerError, match="exactly the keys"):
            load_ledger(tmp_path / "claims.yml")

    def test_refuses_an_id_twice(self, ledger_of):
        with pytest.raises(LedgerError, match="a-1 is in the ledger twice"):
            ledger_of({}, {"where": "elsewhere"})

    @pytest.mark.parametrize(("text", "message"), [
        ("a-1: {}", "must be a list"),
        ("- a-1", "exactly the keys"),
        ("7", "must be a list"),
        ("- id: 'a-1", "not valid YAML"),
        ("- id: a-1\n  verdict: holds\n  verdict: pending\n", "verdict is given twice"),
    ])
    def test_refuses_a_file_that_is_no_list_of_entries(self, text, message, tmp_path):
        (tmp_path / "claims.yml").write_text(text, encoding="utf-8")
        with pytest.raises(LedgerError, match=message):
            load_ledger(tmp_path / "claims.yml")


# Evidence of every kind, once for and once against a claim.
NUMERIC = {
    "bool": (True, False),
    "NumPy bool": (np.bool_(True), np.bool_(False)),
    "SymPy boolean": (sp.true, sp.false),
    "decided relation": (sp.Eq(sp.Integer(2), 2), sp.Eq(sp.Integer(2), 3)),
    "SymPy residual": (sp.expand((x + y) ** 2) - x**2 - 2 * x * y - y**2, x - y),
    "SymPy matrix": (sp.zeros(2, 3), sp.Matrix([[0, x], [0, 0]])),
    "immutable matrix": (sp.ImmutableMatrix(sp.zeros(2, 2)), sp.ImmutableMatrix([0, 1])),
    "SymPy float": (sp.Float("1e-15"), sp.Float("1e-3")),
    "complex SymPy float": (sp.Float("1e-15") * sp.I, sp.Float("1e-3") * sp.I),
    "float": (1e-15, -1e-3),
    "int": (0, -1),
    "array": (np.array([[0.0, -1e-12]]), np.array([0.0, -1e-3])),
    "float32 array": (np.zeros(3, np.float32), np.full(3, 1e-3, np.float32)),
    "integer array": (np.zeros(3, int), np.array([0, -2])),
    "complex number": (1e-15j, 1e-3j),
    "complex array": (np.array([1e-15j]), np.array([1e-3j])),
    "tensor": (torch.zeros(2), torch.tensor([0.0, 1e-3])),
    "interval": (Interval(0.5, 0.4, 0.6, claim_low=0.3), Interval(0.5, 0.4, 0.6, claim_low=0.45)),
    "list": ([True, sp.Integer(0), 0.0], [True, sp.Integer(0), 1.0]),
    "tuple": ((True, True), (True, False)),
    "nested list": ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]),
    "mapping": ({"mean": 0.0, "variance": True}, {"mean": 0.0, "variance": False}),
}
PROOF = ("bool", "NumPy bool", "SymPy boolean", "decided relation", "SymPy residual", "SymPy matrix",
         "immutable matrix", "tuple")


class TestVerdict:
    @pytest.mark.parametrize("name", NUMERIC)
    def test_of_evidence_of_each_kind(self, settled, name):
        good, bad = NUMERIC[name]
        assert settled(HOLDS, printed=good).verdict == HOLDS
        assert settled(CORRECTED, printed=bad, corrected=good).verdict == CORRECTED
        assert settled(ASSUMING, printed=bad, assuming={"A": good}).verdict == ASSUMING
        assert settled(NOT_REPRODUCED, printed=bad).verdict == NOT_REPRODUCED
        assert settled(NOT_REPRODUCED, printed=bad, corrected=bad).verdict == NOT_REPRODUCED

    @pytest.mark.parametrize("name", PROOF)
    def test_of_a_proof(self, settled, name):
        good, bad = NUMERIC[name]
        assert settled(HOLDS, "proof", printed=good).verdict == HOLDS
        assert settled(CORRECTED, "proof", printed=bad, corrected=good).verdict == CORRECTED

    @pytest.mark.parametrize(("low", "high", "verdict"), [
        (0.0, 1.0, HOLDS), (0.4, 0.6, HOLDS), (0.41, 1.0, NOT_REPRODUCED), (0.0, 0.59, NOT_REPRODUCED),
        (0.7, 1.0, NOT_REPRODUCED),
    ])
    def test_of_a_measurement_needs_the_whole_interval(self, settled, low, high, verdict):
        evidence = Interval(0.5, 0.4, 0.6, claim_low=low, claim_high=high)
        assert settled(verdict, "measured", printed=evidence).verdict == verdict
        assert settled(verdict, "measured", printed={"accuracy": evidence}).verdict == verdict

    def test_every_named_assumption_must_carry_the_claim(self, settled):
        assert settled(ASSUMING, printed=False, assuming={"A": True, "B": 0.0}).verdict == ASSUMING
        failing = {"A": True, "B": 1.0}
        assert settled(NOT_REPRODUCED, printed=False, assuming=failing).verdict == NOT_REPRODUCED

    def test_no_assumption_is_no_support(self, settled):
        assert settled(NOT_REPRODUCED, printed=False, assuming={}).verdict == NOT_REPRODUCED

    @pytest.mark.parametrize("corrected", [True, False])
    def test_a_printed_form_that_holds_needs_no_correction(self, settled, corrected):
        assert settled(HOLDS, printed=True, corrected=corrected).verdict == HOLDS
        with pytest.raises(LedgerError, match="evidence says 'holds' and the ledger says 'corrected'"):
            settled(CORRECTED, printed=True, corrected=corrected)

    @pytest.mark.parametrize("recorded", [HOLDS, CORRECTED, ASSUMING, NOT_REPRODUCED, PENDING])
    @pytest.mark.parametrize(("computed", "evidence"), [
        (HOLDS, {"printed": True}), (CORRECTED, {"printed": False, "corrected": True}),
        (ASSUMING, {"printed": False, "assuming": {"A": True}}), (NOT_REPRODUCED, {"printed": False}),
    ])
    def test_must_be_that_of_the_ledger(self, settled, recorded, computed, evidence):
        if recorded == computed:
            assert settled(recorded, **evidence).verdict == computed
        else:
            with pytest.raises(LedgerError, match=f"says '{computed}' and the ledger says '{recorded}'"):
                settled(recorded, **evidence)

    def test_correction_and_assumptions_together_are_refused(self, settled):
        with pytest.raises(LedgerError, match="either a corrected form or assumptions"):
            settled(CORRECTED, printed=False, corrected=True, assuming={"A": True})

    def test_unknown_id(self, ledger_of):
        ledger_of({})
        with pytest.raises(LedgerError, match="no claim 'a-2'"):
            settle("a-2", printed=True)

    @given(residual=st.floats(0, 1e6), tolerance=st.floats(0, 1e6))
    def test_tolerance_is_the_largest_residual_that_agrees(self, residual, tolerance):
        for item in (residual, -residual, np.array([0.0, -residual])):
            holds, _ = judge("a-1", "numeric", item, tolerance)
            assert holds == (residual <= tolerance)

    def test_tolerance_reaches_every_trial(self, settled):
        assert settled(CORRECTED, printed=0.2, corrected=0.1, tolerance=0.1).verdict == CORRECTED
        assert settled(HOLDS, printed=1e-10).verdict == HOLDS
        assert settled(NOT_REPRODUCED, printed=1.1e-10).verdict == NOT_REPRODUCED

    @pytest.mark.parametrize("tolerance", [-1e-3, np.inf, np.nan])
    def test_tolerance_that_decides_nothing_is_refused(self, settled, tolerance):
        with pytest.raises(LedgerError, match="tolerance must be finite"):
            settled(HOLDS, printed=0.0, tolerance=tolerance)


class TestRefusedEvidence:
    @pytest.mark.parametrize("empty", [
        [], (), {}, np.array([]), [np.zeros((0, 3))], {"mean": []}, sp.zeros(0, 3),
    ])
    def test_empty(self, settled, empty):
        with pytest.raises(LedgerError, match=r"empty|at least one|neither decided nor a residual"):
            settled(HOLDS, printed=empty)

    @pytest.mark.parametrize("value", [
        np.nan, np.inf, -np.inf, np.array([0.0, np.nan]), np.array([1.0, -np.inf]), complex(np.nan, 0),
        np.array([0, complex(0, np.inf)]), sp.nan, sp.oo, -sp.oo, sp.zoo, sp.Matrix([0, sp.nan]),
        [0.0, np.nan], torch.tensor([torch.nan]),
    ], ids=str)
    @pytest.mark.parametrize("place", ["printed", "corrected", "assuming"])
    def test_not_finite(self, settled, value, place):
        evidence = {"printed": 1.0} | {place: {"A": value} if place == "assuming" else value}
        with pytest.raises(LedgerError, match="finite"):
            settled(NOT_REPRODUCED, **evidence)

    @pytest.mark.parametrize("value", [
        np.array([True, False]), np.array([False]), np.array(False), [[False, False]], torch.tensor([False]),
    ], ids=str)
    def test_array_of_booleans_whose_zeros_would_read_as_agreement(self, settled, value):
        with pytest.raises(LedgerError, match=r"pass its \.all\(\)"):
            settled(HOLDS, printed=value)

    @pytest.mark.parametrize("value", [
        None, "0", "yes", b"0", object(), {"a": {"b": 0.0}}, np.array([None]), np.array(["0"]),
        [[[0.0], [0.0, 1.0]]], torch.zeros(2, requires_grad=True), np.array([sp.Integer(0)]),
        np.datetime64("2021-01-01"),
    ], ids=lambda value: type(value).__name__)
    def test_that_is_no_number(self, settled, value):
        with pytest.raises(LedgerError, match="must be numbers"):
            settled(HOLDS, printed=value)

    @pytest.mark.parametrize("value", [
        x > y, sp.Eq(x, y), sp.Eq(x, y) & (x > 1), sp.Tuple(0, 0), sp.FiniteSet(0), sp.Array([0, 0]),
        sp.ZeroMatrix(2, 2), sp.Poly(0, x),
    ], ids=str)
    @pytest.mark.parametrize("kind", ["proof", "numeric"])
    def test_undecided_or_no_residual(self, settled, value, kind):
        with pytest.raises(LedgerError, match="neither decided nor a residual"):
            settled(NOT_REPRODUCED, kind, printed=value)

    @pytest.mark.parametrize("value", [
        (x + y) ** 2 - x**2 - 2 * x * y - y**2, sp.sin(x) ** 2 + sp.cos(x) ** 2 - 1,
        sp.Matrix([0, x * (1 + y) - x - x * y]),
    ], ids=str)
    def test_an_identity_that_was_not_simplified_convicts_nobody(self, settled, value):
        with pytest.raises(LedgerError, match="simplify it first"):
            settled(CORRECTED, "proof", printed=value, corrected=sp.Integer(0))

    @pytest.mark.parametrize("value", [
        0.0, 0, 1e-17, np.zeros(3), np.float64(0), 0j, torch.zeros(1), [True, 0.0], {"residual": 0.0},
        Interval(0.0, 0.0, 0.0, claim_low=0.0),
    ], ids=str)
    def test_a_proof_takes_no_numbers(self, settled, value):
        with pytest.raises(LedgerError, match="is a proof: settle it with SymPy"):
            settled(HOLDS, "proof", printed=value)

    @pytest.mark.parametrize("value", [
        sp.Float(0.0), sp.Float("1e-20"), sp.Float("0.5") * x - y, sp.Matrix([0, sp.Float("1e-9")]),
    ], ids=str)
    def test_a_proof_takes_no_floats_of_sympy(self, settled, value):
        with pytest.raises(LedgerError, match="must be exact"):
            settled(NOT_REPRODUCED, "proof", printed=value)

    @pytest.mark.parametrize("value", [
        True, np.bool_(True), 0.0, np.zeros(2), sp.Integer(0), sp.true, [0.5], None,
    ])
    def test_a_measurement_takes_nothing_but_intervals(self, settled, value):
        with pytest.raises(LedgerError, match="is a measurement: settle it with an Interval"):
            settled(HOLDS, "measured", printed=value)


class TestInterval:
    @pytest.mark.parametrize("numbers", [
        (1.0, 2.0, 3.0), (4.0, 2.0, 3.0), (np.nan, 0.0, 1.0), (0.5, np.nan, 1.0), (0.5, 0.0, np.nan),
        (0.5, -np.inf, 1.0), (0.5, 0.0, np.inf),
    ])
    def test_refuses_ends_that_do_not_enclose_the_estimate(self, numbers):
        with pytest.raises(LedgerError, match="finite low ≤ estimate ≤ high"):
            Interval(*numbers, claim_low=0.0)

    @pytest.mark.parametrize("claimed", [
        {}, {"claim_low": 2.0, "claim_high": 1.0}, {"claim_low": np.nan}, {"claim_high": np.nan},
        {"claim_low": -np.inf, "claim_high": np.inf},
    ])
    def test_refuses_a_claim_that_anything_supports_or_nothing(self, claimed):
        with pytest.raises(LedgerError, match="needs the claimed values"):
            Interval(0.5, 0.4, 0.6, **claimed)

    @pytest.mark.parametrize(("claimed", "words"), [
        ({"claim_low": 0.0}, "at least 0"), ({"claim_high": 1.25}, "at most 1.25"),
        ({"claim_low": 0.0, "claim_high": 1.25}, "0 to 1.25"),
    ])
    def test_in_words(self, settled, claimed, words):
        shown = settled(HOLDS, "measured", printed=Interval(0.51234, 0.4, 0.6, **claimed))
        assert shown.evidence == (("as printed", (f"measured 0.512, interval 0.4 to 0.6; claimed {words}",)),)

    @pytest.mark.parametrize(("values", "words"), [
        ((1.02, 1.0152, 1.0248), "measured 1.02, interval 1.015 to 1.025"),
        ((-50.0, -50.02, -49.98), "measured -50, interval -50.02 to -49.98"),
        ((1 / 3, 1 / 3 - 1e-15, 1 / 3 + 1e-15), "measured 0.333, interval 0.333 to 0.333"),
        ((2.0, 2.0, 2.0), "measured 2, interval 2 to 2"), ((0.0, 0.0, 0.0), "measured 0, interval 0 to 0"),
        ((0.0123, -0.5, 0.7), "measured 0.0123, interval -0.5 to 0.7"),
    ])
    def test_the_ends_of_a_narrow_interval_differ_in_words(self, settled, values, words):
        shown = settled(HOLDS, "measured", printed=Interval(*values, claim_low=-100.0))
        assert shown.evidence[0][1][0].startswith(words + "; claimed")


class Outline(HTMLParser):
    """The tags and texts of a card; refuses tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.texts, self.math = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.open.append((tag, attributes.get("class") or ""))
        if "id" in attributes:
            self.ids.append(attributes["id"])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        (self.math if "math" in self.open[-1][1].split() else self.texts).append(data)


class TestCard:
    def test_plain_text(self, settled):
        shown = settled(CORRECTED, printed={"$M = 2$": 0.25, "sign": False}, corrected=np.zeros(3))
        assert repr(shown) == (
            "[a-1] Yu (2021), Eq. (1): corrected\n"
            "  as printed: ✗ $M = 2$: largest residual of 1 value is 0.25; ✗ sign: no\n"
            "  corrected form: largest residual of 3 values is within 1e-10"
        )

    def test_plain_text_does_not_show_the_size_of_a_rounding_error(self, settled):
        first, second = (repr(settled(HOLDS, printed=noise)) for noise in (1e-16, 3e-13))
        assert first == second

    def test_repeated_evidence_is_said_once(self, settled):
        ((_, words),) = settled(HOLDS, printed=[True, True, 0.0, True]).evidence
        assert words == ("yes", "largest residual of 1 value is within 1e-10")

    def test_mime_bundle(self, settled):
        shown = settled(ASSUMING, printed=False, assuming={"$M > 2$": True})
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", MIME}
        assert bundle["text/plain"] == repr(shown)
        evidence = [["as printed", ["✗ no"]], ["assuming $M > 2$", ["yes"]]]
        stored = json.loads(json.dumps(bundle[MIME]))
        assert stored == {"id": "a-1", "verdict": ASSUMING, "evidence": evidence}

    @pytest.mark.parametrize(("verdict", "kind", "evidence"), [
        (HOLDS, "holds", {"printed": True}),
        (CORRECTED, "corrected", {"printed": False, "corrected": True}),
        (ASSUMING, "assumption", {"printed": False, "assuming": {"A": True}}),
        (NOT_REPRODUCED, "not-reproduced", {"printed": False}),
    ])
    def test_html_names_the_claim_and_its_verdict(self, settled, verdict, kind, evidence):
        card = settled(verdict, **evidence)._repr_mimebundle_()["text/html"]
        outline = Outline(card)
        assert outline.ids == ["claim-a-1"]
        assert f'class="bn-claim bn-claim--{kind}"' in card
        shown = {"Yu (2021), Eq. (1)", "a-1", verdict, "Claim", "the mean is ", "As printed"}
        assert shown <= set(outline.texts)

    def test_html_escapes_text_and_formulas(self, settled):
        entry = {"statement": "if a < b & <script>c</script> then $x_1 < \\frac{a}{b} & y$ or `d < e`",
                 "where": "p. <3>"}
        shown = settled(HOLDS, entry=entry, printed={"n < 3 & $a<b$": True})
        card = shown._repr_mimebundle_()["text/html"]
        outline = Outline(card)
        assert "<script" not in card and "p. &lt;3&gt;" in card
        assert outline.math == [r"\(x_1 < \frac{a}{b} & y\)", r"\(a<b\)"]
        assert "if a < b & <script>c</script> then " in outline.texts and "d < e" in outline.texts
        assert "<code>d &lt; e</code>" in card

    def test_html_renders_formulas_in_every_cell_and_keeps_their_case(self, settled):
        shown = settled(ASSUMING, printed={"$K$": 1.0}, assuming={"$M \\gg B$ and BN before ReLU": True})
        outline = Outline(shown._repr_mimebundle_()["text/html"])
        assert outline.math == [r"\(0\)", r"\(K\)", r"\(M \gg B\)"]
        assert {"Assuming ", " and BN before ReLU"} <= set(outline.texts)
        assert "$" not in "".join(outline.texts)

    def test_html_gives_each_piece_of_evidence_its_own_line(self, settled):
        card = settled(HOLDS, printed={"mean": True, "variance": 0.0})._repr_mimebundle_()["text/html"]
        assert "<dt>As printed</dt><dd>mean: yes<br>variance: largest residual" in card

    @pytest.mark.parametrize(("verdict", "title", "evidence"), [
        (CORRECTED, "Corrected", {"printed": False, "corrected": True}), (HOLDS, "Note", {"printed": True}),
    ])
    def test_html_shows_the_corrected_form_or_a_note(self, settled, verdict, title, evidence):
        shown = settled(verdict, entry={"corrected": "use $M - 1$"}, **evidence)
        outline = Outline(shown._repr_mimebundle_()["text/html"])
        assert outline.texts[outline.texts.index(title) + 1] == "use " and r"\(M - 1\)" in outline.math


def notebook(path, *records):
    """Write a notebook with a cell for each list of records."""
    cells = [{"cell_type": "markdown", "source": "no outputs"}]
    for record in records:
        cells.append({"cell_type": "code", "outputs": [
            {"output_type": "stream", "text": "printed before"},
            *({"output_type": "execute_result", "data": {"text/plain": "…", MIME: one}} for one in record),
        ]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


def record(claim_id="a-1", verdict=HOLDS):
    return {"id": claim_id, "verdict": verdict, "evidence": [["as printed", ["yes", "mean: no"]]]}


class TestNotebooks:
    def test_settlements_are_found_with_chapter_and_cell(self, tmp_path):
        two = [record("b-2", CORRECTED), record("c-3")]
        notebook(tmp_path / "foundations/forward.ipynb", [record()], [], two)
        notebook(tmp_path / "training/higgs.ipynb", [record("d-4")])
        evidence = (("as printed", ("yes", "mean: no")),)
        assert found_in_notebooks(tmp_path) == [
            Found("a-1", "foundations/forward", HOLDS, evidence, 2),
            Found("b-2", "foundations/forward", CORRECTED, evidence, 4),
            Found("c-3", "foundations/forward", HOLDS, evidence, 4),
            Found("d-4", "training/higgs", HOLDS, evidence, 2),
        ]

    def test_copies_made_by_tools_are_left_out(self, tmp_path):
        for folder in (".ipynb_checkpoints", "_build/html/_sources"):
            notebook(tmp_path / "foundations" / folder / "forward.ipynb", [record()])
        assert found_in_notebooks(tmp_path) == []

    def test_a_book_that_lies_in_a_folder_named_build_is_read(self, tmp_path):
        notebook(tmp_path / "_build/book/foundations/forward.ipynb", [record()])
        assert len(found_in_notebooks(tmp_path / "_build/book")) == 1

    def test_the_output_of_settle_is_what_is_found(self, settled, tmp_path, monkeypatch):
        shown = settled(HOLDS, printed={"mean": 0.0, "$M$": True})
        notebook(tmp_path / "foundations/forward.ipynb", [shown._repr_mimebundle_()[MIME]])
        monkeypatch.setattr(claims, "BOOK", tmp_path)
        found = found_in_notebooks()
        assert [(one.id, one.verdict, one.evidence) for one in found] == [("a-1", HOLDS, shown.evidence)]
        assert disagreements(load_ledger(), found) == []


class TestDisagreements:
    LEDGER = ({}, {"id": "b-2", "verdict": PENDING}, {"id": "c-3", "chapter": "training/higgs"})
    AGREEING = (("a-1", "foundations/forward", HOLDS), ("c-3", "training/higgs", HOLDS))

    def problems(self, ledger_of, *found):
        return disagreements(ledger_of(*self.LEDGER), [Found(*one, (), 1) for one in found])

    def test_none(self, ledger_of):
        assert self.problems(ledger_of, *self.AGREEING) == []

    def test_missing(self, ledger_of):
        problems = self.problems(ledger_of, self.AGREEING[0])
        assert problems == ["c-3: the ledger says 'holds' and no notebook settles it"]
        assert len(self.problems(ledger_of)) == 2

    def test_doubled(self, ledger_of):
        problems = self.problems(ledger_of, *self.AGREEING, self.AGREEING[0])
        assert problems == ["a-1 is settled 2 times: foundations/forward, foundations/forward"]

    def test_contradicting_verdict(self, ledger_of):
        problems = self.problems(ledger_of, ("a-1", "foundations/forward", CORRECTED), self.AGREEING[1])
        assert problems == ["a-1: foundations/forward says 'corrected', the ledger 'holds'"]

    def test_settled_although_pending(self, ledger_of):
        problems = self.problems(ledger_of, *self.AGREEING, ("b-2", "foundations/forward", HOLDS))
        assert problems == ["b-2: foundations/forward says 'holds', the ledger 'pending'"]

    def test_wrong_chapter(self, ledger_of):
        problems = self.problems(ledger_of, self.AGREEING[0], ("c-3", "training/cost", HOLDS))
        assert problems == ["c-3 is settled in training/cost, the ledger says training/higgs"]

    def test_unknown_id(self, ledger_of):
        problems = self.problems(ledger_of, *self.AGREEING, ("z-9", "training/cost", HOLDS))
        assert problems == ["z-9 is settled in training/cost but is not in the ledger"]

    def test_every_problem_is_listed(self, ledger_of):
        stray = ("c-3", "training/cost", CORRECTED)
        assert len(self.problems(ledger_of, ("z-9", "training/cost", HOLDS), stray, stray)) == 1 + 5 + 1


class TestTheBook:
    ledger = load_ledger()

    def test_ledger_and_notebooks_agree(self):
        assert disagreements(self.ledger, found_in_notebooks()) == []

    def test_every_listed_claim_is_in_the_ledger(self):
        assert [claim_id for claim_id in LISTED if claim_id not in self.ledger] == []

    def test_sources_are_in_the_bibliography(self):
        bibliography = (claims.BOOK / "references.bib").read_text(encoding="utf-8")
        keys = set(re.findall(r"^@\w+\{([^,]+),", bibliography, re.MULTILINE))
        assert {claim.source for claim in self.ledger.values()} - {"book"} <= keys
        assert set(claims.SOURCES) - {"book"} <= keys

    @pytest.mark.parametrize("claim", ledger.values(), ids=ledger)
    def test_entry(self, claim):
        part, name = claim.chapter.split("/")
        assert part in PARTS and re.fullmatch(r"[a-z]\w*", name)
        for text in filter(None, (claim.statement, claim.corrected)):
            pieces = text.split("$")
            assert len(pieces) % 2 == 1, "a dollar sign without its partner"
            for formula in pieces[1::2]:
                # A bar would end a cell of a Markdown table; \lvert, \lVert and \mid say what it means.
                assert formula.strip() == formula != "" and not re.search(r"(?<!\\)\|", formula)
                braces = re.sub(r"\\[{}]", "", formula)
                assert braces.count("{") == braces.count("}")
            assert not re.search(r"\\[a-zA-Z]", " ".join(pieces[::2])), "LaTeX outside dollar signs"
