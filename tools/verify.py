"""Run the unit tests and execute the notebooks, comparing every output with the stored one.

Usage: python tools/verify.py [chapter] [pytest option ...]

Without a chapter: everything. With one, as in `foundations/backward`: its notebook and its tests only.
"""

import os
import subprocess
import sys

from chapters import BOOK, ROOT, chapters, chosen, notebook

WORKERS = 2
LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str]) -> int:
    names = [argument for argument in arguments if not argument.startswith("-")][:1]
    options = [argument for argument in arguments if argument not in names]
    if names:
        path = notebook(chosen(names)[0])
        tests = ROOT / "tests" / path.relative_to(BOOK).parent / f"test_{path.stem}.py"
        targets = [path, *([tests] if tests.is_file() else [])]
    else:
        # Every notebook in the folder, also one that the table of contents forgets.
        targets = [ROOT / "tests", *([BOOK] if chapters() else [])]
    # loadfile: the cells of one notebook need one kernel, so a file stays with one worker.
    command = [sys.executable, "-m", "pytest", "-n", str(WORKERS), "--dist", "loadfile",
               "--nbval", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg",
               *([] if sys.stdout.isatty() else ["--color=no"]),  # nbval colours even what goes to a file
               *options, *(str(target.relative_to(ROOT)) for target in targets)]
    # The workers share the cores: more threads than cores wait for each other, and double the time.
    threads = str(max(1, (os.cpu_count() or 1) // WORKERS))
    return subprocess.call(command, cwd=ROOT, env={**dict.fromkeys(LIBRARIES, threads), **os.environ})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
