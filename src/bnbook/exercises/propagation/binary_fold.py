"""Exercise: fold batch normalization before a sign into a comparison."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def fold_sign(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The b and the direction with which sign(γ (s − μ)/σ + β) is a comparison of s with b.

    Args:
        gamma: γ, (K,), none of them 0.
        beta: β, (K,).
        mean: μ, (K,).
        std: σ > 0, (K,).

    Returns:
        bias: b, (K,).
        direction: (K,), +1 where the neuron is +1 for s ≥ b, −1 where it is +1 for s ≤ b.
    """
    return mean - beta * std / gamma, np.sign(gamma)


def always_up(gamma, beta, mean, std):
    """Your b is right, but your neurons all fire above it. Where γ is negative, y falls as s
    grows, and the comparison turns round."""
    return mean - beta * std / gamma, np.ones_like(gamma)


def plus(gamma, beta, mean, std):
    """You add βσ/γ to μ. Solve γ(b − μ)/σ + β = 0 for b: β changes sides, and its sign."""
    return mean + beta * std / gamma, np.sign(gamma)


def magnitude(gamma, beta, mean, std):
    """You divide by |γ|. For negative γ that moves b to the wrong side of μ; only the direction
    needs the sign of γ on its own."""
    return mean - beta * std / np.abs(gamma), np.sign(gamma)


def inverted(gamma, beta, mean, std):
    """You multiply by γ/σ where σ/γ belongs: b is measured in units of s, and σ has that unit."""
    return mean - beta * gamma / std, np.sign(gamma)


def variance(gamma, beta, mean, std):
    """You use σ² for σ. The normalization divides by the standard deviation."""
    return mean - beta * std**2 / gamma, np.sign(gamma)


def no_shift(gamma, beta, mean, std):
    """You compare with μ. That is right for β = 0 only; β moves the point where y changes its
    sign."""
    return mean.copy(), np.sign(gamma)


def no_std(gamma, beta, mean, std):
    """You leave out σ: your b is μ − β/γ. In γ(b − μ)/σ + β = 0 the distance b − μ is divided by σ, so
    σ comes back as a factor of β/γ."""
    return mean - beta / gamma, np.sign(gamma)


def divided_by_std(gamma, beta, mean, std):
    """You divide β/γ by σ. In γ(b − μ)/σ + β = 0 the distance b − μ is divided by σ: multiply by σ to
    solve for it."""
    return mean - beta / (gamma * std), np.sign(gamma)


def through_the_line(gamma, beta, mean, std):
    """The same, as the zero of the line y = a s + c."""
    slope = gamma / std
    return -(beta - slope * mean) / slope, np.where(slope > 0, 1.0, -1.0)


_rng = np.random.default_rng(514)
_GAMMA = np.array([1.5, -0.5, 2.0, -3.0])

EXERCISE = FunctionExercise(
    id="binary-fold",
    chapter="propagation/binary",
    title="A bias for a normalization",
    level="core",
    reference=fold_sign,
    why="y is a line in s with slope γ/σ and zero b. Its sign is that of s − b if the slope is positive, "
    "and the opposite if it is negative.",
    mistakes=variants(
        always_up,
        plus,
        magnitude,
        inverted,
        variance,
        no_shift,
        no_std,
        divided_by_std,
    ),
    alternatives=(through_the_line,),
    hints=(
        "At which s is γ (s − μ)/σ + β equal to 0?",
        "Is y positive above that s or below it? Look at the sign of γ.",
    ),
    cases=(
        Case(
            "four neurons",
            (
                _GAMMA,
                np.array([0.5, 1.0, -0.7, 2.0]),
                np.array([3.0, -2.0, 0.5, 0.0]),
                np.array([2.0, 0.5, 4.0, 1.5]),
            ),
            "two of the γ are negative.",
        ),
        Case(
            "six neurons",
            (
                _rng.choice([-1.0, 1.0], 6) * _rng.uniform(0.3, 2.0, 6),
                _rng.normal(size=6),
                _rng.normal(0.0, 5.0, 6),
                _rng.uniform(1.5, 3.0, 6),
            ),
        ),
    ),
    returns=("bias", "direction"),
)
