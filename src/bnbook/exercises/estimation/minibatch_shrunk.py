"""Exercise: what the gradients of all minibatches of a centred model are on average."""

import itertools

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def mean_batch_gradient(
    w: float,
    x: np.ndarray,
    t: np.ndarray,
    batch: int,
) -> float:
    """Average the gradient of a centred model over all batches of different rows.

    In a batch with mean μ of x, the loss is ½ mean (w (x − μ) − t)².

    Args:
        w: the weight.
        x: inputs, (N,).
        t: targets, (N,).
        batch: M, from 2 to N.

    Returns:
        Mean over all batches of M of the N examples of the derivative by w.
    """
    count = len(x)
    full = w * x.var() - ((x - x.mean()) * t).mean()
    return float(full * count * (batch - 1) / ((count - 1) * batch))


def of_all_examples(w, x, t, batch):
    """You return the gradient of all N examples. Each batch is centred by its own mean, which takes a part
    of the spread away: the gradients are shorter on average."""
    return mean_batch_gradient(w, x, t, len(x))


def drawn_with_replacement(w, x, t, batch):
    """Your factor is 1 − 1/M. That is right for examples drawn one by one from an endless population.
    Here a batch holds different examples out of N, and for M = N the factor must be 1."""
    return of_all_examples(w, x, t, batch) * (1 - 1 / batch)


def turned_over(w, x, t, batch):
    """Your factor is above 1. The spread within a batch is smaller than that of all examples."""
    count = len(x)
    return of_all_examples(w, x, t, batch) * (count - 1) * batch / (count * (batch - 1))


def without_centring(w, x, t, batch):
    """You leave out the centring of the batch: your result is the gradient of ½ mean (w x − t)², which no
    batch size changes."""
    return float(((w * x - t) * x).mean())


def centred_by_all(w, x, t, batch):
    """You shrink the part of w and not that of t. Both are centred by the same μ, so both shrink."""
    count = len(x)
    factor = count * (batch - 1) / ((count - 1) * batch)
    return float(w * x.var() * factor - ((x - x.mean()) * t).mean())


def by_trying_all(w, x, t, batch):
    """The same, batch by batch."""
    found = []
    for rows in itertools.combinations(range(len(x)), batch):
        z = x[list(rows)] - x[list(rows)].mean()
        found.append(((w * z - t[list(rows)]) * z).mean())
    return float(np.mean(found))


_rng = np.random.default_rng(511)


def _data(count):
    return _rng.normal(1.0, 2.0, count), _rng.normal(size=count)


EXERCISE = FunctionExercise(
    id="minibatch-shrunk",
    chapter="estimation/minibatch",
    title="The mean of all gradients",
    level="core",
    reference=mean_batch_gradient,
    why="The gradient of a batch is w s² − c, with its biased variance and covariance. Over all batches both "
    "have the mean N(M − 1)/((N − 1)M) times that of all examples.",
    mistakes=variants(
        of_all_examples,
        drawn_with_replacement,
        turned_over,
        without_centring,
        centred_by_all,
    ),
    alternatives=(by_trying_all,),
    hints=(
        "The gradient of one batch holds its biased variance of x and its biased covariance with t only.",
        "An unbiased estimate divides by M − 1, and over all batches its mean is Σ(x − x̄)²/(N − 1).",
    ),
    cases=(
        Case("batches of 3 of 7", (0.7, *_data(7), 3), rtol=1e-9),
        Case("batches of 2 of 6", (-1.5, *_data(6), 2), rtol=1e-9),
        Case(
            "all examples in one batch",
            (0.4, *_data(5), 5),
            "M = N, so there is one batch.",
            rtol=1e-9,
        ),
    ),
    returns=("gradient",),
)
