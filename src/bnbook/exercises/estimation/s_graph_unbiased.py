"""Exercise: a product of two means without bias, from one minibatch."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def product_without_bias(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate the product of two means from one minibatch, without bias.

    Args:
        a: one number for each example of the minibatch, (B,), B ≥ 2. The examples
            are independent draws from one distribution.
        b: the same for another quantity, (B,).

    Returns:
        The estimate. Its expectation is the product of the means of a and of b in
        that distribution, exactly. It must not depend on the order of the examples,
        and use every pair.
    """
    size = len(a)
    return (a.sum() * b.sum() - a @ b) / (size * (size - 1))


def product_of_means(a, b):
    """You return the product of the two sample means. Its B terms a_i b_i make it biased, by
    Cov(a, b)/B."""
    return a.mean() * b.mean()


def mean_of_products(a, b):
    """You return the mean of a_i b_i: every term pairs an example with itself, the most biased choice."""
    return np.mean(a * b)


def all_pairs_counted(a, b):
    """You leave out the terms of an example with itself and still divide by B². B (B − 1) terms are
    left."""
    return (a.sum() * b.sum() - a @ b) / len(a) ** 2


def two_halves(a, b):
    """You take a from the first half of the minibatch and b from the second. That is without bias, but
    it uses a quarter of the pairs and depends on the order."""
    half = len(a) // 2
    return a[:half].mean() * b[half:].mean()


def biased_covariance_removed(a, b):
    """You subtract the sample covariance over B, divided by B. That covariance is too small itself, by
    the factor (B − 1)/B; divide by B − 1 instead."""
    covariance = np.mean(a * b) - a.mean() * b.mean()
    return a.mean() * b.mean() - covariance / len(a)


def whole_covariance_removed(a, b):
    """You subtract the whole sample covariance from the product of the means. The bias of that product
    is Cov(a, b)/B."""
    return a.mean() * b.mean() - np.cov(a, b)[0, 1]


def neighbours_only(a, b):
    """You pair each example with the next one. That is without bias, but it uses B pairs of B (B − 1)
    and depends on the order."""
    return np.mean(a * np.roll(b, -1))


def by_correction(a, b):
    """The same: the product of the means, less an unbiased estimate of its bias."""
    return a.mean() * b.mean() - np.cov(a, b)[0, 1] / len(a)


_rng = np.random.default_rng(1203)
_a = _rng.normal(size=6)

EXERCISE = FunctionExercise(
    id="s-graph-unbiased",
    chapter="estimation/s_graph",
    title="Without bias, from one minibatch",
    level="core",
    reference=product_without_bias,
    why="For i ≠ j, E[a_i b_j] = ā b̄. So the mean over the B (B − 1) pairs of different examples has no bias; it "
    "equals the product of the means less the unbiased sample covariance over B.",
    mistakes=variants(
        product_of_means,
        mean_of_products,
        all_pairs_counted,
        two_halves,
        biased_covariance_removed,
        whole_covariance_removed,
        neighbours_only,
    ),
    alternatives=(by_correction,),
    hints=(
        "Which of the B² products a_i b_j have the expectation ā b̄?",
        "Take the sum of all products, a.sum() * b.sum(), and remove those of an example with itself.",
    ),
    cases=(
        Case("6 examples", (_a, _a + _rng.normal(size=6))),
        Case("4 examples", (_rng.normal(size=4) + 2.0, _rng.normal(size=4) - 1.0)),
        Case(
            "two examples",
            (np.array([1.0, 5.0]), np.array([3.0, -2.0])),
            "there are only two pairs of different examples.",
        ),
    ),
    returns=("estimate",),
)
