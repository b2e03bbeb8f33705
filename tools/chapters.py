"""The chapters of the book, in the order of _toc.yml, shared by the tools beside this file."""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


def chapters() -> list[str]:
    """Names of the pages that are notebooks, as in "foundations/backward", in reading order."""
    def files(entry):
        if isinstance(entry, dict):
            for key, value in entry.items():
                yield from [value] if key in ("root", "file") else files(value)
        elif isinstance(entry, list):
            for item in entry:
                yield from files(item)

    names = files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return [name for name in names if notebook(name).is_file()]


def notebook(chapter: str) -> Path:
    return BOOK / f"{chapter}.ipynb"


def chosen(names: list[str]) -> list[str]:
    """The chapters that a command names, all if it names none; ends the program if one does not exist."""
    known = chapters()
    names = [name.removeprefix("book/").removesuffix(".ipynb") for name in names]
    for name in names:
        if name not in known:
            sys.exit(f"there is no chapter {name!r}; there are: {', '.join(known)}")
    return names or known
