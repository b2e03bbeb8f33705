"""Exercise: the backward pass in inference mode, where the statistics are constants."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def eval_gradients(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of y = γ (x − running mean)/√(running var + ε) + β: inference mode, for example fine-tuning.

    Args:
        dy: upstream gradient g = ∂L/∂y, (M, D).
        x: the input, (M, D).
        gamma: scale γ, (D,).
        running_mean, running_var: the running statistics, (D,).
        eps: ε of the normalization.

    Returns:
        dx, (M, D), dgamma, (D,), and dbeta, (D,).
    """
    std = np.sqrt(running_var + eps)
    z_hat = (x - running_mean) / std
    return gamma / std * dy, (dy * z_hat).sum(axis=0), dy.sum(axis=0)


def training_formula(dy, x, gamma, running_mean, running_var, eps):
    """Your dx is that of training mode. In inference mode the statistics are constants and do not depend on
    x: only the direct path is left."""
    std = np.sqrt(running_var + eps)
    z_hat = (x - running_mean) / std
    dx = gamma / std * (dy - dy.mean(axis=0) - z_hat * (dy * z_hat).mean(axis=0))
    return dx, (dy * z_hat).sum(axis=0), dy.sum(axis=0)


def mean_subtracted(dy, x, gamma, running_mean, running_var, eps):
    """Your dx subtracts mean(g), the path through the batch mean. In inference mode the mean is a constant:
    that path does not exist."""
    std = np.sqrt(running_var + eps)
    dx = gamma / std * (dy - dy.mean(axis=0))
    return dx, (dy * (x - running_mean) / std).sum(axis=0), dy.sum(axis=0)


def batch_statistics(dy, x, gamma, running_mean, running_var, eps):
    """You normalize with the mean and variance of the batch. In inference mode y uses the running ones, and
    so must its gradients."""
    return eval_gradients(dy, x, gamma, x.mean(axis=0), x.var(axis=0), eps)


def training_mode(dy, x, gamma, running_mean, running_var, eps):
    """You compute the gradients of training mode, with batch statistics and their paths. In inference mode
    the running statistics are constants: dx = γg/√(running var + ε)."""
    return training_formula(dy, x, gamma, x.mean(axis=0), x.var(axis=0), eps)


def batch_z_hat(dy, x, gamma, running_mean, running_var, eps):
    """Your dgamma uses the ẑ of the batch statistics. ∂y/∂γ is the ẑ that the forward pass used, from the
    running statistics."""
    dx, _, dbeta = eval_gradients(dy, x, gamma, running_mean, running_var, eps)
    z_hat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return dx, (dy * z_hat).sum(axis=0), dbeta


def not_normalized(dy, x, gamma, running_mean, running_var, eps):
    """Your dgamma multiplies g by x. ∂y/∂γ is the normalized (x − running mean)/√(running var + ε)."""
    dx, _, dbeta = eval_gradients(dy, x, gamma, running_mean, running_var, eps)
    return dx, (dy * x).sum(axis=0), dbeta


def gamma_lost(dy, x, gamma, running_mean, running_var, eps):
    """Your dx lacks γ: dx = γg/√(running var + ε)."""
    return eval_gradients(dy, x, np.ones_like(gamma), running_mean, running_var, eps)


def root_lost(dy, x, gamma, running_mean, running_var, eps):
    """Your dx lacks the factor 1/√(running var + ε)."""
    _, dgamma, dbeta = eval_gradients(dy, x, gamma, running_mean, running_var, eps)
    return gamma * dy, dgamma, dbeta


def missing_root(dy, x, gamma, running_mean, running_var, eps):
    """You divide by running var + ε and not by its square root."""
    v = running_var + eps
    return gamma / v * dy, (dy * (x - running_mean) / v).sum(axis=0), dy.sum(axis=0)


def eps_ignored(dy, x, gamma, running_mean, running_var, eps):
    """You leave out ε: divide by √(running var + ε)."""
    return eval_gradients(dy, x, gamma, running_mean, running_var, 0.0)


def eps_outside_root(dy, x, gamma, running_mean, running_var, eps):
    """You add ε outside the root. It belongs inside: √(running var + ε)."""
    std = np.sqrt(running_var) + eps
    return gamma / std * dy, (dy * (x - running_mean) / std).sum(axis=0), dy.sum(axis=0)


def parameters_averaged(dy, x, gamma, running_mean, running_var, eps):
    """You average dgamma and dbeta over the batch. The contributions of the examples add up: `sum`, without
    1/M."""
    dx, dgamma, dbeta = eval_gradients(dy, x, gamma, running_mean, running_var, eps)
    return dx, dgamma / len(x), dbeta / len(x)


def as_a_linear_layer(dy, x, gamma, running_mean, running_var, eps):
    """The same, seen as y = a x + b with constant a."""
    inverse = (running_var + eps) ** -0.5
    dbeta = np.einsum("md->d", dy)
    dgamma = inverse * (np.einsum("md,md->d", dy, x) - running_mean * dbeta)
    return dy @ np.diag(gamma * inverse), dgamma, dbeta


_rng = np.random.default_rng(205)


def _batch(count, features, eps):
    return (
        _rng.normal(0.4, 1.0, size=(count, features)),
        _rng.normal(2.0, 1.5, size=(count, features)),
        np.array([1.5, -0.7, 2.2, 0.6])[:features],
        _rng.normal(1.5, 0.5, size=features),
        _rng.uniform(0.5, 3.0, size=features),
        eps,
    )


EXERCISE = FunctionExercise(
    id="backward-eval",
    chapter="foundations/backward",
    title="The backward pass of inference mode",
    level="core",
    reference=eval_gradients,
    why="Constants have no gradient, so the paths through μ and σ² vanish and each example stands for "
    "itself. A network fine-tuned with frozen statistics therefore has other gradients than one in "
    "training mode.",
    mistakes=variants(
        training_formula,
        mean_subtracted,
        batch_statistics,
        training_mode,
        batch_z_hat,
        not_normalized,
        gamma_lost,
        root_lost,
        missing_root,
        eps_ignored,
        eps_outside_root,
        parameters_averaged,
    ),
    alternatives=(as_a_linear_layer,),
    hints=(
        "Which of the three paths from x to the loss are left when μ and σ² do not depend on x?",
        "Only the direct one. dgamma and dbeta are the sums you know, with the ẑ of the running statistics.",
    ),
    cases=(
        Case("6 examples, 3 features", _batch(6, 3, 0.1), count=6),
        Case(
            "4 examples, 4 features",
            _batch(4, 4, 1.5),
            "as many features as examples.",
            4,
        ),
        Case("one example", _batch(1, 3, 0.3), "M = 1, which inference mode allows."),
    ),
    returns=("dx", "dgamma", "dbeta"),
    feature_axis=1,
)
