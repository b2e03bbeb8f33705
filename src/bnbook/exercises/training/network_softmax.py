"""Exercise: the cross-entropy of a softmax, and its gradient."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def cross_entropy(z: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of a batch for K classes, and its gradient for the logits.

    The loss of an example is −log p_t, where p_k = exp(z_k)/Σ_j exp(z_j) and t is its label. Some
    logits are as large as 1000.

    Args:
        z: logits, (M, K).
        t: labels, (M, K), one-hot: 1.0 in the column of the label, 0.0 elsewhere.

    Returns:
        The mean over the batch, and dz, (M, K), its gradient.
    """
    shifted = z - z.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    loss = np.log(total[:, 0]) - (t * shifted).sum(axis=1)
    return loss.mean(), (np.exp(shifted) / total - t) / len(z)


def not_shifted(z, t):
    """Your formula is right, and exp overflows for large logits. Subtract the largest logit of each
    example first: the probabilities do not change."""
    with np.errstate(all="ignore"):
        e = np.exp(z)
        p = e / e.sum(axis=1, keepdims=True)
        loss = np.log(e.sum(axis=1)) - (t * z).sum(axis=1)
    return loss.mean(), (p - t) / len(z)


def one_maximum_for_all(z, t):
    """You subtract the largest logit of the whole batch. An example whose logits all lie far below it gets
    exp = 0 everywhere, and the logarithm of 0: subtract the largest logit of each example, axis=1."""
    shifted = z - z.max()
    with np.errstate(all="ignore"):
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        loss = np.log(total[:, 0]) - (t * shifted).sum(axis=1)
        return loss.mean(), (np.exp(shifted) / total - t) / len(z)


def one_maximum_then_probabilities(z, t):
    """You subtract the largest logit of the whole batch, so that the probabilities of an example far below
    it are 0/0. Subtract the largest logit of each example, axis=1, and take the logarithm of the sum, not
    of the probability, which may round to 0."""
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max())
        p = e / e.sum(axis=1, keepdims=True)
        return -(t * np.log(p)).sum(axis=1).mean(), (p - t) / len(z)


def over_the_batch(z, t):
    """You normalize over the batch, along axis 0. The probabilities of one example must add up to
    1: sum over the classes, axis=1."""
    shifted = z - z.max(axis=0)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=0)
    return -(t * np.log(p)).sum(axis=1).mean(), (p - t) / len(z)


def summed(z, t):
    """You return the sum over the batch. The loss is the mean, so both loss and gradient carry a
    1/M."""
    loss, dz = cross_entropy(z, t)
    return loss * len(z), dz * len(z)


def gradient_not_averaged(z, t):
    """Your loss is the mean over the batch, and your gradient is that of the sum. The 1/M belongs
    to both."""
    loss, dz = cross_entropy(z, t)
    return loss, dz * len(z)


def averaged_over_classes(z, t):
    """You divide by M K. The loss is a mean over examples; over the classes it is a sum."""
    loss, dz = cross_entropy(z, t)
    return loss / z.shape[1], dz / z.shape[1]


def label_column_only(z, t):
    """Your gradient is nonzero in the column of the label only. The other logits are in the sum
    under the logarithm: their gradient is their probability."""
    loss, dz = cross_entropy(z, t)
    return loss, dz * t


def label_not_subtracted(z, t):
    """Your gradient is the probability. Subtract the one-hot label from it."""
    loss, dz = cross_entropy(z, t)
    return loss, dz + t / len(z)


def one_against_the_rest(z, t):
    """You add up K logistic losses, one for each class. The softmax has one probability
    distribution over all classes: the classes compete."""
    loss = np.logaddexp(0, z) - t * z
    p = np.exp(-np.logaddexp(0, -z))
    return loss.sum(axis=1).mean(), (p - t) / len(z)


def by_logaddexp(z, t):
    """The same, with the logarithm of the sum built up class by class."""
    log_p = z - np.logaddexp.reduce(z, axis=1)[:, None]
    return -np.where(t > 0, log_p, 0).sum() / len(z), (np.exp(log_p) - t) / len(z)


_rng = np.random.default_rng(403)


def _one_hot(labels, classes):
    return np.eye(classes)[labels]


EXERCISE = FunctionExercise(
    id="network-softmax",
    chapter="training/network",
    title="Many classes",
    level="core",
    reference=cross_entropy,
    why="Adding a constant to all logits of an example changes no probability, so the largest may be taken as 0. "
    "The gradient is probability minus label, as for two classes.",
    mistakes=variants(
        not_shifted,
        one_maximum_for_all,
        one_maximum_then_probabilities,
        over_the_batch,
        summed,
        gradient_not_averaged,
        averaged_over_classes,
        label_column_only,
        label_not_subtracted,
        one_against_the_rest,
    ),
    alternatives=(by_logaddexp,),
    hints=(
        "−log p_t = log Σ_j exp(z_j) − z_t. With a one-hot t, z_t is the sum of t z over the classes.",
        "Subtract `z.max(axis=1, keepdims=True)` from z first. Then no exponential exceeds 1, and the sum is at "
        "least 1.",
        "The gradient is (p − t)/M.",
    ),
    cases=(
        Case(
            "5 examples, 3 classes",
            (_rng.normal(size=(5, 3)), _one_hot([0, 2, 1, 1, 0], 3)),
            count=5,
        ),
        Case(
            "large logits",
            (
                np.array(
                    [[1000.0, 2.0, -3.0, 990.0], [-800.0, -810.0, -795.0, -1000.0]]
                ),
                _one_hot([3, 0], 4),
            ),
            "some logits are as large as 1000.",
            2,
        ),
        Case(
            "4 examples, 4 classes",
            (_rng.normal(1.0, 3.0, size=(4, 4)), _one_hot([3, 3, 0, 2], 4)),
            "there are as many classes as examples.",
            4,
        ),
    ),
    returns=("loss", "dz"),
)
