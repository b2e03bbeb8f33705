"""`make execute` runs a notebook, stores it in one normal form, and refuses what must not be stored."""

import execute
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


@pytest.fixture
def notebook(tmp_path):
    def write(*sources):
        book = new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, sources)])
        path = tmp_path / "chapter.ipynb"
        nbformat.write(book, path)
        return path

    return write


def test_a_notebook_is_run_and_stored(notebook):
    path = notebook("x = 2", "x + 1", "print('a'); print('b')")
    assert execute.execute(path) == []
    book = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in execute.code_cells(book)] == [1, 2, 3]
    assert execute.code_cells(book)[1].outputs[0].data == {"text/plain": "3"}
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert execute.problems(book) == []


def test_running_again_changes_no_byte(notebook):
    path = notebook("import sys; print(sys.version_info.major)", "2 ** 10")
    execute.execute(path)
    stored = path.read_bytes()
    execute.execute(path)
    assert path.read_bytes() == stored


@pytest.mark.parametrize(("source", "expected"), [
    ("object()", "cell 1 shows a memory address: 0x"),
    ("import warnings; warnings.warn('careful')", "cell 1 writes to stderr"),
    (f"print({str(execute.ROOT)!r})", f"cell 1 shows a path of this machine: {execute.ROOT}"),
    ("1 / 0", "ZeroDivisionError"),
])
def test_what_must_not_be_stored_is_named_and_the_file_stays(notebook, source, expected):
    path = notebook("1", source)
    before = path.read_bytes()
    problems = execute.execute(path)
    assert expected in " ".join(problems)
    assert path.read_bytes() == before


def test_normal_form_drops_what_editors_and_runs_leave():
    cell = new_code_cell("1", metadata={"tags": ["hide-input"], "execution": {}, "collapsed": True})
    cell.outputs = [new_output("stream", text="a"), new_output("stream", text="b")]
    language = {"name": "python", "version": "3.9"}
    book = new_notebook(cells=[cell], metadata={"widgets": {}, "language_info": language})
    execute.normalize(book)
    assert book.cells[0].metadata == {"tags": ["hide-input"]}
    assert book.metadata == {"kernelspec": execute.KERNEL, "language_info": {"name": "python"}}
    assert [output.text for output in book.cells[0].outputs] == ["ab"]


@pytest.mark.parametrize("counts", [(None, None), (1, None), (2, 3), (2, 1)])
def test_cells_that_were_not_run_in_order_are_reported(counts):
    book = new_notebook(cells=[new_code_cell("1", execution_count=count) for count in counts])
    assert "was not run in order from a fresh kernel" in execute.problems(book)[0]


def test_a_picture_is_not_searched_for_paths():
    output = new_output("display_data", {"image/png": "0xabcdef0", "text/plain": "a picture"})
    book = new_notebook(cells=[new_code_cell("1", execution_count=1, outputs=[output])])
    assert execute.problems(book) == []
