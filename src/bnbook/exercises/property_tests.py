"""Check a student's test: it must accept every correct implementation and reject every wrong one."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from numpy import ndarray

from bnbook.exercises.model import PropertyExercise, Result, Variant
from bnbook.exercises.running import Raised, TimedOut, run

MISTAKE_SECONDS = 5.0


@dataclass(frozen=True)
class Verdict:
    """What a test did with one implementation.

    Attributes:
        kind: "accepts", "rejects", "never calls", "raises" or "timed out".
        raised: the exception, for "rejects" and "raises".
        last_call: the arguments of the last call, described.
        returned: type name of what the test returned, if that was not None.
    """

    kind: str
    raised: Raised | None = None
    last_call: str = ""
    returned: str = ""


class _Spy:
    """Stands in for an implementation: same behaviour, no name, and remembers whether it was called."""

    def __init__(self, function: Callable):
        self.calls = 0
        self.last: tuple = ()
        self._function = function

    def wrapped(self, parameters: tuple[str, ...]) -> Callable:
        def implementation(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self.last = tuple(zip(parameters, args, strict=False)) + tuple(kwargs.items())
            return self._function(*args, **kwargs)

        return implementation

    def describe(self) -> str:
        return ", ".join(f"{name} {_summary(value)}" for name, value in self.last)


def _summary(value: Any) -> str:
    if type(value) is ndarray and value.dtype.kind == "f" and value.size:
        return f"{value.shape} with largest entry {float(abs(value).max()):.3g}"
    return f"= {value:.6g}" if type(value) in (float, int) else f"of type {type(value).__name__}"


def judge(exercise: PropertyExercise, test: Callable, seconds: float) -> Result:
    """Run `test` on the correct implementations, then on the wrong ones, and report what it misjudges."""
    verdicts = _verdicts(exercise, test, seconds)
    correct, wrong = verdicts[: len(exercise.correct)], verdicts[len(exercise.correct) :]
    if correct[0].raised is not None and correct[0].raised.is_stub:
        text = (
            "Replace the line that raises NotImplementedError by your test, run that cell, then run this one "
            f'again. `hint("{exercise.id}")` helps.'
        )
        return Result(exercise.id, "not attempted", text)
    broken = _broken(exercise, verdicts)
    if broken:
        return Result(exercise.id, "cannot be checked", broken)
    rejected = [(v, d) for v, d in zip(exercise.correct, correct, strict=True) if d.kind != "accepts"]
    surviving = [v for v, d in zip(exercise.mutants, wrong, strict=True) if d.kind != "rejects"]
    if not rejected and not surviving:
        text = (
            f"Your test accepts {len(correct)} correct implementations and rejects all {len(wrong)} wrong ones."
        )
        return Result(exercise.id, "correct", text)
    mistake = _recognize(exercise, verdicts)
    lines = [mistake.sentence] if mistake else []
    if any(verdict.kind == "never calls" for verdict in verdicts):
        lines.append(f"Your test never calls its argument `{exercise.parameters[0]}`, so it says nothing about it.")
    elif rejected:
        lines.append(_rejection(exercise, *rejected[0]))
    if surviving and not any(verdict.kind == "never calls" for verdict in correct):
        lines.append(_survivors(exercise, surviving))
        if correct[0].returned and mistake is None:
            lines.append(f"Your test returns a {correct[0].returned}; that is ignored. State what must hold with `assert`.")
    return Result(exercise.id, "incorrect", "\n".join(lines), mistake.id if mistake else None)


def _verdicts(exercise: PropertyExercise, test: Callable, seconds: float) -> list[Verdict]:
    deadline = time.monotonic() + seconds
    verdicts = []
    with _hypothesis_settings():
        for variant in exercise.correct + exercise.mutants:
            left = max(deadline - time.monotonic(), 0.01)
            verdicts.append(_verdict(test, variant, exercise.correct[0].function, left))
            if verdicts[-1].kind == "timed out":
                break
            if verdicts[0].kind == "raises":
                break
    return verdicts


def _verdict(test: Callable, variant: Variant, plain: Callable, seconds: float) -> Verdict:
    spy = _Spy(variant.function)
    implementation = spy.wrapped(_parameters(plain))

    def work() -> tuple[str, str]:
        returned = test(implementation)
        return ("" if returned is None else type(returned).__name__), ""

    seen = run(work, seconds)
    if isinstance(seen, TimedOut):
        return Verdict("timed out")
    if isinstance(seen, Raised):
        if not seen.assertion:
            return Verdict("raises", seen, spy.describe())
        return Verdict("rejects" if spy.calls else "never calls", seen, spy.describe())
    return Verdict("accepts" if spy.calls else "never calls", None, spy.describe(), seen[0])


@cache
def _parameters(function: Callable) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def _broken(exercise: PropertyExercise, verdicts: list[Verdict]) -> str:
    """Why the test cannot be judged: it crashes or does not finish. Empty if it can."""
    for index, verdict in enumerate(verdicts):
        if verdict.kind == "timed out":
            return "Your test did not finish in time. Use fewer or smaller examples; does a loop never end?"
        if verdict.kind != "raises":
            continue
        if index < len(exercise.correct):
            text = f"Your test raised {verdict.raised}. It was given a correct implementation."
            if verdict.raised.kind == "TypeError" and verdict.raised.line is None:
                text += f" The checker calls it as `{exercise.call}`."
            return text
        mutant = exercise.mutants[index - len(exercise.correct)]
        return (
            f"Your test raised {verdict.raised}. It was given a wrong implementation, which it should reject with "
            f"an AssertionError: state what must hold with `assert`. That implementation: {mutant.sentence}"
        )
    return ""


def _rejection(exercise: PropertyExercise, variant: Variant, verdict: Verdict) -> str:
    text = f"Your test rejects a correct implementation: {variant.sentence} It raised {verdict.raised}."
    if verdict.last_call:
        text += f" Last call: {verdict.last_call}."
    if variant is exercise.correct[0]:
        return text + " Either the statement is not true in general, or it leaves no room for rounding."
    return text + " Your tolerance is tighter than rounding: allow for about 1e-12 of the largest number involved."


def _survivors(exercise: PropertyExercise, surviving: list[Variant]) -> str:
    count = len(exercise.mutants)
    first = f"Your test passes {len(surviving)} of {count} wrong implementations. One of them: {surviving[0].sentence}"
    others = ", ".join(variant.id for variant in surviving[1:])
    return first + (f" The others: {others}." if others else "")


def _recognize(exercise: PropertyExercise, verdicts: list[Verdict]) -> Variant | None:
    kinds = [verdict.kind for verdict in verdicts]
    return next((m for m in exercise.mistakes if list(_kinds(exercise, m)) == kinds), None)


@cache
def _kinds(exercise: PropertyExercise, mistake: Variant) -> tuple[str, ...]:
    return tuple(verdict.kind for verdict in _verdicts(exercise, mistake.function, MISTAKE_SECONDS))


@contextlib.contextmanager
def _hypothesis_settings() -> Iterator[None]:
    """Let `@given` inside a student's test run a few fixed examples without shrinking, so that it stays fast.

    Does nothing where hypothesis is not installed.
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
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("bnbook")
    try:
        yield
    finally:
        settings.load_profile(before)
