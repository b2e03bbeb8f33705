"""Exercise: select the three best models, when some have failed."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def top_three(log_rates: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """log10 of the learning rates of the three models with the highest accuracy.

    Args:
        log_rates: log10 of the learning rate of each model, (N,), in the order of training.
        accuracies: their validation accuracies, (N,); NaN where a model diverged. At
            least three did not.

    Returns:
        log_rate, (3,), the best model first; of equal models the one trained first.
    """
    return log_rates[np.argsort(-accuracies, kind="stable")[:3]]


def nan_wins(log_rates, accuracies):
    """You sort upwards and turn the order around. NumPy sorts NaN to the end, so that your best
    models are those that diverged."""
    return log_rates[np.argsort(accuracies, kind="stable")[::-1][:3]]


def nan_wins_from_the_end(log_rates, accuracies):
    """You take the last three of an upward order. There stand the models that diverged, since NumPy
    sorts NaN to the end; and the best comes last."""
    return log_rates[np.argsort(accuracies, kind="stable")[-3:]]


def worst(log_rates, accuracies):
    """You return the three models with the lowest accuracy."""
    return log_rates[np.argsort(accuracies, kind="stable")[:3]]


def later_of_equals(log_rates, accuracies):
    """Of models with equal accuracy you prefer the one trained later: turning an upward order around
    turns the order of equals around, too. Sort by minus the accuracy, with a stable sort."""
    accuracies = np.where(np.isnan(accuracies), -np.inf, accuracies)
    return log_rates[np.argsort(accuracies, kind="stable")[::-1][:3]]


def ascending(log_rates, accuracies):
    """You found the right three, but the best of them comes last."""
    return top_three(log_rates, accuracies)[::-1]


def in_order_of_training(log_rates, accuracies):
    """You found the right three, but list them in the order of training. The best comes first."""
    chosen = top_three(log_rates, accuracies)
    return log_rates[np.isin(log_rates, chosen)]


def largest_rates(log_rates, accuracies):
    """You return the largest learning rates, or the rates in another order than the accuracies say.
    Sort the accuracies and apply that order to the rates."""
    return np.sort(log_rates)[::-1][:3]


def the_accuracies(log_rates, accuracies):
    """You return the accuracies of the three best models. Return their log10 rates."""
    accuracies = np.where(np.isnan(accuracies), -np.inf, accuracies)
    return np.sort(accuracies)[::-1][:3]


def the_indices(log_rates, accuracies):
    """You return whole numbers. Are these indices? Apply them to the rates: `log_rates[indices]`."""
    return np.argsort(-accuracies, kind="stable")[:3]


def the_rates(log_rates, accuracies):
    """You return the learning rates, 10 to the power of what is asked. Return their log10."""
    return 10 ** top_three(log_rates, accuracies)


def unstable(log_rates, accuracies):
    """You sort with NumPy's default, which may exchange equals; with few models it happens not to. Models of
    equal accuracy keep the order of training with kind="stable" only."""
    return log_rates[np.argsort(-accuracies)[:3]]


def by_lowest(log_rates, accuracies):
    """The same, with −∞ for the models that diverged."""
    accuracies = np.where(np.isnan(accuracies), -np.inf, accuracies)
    return log_rates[np.argsort(-accuracies, kind="stable")[:3]]


def one_by_one(log_rates, accuracies):
    """The same, by taking the best three times."""
    left = {i for i, accuracy in enumerate(accuracies) if accuracy == accuracy}
    chosen = []
    for _ in range(3):
        best = max(sorted(left), key=lambda i: accuracies[i])
        left.remove(best)
        chosen.append(log_rates[best])
    return np.array(chosen)


_rng = np.random.default_rng(403)
_many = _rng.choice([0.6, 0.65, 0.7], 40)
_many[[1, 4, 20]] = (
    np.nan
)  # 40 is too many for the short sorts that are stable by chance

EXERCISE = FunctionExercise(
    id="search-select",
    chapter="training/search",
    title="The best of those that survived",
    level="core",
    reference=top_three,
    why="NumPy sorts NaN to the end. Sort by minus the accuracy, stably: NaN then comes last by itself, and "
    "the first of equals stays first.",
    mistakes=variants(
        nan_wins,
        nan_wins_from_the_end,
        worst,
        later_of_equals,
        ascending,
        in_order_of_training,
        largest_rates,
        the_accuracies,
        the_indices,
        the_rates,
        unstable,
    ),
    alternatives=(by_lowest, one_by_one),
    hints=(
        "`np.argsort` gives an order that you can apply to another array. Try it on an array that "
        "contains NaN.",
        "Sort by minus the accuracy, stably: NaN then comes last by itself. That is "
        '`np.argsort(-accuracies, kind="stable")`.',
    ),
    cases=(
        Case(
            "6 models, 2 of which diverged",
            (
                np.array([-1.0, 0.5, -2.0, -0.25, 0.75, -4.0]),
                np.array([0.66, np.nan, 0.61, 0.71, np.nan, 0.52]),
            ),
            "two models diverged.",
        ),
        Case(
            "7 models, with equals",
            (
                np.array([-3.0, -0.5, -1.5, -0.75, -6.0, -2.0, 0.25]),
                np.array([0.6, 0.7, 0.6, 0.7, 0.5, 0.6, np.nan]),
            ),
            "several models have the same accuracy.",
        ),
        Case(
            "4 models, all trained",
            (
                np.array([-2.5, -1.25, -5.0, -0.1]),
                np.array([0.58, 0.63, 0.51, 0.69]),
            ),
        ),
        Case(
            "40 models, with many equals",
            (_rng.uniform(-5.0, 1.0, 40), _many),
            "there are many models, and many have the same accuracy.",
        ),
    ),
    returns=("log_rate",),
)
