"""Exercise: the dot product of signs from their bits."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def sign_dot(p: np.ndarray, q: np.ndarray, length: int) -> np.ndarray:
    """Dot products of rows of signs, from bits that stand for them.

    Bit 1 stands for the sign +1, bit 0 for −1. Behind the first `length` bits of a row
    come unused ones, which are 0 and stand for nothing.

    Args:
        p: bits of M rows, (M, N), 0.0 or 1.0, with N ≥ length.
        q: bits of D rows, (D, N).
        length: K, the number of signs in a row.

    Returns:
        s: (M, D), the sum of the K products of signs for each pair of rows.
    """
    differ = p @ (1 - q).T + (1 - p) @ q.T
    return length - 2 * differ


def padding_agrees(p, q, length):
    """You count unused bits as products of +1: s is too large by their number. They are 0 in both
    rows, so count where bits differ, and start from K instead of N."""
    return 2 * (p @ q.T + (1 - p) @ (1 - q).T) - p.shape[1]


def padding_counted_twice(p, q, length):
    """You count the bits that agree, the unused ones among them, and double that count: s is too
    large by twice their number. Count where bits differ; unused ones never do."""
    return 2 * (p @ q.T + (1 - p) @ (1 - q).T) - length


def counted_once(p, q, length):
    """You subtract the number of differing bits once. A pair that differs does not only miss its +1,
    it contributes −1: subtract it twice."""
    return length - (p @ (1 - q).T + (1 - p) @ q.T)


def both_one(p, q, length):
    """You count the pairs in which both bits are 1. Two bits of 0 are two signs of −1, whose product
    is +1 too."""
    return p @ q.T


def turned(p, q, length):
    """You have the sign turned: bits that differ contribute −1, bits that agree +1."""
    return 2 * (p @ (1 - q).T + (1 - p) @ q.T) - length


def by_signs(p, q, length):
    """The same, by the signs themselves."""
    return (2 * p[:, :length] - 1) @ (2 * q[:, :length] - 1).T


def by_pairs(p, q, length):
    """The same, by comparing all pairs of bits."""
    differ = (p[:, None] != q[None]).sum(axis=2)
    return (length - 2 * differ).astype(float)


_rng = np.random.default_rng(701)


def _bits(rows, length, total):
    bits = np.zeros((rows, total))
    bits[:, :length] = _rng.integers(0, 2, (rows, length))
    return bits


EXERCISE = FunctionExercise(
    id="deploy-dot",
    chapter="propagation/deploy",
    title="A dot product of bits",
    level="warm-up",
    reference=sign_dot,
    why="Of K products, `differ` are −1 and the others +1. An unused bit is 0 in both rows and never differs, "
    "so nothing has to be cut off.",
    mistakes=variants(
        padding_agrees,
        padding_counted_twice,
        counted_once,
        both_one,
        turned,
    ),
    alternatives=(by_signs, by_pairs),
    hints=(
        "When is a product of two signs −1? Count how often that happens.",
        "With n differing bits, s = (K − n) − n. Two bits differ where p(1 − q) + (1 − p)q is 1.",
    ),
    cases=(
        Case(
            "3 and 4 rows of 10 signs in 16 bits",
            (_bits(3, 10, 16), _bits(4, 10, 16), 10),
        ),
        Case(
            "2 and 3 rows of 8 signs in 8 bits",
            (_bits(2, 8, 8), _bits(3, 8, 8), 8),
            "no bit is unused.",
        ),
        Case(
            "5 and 1 rows of 17 signs in 24 bits",
            (_bits(5, 17, 24), _bits(1, 17, 24), 17),
        ),
    ),
    returns=("s",),
)
