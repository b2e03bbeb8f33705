"""The exercise notebook of every part holds all its exercises, in order, with all their cells."""

import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

from bnbook.exercises import stub

ROOT = Path(__file__).resolve().parents[1]
PARTS = sorted(path.parent.name for path in ROOT.glob("book/*/exercises.ipynb"))


class Part:
    """The exercises of a part by id, and the cells of its notebook."""

    def __init__(self, name):
        self.listed = importlib.import_module(f"bnbook.exercises.{name}").EXERCISES
        self.by_id = {exercise.id: exercise for exercise in self.listed}
        text = (ROOT / f"book/{name}/exercises.ipynb").read_text(encoding="utf-8")
        self.notebook = json.loads(text)
        self.cells = self.notebook["cells"]
        self.sources = ["".join(cell["source"]) for cell in self.cells]
        self.chapters = [*dict.fromkeys(e.chapter for e in self.listed)]


@pytest.fixture(scope="module", params=PARTS)
def part(request):
    return Part(request.param)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location(
        "exercises_tool", ROOT / "tools/exercises.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_part_with_exercises_is_found():
    packages = ROOT.glob("src/bnbook/exercises/*/__init__.py")
    found = [path.parent.name for path in packages]
    assert PARTS == sorted(
        name
        for name in found
        if importlib.import_module(f"bnbook.exercises.{name}").EXERCISES
    )


def test_stub_cells_are_what_the_solutions_give(part, tool):
    names = [name for name, _ in tool.stub_cells(part.notebook)]
    assert names == list(part.by_id), "a stub cell is missing, or out of order"
    assert tool.drifted(part.notebook) == [], "run `python tools/exercises.py sync`"


def test_exercises_come_in_order_under_their_chapters(part):
    in_order = [e.id for c in part.chapters for e in part.listed if e.chapter == c]
    assert in_order == list(part.by_id)
    first_lines = [source.partition("\n")[0] for source in part.sources]
    headings = [line for line in first_lines if re.match("##? ", line)]
    names = [c.rpartition("/")[2].replace("_", " ").capitalize() for c in part.chapters]
    assert headings == ["# Exercises", *(f"## {name}" for name in names)]


def test_each_exercise_has_all_its_cells(part):
    for name, exercise in part.by_id.items():
        level = exercise.level.capitalize()
        start = f"```{{exercise}} {exercise.title}\n:label: ex-{name}\n\n**{level}.** "
        at = [i for i, source in enumerate(part.sources) if source.startswith(start)]
        assert len(at) == 1, f"no markdown cell starts with {start!r}"
        total = len(exercise.hints)
        hints = [
            f'hint("{name}"{f", {n}" if n > 1 else ""})' for n in range(1, total + 1)
        ]
        check = f'check("{name}", {exercise.reference.__name__})'
        expected = [stub(name), check, *hints, f'solution("{name}")']
        cells = slice(at[0] + 1, at[0] + 1 + len(expected))
        assert part.sources[cells] == expected
        folded = part.cells[cells][2:]
        assert all("hide-cell" in cell["metadata"]["tags"] for cell in folded)
        labels = [cell["metadata"]["mystnb"]["code_prompt_show"] for cell in folded]
        numbered = [f"Show hint {n} of {total}" for n in range(1, total + 1)]
        assert labels == [*numbered, "Show solution"]


def test_stored_outputs_are_those_of_an_unsolved_notebook(part):
    for cell, source in zip(part.cells, part.sources, strict=True):
        if cell["cell_type"] != "code":
            continue
        assert all(o["output_type"] == "execute_result" for o in cell["outputs"])
        if source.startswith("check("):
            (output,) = cell["outputs"]
            shown = "".join(output["data"]["text/plain"])
            assert shown.startswith("○ ") and ": not attempted\n" in shown


def test_no_two_functions_share_a_name(part):
    names = [exercise.reference.__name__ for exercise in part.listed]
    assert len(set(names)) == len(names)
