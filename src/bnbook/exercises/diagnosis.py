"""Describe how a wrong result differs from the right one: where, by how much, and in what pattern.

Works on plain Python numbers, so that nothing a student did to NumPy can reach it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from numpy import ndarray

from bnbook.exercises.model import Case, FunctionExercise
from bnbook.exercises.outputs import (
    Output,
    close,
    comparable,
    deviating,
    is_whole,
    scale,
    unravel,
)

LISTED = 6  # features, or named things, that a message lists before it counts them


def describe_args(names: Sequence[str], args: Sequence[object]) -> str:
    """Shapes of the arrays and values of the numbers, for example "x (6, 3), eps = 0.1"."""
    parts = [
        f"{name} {arg.shape}" if isinstance(arg, ndarray) else f"{name} = {arg:g}"
        for name, arg in zip(names, args, strict=True)
    ]
    return ", ".join(parts)


def evidence(
    names: Sequence[str],
    seen: Sequence[Output],
    right: Sequence[Output],
    categories: Sequence[str] = (),
) -> str:
    """The first entry that is wrong, what it should be, and how far off the result is, unless it is one of
    the categories."""
    for name, mine, other in zip(names, seen, right, strict=True):
        wrong = deviating(mine, other)
        if wrong:
            return _evidence(name, mine, other, wrong, sized=name not in categories)
    raise ValueError("the results agree: there is no deviation to describe")


def _evidence(
    name: str, mine: Output, other: Output, wrong: list[int], *, sized: bool
) -> str:
    strange = [i for i in wrong if not math.isfinite(mine.values[i])]
    first = strange[0] if strange else wrong[0]
    index = unravel(first, mine.shape)
    entry = f"`{name}[{', '.join(map(str, index))}]`" if index else f"`{name}`"
    got, expected = _numbers(mine.values[first], other.values[first])
    text = f"{entry} should be {expected}, yours is {got}"
    total = len(mine.values)
    if strange:
        kind = _kinds([mine.values[i] for i in strange])
        advice = _causes([mine.values[i] for i in strange])
        return f"{text}. {len(strange)} of {total} entries are {kind}: {advice}."
    if not sized:
        return f"{text}." if total == 1 else f"{text}; {len(wrong)} of {total} entries."
    worst = max(abs(mine.values[i] - other.values[i]) for i in wrong) / (
        scale(other) or 1.0
    )
    if total == 1:
        return f"{text}. The relative error is {worst:.2g}."
    are = "is" if len(wrong) == 1 else "are"
    extent = f"{len(wrong)} of {total} entries {are} wrong"
    return (
        f"{text}; {extent}. The largest error is {worst:.2g} times the largest entry."
    )


def _kinds(values: list[float]) -> str:
    nan = any(math.isnan(v) for v in values)
    infinite = any(math.isinf(v) for v in values)
    return "NaN or infinite" if nan and infinite else "NaN" if nan else "infinite"


def _causes(values: list[float]) -> str:
    nan = "0/0 or a root of a negative number"
    infinite = "an overflow, a logarithm of 0 or a division by 0"
    if not any(math.isinf(v) for v in values):
        return f"look for {nan}"
    if not any(math.isnan(v) for v in values):
        return f"look for {infinite}"
    return f"look for {infinite}; for the NaN also for {nan}"


def _numbers(*values: float) -> list[str]:
    """As short as keeps the values apart."""
    for digits in (6, 9, 12, 17):
        texts = [f"{v + 0.0:.{digits}g}" for v in values]  # + 0.0 turns −0 into 0
        if len(set(texts)) == len(texts):
            break
    return texts


def shape_advice(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What a wrong shape suggests, or nothing."""
    if got == () and expected:
        return " It is a single number: was it averaged or summed over every axis?"
    if len(got) > 1 and got == expected[::-1]:
        return " Is it transposed?"
    if tuple(n for n in got if n != 1) == tuple(n for n in expected if n != 1):
        return " Only axes of length 1 differ: look at `keepdims` and at added axes."
    return ""


def clues(
    exercise: FunctionExercise,
    case: Case,
    seen: Sequence[Output],
    right: Sequence[Output],
) -> list[str]:
    """Patterns in a wrong result that matches no known mistake."""
    found = [permuted(exercise.returns, seen, right)]
    for name, mine, other in zip(exercise.returns, seen, right, strict=True):
        wrong = name not in exercise.categories and deviating(mine, other)
        if wrong and all(math.isfinite(v) for v in mine.values):
            found.append(_pattern(exercise, case, name, mine, other, wrong))
            found.append(_truncated(name, mine, other))
    right_ones = [
        n
        for n, m, o in zip(exercise.returns, seen, right, strict=True)
        if not deviating(m, o)
    ]
    if right_ones:
        found.append(f"{', '.join(f'`{name}`' for name in right_ones)}: right.")
    return [clue for clue in dict.fromkeys(found) if clue]


