"""Exercise: the backward pass of synchronized batch normalization on one worker."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def sync_backward(
    g: np.ndarray, x_hat: np.ndarray, std: np.ndarray, sums: np.ndarray, count: float
) -> np.ndarray:
    """∂L/∂x of this worker's examples, where L is the sum of all workers' losses.

    Args:
        g: ∂L/∂x̂ of this worker's examples, (M, C).
        x_hat: their normalized values, by the statistics of all workers, (M, C).
        std: √(σ² + ε) of all workers, (C,).
        sums: Σ g and Σ g x̂ over the examples of all workers, (2, C).
        count: number of examples of all workers.

    Returns:
        dx: (M, C).
    """
    mean_g, mean_product = sums / count
    return (g - mean_g - x_hat * mean_product) / std


def own_sums(g, x_hat, std, sums, count):
    """You use the sums of this worker's examples. All workers' examples depend on the common statistics."""
    own = np.stack([g.sum(0), (g * x_hat).sum(0)])
    return sync_backward(g, x_hat, std, own, len(g))


def own_count(g, x_hat, std, sums, count):
    """You divide the common sums by this worker's number of examples. They run over all workers."""
    return sync_backward(g, x_hat, std, sums, len(g))


def no_statistics(g, x_hat, std, sums, count):
    """You treat the statistics as constants. They depend on every x."""
    return g / std


def mean_part_only(g, x_hat, std, sums, count):
    """You leave out the way through the variance, − x̂ · mean(g x̂)."""
    return (g - sums[0] / count) / std


def x_hat_forgotten(g, x_hat, std, sums, count):
    """You subtract mean(g x̂) itself. It comes times the x̂ of each example."""
    return (g - sums[0] / count - sums[1] / count) / std


def added(g, x_hat, std, sums, count):
    """You add the part through the variance. A larger variance makes values smaller."""
    return (g - sums[0] / count + x_hat * sums[1] / count) / std


def sums_not_divided(g, x_hat, std, sums, count):
    """You subtract the sums. Divide them by the number of examples of all workers: the closed form holds means."""
    return (g - sums[0] - x_hat * sums[1]) / std


def sums_exchanged(g, x_hat, std, sums, count):
    """You exchange the two sums: Σ g comes first, and Σ g x̂ belongs to x̂."""
    return sync_backward(g, x_hat, std, sums[::-1], count)


def not_scaled(g, x_hat, std, sums, count):
    """You do not divide by std."""
    return sync_backward(g, x_hat, np.ones_like(std), sums, count)


def one_example_at_a_time(g, x_hat, std, sums, count):
    """The same, example by example."""
    dx = np.empty_like(g)
    for m in range(len(g)):
        dx[m] = (count * g[m] - sums[0] - x_hat[m] * sums[1]) / (count * std)
    return dx


_rng = np.random.default_rng(903)


def _worker(all_, channels, mine):
    x_hat = _rng.normal(size=(all_, channels))
    x_hat = (x_hat - x_hat.mean(0)) / x_hat.std(0)
    g = _rng.normal(size=(all_, channels))
    sums = np.stack([g.sum(0), (g * x_hat).sum(0)])
    std = _rng.uniform(0.5, 2, channels)
    return g[:mine], x_hat[:mine], std, sums, float(all_)


EXERCISE = FunctionExercise(
    id="at-scale-backward",
    chapter="estimation/at_scale",
    title="Backward through common statistics",
    level="core",
    reference=sync_backward,
    why="The closed form needs the examples of others only in two sums, and sums can be shared.",
    mistakes=variants(
        own_sums,
        own_count,
        no_statistics,
        mean_part_only,
        x_hat_forgotten,
        added,
        sums_not_divided,
        sums_exchanged,
        not_scaled,
    ),
    alternatives=(one_example_at_a_time,),
    hints=(
        "Start from batch normalization's own backward pass: (g − mean g − x̂ mean(g x̂))/std.",
        "Both means run over the examples of all workers; you have their sums and their number.",
    ),
    cases=(
        Case("3 of 8 examples, 2 channels", _worker(8, 2, 3)),
        Case(
            "1 of 5 examples, 3 channels",
            _worker(5, 3, 1),
            "A worker with one example.",
        ),
    ),
    returns=("dx",),
    feature_axis=1,
)
