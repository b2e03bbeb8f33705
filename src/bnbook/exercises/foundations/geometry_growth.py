"""Exercise: how one step of gradient descent changes the length of a weight vector."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def next_norm2(
    norm2: np.ndarray,
    gradient_norm2: np.ndarray,
    gamma: np.ndarray,
    dgamma: np.ndarray,
    var: np.ndarray,
    rate: float,
    eps: float,
) -> np.ndarray:
    """Squared length of each neuron's weights after a step w − η ∂L/∂w.

    The weights stand before batch normalization. You are not given w itself, nor its
    gradient: only what is listed.

    Args:
        norm2: ‖w‖² before the step, (D,).
        gradient_norm2: ‖∂L/∂w‖², (D,).
        gamma: scale γ, (D,).
        dgamma: ∂L/∂γ, (D,).
        var: biased batch variance σ² of z = w·x, (D,).
        rate: learning rate η.
        eps: ε ≥ 0 of the normalization.

    Returns:
        ‖w − η ∂L/∂w‖², (D,).
    """
    r = eps / (var + eps)
    return norm2 - 2 * rate * gamma * r * dgamma + rate**2 * gradient_norm2


def orthogonal(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You take w and its gradient for orthogonal. With ε > 0 their inner product is
    γ · ε/(σ² + ε) · ∂L/∂γ."""
    return norm2 + rate**2 * gradient_norm2


def sign_of_the_middle(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """Your middle term has the wrong sign: the step is w − η∂L/∂w, so it is
    −2η⟨w, ∂L/∂w⟩."""
    r = eps / (var + eps)
    return norm2 + 2 * rate * gamma * r * dgamma + rate**2 * gradient_norm2


def factor_two_lost(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You lose the 2 of the middle term: ‖a − b‖² = ‖a‖² − 2⟨a, b⟩ + ‖b‖²."""
    r = eps / (var + eps)
    return norm2 - rate * gamma * r * dgamma + rate**2 * gradient_norm2


def rate_not_squared(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You multiply ‖∂L/∂w‖² by η. The step is η∂L/∂w, so its squared length has η²."""
    r = eps / (var + eps)
    return norm2 - 2 * rate * gamma * r * dgamma + rate * gradient_norm2


def share_complement(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You use σ²/(σ² + ε) where r = ε/(σ² + ε) belongs: the inner product vanishes for
    ε = 0."""
    rest = var / (var + eps)
    return norm2 - 2 * rate * gamma * rest * dgamma + rate**2 * gradient_norm2


def share_lost(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You use γ ∂L/∂γ as the inner product. Only the share ε/(σ² + ε) of it is left."""
    return norm2 - 2 * rate * gamma * dgamma + rate**2 * gradient_norm2


def over_variance(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You use ε/σ². What ε leaves of the part along ẑ is ε/(σ² + ε)."""
    r = eps / var
    return norm2 - 2 * rate * gamma * r * dgamma + rate**2 * gradient_norm2


def gamma_lost(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """You leave out γ: the inner product is γ · ε/(σ² + ε) · ∂L/∂γ."""
    r = eps / (var + eps)
    return norm2 - 2 * rate * r * dgamma + rate**2 * gradient_norm2


def as_a_triangle(norm2, gradient_norm2, gamma, dgamma, var, rate, eps):
    """The same by the law of cosines, neuron by neuron."""
    result = np.empty_like(norm2)
    for d in range(len(norm2)):
        w, step = np.sqrt(norm2[d]), rate * np.sqrt(gradient_norm2[d])
        inner = rate * gamma[d] * dgamma[d] * eps / (var[d] + eps)
        result[d] = w**2 + step**2 - 2 * w * step * (inner / (w * step))
    return result


_rng = np.random.default_rng(305)


def _case(neurons, rate, eps):
    return (
        _rng.uniform(0.5, 2.0, neurons),
        _rng.uniform(0.5, 2.0, neurons),
        _rng.normal(1.0, 0.5, neurons),
        _rng.normal(0.0, 0.7, neurons),
        _rng.uniform(0.5, 2.0, neurons),
        rate,
        eps,
    )


EXERCISE = FunctionExercise(
    id="geometry-growth",
    chapter="foundations/geometry",
    title="How long are the weights after a step?",
    level="hard",
    reference=next_norm2,
    why="‖w − η∂L/∂w‖² multiplied out, with ⟨w, ∂L/∂w⟩ = γ · ε/(σ² + ε) · ∂L/∂γ for the "
    "middle term. For ε = 0 it is Pythagoras.",
    mistakes=variants(
        orthogonal,
        sign_of_the_middle,
        factor_two_lost,
        rate_not_squared,
        share_complement,
        share_lost,
        over_variance,
        gamma_lost,
    ),
    alternatives=(as_a_triangle,),
    hints=(
        "Multiply out ‖w − η∂L/∂w‖². Which of its three terms are you given?",
        "⟨w, ∂L/∂w⟩ is the derivative of the loss when all of w is stretched. For ε = 0 it "
        "is 0; in general ε lets the share r = ε/(σ² + ε) through.",
        "⟨w, ∂L/∂w⟩ = γ r ∂L/∂γ.",
    ),
    cases=(
        Case("3 neurons, ε = 0.5", _case(3, 0.3, 0.5)),
        Case("5 neurons, ε = 2", _case(5, 1.7, 2.0), "η is above 1 and ε above σ²."),
        Case("4 neurons, ε = 0", _case(4, 0.1, 0.0), "ε is 0."),
    ),
    returns=("norm2",),
)
