"""Exercise: the bias of a product of two sample means."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def bias_of_product(a: np.ndarray, b: np.ndarray, size: int) -> float:
    """Bias of (mean of a)(mean of b), both means taken over the same minibatch.

    Args:
        a: one number for each of the N examples of the data, (N,).
        b: the same for another quantity, (N,).
        size: B, the examples of a minibatch, drawn independently from the data.

    Returns:
        The bias: the expectation over all minibatches, less the product of the
        means of a and of b over the data.
    """
    covariance = np.mean(a * b) - np.mean(a) * np.mean(b)
    return covariance / size


def unbiased_covariance(a, b, size):
    """You divide the covariance by N − 1. The data are the whole population here: their covariance is
    the mean of the products of deviations, over N."""
    return np.cov(a, b)[0, 1] / size


def not_divided(a, b, size):
    """You return the covariance itself, the bias of B = 1. Of the B² products of a minibatch only the
    B of an example with itself are biased."""
    return np.mean(a * b) - np.mean(a) * np.mean(b)


def mean_of_products(a, b, size):
    """You return the mean of the products over B. Subtract the product of the means: only what a and b
    share beyond it is bias."""
    return np.mean(a * b) / size


def expectation(a, b, size):
    """You return the expectation of the product of the two means. Its bias is what is left of that when the
    product of the means over the data is subtracted."""
    return a.mean() * b.mean() + bias_of_product(a, b, size)


def opposite_sign(a, b, size):
    """You return the bias with the opposite sign. It is the expectation minus the true value."""
    return -bias_of_product(a, b, size)


def without_replacement(a, b, size):
    """You take minibatches of distinct examples, with the factor (N − B)/(N − 1). Here an example can
    be drawn twice."""
    n = len(a)
    return bias_of_product(a, b, size) * (n - size) / (n - 1)


def divided_by_data(a, b, size):
    """You divide the covariance by N, the size of the data. What counts is the size of the minibatch."""
    return bias_of_product(a, b, len(a))


def squared_size(a, b, size):
    """You divide by B². There are B² products, and B of them are those of an example with itself: that
    leaves 1/B."""
    return bias_of_product(a, b, size) / size


def by_deviations(a, b, size):
    """The same, from deviations."""
    return float((a - a.mean()) @ (b - b.mean()) / (len(a) * size))


_rng = np.random.default_rng(1201)
_a = _rng.normal(size=7)

EXERCISE = FunctionExercise(
    id="s-graph-product",
    chapter="estimation/s_graph",
    title="The bias of a product",
    level="warm-up",
    reference=bias_of_product,
    why="Two draws of the same example have E[a b], two independent draws ā b̄. Of B² pairs, B are of the first "
    "kind: ā b̄ + Cov(a, b)/B.",
    mistakes=variants(
        unbiased_covariance,
        not_divided,
        mean_of_products,
        expectation,
        opposite_sign,
        without_replacement,
        divided_by_data,
        squared_size,
    ),
    alternatives=(by_deviations,),
    hints=(
        "Write the product of the two means as a double sum over the minibatch, and take the expectation "
        "of each term.",
        "A term with i ≠ j has the expectation ā b̄, one with i = j has E[a b]. How many of each?",
    ),
    cases=(
        Case("7 examples, B = 3", (_a, 0.6 * _a + _rng.normal(size=7) + 1.0, 3)),
        Case(
            "5 examples, B = 8",
            (_rng.normal(size=5), _rng.normal(size=5) - 2.0, 8),
            "the minibatch is larger than the data.",
        ),
        Case(
            "two examples, B = 2",
            (np.array([1.0, 3.0]), np.array([2.0, -4.0]), 2),
            "the minibatch is as large as the data.",
        ),
    ),
    returns=("bias",),
)
