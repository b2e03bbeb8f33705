"""Two losses on logits: logistic for two classes, cross-entropy of a softmax for more.

Both take the logits, never probabilities: a probability that has rounded to 0 or 1 has
no logarithm, or no derivative. The loss of a batch is the mean over its examples.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LossCache:
    """What the backward pass needs.

    Attributes:
        probability: (M,) of class 1 for `logistic_loss`, (M, K) for `softmax_loss`.
        t: the labels, (M,).
    """

    probability: np.ndarray
    t: np.ndarray


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1/(1 + exp(−z)), without overflow: the exponential is only taken of −|z|."""
    small = np.exp(-_magnitude(z))
    return np.where(z.real > 0, 1, small) / (1 + small)


def logistic_loss(logits: np.ndarray, t: np.ndarray) -> tuple[complex, LossCache]:
    """Mean of log(1 + exp(z)) − t z, which is −log P(t) for P(1) = sigmoid(z).

    log(1 + exp(z)) is computed as max(z, 0) + log(1 + exp(−|z|)).

    Args:
        logits: z, (M,).
        t: labels, (M,), each 0 or 1.

    Returns:
        The loss, in nats an example, and the cache for `logistic_loss_backward`.
    """
    t = t.astype(logits.dtype)
    softplus = np.where(logits.real > 0, logits, 0) + np.log1p(
        np.exp(-_magnitude(logits))
    )
    return (softplus - t * logits).mean(), LossCache(sigmoid(logits), t)


def logistic_loss_backward(cache: LossCache) -> np.ndarray:
    """∂L/∂z = (sigmoid(z) − t)/M, (M,)."""
    return (cache.probability - cache.t) / len(cache.t)


def softmax_loss(logits: np.ndarray, t: np.ndarray) -> tuple[complex, LossCache]:
    """Mean of log Σ_k exp(z_k) − z_t, which is −log P(t) for P = softmax(z).

    The largest logit of each example is subtracted first, which changes nothing but
    the size of the exponentials.

    Args:
        logits: z, (M, K).
        t: labels, (M,), each one of 0 … K − 1.

    Returns:
        The loss, in nats an example, and the cache for `softmax_loss_backward`.
    """
    t = t.astype(int)
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    at_label = np.take_along_axis(shifted, t[:, None], axis=1)
    loss = (np.log(total) - at_label).mean()
    return loss, LossCache(exponentials / total, t)


def softmax_loss_backward(cache: LossCache) -> np.ndarray:
    """∂L/∂z = (softmax(z) − one-hot(t))/M, (M, K)."""
    dlogits = cache.probability.copy()
    dlogits[np.arange(len(cache.t)), cache.t] -= 1
    return dlogits / len(cache.t)


def _magnitude(z: np.ndarray) -> np.ndarray:
    """|z|, or its continuation z · sign(z), which is analytic."""
    return np.where(z.real > 0, z, -z)


LOSSES = {
    "logistic": (logistic_loss, logistic_loss_backward),
    "softmax": (softmax_loss, softmax_loss_backward),
}
