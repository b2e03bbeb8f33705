"""Exercise: batch normalization and sign as a comparison with an integer."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def integer_threshold(
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
    bound: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace normalization and sign behind an integer sum s by the rule: turn · s ≥ at.

    The rule must hold exactly where γ (s − mean)/√(var + ε) + β ≥ 0, for every integer s
    from −bound to bound. Assume real numbers: rounding plays no part.

    Args:
        gamma: γ, (D,), of either sign, or 0.
        beta: β, (D,).
        mean: running means, (D,).
        var: running variances, (D,), not negative.
        eps: ε > 0.
        bound: the largest |s|.

    Returns:
        turn: (D,), −1.0 where γ < 0, else 1.0.
        at: (D,), the integers, as floats. For γ ≠ 0 they may lie beyond the bound. For
            γ = 0, −bound if the rule always holds and bound + 1 if it never does.
    """
    std = np.sqrt(var + eps)
    turn = np.where(gamma < 0, -1.0, 1.0)
    edge = turn * (mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    constant = np.where(beta >= 0, -bound, bound + 1)
    return turn, np.where(gamma == 0, constant, np.ceil(edge))


def _with(edge_of, turn_of=None, round_of=np.ceil, zero_of=None):
    """The reference with one step changed."""

    def fold(gamma, beta, mean, var, eps, bound):
        turn = np.where(gamma < 0, -1.0, 1.0) if turn_of is None else turn_of(gamma)
        safe = np.where(gamma == 0, 1.0, gamma)
        edge = turn * edge_of(safe, beta, mean, var, eps)
        zero = np.where(beta >= 0, -bound, bound + 1)
        zero = zero if zero_of is None else zero_of(beta, bound)
        return turn, np.where(gamma == 0, zero, round_of(edge))

    return fold


def _edge(gamma, beta, mean, var, eps):
    return mean - beta * np.sqrt(var + eps) / gamma


def never_turned(gamma, beta, mean, var, eps, bound):
    """You use the same rule for negative γ. There y falls as s grows, so that the neuron says +1 for
    small sums: turn the inequality, s ≤ t, which is −s ≥ −t."""
    return _with(_edge, lambda g: np.ones_like(g))(gamma, beta, mean, var, eps, bound)


def edge_not_turned(gamma, beta, mean, var, eps, bound):
    """You turn s where γ < 0, but not its threshold: s ≤ t is −s ≥ −t."""
    turn, _ = integer_threshold(gamma, beta, mean, var, eps, bound)
    _, at = _with(_edge, lambda g: np.ones_like(g))(gamma, beta, mean, var, eps, bound)
    return turn, at


def rounded_down(gamma, beta, mean, var, eps, bound):
    """You round down. An integer s with s ≥ t is at least the next integer above t: round up."""
    return _with(_edge, round_of=np.floor)(gamma, beta, mean, var, eps, bound)


def rounded_to_nearest(gamma, beta, mean, var, eps, bound):
    """You round to the nearest integer. If that is below t, y is still negative there: round up."""
    return _with(_edge, round_of=np.round)(gamma, beta, mean, var, eps, bound)


def rounded_before_turning(gamma, beta, mean, var, eps, bound):
    """You round t up before you turn it. For γ < 0 the rule is s ≤ ⌊t⌋: turn first, then round up."""
    return _with(lambda *a: np.ceil(_edge(*a)))(gamma, beta, mean, var, eps, bound)


def shift_added(gamma, beta, mean, var, eps, bound):
    """You have the sign of β turned: y = 0 at s = μ − βσ/γ. A larger β makes +1 more frequent, so the
    threshold falls."""
    return _with(lambda g, b, m, v, e: m + b * np.sqrt(v + e) / g)(
        gamma, beta, mean, var, eps, bound
    )


def variance_for_deviation(gamma, beta, mean, var, eps, bound):
    """You multiply β by the variance. The normalization divides by σ = √(var + ε)."""
    return _with(lambda g, b, m, v, e: m - b * (v + e) / g)(
        gamma, beta, mean, var, eps, bound
    )


def eps_ignored(gamma, beta, mean, var, eps, bound):
    """You leave ε out: σ is √(var + ε), as in training."""
    return _with(lambda g, b, m, v, e: m - b * np.sqrt(v) / g)(
        gamma, beta, mean, var, eps, bound
    )


def scaled_by_gamma(gamma, beta, mean, var, eps, bound):
    """You multiply by γ where you have to divide: β moves the threshold by βσ/γ."""
    return _with(lambda g, b, m, v, e: m - b * np.sqrt(v + e) * g)(
        gamma, beta, mean, var, eps, bound
    )


def zero_always_fires(gamma, beta, mean, var, eps, bound):
    """Your neurons with γ = 0 always say +1. There y is β for every s: +1 only if β ≥ 0."""
    return _with(_edge, zero_of=lambda b, n: np.full_like(b, -n))(
        gamma, beta, mean, var, eps, bound
    )


def strict(gamma, beta, mean, var, eps, bound):
    """You say −1 where y is exactly 0. The rule is y ≥ 0: an integer t belongs to it, so round up,
    ⌈t⌉ and not ⌊t⌋ + 1, and a neuron with γ = β = 0 always says +1."""
    return _with(
        _edge,
        round_of=lambda t: np.floor(t) + 1,
        zero_of=lambda b, n: np.where(b > 0, -n, n + 1),
    )(gamma, beta, mean, var, eps, bound)


def strict_at_the_threshold(gamma, beta, mean, var, eps, bound):
    """You say −1 where s is exactly t, an integer. There y = 0, and the rule is y ≥ 0: round up, ⌈t⌉
    and not ⌊t⌋ + 1."""
    return _with(_edge, round_of=lambda t: np.floor(t) + 1)(
        gamma, beta, mean, var, eps, bound
    )


def strict_constant(gamma, beta, mean, var, eps, bound):
    """Your neurons with γ = β = 0 always say −1. There y = 0 for every s, and the rule is y ≥ 0."""
    return _with(_edge, zero_of=lambda b, n: np.where(b > 0, -n, n + 1))(
        gamma, beta, mean, var, eps, bound
    )


def zero_divides(gamma, beta, mean, var, eps, bound):
    """You divide by γ also where it is 0, which gives an infinity, or NaN if β is 0 as well. There y = β
    for every s: at is −bound if β ≥ 0, else bound + 1."""
    turn, _ = integer_threshold(gamma, beta, mean, var, eps, bound)
    return turn, np.ceil(turn * _edge(gamma, beta, mean, var, eps))


def zero_like_one(gamma, beta, mean, var, eps, bound):
    """You replace γ = 0 by 1 before you divide, and leave that threshold as it is. There y = β for every
    s: overwrite it by −bound if β ≥ 0, else by bound + 1."""
    return integer_threshold(
        np.where(gamma == 0, 1.0, gamma), beta, mean, var, eps, bound
    )


def zero_swapped(gamma, beta, mean, var, eps, bound):
    """You have the two constants of γ = 0 exchanged. turn · s ≥ −bound always holds, and that is the
    rule if β ≥ 0; turn · s ≥ bound + 1 never does."""
    return _with(_edge, zero_of=lambda b, n: np.where(b >= 0, n + 1, -n))(
        gamma, beta, mean, var, eps, bound
    )


def zero_turned_by_zero(gamma, beta, mean, var, eps, bound):
    """Your turn is 0 where γ is 0, as np.sign(0) is. It must be 1 there."""
    _, at = integer_threshold(gamma, beta, mean, var, eps, bound)
    return np.sign(gamma), at


def unrounded(gamma, beta, mean, var, eps, bound):
    """You do not round. t itself decides every integer alike, but at must be an integer: the smallest
    that is not below."""
    return _with(_edge, round_of=lambda t: t)(gamma, beta, mean, var, eps, bound)


def by_trial(gamma, beta, mean, var, eps, bound):
    """The same, from a search over integers."""
    turn, at = np.ones(len(gamma)), np.empty(len(gamma))
    for d in range(len(gamma)):
        fires = lambda s, d=d: (  # noqa: E731
            gamma[d] * (s - mean[d]) / np.sqrt(var[d] + eps) + beta[d] >= 0
        )
        if gamma[d] == 0:
            at[d] = -bound if fires(0) else bound + 1
            continue
        turn[d] = np.sign(gamma[d])
        s = -10_000
        while not fires(turn[d] * s):
            s += 1
        at[d] = s
    return turn, at


def by_floor(gamma, beta, mean, var, eps, bound):
    """The same, case by case."""
    rows = []
    for g, b, m, v in zip(gamma, beta, mean, var, strict=True):
        if g == 0:
            rows.append((1.0, -bound if b >= 0 else bound + 1))
        else:
            t = m - b * np.sqrt(v + eps) / g
            rows.append((1.0, np.ceil(t)) if g > 0 else (-1.0, -np.floor(t)))
    turn, at = np.array(rows, dtype=float).T
    return turn.copy(), at.copy()


def _case(name, seed, features, eps, bound, note=""):
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(0.4, 2.0, features) * rng.choice([-1, 1], features)
    gamma[:2] = -abs(gamma[0]), abs(gamma[1])
    mean, var = rng.uniform(-9, 9, features), rng.uniform(2, 30, features)
    beta = rng.normal(0, 2, features)
    gamma[2:4], beta[2:4] = 0.0, (0.7, -0.7)
    return Case(name, (gamma, beta, mean, var, eps, bound), note)


EXERCISE = FunctionExercise(
    id="deploy-threshold",
    chapter="propagation/deploy",
    title="From four numbers to one",
    level="core",
    reference=integer_threshold,
    why="y = γ/σ · (s − t) with t = μ − βσ/γ. For γ > 0 the rule is s ≥ ⌈t⌉, for γ < 0 it is "
    "−s ≥ ⌈−t⌉, and for γ = 0 it does not depend on s.",
    mistakes=variants(
        never_turned,
        edge_not_turned,
        rounded_down,
        rounded_to_nearest,
        rounded_before_turning,
        shift_added,
        variance_for_deviation,
        eps_ignored,
        scaled_by_gamma,
        zero_always_fires,
        strict,
        strict_at_the_threshold,
        strict_constant,
        zero_divides,
        zero_like_one,
        zero_swapped,
        zero_turned_by_zero,
        unrounded,
    ),
    alternatives=(by_trial, by_floor),
    hints=(
        "For which real s is y = 0? For γ > 0, which is the smallest integer from there on?",
        "For γ < 0 the rule is s ≤ t, so −s ≥ −t. Round after turning.",
        "Where γ = 0 avoid the division: replace γ by 1 there, and overwrite the result by −bound or "
        "bound + 1.",
    ),
    cases=(
        _case("8 neurons, ε = 5", 11, 8, 5.0, 30),
        _case("6 neurons, ε = 0.5", 12, 6, 0.5, 50),
        _case("12 neurons, ε = 20", 13, 12, 20.0, 100),
        Case(
            "7 neurons, ε = 0.5, some with y = 0",
            (
                np.array([1.0, -1.0, 2.0, -0.5, 0.0, 0.0, 0.0]),
                np.array([0.0, 0.0, -3.0, 1.5, 0.0, 1.0, -1.0]),
                np.array([3.0, 3.0, 1.0, -2.0, 1.0, 1.0, 1.0]),
                np.array([3.5, 3.5, 15.5, 3.5, 3.5, 0.5, 0.5]),
                0.5,
                20,
            ),
            "√(var + ε) is a whole number, and y is exactly 0 for some integer s.",
        ),
    ),
    returns=("turn", "at"),
)
