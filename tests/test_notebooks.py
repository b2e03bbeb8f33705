"""Every notebook of the book is stored as `make execute` stores it, and its outputs can be compared.

nbval re-runs the cells; what it passes over is checked here: a cell that was never run, metadata, warnings,
machine paths and memory addresses.
"""

import chapters
import execute
import nbformat
import pytest

NOTEBOOKS = sorted(path for path in chapters.BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
IGNORED = ("NBVAL_IGNORE_OUTPUT", "NBVAL_SKIP", "PYTEST_VALIDATE_IGNORE_OUTPUT")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.relative_to(chapters.BOOK).as_posix())
def path(request):
    return request.param


def test_is_in_the_table_of_contents(path):
    assert path.relative_to(chapters.BOOK).with_suffix("").as_posix() in chapters.chapters()


def test_is_stored_in_the_normal_form(path):
    stored = path.read_text(encoding="utf-8")
    book = nbformat.reads(stored, as_version=4)
    nbformat.validate(book)
    execute.normalize(book)
    assert nbformat.writes(book) + "\n" == stored, "run `make execute` for this chapter"


def test_was_run_from_a_fresh_kernel_and_shows_no_trace_of_the_machine(path):
    assert execute.problems(nbformat.read(path, as_version=4)) == []


def test_hides_no_output_from_the_comparison(path):
    for cell in execute.code_cells(nbformat.read(path, as_version=4)):
        tags = [tag.upper().replace("-", "_") for tag in cell.metadata.get("tags", [])]
        assert not [marker for marker in IGNORED if marker in cell.source or marker in tags]
