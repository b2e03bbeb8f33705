"""Long experiments: runs that resume, and result files that never hold half a run.

A part lists its experiments in `bnbook.<part>.experiments`, which `make experiments`
executes. Results are committed in book/<part>/results/, where the chapters read them.
"""

import argparse
import contextlib
import csv
import math
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from io import StringIO
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from bnbook.data.images import FOLDER, NAMES, images

BOOK = Path(__file__).resolve().parents[2] / "book"
FINISHED = "finished"
RESERVED = ("outcome", "versions")

Value = bool | int | float | str
Row = Mapping[str, Value]


class Diverged(ArithmeticError):
    """A training run whose loss is no longer finite; the other runs go on.

    Attributes:
        step: number of updates made before the loss failed.
        learning_rate: of the run.
    """

    def __init__(self, *, step: int, learning_rate: float):
        """Name the step and the learning rate."""
        super().__init__(
            f"the loss is not finite at step {step} with learning rate "
            f"{learning_rate:g}; lower the learning rate"
        )
        self.step = step
        self.learning_rate = learning_rate


@dataclass(frozen=True)
class Experiment:
    """A function, and the settings that it is run with.

    Attributes:
        part: the part of the book, for example "training".
        name: the results are in book/<part>/results/<name>.csv.
        run: `run(**setting)` returns a row, or a list of rows, for example one for each
            epoch: mappings of the same names to numbers, strings or booleans.
        settings: one mapping for each run, all with the same names. Everything that the
            result depends on belongs in them, the seed included.
        folder: where the file lies, if not there.
    """

    part: str
    name: str
    run: Callable[..., Row | list[Row]]
    settings: Sequence[Row]
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self):
        """Refuse settings that could not be told apart in the file."""
        for text in (self.part, self.name):
            if not isinstance(text, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", text):
                raise ValueError(
                    f"part and name must be lower-case words, got {text!r}; they name a file"
                )
        if not self.settings:
            raise ValueError(f"{self.name} has no settings; give one for each run")
        names = tuple(self.settings[0])
        seen = set()
        for setting in self.settings:
            if tuple(setting) != names or set(names) & set(RESERVED):
                raise ValueError(
                    f"{self.name}: every setting needs the same names in the same order, none of "
                    f"them {' or '.join(RESERVED)}; got {tuple(setting)} beside {names}"
                )
            key = _key(setting, names)
            if key in seen:
                raise ValueError(f"{self.name}: the setting {dict(setting)} is twice")
            seen.add(key)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in a setting."""
        return tuple(self.settings[0])

    @property
    def path(self) -> Path:
        """The file of the results."""
        folder = self.folder or BOOK / self.part / "results"
        return folder / f"{self.name}.csv"

    def on(self, data: str) -> "Experiment":
        """The same runs on another dataset, with a file of results of their own.

        Args:
            data: what the setting `data` of every run becomes, a name in
                `bnbook.data.images.NAMES`; it is added to the name of the file.

        Raises:
            ValueError: the settings name no dataset.
        """
        if "data" not in self.names:
            raise ValueError(f"{self.name} has no setting `data`; it has one dataset")
        settings = [{**setting, "data": data} for setting in self.settings]
        return replace(self, name=f"{self.name}_{data}", settings=settings)

    def missing(self) -> list[Row]:
        """The settings that the file has no result of."""
        done = {_key(row, self.names) for row in self._stored()}
        return [s for s in self.settings if _key(s, self.names) not in done]

    def execute(self, setting: Row) -> None:
        """Run one setting and add its rows to the file, all of them or none; none if
        another process has done so meanwhile.

        Raises:
            ValueError: the run returned no rows, names that collide with those of the
                setting, other names than the runs before it, or a value that is neither
                number, string nor boolean.
        """
        outcome = FINISHED
        try:
            rows = self._rows(setting)
        except Diverged as error:
            outcome = f"diverged at step {error.step} with learning rate {error.learning_rate:g}"
            rows = [{}]
        new = [
            {
                **{n: _text(v) for n, v in setting.items()},
                "outcome": outcome,
                **{n: _text(v) for n, v in row.items()},
                "versions": _versions(),
            }
            for row in rows
        ]
        with self._locked():
            stored = self._stored()
            if _key(setting, self.names) in {_key(r, self.names) for r in stored}:
                return  # another process was faster
            before = next((r for r in stored if r["outcome"] == FINISHED), None)
            if before and outcome == FINISHED and set(before) != set(new[0]):
                raise ValueError(
                    f"{self.name}: a run returned {list(rows[0])}, the runs in {self.path.name} "
                    "hold other columns; run it anew with --fresh"
                )
            # After a diverged run the file knows no result columns yet.
            columns = list(new[0] if outcome == FINISHED else (before or new[0]))
            self._write(columns, [*stored, *new])

    def load(self) -> pd.DataFrame:
        """The results of all settings, in their order; a diverged run has one row, with
        gaps where its results would be.

        Raises:
            FileNotFoundError: a run is missing; the message says how to make it.
            ValueError: the file holds something else.
        """
        missing = self.missing()
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(self.settings)} runs of {self.name} are missing, "
                f'the first is {dict(missing[0])}; run make experiments ARGS="--only {self.name}"'
            )
        rows: dict[tuple, list[dict[str, str]]] = {}
        for row in self._stored():
            rows.setdefault(_key(row, self.names), []).append(row)
        listed = [r for s in self.settings for r in rows[_key(s, self.names)]]
        return _frame(listed)

    def replay(self, **chosen: Value) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Run the one setting that has these values, and return its result beside the
        stored one: (live, stored), without settings, outcome and versions.

        Raises:
            ValueError: no setting has these values, or several have.
        """
        fitting = [
            s for s in self.settings if all(s.get(n) == v for n, v in chosen.items())
        ]
        if len(fitting) != 1:
            raise ValueError(
                f"{len(fitting)} settings of {self.name} have {chosen}; name exactly one by "
                f"{', '.join(self.names)}"
            )
        key = _key(fitting[0], self.names)
        stored = [r for r in self._stored() if _key(r, self.names) == key]
        if not stored:
            self.load()
        live = [{n: _text(v) for n, v in r.items()} for r in self._rows(fitting[0])]
        leave = {*self.names, *RESERVED}
        return _frame(live), _frame(
            [{n: v for n, v in r.items() if n not in leave} for r in stored]
        )

    def _rows(self, setting: Row) -> list[Row]:
        returned = self.run(**setting)
        rows = [returned] if isinstance(returned, Mapping) else list(returned)
        names = list(rows[0]) if rows else []
        taken = {*setting, *RESERVED}
        if not names or any(list(row) != names for row in rows) or taken & {*names}:
            raise ValueError(
                f"{self.name}: run must return rows with the same names, none of them "
                f"{', '.join(sorted(taken))}; got {[list(row) for row in rows[:3]]}"
            )
        return rows

    def _stored(self) -> list[dict[str, str]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = list(csv.reader(StringIO(text), strict=True))
        if not lines or not {*self.names, *RESERVED} <= {*lines[0]}:
            raise ValueError(
                f"{self.path.name} has not the columns of {self.name}, "
                f"{', '.join((*self.names, *RESERVED))}; run it anew with --fresh"
            )
        for number, line in enumerate(lines[1:], 2):
            if len(line) != len(lines[0]):
                raise ValueError(
                    f"{self.path.name}, row {number}: expected {len(lines[0])} fields, got "
                    f"{len(line)}; restore the file, or run it anew with --fresh"
                )
        return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]

    def _write(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=self.path.parent, prefix=f".{self.name}-"
        )
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.path)  # the old file or the new one, no third
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(temporary)
            raise

    @contextlib.contextmanager
    def _locked(self):
        """Let two processes add their runs one after the other. Windows goes without."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def deviation(live: pd.DataFrame, stored: pd.DataFrame) -> float:
    """The largest difference between two results, each number relative to the largest
    finite magnitude in its stored column; infinite where texts, gaps or infinities differ.

    Raises:
        ValueError: the columns, or the numbers of rows, are not the same.
    """
    if list(live.columns) != list(stored.columns) or len(live) != len(stored):
        raise ValueError(
            f"live has {len(live)} rows of {list(live.columns)}, "
            f"stored {len(stored)} of {list(stored.columns)}; compare the same setting"
        )
    worst = 0.0
    for name in stored.columns:
        a, b = live[name].to_numpy(), stored[name].to_numpy()
        if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
            worst = max(worst, 0.0 if (a == b).all() else math.inf)
            continue
        a, b = a.astype(float), b.astype(float)
        finite = np.isfinite(b)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return math.inf
        a, b = a[finite], b[finite]
        if not np.isfinite(a).all():
            return math.inf
        scale = np.abs(b).max(initial=0.0) or 1.0
        worst = max(worst, float(np.abs(a - b).max(initial=0.0) / scale))
    return worst


def main(
    experiments: Sequence[Experiment], arguments: Sequence[str] | None = None
) -> int:
    """Run what is missing; return the exit status: 1 if a run failed, 130 if interrupted."""
    names = [experiment.name for experiment in experiments]
    parser = argparse.ArgumentParser(
        description="Run the long experiments; finished runs are kept."
    )
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--fresh", action="store_true", help="forget the finished runs of these first"
    )
    parser.add_argument(
        "--data",
        choices=[name for name in NAMES if name != "digits"],
        help="run what runs on images on this dataset; results in NAME_DATA.csv",
    )
    parser.add_argument("--folder", help="where the files of --data are")
    options = parser.parse_args(arguments)
    chosen = [e for e in experiments if not options.only or e.name in options.only]
    if options.data:
        try:
            chosen = _on(chosen, options)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    failed = 0
    try:
        for experiment in chosen:
            if options.fresh and not options.list:
                experiment.path.unlink(missing_ok=True)
            todo = experiment.missing()
            total = len(experiment.settings)
            print(
                f"{experiment.name}: {total - len(todo)} of {total} runs are finished"
            )
            if not options.list:
                failed += _run(experiment, todo)
    except KeyboardInterrupt:
        print("interrupted; the finished runs are kept, and the next start goes on")
        return 130
    return 1 if failed else 0


def _on(
    experiments: Sequence[Experiment], options: argparse.Namespace
) -> list[Experiment]:
    if options.folder:
        os.environ[FOLDER] = options.folder
    if not options.list:
        images(options.data)  # damaged files are named before the first run
    named = options.only or [e.name for e in experiments if "data" in e.names]
    return [e.on(options.data) for e in experiments if e.name in named]


def _run(experiment: Experiment, todo: Sequence[Row]) -> int:
    failed = 0
    bar = tqdm(todo, desc=experiment.name, unit="run", disable=None)
    for setting in bar:
        bar.set_postfix_str(", ".join(f"{n}={v}" for n, v in setting.items()))
        try:
            experiment.execute(setting)
        except Exception:
            failed += 1
            print(f"{experiment.name}: {dict(setting)} failed", file=sys.stderr)
            traceback.print_exc()
    return failed


def _text(value: Value) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, str):
        return value
    raise ValueError(f"a value must be a number, string or boolean, got {value!r:.100}")


def _key(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(row[name]) for name in names)


def _versions() -> str:
    packages = " ".join(f"{name} {version(name)}" for name in ("numpy", "torch"))
    return f"python {platform.python_version()} {packages}"


def _frame(rows: list[dict[str, str]]) -> pd.DataFrame:
    """The rows with their types, as pandas reads them from a file."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    text.seek(0)
    return pd.read_csv(text, keep_default_na=False, na_values=["", "nan"])
