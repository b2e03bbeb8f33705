"""Exercise: a test that tells a right threshold from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_fold(fold) -> None:
    """Test a fold of normalization and sign: pass if it is right, else fail an `assert`.

    Args:
        fold: a function of gamma, beta, mean and std, four arrays (D,) of float64, which
            returns turn and at, (D,). A neuron must say +1, that is turn · s ≥ at, exactly
            where gamma · (s − mean)/std + beta ≥ 0, for every integer s from −100 to 100.
            gamma may have either sign, or be 0.
    """
    gamma = np.array([1.0, -1.0, 2.0, -0.5, 0.0, 0.0, 0.0, 1.0, -1.0])
    beta = np.array([0.25, 0.25, -3.0, 1.0, 2.0, -2.0, 0.0, 0.0, 0.0])
    mean = np.array([3.5, -2.25, 7.0, 4.0, 1.0, 1.0, 1.0, 5.0, 5.0])
    std = np.array([2.0, 4.0, 8.0, 2.0, 1.0, 1.0, 1.0, 4.0, 4.0])
    turn, at = fold(gamma, beta, mean, std)
    for s in range(-100, 101):
        expected = gamma * (s - mean) / std + beta >= 0
        assert ((turn * s >= at) == expected).all(), s


def by_formula(gamma, beta, mean, std):
    """it rounds t = μ − βσ/γ up, after turning it where γ < 0."""
    turn = np.where(gamma < 0, -1.0, 1.0)
    edge = turn * (mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    constant = np.where(beta >= 0, -np.inf, np.inf)
    return turn, np.where(gamma == 0, constant, np.ceil(edge))


def by_search(gamma, beta, mean, std):
    """it tries every sum, and gives a constant another threshold."""
    s = np.arange(-100.0, 101.0)[:, None]
    fires = gamma * (s - mean) / std + beta >= 0
    turn = np.where(gamma < 0, -1.0, 1.0)
    fires = np.where(turn < 0, fires[::-1], fires)  # row i belongs to turn · s
    return turn, np.where(fires.any(axis=0), s[fires.argmax(axis=0), 0], 101.0)


def unrounded(gamma, beta, mean, std):
    """it does not round at all, which decides every integer alike."""
    turn, _ = by_formula(gamma, beta, mean, std)
    edge = turn * (mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    return turn, np.where(gamma == 0, np.where(beta >= 0, -1e9, 1e9), edge)


def turn_ignored(gamma, beta, mean, std):
    """it uses the same rule for negative γ, which is invisible if all γ are positive."""
    _, at = by_formula(gamma, beta, mean, std)
    edge = mean - beta * std / np.where(gamma == 0, 1.0, gamma)
    return np.ones_like(gamma), np.where(gamma == 0, at, np.ceil(edge))


def rounded_before_turning(gamma, beta, mean, std):
    """it rounds up before it turns, so that a neuron with γ < 0 also says +1 for the next sum."""
    turn, at = by_formula(gamma, beta, mean, std)
    edge = np.ceil(mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    return turn, np.where(gamma == 0, at, turn * edge)


def rounded_down(gamma, beta, mean, std):
    """it rounds down, which is invisible where the threshold is an integer."""
    turn, at = by_formula(gamma, beta, mean, std)
    edge = turn * (mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    return turn, np.where(gamma == 0, at, np.floor(edge))


def strict(gamma, beta, mean, std):
    """it says −1 where y is exactly 0, which only shows where the threshold is an integer."""
    turn, at = by_formula(gamma, beta, mean, std)
    edge = turn * (mean - beta * std / np.where(gamma == 0, 1.0, gamma))
    return turn, np.where(gamma == 0, at, np.floor(edge) + 1)


def shift_turned(gamma, beta, mean, std):
    """it adds βσ/γ instead of subtracting it, which is invisible where β = 0."""
    return by_formula(gamma, -beta, mean, std)[0], np.where(
        gamma == 0,
        by_formula(gamma, beta, mean, std)[1],
        by_formula(gamma, -beta, mean, std)[1],
    )


def std_ignored(gamma, beta, mean, std):
    """it leaves σ out, which is invisible where σ = 1 or β = 0."""
    return by_formula(gamma, beta, mean, np.ones_like(std))


def mean_ignored(gamma, beta, mean, std):
    """it leaves the mean out, which is invisible where it is 0."""
    return by_formula(gamma, beta, np.zeros_like(mean), std)


def constant_fires(gamma, beta, mean, std):
    """it always says +1 where γ = 0, whatever β is."""
    turn, at = by_formula(gamma, beta, mean, std)
    return turn, np.where(gamma == 0, -np.inf, at)


def constant_needs_more(gamma, beta, mean, std):
    """it says −1 where γ and β are both 0, although y = 0 there."""
    turn, at = by_formula(gamma, beta, mean, std)
    return turn, np.where((gamma == 0) & (beta == 0), np.inf, at)


def _against(fold, gamma, beta, mean, std):
    gamma, beta, mean, std = (
        np.array(v, dtype=float) for v in (gamma, beta, mean, std)
    )
    turn, at = fold(gamma, beta, mean, std)
    for s in range(-100, 101):
        assert ((turn * s >= at) == (gamma * (s - mean) / std + beta >= 0)).all()


def never_fails(fold):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare the
    decision with the sign of y, for every s."""
    turn, at = fold(np.ones(2), np.ones(2), np.zeros(2), np.ones(2))
    assert turn.shape == at.shape == (2,)


