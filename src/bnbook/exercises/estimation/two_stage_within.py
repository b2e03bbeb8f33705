"""Exercise: which share of a derivative two stages see if the mean is taken after."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def seen_share(u: np.ndarray) -> float:
    """Two stages' derivative ∂ν/∂w over the true one, for the mean after z = w u.

    ν is the second moment of z about the mean of the batch. The first tower takes ν_b,
    the mean of (z − μ_b†)², whose value is about that same mean and whose slope passes
    through the example's own mean. The running statistics are those of the batch, so
    that every factor is 1; no shrinkage.

    Args:
        u: input of B examples at d positions, (B, d), not constant.

    Returns:
        share: between 0 and 1.
    """
    return float(u.var(axis=1).mean() / u.var())


def between(u):
    """You return the share between the examples. The statistics of an example know what varies within it."""
    return float(u.mean(axis=1).var() / u.var())


def over_positions(u):
    """You take the variance over the examples at each position. An example's own statistics run over
    its positions."""
    return float(u.var(axis=0).mean() / u.var())


def not_centred(u):
    """You take second moments about 0. Both derivatives are those of moments about a mean."""
    return float(u.var(axis=1).mean() / (u**2).mean())


def unbiased(u):
    """You divide the variances by their number less one. μ_b and ν_b are plain means."""
    return float(u.var(axis=1, ddof=1).mean() / u.var(ddof=1))


def deviations(u):
    """You compare standard deviations. ∂ν/∂w is 2w times a variance."""
    return float(u.std(axis=1).mean() / u.std())


def by_difference(u):
    """The same, by the law of total variance."""
    return float(1 - u.mean(axis=1).var() / u.var())


_rng = np.random.default_rng(813)

EXERCISE = FunctionExercise(
    id="two-stage-within",
    chapter="estimation/two_stage",
    title="What lies between the examples",
    level="core",
    reference=seen_share,
    why="The true derivative is 2w Var u; two stages find 2w times the mean of the variances within the "
    "examples.",
    mistakes=variants(between, over_positions, not_centred, unbiased, deviations),
    alternatives=(by_difference,),
    hints=(
        "The chapter has both derivatives for three examples of two positions.",
        "The law of total variance: variance = mean of the variances within + variance of the means.",
    ),
    cases=(
        Case(
            "4 examples of 6 positions",
            (_rng.normal(size=(4, 6)) + np.arange(4)[:, None],),
        ),
        Case(
            "examples that differ little within",
            (_rng.normal(size=(5, 1)) + 0.1 * _rng.normal(size=(5, 4)),),
            "nearly all of the variance lies between the examples.",
        ),
        Case("two examples", (_rng.normal(size=(2, 9)) * np.array([[1.0], [3.0]]),)),
    ),
    returns=("share",),
)
