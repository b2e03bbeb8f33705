"""Exercise: the Hessian of the same function at rescaled parameters."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def moved_hessian(
    hessian: np.ndarray, theta: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, float]:
    """The Hessian at Dθ of a loss with L(Dθ) = L(θ) for all θ, and a sharpness that stays.

    Args:
        hessian: H(θ), symmetric, (n, n).
        theta: θ, (n,), no entry 0.
        d: the diagonal of D, (n,), positive.

    Returns:
        moved: H(Dθ), (n, n).
        relative: largest eigenvalue of T H T with T = diag|θ|, the same at θ and at Dθ.
    """
    moved = hessian / np.outer(d, d)
    there = np.abs(d * theta)
    return moved, float(np.linalg.eigvalsh(there[:, None] * moved * there)[-1])


def multiplied(hessian, theta, d):
    """You multiply by D on both sides. Differentiate L(Dθ) = L(θ) twice by θ: D H(Dθ) D = H(θ), so
    H(Dθ) is H(θ) *divided* by d_i d_j."""
    return hessian * np.outer(d, d), moved_hessian(hessian, theta, d)[1]


def one_side(hessian, theta, d):
    """You divide on one side only. The second derivative brings one factor d for each of its two
    indices."""
    return hessian / d[:, None], moved_hessian(hessian, theta, d)[1]


def squares_everywhere(hessian, theta, d):
    """You divide row i by d_i². Entry (i, j) is divided by d_i d_j."""
    return hessian / d[:, None] ** 2, moved_hessian(hessian, theta, d)[1]


def raw_eigenvalue(hessian, theta, d):
    """Your second result is the largest eigenvalue of the moved Hessian, which depends on D."""
    moved = moved_hessian(hessian, theta, d)[0]
    return moved, float(np.linalg.eigvalsh(moved)[-1])


def eigenvalue_before(hessian, theta, d):
    """Your second result is the largest eigenvalue of H(θ) itself. It is not that of H(Dθ), so it is no
    sharpness that stays: put T = diag|θ| on both sides."""
    moved = moved_hessian(hessian, theta, d)[0]
    return moved, float(np.linalg.eigvalsh(hessian)[-1])


def largest_magnitude(hessian, theta, d):
    """You take the eigenvalue of the largest magnitude, or the spectral norm, which is the same. A
    negative one can win; asked for is the largest eigenvalue."""
    moved, there = moved_hessian(hessian, theta, d)[0], np.abs(theta)
    values = np.linalg.eigvalsh(there[:, None] * hessian * there)
    return moved, float(np.abs(values).max())


def whole_length(hessian, theta, d):
    """You multiply by ‖θ‖². That undoes one common factor, not a factor of its own for each
    parameter: use T = diag|θ|."""
    moved = moved_hessian(hessian, theta, d)[0]
    return moved, float(np.linalg.eigvalsh(moved)[-1] * (d * theta) @ (d * theta))


def old_place(hessian, theta, d):
    """You take T from θ and the Hessian from Dθ. Both belong to one point."""
    moved, there = moved_hessian(hessian, theta, d)[0], np.abs(theta)
    return moved, float(np.linalg.eigvalsh(there[:, None] * moved * there)[-1])


def by_matrices(hessian, theta, d):
    """The same with diagonal matrices, and the sharpness at θ instead of Dθ."""
    inverse, units = np.diag(1 / d), np.diag(theta)  # a sign in T changes no eigenvalue
    values = np.linalg.eigvalsh(units @ hessian @ units)
    return inverse @ hessian @ inverse, float(values.max())


_rng = np.random.default_rng(803)


def _symmetric(n):
    a = _rng.normal(size=(n, n))
    return a + a.T


EXERCISE = FunctionExercise(
    id="landscape-moved",
    chapter="optimization/landscape",
    title="The same function elsewhere",
    level="core",
    reference=moved_hessian,
    why="D H(Dθ) D = H(θ), and the units |Dθ| = D|θ| bring back each factor that D⁻¹ has taken.",
    mistakes=variants(
        multiplied,
        one_side,
        squares_everywhere,
        raw_eigenvalue,
        eigenvalue_before,
        largest_magnitude,
        whole_length,
        old_place,
    ),
    alternatives=(by_matrices,),
    hints=(
        "Differentiate L(Dθ) = L(θ) by θ_i, then by θ_j. The chain rule gives a d each time.",
        "H(Dθ) has the entries H_ij/(d_i d_j). At Dθ the units are d_i |θ_i|.",
    ),
    cases=(
        Case(
            "4 parameters",
            (_symmetric(4), _rng.normal(size=4), _rng.uniform(0.3, 3, 4)),
        ),
        Case(
            "one common factor",
            (_symmetric(3), _rng.normal(size=3), np.full(3, 2.0)),
            "all parameters get the same factor.",
        ),
        Case(
            "two of three stay",
            (_symmetric(3), np.array([-0.4, 1.0, 2.0]), np.array([5.0, 1.0, 1.0])),
        ),
    ),
    returns=("moved", "relative"),
)
