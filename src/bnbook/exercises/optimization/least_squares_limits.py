"""Exercise: the largest learning rates near the solution."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def rate_limits(
    hessian: np.ndarray, u: np.ndarray, w: np.ndarray
) -> tuple[float, float, float]:
    """Rates below which gradient descent is stable near the solution, for the loss E(…)².

    Mind that the loss is the mean square itself, not its half.

    Args:
        hessian: H = E xxᵀ, (d, d), symmetric and positive definite, d ≥ 2.
        u: the solution of least squares, (d,).
        w: the weight in front of the normalization, s·u with s > 0, (d,).

    Returns:
        plain: limit for w in E(y − xᵀw)².
        gamma: limit for γ in E(y − γ xᵀw/σ)².
        normalized: limit for w in the latter.
    """
    g = hessian @ u
    star = hessian - np.outer(g, g) / (u @ g)
    square = (w @ w) / (u @ u)  # s²
    top = np.linalg.eigvalsh(star)[-1]
    return 1 / np.linalg.eigvalsh(hessian)[-1], 1.0, square / top


def of_the_half(hessian, u, w):
    """Your limits are those of the halved loss. The Hessian of E(…)² is 2H, and the rule 2/λ_max means
    the largest eigenvalue of the Hessian of the loss that is used."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return 2 * plain, 2 * gamma, 2 * normalized


def plain_of_the_half(hessian, u, w):
    """Your plain limit is that of the halved loss, 2/λ_max(H). The Hessian of E(…)² is 2H: the factor 2
    cancels in all three."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return 2 * plain, gamma, normalized


def gamma_of_the_half(hessian, u, w):
    """Your limit for γ is that of the halved loss, 2. The Hessian of E(…)² by γ is 2 E(xᵀw/σ)² = 2, so
    the limit is 2/2."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return plain, 2 * gamma, normalized


def normalized_of_the_half(hessian, u, w):
    """Your limit for the normalized weight is that of the halved loss. The Hessian of E(…)² is 2H*/s²."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return plain, gamma, 2 * normalized


def scale_inverted(hessian, u, w):
    """You divide the limit by s². Longer weights have a smaller Hessian, H*/s², so they bear a larger
    rate: multiply, with s² = ‖w‖²/‖u‖²."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return plain, gamma, normalized * ((u @ u) / (w @ w)) ** 2


def h_for_star(hessian, u, w):
    """You use λ_max of H for the normalized weight. Along u the loss does not change: H* counts."""
    plain, gamma, _ = rate_limits(hessian, u, w)
    return plain, gamma, (w @ w) / (u @ u) * plain


def scale_forgotten(hessian, u, w):
    """Your limit for the normalized weight does not depend on its length. The gradient falls as 1/s
    and the weight grows as s, so the limit grows as s²."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return plain, gamma, normalized * (u @ u) / (w @ w)


def scale_not_squared(hessian, u, w):
    """You scale the limit by s. The Hessian by w is H*/s²: one s from the gradient and one from the
    length of w."""
    plain, gamma, normalized = rate_limits(hessian, u, w)
    return plain, gamma, normalized * np.sqrt((u @ u) / (w @ w))


def gamma_like_w(hessian, u, w):
    """You give γ the limit of w. The Hessian by γ is 2 E(xᵀw/σ)² = 2, whatever H is."""
    plain, _, normalized = rate_limits(hessian, u, w)
    return plain, normalized, normalized


def by_power_iteration(hessian, u, w):
    """The same, with the largest eigenvalues by repeated squaring."""
    g = hessian @ u
    star = hessian - np.outer(g, g) / (u @ g)

    def top(matrix):
        power = matrix / np.trace(matrix)
        for _ in range(60):
            power = power @ power
            power /= np.trace(power)
        return np.trace(power @ matrix)

    return 1 / top(hessian), 1.0, (w[0] / u[0]) ** 2 / top(star)


_rng = np.random.default_rng(903)
_factor, _u = _rng.normal(size=(4, 4)), _rng.normal(size=4)

EXERCISE = FunctionExercise(
    id="least-squares-limits",
    chapter="optimization/least_squares",
    title="Three limits",
    level="core",
    reference=rate_limits,
    why="A step multiplies an error by 1 − ηh, where h is an eigenvalue of the Hessian: 2H for the plain "
    "weight, 2 for γ, 2H*/s² for w. It shrinks for η < 2/h.",
    mistakes=variants(
        of_the_half,
        plain_of_the_half,
        gamma_of_the_half,
        normalized_of_the_half,
        h_for_star,
        scale_forgotten,
        scale_not_squared,
        scale_inverted,
        gamma_like_w,
    ),
    alternatives=(by_power_iteration,),
    hints=(
        "Write down the three Hessians at the solution. Which factor does the missing ½ bring?",
        "With w = s·u the Hessian by w is 2H*/s², and s² = ‖w‖²/‖u‖².",
    ),
    cases=(
        Case(
            "4 inputs, s = 3",
            (_factor @ _factor.T + np.eye(4), _u, 3 * _u),
            rtol=1e-9,
        ),
        Case(
            "2 inputs, s = 0.2",
            (np.diag([6.0, 0.5]), np.array([1.0, -2.0]), np.array([0.2, -0.4])),
            rtol=1e-9,
        ),
    ),
    returns=("plain", "gamma", "normalized"),
)
