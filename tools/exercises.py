"""Keep the exercise notebooks true to their solutions, and hand out working copies.

    python tools/exercises.py sync   rewrite the stub cells of book/*/exercises.ipynb from the solutions
    python tools/exercises.py work   copy book/*/exercises.ipynb to work/, never over an existing file,
                                     with the calls of `hint` and `solution` commented out

A stub cell is one whose metadata says {"bnbook": {"stub": "<exercise id>"}}.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def stub_cells(notebook):
    """Yield (exercise id, cell) for every stub cell of a notebook."""
    for cell in notebook["cells"]:
        exercise = cell.get("metadata", {}).get("bnbook", {}).get("stub")
        if exercise is not None:
            yield exercise, cell


def drifted(notebook):
    """Ids of the exercises whose stub cell is not what the solution gives."""
    from bnbook.exercises import stub

    return [
        exercise
        for exercise, cell in stub_cells(notebook)
        if "".join(cell["source"]) != stub(exercise)
    ]


def sync(root):
    """Rewrite the stub cells that have drifted; return {path: ids} of what was rewritten."""
    from bnbook.exercises import stub

    changed = {}
    for path in sorted(root.glob("book/*/exercises.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        wrong = drifted(notebook)
        if not wrong:
            continue
        for exercise, cell in stub_cells(notebook):
            if exercise in wrong:
                cell["source"] = stub(exercise).splitlines(keepends=True)
        path.write_text(dump(notebook), encoding="utf-8", newline="\n")
        changed[path] = wrong
    return changed


def dump(notebook):
    """Write a notebook as nbformat does, so that a rewrite shows only what changed."""
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def work(root):
    """Copy the exercise notebooks to work/<part>/; return the new copies and the ones that were there."""
    copied, kept = [], []
    for source in sorted(root.glob("book/*/exercises.ipynb")):
        part = source.parent.name
        target = root / "work" / part / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("x", encoding="utf-8", newline="\n") as file:
                file.write(
                    dump(
                        working_copy(
                            json.loads(source.read_text(encoding="utf-8")), part
                        )
                    )
                )
        except FileExistsError:
            kept.append(target)
        else:
            copied.append(target)
    return copied, kept


def working_copy(notebook, part):
    """Take outputs and answers away, and let relative links still find the chapters."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
            cell["metadata"].pop("jupyter", None)
            source = "".join(cell["source"])
            if re.fullmatch(r"(hint|solution)\(.*\)\s*", source):
                # "Run All Cells" shall not show the answers.
                cell["source"] = [f"# {source}"]
        else:
            linked = "".join(cell["source"])
            linked = re.sub(r"\]\((?![a-z]+:|#|/)", f"](../../book/{part}/", linked)
            cell["source"] = linked.splitlines(keepends=True)
    return notebook


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("sync", "work"))
    command = parser.parse_args(arguments).command
    if command == "sync":
        changed = sync(ROOT)
        for path, exercises in changed.items():
            print(
                f"rewrote in {path.relative_to(ROOT).as_posix()}: {', '.join(exercises)}"
            )
        if not changed:
            print("every stub cell is what its solution gives")
    else:
        copied, kept = work(ROOT)
        for path in copied:
            print(f"copied  {path.relative_to(ROOT).as_posix()}")
        for path in kept:
            print(
                f"kept    {path.relative_to(ROOT).as_posix()} (delete or rename it to get a fresh copy)"
            )
        if not copied and not kept:
            print("there are no exercise notebooks to copy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
