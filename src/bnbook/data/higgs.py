"""The HIGGS data of the UCI repository (Baldi, Sadowski and Whiteson 2014), from a file.

The file HIGGS.csv.gz has 11 million lines and no header: a label, 1 for signal and 0 for
background, then 28 numbers, the columns `FEATURES`. The book neither contains nor
downloads it; without it, `higgs` simulates a toy with the same columns.
"""

import gzip
import hashlib
import json
import os
import re
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from bnbook.data.higgs_masses import FEATURES as FEATURES
from bnbook.data.higgs_toy import higgs_toy
from bnbook.data.splits import Dataset, split

WIDTH = 1 + len(FEATURES)
LINES = 20_000  # lines in memory at a time
LONGEST = 4096  # bytes; a line of the UCI file has about 730
FORMAT = 1  # of the cache; count up when it changes
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def higgs(rows: int, *, path: Path | str | None = None, seed: int = 0) -> Dataset:
    """Collisions in three parts, of 70, 15 and 15 %: from a file, or else simulated.

    Args:
        rows: number of events.
        path: the UCI file; without it the events are those of `higgs_toy`.
        seed: of the simulation, and of the split.
    """
    if path is None:
        name, (x, t) = "toy Higgs", higgs_toy(rows, seed)
    else:
        name, (x, t) = "HIGGS", load_higgs(path, rows)
    return split(name, FEATURES, x, t, validation=0.15, test=0.15, seed=seed)


