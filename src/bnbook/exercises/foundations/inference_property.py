"""Exercise: a test that tells inference mode from everything that resembles it."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_inference_mode(normalize) -> None:
    """Test inference mode: pass if it is correct, fail an `assert` if it is not.

    Args:
        normalize: a function of x (M, D), gamma, beta, running_mean, running_var, all
            (D,), and eps that returns y (M, D), for y = γ(x − running mean)/√(running
            var + ε) + β. All arrays are float64. M may be 1. The arguments must not be
            changed.
    """
    rng = np.random.default_rng(0)
    for count, features, eps in [(5, 3, 0.5), (4, 4, 0.05), (1, 2, 1.0)]:
        x = rng.normal(3.0, 2.0, size=(count, features))
        gamma, beta, mean = rng.normal(size=(3, features))
        var = rng.uniform(0.3, 2.0, size=features)
        kept = [a.copy() for a in (x, gamma, beta, mean, var)]
        y = normalize(x, gamma, beta, mean, var, eps)
        assert y.shape == x.shape
        for now, then in zip((x, gamma, beta, mean, var), kept, strict=True):
            np.testing.assert_array_equal(now, then)
        # At the running mean the output is β; a step of √(running var + ε) away it is β + γ.
        for step in (0.0, 1.0, -2.0):
            at = np.tile(mean + step * np.sqrt(var + eps), (count, 1))
            y_at = normalize(at, gamma, beta, mean, var, eps)
            np.testing.assert_allclose(
                y_at, np.tile(beta + step * gamma, (count, 1)), atol=1e-10
            )
        # Alone as in company.
        for row in range(count):
            alone = normalize(x[[row]], gamma, beta, mean, var, eps)
            np.testing.assert_allclose(alone[0], y[row], atol=1e-10)


def plain(x, gamma, beta, mean, var, eps):
    """it is the textbook formula."""
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def scale_and_shift_merged(x, gamma, beta, mean, var, eps):
    """it computes a x + (β − a · mean), which rounds differently."""
    a = gamma * (var + eps) ** -0.5
    return a * x + (beta - a * mean)


def row_by_row(x, gamma, beta, mean, var, eps):
    """it treats one example after the other."""
    std = np.sqrt(var + eps)
    return np.stack([(row - mean) / std * gamma + beta for row in x])


def batch_statistics(x, gamma, beta, mean, var, eps):
    """it normalizes with the statistics of the batch, as in training."""
    return plain(x, gamma, beta, x.mean(axis=0), x.var(axis=0), eps)


def batch_mean(x, gamma, beta, mean, var, eps):
    """it subtracts the mean of the batch and divides by the running deviation."""
    return plain(x, gamma, beta, x.mean(axis=0), var, eps)


def batch_statistics_from_two_on(x, gamma, beta, mean, var, eps):
    """it uses the running statistics for one example, those of the batch for more."""
    return (
        plain(x, gamma, beta, mean, var, eps)
        if len(x) == 1
        else batch_statistics(x, gamma, beta, mean, var, eps)
    )


def blended(x, gamma, beta, mean, var, eps):
    """it uses a running mean that the batch has moved by a tenth."""
    return plain(x, gamma, beta, 0.9 * mean + 0.1 * x.mean(axis=0), var, eps)


def updates_in_place(x, gamma, beta, mean, var, eps):
    """it returns the right values and moves the running mean that it was given."""
    y = plain(x, gamma, beta, mean, var, eps)
    mean += 0.1 * (x.mean(axis=0) - mean)
    return y


def deviation_for_variance(x, gamma, beta, mean, var, eps):
    """it divides by running var + ε and not by the root."""
    return gamma * (x - mean) / (var + eps) + beta


def eps_outside_root(x, gamma, beta, mean, var, eps):
    """it divides by √(running var) + ε, which only shows where ε is not tiny."""
    return gamma * (x - mean) / (np.sqrt(var) + eps) + beta


def scale_without_sign(x, gamma, beta, mean, var, eps):
    """it uses |γ|, which is invisible where γ > 0."""
    return abs(gamma) * (x - mean) / np.sqrt(var + eps) + beta


def shift_lost(x, gamma, beta, mean, var, eps):
    """it leaves out β, which is invisible where β = 0."""
    return gamma * (x - mean) / np.sqrt(var + eps)


def _batch(count=6):
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 2.0, size=(count, 3))
    return x, *rng.normal(size=(3, 3)), rng.uniform(0.3, 2.0, size=3), 0.4


def never_fails(normalize):
    """Your test calls the implementation and asserts nothing that a wrong one violates:
    compare the values of y with what they must be."""
    assert normalize(*_batch()).shape == (6, 3)


def only_one_example(normalize):
    """Your test seems to pass single examples only. An implementation that looks at the
    batch as soon as there is one goes unnoticed: pass several examples, too."""
    arguments = _batch(1)
    kept = arguments[3].copy()
    np.testing.assert_allclose(normalize(*arguments), plain(*_batch(1)), atol=1e-10)
    np.testing.assert_array_equal(arguments[3], kept)


def only_independence(normalize):
    """Your test seems to check only that the company does not matter. A wrong formula
    passes that: look at the values, too."""
    x, gamma, beta, mean, var, eps = _batch()
    kept = mean.copy()
    y = normalize(x, gamma, beta, mean, var, eps)
    np.testing.assert_array_equal(mean, kept)
    for row in range(len(x)):
        np.testing.assert_allclose(
            normalize(x[[row]], gamma, beta, mean, var, eps)[0], y[row], atol=1e-10
        )


def arguments_not_watched(normalize):
    """Your test seems to look at the returned values only. An implementation that also
    moves the running statistics changes its next answer: check that the arguments stay
    as they were."""
    x, gamma, beta, mean, var, eps = _batch()
    y = normalize(x.copy(), gamma.copy(), beta.copy(), mean.copy(), var.copy(), eps)
    np.testing.assert_allclose(y, plain(x, gamma, beta, mean, var, eps), atol=1e-10)


def positive_scale(normalize):
    """Your test seems to use positive γ only, where an implementation that takes |γ|
    passes. Draw both signs."""
    x, gamma, beta, mean, var, eps = _batch()
    kept = mean.copy()
    y = normalize(x, abs(gamma), beta, mean, var, eps)
    np.testing.assert_allclose(
        y, plain(x, abs(gamma), beta, kept, var, eps), atol=1e-10
    )
    np.testing.assert_array_equal(mean, kept)


def zero_shift(normalize):
    """Your test seems to use β = 0, where a lost shift is invisible. Draw β at
    random."""
    x, gamma, _, mean, var, eps = _batch()
    kept = mean.copy()
    y = normalize(x, gamma, np.zeros(3), mean, var, eps)
    np.testing.assert_allclose(
        y, plain(x, gamma, np.zeros(3), kept, var, eps), atol=1e-10
    )
    np.testing.assert_array_equal(mean, kept)


def exact_equality(normalize):
    """Your test seems to demand exact equality. A correct implementation that
    multiplies in another order differs in the last digit: compare with a tolerance, for
    example 1e-10."""
    x, gamma, beta, mean, var, eps = _batch()
    assert (normalize(x, gamma, beta, mean, var, eps) == plain(*_batch())).all()


def against_the_formula(normalize):
    """The same, against the formula."""
    for count in (1, 7):
        arguments = _batch(count)
        y = normalize(*arguments)
        assert np.max(np.abs(y - plain(*_batch(count)))) < 1e-10
        for now, then in zip(arguments[:5], _batch(count)[:5], strict=True):
            assert (now == then).all()


EXERCISE = PropertyExercise(
    id="inference-property",
    chapter="foundations/inference",
    title="A test for inference mode",
    level="hard",
    reference=test_inference_mode,
    why="Three points fix an affine map, so the values at the running mean and a step to either side pin "
    "the formula down; an example alone and in company shows whether the batch plays a part; and a copy of "
    "the arguments shows whether anything was moved.",
    mistakes=variants(
        never_fails,
        only_one_example,
        only_independence,
        arguments_not_watched,
        positive_scale,
        zero_shift,
        exact_equality,
    ),
    alternatives=(against_the_formula,),
    hints=(
        "What must be true of an example that comes once alone and once with others?",
        "Where x is the running mean, y is β. Where it is one √(running var + ε) further, y is β + γ.",
        "Copy the arguments before the call and compare afterwards. Use γ of both signs, β ≠ 0, a large "
        "ε, and M = 1 as well as M > 1.",
    ),
    correct=variants(plain, scale_and_shift_merged, row_by_row),
    mutants=variants(
        batch_statistics,
        batch_mean,
        batch_statistics_from_two_on,
        blended,
        updates_in_place,
        deviation_for_variance,
        eps_outside_root,
        scale_without_sign,
        shift_lost,
    ),
)
