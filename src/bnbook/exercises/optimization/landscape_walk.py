"""Exercise: what a walk along the gradient sees on a quadratic."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def walk(
    hessian: np.ndarray, theta: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and change of the gradient along −∇L, for L(θ) = ½ θᵀHθ.

    Args:
        hessian: H, symmetric, (n, n).
        theta: where the walk starts, (n,).
        steps: a, (S,); the walk goes to θ − a ∇L(θ).

    Returns:
        losses: L there, (S,).
        changes: ‖∇L there − ∇L(θ)‖, (S,).
    """
    gradient = hessian @ theta
    there = theta - steps[:, None] * gradient
    losses = np.einsum("si,ij,sj->s", there, hessian, there) / 2
    return losses, steps * np.linalg.norm(hessian @ gradient)


def uphill(hessian, theta, steps):
    """You walk along +∇L, uphill."""
    return walk(hessian, theta, -steps)[0], walk(hessian, theta, steps)[1]


def half_forgotten(hessian, theta, steps):
    """You leave out the ½ of the loss."""
    losses, changes = walk(hessian, theta, steps)
    return 2 * losses, changes


def gradient_not_change(hessian, theta, steps):
    """Your second result is the norm of the gradient at the new point. Asked is how far the gradient
    moved: subtract the one at the start before you take the norm."""
    gradient = hessian @ theta
    there = theta - steps[:, None] * gradient
    return walk(hessian, theta, steps)[0], np.linalg.norm(there @ hessian, axis=1)


def difference_of_norms(hessian, theta, steps):
    """Your second result is the difference of the two norms. A gradient can turn and keep its norm:
    take the norm of the difference."""
    gradient = hessian @ theta
    there = theta - steps[:, None] * gradient
    norms = np.linalg.norm(there @ hessian, axis=1)
    return walk(hessian, theta, steps)[0], abs(norms - np.linalg.norm(gradient))


def unit_direction(hessian, theta, steps):
    """You walk along the unit vector −∇L/‖∇L‖. The step here is a times the gradient itself."""
    return walk(hessian, theta, steps / np.linalg.norm(hessian @ theta))


def squared(hessian, theta, steps):
    """Your second result is a squared norm."""
    losses, changes = walk(hessian, theta, steps)
    return losses, changes**2


def expanded(hessian, theta, steps):
    """The same, with the parabola in a written out."""
    g = hessian @ theta
    start, slope, bend = theta @ g / 2, g @ g, g @ hessian @ g
    return start - steps * slope + steps**2 * bend / 2, np.sqrt(
        steps**2 * ((hessian @ g) ** 2).sum()
    )


_rng = np.random.default_rng(802)
_a = _rng.normal(size=(4, 4))

EXERCISE = FunctionExercise(
    id="landscape-walk",
    chapter="optimization/landscape",
    title="A walk on a quadratic",
    level="core",
    reference=walk,
    why="The gradient at θ − a g is Hθ − a Hg, so that it moves by a ‖Hg‖: at most a λ_max ‖g‖. Its change "
    "over the distance a ‖g‖ is a lower bound on the largest |eigenvalue|.",
    mistakes=variants(
        uphill,
        half_forgotten,
        gradient_not_change,
        difference_of_norms,
        unit_direction,
        squared,
    ),
    alternatives=(expanded,),
    hints=(
        "∇L(θ) = Hθ. Write the point after a step, then put it into L and into ∇L.",
        "∇L(θ − a g) − ∇L(θ) = −a H g, whatever θ is.",
    ),
    cases=(
        Case(
            "4 parameters",
            (_a @ _a.T, _rng.normal(size=4), np.array([0.05, 0.1, 0.4, 1.0])),
        ),
        Case(
            "a saddle",
            (
                np.diag([2.0, -1.0, 0.5]),
                np.array([1.0, 0.3, -2.0]),
                np.array([0.1, 0.7]),
            ),
            "H has a negative eigenvalue.",
        ),
        Case(
            "one parameter",
            (np.array([[3.0]]), np.array([-1.5]), np.array([0.2, 1.0])),
            "with a = 1 and H = 3 the step is beyond the minimum.",
        ),
    ),
    returns=("losses", "changes"),
)
