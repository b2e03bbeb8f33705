"""Exercise: the gradients of a linear layer whose examples are columns."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def layer_gradients(
    W: np.ndarray, Y: np.ndarray, G: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of a loss through the layer W Y + B, with examples in columns.

    Args:
        W: weights, (K, J).
        Y: inputs of the layer, (J, n).
        G: gradient of the loss by the outputs W Y + B, (K, n).

    Returns:
        dW: gradient by W, (K, J).
        dY: gradient by Y, (J, n).
        dB: gradient by the biases, one for each of the K neurons, (K,).
    """
    return G @ Y.T, W.T @ G, G.sum(axis=1)


def averaged_weights(W, Y, G):
    """Your dW is the mean over the examples. G is the gradient of the whole loss: each example adds
    its part, and the sum is the gradient."""
    dW, dY, dB = layer_gradients(W, Y, G)
    return dW / Y.shape[1], dY, dB


def averaged_bias(W, Y, G):
    """Your dB is the mean over the examples. Every output has the bias in it once, so the gradients
    of all examples add up."""
    dW, dY, dB = layer_gradients(W, Y, G)
    return dW, dY, dB / Y.shape[1]


def bias_over_neurons(W, Y, G):
    """You multiply dB by the number of neurons. A bias belongs to one neuron: sum the row of G, nothing
    else."""
    dW, dY, dB = layer_gradients(W, Y, G)
    return dW, dY, dB * W.shape[0]


def from_means(W, Y, G):
    """You average G and Y over the examples before you multiply. The mean of a product is not the
    product of the means."""
    _, dY, dB = layer_gradients(W, Y, G)
    return np.outer(G.sum(axis=1), Y.mean(axis=1)), dY, dB


def centred_inputs(W, Y, G):
    """You subtract the mean of Y over the examples in dW. That is what a normalization after the layer
    does to the gradient; here there is none."""
    _, dY, dB = layer_gradients(W, Y, G)
    return G @ (Y - Y.mean(axis=1, keepdims=True)).T, dY, dB


def by_einsum(W, Y, G):
    """The same, index by index."""
    return (
        np.einsum("km,jm->kj", G, Y),
        np.einsum("kj,km->jm", W, G),
        np.einsum("km->k", G),
    )


_rng = np.random.default_rng(4101)


def _case(name, shape, note=""):
    k, j, n = shape
    return Case(
        name,
        (
            _rng.normal(size=(k, j)),
            1.0 + _rng.normal(size=(j, n)),
            _rng.normal(size=(k, n)),
        ),
        note,
        count=n,
    )


EXERCISE = FunctionExercise(
    id="learning-rate-layer",
    chapter="optimization/learning_rate",
    title="Two gradients, one convention",
    level="warm-up",
    reference=layer_gradients,
    why="To first order the loss is the sum of G * (W Y + B) over all entries; differentiate it by one entry "
    "of W, of Y and of B. The source prints G W for the second.",
    mistakes=variants(
        averaged_weights, averaged_bias, bias_over_neurons, from_means, centred_inputs
    ),
    alternatives=(by_einsum,),
    hints=(
        "Write down the shapes. Only one product of two of the matrices has the shape of W.",
        "The entry of dY at (j, m) sums G[k, m] W[k, j] over k.",
    ),
    cases=(
        _case("3 neurons, 4 inputs, 5 examples", (3, 4, 5)),
        _case("all sizes equal", (3, 3, 3), "all three sizes are equal."),
        _case("one neuron", (1, 4, 6), "there is one neuron."),
    ),
    returns=("dW", "dY", "dB"),
)
