"""Exercise: peak, steps to the peak, and accuracy at the baseline's step."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def peak_summary(
    accuracy: np.ndarray, steps: np.ndarray, baseline: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summarize validation curves as the source does.

    Args:
        accuracy: of each method at each look, (methods, looks).
        steps: number of updates at each look, (looks,), increasing.
        baseline: row of the method that the others are compared with.

    Returns:
        peak: the largest accuracy of each method, (methods,).
        peak_step: the updates at which it is first reached, (methods,).
        at_baseline: accuracy of each method after as many updates as the baseline needs
            for its own peak, (methods,).
    """
    look = accuracy.argmax(axis=1)
    return accuracy.max(axis=1), steps[look], accuracy[:, look[baseline]]


def look_not_step(accuracy, steps, baseline):
    """You return the number of the look. Translate it to updates by `steps`."""
    look = accuracy.argmax(axis=1)
    return accuracy.max(axis=1), look, accuracy[:, look[baseline]]


def last_occurrence(accuracy, steps, baseline):
    """Where a curve reaches its peak twice, you take the last time. The method has needed only the updates
    up to the first."""
    look = accuracy.shape[1] - 1 - accuracy[:, ::-1].argmax(axis=1)
    return accuracy.max(axis=1), steps[look], accuracy[:, look[baseline]]


def final(accuracy, steps, baseline):
    """You take the accuracy at the end of the run. A curve can fall after its peak."""
    look = accuracy.argmax(axis=1)
    return accuracy[:, -1], steps[look], accuracy[:, look[baseline]]


def own_step(accuracy, steps, baseline):
    """Your third result is the accuracy at each method's own peak, which is the first result again. Take all
    methods at the step where the *baseline* peaks."""
    look = accuracy.argmax(axis=1)
    return accuracy.max(axis=1), steps[look], accuracy[np.arange(len(look)), look]


def best_so_far(accuracy, steps, baseline):
    """Your third result is the best accuracy up to the baseline's step. The source gives the accuracy after
    that number of updates."""
    look = accuracy.argmax(axis=1)
    seen = accuracy[:, : look[baseline] + 1].max(axis=1)
    return accuracy.max(axis=1), steps[look], seen


def first_row(accuracy, steps, baseline):
    """You take the first row for the baseline. It is row `baseline`."""
    look = accuracy.argmax(axis=1)
    return accuracy.max(axis=1), steps[look], accuracy[:, look[0]]


def best_method(accuracy, steps, baseline):
    """You take the step at which the best of all methods peaks, not the one of the baseline."""
    look = accuracy.argmax(axis=1)
    best = accuracy.max(axis=1).argmax()
    return accuracy.max(axis=1), steps[look], accuracy[:, look[best]]


def by_loop(accuracy, steps, baseline):
    """The same, curve by curve."""
    peaks, reached = [], []
    for curve in accuracy:
        peaks.append(max(curve))
        reached.append(
            next(s for s, a in zip(steps, curve, strict=True) if a == peaks[-1])
        )
    column = list(steps).index(reached[baseline])
    return np.array(peaks), np.array(reached), np.array([c[column] for c in accuracy])


_curves = np.array(
    [
        [0.71, 0.84, 0.86, 0.88, 0.85],
        [0.62, 0.80, 0.91, 0.91, 0.90],
        [0.40, 0.79, 0.77, 0.83, 0.89],
    ]
)

EXERCISE = FunctionExercise(
    id="experiment-peak",
    chapter="estimation/experiment",
    title="Peak, steps to the peak, and the baseline's step",
    level="warm-up",
    reference=peak_summary,
    why="argmax gives the first look at which the maximum is reached; the step of the baseline is one "
    "column of the table for all methods.",
    mistakes=variants(
        look_not_step,
        last_occurrence,
        final,
        own_step,
        best_so_far,
        first_row,
        best_method,
    ),
    alternatives=(by_loop,),
    hints=(
        "Which function returns the place of a maximum, and which place does it return if there are two?",
        "`look = accuracy.argmax(axis=1)`; the third result is one column of `accuracy`.",
    ),
    cases=(
        Case(
            "3 methods, baseline in row 2",
            (_curves[[2, 1, 0]], np.array([50.0, 100, 200, 300, 400]), 2),
        ),
        Case(
            "baseline in row 1",
            (_curves[[0, 1, 2]], np.array([25.0, 50, 75, 100, 125]), 1),
            "the baseline reaches its peak twice.",
        ),
        Case("4 looks", (_curves[:, :4], np.array([10.0, 30, 70, 90]), 0)),
    ),
    returns=("peak", "peak_step", "at_baseline"),
)
