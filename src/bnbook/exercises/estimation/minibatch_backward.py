"""Exercise: Batch Renormalization, backward."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def renorm_input_gradient(
    z: np.ndarray, g: np.ndarray, running_std: np.ndarray, r_max: float
) -> np.ndarray:
    """Pass a gradient back through ẑ r + d, where r and d are constants.

    Args:
        z: the batch, (M, D); no feature is constant. There is no ε.
        g: gradient by ẑ r + d, (M, D).
        running_std: (D,), positive.
        r_max: r = σ/running_std was limited to 1/r_max … r_max; σ is that of the
            batch.

    Returns:
        Gradient by z, (M, D).
    """
    std = z.std(0)
    z_hat = (z - z.mean(0)) / std
    r = np.clip(std / running_std, 1 / r_max, r_max)
    return r / std * (g - g.mean(0) - z_hat * (g * z_hat).mean(0))


def of_batch_norm(z, g, running_std, r_max):
    """You return the gradient of plain batch normalization. The factor r is a constant, and constants
    multiply the gradient too."""
    return renorm_input_gradient(z, g, z.std(0), 1.0)


def of_evaluation(z, g, running_std, r_max):
    """You return g/σ̄, the gradient of (z − μ̄)/σ̄ with constant statistics. The value is that; but the
    gradient passes through the μ and σ of ẑ, and only r and d are constants."""
    return g / running_std


def limit_forgotten(z, g, running_std, r_max):
    """You divide by σ̄ even where r is at its limit. There the factor is r/σ with the limited r."""
    return renorm_input_gradient(z, g, running_std, np.inf)


def variance_forgotten(z, g, running_std, r_max):
    """Your gradient does not pass through σ: the part along ẑ must be taken out too."""
    std = z.std(0)
    r = np.clip(std / running_std, 1 / r_max, r_max)
    return r / std * (g - g.mean(0))


def mean_forgotten(z, g, running_std, r_max):
    """Your gradient does not pass through μ: the mean of g must be taken out too."""
    std = z.std(0)
    z_hat = (z - z.mean(0)) / std
    r = np.clip(std / running_std, 1 / r_max, r_max)
    return r / std * (g - z_hat * (g * z_hat).mean(0))


def sum_for_mean(z, g, running_std, r_max):
    """Your part along ẑ has a sum over the examples in place of their mean: σ² is a mean of squares, so a 1/M
    belongs there."""
    std = z.std(0)
    z_hat = (z - z.mean(0)) / std
    r = np.clip(std / running_std, 1 / r_max, r_max)
    return r / std * (g - g.mean(0) - z_hat * (g * z_hat).sum(0))


def through_the_shift(z, g, running_std, r_max):
    """You let the gradient pass through d = (μ − μ̄)/σ̄ too. d is a constant, which is why the mean of
    the gradient is 0."""
    return renorm_input_gradient(z, g, running_std, r_max) + g.mean(0) / running_std


def scale_squared(z, g, running_std, r_max):
    """You multiply by r twice. ẑ in the bracket is the batch-normalized value, without r."""
    std = z.std(0)
    z_hat = (z - z.mean(0)) / std
    r = np.clip(std / running_std, 1 / r_max, r_max)
    return r / std * (g - g.mean(0) - r * z_hat * (g * r * z_hat).mean(0))


def by_projection(z, g, running_std, r_max):
    """The same: take the parts along 1 and ẑ out of the gradient, one after the other."""
    std = z.std(0)
    centred = z - z.mean(0)
    upstream = g * np.minimum(np.maximum(std / running_std, 1 / r_max), r_max)
    upstream = upstream - upstream.mean(0)
    along = (upstream * centred).sum(0) / (centred**2).sum(0)
    return (upstream - along * centred) / std


_rng = np.random.default_rng(513)

EXERCISE = FunctionExercise(
    id="minibatch-backward",
    chapter="estimation/minibatch",
    title="Renormalize, backward",
    level="core",
    reference=renorm_input_gradient,
    why="r and d are constants, so the gradient by ẑ is r g, and the rest is the backward pass of batch "
    "normalization. Where r is not at its limit, r/σ = 1/σ̄.",
    mistakes=variants(
        of_batch_norm,
        of_evaluation,
        limit_forgotten,
        variance_forgotten,
        mean_forgotten,
        sum_for_mean,
        through_the_shift,
        scale_squared,
    ),
    alternatives=(by_projection,),
    hints=(
        "The gradient by ẑ is r g. Which function has then to be differentiated?",
        "Batch normalization gives 1/σ (u − mean(u) − ẑ mean(u ẑ)) for the gradient u by ẑ.",
    ),
    cases=(
        Case(
            "6 examples, no limit reached",
            (
                _rng.normal(size=(6, 3)),
                _rng.normal(size=(6, 3)),
                np.array([0.7, 1.0, 1.6]),
                3.0,
            ),
            count=6,
            rtol=1e-9,
        ),
        Case(
            "r at both limits",
            (
                _rng.normal(size=(5, 2)) * np.array([8.0, 0.05]),
                _rng.normal(size=(5, 2)),
                np.ones(2),
                2.0,
            ),
            "r is at its limit, above in one feature and below in the other.",
            count=5,
            rtol=1e-9,
        ),
        Case(
            "a batch of three",
            (_rng.normal(size=(3, 2)), _rng.normal(size=(3, 2)), np.ones(2), 50.0),
            count=3,
            rtol=1e-9,
        ),
    ),
    returns=("dz",),
    feature_axis=1,
)
