"""What an exercise is made of: cases, known mistakes, and what a check, a hint and a solution show."""

import ast
import html
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "not attempted", "incorrect", "cannot be checked"]
Level = Literal["warm-up", "core", "hard"]
LEVELS: tuple[Level, ...] = ("warm-up", "core", "hard")
MARKS: dict[Outcome, str] = {
    "correct": "✓",
    "not attempted": "○",
    "incorrect": "✗",
    "cannot be checked": "!",
}


@dataclass(frozen=True, eq=False)
class Case:
    """One input on which a student's function is compared with the reference.

    Attributes:
        name: what a student reads, for example "6 examples, 3 features".
        args: the positional arguments; arrays are copied afresh for every call.
        note: what sets this case apart, shown to a student who fails here and passes elsewhere.
        count: M, the number of values behind each batch statistic, so that a factor M can be named.
        rtol: largest deviation, relative to the largest entry of a result, that rounding explains.
    """

    name: str
    args: tuple
    note: str = ""
    count: int | None = None
    rtol: float = 1e-11


@dataclass(frozen=True, eq=False)
class Variant:
    """A function beside the reference: a known mistake, or one of the implementations a test is tried on.

    Attributes:
        id: name of the function, with hyphens.
        function: takes the same arguments as the reference.
        sentence: its docstring in one paragraph; for a mistake, what the student reads.
        by_rounding: the mistake costs digits, not a formula, so its output cannot be compared digit by
            digit; it is recognized by the cases on which it fails.
        seen: for a weak test of a property exercise, whether the recorded calls bear out what its
            sentence says of them; each call is a dict from parameter to value.
    """

    id: str
    function: Callable
    sentence: str
    by_rounding: bool = False
    seen: Callable[[list[dict]], bool] | None = None

    @classmethod
    def of(
        cls,
        function: Callable,
        *,
        by_rounding: bool = False,
        seen: Callable[[list[dict]], bool] | None = None,
    ) -> "Variant":
        """Take id and sentence from the name and the docstring of `function`."""
        sentence = " ".join(inspect.cleandoc(function.__doc__).split())
        name = function.__name__.replace("_", "-")
        return cls(name, function, sentence, by_rounding, seen)


def variants(*functions: Callable) -> tuple[Variant, ...]:
    """Describe several functions by their names and docstrings."""
    return tuple(Variant.of(function) for function in functions)


@dataclass(frozen=True, eq=False, kw_only=True)
class Exercise:
    """What both kinds of exercise share.

    Attributes:
        id: what a student passes to `check`.
        chapter: "part/chapter".
        title: heading of the exercise.
        level: "warm-up", "core" or "hard".
        reference: the solution; its signature and docstring make the stub.
        why: one or two sentences on the solution.
        mistakes: plausible wrong answers, each with its own diagnosis.
        alternatives: correct answers written in another way.
        hints: from a nudge to nearly the answer.
    """

    id: str
    chapter: str
    title: str
    level: Level
    reference: Callable
    why: str
    mistakes: tuple[Variant, ...]
    alternatives: tuple[Callable, ...]
    hints: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a description that could not be diagnosed or shown."""
        if self.level not in LEVELS:
            raise ValueError(
                f"{self.id}: level must be one of {LEVELS}, got {self.level!r}"
            )
        ids = [mistake.id for mistake in self.mistakes]
        if len(set(ids)) != len(ids):
            raise ValueError(f"{self.id}: two mistakes share an id: {sorted(ids)}")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the arguments, in order."""
        return tuple(inspect.signature(self.reference).parameters)

    @property
    def call(self) -> str:
        """How the checker calls the student's function, for messages."""
        return f"{self.reference.__name__}({', '.join(self.parameters)})"


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionExercise(Exercise):
    """An exercise whose answer is a function that returns an array, a number, or a tuple of them.

    Attributes:
        cases: the inputs; the first failing one is shown, so the most telling comes first.
        returns: name of each returned array; more than one means a tuple.
        feature_axis: the axis of the results that counts features, if any: lets the diagnosis say "each
            feature is off by its own factor".
        new_arrays: whether a result that is an argument itself, or shares its memory, is wrong.
        categories: names of the results whose numbers name a kind, so that how far off they are says nothing.
    """

    cases: tuple[Case, ...]
    returns: tuple[str, ...]
    feature_axis: int | None = None
    new_arrays: bool = False
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class PropertyExercise(Exercise):
    """An exercise whose answer is a test of an implementation; `reference` is a test that suffices.

    Attributes:
        correct: implementations that the student's test must accept, the plainest first.
        mutants: implementations that it must reject; each sentence says what is wrong with it.
    """

    correct: tuple[Variant, ...]
    mutants: tuple[Variant, ...]


