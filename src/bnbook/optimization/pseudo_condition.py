"""H* = H − ggᵀ/(uᵀHu), which governs the direction of a normalized weight, and its spectrum."""

import math

import numpy as np

from bnbook.optimization.least_squares import Problem


def h_star(problem: Problem) -> np.ndarray:
    """H − ggᵀ/(uᵀHu), (d, d), symmetric, with H*u = 0.

    Raises:
        ValueError: g is 0, so that u is 0 and no direction is better than another.

    Source: Morwani (2020), §2; Cai et al. (2019), §3.
    """
    if problem.explained == 0:
        raise ValueError("g is 0: the solution u has no direction; x must explain y")
    g = problem.g
    return problem.hessian - np.outer(g, g) / problem.explained


def star_eigenvalues(problem: Problem) -> np.ndarray:
    """The d − 1 eigenvalues of H* across u, descending.

    They are those of H* on the plane u⊥, which leaves out the exact 0 along u.

    Raises:
        ValueError: d < 2, or g is 0.
    """
    if len(problem.g) < 2:
        raise ValueError("with one input there is no direction to find; use d ≥ 2")
    star = h_star(problem)
    basis = np.linalg.svd(problem.u[None])[2][1:]  # orthonormal rows across u
    return np.linalg.eigvalsh(basis @ star @ basis.T)[::-1]


def pseudo_kappa(problem: Problem) -> float:
    """κ*: the largest over the smallest of `star_eigenvalues`."""
    values = star_eigenvalues(problem)
    return float(values[0] / values[-1])


def linear_map(
    problem: Problem, *, rate_gamma: float, rate_w: float, scale: float
) -> np.ndarray:
    """Jacobian of one step at the solution γ = √(uᵀHu), w = s·u, (d + 1, d + 1).

    In the order (γ, w₁ … w_d) it is 1 − η_γ beside the block I − (η_w/s²) H*.

    Args:
        problem: H, g and E y², with g not 0.
        rate_gamma: η_γ.
        rate_w: η_w.
        scale: s > 0.

    Raises:
        ValueError: scale is not positive, or g is 0.

    Source: Cai et al. (2019), §3, in the book's letters.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}; w = scale · u")
    d = len(problem.g)
    jacobian = np.zeros((d + 1, d + 1))
    jacobian[0, 0] = 1 - rate_gamma
    jacobian[1:, 1:] = np.eye(d) - rate_w / scale**2 * h_star(problem)
    return jacobian


def shares(problem: Problem) -> np.ndarray:
    """p_i = λ_i u_i²/(uᵀHu): what each principal direction explains of uᵀHu, (d,).

    In the order of `Problem.eigenvalues`. The sum is 1.
    """
    values, vectors = np.linalg.eigh(problem.hessian)
    parts = values * (vectors.T @ problem.u) ** 2
    return (parts / parts.sum())[::-1]


def spectrum(dimension: int, kappa: float) -> np.ndarray:
    """Eigenvalues from 1 down to 1/κ at equal distances on a log scale, (dimension,).

    Raises:
        ValueError: dimension is below 2, or kappa below 1 or not finite.
    """
    if dimension < 2 or not 1 <= kappa < math.inf:
        raise ValueError(
            f"dimension must be at least 2 and kappa at least 1, got {dimension}, {kappa}"
        )
    return np.geomspace(1, 1 / kappa, dimension)


def random_problem(
    eigenvalues: np.ndarray, seed: int, *, isotropic: str = "u"
) -> Problem:
    """A problem without noise in y, with these eigenvalues in random directions.

    Args:
        eigenvalues: of H, positive, (d,).
        seed: of the directions and of u or g.
        isotropic: "u", if the solution is uniform on the unit sphere, or "g", if E xy is.

    Raises:
        ValueError: isotropic is something else, or an eigenvalue is not positive.
    """
    if isotropic not in ("u", "g"):
        raise ValueError(f'isotropic must be "u" or "g", got {isotropic!r}')
    rng = np.random.default_rng([seed, len(eigenvalues)])
    q, r = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))
    q *= np.sign(np.diag(r))  # makes the rotation uniform
    hessian = (q * eigenvalues) @ q.T
    direction = rng.normal(size=len(eigenvalues))
    direction /= np.linalg.norm(direction)
    u = direction if isotropic == "u" else (q / eigenvalues) @ (q.T @ direction)
    return Problem.from_solution((hessian + hessian.T) / 2, u)
