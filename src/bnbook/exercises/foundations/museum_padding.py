"""Exercise: normalize padded sequences."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def masked_batch_norm(x: np.ndarray, lengths: np.ndarray, eps: float) -> np.ndarray:
    """Normalize padded sequences; padding enters no statistic and stays 0.

    Args:
        x: sequences, padded to one length, (N, T, D).
        lengths: true length of each sequence, (N,), whole numbers stored as float64. The
            positions t = 0 … lengths[n] − 1 of sequence n hold data.
        eps: ε > 0, added to the variance.

    Returns:
        ẑ, (N, T, D): each feature normalized over all true positions of all sequences, 0
        at the padded ones.
    """
    true = (np.arange(x.shape[1]) < lengths[:, None])[:, :, None]
    count = true.sum()
    mean = np.where(true, x, 0).sum(axis=(0, 1)) / count
    centred = np.where(true, x - mean, 0)
    var = (centred**2).sum(axis=(0, 1)) / count
    return centred / np.sqrt(var + eps)


def _true(x, lengths):
    return (np.arange(x.shape[1]) < lengths[:, None])[:, :, None]


def padding_counted(x, lengths, eps):
    """You average over all positions, padding included. The zeros pull the mean towards 0
    and change the variance, the more so the longer the padding."""
    z_hat = (x - x.mean(axis=(0, 1))) / np.sqrt(x.var(axis=(0, 1)) + eps)
    return np.where(_true(x, lengths), z_hat, 0)


def padding_in_the_count(x, lengths, eps):
    """You sum over the true positions and divide by N T. Divide by the number of true
    positions, the sum of the lengths."""
    true, count = _true(x, lengths), x.shape[0] * x.shape[1]
    mean = np.where(true, x, 0).sum(axis=(0, 1)) / count
    centred = np.where(true, x - mean, 0)
    return centred / np.sqrt((centred**2).sum(axis=(0, 1)) / count + eps)


def padding_in_the_variance(x, lengths, eps):
    """Your mean is right, and your variance counts the padded positions, whose deviation
    is −μ. Mask the deviations too, after subtracting the mean."""
    true = _true(x, lengths)
    mean = np.where(true, x, 0).sum(axis=(0, 1)) / true.sum()
    centred = np.where(true, x, 0) - mean
    var = (centred**2).sum(axis=(0, 1)) / true.sum()
    return np.where(true, centred / np.sqrt(var + eps), 0)


def padding_not_zero(x, lengths, eps):
    """Your statistics are right, and the padded positions of the output are not 0. What
    follows the layer would take them for data: mask the output."""
    true = _true(x, lengths)
    mean = np.where(true, x, 0).sum(axis=(0, 1)) / true.sum()
    var = (np.where(true, x - mean, 0) ** 2).sum(axis=(0, 1)) / true.sum()
    return (x - mean) / np.sqrt(var + eps)


def each_sequence_alone(x, lengths, eps):
    """You normalize each sequence by itself. The statistics of a batch are over all true
    positions of all sequences together."""
    true = _true(x, lengths)
    count = true.sum(axis=1, keepdims=True)
    mean = np.where(true, x, 0).sum(axis=1, keepdims=True) / count
    centred = np.where(true, x - mean, 0)
    return centred / np.sqrt((centred**2).sum(axis=1, keepdims=True) / count + eps)


def sequences_weighted_alike(x, lengths, eps):
    """You average over the means of the sequences. A short sequence then counts as much as
    a long one; every true position must count once."""
    true = _true(x, lengths)
    count = true.sum(axis=1, keepdims=True)
    mean = (np.where(true, x, 0).sum(axis=1, keepdims=True) / count).mean(axis=0)
    centred = np.where(true, x - mean, 0)
    var = ((centred**2).sum(axis=1, keepdims=True) / count).mean(axis=0)
    return centred / np.sqrt(var + eps)


def zeros_taken_for_padding(x, lengths, eps):
    """You take every 0 for padding. A true value may be 0: use the lengths."""
    true = x != 0
    count = true.sum(axis=(0, 1))
    mean = x.sum(axis=(0, 1)) / count
    centred = np.where(true, x - mean, 0)
    return centred / np.sqrt((centred**2).sum(axis=(0, 1)) / count + eps)


def by_gathering(x, lengths, eps):
    """The same, by collecting the true positions in one array."""
    rows = [sequence[: int(n)] for sequence, n in zip(x, lengths, strict=True)]
    data = np.concatenate(rows)
    y = np.zeros_like(x)
    for n, row in enumerate(rows):
        y[n, : len(row)] = (row - data.mean(axis=0)) / np.sqrt(data.var(axis=0) + eps)
    return y


_rng = np.random.default_rng(302)


def _padded(lengths, longest, features, zero=False):
    x = _rng.normal(2.0, 1.5, size=(len(lengths), longest, features))
    if zero:
        x[0, 0, 0] = 0.0
    lengths = np.array(lengths, dtype=float)
    return np.where(_true(x, lengths), x, 0.0), lengths


EXERCISE = FunctionExercise(
    id="museum-padding",
    chapter="foundations/museum",
    title="Padding is not data",
    level="core",
    reference=masked_batch_norm,
    why="A mask must act three times: in the sum, in the count, and on the deviations after "
    "the mean has been subtracted.",
    mistakes=variants(
        padding_counted,
        padding_in_the_count,
        padding_in_the_variance,
        padding_not_zero,
        each_sequence_alone,
        sequences_weighted_alike,
        zeros_taken_for_padding,
    ),
    alternatives=(by_gathering,),
    hints=(
        "`true = (np.arange(T) < lengths[:, None])[:, :, None]` has shape (N, T, 1) and says "
        "which positions hold data.",
        "The mean is the sum of the true values over `true.sum()`. `np.where(true, x - mean, "
        "0)` gives deviations that are 0 at the padding; the variance is the sum of their "
        "squares over the same count.",
    ),
    cases=(
        Case("lengths 4, 2 and 1", (*_padded([4, 2, 1], 4, 2), 0.1), count=7),
        Case(
            "more padding than data",
            (*_padded([2, 3], 6, 3), 0.5),
            "no sequence fills the array.",
            5,
        ),
        Case(
            "a true value is 0",
            (*_padded([3, 2], 3, 2, zero=True), 0.2),
            "a 0 among the data is not padding.",
            5,
        ),
    ),
    returns=("z_hat",),
    feature_axis=2,
)
