"""`check`, `hint` and `solution`: what a student calls in a notebook; and the registry behind them."""

import difflib
import importlib
import textwrap
from collections.abc import Callable
from functools import cache
from inspect import getsource

from bnbook.exercises import functions, property_tests
from bnbook.exercises.model import (
    Exercise,
    FunctionExercise,
    Hint,
    PropertyExercise,
    Result,
    Solution,
    stub_source,
)

PARTS = (
    "foundations",
    "training",
    "propagation",
    "optimization",
    "estimation",
)  # each is a module bnbook.exercises.<part> with a tuple EXERCISES
SECONDS = 5.0  # a correct answer takes a small fraction of a second; importing torch inside one takes some


@cache
def registry() -> dict[str, Exercise]:
    """All exercises by id, in the order of the book, with what the checks compare to already computed."""
    found: dict[str, Exercise] = {}
    for part in PARTS:
        for exercise in importlib.import_module(f"bnbook.exercises.{part}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"two exercises share the id {exercise.id!r}")
            found[exercise.id] = exercise
    for exercise in found.values():
        if isinstance(exercise, FunctionExercise):
            functions.prepare(exercise)
    return found


def find(exercise_id: str) -> Exercise:
    """Return the exercise with this id.

    Raises:
        ValueError: there is none; the message lists the ids that come near.
    """
    exercises = registry()
    if isinstance(exercise_id, str) and exercise_id in exercises:
        return exercises[exercise_id]
    near = difflib.get_close_matches(
        str(exercise_id), exercises, n=3, cutoff=0.5
    ) or list(exercises)
    listed = ", ".join(f'"{name}"' for name in near)
    raise ValueError(
        f"no exercise has the id {exercise_id!r}; did you mean one of {listed}?"
    )


def check(
    exercise_id: str, student_function: Callable, *, seconds: float = SECONDS
) -> Result:
    """Check an answer and say what is wrong with it; shown as a small card in a notebook.

    Whatever the student's code does, this returns a result: it does not raise on its account.

    Args:
        exercise_id: for example "backward-dx".
        student_function: the function itself, not the result of calling it.
        seconds: time limit for all calls together.

    Raises:
        ValueError: no exercise has this id.
    """
    exercise = find(exercise_id)
    if not callable(student_function):
        kind = type(student_function).__name__
        name = exercise.reference.__name__
        text = (
            f"`check` needs your function itself and got an object of type {kind}. "
            f'Write `check("{exercise.id}", {name})`, without calling it.'
        )
        return Result(exercise.id, "cannot be checked", text)
    if isinstance(exercise, PropertyExercise):
        return property_tests.judge(exercise, student_function, seconds)
    return functions.judge(exercise, student_function, seconds)


def hint(exercise_id: str, n: int = 1) -> Hint:
    """Show hint number `n` of an exercise, from a nudge to nearly the answer.

    Raises:
        ValueError: no exercise has this id, or it has no such hint.
    """
    exercise = find(exercise_id)
    total = len(exercise.hints)
    if n not in range(1, total + 1):
        raise ValueError(f'"{exercise.id}" has hints 1 to {total}, got {n!r}')
    return Hint(exercise.id, n, total, exercise.hints[n - 1])


def solution(exercise_id: str) -> Solution:
    """Show the source of the reference solution, from its file, and why it is so.

    Raises:
        ValueError: no exercise has this id.
    """
    exercise = find(exercise_id)
    return Solution(
        exercise.id,
        textwrap.dedent(getsource(exercise.reference)).rstrip(),
        exercise.why,
    )


def stub(exercise_id: str) -> str:
    """Source of the function that a student completes, generated from the reference solution.

    Raises:
        ValueError: no exercise has this id.
    """
    return stub_source(find(exercise_id).reference)
