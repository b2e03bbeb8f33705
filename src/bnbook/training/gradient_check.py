"""Gradients of a whole network without backpropagation, to check it by."""

import numpy as np

from bnbook.training.network import Network, loss_and_gradients

COMPLEX_STEP = 1e-30  # its square vanishes beside 1, and nothing is subtracted
CENTRAL_STEP = 1e-5  # near the cube root of the roundoff in float64


def complex_step_gradients(
    network: Network, x: np.ndarray, t: np.ndarray, *, l2: float = 0.0
) -> dict[str, np.ndarray]:
    """∂L/∂p = Im L(p + i h)/h for every entry p of every parameter, one at a time.

    Exact to rounding where L is analytic, that is unless the input of a ReLU is 0.

    Args and errors as for `loss_and_gradients`; the network may be of any real dtype.

    Returns:
        name → gradient, float64, with the shape of the parameter.
    """
    return _entry_by_entry(
        network.astype(complex),
        lambda probe, step: loss_and_gradients(probe, x, t, l2=l2)[0].imag / step,
        (1j * COMPLEX_STEP,),
        COMPLEX_STEP,
    )


def central_differences(
    network: Network, x: np.ndarray, t: np.ndarray, *, l2: float = 0.0
) -> dict[str, np.ndarray]:
    """∂L/∂p ≈ (L(p + h) − L(p − h))/2h for every entry p of every parameter.

    Good to about ten digits, unless a ReLU switches within h. Args, errors and result
    as for `complex_step_gradients`.
    """
    return _entry_by_entry(
        network.astype(np.float64),
        lambda probe, step: loss_and_gradients(probe, x, t, l2=l2)[0] / (2 * step),
        (CENTRAL_STEP, -CENTRAL_STEP),
        CENTRAL_STEP,
    )


def _entry_by_entry(probe: Network, share, moves: tuple, step: float) -> dict:
    """Add up, for each entry, the loss after each move, with the sign of the move."""
    gradients = {}
    for name, value in probe.parameters.items():
        found = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            for sign, move in zip((1, -1), moves, strict=False):
                moved = value.copy()
                moved[index] += move
                probe.parameters[name] = moved
                found[index] += sign * share(probe, step)
        probe.parameters[name] = value
        gradients[name] = found
    return gradients


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """All entries of the named arrays in one vector, in the order of the names."""
    return np.concatenate([np.ravel(value) for value in arrays.values()])
