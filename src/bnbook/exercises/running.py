"""Run code that may do anything: raise, loop forever, warn, print, change what it was given.

Everything here serves one promise: whatever a student's function does, `check` returns a verdict.
"""

import contextlib
import ctypes
import io
import linecache
import os
import sys
import sysconfig
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from numpy import errstate

T = TypeVar("T")
REFIRE = 0.01  # seconds between two attempts to stop code that swallows the first


class TimeUp(BaseException):
    """Raised inside running code when its time is up; `except Exception` does not catch it."""


@dataclass(frozen=True)
class Raised:
    """An exception that left the code, reduced to text.

    Attributes:
        kind: name of its type.
        message: first line of its message.
        line: line number in the student's code, None if no frame of it is on the stack.
        source: that line.
        innermost: whether the student's own code raised it, not a library called by it.
        assertion: whether it is an AssertionError, or a group of nothing else.
    """

    kind: str
    message: str
    line: int | None
    source: str
    innermost: bool
    assertion: bool

    @property
    def is_stub(self) -> bool:
        """Whether this is what an untouched stub raises."""
        return self.kind == "NotImplementedError" and self.innermost

    def __str__(self) -> str:
        """Name the exception, its message and the student's line."""
        where = f" in line {self.line}" if self.line else ""
        code = (
            f", `{textwrap.shorten(self.source, 90, placeholder=' …')}`"
            if self.source
            else ""
        )
        return f"{self.kind}{where}{code}" + (
            f": {self.message}" if self.message else ""
        )


@dataclass(frozen=True)
class TimedOut:
    """The code did not finish within `seconds`."""

    seconds: float

    def __str__(self) -> str:
        """Say so, and how to allow for more."""
        return (
            f"did not finish within {self.seconds:g} s. Does a loop never end? "
            "If it is only slow, because it imports a large library for example, allow more with `seconds=30`."
        )


class _Watchdog:
    """Raises TimeUp in the current thread after `seconds`, again and again until told to stop.

    A timer thread and PyThreadState_SetAsyncExc work on every platform and under Jupyter, where signals
    do not. They interrupt Python code; a single call into C, such as time.sleep, is waited for.
    """

    def __init__(self, seconds: float):
        self.fired = False
        self._seconds = seconds
        self._target = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, daemon=True, name="bnbook time limit"
        )

    def start(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        wait = self._seconds
        while not self._stopped.wait(wait):
            with self._lock:
                if not self._stopped.is_set():
                    self.fired = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        self._target, ctypes.py_object(TimeUp)
                    )
            wait = REFIRE

    def stop(self) -> None:
        """Leave no TimeUp behind: send no further one, and let a pending one come here.

        Sending None would also clear it, but makes CPython 3.11 hang under a profiler or a debugger.
        """
        while True:
            try:
                with self._lock:
                    self._stopped.set()
                self._thread.join()  # Python code, so a pending TimeUp is raised in here
                return
            except TimeUp:
                continue


def run(
    work: Callable[[], T], seconds: float, *, echo: bool = True
) -> T | Raised | TimedOut:
    """Return what `work` returns, or what became of it. Only KeyboardInterrupt passes through.

    What `work` prints is shown if `echo` is set, up to a limit.
    """
    watchdog = _Watchdog(seconds)
    result: T | Raised | TimedOut = TimedOut(seconds)
    try:
        try:
            watchdog.start()
            result = attempt(work, echo=echo)
        finally:
            watchdog.stop()
    except TimeUp:
        watchdog.stop()
    return TimedOut(seconds) if watchdog.fired else result


def attempt(work: Callable[[], T], *, echo: bool = True) -> T | Raised:
    """`run` without a time limit, for code that the book itself provides."""
    with _quiet(echo):
        try:
            return work()
        except (KeyboardInterrupt, TimeUp):
            raise
        except BaseException as error:
            return _describe(error)


@contextlib.contextmanager
def _quiet(echo: bool) -> Iterator[None]:
    shown = _Capped(sys.stdout) if echo else io.StringIO()
    with (
        warnings.catch_warnings(),
        errstate(all="ignore"),
        contextlib.redirect_stdout(shown),
    ):
        warnings.simplefilter("ignore")
        yield


class _Capped(io.TextIOBase):
    """Passes a student's prints on until there are too many for a notebook."""

    LIMIT = 5000

    def __init__(self, target: io.TextIOBase):
        self._target = target
        self._left = self.LIMIT

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._left > 0:
            self._target.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                self._target.write("\n[the rest of the output is not shown]\n")
        return len(text)

    def flush(self) -> None:
        self._target.flush()


def _describe(error: BaseException) -> Raised:
    try:
        message = str(error).strip().partition("\n")[0][:300]
    except Exception:
        message = ""
    line, source, innermost = _student_line(error.__traceback__)
    return Raised(
        type(error).__name__, message, line, source, innermost, _is_assertion(error)
    )


def _is_assertion(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_assertion(inner) for inner in error.exceptions)
    return isinstance(error, AssertionError)


def _student_line(traceback: TracebackType | None) -> tuple[int | None, str, bool]:
    """Line number and text of the last frame that is neither a library's nor the book's own."""
    line, source, innermost = None, "", False
    while traceback is not None:
        code = traceback.tb_frame.f_code
        innermost = not _is_library(code.co_filename)
        if innermost:
            line = traceback.tb_lineno
            source = linecache.getline(
                code.co_filename, line, traceback.tb_frame.f_globals
            ).strip()
        traceback = traceback.tb_next
    return line, source, innermost


_PACKAGE = (
    os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir)) + os.sep
)  # of bnbook itself
_LIBRARY = tuple(
    {
        os.path.realpath(sysconfig.get_path(key)) + os.sep
        for key in ("stdlib", "purelib", "platlib")
    }
)


def _is_library(filename: str) -> bool:
    path = os.path.realpath(filename)
    installed = (
        path.startswith(_LIBRARY) or "site-packages" in path or "dist-packages" in path
    )
    return installed or filename.startswith("<frozen") or path.startswith(_PACKAGE)
