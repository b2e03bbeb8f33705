"""Check a function against a reference on named cases, and say what is wrong with it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from numpy import ndarray, shares_memory

from bnbook.exercises.diagnosis import (
    clues,
    describe_args,
    evidence,
    is_telling,
    permuted,
    proportions,
    shape_advice,
)
from bnbook.exercises.model import FunctionExercise, Result, Variant, not_attempted
from bnbook.exercises.outputs import (
    Observed,
    WrongType,
    agree,
    comparable,
    observe,
    scale,
)
from bnbook.exercises.running import Raised, TimedOut, attempt, run

SMALL = 1e-2  # a relative deviation that lost digits explain
SAME = 1e-9  # two factors that differ by less are one


@dataclass(frozen=True)
class Attempt:
    """What the student's function did on one case.

    Attributes:
        seen: its result, or what became of it.
        changed: names of the arguments that it changed.
        returned: names of the arguments that it returned, or a view of which.
    """

    seen: Observed | Raised | TimedOut
    changed: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


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
    for index, tried in enumerate(attempts):
        if exercise.new_arrays and tried.returned:
            text = f"The returned values are right. {_alias(tried.returned)}\n{_where(exercise, index)}"
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
        shared: list[str] = []

        def work(args=args, case=case, shared=shared) -> Observed:
            value = function(*args)
            shared += _shared(value, exercise.parameters, args)
            return observe(value, exercise.returns, case.rtol)

        seen = run(work, left)
        if isinstance(seen, TimedOut):
            attempts.append(Attempt(TimedOut(seconds)))
            break
        names = zip(exercise.parameters, args, case.args, strict=True)
        changed = tuple(name for name, now, then in names if _differs(now, then))
        attempts.append(Attempt(seen, changed, tuple(shared)))
    return attempts


def _shared(value: object, names: tuple[str, ...], args: tuple) -> list[str]:
    """Names of the arguments whose memory a returned array uses."""
    items = value if type(value) in (tuple, list) else (value,)
    arrays = [item for item in items if type(item) is ndarray]
    return [
        name
        for name, arg in zip(names, args, strict=True)
        if isinstance(arg, ndarray) and any(shares_memory(arg, a) for a in arrays)
    ]


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
    """A known mistake that gives the student's result up to a factor on every case, if there is one.

    Nothing is said where that factor is M/(M − 1) or an argument such as γ: then the answer differs from
    the mistake in just what the sentence would deny.
    """
    seen = [tried.seen for tried in attempts]
    if len(seen) < len(exercise.cases) or _factors(
        exercise, seen, expectations(exercise)
    ):
        return ""  # proportional to the right result: the clues have named the factor
    for mistake in exercise.mistakes:
        factors = _factors(exercise, seen, mistaken(exercise, mistake))
        pairs = list(zip(exercise.cases, factors, strict=False))
        if any(is_telling(case, c) for case, found in pairs for c in found):
            continue
        for case, found in pairs:
            listed = _named_factors(exercise, found)
            if listed:
                return (
                    f"Up to a factor ({listed} on “{case.name}”), your result is that of "
                    f"a known mistake: {mistake.sentence}"
                )
    return ""


def _named_factors(exercise: FunctionExercise, found: list[list[float]]) -> str:
    """The factors that are not 1, and for which output, if there are several; empty if all are 1."""
    parts = []
    for name, factors in zip(exercise.returns, found, strict=True):
        if any(abs(f - 1) > SAME for f in factors):
            each = "per feature " if len(factors) > 1 else ""
            numbers = ", ".join(f"{f:.4g}" for f in factors)
            of = f" for `{name}`" if len(exercise.returns) > 1 else ""
            parts.append(f"{each}{numbers}{of}")
    return ", ".join(parts)


def _factors(
    exercise: FunctionExercise, seen: list, other: tuple
) -> list[list[list[float]]]:
    """For each case, the factors of each output, one per feature; empty unless there are such factors."""
    if not all(isinstance(result, tuple) for result in (*seen, *other)):
        return []
    # Two numbers, or equal ones, are proportional to any others of their kind: that tells nothing.
    if not any(_distinct(o.values or ()) > 2 for result in seen for o in result):
        return []
    found = [
        [proportions(exercise, m, o) for m, o in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(seen, other, strict=True)
    ]
    return found if all(all(case) for case in found) else []


def _distinct(values: tuple[float, ...]) -> int:
    return len({f"{value:.9g}" for value in values})


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
        if mine.shape != other.shape or not comparable(mine, other):
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
    order = permuted(exercise.returns, seen, right) if type(seen) is tuple else ""
    blocked = _unusable(exercise, seen, right)
    if blocked and order:
        lines += [order, _where(exercise, index)]
        known = mistake.id if mistake else None
        return Result(exercise.id, "incorrect", _paragraphs(lines), known)
    if blocked:
        lines.insert(0, blocked)
    else:
        case = exercise.cases[index]
        lines.append(_where(exercise, index))
        lines.append(evidence(exercise.returns, seen, right, exercise.categories))
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
        if _is_misfit(seen):
            text += " Two arrays do not fit together: compare the shapes on that line with those below."
        return text
    if isinstance(seen, WrongType):
        return seen.text
    for name, mine, other in zip(exercise.returns, seen, right, strict=True):
        if mine.shape != other.shape:
            advice = shape_advice(mine.shape, other.shape)
            return f"`{name}` has shape {mine.shape}, expected {other.shape or 'a single number'}.{advice}"
        if not comparable(mine, other):
            advice = (
                f"keep {other.dtype} throughout"
                if mine.dtype.startswith("float")
                else "return real numbers"
                if mine.dtype.startswith("complex")
                else f"return numbers, for example with `.astype({_name(other.dtype)})`"
            )
            return f"`{name}` has dtype {mine.dtype}, expected {other.dtype}: {advice}."
    return ""


def _name(dtype: str) -> str:
    return "float" if dtype == "float64" else "int" if dtype == "int64" else dtype


def _is_misfit(raised: Raised) -> bool:
    return "broadcast" in raised.message or "matmul" in raised.message


def _alias(returned: tuple[str, ...]) -> str:
    names = " and ".join(f"`{name}`" for name in returned)
    return (
        f"Your function returns {names} itself and not a new array: whoever changes the result changes "
        f"the argument too. Return a copy, `{returned[0]}.copy()`."
    )


def _mutation(changed: tuple[str, ...]) -> str:
    names = " and ".join(f"`{name}`" for name in changed)
    plural = "s" if len(changed) > 1 else ""
    return (
        f"Your function changes its argument{plural} {names} in place, so the caller's data are lost. "
        f"`{changed[0]} -= …`, `{changed[0]} /= …` and `{changed[0]}[…] = …` all do that: "
        f"write `{changed[0]} = {changed[0]} - …`, `{changed[0]} = {changed[0]} / …`, or work on a copy."
    )


def _where(exercise: FunctionExercise, index: int) -> str:
    case = exercise.cases[index]
    return f"Case “{case.name}”: {describe_args(exercise.parameters, case.args)}."


def _elsewhere(exercise: FunctionExercise, attempts: list[Attempt], index: int) -> str:
    """How the other cases went, and what sets the failing one apart if all others are right."""
    expected = expectations(exercise)
    right = [
        i for i, tried in enumerate(attempts) if agree(_value(tried.seen), expected[i])
    ]
    wrong = [i for i in range(len(attempts)) if i not in right]
    parts = []
    if right:
        parts.append(f"Right on {_listed(exercise, right)}.")
    if right and wrong != [index]:
        parts.append(f"Wrong on {_listed(exercise, wrong)}.")
    elif right and exercise.cases[index].note:
        parts.append(f"What differs here: {exercise.cases[index].note}")
    for i in wrong:
        raised = attempts[i].seen
        if i != index and isinstance(raised, Raised):
            case = exercise.cases[i]
            shapes = describe_args(exercise.parameters, case.args)
            parts.append(
                f"\nOn “{case.name}”, {shapes}, your function raises {raised}."
            )
            if _is_misfit(raised):
                parts.append(
                    "NumPy lines shapes up from the right; where two axes happen to have the same "
                    "length, a wrong alignment goes unnoticed."
                )
            break
    return " ".join(parts).replace(" \n", "\n").strip()


def _listed(exercise: FunctionExercise, indices: list[int]) -> str:
    return ", ".join(f"“{exercise.cases[i].name}”" for i in indices)


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
