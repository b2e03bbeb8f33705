"""Open every page of the rendered book in headless Chromium, with the network cut, and say what is wrong.

Usage: python tools/check_browser.py [site] [--pages NAME ...] [--screenshots DIR] [--search WORD]
(site: _build/html unless given; CHROMIUM= names the browser where it is not found by itself.)

On every page: all mathematics is rendered; no console error, no failed request, no request to another host;
every picture has alt text; at the width of a phone nothing overflows the page; and the page with all that it
loads stays within its budget, compressed as a real host would send it. The search must find a word.
"""

import argparse
import gzip
import os
import re
import shutil
import sys
import threading
from collections import defaultdict
from functools import cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium must not look for updates or for its maker's hosts: each attempt would wait on a closed network.
FLAGS = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
BUDGET = 1_500_000  # bytes of transfer for one page, opened with an empty cache
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS = (("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE))
COMPRESSED = {".html", ".css", ".js", ".mjs", ".json", ".svg", ".txt", ".xml", ".ipynb"}

SETTLE = """() => Promise.race([
  Promise.all([window.MathJax?.startup?.promise, document.fonts.ready]).then(() => ''),
  new Promise(resolve => setTimeout(() => resolve('MathJax or a font was not ready after 30 s'), 30000)),
])"""

AUDIT = r"""() => {
  const problems = [];
  const short = text => JSON.stringify(text.trim().replace(/\s+/g, ' ').slice(0, 60));
  const formulas = [...document.querySelectorAll('.math')];
  const raw = formulas.filter(e => !e.querySelector('mjx-container') && e.textContent.trim());
  const count = `${raw.length} of ${formulas.length} formulas`;
  if (raw.length) problems.push(`${count} not rendered, first ${short(raw[0].textContent)}`);
  for (const e of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
    problems.push(`MathJax error: ${e.getAttribute('data-mjx-error') || e.textContent}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const leftover = /\\[()[\]]|\$\$|\$[^\s$](?:[^$\n]*[^\s$])?\$|\\begin\{|\\[a-zA-Z]+[{_^]/;
  for (let node; (node = walker.nextNode());) {
    if (!leftover.test(node.data)) continue;
    if (node.parentElement.closest('script, style, noscript, pre, code, mjx-container, .math')) continue;
    problems.push(`raw mathematics in the text: ${short(node.data)}`);
  }
  for (const e of document.images) {
    const alt = (e.getAttribute('alt') ?? '').trim();
    if (e.closest('[aria-hidden=true]') || e.getAttribute('role') === 'presentation') continue;
    if (!alt) problems.push(`picture without alt text: ${e.getAttribute('src')?.slice(0, 80)}`);
    else if (/\.(png|jpe?g|gif|svg|webp)$/i.test(alt))
      problems.push(`picture with its file name as alt text: ${alt}`);
  }
  return problems;
}"""

OPEN_ALL = """() => {
  document.querySelectorAll('details').forEach(e => { e.open = true; });
  document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden'));
}"""

OVERFLOW = r"""() => {
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth <= width) return [];
  const boxed = e => {
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (getComputedStyle(p).overflowX !== 'visible') return true;
    return false;
  };
  const shown = [...document.body.querySelectorAll('*')]
    .filter(e => e.checkVisibility({visibilityProperty: true}) && !boxed(e));
  const boxes = shown.filter(e => e.getBoundingClientRect().right > width + 0.5);
  const spills = shown.filter(e => e.getBoundingClientRect().left + e.scrollWidth > width + 0.5);
  // A wide box is named by its outermost element, text that spills out of a narrow one by its innermost.
  const named = boxes.length ? boxes.filter(e => !boxes.includes(e.parentElement))
                             : spills.filter(e => !spills.some(other => other !== e && e.contains(other)));
  const classes = e => [...e.classList].map(c => '.' + c).join('');
  const name = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + classes(e);
  return [`the page is ${document.scrollingElement.scrollWidth} px wide on a phone of ${width} px: ` +
    (named.slice(0, 4).map(e => `${name(e)} ${JSON.stringify(e.textContent.trim().slice(0, 40))}`).join('; ')
     || 'no single element found')];
}"""


@cache
def compressed(path: str, _changed: float) -> bytes:
    return gzip.compress(Path(path).read_bytes(), compresslevel=6, mtime=0)


class Handler(SimpleHTTPRequestHandler):
    """Serves the site as a real host does: compressed, and over connections that stay open."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        send, server = self.wfile.write, self.server

        def counted(data):
            server.sent += len(data)
            return send(data)

        self.wfile.write = counted

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            return super().send_head()
        body = compressed(str(path), path.stat().st_mtime)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


class Site(ThreadingHTTPServer):
    """The rendered book on 127.0.0.1, counting the bytes that it sends."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder)))
        self.sent = 0
        self.address = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def find_browser() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def page_names(folder: Path) -> list[str]:
    """Every page of the site but redirections; folders that begin with an underscore hold assets."""
    names = []
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        redirects = re.search(r'http-equiv="refresh"', path.read_text(encoding="utf-8"), re.IGNORECASE)
        if not redirects and not name.startswith("_") and "/_" not in name:
            names.append(name)
    return names


class Visit:
    """One page opened in a context of its own, so that nothing is cached; records what goes wrong."""

    def __init__(self, browser, site: Site, address: str, **options):
        self.problems: list[str] = []
        self.requests = 0
        self.site = site
        self.context = browser.new_context(viewport=DESK, **options)
        self.context.route("**/*", self.guard)
        self.page = self.context.new_page()
        self.page.on("console", lambda it: it.type == "error" and self.note(f"console: {it.text}"))
        self.page.on("pageerror", lambda error: self.note(f"script error: {error}"))
        self.page.on("response", self.answered)
        self.page.on("requestfailed", self.failed)
        before = site.sent
        try:
            self.page.goto(site.address + address, wait_until="load", timeout=60_000)
            if late := self.page.evaluate(SETTLE):
                self.note(late)
            self.page.wait_for_load_state("networkidle", timeout=30_000)
        except Exception as error:  # Playwright's own classes are not imported before they are needed
            self.note(f"could not be opened: {str(error).partition(chr(10))[0]}")
        self.transfer = site.sent - before

    def guard(self, route):
        if route.request.url.startswith((self.site.address, "data:", "blob:")):
            self.requests += 1
            route.continue_()
        else:
            self.note(f"request to another host: {route.request.url}")
            route.abort("blockedbyclient")

    def answered(self, response):
        if response.status >= 400:
            self.note(f"status {response.status}: {self.short(response.url)}")

    def failed(self, request):
        if request.url.startswith(self.site.address):
            self.note(f"request failed ({request.failure}): {self.short(request.url)}")

    def note(self, problem: str):
        # Chromium repeats each failed or blocked request on its console.
        if not problem.startswith("console: Failed to load resource") and problem not in self.problems:
            self.problems.append(problem)

    def short(self, url: str) -> str:
        return url.removeprefix(self.site.address)

    def audit(self) -> None:
        self.problems += self.page.evaluate(AUDIT)
        self.page.evaluate(OPEN_ALL)
        self.page.set_viewport_size(PHONE)
        self.page.wait_for_timeout(100)  # the theme reacts to the new width
        self.problems += self.page.evaluate(OVERFLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def check_search(browser, site: Site, word: str) -> list[str]:
    """What is wrong with the search page, when it looks for a word that the book must contain."""
    with Visit(browser, site, f"search.html?q={word}") as visit:
        try:
            visit.page.wait_for_selector("#search-results li a", timeout=5_000)
        except Exception:
            visit.note(f"the search finds no page with {word!r}")
        return visit.problems


def take_screenshots(browser, site: Site, names: list[str], folder: Path) -> None:
    """Full-page pictures of each page: light, dark, and on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for look, scheme, viewport in LOOKS:
            with Visit(browser, site, name, color_scheme=scheme) as visit:
                visit.page.evaluate("look => { document.documentElement.dataset.theme = look; }", scheme)
                visit.page.set_viewport_size(viewport)
                visit.page.wait_for_timeout(200)
                stem = name.removesuffix(".html").replace("/", "-")
                visit.page.screenshot(path=folder / f"{stem}-{look}.png", full_page=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--pages", nargs="+", metavar="NAME", help="only these, as in foundations/forward")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="write pictures: light, dark, phone")
    parser.add_argument("--search", default="variance", metavar="WORD", help="what the search must find")
    options = parser.parse_args()

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("browser: Playwright is not installed; `python tools/install.py --dev` adds it")
        return 1
    executable = find_browser()
    if not executable or not shutil.which(executable):
        print(f"browser: no {' or '.join(BROWSERS[:3])} found{f' at {executable}' if executable else ''}; "
              "install one, or name it with CHROMIUM=")
        return 1
    names = page_names(options.site) if options.site.is_dir() else []
    if options.pages:
        wanted = {name.removesuffix(".html") + ".html" for name in options.pages}
        if unknown := wanted - set(names):
            print(f"browser: no such page: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
            return 1
        names = [name for name in names if name in wanted]
    if not names:
        print(f"browser: no page in {options.site}; run `make book` first")
        return 1

    problems = defaultdict(list)
    site = Site(options.site)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        print(f"{'page':<40} {'requests':>8} {'KiB':>6}")
        for name in names:
            with Visit(browser, site, name) as visit:
                visit.audit()
                if visit.transfer > BUDGET:
                    size = f"{visit.transfer // 1024} KiB of transfer"
                    visit.note(f"{size}, over the budget of {BUDGET // 1024}")
                problems[name] += visit.problems
                print(f"{name:<40} {visit.requests:>8} {visit.transfer / 1024:>6.0f}", flush=True)
        if "search.html" in names:
            problems["search.html"] += check_search(browser, site, options.search)
        if options.screenshots:
            take_screenshots(browser, site, names, options.screenshots)
        browser.close()
    site.shutdown()

    found = [f"{name}: {problem}" for name in names for problem in problems[name]]
    for line in found:
        print(line)
    print(f"browser: {len(names)} pages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
