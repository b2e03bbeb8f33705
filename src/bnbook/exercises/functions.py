"""Check a function against a reference on named cases, and say what is wrong with it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from numpy import ndarray

from bnbook.exercises.diagnosis import (
    clues,
    describe_args,
    evidence,
    proportional,
    shape_advice,
)
from bnbook.exercises.model import FunctionExercise, Result, Variant, not_attempted
from bnbook.exercises.outputs import Observed, WrongType, agree, observe, scale
from bnbook.exercises.running import Raised, TimedOut, attempt, run

SMALL = 1e-2  # a relative deviation that lost digits explain


@dataclass(frozen=True)
class Attempt:
    """What the student's function did on one case: its result, and which arguments it changed."""

    seen: Observed | Raised | TimedOut
    changed: tuple[str, ...] = ()


def judge(exercise: FunctionExercise, function: Callable, seconds: float) -> Result:
    """Run `function` on every case and report the first problem."""
    expected = expectations(exercise)
    attempts = _attempts(exercise, function, seconds)
    if isinstance(attempts[0].seen, Raised) and attempts[0].seen.is_stub:
        return not_attempted(exercise)
    for index, tried in enumerate(attempts):
        if not agree(_value(tried.seen), expected[index]):
            return _wrong(exercise, attempts, index)
    changed = [(index, tried) for index, tried in enumerate(attempts) if tried.changed]
    if changed:
        index, tried = changed[0]
        text = f"The returned values are right. {_mutation(tried.changed)}\n{_where(exercise, index)}"
        return Result(exercise.id, "incorrect", text)
    count = len(exercise.cases)
    return Result(
        exercise.id,
        "correct",
        f"All {count} cases agree with the reference near machine precision.",
    )


def _attempts(
    exercise: FunctionExercise, function: Callable, seconds: float
) -> list[Attempt]:
    deadline = time.monotonic() + seconds
    attempts = []
    for case in exercise.cases:
        args = fresh(case.args)
        left = max(deadline - time.monotonic(), 0.01)
        seen = run(
            lambda args=args, case=case: observe(
                function(*args), exercise.returns, case.rtol
            ),
            left,
        )
        if isinstance(seen, TimedOut):
            attempts.append(Attempt(TimedOut(seconds)))
            break
        names = zip(exercise.parameters, args, case.args, strict=True)
        attempts.append(
            Attempt(
                seen, tuple(name for name, now, then in names if _differs(now, then))
            )
        )
    return attempts


def fresh(args: tuple) -> tuple:
    """Copy the arrays among `args`, so that no call can disturb the next."""
    return tuple(arg.copy() if isinstance(arg, ndarray) else arg for arg in args)


def _differs(now: object, then: object) -> bool:
    if not isinstance(then, ndarray):
        return False
    return (
        now.shape != then.shape
        or now.dtype != then.dtype
        or now.tobytes() != then.tobytes()
    )


@cache
def expectations(exercise: FunctionExercise) -> tuple[Observed, ...]:
    """What the reference returns on each case; computed once, before any student code runs."""
    return tuple(
        observe(exercise.reference(*fresh(case.args)), exercise.returns, case.rtol)
        for case in exercise.cases
    )


@cache
def mistaken(
    exercise: FunctionExercise, mistake: Variant
) -> tuple[Observed | Raised, ...]:
    """What a known mistake returns or raises on each case; computed once, before any student code runs."""
    return tuple(
        attempt(
            lambda case=case: observe(
                mistake.function(*fresh(case.args)), exercise.returns, case.rtol
            )
        )
        for case in exercise.cases
    )


def _value(seen: Observed | Raised | TimedOut) -> Observed:
    return WrongType("") if isinstance(seen, Raised | TimedOut) else seen


def recognize(exercise: FunctionExercise, attempts: list[Attempt]) -> Variant | None:
    """The known mistake that gives the student's result on every case, if there is one."""
    if len(attempts) < len(exercise.cases):
        return None
    seen = [tried.seen for tried in attempts]
    by_value = (mistake for mistake in exercise.mistakes if not mistake.by_rounding)
    by_rounding = (mistake for mistake in exercise.mistakes if mistake.by_rounding)
    for mistake in by_value:
        if _same(seen, mistaken(exercise, mistake)):
            return mistake
    for mistake in by_rounding:
        pattern = _lost_digits(exercise, mistaken(exercise, mistake))
        if pattern is not None and pattern == _lost_digits(exercise, seen):
            return mistake
    return None


def _same(seen: list, theirs: tuple) -> bool:
    """Equal wherever the mistake returns something (`prepare` has seen that it does), as unable elsewhere."""
    return all(
        mine.kind == other.kind
        if isinstance(mine, Raised) and isinstance(other, Raised)
        else agree(_value(mine), _value(other))
        for mine, other in zip(seen, theirs, strict=True)
    )


def _resembling(exercise: FunctionExercise, attempts: list[Attempt]) -> str:
    """A known mistake that gives the student's result up to a factor on every case, if there is one."""
    seen = [tried.seen for tried in attempts]
    if len(seen) < len(exercise.cases) or _proportional(
        exercise, seen, expectations(exercise)
    ):
        return ""  # proportional to the right result: the clues have named the factor
    for mistake in exercise.mistakes:
        if _proportional(exercise, seen, mistaken(exercise, mistake)):
            return f"Up to a factor, your result is that of a known mistake: {mistake.sentence}"
    return ""


