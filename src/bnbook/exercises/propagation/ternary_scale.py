"""Exercise: the best scale of each output."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def output_scales(w: np.ndarray, factor: float) -> np.ndarray:
    """The α of each output that brings α tern(w) closest to w, for Δ = factor · mean|w|.

    Args:
        w: latent weights, (outputs, inputs). Δ is one number for all of them.
        factor: at least 0.

    Returns:
        alpha, (outputs,); 0 for an output whose weights are all set to 0.
    """
    magnitude = np.abs(w)
    kept = magnitude > factor * magnitude.mean()
    return (magnitude * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def zeros_averaged(w, factor):
    """You average over all weights of the output, the zeros included. α multiplies only the weights
    that are kept, so divide by their number."""
    magnitude = np.abs(w)
    return (magnitude * (magnitude > factor * magnitude.mean())).mean(axis=1)


def binary_scale(w, factor):
    """You return the mean of |w|, the best scale for signs. Here the small weights become 0: average
    those above Δ only."""
    return np.abs(w).mean(axis=1)


def threshold_per_output(w, factor):
    """You compute a threshold for each output. Δ is one number: factor times the mean of |w| over the
    whole layer."""
    magnitude = np.abs(w)
    kept = magnitude > factor * magnitude.mean(axis=1, keepdims=True)
    return (magnitude * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def one_for_the_layer(w, factor):
    """You give all outputs the same scale, that of the layer. Average over each output's own weights."""
    magnitude = np.abs(w)
    kept = magnitude > factor * magnitude.mean()
    return np.full(len(w), magnitude[kept].mean())


def signs_cancel(w, factor):
    """You average the weights that are kept with their signs, and they cancel. Average |w|."""
    magnitude = np.abs(w)
    kept = magnitude > factor * magnitude.mean()
    return (w * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def same_mean_square(w, factor):
    """You choose α so that the mean square of the kept weights is preserved. The closest α is their
    mean magnitude, which is smaller."""
    magnitude = np.abs(w)
    kept = magnitude > factor * magnitude.mean()
    return np.sqrt((w * w * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1))


def not_divided(w, factor):
    """You return the sum of the magnitudes that are kept. Divide by their number."""
    magnitude = np.abs(w)
    return (magnitude * (magnitude > factor * magnitude.mean())).sum(axis=1)


def ends_kept(w, factor):
    """You keep the weights with |w| = Δ as well. The ends belong to the middle: tern(w) is 0 for
    |w| ≤ Δ, so a weight is kept where |w| > Δ."""
    magnitude = np.abs(w)
    kept = magnitude >= factor * magnitude.mean()
    return (magnitude * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def ends_kept_as_signs(w, factor):
    """You give ±1 to weights with |w| = Δ, other than 0. The ends belong to the middle: tern(w) is 0
    for |w| ≤ Δ."""
    t = np.sign(w) * (np.abs(w) >= factor * np.abs(w).mean())
    return (w * t).sum(axis=1) / np.maximum((t * t).sum(axis=1), 1)


def threshold_is_factor(w, factor):
    """You compare |w| with the factor itself. Δ is the factor times the mean of |w| over the layer."""
    magnitude = np.abs(w)
    kept = magnitude > factor
    return (magnitude * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)


def by_projection(w, factor):
    """The same: α = w·t/t·t, the projection of a row of weights on its levels."""
    t = np.sign(w) * (np.abs(w) > factor * np.abs(w).mean())
    return np.array([row @ s / max(s @ s, 1) for row, s in zip(w, t, strict=True)])


_rng = np.random.default_rng(602)
_sparse = _rng.normal(size=(4, 5)) * np.array([3.0, 1.0, 1e-3, 1.0])[:, None]

EXERCISE = FunctionExercise(
    id="ternary-scale",
    chapter="propagation/ternary",
    title="A scale for each output",
    level="core",
    reference=output_scales,
    why="For fixed levels t the error of a row is a parabola in α with its minimum at w·t/t·t, the mean "
    "magnitude of the weights that are kept.",
    mistakes=variants(
        zeros_averaged,
        binary_scale,
        threshold_per_output,
        one_for_the_layer,
        signs_cancel,
        same_mean_square,
        not_divided,
        ends_kept,
        ends_kept_as_signs,
        threshold_is_factor,
    ),
    alternatives=(by_projection,),
    hints=(
        "Compute one Δ for the whole array, and from it an array of booleans: which weights are kept.",
        "α of a row is the sum of |w| over its kept weights, divided by their number. Where that number "
        "is 0, divide by 1.",
    ),
    cases=(
        Case("3 outputs, 6 inputs", (0.5 * _rng.normal(size=(3, 6)), 0.7)),
        Case("signs: factor 0", (_rng.normal(size=(2, 5)), 0.0)),
        Case(
            "factor 0, one weight is 0",
            (np.array([[1.0, -2.0, 0.0], [0.5, 1.5, -1.0]]), 0.0),
            "Δ is 0, and so is one weight.",
        ),
        Case(
            "factor 1, weights at ±Δ",
            (np.array([[0.5, -0.5, 0.5, -0.5], [1.0, 0.5, -0.25, 0.25]]), 1.0),
            "some weights are exactly ±Δ.",
        ),
        Case(
            "an output of small weights",
            (_sparse, 0.7),
            "the outputs differ in size, and the third has only weights far below Δ.",
        ),
    ),
    returns=("alpha",),
)
