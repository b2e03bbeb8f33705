"""Exercise: how many independent values the positions of a few images are worth."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def independent_values(
    examples: int,
    positions: int,
    rho: np.ndarray,
) -> np.ndarray:
    """Count the independent values that estimate a mean as well as the batch does.

    Args:
        examples: M, independent images.
        positions: P, values of a channel in each image.
        rho: ρ, correlation of two positions of one image, for each channel, (C,).
            It lies above −1/(P − 1) and may be negative.

    Returns:
        n for which the variance of the batch mean is σ²/n, (C,).
    """
    return examples * positions / (1 + (positions - 1) * rho)


def all_independent(examples, positions, rho):
    """You count M·P values, as if the positions of an image were independent. They share the image."""
    return np.full_like(rho, examples * positions)


def one_an_image(examples, positions, rho):
    """You count each image once. That is right only for ρ = 1, where all its positions are equal."""
    return np.full_like(rho, examples)


def with_itself(examples, positions, rho):
    """You have 1 + Pρ. A position has P − 1 others, and its correlation with itself is the 1."""
    return examples * positions / (1 + positions * rho)


def across_images(examples, positions, rho):
    """You let ρ act between positions of different images too. The images are independent."""
    n = examples * positions
    return n / (1 + (n - 1) * rho)


def linear_in_rho(examples, positions, rho):
    """You go from M·P at ρ = 0 to M at ρ = 1 along a line. The variance is linear in ρ; its reciprocal,
    the number of values, is not."""
    return examples * (positions - (positions - 1) * rho)


def at_most_all(examples, positions, rho):
    """You count at most M·P values. Positions with a negative correlation cancel in the mean, and estimate it
    better than as many independent values."""
    return np.minimum(
        independent_values(examples, positions, rho), examples * positions
    )


def sign_lost(examples, positions, rho):
    """You lose the sign of ρ. A negative correlation makes the variance of the mean smaller, so the batch is
    worth more."""
    return independent_values(examples, positions, np.abs(rho))


def from_the_covariance(examples, positions, rho):
    """The same, from the covariance matrix of one image."""
    found = []
    for each in rho:
        covariance = np.full((positions, positions), each)
        np.fill_diagonal(covariance, 1.0)
        found.append(examples / covariance.mean())
    return np.array(found)


EXERCISE = FunctionExercise(
    id="minibatch-worth",
    chapter="estimation/minibatch",
    title="What is a batch of images worth?",
    level="warm-up",
    reference=independent_values,
    why="The mean of P values with correlation ρ has the variance σ²/P · (1 + (P − 1)ρ): P variances and "
    "P(P − 1) covariances, divided by P². M independent images divide it by M.",
    mistakes=variants(
        all_independent,
        one_an_image,
        with_itself,
        across_images,
        linear_in_rho,
        sign_lost,
        at_most_all,
    ),
    alternatives=(from_the_covariance,),
    hints=(
        "Write the variance of the mean of one image as a double sum over its positions.",
        "P terms of the double sum are σ², the other P(P − 1) are ρσ². Then average M images.",
    ),
    cases=(
        Case("2 images of 64 positions", (2, 64, np.array([0.05, 0.3, 0.9]))),
        Case(
            "one image",
            (1, 16, np.array([0.2, 0.6])),
            "there is a single image, which a dense layer could not take.",
        ),
        Case(
            "no correlation and full correlation",
            (5, 9, np.array([0.0, 1.0])),
            "the ends: M·P values, and M.",
        ),
        Case(
            "a negative correlation",
            (3, 16, np.array([-0.012, -0.05])),
            "ρ is negative, as in the second layer of the chapter's convolution.",
        ),
    ),
    returns=("values",),
)