def _truncated(name: str, mine: Output, other: Output) -> str:
    if not is_whole(mine) or all(value.is_integer() for value in other.values):
        return ""
    return (
        f"`{name}` has dtype {mine.dtype}, which holds no fractions: whatever is stored in such an array "
        "is cut off. Make it an array of floats."
    )


def permuted(
    names: Sequence[str], seen: Sequence[Output], right: Sequence[Output]
) -> str:
    """Say so if the arrays are right but in another order."""
    if any(output.values is None for output in seen):
        return ""
    matches = [
        [
            name
            for name, o in zip(names, right, strict=True)
            if m.shape == o.shape and comparable(m, o) and not deviating(m, o)
        ]
        for m in seen
    ]
    found = [match[0] for match in matches if match]
    if sorted(found) == sorted(names) and found != list(names):
        return (
            f"The arrays are right but in another order: return ({', '.join(names)})."
        )
    return ""


def _pattern(
    exercise: FunctionExercise,
    case: Case,
    name: str,
    mine: Output,
    other: Output,
    wrong: list[int],
) -> str:
    """The first pattern that explains the deviation, from the most to the least specific."""
    return (
        _trivial(exercise, case, name, mine)
        or _digits(name, mine, other)
        or _factor(case, name, mine, other)
        or _offset(name, mine, other)
        or _transposed(name, mine, other)
        or _by_feature(exercise, name, mine, other)
        or _some_features(exercise, name, mine, wrong)
    )


def _trivial(exercise: FunctionExercise, case: Case, name: str, mine: Output) -> str:
    if not any(mine.values):
        return f"`{name}` is zero everywhere."
    for parameter, arg in zip(exercise.parameters, case.args, strict=True):
        if (
            isinstance(arg, ndarray)
            and arg.shape == mine.shape
            and tuple(arg.ravel().tolist()) == mine.values
        ):
            return f"`{name}` is the argument `{parameter}`, unchanged."
    return ""


def _ratio(
    mine: Sequence[float], other: Sequence[float], tolerance: float
) -> float | None:
    """c such that mine = c · other throughout, if there is one."""
    pivot = max(range(len(other)), key=lambda i: abs(other[i]))
    if abs(other[pivot]) <= tolerance:
        return None
    c = mine[pivot] / other[pivot]
    allowed = 10 * tolerance * max(abs(c), 1.0)
    return (
        c
        if all(close(m, c * o, allowed) for m, o in zip(mine, other, strict=True))
        else None
    )


def _factor(case: Case, name: str, mine: Output, other: Output) -> str:
    if len(other.values) < 2:
        c = _ratio(mine.values, other.values, other.tolerance)
        known = c is not None and _known_factor(c, case.count)
        return f"`{name}` is {known} times the right value." if known else ""
    c = _ratio(mine.values, other.values, other.tolerance)
    if c is None or abs(c - 1) < 1e-5 or len(set(other.values)) == 1:
        return ""
    return f"Every entry of `{name}` is {_known_factor(c, case.count) or f'{c:.6g}'} times the right value."


def _known_factor(c: float, count: int | None) -> str:
    names: list[tuple[float, str]] = [
        (-1, "−1"),
        (2, "2"),
        (-2, "−2"),
        (0.5, "1/2"),
        (-0.5, "−1/2"),
    ]
    if count:
        m = float(count)
        names += [
            (m, f"M (here {count})"),
            (1 / m, f"1/M (here 1/{count})"),
            (m / (m - 1), f"M/(M − 1) (here {count}/{count - 1})"),
            ((m - 1) / m, f"(M − 1)/M (here {count - 1}/{count})"),
            (math.sqrt(m / (m - 1)), f"√(M/(M − 1)) (here √({count}/{count - 1}))"),
            (math.sqrt((m - 1) / m), f"√((M − 1)/M) (here √({count - 1}/{count}))"),
            (math.sqrt(m), f"√M (here √{count})"),
            (2 / m, f"2/M (here 2/{count})"),
            (m / 2, f"M/2 (here {count}/2)"),
            (-m, f"−M (here −{count})"),
            (-1 / m, f"−1/M (here −1/{count})"),
        ]
    return next(
        (text for value, text in names if close(c, value, 1e-9 * abs(value))), ""
    )


def _offset(name: str, mine: Output, other: Output) -> str:
    shift = mine.values[0] - other.values[0]
    same = all(
        close(m - o, shift, 10 * other.tolerance)
        for m, o in zip(mine.values, other.values, strict=True)
    )
    if len(other.values) < 2 or not same:
        return ""
    return f"Every entry of `{name}` is too {'large' if shift > 0 else 'small'} by the same {abs(shift):.6g}."