def positive_gamma_only(fold):
    """Your test seems to use positive γ only. A negative γ turns the rule, and γ = 0 makes it a
    constant."""
    _against(fold, [1.0, 2.0, 1.0], [0.25, -3.0, 0.0], [3.5, 7.0, 5.0], [2.0, 8.0, 4.0])


def without_zero_gamma(fold):
    """Your test seems to leave out γ = 0, where the answer depends on β alone."""
    _against(
        fold,
        [1.0, -1.0, 2.0, -0.5, 1.0],
        [0.25, 0.25, -3.0, 1.0, 0.0],
        [3.5, -2.25, 7.0, 4.0, 5.0],
        [2.0, 4.0, 8.0, 2.0, 4.0],
    )


def without_ties(fold):
    """Your test seems to use thresholds that are no integers, so that y is never exactly 0. Choose
    numbers for which it is: sign(0) counts as +1. γ = β = 0 is such a case too."""
    _against(
        fold,
        [1.0, -1.0, -2.0, 0.0, 0.0],
        [0.25, 0.25, 1.0, 2.0, -2.0],
        [3.75, -2.25, 3.25, 1.0, 1.0],
        [2.0, 4.0, 2.0, 1.0, 1.0],
    )


def without_shift(fold):
    """Your test seems to use β = 0 only. Then the threshold is the mean, and a wrong β, or a missing
    σ, does not show."""
    _against(
        fold,
        [1.0, -1.0, 1.0, -1.0, 0.0],
        [0.0] * 5,
        [3.5, 2.25, 5.0, 5.0, 1.0],
        [2.0] * 5,
    )


def only_integers(fold):
    """Your test seems to use thresholds that are all integers. Whether an implementation rounds, and
    in which direction, does not show there: add some between integers."""
    _against(
        fold,
        [1.0, -1.0, 2.0, -1.0, 0.0, 0.0, 0.0],
        [2.0, 3.0, -4.0, 0.0, 2.0, -2.0, 0.0],
        [3.0, -2.0, 7.0, 5.0, 1.0, 1.0, 1.0],
        [2.0, 4.0, 8.0, 4.0, 1.0, 1.0, 1.0],
    )


def thresholds_themselves(fold):
    """Your test compares the thresholds with those of one formula. Another implementation may use
    another number that decides every integer alike, such as t itself: compare the decisions."""
    gamma, beta = np.array([1.0, -1.0, 0.0]), np.array([0.25, 0.5, -1.0])
    mean, std = np.array([3.75, 5.25, 1.0]), np.array([2.0, 4.0, 1.0])
    got, expected = fold(gamma, beta, mean, std), by_formula(gamma, beta, mean, std)
    assert (got[1] == expected[1]).all()


def against_fractions(fold):
    """The same, in exact arithmetic, on numbers of a seeded generator."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    gamma = rng.choice([-2.0, -1.0, 0.0, 1.0, 4.0], 40)
    beta, mean = rng.integers(-12, 13, (2, 40)) / 4
    std = rng.choice([1.0, 2.0, 4.0], 40)
    gamma[0] = beta[0] = 0.0
    turn, at = fold(gamma, beta, mean, std)
    for d, (g, b, m, v) in enumerate(zip(gamma, beta, mean, std, strict=True)):
        for s in range(-100, 101):
            y = Fraction(g) * (s - Fraction(m)) / Fraction(v) + Fraction(b)
            assert (turn[d] * s >= at[d]) == (y >= 0)


EXERCISE = PropertyExercise(
    id="deploy-property",
    chapter="propagation/deploy",
    title="A test for a threshold",
    level="hard",
    reference=test_fold,
    why="The decisions are compared, not the thresholds, for every sum. Both signs of γ and γ = 0, thresholds "
    "on integers and between them, and β of every sign leave a wrong rule nowhere to hide. Powers of two keep "
    "y exact, so that y = 0 means 0.",
    mistakes=variants(
        never_fails,
        positive_gamma_only,
        without_zero_gamma,
        without_ties,
        without_shift,
        only_integers,
        thresholds_themselves,
    ),
    alternatives=(against_fractions,),
    hints=(
        "Try every integer s, and compare `turn * s >= at` with the sign of y.",
        "Choose γ of both signs and 0, with positive, negative and zero β.",
        "Take powers of two for std, so that y is exact, and let some thresholds be integers: there y is 0.",
    ),
    correct=variants(by_formula, by_search, unrounded),
    mutants=variants(
        turn_ignored,
        rounded_before_turning,
        rounded_down,
        strict,
        shift_turned,
        std_ignored,
        mean_ignored,
        constant_fires,
        constant_needs_more,
    ),
)
