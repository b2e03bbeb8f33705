"""Exercise: a running average that is right from the first batch."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def corrected_average(batches: np.ndarray, alpha: float) -> np.ndarray:
    """Follow a running mean that starts from 0, corrected for its initial value.

    Args:
        batches: mean of each batch, oldest first, (T, D).
        alpha: weight of the old value, in [0, 1).

    Returns:
        The corrected running mean after each batch, (T, D). Its weights on the batches
        so far sum to 1.
    """
    average, path = np.zeros(batches.shape[1]), np.empty_like(batches)
    for t, batch in enumerate(batches, start=1):
        average = alpha * average + (1 - alpha) * batch
        path[t - 1] = average / (1 - alpha**t)
    return path


def _raw(batches, alpha, start=0.0):
    average, path = np.zeros(batches.shape[1]) + start, np.empty_like(batches)
    for t, batch in enumerate(batches):
        average = alpha * average + (1 - alpha) * batch
        path[t] = average
    return path


def _powers(batches, first=1):
    return np.arange(first, len(batches) + first)[:, None]


def not_corrected(batches, alpha):
    """You do not correct: after t batches the weights of the batches sum to 1 − alpha^t
    only. Divide by that."""
    return _raw(batches, alpha)


def corrected_once_for_all(batches, alpha):
    """You divide every entry by the total weight at the end. After t batches it is
    1 − alpha^t, with the t of that entry."""
    return _raw(batches, alpha) / (1 - alpha ** len(batches))


def one_batch_late(batches, alpha):
    """Your exponent is one too large: after the first batch the total weight is
    1 − alpha, so t starts at 1."""
    return _raw(batches, alpha) / (1 - alpha ** _powers(batches, 2))


def divided_by_the_new_weight(batches, alpha):
    """You divide by 1 − alpha, which is the total weight after the first batch only.
    After t batches it is 1 − alpha^t."""
    return _raw(batches, alpha) / (1 - alpha)


def divided_by_what_is_missing(batches, alpha):
    """You divide by alpha^t, the weight that is missing. The weight that is there is
    1 − alpha^t."""
    return _raw(batches, alpha) / alpha ** _powers(batches)


def started_from_the_first_batch(batches, alpha):
    """You start from the first batch and do not correct. That is right for the first
    entry; afterwards the first batch counts too much, by the weight that the initial
    value would have."""
    return _raw(batches, alpha, batches[0])


def corrected_average_fed_back(batches, alpha):
    """You put the corrected average back into the recursion. Keep the raw one for the
    next step, and correct only what you return."""
    average, path = np.zeros(batches.shape[1]), np.empty_like(batches)
    for t, batch in enumerate(batches, start=1):
        average = (alpha * average + (1 - alpha) * batch) / (1 - alpha**t)
        path[t - 1] = average
    return path


def momentum_convention(batches, alpha):
    """You give the weight alpha to the new batch. Here it is the weight of the old
    value, and the new batch has 1 − alpha."""
    return corrected_average(batches, 1 - alpha)


def as_weighted_means(batches, alpha):
    """The same: after t batches, a weighted mean with the weights alpha^age."""
    rows = []
    for t in range(1, len(batches) + 1):
        rows.append(
            np.average(batches[:t], axis=0, weights=alpha ** np.arange(t - 1, -1, -1.0))
        )
    return np.array(rows)


def by_a_moving_rate(batches, alpha):
    """The same, as steps towards the batch that shrink from 1 to 1 − alpha."""
    average, path = np.zeros(batches.shape[1]), []
    for t, batch in enumerate(batches, start=1):
        average = average + (1 - alpha) / (1 - alpha**t) * (batch - average)
        path.append(average)
    return np.stack(path)


_rng = np.random.default_rng(302)

EXERCISE = FunctionExercise(
    id="inference-corrected",
    chapter="foundations/inference",
    title="Right from the first batch",
    level="core",
    reference=corrected_average,
    why="The weights on t batches sum to 1 − α^t; the rest lies on the initial 0. Dividing by it makes the "
    "result a weighted mean of the batches, unbiased from the first one on.",
    mistakes=variants(
        not_corrected,
        corrected_once_for_all,
        one_batch_late,
        divided_by_the_new_weight,
        divided_by_what_is_missing,
        started_from_the_first_batch,
        corrected_average_fed_back,
        momentum_convention,
    ),
    alternatives=(as_weighted_means, by_a_moving_rate),
    hints=(
        "After the first batch your result must be that batch. What do you have before the correction?",
        "Keep the raw average from 0, and return it divided by 1 − alpha^t, with t = 1 after the first batch.",
    ),
    cases=(
        Case("6 batches, 2 features", (_rng.normal(4.0, 1.0, size=(6, 2)), 0.9)),
        Case(
            "4 batches, 4 features, alpha 0.3",
            (_rng.normal(-2.0, 1.0, size=(4, 4)), 0.3),
            "alpha is 0.3.",
        ),
        Case(
            "one batch",
            (np.array([[2.0, -7.0, 0.5]]), 0.99),
            "there is a single batch.",
        ),
    ),
    returns=("averages",),
    feature_axis=1,
)
