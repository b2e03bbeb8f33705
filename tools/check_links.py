"""Check the rendered book: every internal address resolves, and nothing is loaded from elsewhere.

Usage: python tools/check_links.py [site]        (site: _build/html unless given)

An anchor to another site is fine: only what a page loads by itself must come from the book.
"""

import argparse
import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
CSS_URL = re.compile(r"""url\(\s*(['"]?)(.*?)\1\s*\)|@import\s+['"](.*?)['"]""")
# Elements whose attribute makes a browser load something, and those that a reader follows.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
          "embed": "src", "track": "src", "input": "src", "object": "data", "use": "href", "image": "href"}
FOLLOWED = {"a": "href", "area": "href", "form": "action"}
LOADED_RELS = {"stylesheet", "icon", "manifest", "preload",
               "modulepreload", "prefetch", "preconnect", "dns-prefetch"}


class Page(HTMLParser):
    """The anchors, links and resources of one HTML page, with the line where each is written."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[int, str]] = []
        self.resources: list[tuple[int, str]] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        line, attributes = self.getpos()[0], {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        if "id" in attributes:
            self.anchors.add(attributes["id"])
        if tag == "a" and "name" in attributes:
            self.anchors.add(attributes["name"])
        if FOLLOWED.get(tag) in attributes:
            self.links.append((line, attributes[FOLLOWED[tag]]))
        if attributes.get(LOADED.get(tag)):
            self.resources.append((line, attributes[LOADED[tag]]))
        for candidate in attributes.get("srcset", "").split(","):
            if candidate.strip():
                self.resources.append((line, candidate.split()[0]))
        if tag == "link" and "href" in attributes:
            loaded = LOADED_RELS & set(attributes.get("rel", "").lower().split())
            (self.resources if loaded else self.links).append((line, attributes["href"]))
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
            self.links.append((line, attributes.get("content", "").partition("=")[2].strip(" '\"")))
        self.resources += [(line, url) for url in css_urls(attributes.get("style", ""))]

    def handle_endtag(self, tag):
        self.in_style = False

    def handle_data(self, data):
        if self.in_style:
            self.resources += [(self.getpos()[0], url) for url in css_urls(data)]


def css_urls(text: str) -> list[str]:
    without_comments = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return [url or imported for _, url, imported in CSS_URL.findall(without_comments)]


@cache
def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pages(site: Path) -> list[Path]:
    """Every page that a reader can open; folders that begin with an underscore hold assets and sources."""
    return sorted(path for path in site.rglob("*.html")
                  if not any(part.startswith("_") for part in path.relative_to(site).parts[:-1]))


def resolve(site: Path, base: Path, url: str) -> tuple[Path | None, str, str]:
    """The file that an internal address means, its fragment, and what is wrong with it if anything."""
    parts = urlsplit(url)
    if parts.path.startswith("/"):
        return None, "", "an absolute path, which breaks when the book is served from a subfolder"
    target = (base.parent / unquote(parts.path)).resolve() if parts.path else base
    if not target.is_relative_to(site):
        return None, "", "leads out of the book"
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return None, "", "no such file"
    return target, unquote(parts.fragment), ""


def check_resource(site: Path, base: Path, url: str, stylesheets: set[Path]) -> str:
    parts = urlsplit(url)
    if parts.scheme in {"data", "blob", "about"} or url.startswith("#"):
        return ""
    if parts.scheme or parts.netloc:
        return "is loaded from outside the book"
    target, _, problem = resolve(site, base, url)
    if target and target.suffix == ".css":
        stylesheets.add(target)
    return problem


def check_link(site: Path, base: Path, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "leads to a file of the machine that rendered the book"
    if parts.scheme or parts.netloc:
        return ""
    target, fragment, problem = resolve(site, base, url)
    if target and fragment and target.suffix == ".html" and fragment not in read_page(target).anchors:
        return f"no anchor #{fragment} in {target.relative_to(site)}"
    return problem


def check(site: Path) -> tuple[int, int, list[str]]:
    """Numbers of pages and of addresses checked, and one line for each that is broken."""
    site = site.resolve()
    problems, checked, stylesheets = [], 0, set()
    found = pages(site)
    for path in found:
        page = read_page(path)
        results = [(line, url, check_link(site, path, url)) for line, url in page.links]
        results += [(line, url, check_resource(site, path, url, stylesheets)) for line, url in page.resources]
        checked += len(results)
        name = path.relative_to(site)
        problems += [f"{name}:{line}: {url}: {problem}" for line, url, problem in results if problem]
    seen: set[Path] = set()
    while waiting := stylesheets - seen:  # a stylesheet may import others
        path = waiting.pop()
        seen.add(path)
        for url in css_urls(path.read_text(encoding="utf-8")):
            checked += 1
            if problem := check_resource(site, path, url, stylesheets):
                problems.append(f"{path.relative_to(site)}: {url}: {problem}")
    return len(found), checked, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", nargs="?", type=Path, default=ROOT / "_build" / "html")
    site = parser.parse_args().site
    number, checked, problems = check(site) if site.is_dir() else (0, 0, [])
    for problem in problems:
        print(problem)
    if not number:
        print(f"links: no page in {site}; run `make book` first")
        return 1
    print(f"links: {number} pages, {checked} addresses, {len(problems)} broken")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
