"""Exercise: how a deep normalized network with unequal widths scales its gradient."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def normalized_factors(
    widths: np.ndarray, weight_variances: np.ndarray, chi: float
) -> np.ndarray:
    """V(∂L/∂s^l)/V(∂L/∂s^{l+1}) for l = 2 … L − 1, with batch normalization before each f.

    To leading order for wide layers and large batches, with γ = 1, β = 0 and ε = 0. W^l has the
    shape (K_{l−1}, K_l).

    Args:
        widths: K_0, K_1, …, K_L, (L + 1,), L ≥ 3, whole numbers in floating point.
        weight_variances: V(w^1), …, V(w^L), (L,).
        chi: χ = E[f'²]/Var f of the activation.

    Returns:
        factors: one per layer l = 2 … L − 1, (L − 2,).
    """
    up = widths[3:] * weight_variances[2:]  # K_{l+1} V(w^{l+1})
    down = widths[1:-2] * weight_variances[1:-1]  # K_{l−1} V(w^l)
    return chi * up / down


def scale_forgotten(widths, weight_variances, chi):
    """You use K_{l+1} V(w^{l+1}) χ, as if σ̂ were 1. The normalization divides by σ̂², and the weights
    in front of it make that K_{l−1} V(w^l) Var f."""
    return chi * widths[3:] * weight_variances[2:]


def own_width(widths, weight_variances, chi):
    """You divide by K_l. The spread of s^l comes from the K_{l−1} inputs of its layer."""
    up = widths[3:] * weight_variances[2:]
    return chi * up / (widths[2:-1] * weight_variances[1:-1])


def widths_only(widths, weight_variances, chi):
    """You leave out the variances of the weights. They cancel only where two successive layers have
    the same."""
    return chi * widths[3:] / widths[1:-2]


def chi_forgotten(widths, weight_variances, chi):
    """You leave out χ, which is what remains when all widths and weights are equal."""
    return normalized_factors(widths, weight_variances, 1.0)


def turned(widths, weight_variances, chi):
    """Your ratio is upside down in widths and weights: the next layer multiplies the gradient, σ̂²
    divides it."""
    return chi**2 / normalized_factors(widths, weight_variances, chi)


def only_chi(widths, weight_variances, chi):
    """You return χ for every layer. That is the factor where widths and weights are equal; in general
    K_{l+1} V(w^{l+1}) over K_{l−1} V(w^l) is left."""
    return np.full(len(widths) - 3, chi)


def loop(widths, weight_variances, chi):
    """The same, layer by layer."""
    result = []
    for n in range(2, len(weight_variances)):
        sigma2 = widths[n - 1] * weight_variances[n - 1]
        result.append(widths[n + 1] * weight_variances[n] / sigma2 * chi)
    return np.array(result)


_rng = np.random.default_rng(704)

EXERCISE = FunctionExercise(
    id="variance-depth",
    chapter="propagation/variance",
    title="What normalization leaves of the widths",
    level="core",
    reference=normalized_factors,
    why="E[f'²] K_{l+1} V(w^{l+1}) from the backward step, divided by σ̂² = K_{l−1} V(w^l) Var f from the "
    "forward step.",
    mistakes=variants(
        scale_forgotten,
        own_width,
        widths_only,
        chi_forgotten,
        turned,
        only_chi,
    ),
    alternatives=(loop,),
    hints=(
        "Write down the backward step without normalization, then divide by σ̂² of layer l.",
        "σ̂² of s^l = Σ w f(…) over the batch is K_{l−1} V(w^l) Var f: the same for every neuron of a "
        "wide layer.",
    ),
    cases=(
        Case(
            "five layers of unequal widths",
            (
                np.array([20.0, 50.0, 30.0, 80.0, 10.0, 40.0]),
                _rng.uniform(0.01, 0.2, 5),
                1.4669422069242598,
            ),
        ),
        Case(
            "equal widths and weights",
            (np.full(5, 64.0), np.full(4, 1 / 64), 1.3),
            "widths and weights are equal, only χ remains.",
        ),
        Case(
            "a bottleneck of signs",
            (np.array([64.0, 64.0, 64.0, 8.0, 64.0, 64.0]), np.ones(5), 1.0),
            "the weights are ±1 and χ = 1.",
        ),
    ),
    returns=("factors",),
)
