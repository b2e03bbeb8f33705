"""Exercise: one step of power iteration beside the vectors already found."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def deflated_step(
    hessian: np.ndarray, found: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """One step of power iteration in the space orthogonal to the vectors found.

    With P the projection onto that space: w = Pv/‖Pv‖, and what is done with P H w.

    Args:
        hessian: H, symmetric, (n, n).
        found: orthonormal vectors, one a row, (r, n); r may be 0.
        v: (n,), not in their span.

    Returns:
        after: P H w/‖P H w‖, the next vector, (n,).
        value: the Rayleigh quotient w·Hw.
        residual: ‖P H w − value w‖.
    """
    w = v - found.T @ (found @ v)
    w = w / np.linalg.norm(w)
    product = hessian @ w
    product = product - found.T @ (found @ product)
    value = w @ product
    after = product / np.linalg.norm(product)
    return after, float(value), float(np.linalg.norm(product - value * w))


def not_deflated(hessian, found, v):
    """You do not remove the vectors found. The step goes back to the largest eigenvalue."""
    return deflated_step(hessian, found[:0], v)


def only_before(hessian, found, v):
    """You project before the product and not after it. Vectors that are found only approximately let H
    lead out of the space: project the product too."""
    w = v - found.T @ (found @ v)
    w = w / np.linalg.norm(w)
    product = hessian @ w
    value = w @ product
    after = product / np.linalg.norm(product)
    return after, float(value), float(np.linalg.norm(product - value * w))


def not_normalized(hessian, found, v):
    """You do not divide w by its norm: the quotient needs a unit vector."""
    w = v - found.T @ (found @ v)
    product = hessian @ w
    product = product - found.T @ (found @ product)
    value = w @ product
    after = product / np.linalg.norm(product)
    return after, float(value), float(np.linalg.norm(product - value * w))


def length_as_value(hessian, found, v):
    """You take ‖P H w‖ for the eigenvalue. That loses the sign, and is right only at the end."""
    after, _, _ = deflated_step(hessian, found, v)
    w = v - found.T @ (found @ v)
    w = w / np.linalg.norm(w)
    product = hessian @ w
    product = product - found.T @ (found @ product)
    size = np.linalg.norm(product)
    return after, float(size), float(np.linalg.norm(product - size * w))


def residual_of_steps(hessian, found, v):
    """Your residual is ‖after − w‖, how far the vector moved. It is not ‖P H w − value w‖, and it does not
    vanish for a negative eigenvalue, where the vector flips its sign."""
    after, value, _ = deflated_step(hessian, found, v)
    w = v - found.T @ (found @ v)
    w = w / np.linalg.norm(w)
    return after, value, float(np.linalg.norm(after - w))


def by_projector(hessian, found, v):
    """The same, with the matrix P and the deflated matrix PHP."""
    p = np.eye(len(v)) - found.T @ found
    w = p @ v / np.linalg.norm(p @ v)
    deflated = p @ hessian @ p
    after = deflated @ w
    value = w @ after
    residual = np.linalg.norm(after - value * w)
    return after / np.linalg.norm(after), float(value), float(residual)


_rng = np.random.default_rng(804)


def _case(n, r, name, note=""):
    a = _rng.normal(size=(n, n))
    rows = np.linalg.qr(_rng.normal(size=(n, n)))[0][:r]
    return Case(name, (a + a.T, rows, _rng.normal(size=n)), note)


EXERCISE = FunctionExercise(
    id="landscape-deflation",
    chapter="optimization/landscape",
    title="One step of the slow method",
    level="core",
    reference=deflated_step,
    why="Deflation looks for the eigenvalues of PHP, whose eigenvectors beside the found ones are those of H. "
    "The residual bounds the distance to an eigenvalue of PHP.",
    mistakes=variants(
        not_deflated, only_before, not_normalized, length_as_value, residual_of_steps
    ),
    alternatives=(by_projector,),
    hints=(
        "P v = v − Σ (u·v) u over the vectors found: found.T @ (found @ v).",
        "Project, normalize, multiply by H, project again; then quotient, residual, and normalize.",
    ),
    cases=(
        _case(6, 2, "6 parameters, two vectors found"),
        _case(5, 0, "the first vector", "nothing has been found yet."),
        _case(4, 2, "4 parameters, two vectors found"),
    ),
    returns=("after", "value", "residual"),
)
