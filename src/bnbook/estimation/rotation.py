"""Fixed rotations of the channels, between a normalization and a nonlinearity."""

import numpy as np
import torch
from scipy.linalg import hadamard
from scipy.stats import ortho_group


def hadamard_rotation(size: int) -> torch.Tensor:
    """Hadamard's matrix over the root of its size: every entry is ±1/√size.

    Args:
        size: number of channels, a power of two.

    Returns:
        An orthogonal, symmetric matrix, (size, size), float64.

    Raises:
        ValueError: size is no power of two; Sylvester's construction needs one.
    """
    _require_size(size)
    if size & (size - 1):
        raise ValueError(
            f"Hadamard's matrix is built for powers of two, got {size} channels; "
            'use the random rotation, rotation="random"'
        )
    return torch.from_numpy(hadamard(size, dtype=np.float64) / np.sqrt(size))


def random_rotation(size: int, *, seed: int = 0) -> torch.Tensor:
    """An orthogonal matrix drawn from the uniform (Haar) distribution.

    Args:
        size: number of channels.
        seed: of the draw.

    Returns:
        (size, size), float64.
    """
    _require_size(size)
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        np.ascontiguousarray(ortho_group.rvs(size, random_state=rng))
    )


def make_rotation(
    kind: str | torch.Tensor | None, size: int, *, seed: int = 0
) -> torch.Tensor | None:
    """The rotation that a layer of `size` channels is to use.

    Args:
        kind: None, "hadamard", "random", or a matrix.
        size: number of channels.
        seed: of a random rotation.

    Returns:
        (size, size), float64, or None.

    Raises:
        TypeError: kind is none of these.
        ValueError: the name is unknown, the matrix is not orthogonal or of another size,
            or there is no Hadamard matrix of this size.
    """
    if kind is None:
        return None
    if isinstance(kind, torch.Tensor):
        matrix = kind.detach().double()
        if matrix.shape != (size, size):
            raise ValueError(
                f"the rotation must have shape ({size}, {size}), one row and column a "
                f"channel, got {tuple(matrix.shape)}"
            )
        error = (matrix @ matrix.T - torch.eye(size, dtype=torch.float64)).abs().max()
        if not error < 1e-5:
            raise ValueError(
                f"the rotation must be orthogonal, R Rᵀ = I; it is off by {error:.2g}. "
                "torch.linalg.qr(matrix).Q is an orthogonal matrix near it"
            )
        return matrix
    if not isinstance(kind, str):
        raise TypeError(
            f'rotation must be None, "hadamard", "random" or a matrix, got {type(kind).__name__}'
        )
    makers = {"hadamard": hadamard_rotation, "random": random_rotation}
    if kind not in makers:
        raise ValueError(
            f"unknown rotation {kind!r}; use one of {', '.join(makers)}, or a matrix"
        )
    return (
        random_rotation(size, seed=seed)
        if kind == "random"
        else hadamard_rotation(size)
    )


def rotate(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Multiply the channels of x, (M, C, …), by the matrix at every position."""
    return torch.einsum("oc,mc...->mo...", matrix, x)


def _require_size(size: int) -> None:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"the number of channels must be at least 1, got {size!r}")