def _proportional(exercise: FunctionExercise, seen: list, other: tuple) -> bool:
    if not all(isinstance(result, tuple) for result in (*seen, *other)):
        return False
    pairs = [
        p
        for mine, theirs in zip(seen, other, strict=True)
        for p in zip(mine, theirs, strict=True)
    ]
    telling = any(len(output.values or ()) > 2 for output, _ in pairs)
    return telling and all(
        proportional(exercise, mine, theirs) for mine, theirs in pairs
    )


def _lost_digits(exercise: FunctionExercise, seen: list) -> tuple[int, ...] | None:
    """Cases on which the result is wrong by lost digits alone; None if it is wrong in any other way."""
    failing = []
    for index, (mine, right) in enumerate(
        zip(seen, expectations(exercise), strict=True)
    ):
        if agree(_value(mine), right):
            continue
        if _deviation(mine, right) is None or _deviation(mine, right) > SMALL:
            return None
        failing.append(index)
    return tuple(failing)


def _deviation(seen: Observed | Raised | TimedOut, right: Observed) -> float | None:
    """Largest error relative to the largest entry, None where the two cannot be compared."""
    if isinstance(seen, Raised | TimedOut | WrongType):
        return None
    worst = 0.0
    for mine, other in zip(seen, right, strict=True):
        if mine.shape != other.shape or mine.dtype != other.dtype:
            return None
        if not all(math.isfinite(value) for value in mine.values):
            return None
        errors = [abs(g - e) for g, e in zip(mine.values, other.values, strict=True)]
        worst = max(worst, max(errors, default=0.0) / (scale(other) or 1.0))
    return worst


def _wrong(exercise: FunctionExercise, attempts: list[Attempt], index: int) -> Result:
    seen, right = attempts[index].seen, expectations(exercise)[index]
    mistake = recognize(exercise, attempts)
    lines = [mistake.sentence] if mistake else []
    if attempts[index].changed:
        lines.append(_mutation(attempts[index].changed))
    blocked = _unusable(exercise, seen, right)
    if blocked:
        lines.insert(0, blocked)
    else:
        case = exercise.cases[index]
        lines.append(_where(exercise, index))
        lines.append(evidence(exercise.returns, seen, right))
        if mistake is None:
            lines.extend(clues(exercise, case, seen, right))
            lines.append(_resembling(exercise, attempts))
            lines.append(_elsewhere(exercise, attempts, index))
        return Result(
            exercise.id,
            "incorrect",
            _paragraphs(lines),
            mistake.id if mistake else None,
        )
    lines.append(_where(exercise, index))
    if mistake is None:
        lines.append(_elsewhere(exercise, attempts, index))
    return Result(
        exercise.id,
        "cannot be checked",
        _paragraphs(lines),
        mistake.id if mistake else None,
    )


def _unusable(
    exercise: FunctionExercise, seen: Observed | Raised | TimedOut, right: Observed
) -> str:
    """Why the result cannot be compared at all, or nothing."""
    if isinstance(seen, TimedOut):
        return f"Your function {seen}"
    if isinstance(seen, Raised):
        text = f"Your function raised {seen}."
        if seen.kind == "TypeError" and seen.line is None:
            text += f" The checker calls it as `{exercise.call}`."
        if "broadcast" in seen.message or "matmul" in seen.message:
            text += " Two arrays do not fit together: compare the shapes on that line with those below."
        return text
    if isinstance(seen, WrongType):
        return seen.text
    for name, mine, other in zip(exercise.returns, seen, right, strict=True):
        if mine.shape != other.shape:
            advice = shape_advice(mine.shape, other.shape)
            return f"`{name}` has shape {mine.shape}, expected {other.shape or 'a single number'}.{advice}"
        if mine.dtype != other.dtype:
            advice = (
                f"keep {other.dtype} throughout"
                if mine.dtype.startswith("float")
                else "return real numbers"
            )
            return f"`{name}` has dtype {mine.dtype}, expected {other.dtype}: {advice}."
    return ""


def _mutation(changed: tuple[str, ...]) -> str:
    names = " and ".join(f"`{name}`" for name in changed)
    plural = "s" if len(changed) > 1 else ""
    return (
        f"Your function changes its argument{plural} {names} in place, so the caller's data are lost. "
        f"Write `{changed[0]} = {changed[0]} - …` instead of `{changed[0]} -= …`, or work on a copy."
    )


def _where(exercise: FunctionExercise, index: int) -> str:
    case = exercise.cases[index]
    return f"Case “{case.name}”: {describe_args(exercise.parameters, case.args)}."


def _elsewhere(exercise: FunctionExercise, attempts: list[Attempt], index: int) -> str:
    """How the other cases went, and what sets the failing one apart if some are right."""
    expected = expectations(exercise)
    right = [
        i for i, tried in enumerate(attempts) if agree(_value(tried.seen), expected[i])
    ]
    if not right:
        return ""
    names = ", ".join(f"“{exercise.cases[i].name}”" for i in right)
    note = exercise.cases[index].note
    return f"Right on {names}." + (f" What differs here: {note}" if note else "")


def _paragraphs(lines: list[str]) -> str:
    return "\n".join(line for line in lines if line)


def prepare(exercise: FunctionExercise) -> None:
    """Compute and cache every expectation, so that nothing a student does later can change them.

    Raises:
        ValueError: a mistake returns nothing wrong, so it could not be told from a right answer.
    """
    right = expectations(exercise)
    for mistake in exercise.mistakes:
        returned = zip(mistaken(exercise, mistake), right, strict=True)
        if all(
            isinstance(seen, Raised) or agree(seen, expected)
            for seen, expected in returned
        ):
            raise ValueError(
                f"{exercise.id}: the known mistake {mistake.id} returns nothing wrong on any case"
            )
