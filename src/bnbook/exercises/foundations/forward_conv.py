"""Exercise: batch normalization of images, one mean and one variance per channel."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def batch_norm_conv(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """Batch normalization of images: all pixels of all images of a channel share one μ and one σ².

    Args:
        x: the batch, (N, C, H, W).
        gamma: scale γ, (C,).
        beta: shift β, (C,).
        eps: ε ≥ 0, added to the variance.

    Returns:
        y, (N, C, H, W).
    """
    axes = (0, 2, 3)
    centred = x - x.mean(axis=axes, keepdims=True)
    z_hat = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    return gamma[:, None, None] * z_hat + beta[:, None, None]


def _normalized(x, eps, axes, ddof=0):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(
        x.var(axis=axes, keepdims=True, ddof=ddof) + eps
    )


def _affine(z_hat, gamma, beta):
    return gamma[:, None, None] * z_hat + beta[:, None, None]


def one_pixel_at_a_time(x, gamma, beta, eps):
    """You average over the images only (axis 0), so each pixel has its own statistics. A filter is shared
    by all positions, and so are its statistics: average over axes (0, 2, 3)."""
    return _affine(_normalized(x, eps, 0), gamma, beta)


def one_image_at_a_time(x, gamma, beta, eps):
    """You average over the pixels of each image alone (axes 2 and 3): that is instance normalization.
    Include the batch axis: (0, 2, 3)."""
    return _affine(_normalized(x, eps, (2, 3)), gamma, beta)


def all_channels_together(x, gamma, beta, eps):
    """You take one mean and one variance of the whole array. Each channel has its own: leave axis 1 out of
    the averaged axes."""
    return _affine(_normalized(x, eps, (0, 1, 2, 3)), gamma, beta)


def over_the_channels(x, gamma, beta, eps):
    """You average over channels and pixels of each image (axes 1, 2 and 3): that is layer normalization.
    Batch normalization averages over axes (0, 2, 3) and keeps the channels apart."""
    return _affine(_normalized(x, eps, (1, 2, 3)), gamma, beta)


def channels_last(x, gamma, beta, eps):
    """You average over axes (0, 1, 2), as if the channels came last. Here x is (N, C, H, W): the channels
    are axis 1, so average over (0, 2, 3)."""
    return _affine(_normalized(x, eps, (0, 1, 2)), gamma, beta)


def statistics_along_width(x, gamma, beta, eps):
    """You subtract statistics of shape (C,) directly. NumPy lines shapes up from the right, so they run
    along the width: that raises where W ≠ C, and is silently wrong where W = C. Keep the averaged axes with
    `keepdims=True`."""
    axes = (0, 2, 3)
    return _affine(
        (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + eps), gamma, beta
    )


def everything_along_width(x, gamma, beta, eps):
    """You use the statistics, γ and β with the shape (C,). NumPy lines shapes up from the right, so all of
    them run along the width: that raises where W ≠ C, and is silently wrong where W = C. Keep the averaged
    axes with `keepdims=True`, and give γ and β the shape (C, 1, 1)."""
    axes = (0, 2, 3)
    return gamma * (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + eps) + beta


def shift_along_width(x, gamma, beta, eps):
    """You give γ the shape (C, 1, 1) and β none: β of shape (C,) runs along the width. That raises where W
    ≠ C, and is silently wrong where W = C. Give β the shape (C, 1, 1) too."""
    return gamma[:, None, None] * _normalized(x, eps, (0, 2, 3)) + beta


def reshaped_without_moving(x, gamma, beta, eps):
    """You reshape (N, C, H, W) to (−1, C). That cuts the numbers in the order in which they lie, so a column
    is no channel: move the channels to the last axis first, `np.moveaxis(x, 1, -1)`, and back at the
    end."""
    flat = x.reshape(-1, x.shape[1])
    z_hat = (flat - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0) + eps)
    return (gamma * z_hat + beta).reshape(x.shape)


def divided_by_images(x, gamma, beta, eps):
    """You divide the sums by N, the number of images. The batch of a channel is every pixel of every image:
    both means divide by N·H·W."""
    axes = (0, 2, 3)
    centred = x - x.sum(axis=axes, keepdims=True) / len(x)
    var = (centred**2).sum(axis=axes, keepdims=True) / len(x)
    return _affine(centred / np.sqrt(var + eps), gamma, beta)


def variance_divided_by_images(x, gamma, beta, eps):
    """You divide the squared deviations by N, the number of images. Every pixel of every image has one:
    divide by N·H·W."""
    axes = (0, 2, 3)
    centred = x - x.mean(axis=axes, keepdims=True)
    var = (centred**2).sum(axis=axes, keepdims=True) / len(x)
    return _affine(centred / np.sqrt(var + eps), gamma, beta)


def parameters_along_width(x, gamma, beta, eps):
    """You multiply by γ of shape (C,) directly. NumPy lines shapes up from the right, so γ runs along the
    width: it raises where W ≠ C, and is silently wrong where W = C. Give γ and β the shape (C, 1, 1)."""
    return gamma * _normalized(x, eps, (0, 2, 3)) + beta


def parameters_along_height(x, gamma, beta, eps):
    """You give γ and β the shape (C, 1). NumPy lines shapes up from the right, so they run along the
    height. They need an axis of length 1 for the height and one for the width: (C, 1, 1)."""
    return gamma[:, None] * _normalized(x, eps, (0, 2, 3)) + beta[:, None]


def mean_of_image_variances(x, gamma, beta, eps):
    """Your variance is the mean of the variances within each image. It misses the spread between the
    images' means: square x − μ with the mean of the channel, and average over (0, 2, 3) at once."""
    var = x.var(axis=(2, 3), keepdims=True).mean(axis=0, keepdims=True)
    return _affine(
        (x - x.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(var + eps), gamma, beta
    )


def unbiased_variance(x, gamma, beta, eps):
    """You divide the squared deviations by N·H·W − 1. The batch variance divides by their number, N·H·W: no
    `ddof`."""
    return _affine(_normalized(x, eps, (0, 2, 3), ddof=1), gamma, beta)


def eps_outside_root(x, gamma, beta, eps):
    """You add ε outside the root, σ + ε. It belongs inside: √(σ² + ε)."""
    axes = (0, 2, 3)
    z_hat = (x - x.mean(axis=axes, keepdims=True)) / (
        x.std(axis=axes, keepdims=True) + eps
    )
    return _affine(z_hat, gamma, beta)


def by_moving_the_channels(x, gamma, beta, eps):
    """The same: channels moved last, everything else flattened, as for dense data."""
    flat = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    y = gamma * (flat - flat.mean(0)) / np.sqrt(flat.var(0) + eps) + beta
    return np.moveaxis(y.reshape(x.shape[0], x.shape[2], x.shape[3], x.shape[1]), -1, 1)


def one_channel_at_a_time(x, gamma, beta, eps):
    """The same, with a loop over the channels."""
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        channel = x[:, c]
        y[:, c] = (
            gamma[c] * (channel - channel.mean()) / np.sqrt(channel.var() + eps)
            + beta[c]
        )
    return y


_rng = np.random.default_rng(104)


def _images(*shape):
    offsets = _rng.normal(0.0, 2.0, size=(shape[0], shape[1], 1, 1))
    return 1.5 + offsets + _rng.normal(0.0, 1.2, size=shape)


EXERCISE = FunctionExercise(
    id="forward-conv",
    chapter="foundations/forward",
    title="Batch normalization of images",
    level="core",
    reference=batch_norm_conv,
    why="The batch of a channel is every pixel of every image, M = N·H·W values. `keepdims=True` keeps the"
    " statistics aligned with x, and γ and β need the shape (C, 1, 1) for the same reason.",
    mistakes=variants(
        one_pixel_at_a_time,
        one_image_at_a_time,
        all_channels_together,
        over_the_channels,
        channels_last,
        statistics_along_width,
        everything_along_width,
        parameters_along_width,
        shift_along_width,
        reshaped_without_moving,
        divided_by_images,
        variance_divided_by_images,
        parameters_along_height,
        mean_of_image_variances,
        unbiased_variance,
        eps_outside_root,
    ),
    alternatives=(by_moving_the_channels, one_channel_at_a_time),
    hints=(
        "Which axes are averaged away, if one mean per channel is to remain? `mean` and `var` accept a "
        "tuple of axes.",
        "With `keepdims=True` the statistics have shape (1, C, 1, 1) and subtract from x as they are.",
        "γ has shape (C,), and NumPy lines shapes up from the right. Make it (C, 1, 1) with `gamma[:, "
        "None, None]`.",
    ),
    cases=(
        Case(
            "3 channels, width 3",
            (
                _images(2, 3, 4, 3),
                np.array([1.5, -0.7, 2.2]),
                np.array([0.3, -1.1, 0.8]),
                0.1,
            ),
            "as many channels as the images are wide.",
            24,
        ),
        Case(
            "2 channels, height 2",
            (_images(3, 2, 2, 4), np.array([0.6, -1.8]), np.array([1.4, -0.5]), 0.5),
            "as many channels as the images are high.",
            24,
        ),
        Case(
            "4 channels, 3×2 pixels",
            (
                _images(5, 4, 3, 2),
                np.array([1.2, 0.8, -2.1, 1.7]),
                np.array([-0.4, 0.9, 1.6, 0.2]),
                0.2,
            ),
            "every axis has another length.",
            30,
        ),
    ),
    returns=("y",),
    feature_axis=1,
)
