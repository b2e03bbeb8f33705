"""Exercise: the batch variance that ternary weights lead to."""

import itertools

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def expected_batch_variance(a: np.ndarray, variance: float) -> float:
    """E σ̂² of s = a w over a given batch, for iid centred weights w of this variance.

    Args:
        a: inputs of the layer, (B, K): one example a row.
        variance: V(w) of each of the K weights, for example 0.65.

    Returns:
        The biased batch variance of s, averaged over the weights.
    """
    return variance * a.var(axis=0).sum()


def second_moment(a, variance):
    """You sum the mean squares of the inputs. The batch variance of s is taken about its mean, so that
    of each input counts about its mean: this is where (6) prints ½ for ReLU."""
    return variance * (a**2).mean(axis=0).sum()


def mean_of_inputs(a, variance):
    """You average over the K inputs. s is a sum of K terms, and their variances add."""
    return variance * a.var(axis=0).mean()


def pooled(a, variance):
    """You take one variance over all entries of a, times K. Each input varies about its own mean, not
    about the mean of all."""
    return variance * a.shape[1] * a.var()


def unbiased(a, variance):
    """You divide by B − 1. Batch normalization divides by B."""
    return variance * a.var(axis=0, ddof=1).sum()


def summed_inputs(a, variance):
    """You take the variance of the sum of the inputs. That would be right for weights that are all
    equal; independent signs remove the covariances between inputs."""
    return variance * a.sum(axis=1).var()


def variance_squared(a, variance):
    """You square the variance of the weights. s has the square of a weight once: E w² = V(w)."""
    return variance**2 * a.var(axis=0).sum()


def over_inputs(a, variance):
    """You take the variance across the inputs of an example (axis 1). The batch is axis 0."""
    return variance * a.var(axis=1).sum()


def weights_forgotten(a, variance):
    """You leave out V(w). s is a sum of w_i a_i, so its variance scales with E w² = V(w)."""
    return a.var(axis=0).sum()


def half_of_inputs(a, variance):
    """You return K/2 · V(w), as (6) prints it. That ½ is the mean square of a unit normal after ReLU; the
    batch variance of s is taken about its mean, and over the batch that is given."""
    return a.shape[1] / 2 * variance


def half_of_inputs_alone(a, variance):
    """You return K/2. Neither the weights nor the batch enter: each input brings V(w) times its own
    variance over the given batch."""
    return a.shape[1] / 2


def normal_relu(a, variance):
    """You return (1/2 − 1/(2π)) K V(w). That is the average for unit normal inputs after ReLU in a large
    batch. Here the batch is given: take the variance of each of its columns."""
    return (0.5 - 0.5 / np.pi) * a.shape[1] * variance


def normal_relu_alone(a, variance):
    """You return (1/2 − 1/(2π)) K. That is for unit normal inputs after ReLU, a large batch and weights of
    variance 1. Here the batch and V(w) are given."""
    return (0.5 - 0.5 / np.pi) * a.shape[1]


def by_covariance(a, variance):
    """The same: the trace of the covariance matrix."""
    centred = a - a.mean(axis=0)
    return variance * np.trace(centred.T @ centred) / len(a)


def by_all_weights(a, variance):
    """The same, as an average over all ternary weight vectors."""
    total = 0.0
    for pattern in itertools.product((-1, 0, 1), repeat=a.shape[1]):
        t = np.array(pattern)
        total += np.where(t, variance / 2, 1 - variance).prod() * (a @ t).var()
    return total


_rng = np.random.default_rng(604)

EXERCISE = FunctionExercise(
    id="ternary-batch",
    chapter="propagation/ternary",
    title="What the batch measures",
    level="core",
    reference=expected_batch_variance,
    why="σ̂² = Σ_ij w_i w_j Cov(a_i, a_j), and E w_i w_j is V(w) for i = j and 0 otherwise.",
    mistakes=variants(
        second_moment,
        mean_of_inputs,
        pooled,
        unbiased,
        summed_inputs,
        variance_squared,
        over_inputs,
        weights_forgotten,
        half_of_inputs,
        half_of_inputs_alone,
        normal_relu,
        normal_relu_alone,
    ),
    alternatives=(by_covariance, by_all_weights),
    hints=(
        "Write s_b as a sum over the inputs, and its batch variance as a double sum over pairs of inputs.",
        "Average over the weights: E w_i w_j = 0 for different inputs. What is left is a sum of K "
        "variances over the batch.",
    ),
    cases=(
        Case(
            "7 examples, 4 inputs after ReLU",
            (np.maximum(_rng.normal(size=(7, 4)), 0), 0.65),
        ),
        Case(
            "5 examples, inputs with different means",
            (_rng.normal(np.array([0.0, 3.0, -2.0]), 1.0, (5, 3)), 0.5),
            "the inputs have different means.",
        ),
    ),
    returns=("variance",),
)
