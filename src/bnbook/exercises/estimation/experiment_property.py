"""Exercise: a test that training computes what inference computes."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants

EPS = 0.01


def test_training_is_inference(normalize) -> None:
    """Test a normalization: pass if it trains on the values of inference, else fail.

    Args:
        normalize: a function of (x, mean, square, training). It is to return
            (x − mean)/√(square + 0.01) in either mode, for a batch x, (M, d), of one
            channel, with the running mean and second moment; and to leave x alone. A
            layer that moves its running statistics does so elsewhere, afterwards.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (6, 5)) * np.array([[0.05, 0.5, 1.0, 1.0, 2.0, 9.0]]).T
    for mean, square in ((0.0, 1.0), (-1.0, 0.3), (2.0, 40.0)):
        expected = (x - mean) / np.sqrt(square + 0.01)
        for training in (True, False):
            given = x.copy()
            y = normalize(given, mean, square, training)
            np.testing.assert_allclose(y, expected, atol=1e-9)
            np.testing.assert_array_equal(given, x)


def by_running(x, mean, square, training):
    """it is the formula."""
    return (x - mean) / np.sqrt(square + EPS)


def renormalized(x, mean, square, training):
    """it goes through the statistics of the batch, and corrects them by r and d without limits."""
    if not training:
        return (x - mean) / np.sqrt(square + EPS)
    std, running = np.sqrt(x.var() + EPS), np.sqrt(square + EPS)
    return (x - x.mean()) / std * (std / running) + (x.mean() - mean) / running


def batch_norm(x, mean, square, training):
    """it normalizes by the batch in training, as batch normalization does."""
    if training:
        return (x - x.mean()) / np.sqrt(x.var() + EPS)
    return by_running(x, mean, square, training)


def by_example(x, mean, square, training):
    """it normalizes each example by its own statistics in training."""
    if training:
        own = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - own[0]) / np.sqrt(own[1] + EPS)
    return by_running(x, mean, square, training)


def limited(x, mean, square, training):
    """it is batch renormalization whose r lies between 1/3 and 3."""
    if not training:
        return by_running(x, mean, square, training)
    std, running = np.sqrt(x.var() + EPS), np.sqrt(square + EPS)
    r = np.clip(std / running, 1 / 3, 3)
    return (x - x.mean()) / std * r + (x.mean() - mean) / running


def updated_first(x, mean, square, training):
    """in training it moves the running statistics before it uses them."""
    if training:
        mean = 0.8 * mean + 0.2 * x.mean()
        square = 0.8 * square + 0.2 * ((x - mean) ** 2).mean()
    return by_running(x, mean, square, training)


def bounded(x, mean, square, training):
    """in training it scales down an example whose normalized root mean square exceeds 5."""
    y = by_running(x, mean, square, training)
    if training:
        size = np.sqrt((y**2).mean(axis=1, keepdims=True))
        y = y * np.minimum(1, 5 / size)
    return y


def own_mean(x, mean, square, training):
    """in training it subtracts the mean of the batch, and divides by the running statistic."""
    return by_running(x, x.mean() if training else mean, square, training)


def frozen_wrong(x, mean, square, training):
    """it divides by the second moment without its root, in either mode."""
    return (x - mean) / (square + EPS)


def eps_forgotten(x, mean, square, training):
    """it leaves the 0.01 out, in either mode."""
    return (x - mean) / np.sqrt(square)


def inference_by_batch(x, mean, square, training):
    """it is right in training, and normalizes by the batch at inference."""
    if training:
        return by_running(x, mean, square, training)
    return (x - x.mean()) / np.sqrt(x.var() + EPS)


def in_place(x, mean, square, training):
    """it writes into the batch that it is given."""
    x -= mean
    x /= np.sqrt(square + EPS)
    return x


def _batch(seed=1):
    return np.random.default_rng(seed).normal(1.0, 2.0, (4, 6))


def never_fails(normalize):
    """Your test asserts nothing that a wrong normalization violates: compare with
    (x − mean)/√(square + 0.01)."""
    assert np.isfinite(normalize(_batch(), 0.5, 1.5, True)).all()


def only_inference(normalize):
    """Your test seems to look at one mode. Batch normalization is right at inference too: look at training."""
    x = _batch()
    y = normalize(x.copy(), 0.5, 1.5, False)
    np.testing.assert_allclose(y, (x - 0.5) / np.sqrt(1.5 + EPS), atol=1e-9)


def only_training(normalize):
    """Your test seems to look at training only. The values of inference can be wrong too: look at both
    modes."""
    x = 3.0 * _batch(2) * np.array([[0.03, 1.0, 2.0, 12.0]]).T
    for mean, square in ((0.7, 0.1), (-3.0, 9.0)):
        given = x.copy()
        y = normalize(given, mean, square, True)
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(square + EPS), atol=1e-9)
        np.testing.assert_array_equal(given, x)


def only_equal(normalize):
    """Your test seems to compare the two modes with each other only. Both can be wrong in the same way: say
    what the value is."""
    x = _batch() * np.array([[0.05, 1.0, 3.0, 30.0]]).T
    for mean, square in ((0.5, 1.5), (-2.0, 0.2)):
        y = normalize(x.copy(), mean, square, True)
        z = normalize(x.copy(), mean, square, False)
        np.testing.assert_allclose(y, z, atol=1e-9)


def statistics_of_the_batch(normalize):
    """Your test seems to use running statistics that are those of the batch. There batch normalization is
    right as well: use others."""
    x = _batch()
    mean, square = x.mean(), x.var()
    for training in (True, False):
        given = x.copy()
        y = normalize(given, mean, square, training)
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(square + EPS), atol=1e-9)
        np.testing.assert_array_equal(given, x)


def too_strict(normalize):
    """Your test seems to demand equality to the last bit. Rounding leaves about 1e-16: allow for it."""
    x = _batch()
    for training in (True, False):
        y = normalize(x.copy(), 0.5, 1.5, training)
        assert (y == (x - 0.5) / np.sqrt(1.5 + EPS)).all()


def by_undoing(normalize):
    """The same, by going back from y to x."""
    x = 3.0 * _batch(4) * np.array([[0.03, 1.0, 2.0, 12.0]]).T
    for mean, square in ((0.7, 0.1), (-3.0, 9.0)):
        for training in (False, True):
            given = x.copy()
            y = normalize(given, mean, square, training)
            assert abs(given - x).max() == 0
            assert abs(y * np.sqrt(square + EPS) + mean - x).max() < 1e-8


EXERCISE = PropertyExercise(
    id="experiment-property",
    chapter="estimation/experiment",
    title="A test that training is inference",
    level="hard",
    reference=test_training_is_inference,
    why="Running statistics far from those of the batch tell the estimators from batch normalization, sizes "
    "far apart show limits and bounds, and the value itself shows what is wrong in both modes.",
    mistakes=variants(
        never_fails,
        only_inference,
        only_training,
        only_equal,
        statistics_of_the_batch,
        too_strict,
    ),
    alternatives=(by_undoing,),
    hints=(
        "For which running statistics does batch normalization compute the same in training and at "
        "inference? Avoid those.",
        "Compare both modes with (x − mean)/√(square + 0.01), for examples of very different sizes and a "
        "second moment far below that of the batch.",
    ),
    correct=variants(by_running, renormalized),
    mutants=variants(
        batch_norm,
        by_example,
        limited,
        updated_first,
        bounded,
        own_mean,
        frozen_wrong,
        eps_forgotten,
        inference_by_batch,
        in_place,
    ),
)
