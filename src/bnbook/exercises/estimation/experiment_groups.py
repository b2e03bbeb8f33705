"""Exercise: the factor S/Q where groups of examples share their second moment."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def group_factor(
    x: np.ndarray, mean: float, square: float, group: int, f_max: float
) -> np.ndarray:
    """The factor on the gradient through ν‡, for each example.

    Successive examples form the groups, and those of one group share
    min(S/Q, f_max): S is the running second moment of x − mean, and Q the group's own.

    Args:
        x: d values of one channel for each of M examples, (M, d).
        mean: the running mean.
        square: S > 0.
        group: examples in a group; it divides M.
        f_max: cap, at least 1.

    Returns:
        factor: (M,).
    """
    q_b = ((x - mean) ** 2).mean(axis=1)
    q = q_b.reshape(-1, group).mean(axis=1)
    return np.repeat(np.minimum(square / q, f_max), group)


def one_by_one(x, mean, square, group, f_max):
    """You give each example its own factor, that of the single-example method. The examples of a group share
    one."""
    return np.minimum(square / ((x - mean) ** 2).mean(axis=1), f_max)


def whole_batch(x, mean, square, group, f_max):
    """You take the second moment of the whole batch. Each group has its own."""
    return np.full(len(x), np.minimum(square / ((x - mean) ** 2).mean(), f_max))


def dealt_in_turn(x, mean, square, group, f_max):
    """You deal the examples to the groups in turn. Successive examples form a group: reshape to
    (groups, group)."""
    q_b = ((x - mean) ** 2).mean(axis=1)
    q = q_b.reshape(group, -1).mean(axis=0)
    return np.tile(np.minimum(square / q, f_max), group)


def tiled(x, mean, square, group, f_max):
    """Your groups are right, and you hand their factors to the wrong examples: repeat each of them `group`
    times in a row."""
    q = ((x - mean) ** 2).mean(axis=1).reshape(-1, group).mean(axis=1)
    return np.tile(np.minimum(square / q, f_max), group)


def mean_of_factors(x, mean, square, group, f_max):
    """You average the factors of the examples. The group's factor is S over its average Q: the mean of
    inverses is larger than the inverse of the mean."""
    own = np.minimum(square / ((x - mean) ** 2).mean(axis=1), f_max)
    return np.repeat(own.reshape(-1, group).mean(axis=1), group)


def group_mean(x, mean, square, group, f_max):
    """You take Q about the mean of the group, its variance. The forward pass subtracts the running mean."""
    parts = x.reshape(-1, group * x.shape[1])
    return np.repeat(np.minimum(square / parts.var(axis=1), f_max), group)


def mean_forgotten(x, mean, square, group, f_max):
    """You average the squares of x. S is the second moment of x − mean: subtract the running mean here too."""
    q = (x**2).mean(axis=1).reshape(-1, group).mean(axis=1)
    return np.repeat(np.minimum(square / q, f_max), group)


def not_capped(x, mean, square, group, f_max):
    """You leave the cap out."""
    q = ((x - mean) ** 2).mean(axis=1).reshape(-1, group).mean(axis=1)
    return np.repeat(square / q, group)


def cap_of_two(x, mean, square, group, f_max):
    """You cap at 2, the source's value. The cap is the argument `f_max`."""
    q = ((x - mean) ** 2).mean(axis=1).reshape(-1, group).mean(axis=1)
    return np.repeat(np.minimum(square / q, 2.0), group)


def inverted(x, mean, square, group, f_max):
    """You scale by Q/S. It is S/Q: a group with a large second moment is to count less."""
    q = ((x - mean) ** 2).mean(axis=1).reshape(-1, group).mean(axis=1)
    return np.repeat(np.minimum(q / square, f_max), group)


def by_loop(x, mean, square, group, f_max):
    """The same, group by group."""
    factors = np.empty(len(x))
    for start in range(0, len(x), group):
        part = x[start : start + group] - mean
        factors[start : start + group] = min(square / (part**2).mean(), f_max)
    return factors


_rng = np.random.default_rng(833)


def _values(count: int, d: int) -> np.ndarray:
    sizes = _rng.uniform(0.3, 2.0, (count, 1))
    return 0.4 + sizes * _rng.normal(0.3, 1.0, (count, d))


EXERCISE = FunctionExercise(
    id="experiment-groups",
    chapter="estimation/experiment",
    title="Groups that share S/Q",
    level="core",
    reference=group_factor,
    why="Average the second moments within the group first, then invert and cap. With groups of one it is "
    "the single-example factor, with one group that of the two-stage method.",
    mistakes=variants(
        one_by_one,
        whole_batch,
        dealt_in_turn,
        tiled,
        mean_of_factors,
        group_mean,
        mean_forgotten,
        not_capped,
        cap_of_two,
        inverted,
    ),
    alternatives=(by_loop,),
    hints=(
        "What is Q of a group: an average over what? And what happens first, the average or the inverse?",
        "q_b.reshape(-1, group).mean(axis=1) is one Q for each group; np.repeat gives it to its examples.",
    ),
    cases=(
        Case("8 examples in pairs", (_values(8, 5), 0.4, 0.9, 2, 2.0), count=8),
        Case("8 examples in fours", (_values(8, 3), -0.2, 4.0, 4, 1.2), count=8),
        Case("6 examples in threes", (_values(6, 4), 0.1, 4.0, 3, 3.0), count=6),
        Case(
            "groups of one",
            (_values(5, 4), 0.3, 0.8, 1, 2.0),
            "each example is its own group.",
            count=5,
        ),
    ),
    returns=("factor",),
)
