"""From the readable batch normalization to the fast one, a step at a time.

Each function makes a forward and a backward pass over an (M, D) batch and returns dx.
They differ in how they go through memory and, by rounding, in the last digits.
"""

from collections.abc import Callable

import numpy as np

from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.training.fast_batch_norm import fast_batch_norm, fast_batch_norm_backward

EPS = 1e-5


def readable(x, gamma, beta, dy, arrays):
    """The functions of `bnbook.foundations`: float64 inside, checks at every turn."""
    _, cache = batch_norm(x, gamma, beta, eps=EPS)
    return batch_norm_backward(dy, cache).dx


def same_dtype(x, gamma, beta, dy, arrays):
    """The same formulas in the dtype of x: half the bytes."""
    mean = x.mean(axis=0)
    centred = x - mean
    std = np.sqrt((centred * centred).mean(axis=0) + EPS)
    z_hat = centred / std
    gamma * z_hat + beta
    dgamma = (dy * z_hat).mean(axis=0)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * dgamma)


def reductions(x, gamma, beta, dy, arrays):
    """Sums by `einsum` and by products with ones: no array of squares or products."""
    rows = len(x)
    ones = np.full(rows, 1 / rows, x.dtype)
    centred = x - ones @ x
    std = np.sqrt(np.einsum("md,md->d", centred, centred) / rows + EPS)
    gamma / std * centred + beta
    dgamma = np.einsum("md,md->d", dy, centred) / (rows * std)
    return gamma / std * (dy - ones @ dy - centred * (dgamma / std))


def buffers(x, gamma, beta, dy, arrays):
    """Two numbers a feature, results written into two arrays that are there already."""
    y, dx = arrays
    rows = len(x)
    ones = np.full(rows, 1 / rows, x.dtype)
    mean = ones @ x
    std = np.sqrt(np.einsum("md,md->d", x, x) / rows - mean**2 + EPS)
    scale = gamma / std
    np.multiply(x, scale, out=y)
    np.add(y, beta - scale * mean, out=y)
    dbeta = ones @ dy
    dgamma = (np.einsum("md,md->d", dy, x) / rows - mean * dbeta) / std
    np.multiply(x, -dgamma / std, out=dx)
    np.add(dx, mean * dgamma / std - dbeta, out=dx)
    np.add(dx, dy, out=dx)
    return np.multiply(dx, scale, out=dx)


def blocks(x, gamma, beta, dy, arrays, threads=1):
    """The fast functions: the same passes, a block of rows at a time.

    With None for an array they allocate it, as PyTorch does.
    """
    y, dx = arrays
    _, cache = fast_batch_norm(x, gamma, beta, eps=EPS, threads=threads, out=y)
    return fast_batch_norm_backward(dy, cache, threads=threads, out=dx).dx


STEPS: tuple[Callable, ...] = (readable, same_dtype, reductions, buffers, blocks)
