"""Exercise: a Hessian-vector product that never forms the Hessian."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def logistic_product(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """H v for the mean logistic loss, without the matrix H.

    L(w) = (1/M) Σ_m log(1 + exp(−t_m x_m·w)) with targets t_m = ±1, whose gradient has the
    term −t_m x_m p(−t_m x_m·w) with p(s) = 1/(1 + exp(−s)). H does not depend on the t_m.

    Args:
        x: inputs, (M, n).
        w: weights, (n,).
        v: a vector, (n,).

    Returns:
        product: H v, (n,).
    """
    p = 1 / (1 + np.exp(-(x @ w)))
    return x.T @ (p * (1 - p) * (x @ v)) / len(x)


def sum_not_mean(x, w, v):
    """You take the sum over the batch. The loss is the mean: divide by M."""
    return logistic_product(x, w, v) * len(x)


def slope_forgotten(x, w, v):
    """You multiply by p instead of p(1 − p). The gradient holds p, and its derivative is p' = p(1 − p)."""
    p = 1 / (1 + np.exp(-(x @ w)))
    return x.T @ (p * (x @ v)) / len(x)


def least_squares(x, w, v):
    """You leave out p(1 − p): xᵀx v/M is the product for least squares."""
    return x.T @ (x @ v) / len(x)


def diagonal_only(x, w, v):
    """You take the diagonal of H only. Each example couples all its inputs: first x_m·v, then
    times x_m."""
    p = 1 / (1 + np.exp(-(x @ w)))
    return ((p * (1 - p))[:, None] * x**2).mean(0) * v


def gauss_newton_of_gradient(x, w, v):
    """You use g gᵀ v with the gradient of each example for t = 1, the "empirical Fisher matrix". It has
    (1 − p)² where H has p(1 − p)."""
    p = 1 / (1 + np.exp(-(x @ w)))
    return x.T @ ((1 - p) ** 2 * (x @ v)) / len(x)


def by_the_matrix(x, w, v):
    """The same with the whole matrix."""
    p = 1 / (1 + np.exp(-(x @ w)))
    h = np.einsum("m,mi,mj->ij", p * (1 - p), x, x) / len(x)
    return h @ v


_rng = np.random.default_rng(801)

EXERCISE = FunctionExercise(
    id="landscape-product",
    chapter="optimization/landscape",
    title="A product without the matrix",
    level="warm-up",
    reference=logistic_product,
    why="Differentiate the gradient in the direction v: x_m·w changes by x_m·v, p(x_m·w) by p(1 − p) times "
    "that, and p(s)p(−s) is the same for both signs of t.",
    mistakes=variants(
        sum_not_mean,
        slope_forgotten,
        least_squares,
        diagonal_only,
        gauss_newton_of_gradient,
    ),
    alternatives=(by_the_matrix,),
    hints=(
        "H v is the derivative of ∇L(w + a v) by a, at a = 0. Only the numbers x_m·w depend on a.",
        "Compute x @ v, multiply each entry by p(1 − p), and go back with x.T. Divide by M.",
    ),
    cases=(
        Case(
            "7 examples, 4 inputs",
            (_rng.normal(size=(7, 4)), _rng.normal(size=4), _rng.normal(size=4)),
        ),
        Case(
            "one example",
            (_rng.normal(size=(1, 3)), _rng.normal(size=3), _rng.normal(size=3)),
            "the batch has one example.",
        ),
        Case(
            "more inputs than examples",
            (_rng.normal(size=(3, 9)), 2 * _rng.normal(size=9), _rng.normal(size=9)),
        ),
    ),
    returns=("product",),
)
