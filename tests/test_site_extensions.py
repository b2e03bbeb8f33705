"""The book's Sphinx extensions and the filter of its claims page, on a small site that this module builds."""

import base64
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import check_browser
import pytest
import sympy as sp
import yaml
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from bnbook import claims, figures
from bnbook.claims import ASSUMING, CORRECTED, HOLDS, NOT_REPRODUCED, PENDING

# What Sphinx and its extensions deprecate among themselves is no defect of the book.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

BOOK = Path(__file__).parents[1] / "book"
CHAPTER = "foundations/forward"
LEDGER = [
    ("a-1", "yu2021", "Eq. (1)", r"If $a < b$, then $\mu = \frac{1}{M} \sum_m z_m$.", "proof", HOLDS, None),
    ("a-2", "yu2021", "§2 & Table 1", "The factor is $z^2$; `code`.", "numeric", CORRECTED, "It is $z^3$."),
    ("a-3", "yu2021", "§3", "Later.", "numeric", PENDING, None),
    ("b-1", "sari2020quantized", "Eq. (2)", "Gradients vanish.", "numeric", ASSUMING, "Only for $f' = 1$."),
    ("c-1", "morwani2020understanding", "§1", "It is faster.", "measured", NOT_REPRODUCED, None),
    ("d-1", "extreme2022", "Alg. 1", "It is the same.", "numeric", CORRECTED, r"It is twice $\gamma$."),
    ("e-1", "book", "forward", "A sum of ours.", "numeric", HOLDS, None),
]
EVIDENCE = {
    "a-1": {"printed": sp.Integer(0)}, "a-2": {"printed": False, "corrected": True},
    "b-1": {"printed": False, "assuming": {r"$\epsilon = 0$": True}},
    "c-1": {"printed": claims.Interval(1.0, 0.5, 1.5, claim_low=1.2)},
    "d-1": {"printed": False, "corrected": True}, "e-1": {"printed": 0.0},
}
ALTS = ["A line that rises.", 'He said: "a < b & c".']

INDEX = f"""# Index

```{{toctree}}
{CHAPTER}
appendix/claims
appendix/errata
```

```{{claims-table}} yu2021
```

```{{claims-table}} nobody2000
```
"""


def write_ledger(path: Path, rows=LEDGER):
    names = ("id", "source", "where", "statement", "kind", "verdict", "corrected")
    entries = [dict(zip(names, row, strict=True)) | {"chapter": CHAPTER} for row in rows]
    path.write_text(yaml.safe_dump(entries, allow_unicode=True), encoding="utf-8")


def outputs() -> list[dict]:
    """The outputs of a notebook that shows a bare picture between two figures, and every settlement."""
    shown = []

    def display(data, metadata=None, raw=False):
        shown.append((data, metadata))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "display", display)
        for height, alt in enumerate(ALTS, start=1):
            picture, axes = figures.figure(figsize=(1, height))
            axes.plot([1, 2])
            figures.show(picture, caption="A caption.", alt=alt)
    png = shown[0][0]["image/png"]
    bare = png[:-1] + bytes([png[-1] ^ 1])  # Sphinx would store the same picture once
    shown.insert(2, ({"image/png": bare, "text/plain": "bare"}, None))
    cards = (claims.settle(name, **evidence) for name, evidence in EVIDENCE.items())
    shown += [(card._repr_mimebundle_(), None) for card in cards]
    return [
        {"output_type": "display_data", "metadata": metadata or {}, "data": {
            kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for kind, value in data.items()
        }}
        for data, metadata in shown
    ]


