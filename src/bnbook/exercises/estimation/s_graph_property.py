"""Exercise: a test that recognizes reductions."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_reduction(operation) -> None:
    """Test whether an operation is a reduction: pass if it is, else fail an assert.

    A reduction is a mean over examples, E_n f(x_n), of any function of one example.

    Args:
        operation: a function of a batch (M, D) that returns (D,), to about ten
            digits. It must accept every M ≥ 1 and D ≥ 1, and not change the batch.
    """
    rng = np.random.default_rng(0)
    for count, scale in ((2, 1.0), (3, 0.5), (7, 3.0)):
        x = scale * rng.normal(size=(count, 4)) + 0.3
        kept = x.copy()
        alone = [operation(x[n : n + 1].copy()) for n in range(count)]
        whole = operation(x)
        assert np.shape(whole) == (4,)
        np.testing.assert_allclose(whole, np.mean(alone, axis=0), rtol=1e-8, atol=1e-10)
        assert (x == kept).all()


def mean(x):
    """it is the mean of the examples."""
    return x.mean(0)


def of_a_linear_layer(x):
    """it is the mean of the outputs of a linear layer."""
    size = x.shape[1]
    weights = np.arange(1.0, size**2 + 1).reshape(size, size) / 8 - 0.5
    return (x @ weights).mean(0)


def second_moment(x):
    """it is the mean of squares."""
    return (x**2).mean(0)


def mean_of_layer_norms(x):
    """it is the mean of normalized examples, each by its own statistics."""
    return ((x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1)).mean(0)


def constant_added(x):
    """it is the mean of max(x, 0) + 2, computed as a sum over M."""
    return np.maximum(x, 0).sum(0) / len(x) + 2.0


def running(x):
    """it updates a mean example by example."""
    result = np.zeros(x.shape[1])
    for n, row in enumerate(x, start=1):
        result += (row - result) / n
    return result


def total(x):
    """it is the sum over examples."""
    return x.sum(0)


def variance(x):
    """it is the variance: a mean of squares less the square of a mean."""
    return x.var(0)


def largest(x):
    """it is the maximum over examples."""
    return x.max(0)


def median(x):
    """it is the median, which is a mean for one and for two examples."""
    return np.median(x, axis=0)


def root_mean_square(x):
    """it is the root of a mean."""
    return np.sqrt((x**2).mean(0))


def first_example(x):
    """it is the first example."""
    return x[0].copy()


def without_the_last(x):
    """it forgets the last example if there are more than two."""
    return (x if len(x) <= 2 else x[:-1]).mean(0)


def bessel(x):
    """it divides a sum of squares by M − 1, or by 1 for one example."""
    return (x**2).sum(0) / max(len(x) - 1, 1)


def weighted(x):
    """it is a mean with weights that grow from example to example."""
    return np.average(x, axis=0, weights=np.arange(1.0, len(x) + 1))


def _batch(count=5, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 4)) + 0.3


def shape_only(operation):
    """Your test seems to look at the shape only: compare the value on a batch with the values on its
    examples alone."""
    assert np.shape(operation(_batch())) == (4,)


def order_only(operation):
    """Your test seems to ask only that the order of the examples does not matter. A sum, a maximum and
    a variance pass that too."""
    x = _batch()
    np.testing.assert_allclose(operation(x[::-1].copy()), operation(x), rtol=1e-8)


def doubled_only(operation):
    """Your test seems to repeat the batch only. A variance, a maximum and a median do not change
    either when every example occurs twice."""
    x = _batch()
    doubled = operation(np.concatenate([x, x]))
    np.testing.assert_allclose(doubled, operation(x), rtol=1e-8)


def two_examples(operation):
    """Your test seems to use batches of two examples only. There a median is a mean."""
    for seed in range(3):
        x = _batch(2, seed)
        alone = [operation(row[None].copy()) for row in x]
        np.testing.assert_allclose(operation(x), np.mean(alone, axis=0), rtol=1e-8)


def is_the_plain_mean(operation):
    """Your test seems to compare with x.mean(0). A reduction is the mean of any function of one
    example, such as of squares."""
    x = _batch()
    np.testing.assert_allclose(operation(x), x.mean(0), rtol=1e-8)


def linear(operation):
    """Your test seems to demand that the operation is linear in x. The function of one example need
    not be; only the mean over examples is linear."""
    x = _batch()
    np.testing.assert_allclose(operation(2 * x), 2 * operation(x), rtol=1e-8)
    alone = [operation(row[None].copy()) for row in x]
    np.testing.assert_allclose(operation(x), np.mean(alone, axis=0), rtol=1e-8)


def by_halves(operation):
    """The same, by splitting batches in two parts of any sizes."""
    for count in (2, 3, 5, 8):
        x = _batch(count, seed=count)
        kept = x.copy()
        whole = np.asarray(operation(x))
        assert whole.shape == (4,)
        assert (x == kept).all()
        for cut in range(1, count):
            first, second = operation(x[:cut].copy()), operation(x[cut:].copy())
            joined = (cut * first + (count - cut) * second) / count
            np.testing.assert_allclose(whole, joined, rtol=1e-8, atol=1e-10)


def one_feature(operation):
    """The same, with one feature."""
    for count in (3, 6):
        x = np.random.default_rng(count).normal(size=(count, 1)) + 0.5
        kept = x.copy()
        parts = [operation(x[n : n + 1].copy()) for n in range(count)]
        np.testing.assert_allclose(operation(x), sum(parts) / count, rtol=1e-8)
        assert (x == kept).all()


def three_features(operation):
    """The same, with three features and whole numbers."""
    x = np.array([[1.0, -2.0, 4.0], [3.0, 5.0, -1.0], [0.0, 7.0, 2.0], [8.0, 1.0, 6.0]])
    whole = operation(x.copy())
    assert whole.shape == (3,)
    apart = np.array([operation(x[[n]]) for n in range(4)]).mean(0)
    assert np.abs(whole - apart).max() < 1e-9 * (1 + np.abs(apart).max())


EXERCISE = PropertyExercise(
    id="s-graph-property",
    chapter="estimation/s_graph",
    title="A test for reductions",
    level="hard",
    reference=test_reduction,
    why="E_n f(x_n) is the mean of its own values on single examples, and nothing else is. That is how the tracer "
    "of the chapter tells a reduction from other operations that mix examples.",
    mistakes=variants(
        shape_only,
        order_only,
        doubled_only,
        two_examples,
        is_the_plain_mean,
        linear,
    ),
    alternatives=(by_halves, one_feature, three_features),
    hints=(
        "On a batch of one example, a reduction returns f of that example. What is it on the batch?",
        "Compare `operation(x)` with the mean of `operation(x[n : n + 1])` over n, for batches of more than two "
        "examples.",
    ),
    correct=variants(
        mean,
        of_a_linear_layer,
        second_moment,
        mean_of_layer_norms,
        constant_added,
        running,
    ),
    mutants=variants(
        total,
        variance,
        largest,
        median,
        root_mean_square,
        first_example,
        without_the_last,
        bessel,
        weighted,
    ),
)
