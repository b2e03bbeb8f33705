"""Exercise: the backward pass of a linear layer."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def linear_backward(
    dz: np.ndarray, a: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the input, the weights and the bias of z = a W + b.

    Args:
        dz: ∂L/∂z, (M, D_out). L is already a mean over the batch.
        a: the input, (M, D_in), one example a row.
        w: the weights W, (D_in, D_out).

    Returns:
        da, (M, D_in); dw, (D_in, D_out); db, (D_out,).
    """
    return dz @ w.T, a.T @ dz, dz.sum(axis=0)


def averaged(dz, a, w):
    """You divide dw and db by M. The loss is a mean already, so dz carries the 1/M: the batch is
    summed over."""
    return dz @ w.T, a.T @ dz / len(dz), dz.mean(axis=0)


def bias_averaged(dz, a, w):
    """Your db is the mean over the batch. The bias reaches every example, so its gradient is the
    sum of what comes back from all of them."""
    return dz @ w.T, a.T @ dz, dz.mean(axis=0)


def only_weights_averaged(dz, a, w):
    """Your dw is divided by M, and your db is not. Neither should be: dz carries the 1/M of the
    mean already."""
    return dz @ w.T, a.T @ dz / len(dz), dz.sum(axis=0)


def relu_included(dz, a, w):
    """You set da to 0 where a is not positive. That is the backward pass of the ReLU before this
    layer; here every input has its gradient."""
    return (dz @ w.T) * (a > 0), a.T @ dz, dz.sum(axis=0)


def first_example(dz, a, w):
    """Your db is that of the first example alone. Sum dz over all rows."""
    return dz @ w.T, a.T @ dz, dz[0]


def magnitudes(dz, a, w):
    """Your db sums magnitudes. Gradients of different examples cancel: sum them with their
    signs."""
    return dz @ w.T, a.T @ dz, abs(dz).sum(axis=0)


def by_indices(dz, a, w):
    """The same, index by index."""
    da = np.einsum("mj,ij->mi", dz, w)
    dw = np.einsum("mi,mj->ij", a, dz)
    return da, dw, np.ones(len(dz)) @ dz


def by_examples(dz, a, w):
    """The same, one example after the other."""
    dw = sum(np.outer(row, grad) for row, grad in zip(a, dz, strict=True))
    return np.array([w @ grad for grad in dz]), dw, sum(dz)


_rng = np.random.default_rng(401)


def _case(name, count, fan_in, fan_out, note=""):
    dz = _rng.normal(size=(count, fan_out))
    a, w = _rng.normal(size=(count, fan_in)), _rng.normal(size=(fan_in, fan_out))
    return Case(name, (dz, a, w), note, count)


EXERCISE = FunctionExercise(
    id="network-linear",
    chapter="training/network",
    title="Back through a linear layer",
    level="warm-up",
    reference=linear_backward,
    why="To first order L changes like tr(dzᵀ a W); its derivatives are dz Wᵀ and aᵀ dz. Shapes leave no "
    "other choice: each gradient has the shape of its variable.",
    mistakes=variants(
        averaged,
        bias_averaged,
        only_weights_averaged,
        relu_included,
        first_example,
        magnitudes,
    ),
    alternatives=(by_indices, by_examples),
    hints=(
        "A gradient has the shape of its variable. Which product of dz, (M, D_out), with w has the shape "
        "(M, D_in)?",
        "z_mj = Σ_i a_mi w_ij + b_j. So w_ij meets dz_mj once for every example m, with the factor a_mi, and "
        "b_j meets it with the factor 1.",
    ),
    cases=(
        _case("6 examples, 3 inputs, 4 outputs", 6, 3, 4),
        _case("one output", 5, 4, 1, "there is a single output."),
        _case("4 examples, 4 inputs, 4 outputs", 4, 4, 4, "all lengths are equal."),
    ),
    returns=("da", "dw", "db"),
)
