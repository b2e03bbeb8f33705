"""The browser check reports each defect on a small made-up site, in a real headless browser."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import check_browser
import pytest

pytestmark = [
    pytest.mark.skipif(find_spec("playwright") is None, reason="no Playwright: tools/install.py --dev"),
    pytest.mark.skipif(check_browser.find_browser() is None, reason="no Chromium on this machine"),
]

RENDERED = '<span class="math"><mjx-container>x</mjx-container></span>'
PAGES = {
    "sound.html": f'{RENDERED} a price of $5, <code>\\(x\\)</code>'
                  '<a href="https://example.org">a link out</a> <img src="dot.svg" alt="a dot">'
                  '<div style="overflow-x: auto"><p style="width: 900px">wide</p></div>',
    "formulas.html": '<span class="math">\\(x^2\\)</span> <p>the mean $\\mu$ of a batch</p>'
                     '<span class="math"><mjx-container><mjx-merror data-mjx-error="Missing }"></mjx-merror>'
                     '</mjx-container></span>',
    "scripts.html": "<script>console.error('it broke')</script> <script>throw new Error('thrown')</script>",
    "requests.html": '<img src="https://example.org/a.png" alt="a picture"> <script src="gone.js"></script>'
                     "<script>const late = () => fetch('https://example.org/late.json').catch(() => 0);"
                     "setTimeout(late, 100)</script>",
    "pictures.html": '<img src="dot.svg"> <img src="dot.svg" alt="_images/0a1b2c.png">',
    "wide.html": '<p>text</p><table id="wide-table"><tr><td style="min-width: 700px">cell</td></tr></table>',
    "wide-inside.html": '<details><summary>fold</summary><pre id="folded">' + "x" * 300 + "</pre></details>",
    "heavy.html": '<script src="heavy.bin"></script>',
    "index.html": '<meta http-equiv="refresh" content="0; url=sound.html">',
    "search.html": '<div id="search-results"></div>',
}
SEARCH = """<div id="search-results"></div><script>
if (new URLSearchParams(location.search).get('q') === 'variance')
  document.querySelector('#search-results').innerHTML = '<ul><li><a href="sound.html">found</a></li></ul>';
</script>"""


def site(folder: Path, pages: dict[str, str]) -> Path:
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    for name, text in pages.items():
        (folder / name).write_text(head + text, encoding="utf-8")
    (folder / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (folder / "heavy.bin").write_bytes(b" " * 1_600_000)
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, check_browser.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    done = run(site(tmp_path_factory.mktemp("site"), PAGES))
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("expected", [
    r'formulas.html: 1 of 2 formulas not rendered, first "\\(x^2\\)"',
    "formulas.html: raw mathematics in the text: ",
    "formulas.html: MathJax error: Missing }",
    "scripts.html: console: it broke",
    "scripts.html: script error: thrown",
    "requests.html: request to another host: https://example.org/a.png",
    "requests.html: request to another host: https://example.org/late.json",
    "requests.html: status 404: gone.js",
    "pictures.html: picture without alt text: dot.svg",
    "pictures.html: picture with its file name as alt text: _images/0a1b2c.png",
    "wide.html: the page is 7",
    "table#wide-table",
    "wide-inside.html: the page is ",
    "pre#folded",
    " KiB of transfer, over the budget of 1464",
    "search.html: the search finds no page with 'variance'",
])
def test_each_defect_is_reported(report, expected):
    assert expected in report


def test_a_sound_page_has_no_problem_and_a_redirection_is_not_opened(report):
    assert "sound.html: " not in report
    assert "index.html" not in report
    assert f"browser: {len(PAGES) - 1} pages" in report


def test_a_sound_site_passes_and_is_photographed(tmp_path):
    folder = site(tmp_path, {"sound.html": PAGES["sound.html"], "search.html": SEARCH})
    done = run(folder, "--screenshots", tmp_path / "pictures", "--pages", "sound", "search")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("browser: 2 pages, 0 problems\n")
    looks = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert looks == {f"{p}-{look}.png" for p in ("sound", "search") for look in ("light", "dark", "phone")}


def test_text_is_sent_compressed(tmp_path):
    page = "<p>" + "word " * 100_000
    done = run(site(tmp_path, {"long.html": page}))
    assert 0 < int(done.stdout.splitlines()[1].split()[-1]) < 20


@pytest.mark.parametrize(("arguments", "environment", "expected"), [
    (["nowhere"], {}, "no page in nowhere; run `make book` first"),
    (["--pages", "nope"], {}, "no such page: nope.html; there are sound.html"),
    ([], {"CHROMIUM": "/nowhere/chromium"}, "found at /nowhere/chromium; install one"),
])
def test_what_cannot_be_checked_is_one_clear_line(tmp_path, monkeypatch, arguments, environment, expected):
    folder = site(tmp_path, {"sound.html": ""})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run(*(arguments if arguments == ["nowhere"] else [folder, *arguments]))
    assert done.returncode == 1
    assert expected in done.stdout
    assert len(done.stdout.splitlines()) == 1
