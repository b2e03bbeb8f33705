"""Exercise: the expectation of the estimate in two factors."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def two_factor_expectation(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, size: int
) -> float:
    """Expectation of (mean of a)(mean of b c), both means over the same minibatch:
    Eq. (1) for a path of three edges with one number on each.

    Args:
        a: J_n(S₂, L) of the last edge for each of the N examples of the data, (N,).
        b: J_n(S₁, S₂), (N,).
        c: J_n(W, S₁), (N,).
        size: B, the examples of a minibatch, drawn independently from the data.

    Returns:
        The expectation, over all minibatches.
    """
    inner = b * c
    apart = a.mean() * inner.mean()
    return apart + (np.mean(a * inner) - apart) / size


def true_product(a, b, c, size):
    """You return the product that Eq. (1) is meant to estimate. Its second factor is a mean of products,
    and a mean of products is no product of means."""
    return a.mean() * b.mean() * c.mean()


def large_batch(a, b, c, size):
    """You return the limit B → ∞. For a finite minibatch the two factors share their examples, which adds
    Cov(a, b c)/B."""
    return a.mean() * np.mean(b * c)


def bias(a, b, c, size):
    """You return the bias, the expectation less the true product of three means. Asked for is the expectation
    itself."""
    truth = a.mean() * b.mean() * c.mean()
    return two_factor_expectation(a, b, c, size) - truth


def single_example(a, b, c, size):
    """You return the expectation for one example, B = 1. The covariance of the two factors is divided by
    B."""
    return np.mean(a * b * c)


def wrong_covariance(a, b, c, size):
    """Your limit is the true product ā b̄ c̄, with a covariance over B added. The dependence of b and c
    within one example does not fade with B."""
    apart = a.mean() * b.mean() * c.mean()
    return apart + (np.mean(a * b * c) - apart) / size


def other_grouping(a, b, c, size):
    """You group the first two Jacobians of the product and leave the third apart. Eq. (1) sets the last
    edge, the one into the loss, apart."""
    apart = np.mean(a * b) * c.mean()
    return apart + (np.mean(a * b * c) - apart) / size


def covariance_undivided_by_data(a, b, c, size):
    """You divide the covariance by N − 1. The data are the whole population here."""
    inner = b * c
    return a.mean() * inner.mean() + np.cov(a, inner)[0, 1] / size


def weighted(a, b, c, size):
    """The same: a share 1/B of the pairs is an example with itself."""
    share = 1 / size
    return float(share * np.mean(a * b * c) + (1 - share) * np.mean(np.outer(a, b * c)))


_rng = np.random.default_rng(1204)
_c = _rng.normal(size=6)

EXERCISE = FunctionExercise(
    id="s-graph-factors",
    chapter="estimation/s_graph",
    title="Two factors",
    level="core",
    reference=two_factor_expectation,
    why="Two sample means with B examples in common: the product of their expectations plus Cov(a, bc)/B. What "
    "stays for B → ∞ is ā E[bc], not ā b̄ c̄.",
    mistakes=variants(
        true_product,
        large_batch,
        bias,
        single_example,
        wrong_covariance,
        other_grouping,
        covariance_undivided_by_data,
    ),
    alternatives=(weighted,),
    hints=(
        "Call d = b c. Then two sample means are multiplied, as in the exercise on the bias of a product.",
        "ā d̄ + Cov(a, d)/B, with means and covariance over the data.",
    ),
    cases=(
        Case(
            "6 examples, B = 4",
            (_rng.normal(size=6) + 1.0, _c + _rng.normal(size=6), _c - 0.5, 4),
        ),
        Case(
            "5 examples, B = 2",
            (_rng.normal(size=5), _rng.normal(size=5) + 1.0, _rng.normal(size=5), 2),
        ),
        Case(
            "a mean through batch normalization, B = 32",
            (
                np.array([-0.4, -0.1, -0.9, -0.2]),
                np.array([-2.0, 1.0, 3.0, -2.0]),
                np.array([1.0, -0.5, -1.5, 1.0]),
                32,
            ),
            "b has the mean 0, so that the true product is 0.",
        ),
    ),
    returns=("expectation",),
)
