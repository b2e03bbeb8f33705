"""Exercise: what every worker feeds into its second stage."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def shared_feed(
    from_losses: np.ndarray, squares: np.ndarray, counts: np.ndarray, running: np.ndarray,
    r_v: float, f_max: float,
) -> np.ndarray:  # fmt: skip
    """∂ℓ/∂ν_b of each example of all workers, where ℓ is the mean loss over all examples.

    Args:
        from_losses: Σ_b ∂L_b/∂ν‡ over the examples of each worker, (W, C).
        squares: Σ_b ν_b over the examples of each worker, (W, C).
        counts: how many examples each worker has, (W,).
        running: ν̄, (C,).
        r_v: shrinkage.
        f_max: cap of the factor.

    Returns:
        feed: the same on every worker, (C,).
    """
    count = counts.sum()
    g = from_losses.sum(0) / count
    factor = np.minimum(running / (squares.sum(0) / count), f_max)
    return r_v * factor * g / count


def own_factors(from_losses, squares, counts, running, r_v, f_max):
    """You average the workers' own factors. ν‡ has one factor, that of the second moment of all examples."""
    factor = np.minimum(running / (squares / counts[:, None]), f_max).mean(0)
    return r_v * factor * from_losses.sum(0) / counts.sum() ** 2


def factors_on_own_sums(from_losses, squares, counts, running, r_v, f_max):
    """You multiply each worker's sum by that worker's own factor. ν‡ has one factor, that of the second moment of
    all examples, so it comes after the exchange."""
    factor = np.minimum(running / (squares / counts[:, None]), f_max)
    return r_v * (factor * from_losses).sum(0) / counts.sum() ** 2


def squares_not_divided(from_losses, squares, counts, running, r_v, f_max):
    """You divide ν̄ by the sum Σ ν_b. The factor is that of the mean: divide by the number of all examples."""
    factor = np.minimum(running / squares.sum(0), f_max)
    return r_v * factor * from_losses.sum(0) / counts.sum() ** 2


def no_factor(from_losses, squares, counts, running, r_v, f_max):
    """You leave out the factor min(ν̄/ν, f_max), with ν the mean of ν_b over all examples."""
    return r_v * from_losses.sum(0) / counts.sum() ** 2


def shrunk_before_the_cap(from_losses, squares, counts, running, r_v, f_max):
    """You cap r_v times the factor. The cap acts on the factor, and r_v comes after it."""
    factor = np.minimum(r_v * running / (squares.sum(0) / counts.sum()), f_max)
    return factor * from_losses.sum(0) / counts.sum() ** 2


def mean_of_gradients(from_losses, squares, counts, running, r_v, f_max):
    """You average the workers' means of ∂L_b/∂ν‡, each with the same weight. Add their sums, and divide by the
    number of all examples."""
    g = (from_losses / counts[:, None]).mean(0)
    factor = np.minimum(running / (squares.sum(0) / counts.sum()), f_max)
    return r_v * factor * g / counts.sum()


def mean_of_means(from_losses, squares, counts, running, r_v, f_max):
    """You average the workers' means of ν_b, each with the same weight. Add their sums, and divide by the
    number of all examples."""
    mean = (squares / counts[:, None]).mean(0)
    return (
        r_v * np.minimum(running / mean, f_max) * from_losses.sum(0) / counts.sum() ** 2
    )


def divided_once(from_losses, squares, counts, running, r_v, f_max):
    """You divide by the number of examples once. ℓ is a mean over them, and ν‡ is another."""
    feed = shared_feed(from_losses, squares, counts, running, r_v, f_max)
    return feed * counts.sum()


def first_worker(from_losses, squares, counts, running, r_v, f_max):
    """You use the sums of one worker. That is the exchange between the stages, left out."""
    return shared_feed(from_losses[:1], squares[:1], counts[:1], running, r_v, f_max)


def uncapped(from_losses, squares, counts, running, r_v, f_max):
    """You leave out the cap f_max."""
    return shared_feed(from_losses, squares, counts, running, r_v, np.inf)


def inverted(from_losses, squares, counts, running, r_v, f_max):
    """Your factor is upside down: it is ν̄ over the batch's second moment."""
    factor = np.minimum(squares.sum(0) / counts.sum() / running, f_max)
    return r_v * factor * from_losses.sum(0) / counts.sum() ** 2


def no_shrinkage(from_losses, squares, counts, running, r_v, f_max):
    """You leave out the shrinkage r_v."""
    return shared_feed(from_losses, squares, counts, running, 1.0, f_max)


def one_message(from_losses, squares, counts, running, r_v, f_max):
    """The same: each worker packs what it has into one message, and the messages are added up."""
    packed = np.concatenate([from_losses, squares, counts[:, None]], 1)
    total = np.zeros(packed.shape[1])
    for row in packed:
        total += row
    c = len(running)
    ratio = running * total[-1] / total[c : 2 * c]
    factor = np.where(ratio > f_max, f_max, ratio)
    return r_v * factor * total[:c] / total[-1] / total[-1]


_rng = np.random.default_rng(904)

EXERCISE = FunctionExercise(
    id="at-scale-feed",
    chapter="estimation/at_scale",
    title="The exchange between the stages",
    level="core",
    reference=shared_feed,
    why="Three sums and nothing else must be known to all: Σ ∂L_b/∂ν, Σ ν_b and the number of examples.",
    mistakes=variants(
        own_factors,
        factors_on_own_sums,
        squares_not_divided,
        no_factor,
        shrunk_before_the_cap,
        mean_of_gradients,
        mean_of_means,
        divided_once,
        first_worker,
        uncapped,
        inverted,
        no_shrinkage,
    ),
    alternatives=(one_message,),
    hints=(
        "Forget the workers: which two means over all examples does the feed contain?",
        "g is Σ ∂L_b/∂ν over n, and each of the n second moments has a share of 1/n in ν‡.",
    ),
    cases=(
        Case(
            "3 workers, 4 channels",
            (
                _rng.normal(size=(3, 4)),
                np.array([5.0, 3.0, 1.0])[:, None] * _rng.uniform(0.3, 2, (3, 4)),
                np.array([5.0, 3.0, 1.0]),
                np.array([1.0, 0.7, 9.0, 1.3]),
                0.8,
                2.0,
            ),
            "In one channel the cap acts.",
        ),
        Case(
            "2 workers, 2 channels",
            (
                _rng.normal(size=(2, 2)),
                np.array([1.0, 6.0])[:, None] * _rng.uniform(0.3, 2, (2, 2)),
                np.array([1.0, 6.0]),
                np.array([0.8, 5.0]),
                0.5,
                1.5,
            ),
        ),
    ),
    returns=("feed",),
    feature_axis=0,
)
