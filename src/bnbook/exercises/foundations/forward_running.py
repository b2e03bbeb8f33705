"""Exercise: update the running statistics that inference uses."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def update_running(
    running_mean: np.ndarray, running_var: np.ndarray, x: np.ndarray, momentum: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move the running statistics towards those of the newest batch.

    Args:
        running_mean: running mean before this batch, (D,).
        running_var: running variance before this batch, (D,).
        x: the newest batch, (M, D).
        momentum: weight of the newest batch, in [0, 1].

    Returns:
        The new running mean, (D,), and the new running variance, (D,), as new arrays. The running variance
        estimates the variance of the training data, so each batch contributes its unbiased variance
        M/(M − 1) · σ².
    """
    new_mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    new_var = (1 - momentum) * running_var + momentum * x.var(axis=0, ddof=1)
    return new_mean, new_var


def momentum_of_the_past(running_mean, running_var, x, momentum):
    """You give the weight `momentum` to the past. Here it is the weight of the newest batch, as in PyTorch;
    Yu's α is the other one, α = 1 − momentum."""
    mean = momentum * running_mean + (1 - momentum) * x.mean(axis=0)
    return mean, momentum * running_var + (1 - momentum) * x.var(axis=0, ddof=1)


def momentum_hard_coded(running_mean, running_var, x, momentum):
    """You use the weight 0.1 whatever the argument `momentum` says."""
    return update_running(running_mean, running_var, x, 0.1)


def biased_variance(running_mean, running_var, x, momentum):
    """You average the biased batch variance σ². On average it is too small, by the factor (M − 1)/M, and no
    number of batches averages that away: contribute M/(M − 1) · σ²."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    return mean, (1 - momentum) * running_var + momentum * x.var(axis=0)


def corrected_the_wrong_way(running_mean, running_var, x, momentum):
    """You multiply σ² by (M − 1)/M. σ² is already too small on average: the correction is M/(M − 1)."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    var = x.var(axis=0) * (len(x) - 1) / len(x)
    return mean, (1 - momentum) * running_var + momentum * var


def corrected_twice(running_mean, running_var, x, momentum):
    """You multiply by M/(M − 1) a variance that `ddof=1` has already corrected."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    var = x.var(axis=0, ddof=1) * len(x) / (len(x) - 1)
    return mean, (1 - momentum) * running_var + momentum * var


def past_corrected_too(running_mean, running_var, x, momentum):
    """You multiply the whole sum by M/(M − 1), the old running variance with it. That one has been corrected
    before: the factor belongs to the variance of the batch alone."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    var = (1 - momentum) * running_var + momentum * x.var(axis=0)
    return mean, var * len(x) / (len(x) - 1)


def deviation_for_variance(running_mean, running_var, x, momentum):
    """You add the standard deviation of the batch to the running variance. Variances are averaged: `var`,
    not `std`."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    return mean, (1 - momentum) * running_var + momentum * x.std(axis=0, ddof=1)


def biased_deviation_for_variance(running_mean, running_var, x, momentum):
    """You add the standard deviation of the batch to the running variance. Variances are averaged: `var`,
    not `std`, and the unbiased one, `ddof=1`."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    return mean, (1 - momentum) * running_var + momentum * x.std(axis=0)


def deviations_averaged(running_mean, running_var, x, momentum):
    """You average standard deviations and square the result. Variances are averaged: the square of a mean
    is less than the mean of squares, so yours is biased low."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    std = (1 - momentum) * np.sqrt(running_var) + momentum * x.std(axis=0, ddof=1)
    return mean, std**2


def about_the_running_mean(running_mean, running_var, x, momentum):
    """You measure the batch's deviations from the running mean. Then a batch whose mean differs inflates
    the variance: measure them from the mean of the batch."""
    mean = (1 - momentum) * running_mean + momentum * x.mean(axis=0)
    var = ((x - running_mean) ** 2).sum(axis=0) / (len(x) - 1)
    return mean, (1 - momentum) * running_var + momentum * var


def past_keeps_its_weight(running_mean, running_var, x, momentum):
    """You add the new share without reducing the old one, so the running statistics grow without bound. The
    weights must add up to 1: (1 − momentum) and momentum."""
    return running_mean + momentum * x.mean(axis=0), running_var + momentum * x.var(
        axis=0, ddof=1
    )


def past_forgotten(running_mean, running_var, x, momentum):
    """You return the statistics of the newest batch alone. The running ones move towards them by the share
    `momentum` only."""
    return x.mean(axis=0), x.var(axis=0, ddof=1)


def by_steps(running_mean, running_var, x, momentum):
    """The same, written as a step of size momentum towards the batch."""
    count = x.shape[0]
    mean = np.einsum("md->d", x) / count
    var = np.einsum("md,md->d", x - mean, x - mean) / (count - 1)
    return running_mean + momentum * (mean - running_mean), running_var + momentum * (
        var - running_var
    )


_rng = np.random.default_rng(106)

EXERCISE = FunctionExercise(
    id="forward-running",
    chapter="foundations/forward",
    title="Running statistics",
    level="core",
    reference=update_running,
    why="Training normalizes with the biased σ² of the batch, and the running average keeps the unbiased "
    "one: the first describes a batch, the second estimates a population.",
    mistakes=variants(
        momentum_of_the_past,
        momentum_hard_coded,
        biased_variance,
        corrected_the_wrong_way,
        corrected_twice,
        past_corrected_too,
        deviation_for_variance,
        biased_deviation_for_variance,
        deviations_averaged,
        about_the_running_mean,
        past_keeps_its_weight,
        past_forgotten,
    ),
    alternatives=(by_steps,),
    hints=(
        "An exponential average: new = (1 − momentum) · old + momentum · batch.",
        "Which variance of the batch? `x.var(axis=0)` divides by M; the unbiased one divides by M − 1, "
        "which is `ddof=1`.",
    ),
    cases=(
        Case(
            "5 examples, 3 features",
            (
                np.array([0.5, -1.0, 2.0]),
                np.array([1.0, 4.0, 0.5]),
                _rng.normal(2.0, 1.5, size=(5, 3)),
                0.1,
            ),
            count=5,
        ),
        Case(
            "two examples, momentum 0.3",
            (
                np.array([1.0, 0.2]),
                np.array([2.0, 0.7]),
                _rng.normal(-1.0, 2.0, size=(2, 2)),
                0.3,
            ),
            "the momentum is 0.3, and M = 2.",
            2,
        ),
        Case(
            "4 examples, 4 features, momentum 0.75",
            (
                _rng.normal(size=4),
                _rng.uniform(0.5, 2.0, size=4),
                _rng.normal(3.0, 0.5, size=(4, 4)),
                0.75,
            ),
            "the momentum is 0.75, and M = D.",
            4,
        ),
        Case(
            "momentum 0",
            (
                np.array([0.4, -1.2]),
                np.array([1.5, 0.8]),
                _rng.normal(1.0, 1.5, size=(6, 2)),
                0.0,
            ),
            "the momentum is 0, so the batch does not count.",
            6,
        ),
        Case(
            "momentum 1",
            (
                np.array([-0.3, 2.1]),
                np.array([0.6, 3.0]),
                _rng.normal(2.0, 0.7, size=(3, 2)),
                1.0,
            ),
            "the momentum is 1, so the past does not count.",
            3,
        ),
    ),
    returns=("running_mean", "running_var"),
    new_arrays=True,
)
