"""Exercise: the part of the weights that no training example sees."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def unseen_part(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The part of each weight vector that gradient descent on these examples cannot move.

    Args:
        w: weights, (K, D); a neuron computes x wᵀ.
        x: all training examples, (N, D). Some may be equal.

    Returns:
        part, (K, D): its rows are orthogonal to every example, and w − part is a combination
        of examples.
    """
    return w - w @ np.linalg.pinv(x) @ x


def seen_part(w, x):
    """You return the part that gradient descent can move. What is asked is what is left of w."""
    return w @ np.linalg.pinv(x) @ x


def one_by_one(w, x):
    """You subtract the projection on each example from the same w. That is right only if the examples
    are orthogonal to each other; otherwise what they share is subtracted several times."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return w - w @ unit.T @ unit


def one_after_the_other(w, x):
    """You project out one example after the other. The next projection brings back a part along the
    one before, unless they are orthogonal: orthogonalize the examples first."""
    for row in x:
        w = w - np.outer(w @ row, row) / (row @ row)
    return w


def not_normalized(w, x):
    """You subtract w xᵀ x without dividing by the lengths of the examples."""
    return w - w @ x.T @ x


def centred(w, x):
    """You centre the examples first. What moves the weights is a combination of the examples
    themselves; their mean is one."""
    centre = x - x.mean(axis=0)
    return w - w @ np.linalg.pinv(centre) @ centre


def mean_example(w, x):
    """You project out the mean of the examples only. Every single one can move the weights."""
    m = x.mean(axis=0)
    return w - np.outer(w @ m, m) / (m @ m)


def by_svd(w, x):
    """The same, with an orthonormal basis of the examples."""
    _, s, basis = np.linalg.svd(x, full_matrices=False)
    basis = basis[s > 1e-10 * s.max()]
    return w - (w @ basis.T) @ basis


def by_least_squares(w, x):
    """The same: what the best combination of examples leaves over."""
    found, *_ = np.linalg.lstsq(x.T, w.T, rcond=None)
    return w - found.T @ x


_rng = np.random.default_rng(803)
_x = _rng.normal(size=(4, 7)) + 0.5

EXERCISE = FunctionExercise(
    id="robustness-unseen",
    chapter="optimization/robustness",
    title="What no example sees",
    level="core",
    reference=unseen_part,
    why="∂L/∂W = (∂L/∂z)ᵀ X is a combination of the rows of X, whatever the loss and whatever layers follow, "
    "normalized ones included. The rest of W stays as it was drawn.",
    mistakes=variants(
        seen_part,
        one_by_one,
        one_after_the_other,
        not_normalized,
        centred,
        mean_example,
    ),
    alternatives=(by_svd, by_least_squares),
    hints=(
        "Project w on the span of the rows of x, and subtract.",
        "`np.linalg.pinv(x) @ x` is the orthogonal projection on that span, for equal examples too.",
    ),
    cases=(
        Case("3 neurons, 4 examples of 7 features", (_rng.normal(size=(3, 7)), _x)),
        Case(
            "an example twice",
            (_rng.normal(size=(2, 7)), np.vstack([_x[:3], _x[:1]])),
            "one example is there twice.",
        ),
    ),
    returns=("part",),
)
