"""Exercise: compare ε inside the root with ε outside it, without cancellation."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, Variant, variants


def outside_epsilon(sigma: np.ndarray, eps: float) -> np.ndarray:
    """The e that does outside the root what ε does inside: σ + e = √(σ² + ε), to full precision.

    Args:
        sigma: standard deviations σ ≥ 0, (D,). They may be large compared with √ε.
        eps: ε > 0.

    Returns:
        e, (D,).
    """
    return eps / (np.sqrt(sigma**2 + eps) + sigma)


def subtracted(sigma, eps):
    """You subtract σ from √(σ² + ε). Where σ is large the two agree in most digits, and those of e
    are lost. Multiply and divide by √(σ² + ε) + σ: the difference becomes ε divided by that sum."""
    return np.sqrt(sigma**2 + eps) - sigma


def root_of_eps(sigma, eps):
    """You return √ε, which is right for σ = 0 only. The larger σ, the smaller e."""
    return np.full_like(sigma, np.sqrt(eps))


def unchanged(sigma, eps):
    """You return ε itself. Added to σ it has another size than added to σ²."""
    return np.full_like(sigma, eps)


def first_order(sigma, eps):
    """You return ε/(2σ), the first term for large σ. Where σ is comparable with √ε it is far off,
    and for σ = 0 it is infinite."""
    return eps / (2 * sigma)


def one_half_lost(sigma, eps):
    """You divide ε by √(σ² + ε) alone. The divisor is the sum √(σ² + ε) + σ."""
    return eps / np.sqrt(sigma**2 + eps)


def root_lost(sigma, eps):
    """You divide ε by σ² + ε + σ: the root of σ² + ε is missing."""
    return eps / (sigma**2 + eps + sigma)


def sum_for_difference(sigma, eps):
    """You add σ where it should be subtracted: e = √(σ² + ε) − σ."""
    return np.sqrt(sigma**2 + eps) + sigma


def with_hypotenuse(sigma, eps):
    """The same, with the root as a hypotenuse."""
    return eps / (np.hypot(sigma, np.sqrt(eps)) + sigma)


def one_by_one(sigma, eps):
    """The same, one feature at a time."""
    return np.array([eps / (float(s) + (float(s) ** 2 + eps) ** 0.5) for s in sigma])


EXERCISE = FunctionExercise(
    id="numerics-eps",
    chapter="foundations/numerics",
    title="Move ε out of the root",
    level="core",
    reference=outside_epsilon,
    why="No single e serves all features: e falls from √ε at σ = 0 to ε/(2σ) for large σ. The "
    "rewritten form adds positive numbers only, so nothing cancels.",
    mistakes=(
        Variant.of(subtracted, by_rounding=True),
        *variants(
            root_of_eps,
            unchanged,
            first_order,
            one_half_lost,
            root_lost,
            sum_for_difference,
        ),
    ),
    alternatives=(with_hypotenuse, one_by_one),
    hints=(
        "Solve σ + e = √(σ² + ε) for e, and try σ = 1000 with ε = 0.00001. How many digits are left?",
        "(a − b)(a + b) = a² − b². With a = √(σ² + ε) and b = σ, the right side is ε.",
    ),
    cases=(
        Case("σ near 1, ε = 0.1", (np.array([0.5, 1.0, 2.5]), 0.1)),
        Case(
            "σ from 0.1 to 1, ε = 0.5",
            (np.array([0.1, 0.4, 0.7, 1.0]), 0.5),
            "ε exceeds σ².",
        ),
        Case(
            "σ near 1000, ε = 0.001",
            (np.array([1234.5, 777.7, 4321.1]), 0.001),
            "ε is far below the last digits of σ².",
        ),
    ),
    returns=("e",),
)
