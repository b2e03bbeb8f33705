"""Check a student's test: it must accept every correct implementation and reject every wrong one."""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from numpy import generic, ndarray
from numpy.random import get_state, seed, set_state

from bnbook.exercises.model import PropertyExercise, Result, Variant, not_attempted
from bnbook.exercises.running import Raised, TimedOut, run

MISTAKE_SECONDS = 5.0
KEPT_CALLS = 200  # of one run of a test
KEPT_SIZE = 10_000  # entries of an array that are kept
SHOWN = 3  # surviving implementations that are described before the others are counted
NEAR = 1e-6  # relative; arguments that agree to this differ by rounding alone


@dataclass(frozen=True)
class Verdict:
    """What a test did with one implementation.

    Attributes:
        kind: "accepts", "rejects", "never calls", "raises" or "timed out".
        raised: the exception, for "rejects" and "raises".
        last_call: the arguments of the last call, described.
        returned: type name of what the test returned, if that was not None.
        calls: the arguments of the first calls, and of the last one.
        results: what the implementation returned in these calls.
    """

    kind: str
    raised: Raised | None = None
    last_call: str = ""
    returned: str = ""
    calls: tuple[dict, ...] = ()
    results: tuple = ()


class _Spy:
    """Stands in for an implementation: same behaviour, no name, and remembers how it was called."""

    def __init__(self, function: Callable):
        self.calls = 0
        self.last: tuple = ()
        self.kept: list[dict] = []
        self.results: list = []
        self._function = function

    def wrapped(self, parameters: tuple[str, ...]) -> Callable:
        def implementation(*args: Any, **kwargs: Any) -> Any:
            if len(args) + len(kwargs) != len(parameters):
                raise TypeError(
                    f"it takes {len(parameters)} arguments: {', '.join(parameters)}"
                )
            self.calls += 1
            self.last = tuple(zip(parameters, args, strict=False)) + tuple(
                kwargs.items()
            )
            del self.kept[KEPT_CALLS - 1 :], self.results[KEPT_CALLS - 1 :]
            self.kept.append({name: _kept(value) for name, value in self.last})
            self.results.append(None)  # should the call raise
            result = self._function(*args, **kwargs)
            self.results[-1] = _sample(result)
            return result

        return implementation

    def describe(self) -> str:
        return ", ".join(f"{name} {_summary(value)}" for name, value in self.last)


def _kept(value: Any) -> Any:
    """A copy of an argument, if it is a number or a small array of numbers, else the name of its type."""
    if type(value) in (float, int):
        return float(value)
    if type(value) is ndarray and value.dtype.kind in "fiu" and value.size <= KEPT_SIZE:
        return value.copy()
    return type(value).__name__


def _sample(value: Any) -> Any:
    """As `_kept`, for what an implementation returns: tuples item by item, of large arrays the beginning."""
    if type(value) is tuple:
        return tuple(_sample(item) for item in value)
    if type(value) is ndarray:
        return _kept(value.ravel()[:KEPT_SIZE])
    return _kept(value.item() if isinstance(value, generic) else value)


def _alike(one: dict, other: dict) -> bool:
    """Whether two calls were given the same data, up to rounding."""
    return one.keys() == other.keys() and all(
        _near(value, other[name]) for name, value in one.items()
    )


def _near(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_near, one, other))
    if type(one) is ndarray:
        if one.shape != other.shape:
            return False
        largest = abs(other).max(initial=0.0)
        return bool((~(abs(one - other) > NEAR * largest)).all())
    if type(one) is float:
        return one == other or math.isclose(one, other, rel_tol=NEAR)
    return one == other


def _unseeded(verdicts: list[Verdict]) -> bool:
    """Whether the test drew other data for one implementation than for another.

    The first call cannot depend on what an implementation returned, so it tells.
    """
    firsts = [verdict.calls[0] for verdict in verdicts if verdict.calls]
    return any(not _alike(first, firsts[0]) for first in firsts)


def _summary(value: Any) -> str:
    if type(value) is ndarray and value.dtype.kind == "f" and value.size:
        return f"{value.shape} with largest entry {float(abs(value).max()):.3g}"
    return (
        f"= {value:.6g}"
        if type(value) in (float, int)
        else f"of type {type(value).__name__}"
    )


def judge(exercise: PropertyExercise, test: Callable, seconds: float) -> Result:
    """Run `test` on the correct implementations, then on the wrong ones, and report what it misjudges."""
    verdicts = _verdicts(exercise, test, seconds)
    if verdicts[0].raised is not None and verdicts[0].raised.is_stub:
        return not_attempted(exercise)
    broken = _broken(exercise, verdicts, seconds)
    if broken:
        return Result(exercise.id, "cannot be checked", broken)
    problems = _problems(exercise, verdicts)
    if problems:
        mistake = _recognize(exercise, verdicts)
        lines = [mistake.sentence, *problems] if mistake else problems
        return Result(
            exercise.id, "incorrect", "\n".join(lines), mistake.id if mistake else None
        )
    accepted, rejected = len(exercise.correct), len(exercise.mutants)
    text = f"Your test accepts {accepted} correct implementations and rejects all {rejected} wrong ones."
    if _unseeded(verdicts):
        text += f"\n{UNSEEDED}"
    return Result(exercise.id, "correct", text)


