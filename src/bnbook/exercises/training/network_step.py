"""Exercise: one step of descent with momentum and L2."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def sgd_step(
    w: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    learning_rate: float,
    momentum: float,
    l2: float,
) -> tuple[np.ndarray, np.ndarray]:
    """One step on loss + (l2/2) Σ w², with momentum in PyTorch's form.

    Args:
        w: weights before the step, (D_in, D_out).
        v: velocity before the step, same shape.
        g: gradient of the loss without the penalty, same shape.
        learning_rate: it multiplies the velocity.
        momentum: the share of the old velocity that is kept.
        l2: λ, the coefficient of the penalty.

    Returns:
        w and v after the step, as new arrays.
    """
    v = momentum * v + g + l2 * w
    return w - learning_rate * v, v


def dampened(w, v, g, learning_rate, momentum, l2):
    """You multiply the gradient by 1 − momentum, as in a running average. Here the velocity is a
    sum: under a constant gradient it grows to g/(1 − momentum)."""
    v = momentum * v + (1 - momentum) * (g + l2 * w)
    return w - learning_rate * v, v


def penalty_doubled(w, v, g, learning_rate, momentum, l2):
    """You add 2 λ w. The penalty is (λ/2) Σ w², whose derivative is λ w."""
    return sgd_step(w, v, g, learning_rate, momentum, 2 * l2)


def penalty_halved(w, v, g, learning_rate, momentum, l2):
    """You add (λ/2) w. The penalty is (λ/2) Σ w², whose derivative is λ w."""
    return sgd_step(w, v, g, learning_rate, momentum, l2 / 2)


def penalty_forgotten(w, v, g, learning_rate, momentum, l2):
    """You leave the penalty out. Its gradient, λ w, is added to g."""
    return sgd_step(w, v, g, learning_rate, momentum, 0.0)


def penalty_decoupled(w, v, g, learning_rate, momentum, l2):
    """You shrink w by itself and keep the decay out of the velocity. That is decoupled weight
    decay; here the penalty is part of the loss, so its gradient goes through the velocity."""
    v = momentum * v + g
    return w - learning_rate * v - learning_rate * l2 * w, v


def rate_inside(w, v, g, learning_rate, momentum, l2):
    """You put the learning rate inside the velocity. That agrees as long as the rate never changes,
    but your v has other units: here the rate multiplies the velocity in the step."""
    v = momentum * v + learning_rate * (g + l2 * w)
    return w - v, v


def opposite_velocity(w, v, g, learning_rate, momentum, l2):
    """Your velocity is minus the one of the exercise: it subtracts the gradient, and the step adds it. That
    would be the same descent if the v you are given had that sign, too. In PyTorch's form v points along
    the gradient: it is added to the velocity, and the step is subtracted."""
    v = momentum * v - (g + l2 * w)
    return w + learning_rate * v, v


def keras_form(w, v, g, learning_rate, momentum, l2):
    """You use Keras' form, v ← momentum · v − learning_rate · gradient and w ← w + v. There v is the step
    itself; the v you are given is PyTorch's, a sum of gradients, which learning_rate multiplies later."""
    v = momentum * v - learning_rate * (g + l2 * w)
    return w + v, v


def old_velocity(w, v, g, learning_rate, momentum, l2):
    """You step with the velocity from before. Update the velocity first, then step with the new
    one."""
    return w - learning_rate * v, momentum * v + g + l2 * w


def looking_ahead(w, v, g, learning_rate, momentum, l2):
    """You step with the gradient plus momentum times the new velocity. That is Nesterov's form;
    plain momentum steps with the velocity itself."""
    g = g + l2 * w
    v = momentum * v + g
    return w - learning_rate * (g + momentum * v), v


def ascending(w, v, g, learning_rate, momentum, l2):
    """You move along the gradient: the loss would grow. Subtract the step."""
    v = momentum * v + g + l2 * w
    return w + learning_rate * v, v


def term_by_term(w, v, g, learning_rate, momentum, l2):
    """The same, with the three parts of the step apart."""
    parts = [momentum * v, g, l2 * w]
    new = w.copy()
    for part in parts:
        new = new - learning_rate * part
    return new, np.sum(parts, axis=0)


_rng = np.random.default_rng(404)


def _case(name, learning_rate, momentum, l2, note="", moving=True):
    w, v, g = _rng.normal(size=(3, 3, 2))
    return Case(name, (w, v * moving, g, learning_rate, momentum, l2), note)


EXERCISE = FunctionExercise(
    id="network-step",
    chapter="training/network",
    title="One step",
    level="warm-up",
    reference=sgd_step,
    why="The penalty is a part of the loss, so its gradient λ w joins g before anything else happens. The new "
    "velocity makes the step.",
    mistakes=variants(
        dampened,
        penalty_doubled,
        penalty_halved,
        penalty_forgotten,
        penalty_decoupled,
        rate_inside,
        opposite_velocity,
        keras_form,
        old_velocity,
        looking_ahead,
        ascending,
    ),
    alternatives=(term_by_term,),
    hints=(
        "What is the gradient of the whole loss, penalty included? d/dw of (λ/2) w² is λ w.",
        "v ← momentum · v + that gradient. Then w ← w − learning_rate · v, with the new v.",
    ),
    cases=(
        _case("everything at once", 0.3, 0.8, 0.5),
        _case("no momentum", 0.7, 0.0, 0.2, "the momentum is 0."),
        _case("from rest", 0.2, 0.9, 0.4, "the velocity is 0 at first.", moving=False),
        _case("no penalty", 0.1, 0.6, 0.0, "there is no penalty."),
    ),
    returns=("w", "v"),
    new_arrays=True,
)
