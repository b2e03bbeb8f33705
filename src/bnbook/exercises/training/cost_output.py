"""Exercise: the backward pass from the output, so that the input need not be kept."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def backward_from_output(
    dy: np.ndarray, y: np.ndarray, gamma: np.ndarray, beta: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """∂L/∂x of batch normalization, from its output y instead of its input.

    y = γ ẑ + β, and dx = γ/std · (dy − mean(dy) − ẑ · mean(dy ẑ)). No γ is 0.

    Args:
        dy: upstream gradient ∂L/∂y, (M, D).
        y: the output, (M, D).
        gamma: scale γ, (D,).
        beta: shift β, (D,).
        std: √(σ² + ε), (D,).

    Returns:
        dx, (M, D).
    """
    z_hat = (y - beta) / gamma
    along = (dy * z_hat).mean(axis=0)
    return gamma / std * (dy - dy.mean(axis=0) - z_hat * along)


def output_for_z_hat(dy, y, gamma, beta, std):
    """You use y where ẑ belongs. Undo the shift and the scale first: ẑ = (y − β)/γ."""
    return gamma / std * (dy - dy.mean(axis=0) - y * (dy * y).mean(axis=0))


def shift_kept(dy, y, gamma, beta, std):
    """You undo the scale and not the shift: ẑ = (y − β)/γ."""
    return backward_from_output(dy, y, gamma, 0 * beta, std)


def scale_kept(dy, y, gamma, beta, std):
    """You undo the shift and not the scale: ẑ = (y − β)/γ."""
    z = y - beta
    return gamma / std * (dy - dy.mean(axis=0) - z * (dy * z).mean(axis=0))


def standardized_anew(dy, y, gamma, beta, std):
    """You standardize y instead of undoing γ and β. That gives the sign of γ times ẑ, and, with an
    ε, not quite that: ẑ has a variance below 1. Undo the map: ẑ = (y − β)/γ."""
    z = (y - y.mean(axis=0)) / y.std(axis=0)
    return gamma / std * (dy - dy.mean(axis=0) - z * (dy * z).mean(axis=0))


def shift_after_scale(dy, y, gamma, beta, std):
    """You divide by γ before you subtract β. The map was γ ẑ + β: first undo what came last."""
    return backward_from_output(dy, y, gamma, beta * gamma, std)


def factor_lost(dy, y, gamma, beta, std):
    """You lack the factor γ in front of the bracket: dx = γ/std · (…)."""
    return backward_from_output(dy, y, gamma, beta, std) / gamma


def sums_for_means(dy, y, gamma, beta, std):
    """You subtract sums over the batch where means belong. Divide both by M: mean(dy) and mean(dy ẑ)."""
    z_hat = (y - beta) / gamma
    return gamma / std * (dy - dy.sum(axis=0) - z_hat * (dy * z_hat).sum(axis=0))


def mean_term_only(dy, y, gamma, beta, std):
    """You subtract the mean of dy and leave out ẑ · mean(dy ẑ), the part that comes through the standard
    deviation."""
    return gamma / std * (dy - dy.mean(axis=0))


def in_units_of_y(dy, y, gamma, beta, std):
    """The same without a separate ẑ."""
    centred = y - beta
    along = np.einsum("md,md->d", dy, centred) / len(y)
    return (gamma * (dy - dy.mean(axis=0)) - centred * along / gamma) / std


def example_by_example(dy, y, gamma, beta, std):
    """The same with loops."""
    z_hat = np.stack([(row - beta) / gamma for row in y])
    dbeta, dgamma = dy.sum(axis=0), (dy * z_hat).sum(axis=0)
    dx = np.empty_like(dy)
    for m in range(len(y)):
        dx[m] = gamma / std * (dy[m] - dbeta / len(y) - z_hat[m] * dgamma / len(y))
    return dx


_rng = np.random.default_rng(412)


def _case(name: str, shape: tuple[int, int], eps: float, note: str = "") -> Case:
    x, dy = _rng.normal(1.0, 2.0, shape), _rng.normal(size=shape)
    gamma = _rng.uniform(0.5, 2.0, shape[1]) * _rng.choice([-1, 1], shape[1])
    beta = _rng.normal(0.0, 2.0, shape[1])
    std = np.sqrt(x.var(axis=0) + eps)
    y = gamma * (x - x.mean(axis=0)) / std + beta
    return Case(name, (dy, y, gamma, beta, std), note, count=shape[0])


EXERCISE = FunctionExercise(
    id="cost-output",
    chapter="training/cost",
    title="Forget the input",
    level="hard",
    reference=backward_from_output,
    why="γ and β are parameters and are kept anyway, so ẑ can be had from y, and only one array a layer "
    "has to stay. The price is a division by γ, which fails where γ is 0.",
    mistakes=variants(
        output_for_z_hat,
        shift_kept,
        scale_kept,
        standardized_anew,
        shift_after_scale,
        factor_lost,
        sums_for_means,
        mean_term_only,
    ),
    alternatives=(in_units_of_y, example_by_example),
    hints=(
        "What does the closed form of dx need that is not given? And what is y made of?",
        "ẑ = (y − β)/γ. Then it is the backward pass that you know.",
    ),
    cases=(
        _case("6 examples, 3 features", (6, 3), 1e-5),
        _case("a large ε", (9, 4), 2.0, "ε is 2, so ẑ has a variance below 1."),
        _case("2 examples", (2, 2), 0.1),
    ),
    returns=("dx",),
    feature_axis=1,
)