def _candidates(exercise: PropertyExercise) -> tuple[Variant, ...]:
    """The correct ones, the wrong ones, and a correct one again, which unmasks a test with a memory."""
    return exercise.correct + exercise.mutants + exercise.correct[:1]


def _verdicts(
    exercise: PropertyExercise, test: Callable, seconds: float
) -> list[Verdict]:
    deadline = time.monotonic() + seconds
    verdicts: list[Verdict] = []
    with _hypothesis_settings(test), _random_state():
        for variant in _candidates(exercise):
            left = max(deadline - time.monotonic(), 0.01)
            first = not verdicts  # one run shows enough of what a test prints
            # The same data for every implementation, and in every check.
            seed(0)  # noqa: NPY002
            random.seed(0)
            verdicts.append(
                _verdict(test, variant, exercise.correct[0].function, left, echo=first)
            )
            if verdicts[-1].kind == "timed out" or verdicts[0].kind == "raises":
                break
    return verdicts


def _verdict(
    test: Callable, variant: Variant, plain: Callable, seconds: float, *, echo: bool
) -> Verdict:
    spy = _Spy(variant.function)
    implementation = spy.wrapped(_parameters(plain))

    def work() -> tuple[str, str]:
        returned = test(implementation)
        return ("" if returned is None else type(returned).__name__), ""

    seen = run(work, seconds, echo=echo)
    if isinstance(seen, TimedOut):
        return Verdict("timed out")
    last, kept = spy.describe(), (tuple(spy.kept), tuple(spy.results))
    if isinstance(seen, Raised):
        if not seen.assertion:
            return Verdict("raises", seen, last, "", *kept)
        kind = "rejects" if spy.calls else "never calls"
        return Verdict(kind, seen, last, "", *kept)
    kind = "accepts" if spy.calls else "never calls"
    return Verdict(kind, None, last, seen[0], *kept)


@cache
def _parameters(function: Callable) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def _broken(exercise: PropertyExercise, verdicts: list[Verdict], seconds: float) -> str:
    """Why the test cannot be judged: it crashes or does not finish. Empty if it can."""
    for variant, verdict in zip(_candidates(exercise), verdicts, strict=False):
        if verdict.kind == "timed out":
            return (
                f"Your test {TimedOut(seconds)} That is the time for all implementations together; if each "
                "call is slow, try smaller arrays first: a handful of examples and features suffices."
            )
        if verdict.kind != "raises":
            continue
        if variant in exercise.mutants:
            return (
                f"Your test raised {verdict.raised}. It was given a wrong implementation, which it should "
                "reject with an AssertionError: state what must hold with `assert`. "
                f"What is wrong with that one: {variant.sentence}"
            )
        text = (
            f"Your test raised {verdict.raised}. It was given a correct implementation."
        )
        if verdict.raised.kind == "TypeError" and verdict.raised.line is None:
            text += f" The checker calls it as `{exercise.call}`."
        return text
    return ""


def _problems(exercise: PropertyExercise, verdicts: list[Verdict]) -> list[str]:
    """What the test misjudges, a sentence or two each; empty if it misjudges nothing."""
    name = exercise.parameters[0]
    if all(verdict.kind == "never calls" for verdict in verdicts):
        return [
            f"Your test never calls its argument `{name}`, so it says nothing about it."
        ]
    count = len(exercise.correct)
    correct = list(zip(exercise.correct, verdicts[:count], strict=True))
    wrong = list(zip(exercise.mutants, verdicts[count:-1], strict=True))
    rejected = [pair for pair in correct if pair[1].kind != "accepts"]
    surviving = [variant for variant, verdict in wrong if verdict.kind != "rejects"]
    problems = []
    unseeded = _unseeded(verdicts)
    again = verdicts[-1].kind == "accepts"
    if unseeded and (rejected or surviving or not again):
        problems.append(UNSEEDED)
    if rejected:
        problems.append(_rejection(exercise, *rejected[0], verdicts))
    elif not again and not unseeded:
        problems.append(
            "Your test accepts a correct implementation at first and not when it meets it again: it must not "
            "depend on earlier calls or on unseeded random numbers."
        )
    if surviving:
        problems.append(_survivors(exercise, surviving))
        if correct[0][1].returned:
            kind = correct[0][1].returned
            problems.append(
                f"Your test returns a {kind}, which is ignored: state what must hold with `assert`."
            )
    return problems


