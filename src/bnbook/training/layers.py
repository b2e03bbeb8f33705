"""The layers of a fully connected network, forward beside backward.

Each forward function returns its output and a small frozen cache; the backward function
turns the gradient of the output and that cache into gradients of the inputs. Batch
normalization is the book's own, from `bnbook.foundations`. Every function is analytic
where it is differentiable, so that it can be differentiated by the complex-step method.
Input is taken as checked: `bnbook.training.network` checks it once.
"""

from dataclasses import dataclass

import numpy as np

from bnbook.foundations.inference import RunningStatistics


@dataclass(frozen=True)
class LinearCache:
    """What `linear_backward` needs.

    Attributes:
        a: the input, (M, D_in).
        w: the weights W, (D_in, D_out).
        biased: whether there was a bias.
    """

    a: np.ndarray
    w: np.ndarray
    biased: bool


@dataclass(frozen=True)
class LinearGrads:
    """da, (M, D_in); dw, (D_in, D_out); db, (D_out,), or None without a bias."""

    da: np.ndarray
    dw: np.ndarray
    db: np.ndarray | None


def linear(
    a: np.ndarray, w: np.ndarray, b: np.ndarray | None = None
) -> tuple[np.ndarray, LinearCache]:
    """Weighted sums z = a W + b, one example in each row.

    Args:
        a: input, (M, D_in).
        w: weights W, (D_in, D_out): the transpose of PyTorch's.
        b: bias, (D_out,); None for none, as before batch normalization.

    Returns:
        z, (M, D_out), and the cache for `linear_backward`.

    Source: Yu (2021), Eq. (1), which writes W x for a column x.
    """
    z = a @ w
    if b is not None:
        z += b
    return z, LinearCache(a, w, b is not None)


def linear_backward(dz: np.ndarray, cache: LinearCache) -> LinearGrads:
    """Gradients of the inputs of `linear`: da = dz Wᵀ, dW = aᵀ dz, db = Σ_m dz.

    Args:
        dz: ∂L/∂z, (M, D_out).
        cache: what `linear` returned beside z.
    """
    db = dz.sum(axis=0) if cache.biased else None
    return LinearGrads(dz @ cache.w.T, cache.a.T @ dz, db)


@dataclass(frozen=True)
class ReluCache:
    """What `relu_backward` needs: the output a, which the next layer keeps anyway."""

    a: np.ndarray


def relu(y: np.ndarray) -> tuple[np.ndarray, ReluCache]:
    """a = max(y, 0), the shape of y. NaN stays NaN; of complex y the real part decides."""
    a = np.maximum(y, 0) if y.dtype.kind == "f" else np.where(y.real <= 0, 0, y)
    return a, ReluCache(a)


def relu_backward(da: np.ndarray, cache: ReluCache) -> np.ndarray:
    """dy = da where y > 0, else 0; at y = 0, where there is no derivative, too."""
    return da * (cache.a.real > 0)


def running_affine(
    running: RunningStatistics, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of batch normalization at inference: y = scale · z + shift.

    scale = γ/√(var + ε) and shift = β − scale · mean, with the running statistics.

    Args:
        running: of D features.
        gamma: scale γ, (D,).
        beta: shift β, (D,).
        eps: ε ≥ 0.

    Returns:
        scale and shift, (D,), with the dtype of γ.

    Raises:
        ValueError: no batch has been seen yet.

    Source: Yu (2021), Eqs. (15) and (3).
    """
    scale = gamma / np.sqrt(running.var + eps)
    shift = beta - scale * running.mean
    return scale.astype(gamma.dtype), shift.astype(gamma.dtype)