def load_higgs(
    path: Path | str,
    rows: int | None = None,
    *,
    cache: Path | str | bool = True,
    sha256: str | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the first rows of the UCI file.

    The text is read and checked in pieces, so a file larger than the memory is no
    problem as long as the rows asked for fit. They are kept in a binary file that later
    calls read instead; it belongs to the size and the time stamp of the source and to
    the number of rows, and a cache that is old, damaged or foreign is made again.

    Args:
        path: HIGGS.csv.gz or the unpacked CSV; which it is, its first two bytes say.
        rows: how many rows, at least 1; None for all.
        cache: folder for the binary file; True for the folder of the source, False for
            no cache.
        sha256: checksum that the whole file must have, in hexadecimal. Rows after the
            last one asked for are read for this only. Without it, a plain file cut
            within its last number goes unnoticed.
        progress: show a progress bar.

    Returns:
        x, (N, 28), float32, the columns `FEATURES`; the file holds exactly float32
        numbers. And t, (N,), int64, 1 for signal.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: rows is not an integer.
        ValueError: rows is less than 1; the checksum is another; the file is empty, cut
            short or damaged, or has fewer rows; a line has another number of fields, a
            field that is no finite number, or a label other than 0 and 1. The message
            names the file and the line.
    """
    path = Path(path)
    if rows is not None:
        if not isinstance(rows, int | np.integer) or isinstance(rows, bool):
            raise TypeError(
                f"rows must be an integer or None, got {type(rows).__name__}"
            )
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}; None reads all")
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(
            f"sha256 must be 64 hexadecimal digits, got {sha256!r}; sha256sum prints them"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; the UCI Machine Learning Repository has it as HIGGS.csv.gz, "
            "data set 280, and bnbook.data.higgs_toy needs no file"
        )
    stat = path.stat()
    key = {
        "format": FORMAT,
        "source": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "rows": None if rows is None else int(rows),
        "sha256": sha256 and sha256.lower(),
    }
    if cache is False:
        stored = None
    else:
        folder = path.parent if cache is True else Path(cache)
        stored = folder / f"{path.name}.{'all' if rows is None else rows}.npz"
        if (found := _cached(stored, key)) is not None:
            return found
    if sha256 is not None:
        _require_checksum(path, sha256.lower())
    x, t = _read(path, rows, progress)
    if stored is not None:
        _store(stored, key, x, t)
    return x, t


def _read(path: Path, rows: int | None, progress: bool):
    pieces, count = [], 0
    bar = tqdm(total=rows, unit="row", disable=not progress, desc=path.name)
    with _opened(path) as file, bar:
        for lines in _batches(path, file, rows):
            pieces.append(_parsed(path, lines, count))
            count += len(lines)
            bar.update(len(lines))
    if not count:
        raise ValueError(f"{path} is empty; download it again")
    if rows is not None and count < rows:
        raise ValueError(
            f"{path} holds {count} rows, {rows} were asked for; ask for at most {count}, or download "
            "the file again if it should hold more"
        )
    return tuple(np.concatenate(column) for column in zip(*pieces, strict=True))


def _opened(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _batches(path: Path, file: BinaryIO, rows: int | None) -> Iterator[list[bytes]]:
    """Lists of up to `LINES` lines, `rows` in all, or as many as there are."""
    number, lines = 0, []
    while rows is None or number < rows:
        try:
            line = file.readline(LONGEST)
        except EOFError as error:
            raise ValueError(
                f"{path} ends within its gzip data, after line {number}; download it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is damaged: its gzip data cannot be unpacked after line {number} ({error}); "
                "download it again"
            ) from error
        if not line:
            break
        number += 1
        if len(line) == LONGEST and not line.endswith(b"\n"):
            raise ValueError(
                f"{path}, line {number}: longer than {LONGEST} bytes; this is not the HIGGS file, or it is damaged"
            )
        lines.append(line)
        if len(lines) == LINES:
            yield lines
            lines = []
    if lines:
        yield lines


def _parsed(path: Path, lines: list[bytes], before: int):
    """x and t of some lines; `before` lines came before them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no data, which the shape tells
            table = np.loadtxt(
                [line.decode("ascii") for line in lines],
                delimiter=",",
                comments=None,
                ndmin=2,
            )
    except ValueError:
        table = None
    if table is not None and table.shape == (len(lines), WIDTH):
        with np.errstate(over="ignore"):
            x = table[:, 1:].astype(np.float32)
        label = table[:, 0]
        if np.isfinite(x).all() and ((label == 0) | (label == 1)).all():
            return x, label.astype(np.int64)
    for number, line in enumerate(lines, before + 1):
        if complaint := _complaint(line):
            raise ValueError(f"{path}, line {number}: {complaint}")
    raise ValueError(
        f"{path}: lines {before + 1} to {before + len(lines)} cannot be read as numbers; "
        "download the file again"
    )


def _complaint(line: bytes) -> str:
    """What is wrong with a line; empty if nothing is."""
    try:
        text = line.decode("ascii").strip("\r\n")
    except UnicodeDecodeError:
        return (
            "holds bytes that are no text; this is not the HIGGS file, or it is damaged"
        )
    if not text.strip():
        return "empty; delete it, or download the file again"
    fields = [field.strip() for field in text.split(",")]
    names = ("class_label", *FEATURES)
    for position, field in enumerate(fields[:WIDTH]):
        where = f"field {position + 1} ({names[position]})"
        if re.fullmatch(r"[+-]?(nan|inf(inity)?)", field, re.IGNORECASE):
            return (
                f"{where} is {field}, not a finite number; remove the line or repair it"
            )
        if not _NUMBER.fullmatch(field) and len(fields) == WIDTH:
            return (
                f"{where} is {field[:40]!r}, not a number; the HIGGS file has numbers only and no "
                "header line"
            )
    if len(fields) != WIDTH:
        return (
            f"expected {WIDTH} fields, the label and {len(FEATURES)} features, got {len(fields)}; "
            "the line is cut, or this is another file"
        )
    with np.errstate(over="ignore"):
        for name, field in zip(names, fields, strict=True):
            if not np.isfinite(np.float32(float(field))):
                return f"{name} is {field}, too large for float32"
    if float(fields[0]) not in (0.0, 1.0):
        return (
            f"the label must be 0 or 1, got {fields[0]}; the label is the first field"
        )
    return ""


def _require_checksum(path: Path, expected: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} has the SHA-256 checksum {found}, expected {expected}; download it again"
        )


def _cached(stored: Path, key: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """What the cache holds for this key; None if it holds something else or cannot be read."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # np.load would leave a damaged file open if it had to open it.
        with open(stored, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            if json.loads(str(file["key"])) != key:
                return None
            x, t = file["x"], file["t"].astype(np.int64)
        fits = x.dtype == np.float32 and x.shape == (len(t), len(FEATURES))
        if fits and key["rows"] in (None, len(t)):
            return x, t
    return None


def _store(stored: Path, key: dict, x: np.ndarray, t: np.ndarray) -> None:
    """Write the cache, all of it or nothing; a folder without permission costs only time."""
    temporary = None
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=stored.parent, prefix=".higgs-")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, key=np.array(json.dumps(key)), x=x, t=t.astype(np.uint8))
        os.replace(temporary, stored)
        temporary = None
    except OSError as error:
        warnings.warn(
            f"the HIGGS cache {stored} cannot be written ({error}); the next call reads the text again",
            stacklevel=3,
        )
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.remove(temporary)
