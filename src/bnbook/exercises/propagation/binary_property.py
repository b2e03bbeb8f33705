"""Exercise: a test that tells a right rule for normalized signs from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_rule(rule) -> None:
    """Test an implementation of sign(γ (s − μ)/σ + β): pass if it is right, else fail an `assert`.

    Args:
        rule: a function of s (B, K), gamma, beta, mean and std, each (K,), that returns ±1 in
            the shape of s. sign(0) is +1. γ may be negative, and it may be 0. Your test may
            rely on exact results where no operation rounds, as on small integers.
    """
    s = np.arange(-6.0, 7.0)[:, None]
    for gamma in (-2.0, -1.0, 0.0, 1.0, 2.0):
        for beta in (-1.0, 0.0, 1.0):
            for mean in (0.0, 3.0):
                for std in (1.0, 2.0):
                    parameters = [np.array([v]) for v in (gamma, beta, mean, std)]
                    expected = np.where(gamma * (s - mean) / std + beta >= 0, 1.0, -1.0)
                    got = rule(s, *parameters)
                    assert got.shape == s.shape
                    assert (got == expected).all()


def direct(s, gamma, beta, mean, std):
    """it normalizes and takes the sign."""
    return np.where(gamma * (s - mean) / std + beta >= 0, 1.0, -1.0)


def compares(s, gamma, beta, mean, std):
    """it compares s with one number, in the direction that the sign of γ gives."""
    edge = mean - beta * std / np.where(gamma == 0, 1.0, gamma)
    up = np.where(gamma > 0, s >= edge, s <= edge)
    return np.where(np.where(gamma == 0, beta >= 0, up), 1.0, -1.0)


def scaled(s, gamma, beta, mean, std):
    """it multiplies by σ before it takes the sign, which changes none."""
    return np.where(gamma * (s - mean) + beta * std >= 0, 1.0, -1.0)


def positive_gamma(s, gamma, beta, mean, std):
    """it fires above the threshold whatever the sign of γ is."""
    edge = mean - beta * std / np.where(gamma == 0, 1.0, gamma)
    return np.where(np.where(gamma == 0, beta >= 0, s >= edge), 1.0, -1.0)


def dead_is_up(s, gamma, beta, mean, std):
    """it returns +1 for γ = 0, whatever β is."""
    return np.where(gamma == 0, 1.0, direct(s, gamma, beta, mean, std))


def zero_is_down(s, gamma, beta, mean, std):
    """its sign of 0 is −1."""
    return np.where(gamma * (s - mean) / std + beta > 0, 1.0, -1.0)


def zero_is_zero(s, gamma, beta, mean, std):
    """its sign of 0 is 0, as in np.sign."""
    return np.sign(gamma * (s - mean) / std + beta)


def open_below(s, gamma, beta, mean, std):
    """for negative γ it fires for s below the threshold and not at it."""
    edge = mean - beta * std / np.where(gamma == 0, 1.0, gamma)
    up = np.where(gamma > 0, s >= edge, s < edge)
    return np.where(np.where(gamma == 0, beta >= 0, up), 1.0, -1.0)


def beta_reversed(s, gamma, beta, mean, std):
    """its threshold lies on the wrong side of μ, which is invisible for β = 0."""
    return direct(s, gamma, np.where(gamma == 0, beta, -beta), mean, std)


def variance_for_std(s, gamma, beta, mean, std):
    """it divides by σ², which is invisible where σ = 1 or β = 0."""
    return direct(s, gamma, beta, mean, std**2)


def mean_forgotten(s, gamma, beta, mean, std):
    """it does not subtract μ, which is invisible where μ = 0."""
    return direct(s, gamma, beta, 0 * mean, std)


def _all(rule, gammas, betas, means, stds, offset=0.0):
    s = np.arange(-6.0, 7.0)[:, None] + offset
    for gamma in gammas:
        for beta in betas:
            for mean in means:
                for std in stds:
                    parameters = [np.array([v]) for v in (gamma, beta, mean, std)]
                    assert (rule(s, *parameters) == direct(s, *parameters)).all()


_GAMMAS, _BETAS, _MEANS, _STDS = (
    (-1.0, 0.0, 1.0),
    (-1.0, 0.0, 1.0),
    (0.0, 3.0),
    (1.0, 2.0),
)


def never_fails(rule):
    """Your test calls the rule and asserts nothing that a wrong one violates: compare its values
    with what they must be."""
    one = np.ones(3)
    assert rule(np.zeros((2, 3)), one, one, one, one).shape == (2, 3)


def only_signs(rule):
    """Your test seems to check only that the results are −1 or +1. A rule that fires in the wrong
    places passes: compare values."""
    s = np.arange(-6.0, 7.0)[:, None]
    for gamma in _GAMMAS:
        zero = np.zeros(1)
        assert np.isin(
            rule(s, np.array([gamma]), zero, zero, np.ones(1)), (-1, 1)
        ).all()


def only_positive_gamma(rule):
    """Your test seems to use positive γ only. A trained network has negative ones, and the
    comparison turns round there."""
    _all(rule, (1.0, 2.0), _BETAS, _MEANS, _STDS)


def never_a_tie(rule):
    """Your test seems never to hit the threshold itself. Integer sums do: choose s, μ and b so that
    γ(s − μ)/σ + β is exactly 0."""
    _all(rule, _GAMMAS, (-1.0, 1.0), _MEANS, _STDS, offset=0.25)


def no_shift(rule):
    """Your test seems to use β = 0 only. Then the threshold is μ, and half of the formula is not
    tested."""
    _all(rule, _GAMMAS, (0.0,), _MEANS, _STDS)


def never_zero_gamma(rule):
    """Your test seems to leave out γ = 0. The neuron is then constant, and its sign is that of β."""
    _all(rule, (-2.0, -1.0, 1.0, 2.0), _BETAS, _MEANS, _STDS)


def unit_std(rule):
    """Your test seems to use σ = 1 only, where σ and σ² cannot be told apart."""
    _all(rule, _GAMMAS, _BETAS, _MEANS, (1.0,))


def centred(rule):
    """Your test seems to use μ = 0 only, where a rule that forgets to subtract it is right."""
    _all(rule, _GAMMAS, _BETAS, (0.0,), _STDS)


def in_fractions(rule):
    """The same, against exact arithmetic."""
    from fractions import Fraction

    for gamma in (-2, -1, 0, 1):
        for beta in (-1, 0, 1):
            for mean in (-1, 0, 2):
                for std in (1, 4):
                    parameters = [
                        np.array([float(v)]) for v in (gamma, beta, mean, std)
                    ]
                    for s in range(-8, 9):
                        y = Fraction(gamma * (s - mean), std) + beta
                        got = rule(np.array([[float(s)]]), *parameters)
                        assert got[0, 0] == (1 if y >= 0 else -1)


EXERCISE = PropertyExercise(
    id="binary-property",
    chapter="propagation/binary",
    title="A test for a normalized sign",
    level="hard",
    reference=test_rule,
    why="Small integers make every operation exact, so ties occur and equality can be demanded. Each "
    "parameter takes a value at which it matters: γ of both signs and 0, β ≠ 0, μ ≠ 0, σ ≠ 1.",
    mistakes=variants(
        never_fails,
        only_signs,
        only_positive_gamma,
        never_a_tie,
        no_shift,
        never_zero_gamma,
        unit_std,
        centred,
    ),
    alternatives=(in_fractions,),
    hints=(
        "Compute the expected values in your test from the formula, and compare with ==. Use s, μ, σ "
        "and β for which nothing is rounded.",
        "Loop over γ negative, 0 and positive, over β and μ including values other than 0, and over "
        "σ other than 1; let s hit the threshold.",
    ),
    correct=variants(direct, compares, scaled),
    mutants=variants(
        positive_gamma,
        dead_is_up,
        zero_is_down,
        zero_is_zero,
        open_below,
        beta_reversed,
        variance_for_std,
        mean_forgotten,
    ),
)