def write_notebook(path: Path):
    code = {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": "pass"}
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Forward"}]
    cells += [code | {"id": f"cell-{i}", "outputs": [output]} for i, output in enumerate(outputs())]
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    notebook = {"cells": cells, "metadata": language, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def build(source: Path, out: Path) -> str:
    """Build the site in this process; the warnings of the build."""
    warnings = source.parent / "warnings.txt"
    folders = str(source), None, str(out), str(out.parent / "doctrees")
    with docutils_namespace(), patch_docutils(str(source)), warnings.open("w", encoding="utf-8") as stream:
        app = Sphinx(
            *folders, "html", status=None, warning=stream,
            confoverrides={
                "extensions": ["myst_nb", "figures_alt", "ledger"], "nb_execution_mode": "off",
                "myst_enable_extensions": ["dollarmath"], "suppress_warnings": ["mystnb.unknown_mime_type"],
                "mathjax_path": "no-network.js", "html_theme": "basic", "html_copy_source": False,
                "html_static_path": [str(BOOK / "_static")], "html_js_files": ["ledger.js"],
            },
        )
        app.build()
    return warnings.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book's own claims and errata pages, rendered for the made-up ledger: source, site, warnings."""
    folder = tmp_path_factory.mktemp("site")
    source, out = folder / "book", folder / "html"
    known = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BOOK / "_ext"))
        patch.setattr(claims, "BOOK", source)
        patch.setattr(claims, "LEDGER", source / "claims.yml")
        (source / "appendix").mkdir(parents=True)
        write_ledger(source / "claims.yml")
        write_notebook(source / f"{CHAPTER}.ipynb")
        for name in ("claims", "errata"):
            shutil.copy(BOOK / f"appendix/{name}.md", source / "appendix")
        (source / "index.md").write_text(INDEX, encoding="utf-8")
        warnings = build(source, out)
        yield source, out, warnings
    for name in {"ledger", "figures_alt"} - known:
        sys.modules.pop(name, None)


