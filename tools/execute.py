"""Re-execute notebooks in place, each in a fresh kernel, and store them in one normal form.

Usage: python tools/execute.py [chapter ...]

Without a chapter: all, in reading order. A notebook is stored only if it ran and its outputs are fit to be
compared and shown: no warning, no path of this machine, no memory address. Cells are numbered as nbval does:
code cells only, from 0.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from chapters import BOOK, ROOT, chosen, notebook
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
KEPT = {"bnbook", "jupyter", "mystnb", "tags"}  # cell metadata with a meaning for the book
TIMEOUT = 600  # seconds for one cell
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
PATHS = {str(ROOT), str(Path.home()), tempfile.gettempdir(), "site-packages"} - {"/"}


def code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def normalize(book: nbformat.NotebookNode) -> None:
    """Drop whatever differs from machine to machine or from editor to editor."""
    kept = {"mystnb": book.metadata["mystnb"]} if "mystnb" in book.metadata else {}
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}, **kept})
    for cell in book.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in cell.metadata if key in KEPT})
    for cell in code_cells(book):
        cell.outputs = merge_streams(cell.outputs)


def merge_streams(outputs: list) -> list:
    """Join the pieces in which a stream happened to arrive."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output.output_type == last.get("output_type") == "stream" and output.name == last["name"]:
            last["text"] += output.text
        else:
            merged.append(output)
    return merged


def texts(output: nbformat.NotebookNode):
    """Everything in an output that a reader or nbval sees as text."""
    for key in ("text", "evalue"):
        yield output.get(key, "")
    yield from output.get("traceback", [])
    for mime, content in output.get("data", {}).items():
        if mime.startswith("text/") or mime == "image/svg+xml" or mime.endswith("json"):
            yield content if isinstance(content, str) else repr(content)


def problems(book: nbformat.NotebookNode) -> list[str]:
    """What must not be stored, with the number of its cell; nbval passes a cell that was never run."""
    found, count = [], 0
    for number, cell in enumerate(code_cells(book)):
        if cell.source.strip():
            count += 1
            if cell.execution_count != count:
                found.append(f"cell {number} was not run in order from a fresh kernel")
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text.strip()[:200]}")
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                found.append(f"cell {number} shows a widget, which a rendered page cannot")
            for text in texts(output):
                if match := ADDRESS.search(text):
                    found.append(f"cell {number} shows a memory address: {match.group()}")
                for path in sorted(PATHS):
                    if path in text:
                        found.append(f"cell {number} shows a path of this machine: {path}")
    return list(dict.fromkeys(found))


def execute(path: Path) -> list[str]:
    """Run one notebook and store it; the problems that kept it from being stored, if any."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=TIMEOUT, kernel_name=KERNEL["name"], record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return [str(error)]
    normalize(book)
    if found := problems(book):
        return found
    nbformat.validate(book)
    partial = path.with_suffix(".partial")
    nbformat.write(book, partial)
    os.replace(partial, path)
    return []


def main(names: list[str]) -> int:
    failed = False
    for name in chosen(names):
        path = notebook(name)
        if path.stem == "exercises":
            subprocess.check_call([sys.executable, str(ROOT / "tools" / "exercises.py"), "sync"], cwd=ROOT)
        print(f"{path.relative_to(BOOK)} ...", end=" ", flush=True)
        start = time.monotonic()
        found = execute(path)
        print("not stored:" if found else f"{time.monotonic() - start:.0f} s")
        for problem in found:
            print(f"  {problem}")
        failed = failed or bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
