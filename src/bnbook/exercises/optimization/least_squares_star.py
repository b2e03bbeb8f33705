"""Exercise: the pseudo-condition number."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def star_range(hessian: np.ndarray, g: np.ndarray) -> tuple[float, float]:
    """The extreme eigenvalues of H* = H − ggᵀ/(uᵀHu) across its null direction u = H⁻¹g.

    Their quotient is the pseudo-condition number κ* = largest/smallest.

    Args:
        hessian: H, (d, d), symmetric and positive definite, d ≥ 2.
        g: E xy, (d,), not 0.

    Returns:
        smallest: eigenvalue of H*, the 0 of the direction u left out.
        largest: eigenvalue of H*.
    """
    u = np.linalg.solve(hessian, g)
    values = np.linalg.eigvalsh(hessian - np.outer(g, g) / (u @ g))
    return values[1], values[-1]


def zero_kept(hessian, g):
    """You keep the 0 of the direction u, which rounding makes about 1e-16. κ* would be infinite, or noise
    of either sign. Along u the loss does not change: leave that eigenvalue out."""
    u = np.linalg.solve(hessian, g)
    values = np.linalg.eigvalsh(hessian - np.outer(g, g) / (u @ g))
    return values[0], values[-1]


def largest_first(hessian, g):
    """You return the two the other way round: the smallest comes first."""
    return star_range(hessian, g)[::-1]


def plain_range(hessian, g):
    """You take the eigenvalues of H itself. Their quotient is the condition number of plain gradient
    descent."""
    values = np.linalg.eigvalsh(hessian)
    return values[0], values[-1]


def divided_by_length(hessian, g):
    """You divide ggᵀ by gᵀg, which projects g out. The denominator is uᵀHu = gᵀu; only with it is
    H*u = 0."""
    values = np.linalg.eigvalsh(hessian - np.outer(g, g) / (g @ g))
    return values[1], values[-1]


def solution_projected(hessian, g):
    """You subtract uuᵀ/(uᵀHu). It is the gradient direction g = Hu that is subtracted, twice."""
    u = np.linalg.solve(hessian, g)
    values = np.linalg.eigvalsh(hessian - np.outer(u, u) / (u @ g))
    return values[1], values[-1]


def second_left_out(hessian, g):
    """You leave out too many eigenvalues. H* has d − 1 that are not 0, and all of them count."""
    u = np.linalg.solve(hessian, g)
    values = np.linalg.eigvalsh(hessian - np.outer(g, g) / (u @ g))
    return values[min(2, len(values) - 1)], values[-1]


def on_the_plane(hessian, g):
    """The same, on an orthonormal basis of the plane across u."""
    u = np.linalg.solve(hessian, g)
    basis = np.linalg.qr(np.column_stack([u, np.eye(len(u))]))[0][:, 1 : len(u)]
    values = np.linalg.eigvalsh(basis.T @ (hessian - np.outer(g, g) / (u @ g)) @ basis)
    return values[0], values[-1]


_rng = np.random.default_rng(902)
_factor = _rng.normal(size=(4, 4))

EXERCISE = FunctionExercise(
    id="least-squares-star",
    chapter="optimization/least_squares",
    title="The pseudo-condition number",
    level="core",
    reference=star_range,
    why="H*u = Hu − g (gᵀu)/(uᵀHu) = 0 exactly; the other d − 1 eigenvalues are positive, since "
    "vᵀH*v is the squared distance, in the metric H, of v from the line of u.",
    mistakes=variants(
        zero_kept,
        largest_first,
        plain_range,
        divided_by_length,
        solution_projected,
        second_left_out,
    ),
    alternatives=(on_the_plane,),
    hints=(
        "Solve for u first. uᵀHu is the same number as gᵀu.",
        "`np.linalg.eigvalsh` sorts ascending. The first eigenvalue of H* is the 0 of u.",
    ),
    cases=(
        Case(
            "4 inputs",
            (_factor @ _factor.T + 0.3 * np.eye(4), _rng.normal(size=4)),
            rtol=1e-9,
        ),
        Case(
            "3 inputs, H diagonal",
            (np.diag([5.0, 2.0, 0.4]), np.array([1.0, -0.5, 0.8])),
            rtol=1e-9,
        ),
        Case(
            "2 inputs",
            (np.diag([7.0, 0.2]), np.array([1.0, 2.0])),
            "for d = 2 one eigenvalue is left: it is the smallest and the largest.",
            rtol=1e-9,
        ),
    ),
    returns=("smallest", "largest"),
)