def page(site, name) -> BeautifulSoup:
    return BeautifulSoup((site[1] / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def rows(table) -> list[list]:
    return [row.find_all(["td", "th"]) for row in table.find("tbody").find_all("tr")]


def words(node) -> str:
    """The text of a node, its lines joined by spaces."""
    for line_break in node.find_all("br"):
        line_break.replace_with(" ")
    return " ".join(node.get_text().split())


@pytest.fixture(scope="module")
def tables(site) -> list:
    """The tables of the claims page: the progress, then one for each source."""
    return page(site, "appendix/claims").find_all("table", class_="bn-ledger")


def claim_row(tables, name):
    found = [row for table in tables[1:] for row in table.find_all("tr") if words(row).startswith(name + " ")]
    assert len(found) == 1
    return found[0]


class TestClaimsTable:
    def test_one_row_for_each_claim_in_the_order_of_the_ledger(self, tables):
        assert [[words(cells[0]) for cells in rows(table)] for table in tables[1:]] == [
            ["a-1 Eq. (1)", "a-2 §2 & Table 1", "a-3 §3"],
            ["b-1 Eq. (2)"], ["c-1 §1"], ["d-1 Alg. 1"], ["e-1 forward"],
        ]

    def test_columns_are_headed(self, tables):
        assert [words(cell) for cell in tables[1].find("thead").find_all("th")] == [
            "Claim", "As printed", "Verdict", "Settled in",
        ]

    def test_mathematics_is_rendered_not_shown_raw(self, tables):
        row = claim_row(tables, "a-1")
        assert [words(node) for node in row.find_all(class_="math")] == [
            r"\(a < b\)", r"\(\mu = \frac{1}{M} \sum_m z_m\)",
        ]
        assert "$" not in words(row)
        assert claim_row(tables, "a-2").find_all("code")[1].get_text() == "code"

    def test_corrected_form_and_note_stand_below_the_printed_one(self, tables):
        assert "The factor is \\(z^2\\); code. Corrected: It is \\(z^3\\)." in words(
            claim_row(tables, "a-2"))
        assert "Gradients vanish. Note: Only for \\(f' = 1\\)." in words(claim_row(tables, "b-1"))

    def test_assumptions_under_which_a_claim_holds_are_named(self, tables):
        assert "Holds assuming: \\(\\epsilon = 0\\)" in words(claim_row(tables, "b-1"))
        others = [words(claim_row(tables, row[0])) for row in LEDGER if row[0] != "b-1"]
        assert not any("assuming" in text for text in others)

    @pytest.mark.parametrize(("name", "verdict", "kind"), [
        ("a-1", HOLDS, "holds"), ("a-2", CORRECTED, "corrected"), ("a-3", PENDING, "pending"),
        ("b-1", ASSUMING, "assumption"), ("c-1", NOT_REPRODUCED, "not-reproduced"),
    ])
    def test_verdict_is_a_badge_and_the_class_of_the_row(self, tables, name, verdict, kind):
        row = claim_row(tables, name)
        badge = row.find(class_="bn-verdict")
        assert badge.get_text() == verdict and f"bn-verdict--{kind}" in badge["class"]
        assert f"bn-row--{kind}" in row["class"]

    def test_badges_have_a_colour(self):
        style = (BOOK / "_static/book.css").read_text(encoding="utf-8")
        source = (BOOK / "appendix/claims.md").read_text(encoding="utf-8")
        for kind in ("holds", "corrected", "assumption", "not-reproduced", "pending"):
            assert f".bn-verdict--{kind}" in style and f".bn-claim--{kind}" in style
            assert f'<option value="{kind}">' in source

    @pytest.mark.parametrize("name", EVIDENCE)
    def test_links_to_the_card_that_settles_it(self, site, tables, name):
        (link,) = claim_row(tables, name).find_all("a")
        assert link["href"] == f"../{CHAPTER}.html#claim-{name}" and words(link) == CHAPTER
        card = page(site, CHAPTER).find(id=f"claim-{name}")
        assert "bn-claim" in card["class"] and words(card.find("code")) == name

    def test_a_pending_claim_names_its_chapter_without_a_link(self, tables):
        row = claim_row(tables, "a-3")
        assert row.find("a") is None and words(row).endswith(f"{CHAPTER} (to come)")

    def test_link_fits_a_page_at_the_top(self, site):
        assert page(site, "index").find(class_="bn-ledger").find("a")["href"] == f"{CHAPTER}.html#claim-a-1"

    def test_an_unknown_source_is_the_only_warning(self, site):
        warnings = site[2].strip().splitlines()
        assert len(warnings) == 1 and "the ledger has no claims of source 'nobody2000'" in warnings[0]


class TestErrata:
    def test_only_corrected_claims_with_both_forms_and_their_proof(self, site):
        (table,) = page(site, "appendix/errata").find_all("table")
        assert [[words(cell) for cell in cells] for cells in rows(table)] == [
            ["Yu (2021), §2 & Table 1 a-2", r"The factor is \(z^2\); code.", r"It is \(z^3\).", CHAPTER],
            ["Anonymous (2022), Alg. 1 d-1", "It is the same.", "It is twice \\(\\gamma\\).", CHAPTER],
        ]
        assert [link["href"] for link in table.find_all("a")] == [
            f"../{CHAPTER}.html#claim-a-2", f"../{CHAPTER}.html#claim-d-1",
        ]


class TestProgress:
    def test_counts_of_each_source(self, tables):
        head = [words(cell) for cell in tables[0].find("thead").find_all("th")]
        assert head == ["Source", "Settled", "Hold", "Corrected", "Under assumptions", "Not reproduced"]
        assert [[words(cell) for cell in cells] for cells in rows(tables[0])] == [
            ["Yu (2021)", "2 of 3", "1", "1", "0", "0"],
            ["Sari and Partovi Nia (2020)", "1 of 1", "0", "0", "1", "0"],
            ["Morwani (2020)", "1 of 1", "0", "0", "0", "1"],
            ["Anonymous (2022)", "1 of 1", "0", "1", "0", "0"],
            ["This book", "1 of 1", "1", "0", "0", "0"],
        ]

    def test_bars_have_a_name_and_the_same_counts(self, tables):
        bar = tables[0].find("progress")
        assert (bar["value"], bar["max"]) == ("2", "3") and bar["aria-label"] == "Yu (2021): 2 of 3 settled"

    def test_rows_are_marked_so_that_the_filter_leaves_them(self, tables):
        assert all("bn-row--progress" in row["class"] for row in tables[0].find("tbody").find_all("tr"))


class TestAltText:
    def test_each_figure_has_its_own_and_a_bare_picture_none(self, site):
        pictures = page(site, CHAPTER).find_all("img")
        assert [pictures[0]["alt"], pictures[2]["alt"]] == ALTS
        assert len(pictures) == 3 and pictures[1]["alt"] not in ALTS

    def test_captions_stay_on_the_page(self, site):
        captions = page(site, CHAPTER).find_all(class_="bn-figure")
        assert [words(caption.find("p")) for caption in captions] == ["A caption."] * 2
        assert all("line: n=2" in caption.find("pre").get_text() for caption in captions)


def test_pages_follow_a_change_of_ledger_and_notebooks(site, tmp_path):
    source, out, _ = site
    copy = tmp_path / "book"
    shutil.copytree(source, copy)
    shutil.copytree(out, tmp_path / "html")
    shutil.copytree(out.parent / "doctrees", tmp_path / "doctrees")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "BOOK", copy)
        patch.setattr(claims, "LEDGER", copy / "claims.yml")
        build(copy, tmp_path / "html")  # what the folders of the environment say is now up to date
        write_ledger(copy / "claims.yml", [row[:5] + (PENDING, None) for row in LEDGER])
        os.utime(copy / "claims.yml", (4e9, 4e9))
        build(copy, tmp_path / "html")
    moved = (None, tmp_path / "html")
    assert "No printed formula has been corrected so far." in words(page(moved, "appendix/errata"))
    progress = rows(page(moved, "appendix/claims").find("table"))
    assert [words(cell) for cell in progress[0][:2]] == ["Yu (2021)", "0 of 3"]


needs_browser = pytest.mark.skipif(
    find_spec("playwright") is None or check_browser.find_browser() is None,
    reason="no Playwright or no Chromium on this machine",
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": check_browser.find_browser(), "args": list(check_browser.FLAGS)}
        with playwright.chromium.launch(**options) as chromium:
            yield chromium


@needs_browser
class TestFilter:
    @pytest.fixture(scope="class")
    def opened(self, site, browser):
        tab = browser.new_page()
        tab.goto((site[1] / "appendix/claims.html").as_uri())
        yield tab
        tab.close()

    @pytest.fixture
    def tab(self, opened):
        """The claims page as it was opened, with the controls as they were at first."""
        yield opened
        opened.select_option("[data-bn-filter=verdict]", "")
        opened.fill("[data-bn-filter=text]", "")

    @staticmethod
    def shown(tab) -> list[str]:
        """Ids in the visible rows of the claims, and the count that is said."""
        ids = tab.locator("table.bn-ledger tbody tr:not(.bn-row--progress) td:first-child code:visible")
        return [*ids.all_inner_texts(), tab.locator(".bn-filter__count").inner_text()]

    def test_at_first_every_claim_is_shown(self, tab):
        assert self.shown(tab) == ["a-1", "a-2", "a-3", "b-1", "c-1", "d-1", "e-1", "7 of 7 claims"]

    @pytest.mark.parametrize(("verdict", "ids"), [
        ("holds", ["a-1", "e-1"]), ("corrected", ["a-2", "d-1"]), ("assumption", ["b-1"]),
        ("not-reproduced", ["c-1"]), ("pending", ["a-3"]),
    ])
    def test_by_verdict(self, tab, verdict, ids):
        tab.select_option("[data-bn-filter=verdict]", verdict)
        assert self.shown(tab) == [*ids, f"{len(ids)} of 7 claims"]

    @pytest.mark.parametrize(("text", "ids"), [
        ("FACTOR", ["a-2"]), ("b-1", ["b-1"]), ("to come", ["a-3"]), ("alg. TWICE", ["d-1"]),
        (r"\gamma", ["d-1"]), ("twice nonsense", []), ("  ", [row[0] for row in LEDGER]),
    ])
    def test_by_words_of_which_each_must_occur(self, tab, text, ids):
        tab.fill("[data-bn-filter=text]", text)
        assert self.shown(tab) == [*ids, f"{len(ids)} of 7 claims"]

    def test_by_both_and_back(self, tab):
        tab.select_option("[data-bn-filter=verdict]", "corrected")
        tab.fill("[data-bn-filter=text]", "factor")
        assert self.shown(tab) == ["a-2", "1 of 7 claims"]
        tab.fill("[data-bn-filter=text]", "")
        tab.select_option("[data-bn-filter=verdict]", "")
        assert len(self.shown(tab)) == 8

    def test_leaves_the_progress_and_hides_a_table_without_rows(self, tab):
        tab.fill("[data-bn-filter=text]", "factor")
        assert tab.locator(".bn-row--progress:visible").count() == 5
        assert tab.locator("table.bn-ledger:visible").count() == 2
        assert tab.locator("h2:visible").count() == 5

    def test_controls_have_names_and_the_count_is_announced(self, tab):
        assert tab.get_by_role("combobox", name="Show").is_visible()
        assert tab.get_by_role("searchbox", name="containing").is_visible()
        assert tab.locator(".bn-filter__count").get_attribute("aria-live") == "polite"

    def test_without_scripts_every_row_stands_and_the_controls_are_hidden(self, site, browser):
        context = browser.new_context(java_script_enabled=False)
        tab = context.new_page()
        tab.goto((site[1] / "appendix/claims.html").as_uri())
        assert tab.locator("table.bn-ledger tbody tr:not(.bn-row--progress):visible").count() == 7
        assert not tab.locator(".bn-filter").is_visible()
        context.close()

    def test_does_nothing_on_a_page_without_a_filter(self, site, browser):
        tab, errors = browser.new_page(), []
        tab.on("pageerror", lambda error: errors.append(error))
        tab.goto((site[1] / "appendix/errata.html").as_uri())
        assert errors == [] and tab.locator("table.bn-ledger tbody tr:visible").count() == 2
        tab.close()