def stub_source(reference: Callable) -> str:
    """Signature and docstring of `reference`, with a body that raises NotImplementedError."""
    source = textwrap.dedent(inspect.getsource(reference))
    definition = ast.parse(source).body[0]
    if ast.get_docstring(definition) is None:
        raise ValueError(
            f"{reference.__name__} needs a docstring: it is the stub's task description"
        )
    head = source.splitlines()[definition.lineno - 1 : definition.body[0].end_lineno]
    return "\n".join([*head, '    raise NotImplementedError("your turn")'])


def _as_html(text: str) -> str:
    escaped = html.escape(text, quote=False)
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escaped)


@dataclass(frozen=True, repr=False)
class Result:
    """The verdict on a student's answer.

    Attributes:
        exercise: id of the exercise.
        outcome: "correct", "not attempted", "incorrect" or "cannot be checked".
        message: plain text, one paragraph a line.
        mistake: id of the known mistake that the answer makes, or None.
    """

    exercise: str
    outcome: Outcome
    message: str
    mistake: str | None = None

    def __repr__(self) -> str:
        """Plain text: the outcome, then the message."""
        return f"{MARKS[self.outcome]} {self.exercise}: {self.outcome}\n{self.message}"

    def _repr_html_(self) -> str:
        paragraphs = "".join(
            f"<p>{_as_html(line)}</p>" for line in self.message.splitlines()
        )
        kind = self.outcome.replace(" ", "-")
        return (
            f'<div class="bn-result bn-result--{kind}"><p class="bn-result__outcome">'
            f'<strong><span aria-hidden="true">{MARKS[self.outcome]}</span> {self.outcome}</strong> '
            f"<code>{self.exercise}</code></p>{paragraphs}</div>"
        )


def not_attempted(exercise: Exercise) -> Result:
    """The verdict on an untouched stub."""
    message = (
        "Replace the line that raises NotImplementedError by your answer, run that cell, then run this one "
        f'again. `hint("{exercise.id}")` helps.'
    )
    return Result(exercise.id, "not attempted", message)


@dataclass(frozen=True, repr=False)
class Hint:
    """One hint of an exercise, and how to get the next."""

    exercise: str
    number: int
    total: int
    text: str

    @property
    def _next(self) -> str:
        if self.number < self.total:
            return f'`hint("{self.exercise}", {self.number + 1})` says more.'
        return f'`solution("{self.exercise}")` shows an answer.'

    def __repr__(self) -> str:
        """Plain text: the hint, then the way on."""
        return f"Hint {self.number} of {self.total}: {self.text}\n{self._next}"

    def _repr_html_(self) -> str:
        # JupyterLab shows the first line of a hidden output as it is: no word of the hint in it.
        return (
            "<!-- A hint: click to read it. -->\n"
            f'<div class="bn-hint"><p><strong>Hint {self.number} of {self.total}.</strong> '
            f"{_as_html(self.text)}</p><p>{_as_html(self._next)}</p></div>"
        )


@dataclass(frozen=True, repr=False)
class Solution:
    """Source of a reference solution, straight from its file, and why it is so."""

    exercise: str
    source: str
    why: str

    def __repr__(self) -> str:
        """Return the source itself."""
        return self.source

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.source}\n```\n\n{self.why}"