def _transposed(name: str, mine: Output, other: Output) -> str:
    if len(mine.shape) != 2 or mine.shape[0] != mine.shape[1]:
        return ""
    n = mine.shape[0]
    flipped = [mine.values[j * n + i] for i in range(n) for j in range(n)]
    same = all(
        close(f, o, other.tolerance) for f, o in zip(flipped, other.values, strict=True)
    )
    return f"`{name}` is the transpose of the right result." if same else ""


def _columns(
    exercise: FunctionExercise, output: Output, keep: Callable[[int], object]
) -> list[list]:
    """`keep(i)` for the entries of each feature."""
    axis = exercise.feature_axis
    columns: list[list] = [[] for _ in range(output.shape[axis])]
    for i in range(len(output.values)):
        columns[unravel(i, output.shape)[axis]].append(keep(i))
    return columns


def _has_features(exercise: FunctionExercise, output: Output) -> bool:
    return exercise.feature_axis is not None and len(output.shape) > 1


def _by_feature(
    exercise: FunctionExercise, name: str, mine: Output, other: Output
) -> str:
    if not _has_features(exercise, mine):
        return ""
    pairs = _columns(exercise, mine, lambda i: (mine.values[i], other.values[i]))
    ratios = _ratios(exercise, mine, other)
    if None not in ratios:
        listed = ", ".join(f"{c:.4g}" for c in ratios[:LISTED])
        advice = "look at what multiplies a feature"
        return (
            f"Each feature of `{name}` is off by its own factor ({listed}): {advice}."
        )
    shifts = [[m - o for m, o in column] for column in pairs]
    if all(
        close(a, b, 10 * other.tolerance)
        for column in shifts
        for a, b in pairwise(column)
    ):
        listed = ", ".join(f"{column[0]:.4g}" for column in shifts[:LISTED])
        advice = "look at what is added to a feature"
        return (
            f"Each feature of `{name}` is off by its own constant ({listed}): {advice}."
        )
    return ""


def _ratios(
    exercise: FunctionExercise, mine: Output, other: Output
) -> list[float | None]:
    """For each feature c such that mine = c · other, or None; for a result without features, one such c."""
    if not _has_features(exercise, mine):
        return [_ratio(mine.values, other.values, other.tolerance)]
    pairs = _columns(exercise, mine, lambda i: (mine.values[i], other.values[i]))
    return [
        _ratio([m for m, _ in column], [o for _, o in column], other.tolerance)
        for column in pairs
    ]


def proportions(exercise: FunctionExercise, mine: Output, other: Output) -> list[float]:
    """The factor between two results, one for each feature where there are features; empty if none."""
    if mine.shape != other.shape or None in (mine.values, other.values):
        return []
    if not all(math.isfinite(value) for value in mine.values + other.values):
        return []
    ratios = _ratios(exercise, mine, other)
    return [] if None in ratios else ratios


def is_telling(case: Case, factors: Sequence[float]) -> bool:
    """Whether these factors, one per feature, are M/(M − 1) or an argument such as γ, or its inverse."""
    if case.count and case.count > 1:
        share = case.count / (case.count - 1)
        if all(
            close(abs(c), share, 1e-9) or close(abs(c), 1 / share, 1e-9)
            for c in factors
        ):
            return True
    for arg in case.args:
        if isinstance(arg, ndarray) and arg.shape == (len(factors),) and arg.size > 1:
            values = arg.tolist()
            if all(values) and any(
                all(close(c, v**p, 1e-9) for c, v in zip(factors, values, strict=True))
                for p in (1, -1)
            ):
                return True
    return False


def _some_features(
    exercise: FunctionExercise, name: str, mine: Output, wrong: list[int]
) -> str:
    if not _has_features(exercise, mine):
        return ""
    axis = exercise.feature_axis
    features = sorted({unravel(i, mine.shape)[axis] for i in wrong})
    if len(features) == mine.shape[axis]:
        return ""
    listed = ", ".join(map(str, features[:LISTED]))
    return f"`{name}` is wrong in feature {listed} only, of {mine.shape[axis]} (counted from 0)."


def _digits(name: str, mine: Output, other: Output) -> str:
    worst = max(abs(m - o) for m, o in zip(mine.values, other.values, strict=True)) / (
        scale(other) or 1.0
    )
    if worst > 1e-5:
        return ""
    return (
        f"`{name}` agrees to about {int(-math.log10(worst))} digits: is something computed in single "
        "precision, rounded, approximated by a finite difference, or lost in a difference of large numbers?"
    )
