"""Exercise: the equilibrium of weight decay and gradient, with momentum."""

import math

from bnbook.exercises.model import Case, FunctionExercise, variants


def settled(
    gradient2: float, rate: float, decay: float, momentum: float
) -> tuple[float, float]:
    """‖w‖² and the angle per step, in radians, where scale-invariant weights settle.

    SGD as in PyTorch: v ← αv + ∂L/∂w + λw, then w ← w − ηv. The gradient is orthogonal to w,
    has the squared length ‖g̃‖²/‖w‖², and is orthogonal to v on average.

    Args:
        gradient2: ‖g̃‖².
        rate: η.
        decay: λ.
        momentum: α, 0 ≤ α < 1.

    Returns:
        norm2: ‖w‖².
        angle: θ.
    """
    turn = rate * decay / (1 + momentum)
    norm4 = rate * gradient2 / (decay * (1 - momentum) * (2 - turn))
    return math.sqrt(norm4), math.acos(1 - turn)


def momentum_forgotten(gradient2, rate, decay, momentum):
    """You leave out the momentum in both. It lengthens the steps by 1/(1 − α), and its inertia turns
    part of them along w."""
    return settled(gradient2, rate, decay, 0.0)


def rate_over_one_minus(gradient2, rate, decay, momentum):
    """You replace η by η/(1 − α). That holds for slow changes. The gradients of different steps are
    independent here, so squares add up: cos θ = 1 − ηλ/(1 + α)."""
    return settled(gradient2, rate / (1 - momentum), decay, 0.0)


def fourth_power(gradient2, rate, decay, momentum):
    """Your first result is ‖w‖⁴; take the root."""
    norm2, angle = settled(gradient2, rate, decay, momentum)
    return norm2**2, angle


def cosine_returned(gradient2, rate, decay, momentum):
    """Your second result is cos θ; take the arc cosine."""
    norm2, _ = settled(gradient2, rate, decay, momentum)
    return norm2, 1 - rate * decay / (1 + momentum)


def leading_order(gradient2, rate, decay, momentum):
    """You keep the leading order in ηλ: θ ≈ √(2ηλ/(1 + α)) and ‖w‖⁴ ≈ η‖g̃‖²/(2λ(1 − α)). The exact
    forms are asked for: cos θ = 1 − ηλ/(1 + α)."""
    turn = rate * decay / (1 + momentum)
    return (
        math.sqrt(rate * gradient2 / (2 * decay * (1 - momentum))),
        math.sqrt(2 * turn),
    )


def angle_without_momentum(gradient2, rate, decay, momentum):
    """Your length is right; your angle lacks the momentum: cos θ = 1 − ηλ/(1 + α)."""
    norm2, _ = settled(gradient2, rate, decay, momentum)
    return norm2, math.acos(1 - rate * decay)


def angle_one_minus(gradient2, rate, decay, momentum):
    """Your length is right; your angle has 1 − α where 1 + α belongs: cos θ = 1 − ηλ/(1 + α). The factor
    1 − α is part of the length alone."""
    norm2, _ = settled(gradient2, rate, decay, momentum)
    return norm2, math.acos(1 - rate * decay / (1 - momentum))


def degrees_returned(gradient2, rate, decay, momentum):
    """Your angle is in degrees; radians are asked for."""
    norm2, angle = settled(gradient2, rate, decay, momentum)
    return norm2, math.degrees(angle)


def by_the_fixed_point(gradient2, rate, decay, momentum):
    """The same from the fixed point of G = ‖w‖², ⟨w, v⟩ and ‖v‖², in units of G."""
    v = 2 * decay / (rate * (1 + momentum))
    inner = -rate * v / 2
    ratio = v * (1 - momentum**2) - decay**2 - 2 * momentum * decay * inner
    half = rate * math.sqrt(v) / 2
    return math.sqrt(gradient2 / ratio), 2 * math.asin(half)


EXERCISE = FunctionExercise(
    id="scale-invariance-settled",
    chapter="optimization/scale_invariance",
    title="Where momentum settles",
    level="hard",
    reference=settled,
    why="If ‖w‖ stays, w before, w after and ηv are an isosceles triangle. Stationary ‖v‖² and ⟨w, v⟩ give "
    "‖v‖² = 2λ‖w‖²/(η(1 + α)), and the rest follows.",
    mistakes=variants(
        momentum_forgotten,
        rate_over_one_minus,
        fourth_power,
        cosine_returned,
        leading_order,
        angle_without_momentum,
        angle_one_minus,
        degrees_returned,
    ),
    alternatives=(by_the_fixed_point,),
    hints=(
        "Follow three numbers through a step: ‖w‖², ⟨w, v⟩ and ‖v‖². In equilibrium none of them changes.",
        "After v ← αv + g + λw: ⟨w, v⟩ must be η‖v‖²/2, so that ‖w‖ stays. Then ⟨w, v⟩ is −η‖v‖²/2 after "
        "the weights have moved.",
        "‖v‖² = 2λ‖w‖²/(η(1 + α)). Put it into ‖v‖²(1 − α²) = λ²‖w‖² + ‖g̃‖²/‖w‖² + 2αλ⟨w, v⟩.",
    ),
    cases=(
        Case("η = 0.5, λ = 0.4, α = 0.6", (1.7, 0.5, 0.4, 0.6)),
        Case("no momentum", (0.3, 2.0, 0.1, 0.0), "α is 0."),
        Case("α = 0.9", (0.02, 0.1, 0.5, 0.9), "α is near 1."),
    ),
    returns=("norm2", "angle"),
)