UNSEEDED = (
    "Your test draws unseeded numbers: it met other data each time, so its verdict can change from one "
    "check to the next. Draw from a seeded generator, `rng = np.random.default_rng(0)`."
)


def _rejection(
    exercise: PropertyExercise,
    variant: Variant,
    verdict: Verdict,
    verdicts: list[Verdict],
) -> str:
    if verdict.kind == "never calls":
        return f"Your test does not call its argument `{exercise.parameters[0]}` every time."
    text = f"Your test rejects a correct implementation: {variant.sentence} It raised {verdict.raised}."
    if verdict.last_call:
        text += f" Last call: {verdict.last_call}."
    if variant is exercise.correct[0]:
        if verdicts[-1].kind == "accepts":
            return f"{text} It accepts the same implementation at another time."
        kinds = [v for v in verdict.calls[-1].values() if isinstance(v, str)]
        if "Generator" in kinds:  # it draws
            return (
                f"{text} Either the statement is not true in general, or it leaves no room for chance: a "
                "sample fluctuates, so draw more numbers or allow a wider margin."
            )
        return f"{text} Either the statement is not true in general, or it leaves no room for rounding."
    textbook = verdicts[0]
    theirs = [
        result
        for call, result in zip(textbook.calls, textbook.results, strict=True)
        if _alike(verdict.calls[-1], call)
    ]
    if textbook.kind != "accepts" or not theirs:
        return text  # the textbook formula has not passed on these data: rounding is not to blame
    if not any(_near(verdict.results[-1], result) for result in theirs):
        return (
            f"{text} It does not return what the correct one before it did, and both are right: your test "
            "demands more than the task does."
        )
    return f"{text} Your tolerance is tighter than rounding: allow about 1e-12 of the largest number involved."


def _survivors(exercise: PropertyExercise, surviving: list[Variant]) -> str:
    total, count = len(surviving), len(exercise.mutants)
    text = f"Your test passes {total} of {count} wrong implementations"
    if total == 1:
        return f"{text}: {surviving[0].sentence}"
    shown = surviving if total <= SHOWN + 1 else surviving[:SHOWN]
    first, *others = (variant.sentence for variant in shown)
    lines = [f"{text}. One of them: {first}"]
    lines += [f"Another: {sentence}" for sentence in others]
    if len(shown) < total:
        lines.append(f"And {total - len(shown)} more.")
    return "\n".join(lines)


def _recognize(exercise: PropertyExercise, verdicts: list[Verdict]) -> Variant | None:
    """The weak test with the same verdicts, unless the data it names were not those of the calls."""
    kinds = [verdict.kind for verdict in verdicts]
    if "rejects" in kinds[: len(exercise.correct)] and _unseeded(verdicts):
        return None
    calls = [call for verdict in verdicts for call in verdict.calls]
    for mistake in exercise.mistakes:
        if list(_kinds(exercise, mistake)) == kinds and (
            mistake.seen is None or _borne_out(mistake, calls)
        ):
            return mistake
    return None


def _borne_out(mistake: Variant, calls: list[dict]) -> bool:
    try:
        return bool(calls) and bool(mistake.seen(calls))
    except Exception:  # arguments of an unexpected kind
        return False


@cache
def _kinds(exercise: PropertyExercise, mistake: Variant) -> tuple[str, ...]:
    return tuple(
        verdict.kind
        for verdict in _verdicts(exercise, mistake.function, MISTAKE_SECONDS)
    )


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    """Leave the global generators of `random` and NumPy as they were."""
    before = random.getstate(), get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        set_state(before[1])  # noqa: NPY002


@contextlib.contextmanager
def _hypothesis_settings(test: Callable) -> Iterator[None]:
    """Let hypothesis try a few fixed examples without shrinking, so that a check stays fast.

    That holds for `@given` inside a student's test, which uses the current profile, and on the test itself,
    whose settings were fixed when it was defined. Does nothing where hypothesis is not installed.
    """
    try:
        from hypothesis import HealthCheck, Phase, settings
    except ImportError:
        yield
        return
    before = settings.get_current_profile_name()
    settings.register_profile(
        "bnbook",
        max_examples=25,
        phases=(Phase.explicit, Phase.generate),
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    own = vars(test).get(_SETTINGS) if hasattr(test, "__dict__") else None
    settings.load_profile("bnbook")
    if own is not None:
        setattr(test, _SETTINGS, settings.get_profile("bnbook"))
    try:
        yield
    finally:
        settings.load_profile(before)
        if own is not None:
            setattr(test, _SETTINGS, own)


_SETTINGS = "_hypothesis_internal_use_settings"  # where `@given` keeps them; if it moves, checks get slower
