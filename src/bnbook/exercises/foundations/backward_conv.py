"""Exercise: the gradient of the input for images."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def batch_norm_conv_dx(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    """Gradient of the loss with respect to the input of batch normalization, for images.

    Args:
        dy: upstream gradient g = ∂L/∂y, (N, C, H, W).
        x: the batch, (N, C, H, W).
        gamma: scale γ, (C,).
        eps: ε of the normalization.

    Returns:
        dx = ∂L/∂x, (N, C, H, W).
    """
    axes = (0, 2, 3)
    std = np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    z_hat = (x - x.mean(axis=axes, keepdims=True)) / std
    mean_dy = dy.mean(axis=axes, keepdims=True)
    mean_dy_z_hat = (dy * z_hat).mean(axis=axes, keepdims=True)
    return gamma[:, None, None] / std * (dy - mean_dy - z_hat * mean_dy_z_hat)


def _dx(dy, x, gamma, eps, axes=(0, 2, 3), means=None, ddof=0, keep=True):
    std = np.sqrt(x.var(axis=axes, keepdims=keep, ddof=ddof) + eps)
    z_hat = (x - x.mean(axis=axes, keepdims=keep)) / std
    means = means or (lambda array: array.mean(axis=axes, keepdims=keep))
    return gamma / std * (dy - means(dy) - z_hat * means(dy * z_hat))


def divided_by_images(dy, x, gamma, eps):
    """You divide the sums by N, the number of images. The batch of a channel is every pixel of every image,
    so the means divide by M = N·H·W."""
    return _dx(
        dy,
        x,
        gamma[:, None, None],
        eps,
        means=lambda a: a.sum(axis=(0, 2, 3), keepdims=True) / len(x),
    )


def sums_for_means(dy, x, gamma, eps):
    """You subtract sums where means belong: both statistics are means over N·H·W values, so each path
    carries 1/(N·H·W)."""
    return _dx(
        dy,
        x,
        gamma[:, None, None],
        eps,
        means=lambda a: a.sum(axis=(0, 2, 3), keepdims=True),
    )


def one_pixel_at_a_time(dy, x, gamma, eps):
    """You average over the images only (axis 0). All positions of a channel share its statistics: average
    over axes (0, 2, 3)."""
    return _dx(dy, x, gamma[:, None, None], eps, axes=(0,))


def one_image_at_a_time(dy, x, gamma, eps):
    """You average over the pixels of each image alone (axes 2 and 3): that is the backward pass of instance
    normalization. Include the batch axis: (0, 2, 3)."""
    return _dx(dy, x, gamma[:, None, None], eps, axes=(2, 3))


def gradient_means_per_pixel(dy, x, gamma, eps):
    """Your statistics run over axes (0, 2, 3), and your means of g and g ẑ over axis 0 alone. A pixel
    changes the statistics of the whole channel, so all means run over the same axes."""
    return _dx(
        dy, x, gamma[:, None, None], eps, means=lambda a: a.mean(axis=0, keepdims=True)
    )


def mean_path_dropped(dy, x, gamma, eps):
    """You drop the path through the mean: subtract the mean of g over axes (0, 2, 3) too."""
    dx = batch_norm_conv_dx(dy, x, gamma, eps)
    std = np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + eps)
    return dx + gamma[:, None, None] / std * dy.mean(axis=(0, 2, 3), keepdims=True)


def variance_path_dropped(dy, x, gamma, eps):
    """Your path through the variance is missing or 0: subtract ẑ times the mean of g ẑ over axes (0, 2, 3)
    too. Note that mean(g) · mean(ẑ) is 0 and not mean(g ẑ)."""
    std = np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + eps)
    return gamma[:, None, None] / std * (dy - dy.mean(axis=(0, 2, 3), keepdims=True))


def detached_statistics(dy, x, gamma, eps):
    """You treat μ and σ² as constants and keep the direct path alone. They are computed from this batch:
    add the paths through the mean and the variance."""
    return (
        gamma[:, None, None] / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + eps) * dy
    )


def over_the_channels(dy, x, gamma, eps):
    """You average over channels and pixels of each image (axes 1, 2 and 3): that is the backward pass of
    layer normalization. Batch normalization averages over (0, 2, 3) and keeps the channels apart."""
    return _dx(dy, x, gamma[:, None, None], eps, axes=(1, 2, 3))


def reshaped_without_moving(dy, x, gamma, eps):
    """You reshape (N, C, H, W) to (−1, C). That cuts the numbers in the order in which they lie, so a column
    is no channel: move the channels to the last axis first, `np.moveaxis(x, 1, -1)`, and back at the
    end."""
    flat, g = x.reshape(-1, x.shape[1]), dy.reshape(-1, x.shape[1])
    return _dx(g, flat, gamma, eps, axes=(0,)).reshape(x.shape)


def statistics_along_width(dy, x, gamma, eps):
    """You use statistics of shape (C,) directly. NumPy lines shapes up from the right, so they run along the
    width: that raises where W ≠ C, and is silently wrong where W = C. Keep the averaged axes with
    `keepdims=True`."""
    return _dx(dy, x, gamma[:, None, None], eps, keep=False)


def everything_along_width(dy, x, gamma, eps):
    """You use the statistics and γ with the shape (C,). NumPy lines shapes up from the right, so all of them
    run along the width: that raises where W ≠ C, and is silently wrong where W = C. Keep the averaged axes
    with `keepdims=True`, and give γ the shape (C, 1, 1)."""
    return _dx(dy, x, gamma, eps, keep=False)


def gamma_along_width(dy, x, gamma, eps):
    """You multiply by γ of shape (C,) directly. NumPy lines shapes up from the right, so γ runs along the
    width: it raises where W ≠ C, and is silently wrong where W = C. Give γ the shape (C, 1, 1)."""
    return _dx(dy, x, gamma, eps)


def gamma_lost(dy, x, gamma, eps):
    """You leave out γ: the gradient passes through y = γẑ + β first, so dx carries a factor γ."""
    return batch_norm_conv_dx(dy, x, np.ones_like(gamma), eps)


def eps_outside_root(dy, x, gamma, eps):
    """You divide by σ + ε. It is √(σ² + ε), with ε inside the root."""
    axes = (0, 2, 3)
    std = x.std(axis=axes, keepdims=True) + eps
    z_hat = (x - x.mean(axis=axes, keepdims=True)) / std
    means = dy.mean(axis=axes, keepdims=True) + z_hat * (dy * z_hat).mean(
        axis=axes, keepdims=True
    )
    return gamma[:, None, None] / std * (dy - means)


def unbiased_variance(dy, x, gamma, eps):
    """You use the variance with N·H·W − 1. The normalization divides by N·H·W: no `ddof`."""
    return _dx(dy, x, gamma[:, None, None], eps, ddof=1)


def by_moving_the_channels(dy, x, gamma, eps):
    """The same: channels moved last, everything else flattened, as for dense data."""
    shape = np.moveaxis(x, 1, -1).shape
    g, flat = (np.moveaxis(array, 1, -1).reshape(-1, x.shape[1]) for array in (dy, x))
    std = np.sqrt(flat.var(0) + eps)
    z_hat = (flat - flat.mean(0)) / std
    dx = gamma / std * (g - g.mean(0) - z_hat * (g * z_hat).mean(0))
    return np.moveaxis(dx.reshape(shape), -1, 1)


def one_channel_at_a_time(dy, x, gamma, eps):
    """The same, with a loop over the channels."""
    out = np.zeros(x.shape)
    for c in range(x.shape[1]):
        g, channel = dy[:, c], x[:, c]
        v = channel.var() + eps
        centred = channel - channel.mean()
        out[:, c] = (
            gamma[c] * v**-0.5 * (g - g.mean() - centred * (g * centred).mean() / v)
        )
    return out


_rng = np.random.default_rng(206)


def _images(gamma, eps, *shape):
    offsets = _rng.normal(0.0, 2.0, size=(shape[0], shape[1], 1, 1))
    x = 1.5 + offsets + _rng.normal(0.0, 1.2, size=shape)
    return _rng.normal(0.4, 1.0, size=shape), x, np.array(gamma), eps


EXERCISE = FunctionExercise(
    id="backward-conv",
    chapter="foundations/backward",
    title="The gradient of the input, for images",
    level="hard",
    reference=batch_norm_conv_dx,
    why="The closed form does not change: only the averages now run over M = N·H·W values, and every "
    "statistic keeps the shape (1, C, 1, 1).",
    mistakes=variants(
        divided_by_images,
        sums_for_means,
        one_pixel_at_a_time,
        one_image_at_a_time,
        gradient_means_per_pixel,
        mean_path_dropped,
        variance_path_dropped,
        detached_statistics,
        over_the_channels,
        reshaped_without_moving,
        statistics_along_width,
        everything_along_width,
        gamma_along_width,
        gamma_lost,
        eps_outside_root,
        unbiased_variance,
    ),
    alternatives=(by_moving_the_channels, one_channel_at_a_time),
    hints=(
        "Take the closed form for dense data and ask of each mean over the batch: which axes is it over now?",
        "All of them run over axes (0, 2, 3), with `keepdims=True`. M is the number of values behind a "
        "statistic, N·H·W.",
    ),
    cases=(
        Case(
            "3 channels, width 3",
            _images([1.5, -0.7, 2.2], 0.1, 2, 3, 4, 3),
            "as many channels as the images are wide.",
            24,
        ),
        Case(
            "2 channels, 2×4 pixels",
            _images([0.6, -1.8], 1.5, 3, 2, 2, 4),
            "as many channels as the images are high.",
            24,
        ),
        Case(
            "4 channels, 3×2 pixels",
            _images([1.2, 0.8, -2.1, 1.7], 0.2, 5, 4, 3, 2),
            "every axis has another length.",
            30,
        ),
    ),
    returns=("dx",),
    feature_axis=1,
)
