"""Exercise: gradient variances of a normalized sign network from its widths."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def gradient_variances(widths: np.ndarray, slope: float) -> np.ndarray:
    """V(∂L/∂s^l)/V(∂L/∂s^L) of a sign network with batch normalization, for l = 1 … L.

    Args:
        widths: K_0, …, K_L, (L + 1,), as float64.
        slope: E[h(ŝ)²] of the stand-in h, the same for each layer but the last.

    Returns:
        The ratios for B → ∞, (L,); the last one is 1.
    """
    factors = np.append(slope * widths[2:] / widths[:-2], 1.0)
    return np.cumprod(factors[::-1])[::-1]


def without_normalization(widths, slope):
    """You leave out the division by σ̂² = K_{l−1}: these are the variances without batch
    normalization."""
    factors = np.append(slope * widths[2:], 1.0)
    return np.cumprod(factors[::-1])[::-1]


def neighbours(widths, slope):
    """You divide by K_l, the width of the layer itself. What stands below is σ̂² of s^l, and that is
    the number of its inputs, K_{l−1}."""
    factors = np.append(slope * widths[2:] / widths[1:-1], 1.0)
    return np.cumprod(factors[::-1])[::-1]


def upside_down(widths, slope):
    """Your ratios of widths are upside down. The layer above, with K_{l+1} neurons, adds up
    gradients and makes them larger; the division by σ̂ makes them smaller."""
    factors = np.append(slope * widths[:-2] / widths[2:], 1.0)
    return np.cumprod(factors[::-1])[::-1]


def from_the_input(widths, slope):
    """You multiply the factors up from the input. The gradient starts at the output, where the
    ratio is 1: accumulate from the last layer back."""
    factors = np.append(1.0, slope * widths[2:] / widths[:-2])
    return np.cumprod(factors)


def single_steps(widths, slope):
    """You return the factor of each layer. The variance of a layer is the product of its own factor
    and those of all layers above."""
    return np.append(slope * widths[2:] / widths[:-2], 1.0)


def slope_once(widths, slope):
    """Your widths are right, but the stand-in enters once. Each sign between layer l and the output
    multiplies by E[h²]: L − l times."""
    ratio = widths[-1] * widths[-2] / (widths[1:] * widths[:-1])
    return np.where(np.arange(len(ratio)) < len(ratio) - 1, slope * ratio, 1.0)


def inverse(widths, slope):
    """You return the inverse: V of the last layer over that of layer l. Divide by the last one."""
    return 1 / gradient_variances(widths, slope)


def up_from_the_first(widths, slope):
    """You accumulate from the first layer up. The gradient starts at the output, where the ratio is 1:
    turn the factors round, accumulate, and turn the result round."""
    return np.cumprod(np.append(slope * widths[2:] / widths[:-2], 1.0))


def not_turned_back(widths, slope):
    """Your variances are right, and in reverse order: the first entry belongs to layer 1. Turn the
    result round once more."""
    return gradient_variances(widths, slope)[::-1].copy()


def telescoped(widths, slope):
    """The same, from the closed form of the product."""
    layers = len(widths) - 1
    ratio = widths[-1] * widths[-2] / (widths[1:] * widths[:-1])
    return ratio * slope ** (layers - np.arange(1.0, layers + 1))


EXERCISE = FunctionExercise(
    id="binary-telescope",
    chapter="propagation/binary",
    title="Only the ends count",
    level="core",
    reference=gradient_variances,
    why="The step is E[h²] K_{l+1}/K_{l−1}. Multiplied up, the widths cancel to "
    "K_L K_{L−1}/(K_l K_{l−1}), and E[h²] remains with the power L − l.",
    mistakes=variants(
        without_normalization,
        neighbours,
        upside_down,
        from_the_input,
        single_steps,
        slope_once,
        inverse,
        up_from_the_first,
        not_turned_back,
    ),
    alternatives=(telescoped,),
    hints=(
        "One step: V(l)/V(l + 1) = E[h²] K_{l+1}/K_{l−1}. Start with 1 at layer L and go back.",
        "`widths[2:] / widths[:-2]` are the ratios for l = 1 … L − 1.",
        "A product from the end is `np.cumprod(factors[::-1])[::-1]`.",
    ),
    cases=(
        Case("a bottleneck", (np.array([8.0, 12.0, 3.0, 10.0, 6.0, 5.0]), 0.7)),
        Case("shrinking, identity", (np.array([27.0, 18.0, 12.0, 8.0]), 1.0)),
        Case("two layers", (np.array([5.0, 7.0, 3.0]), 0.5)),
    ),
    returns=("variances",),
)
