"""Exercise: RMS normalization of the tokens of a sequence."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def rms_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """RMS normalization of tokens: each token over its own features, not centred.

    Args:
        x: tokens, (N, T, D): N sequences of T tokens with D features.
        gamma: scale γ, (D,).
        eps: ε ≥ 0, added to the mean square.

    Returns:
        γ x/√(mean(x²) + ε), (N, T, D), with the mean over the features of the token.
    """
    mean_square = (x**2).mean(axis=-1, keepdims=True)
    return gamma * x / np.sqrt(mean_square + eps)


def centred(x, gamma, eps):
    """You subtract the mean. That is layer normalization; RMS normalization leaves the
    mean where it is."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def divided_by_deviation(x, gamma, eps):
    """You leave the mean in and divide by the standard deviation. The mean square is
    taken of x itself: it contains the square of the mean."""
    return gamma * x / np.sqrt(x.var(axis=-1, keepdims=True) + eps)


def sum_of_squares(x, gamma, eps):
    """You divide by the length √(Σ x²). The root of the *mean* square is smaller by
    √D."""
    return gamma * x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + eps)


def eps_outside_root(x, gamma, eps):
    """You add ε to the root mean square. It belongs inside: √(mean(x²) + ε)."""
    return gamma * x / (np.sqrt((x**2).mean(axis=-1, keepdims=True)) + eps)


def root_missing(x, gamma, eps):
    """You divide by the mean square itself. Take its root, so that x and its divisor
    have the same unit."""
    return gamma * x / ((x**2).mean(axis=-1, keepdims=True) + eps)


def over_the_sequence(x, gamma, eps):
    """You average over the tokens of a sequence (axis 1). Each token is normalized by
    itself, over its features: the last axis."""
    return gamma * x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


def over_the_example(x, gamma, eps):
    """You average over tokens and features together (axes 1 and 2), so all tokens of a
    sequence share one number. Each token has its own."""
    return gamma * x / np.sqrt((x**2).mean(axis=(1, 2), keepdims=True) + eps)


def over_the_batch(x, gamma, eps):
    """You average over sequences and tokens (axes 0 and 1), as batch normalization does.
    Each token is normalized over its own features."""
    return gamma * x / np.sqrt((x**2).mean(axis=(0, 1), keepdims=True) + eps)


def gamma_lost(x, gamma, eps):
    """You leave out the scale γ."""
    return rms_norm(x, np.ones_like(gamma), eps)


def by_length(x, gamma, eps):
    """The same, by the length of the token."""
    square = np.einsum("ntd,ntd->nt", x, x)
    return x * gamma * ((square / x.shape[2] + eps) ** -0.5)[..., None]


def token_by_token(x, gamma, eps):
    """The same, with loops."""
    y = np.empty(x.shape)
    for index in np.ndindex(x.shape[:2]):
        y[index] = gamma * x[index] / np.sqrt(np.mean(x[index] ** 2) + eps)
    return y


_rng = np.random.default_rng(502)


def _tokens(*shape, eps):
    return _rng.normal(1.0, 2.0, size=shape), _rng.normal(1.0, 0.5, size=shape[-1]), eps


EXERCISE = FunctionExercise(
    id="conventions-rms",
    chapter="foundations/conventions",
    title="RMS normalization",
    level="warm-up",
    reference=rms_norm,
    why="One number a token: the root mean square of its features. Without centring there "
    "is one reduction instead of two, and a shift of the token is not removed.",
    mistakes=variants(
        centred,
        divided_by_deviation,
        sum_of_squares,
        eps_outside_root,
        root_missing,
        over_the_sequence,
        over_the_example,
        over_the_batch,
        gamma_lost,
    ),
    alternatives=(by_length, token_by_token),
    hints=(
        "Which axis holds what is averaged, if every token has its own number?",
        "Square, take the mean over the last axis with `keepdims=True`, add ε, take the "
        "root, divide.",
    ),
    cases=(
        Case("2 sequences of 3 tokens, 4 features", _tokens(2, 3, 4, eps=0.3)),
        Case("2 sequences of 4 tokens, 2 features", _tokens(2, 4, 2, eps=1.5)),
        Case("3 sequences of 2 tokens, 5 features", _tokens(3, 2, 5, eps=0.01)),
    ),
    returns=("y",),
)
