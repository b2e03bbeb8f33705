"""Exercise: the gradients of least squares through batch normalization."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def bn_ols_gradients(
    hessian: np.ndarray, g: np.ndarray, gamma: float, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of L = ½E(y − γ xᵀw/σ)² with σ = √(wᵀHw), for inputs with E x = 0.

    Args:
        hessian: H = E xxᵀ, (d, d), symmetric.
        g: E xy, (d,).
        gamma: γ.
        w: weight, (d,).

    Returns:
        dgamma: ∂L/∂γ, a number.
        dw: ∂L/∂w, (d,).
    """
    sigma = np.sqrt(w @ hessian @ w)
    slope = w @ g / sigma
    return gamma - slope, -gamma / sigma * (g - slope / sigma * (hessian @ w))


def sigma_constant(hessian, g, gamma, w):
    """You treat σ as a constant in ∂L/∂w. It depends on w: its derivative is Hw/σ, and it takes the
    part of the gradient along w away."""
    dgamma, _ = bn_ols_gradients(hessian, g, gamma, w)
    return dgamma, -gamma / np.sqrt(w @ hessian @ w) * g


def not_halved(hessian, g, gamma, w):
    """Your gradients are twice too large: the loss here is ½E(…)²."""
    dgamma, dw = bn_ols_gradients(hessian, g, gamma, w)
    return 2 * dgamma, 2 * dw


def euclidean_length(hessian, g, gamma, w):
    """You divide by ‖w‖, as weight normalization does. Batch normalization divides by the standard
    deviation of xᵀw, σ = √(wᵀHw)."""
    return bn_ols_gradients(np.eye(len(w)), g, gamma, w)


def root_forgotten(hessian, g, gamma, w):
    """You take wᵀHw for σ. That is σ², the variance of xᵀw: take the root."""
    sigma = w @ hessian @ w
    slope = w @ g / sigma
    return gamma - slope, -gamma / sigma * (g - slope / sigma * (hessian @ w))


def h_forgotten(hessian, g, gamma, w):
    """Your last term is along w instead of Hw. The derivative of wᵀHw is 2Hw; only for H = I is that
    along w."""
    sigma = np.sqrt(w @ hessian @ w)
    slope = w @ g / sigma
    return gamma - slope, -gamma / sigma * (g - slope / sigma * w)


def gamma_forgotten(hessian, g, gamma, w):
    """The factor γ is missing in your ∂L/∂w. The output is γ xᵀw/σ, so every path to w runs through
    γ."""
    dgamma, dw = bn_ols_gradients(hessian, g, gamma, w)
    return dgamma, dw / gamma


def by_the_chain(hessian, g, gamma, w):
    """The same, as a plain gradient sent back through γw/σ."""
    h_w = hessian @ w
    sigma = np.sqrt(w @ h_w)
    jacobian = gamma * (np.eye(len(w)) / sigma - np.outer(w, h_w) / sigma**3)
    plain = hessian @ (gamma * w / sigma) - g
    return plain @ w / sigma, jacobian.T @ plain


_rng = np.random.default_rng(901)
_factor = _rng.normal(size=(4, 4))

EXERCISE = FunctionExercise(
    id="least-squares-gradients",
    chapter="optimization/least_squares",
    title="Gradients in polar coordinates",
    level="warm-up",
    reference=bn_ols_gradients,
    why="L = ½E y² − γ gᵀw/σ + ½γ². Differentiate by γ, then by w with ∂σ/∂w = Hw/σ. The result is "
    "orthogonal to w.",
    mistakes=variants(
        sigma_constant,
        not_halved,
        euclidean_length,
        root_forgotten,
        h_forgotten,
        gamma_forgotten,
    ),
    alternatives=(by_the_chain,),
    hints=(
        "Multiply the square out and take expectations: E(xᵀw)²/σ² is 1, so L is a short expression in "
        "γ, gᵀw and σ.",
        "∂(gᵀw/σ)/∂w = g/σ − (gᵀw) Hw/σ³.",
    ),
    cases=(
        Case(
            "4 inputs",
            (_factor @ _factor.T + np.eye(4), _rng.normal(size=4), -1.7, _factor[0]),
        ),
        Case(
            "2 inputs, H diagonal",
            (np.diag([9.0, 0.5]), np.array([1.0, -2.0]), 0.6, np.array([0.3, 1.1])),
        ),
    ),
    returns=("dgamma", "dw"),
)
