"""Exercise: the gradient of the weights in front of batch normalization."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def weight_gradient(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, gamma: np.ndarray, eps: float
) -> np.ndarray:
    """Gradient of the weights of a linear layer whose output is batch normalized.

    The layer computes z = x Wᵀ, then y = γẑ + β.

    Args:
        dy: upstream gradient ∂L/∂y, (M, D).
        x: input of the linear layer, (M, D_in).
        weight: W, (D, D_in).
        gamma: scale γ, (D,).
        eps: ε ≥ 0 of the normalization.

    Returns:
        ∂L/∂W, (D, D_in).
    """
    z = x @ weight.T
    std = np.sqrt(z.var(axis=0) + eps)
    z_hat = (z - z.mean(axis=0)) / std
    dz = gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))
    return dz.T @ x


def _parts(x, weight, eps):
    z = x @ weight.T
    std = np.sqrt(z.var(axis=0) + eps)
    return (z - z.mean(axis=0)) / std, std


def statistics_detached(dy, x, weight, gamma, eps):
    """You treat μ and σ as constants. Both depend on W through every example, and their
    paths remove the mean of dy and its part along ẑ."""
    _, std = _parts(x, weight, eps)
    return (gamma / std * dy).T @ x


def only_the_mean_removed(dy, x, weight, gamma, eps):
    """You remove the mean of dy and keep its part along ẑ, so your gradient has a
    component along W even for ε = 0."""
    _, std = _parts(x, weight, eps)
    return (gamma / std * (dy - dy.mean(axis=0))).T @ x


def only_z_hat_removed(dy, x, weight, gamma, eps):
    """You remove the part along ẑ and keep the mean of dy: the path through μ is
    missing."""
    z_hat, std = _parts(x, weight, eps)
    return (gamma / std * (dy - z_hat * (dy * z_hat).mean(axis=0))).T @ x


def one_over_m_lost(dy, x, weight, gamma, eps):
    """You lack the 1/M before ẑẑᵀ, as Morwani's note does: it is the mean of g ẑ that
    multiplies ẑ, not the sum."""
    z_hat, std = _parts(x, weight, eps)
    dz = gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).sum(axis=0))
    return dz.T @ x


def averaged(dy, x, weight, gamma, eps):
    """You average over the batch. The gradient of a shared weight is a sum; if the loss
    is a mean, its 1/M is in dy already."""
    return weight_gradient(dy, x, weight, gamma, eps) / len(x)


def gamma_lost(dy, x, weight, gamma, eps):
    """You leave out γ: dy is the gradient of y = γẑ + β, not of ẑ."""
    return weight_gradient(dy, x, weight, np.ones_like(gamma), eps)


def root_lost(dy, x, weight, gamma, eps):
    """You leave out 1/√(σ² + ε), the derivative of ẑ by z."""
    _, std = _parts(x, weight, eps)
    return weight_gradient(dy, x, weight, gamma * std, eps)


def no_normalization(dy, x, weight, gamma, eps):
    """You return dyᵀx, the gradient of a linear layer without normalization."""
    return dy.T @ x


def with_centred_inputs(dy, x, weight, gamma, eps):
    """The same: dz sums to 0, so the mean of x does not matter."""
    return weight_gradient(dy, x - x.mean(axis=0), weight, gamma, eps)


def neuron_by_neuron(dy, x, weight, gamma, eps):
    """The same with the matrix P of each neuron."""
    z_hat, std = _parts(x, weight, eps)
    rows = []
    for d in range(len(weight)):
        p = np.eye(len(x)) - (1 + np.outer(z_hat[:, d], z_hat[:, d])) / len(x)
        rows.append(gamma[d] / std[d] * (x.T @ (p @ dy[:, d])))
    return np.stack(rows)


_rng = np.random.default_rng(304)


def _case(count, inputs, neurons, eps):
    return (
        _rng.normal(0.5, 1.0, (count, neurons)),
        _rng.normal(1.0, 1.0, (count, inputs)),
        _rng.normal(size=(neurons, inputs)),
        _rng.normal(1.0, 0.5, neurons),
        eps,
    )


EXERCISE = FunctionExercise(
    id="geometry-weights",
    chapter="foundations/geometry",
    title="The gradient of the weights in front",
    level="core",
    reference=weight_gradient,
    why="z = x Wᵀ gives ∂L/∂W = (∂L/∂z)ᵀ x, and ∂L/∂z is the backward pass of the "
    "normalization. For ε = 0 each row is orthogonal to the same row of W.",
    mistakes=variants(
        statistics_detached,
        only_the_mean_removed,
        only_z_hat_removed,
        one_over_m_lost,
        averaged,
        gamma_lost,
        root_lost,
        no_normalization,
    ),
    alternatives=(with_centred_inputs, neuron_by_neuron),
    hints=(
        "First ∂L/∂z from dy, as in the closed form of the backward pass. Then through "
        "z = x Wᵀ.",
        "∂L/∂W[d, i] = Σ_m dz[m, d] x[m, i], which is `dz.T @ x`.",
    ),
    cases=(
        Case("7 examples, 4 inputs, 3 neurons", _case(7, 4, 3, 0.2), count=7),
        Case("ε = 0", _case(6, 3, 2, 0.0), "ε is 0.", 6),
        Case("2 examples", _case(2, 3, 4, 1.5), "M = 2.", 2),
    ),
    returns=("dweight",),
)
