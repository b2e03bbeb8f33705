"""Exercise: the logistic loss from logits, and its gradient."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def logistic(z: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean logistic loss of a batch, and its gradient for the logits.

    The loss of an example is −log of the probability that the network gives to its label, where
    1/(1 + exp(−z)) is the probability of label 1. Some logits are as large as 800.

    Args:
        z: logits, (M,).
        t: labels, (M,), each 0.0 or 1.0.

    Returns:
        The mean over the batch, and dz, (M,), its gradient.
    """
    small = np.exp(-abs(z))  # never overflows
    loss = np.maximum(z, 0) - t * z + np.log1p(small)
    probability = np.where(z > 0, 1, small) / (1 + small)
    return loss.mean(), (probability - t) / len(z)


def through_the_probability(z, t):
    """Your formula is right, and its numbers do not survive large logits: the probability rounds to
    0 or 1, or exp overflows. Write the loss in terms of the logit, and take exp of −|z| only."""
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(-z))
        loss = -t * np.log(p) - (1 - t) * np.log(1 - p)
    return loss.mean(), (p - t) / len(z)


def _clipped(z):
    with np.errstate(over="ignore"):
        return np.clip(1 / (1 + np.exp(-z)), 1e-12, 1 - 1e-12)


def clipped(z, t):
    """You keep the probability away from 0 and 1. The loss of an example then stops growing, at 27.6 for
    1e-12, where it should be |z|: write it in terms of the logit, and no clipping is needed."""
    p = _clipped(z)
    loss = -t * np.log(p) - (1 - t) * np.log(1 - p)
    return loss.mean(), (p - t) / len(z)


def clipped_in_the_loss(z, t):
    """Your gradient is right, and your loss clips the probability, so that it stops growing, at 27.6 for
    1e-12, where it should be |z|. Write it in terms of the logit: log(1 + exp(z)) − t z."""
    return clipped(z, t)[0], logistic(z, t)[1]


def summed(z, t):
    """You return the sum over the batch. The loss is the mean, so both loss and gradient carry a
    1/M."""
    loss, dz = logistic(z, t)
    return loss * len(z), dz * len(z)


def gradient_not_averaged(z, t):
    """Your loss is the mean over the batch, and your gradient is that of the sum. The 1/M belongs
    to both."""
    loss, dz = logistic(z, t)
    return loss, dz * len(z)


def ascending(z, t):
    """Your gradient has the wrong sign. A larger logit makes label 1 more probable, so for t = 1
    the loss falls with z: probability − t."""
    loss, dz = logistic(z, t)
    return loss, -dz


def labels_swapped(z, t):
    """You exchange the two labels: 1/(1 + exp(−z)) is the probability of label 1."""
    return logistic(z, 1 - t)


def chained_twice(z, t):
    """You multiply the gradient by p(1 − p), the derivative of the sigmoid. In the logistic loss
    that factor cancels; it stays in the squared error."""
    loss, dz = logistic(z, t)
    p = dz * len(z) + t
    return loss, dz * p * (1 - p)


def one_label_only(z, t):
    """You drop the examples with label 0. Their loss is −log(1 − probability)."""
    loss = np.maximum(-z, 0) + np.log1p(np.exp(-abs(z)))
    return (t * loss).mean(), logistic(z, t)[1] * t


def by_logaddexp(z, t):
    """The same, with NumPy's stable log(exp(a) + exp(b))."""
    dz = np.exp(-np.logaddexp(0, -z)) - t
    return np.logaddexp(0, (1 - 2 * t) * z).mean(), dz / len(z)


_rng = np.random.default_rng(402)

EXERCISE = FunctionExercise(
    id="network-logistic",
    chapter="training/network",
    title="The loss of a logit",
    level="core",
    reference=logistic,
    why="log(1 + exp(z)) = max(z, 0) + log(1 + exp(−|z|)) takes exp of negative numbers only, and log1p keeps "
    "the digits of a small loss.",
    mistakes=variants(
        through_the_probability,
        clipped,
        clipped_in_the_loss,
        summed,
        gradient_not_averaged,
        ascending,
        labels_swapped,
        chained_twice,
        one_label_only,
    ),
    alternatives=(by_logaddexp,),
    hints=(
        "Simplify −t log p − (1 − t) log(1 − p) with p = 1/(1 + exp(−z)) to log(1 + exp(z)) − t z.",
        "log(1 + exp(z)) overflows for z = 800. Take the larger of the two exponentials out of the logarithm: "
        "max(z, 0) + log(1 + exp(−|z|)).",
        "The gradient is (p − t)/M. For p, divide exp(−|z|) or 1 by 1 + exp(−|z|).",
    ),
    cases=(
        Case(
            "6 gentle logits",
            (_rng.normal(size=6), np.array([1.0, 0, 1, 1, 0, 0])),
            count=6,
        ),
        Case(
            "large logits, right and wrong",
            (
                np.array([800.0, -750.0, 40.0, -60.0, 0.5]),
                np.array([0.0, 1.0, 1.0, 0.0, 1.0]),
            ),
            "some logits are as large as 800.",
            5,
        ),
        Case(
            "one example",
            (np.array([-1.5]), np.array([1.0])),
            "the batch has one example.",
            1,
        ),
        Case(
            "one example, right and sure",
            (np.array([30.0]), np.array([1.0])),
            "the loss is tiny, and not 0.",
            1,
        ),
    ),
    returns=("loss", "dz"),
)
