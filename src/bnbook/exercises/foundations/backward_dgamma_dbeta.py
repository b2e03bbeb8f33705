"""Exercise: the gradients of γ and β."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def parameter_gradients(
    dy: np.ndarray, z_hat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the loss with respect to γ and β, where y = γẑ + β.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        z_hat: normalized input ẑ, (M, D).

    Returns:
        dgamma = ∂L/∂γ, (D,), and dbeta = ∂L/∂β, (D,).
    """
    dgamma = (dy * z_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta


def averaged(dy, z_hat):
    """You average over the batch. All examples share one γ and one β, so their contributions add up: `sum`,
    without 1/M. Where the loss is a mean, its 1/M is in g already."""
    return (dy * z_hat).mean(axis=0), dy.mean(axis=0)


def swapped(dy, z_hat):
    """You return (dbeta, dgamma). The order is dgamma, then dbeta."""
    return dy.sum(axis=0), (dy * z_hat).sum(axis=0)


def wrong_axis(dy, z_hat):
    """You sum over the features of each example (axis 1), which gives M numbers. Each feature has its own γ
    and β: sum over the examples, axis 0."""
    return (dy * z_hat).sum(axis=1), dy.sum(axis=1)


def not_summed(dy, z_hat):
    """You return the contribution of each example. One γ serves all M examples, so its gradient is the sum
    of their contributions: sum over axis 0."""
    return dy * z_hat, dy.copy()


def kept_axis(dy, z_hat):
    """You keep the summed axis (`keepdims=True`), so the gradients have shape (1, D). A gradient has the
    shape of its parameter, (D,)."""
    return (dy * z_hat).sum(axis=0, keepdims=True), dy.sum(axis=0, keepdims=True)


def summed_over_everything(dy, z_hat):
    """You sum over examples and features. Each feature has its own γ and β: sum over the examples alone,
    `axis=0`."""
    return (dy * z_hat).sum(), dy.sum()


def matrix_product(dy, z_hat):
    """Your dgamma is the matrix product gᵀẑ, (D, D): it multiplies each feature's g with every feature's ẑ.
    Only its diagonal is wanted: multiply entry by entry, then sum over the examples."""
    return dy.T @ z_hat, dy.sum(axis=0)


def product_of_sums(dy, z_hat):
    """Your dgamma is 0 up to rounding; Σẑ is always 0, and so is Σ(g − mean(g)). Do you sum one of them
    alone, or multiply two sums? Each example's g meets its own ẑ first, and the products are summed."""
    return dy.sum(axis=0) * z_hat.sum(axis=0), dy.sum(axis=0)


def without_z_hat(dy, z_hat):
    """Your dgamma leaves out ẑ: ∂y/∂γ = ẑ, so each g is weighted by its ẑ."""
    return dy.sum(axis=0), dy.sum(axis=0)


def by_einsum(dy, z_hat):
    """The same by einsum."""
    return np.einsum("md,md->d", dy, z_hat), np.einsum("md->d", dy)


def with_loops(dy, z_hat):
    """The same with Python loops."""
    dgamma, dbeta = np.zeros(dy.shape[1]), np.zeros(dy.shape[1])
    for g, z in zip(dy, z_hat, strict=True):
        dgamma += g * z
        dbeta += g
    return dgamma, dbeta


_rng = np.random.default_rng(201)


def _batch(count, features, eps):
    x = _rng.normal(2.0, 1.5, size=(count, features))
    return _rng.normal(0.4, 1.0, size=(count, features)), (
        x - x.mean(axis=0)
    ) / np.sqrt(x.var(axis=0) + eps)


EXERCISE = FunctionExercise(
    id="backward-dgamma-dbeta",
    chapter="foundations/backward",
    title="The gradients of γ and β",
    level="warm-up",
    reference=parameter_gradients,
    why="One γ and one β serve every example of the batch, so each example contributes and the "
    "contributions add up: Yu (2021), Eqs. (13) and (14).",
    mistakes=variants(
        averaged,
        swapped,
        wrong_axis,
        not_summed,
        kept_axis,
        summed_over_everything,
        matrix_product,
        product_of_sums,
        without_z_hat,
    ),
    alternatives=(by_einsum, with_loops),
    hints=(
        "y = γẑ + β for each example, so ∂y/∂γ = ẑ and ∂y/∂β = 1. Which values of y depend on the γ of "
        "feature d?",
        "All M of them: multiply each upstream gradient by its derivative and sum over the examples, "
        "`axis=0`.",
    ),
    cases=(
        Case("6 examples, 3 features", _batch(6, 3, 0.1), count=6),
        Case(
            "4 examples, 4 features",
            _batch(4, 4, 0.5),
            "as many features as examples.",
            4,
        ),
        Case("3 examples, 5 features", _batch(3, 5, 0.2), "M is smaller than D.", 3),
    ),
    returns=("dgamma", "dbeta"),
)
