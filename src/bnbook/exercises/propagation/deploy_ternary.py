"""Exercise: the dot product of ternary rows from two planes of bits."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def ternary_dot(
    nonzero_a: np.ndarray,
    positive_a: np.ndarray,
    nonzero_w: np.ndarray,
    positive_w: np.ndarray,
) -> np.ndarray:
    """Dot products of rows with entries −1, 0 and +1, each of which is held in two bits.

    Args:
        nonzero_a: (M, K), 1.0 where an entry of a is not 0, else 0.0.
        positive_a: (M, K), 1.0 where it is +1, else 0.0.
        nonzero_w: (D, K), as nonzero_a, for w.
        positive_w: (D, K), as positive_a, for w.

    Returns:
        s: (M, D), the sum of the products for each pair of rows.
    """
    both = nonzero_a[:, None] * nonzero_w[None]
    differ = (positive_a[:, None] != positive_w[None]) * both
    return both.sum(axis=2) - 2 * differ.sum(axis=2)


def unmasked(nonzero_a, positive_a, nonzero_w, positive_w):
    """You count differing sign bits everywhere. Where one entry is 0 the product is 0: count only
    where both are nonzero."""
    both = nonzero_a @ nonzero_w.T
    return both - 2 * (positive_a[:, None] != positive_w[None]).sum(axis=2)


def mask_of_a(nonzero_a, positive_a, nonzero_w, positive_w):
    """You mask with the zeros of a only. Where an entry of w is 0 the product is 0 too."""
    mask = nonzero_a[:, None] * np.ones_like(nonzero_w)[None]
    differ = (positive_a[:, None] != positive_w[None]) * mask
    return mask.sum(axis=2) - 2 * differ.sum(axis=2)


def mask_of_w(nonzero_a, positive_a, nonzero_w, positive_w):
    """You mask with the zeros of w only. That is enough where a holds signs; here it has zeros too."""
    mask = np.ones_like(nonzero_a)[:, None] * nonzero_w[None]
    differ = (positive_a[:, None] != positive_w[None]) * mask
    return mask.sum(axis=2) - 2 * differ.sum(axis=2)


def either_nonzero(nonzero_a, positive_a, nonzero_w, positive_w):
    """You count where one of the entries is nonzero. A product needs both."""
    either = np.maximum(nonzero_a[:, None], nonzero_w[None])
    differ = (positive_a[:, None] != positive_w[None]) * either
    return either.sum(axis=2) - 2 * differ.sum(axis=2)


def all_entries(nonzero_a, positive_a, nonzero_w, positive_w):
    """You start from K. A pair with a zero contributes 0, not +1: start from the number of pairs in
    which both are nonzero."""
    both = nonzero_a[:, None] * nonzero_w[None]
    differ = (positive_a[:, None] != positive_w[None]) * both
    return nonzero_a.shape[1] - 2 * differ.sum(axis=2)


def counted_once(nonzero_a, positive_a, nonzero_w, positive_w):
    """You subtract the number of differing signs once: each contributes −1 instead of +1, which is a
    difference of 2."""
    both = nonzero_a[:, None] * nonzero_w[None]
    differ = (positive_a[:, None] != positive_w[None]) * both
    return both.sum(axis=2) - differ.sum(axis=2)


def positives_only(nonzero_a, positive_a, nonzero_w, positive_w):
    """You count pairs of +1 only. Two entries of −1 have the product +1 as well, and mixed ones −1."""
    return positive_a @ positive_w.T


def by_values(nonzero_a, positive_a, nonzero_w, positive_w):
    """The same, by the entries themselves."""
    return (2 * positive_a - nonzero_a) @ (2 * positive_w - nonzero_w).T


def by_four_counts(nonzero_a, positive_a, nonzero_w, positive_w):
    """The same: pairs with product +1, minus pairs with product −1."""
    minus_a, minus_w = nonzero_a - positive_a, nonzero_w - positive_w
    plus = positive_a @ positive_w.T + minus_a @ minus_w.T
    return plus - positive_a @ minus_w.T - minus_a @ positive_w.T


_rng = np.random.default_rng(702)


def _planes(rows, length):
    values = _rng.integers(-1, 2, (rows, length))
    return (values != 0).astype(float), (values > 0).astype(float)


EXERCISE = FunctionExercise(
    id="deploy-ternary",
    chapter="propagation/deploy",
    title="Two bits for three levels",
    level="core",
    reference=ternary_dot,
    why="A product is not 0 where both masks are 1; of those, the ones whose sign bits differ are −1 instead "
    "of +1.",
    mistakes=variants(
        unmasked,
        mask_of_a,
        mask_of_w,
        either_nonzero,
        all_entries,
        counted_once,
        positives_only,
    ),
    alternatives=(by_values, by_four_counts),
    hints=(
        "Which pairs of entries have a product that is not 0? What is it, if their sign bits are equal?",
        "s is the number of pairs in which both are nonzero, minus twice the number of those whose sign "
        "bits differ.",
    ),
    cases=(
        Case("3 and 4 rows of 12 entries", (*_planes(3, 12), *_planes(4, 12))),
        Case("5 and 2 rows of 7 entries", (*_planes(5, 7), *_planes(2, 7))),
        Case("1 and 6 rows of 20 entries", (*_planes(1, 20), *_planes(6, 20))),
    ),
    returns=("s",),
)
