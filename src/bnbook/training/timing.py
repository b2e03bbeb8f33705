"""Timings that can be compared: interleaved, in one run, as ratios, with the machine."""

import json
import math
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import stats

RESULTS = Path(__file__).resolve().parents[3] / "book" / "training" / "results"


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a number of measurements."""

    median: float
    low: float
    high: float
    turns: int

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """Summarize measurements, at least one.

        Raises:
            ValueError: there is none, or one is not finite.
        """
        values = np.asarray(values, float)
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError(f"measurements must be finite and at least one: {values}")
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high), values.size)

    @property
    def coverage(self) -> float:
        """Least probability with which the quartiles enclose the true median.

        It holds if the measurements are independent and continuous, whatever their
        distribution: at least k of n must lie on either side of the median, each lying
        there with probability 1/2. With 21 measurements it is 97%.
        """
        beyond = math.ceil((self.turns - 1) / 4)
        return max(0.0, float(1 - 2 * stats.binom.cdf(beyond, self.turns, 0.5)))

    def __str__(self) -> str:
        """Median, and the quartiles in brackets."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    turns: int,
    *,
    seed: int = 0,
    warm_up: int = 2,
    lead: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Times of functions that take turns, in a new random order each turn.

    What else the machine does then hits all of them alike, and a ratio within one turn
    compares like with like.

    Args:
        functions: by name, without arguments.
        turns: how often each is timed.
        seed: of the order.
        warm_up: calls of each before the first turn.
        lead: calls in each turn before the one that is timed. Threads of the function
            before may spin for a while after its end; this lets them come to rest, and
            gives every function its own data in the cache.
        clock: wall time, or `time.process_time` for that of the processor, which does not
            count the turns of other programs; use it with one thread only.

    Returns:
        Seconds, (turns,), by name.
    """
    rng, names = np.random.default_rng(seed), list(functions)
    for _ in range(warm_up):
        for name in names:
            functions[name]()
    seconds = {name: np.empty(turns) for name in names}
    for turn in range(turns):
        for index in rng.permutation(len(names)):
            for _ in range(lead):
                functions[names[index]]()
            start = clock()
            functions[names[index]]()
            seconds[names[index]][turn] = clock() - start
    return seconds


def ratio(seconds: Mapping[str, np.ndarray], above: str, below: str) -> Spread:
    """Spread of the ratios of two functions, turn by turn."""
    return Spread.of(seconds[above] / seconds[below])


def machine() -> dict[str, str]:
    """What the timings depend on: processor, cores, caches, versions. No names, no paths."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "caches": _caches(),
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in ("numpy", "torch")}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model.group(1) if model else platform.machine()


def _caches() -> str:
    """Sizes of the data caches of the first core, where Linux tells."""
    sizes = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            sizes.append(f"L{level} {size}")
    return ", ".join(sizes) or "unknown"


def save(name: str, content: Mapping, folder: Path = RESULTS) -> Path:
    """Write results to <name>.json: the old file stays until the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
        os.chmod(temporary, 0o644)
        path = folder / f"{name}.json"
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def load(name: str, folder: Path = RESULTS) -> dict:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: it is not there; the message says how to make it.
        ValueError: the file holds something else.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path.name} is missing; measure with make bench ARGS=--save"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path.name} is not valid JSON ({error}); measure again with make bench ARGS=--save"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} must hold an object; measure again")
    return found
