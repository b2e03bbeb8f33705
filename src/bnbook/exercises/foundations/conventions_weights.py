"""Exercise: weight standardization of a convolution."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def standardize_weights(w: np.ndarray, eps: float) -> np.ndarray:
    """Standardize the weights of each output channel: mean 0 and variance about 1.

    Args:
        w: weights of a convolution as PyTorch keeps them, (C_out, C_in, K, K).
        eps: ε ≥ 0, added to the variance.

    Returns:
        ŵ = (w − μ)/√(σ² + ε), (C_out, C_in, K, K), with one μ and one biased σ² for
        each output channel.
    """
    axes = (1, 2, 3)
    centred = w - w.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)


def _over(w, eps, axes, ddof=0):
    mean, var = w.mean(axes, keepdims=True), w.var(axes, keepdims=True, ddof=ddof)
    return (w - mean) / np.sqrt(var + eps)


def for_each_input_channel(w, eps):
    """You take statistics of each *input* channel (axes 0, 2 and 3). That is the recipe
    of batch normalization; in PyTorch's weights the output channel is axis 0."""
    return _over(w, eps, (0, 2, 3))


def for_each_filter_plane(w, eps):
    """You standardize each K × K plane by itself (axes 2 and 3). An output sums over its
    input channels too, so they share its statistics."""
    return _over(w, eps, (2, 3))


def all_weights_together(w, eps):
    """You take one mean and one variance of all weights. Each output channel has its
    own."""
    return _over(w, eps, (0, 1, 2, 3))


def each_position_of_the_filter(w, eps):
    """You average over the output channels (axis 0), as if they were examples of a
    batch. Here each of them is standardized by itself."""
    return _over(w, eps, 0)


def unbiased_variance(w, eps):
    """You divide by the number of weights minus 1. The biased variance is asked for: no
    `ddof`."""
    return _over(w, eps, (1, 2, 3), ddof=1)


def eps_outside_root(w, eps):
    """You add ε to the standard deviation. It belongs inside the root: √(σ² + ε)."""
    axes = (1, 2, 3)
    mean, std = w.mean(axes, keepdims=True), w.std(axes, keepdims=True)
    return (w - mean) / (std + eps)


def not_centred(w, eps):
    """You divide by the root mean square and leave the mean in. Weight standardization
    subtracts it: what survives of a constant input is then only the bias."""
    return w / np.sqrt((w**2).mean(axis=(1, 2, 3), keepdims=True) + eps)


def flattened(w, eps):
    """The same, on rows of all the weights of an output."""
    rows = w.reshape(len(w), -1)
    rows = (rows.T - rows.mean(axis=1)) / np.sqrt(rows.var(axis=1) + eps)
    return rows.T.reshape(w.shape)


def one_output_at_a_time(w, eps):
    """The same, with a loop over the outputs."""
    return np.stack([(f - f.mean()) / np.sqrt(f.var() + eps) for f in w])


_rng = np.random.default_rng(503)


def _weights(*shape):
    offsets = _rng.normal(size=(shape[0], shape[1], 1, 1))
    return offsets + _rng.normal(0.3, 0.6, size=shape)


EXERCISE = FunctionExercise(
    id="conventions-weights",
    chapter="foundations/conventions",
    title="Weight standardization",
    level="core",
    reference=standardize_weights,
    why="An output channel is a weighted sum over input channels and positions, so those "
    "three axes share a statistic. The data play no part: it folds away after training.",
    mistakes=variants(
        for_each_input_channel,
        for_each_filter_plane,
        all_weights_together,
        each_position_of_the_filter,
        unbiased_variance,
        eps_outside_root,
        not_centred,
    ),
    alternatives=(flattened, one_output_at_a_time),
    hints=(
        "Which weights enter the same weighted sum? Those share a mean and a variance.",
        "PyTorch's weights have the output channel first. Average over all other axes.",
    ),
    cases=(
        Case("3 outputs, 2 inputs, 3×3", (_weights(3, 2, 3, 3), 0.1), count=18),
        Case("2 outputs, 4 inputs, 2×2", (_weights(2, 4, 2, 2), 0.5), count=16),
        Case("4 outputs, 3 inputs, 1×1", (_weights(4, 3, 1, 1), 0.01), count=3),
    ),
    returns=("w_hat",),
    feature_axis=0,
)
