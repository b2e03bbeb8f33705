"""Exercise: Batch Renormalization, forward."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def renormalize(
    z: np.ndarray,
    running_mean: np.ndarray,
    running_std: np.ndarray,
    r_max: float,
    d_max: float,
) -> np.ndarray:
    """Renormalize a batch, ẑ r + d, with both corrections within their limits.

    Args:
        z: (M, D); no feature is constant. There is no ε, γ or β.
        running_mean: (D,).
        running_std: (D,), positive.
        r_max: r = σ/running_std lies between 1/r_max and r_max; μ and σ are those
            of the batch.
        d_max: d = (μ − running_mean)/running_std lies between ±d_max.

    Returns:
        (M, D).
    """
    mean, std = z.mean(0), z.std(0)
    r = np.clip(std / running_std, 1 / r_max, r_max)
    d = np.clip((mean - running_mean) / running_std, -d_max, d_max)
    return (z - mean) / std * r + d


def _parts(z, running_mean, running_std):
    mean, std = z.mean(0), z.std(0)
    return (z - mean) / std, std / running_std, (mean - running_mean) / running_std


def no_scale(z, running_mean, running_std, r_max, d_max):
    """You leave r out, or set it to σ/σ = 1, as in the formula that lost its bars. Then the spread is that
    of the batch, not of the running statistics."""
    z_hat, _, d = _parts(z, running_mean, running_std)
    return z_hat + np.clip(d, -d_max, d_max)


def scale_inverted(z, running_mean, running_std, r_max, d_max):
    """Your r is σ̄/σ. ẑ has been divided by σ; to be divided by σ̄ instead it must be multiplied by
    σ/σ̄."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return z_hat * np.clip(1 / r, 1 / r_max, r_max) + np.clip(d, -d_max, d_max)


def shift_by_batch_std(z, running_mean, running_std, r_max, d_max):
    """You divide μ − μ̄ by the σ of the batch. d is added after the multiplication by r, so it is
    measured in units of σ̄."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return z_hat * np.clip(r, 1 / r_max, r_max) + np.clip(d / r, -d_max, d_max)


def variance_ratio(z, running_mean, running_std, r_max, d_max):
    """Your r is a ratio of variances. ẑ has been divided by a standard deviation, so r is σ/σ̄, the ratio of
    standard deviations."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return z_hat * np.clip(r**2, 1 / r_max, r_max) + np.clip(d, -d_max, d_max)


def shift_inside(z, running_mean, running_std, r_max, d_max):
    """You add d before you multiply by r. The sum is ẑ r + d, not (ẑ + d) r."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return (z_hat + np.clip(d, -d_max, d_max)) * np.clip(r, 1 / r_max, r_max)


def no_lower_limit(z, running_mean, running_std, r_max, d_max):
    """You limit r from above only. It must not fall below 1/r_max either."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return z_hat * np.minimum(r, r_max) + np.clip(d, -d_max, d_max)


def no_limits(z, running_mean, running_std, r_max, d_max):
    """You do not limit r and d. Without limits the result is (z − μ̄)/σ̄ whatever the batch."""
    return (z - running_mean) / running_std


def only_above(z, running_mean, running_std, r_max, d_max):
    """You limit d from above only. It lies between −d_max and d_max."""
    z_hat, r, d = _parts(z, running_mean, running_std)
    return z_hat * np.clip(r, 1 / r_max, r_max) + np.minimum(d, d_max)


def by_a_corrected_history(z, running_mean, running_std, r_max, d_max):
    """The same: limit what the history may be, and normalize by that."""
    mean, std = z.mean(0), z.std(0)
    r = np.minimum(np.maximum(std / running_std, 1 / r_max), r_max)
    d = np.minimum(np.maximum((mean - running_mean) / running_std, -d_max), d_max)
    allowed_std = std / r
    allowed_mean = mean - d * allowed_std
    return (z - allowed_mean) / allowed_std


_rng = np.random.default_rng(512)

EXERCISE = FunctionExercise(
    id="minibatch-renorm",
    chapter="estimation/minibatch",
    title="Renormalize",
    level="core",
    reference=renormalize,
    why="ẑ r + d = (z − μ)/σ · σ/σ̄ + (μ − μ̄)/σ̄ = (z − μ̄)/σ̄ while neither correction is at its limit.",
    mistakes=variants(
        no_scale,
        scale_inverted,
        variance_ratio,
        shift_by_batch_std,
        shift_inside,
        no_lower_limit,
        no_limits,
        only_above,
    ),
    alternatives=(by_a_corrected_history,),
    hints=(
        "Compute ẑ first, then the two corrections, each limited on both sides.",
        "np.clip(r, 1/r_max, r_max) and np.clip(d, -d_max, d_max).",
    ),
    cases=(
        Case(
            "no correction at its limit",
            (
                _rng.normal(size=(5, 3)),
                np.array([0.3, -0.2, 0.1]),
                np.array([0.8, 1.3, 1.1]),
                3.0,
                5.0,
            ),
            rtol=1e-9,
        ),
        Case(
            "all corrections at their limits",
            (
                _rng.normal(size=(4, 4)) * np.array([9.0, 0.02, 1.0, 1.0]),
                np.array([0.0, 0.0, 9.0, -9.0]),
                np.ones(4),
                2.0,
                1.5,
            ),
            "the corrections reach their limits, from above and from below.",
            rtol=1e-9,
        ),
        Case(
            "limits of batch normalization",
            (_rng.normal(size=(6, 2)), np.array([1.0, -1.0]), np.ones(2), 1.0, 0.0),
            "r_max is 1 and d_max is 0.",
            rtol=1e-9,
        ),
    ),
    returns=("x_hat",),
    feature_axis=1,
)
