"""Exercise: a test that tells a correct group normalization from a wrong one."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_group_norm(group_norm) -> None:
    """Test an implementation of group normalization: pass if it is correct, else fail.

    Args:
        group_norm: a function of x (N, C, H, W), groups and eps that returns ẑ of the
            same shape, with neither γ nor β. A group is C/groups neighbouring channels
            of one example, and its statistics are taken over these channels and all
            positions. All arrays are float64.
    """
    rng = np.random.default_rng(0)
    for channels, groups, eps in [(6, 2, 0.5), (6, 3, 1e-3), (4, 1, 0.1), (4, 4, 2.0)]:
        x = rng.normal(3.0, 1.0, size=(2, channels, 3, 2))
        x *= rng.uniform(0.5, 3.0, size=(2, channels, 1, 1))
        y = group_norm(x, groups, eps)
        assert y.shape == x.shape
        # Group by group: mean 0, and a straight line in x with the slope 1/√(σ² + ε).
        size = channels // groups
        for n in range(2):
            for first in range(0, channels, size):
                inside, out = x[n, first : first + size], y[n, first : first + size]
                slope = 1 / np.sqrt(inside.var() + eps)
                np.testing.assert_allclose(out.mean(), 0, atol=1e-12)
                expected = slope * (inside - inside.flat[0])
                np.testing.assert_allclose(out - out.flat[0], expected, atol=1e-10)


def plain(x, groups, eps):
    """it is the textbook formula."""
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(axis=2, keepdims=True)
    return (centred / np.sqrt(centred.var(axis=2, keepdims=True) + eps)).reshape(
        x.shape
    )


def channel_by_channel(x, groups, eps):
    """it adds up the statistics channel by channel, which rounds differently."""
    y, size = np.empty(x.shape), x.shape[1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            mean = sum(part[c].mean() for c in range(size)) / size
            var = sum(((part[c] - mean) ** 2).mean() for c in range(size)) / size
            y[n, g * size : (g + 1) * size] = (part - mean) * (var + eps) ** -0.5
    return y


def scale_and_shift_merged(x, groups, eps):
    """it computes a x + b with a = 1/√(σ² + ε) and b = −aμ, which rounds differently."""
    grouped = x.reshape(x.shape[0], groups, -1)
    a = 1 / np.sqrt(grouped.var(axis=2, keepdims=True) + eps)
    return (a * grouped - a * grouped.mean(axis=2, keepdims=True)).reshape(x.shape)


def groups_interleaved(x, groups, eps):
    """it puts every G-th channel into a group instead of neighbours, which is invisible
    with one group and with one channel a group."""
    shape = (x.shape[0], x.shape[1] // groups, groups, *x.shape[2:])
    swapped = x.reshape(shape).swapaxes(1, 2)
    y = plain(swapped.reshape(x.shape), groups, eps)
    return y.reshape(swapped.shape).swapaxes(1, 2).reshape(x.shape)


def one_group(x, groups, eps):
    """it ignores `groups` and normalizes each example as a whole, as layer normalization
    does."""
    return plain(x, 1, eps)


def one_channel_a_group(x, groups, eps):
    """it ignores `groups` and normalizes each channel by itself, as instance
    normalization does."""
    return plain(x, x.shape[1], eps)


def size_for_number(x, groups, eps):
    """it takes `groups` for the number of channels in a group, which is invisible where
    C = G²."""
    return plain(x, x.shape[1] // groups, eps)


def over_the_batch(x, groups, eps):
    """it takes the statistics of a group over all examples, which is invisible with one
    example."""
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(axis=(0, 2), keepdims=True)
    var = centred.var(axis=(0, 2), keepdims=True)
    return (centred / np.sqrt(var + eps)).reshape(x.shape)


def spread_of_channels_averaged(x, groups, eps):
    """it averages the variances of the channels and so misses the spread between their
    means, which is invisible with one channel a group."""
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    var = grouped.var(axis=3, keepdims=True).mean(axis=2, keepdims=True)
    mean = grouped.mean(axis=(2, 3), keepdims=True)
    return ((grouped - mean) / np.sqrt(var + eps)).reshape(x.shape)


def not_centred(x, groups, eps):
    """it divides by the root mean square and leaves the mean in, which is invisible where
    the mean of each group is 0."""
    grouped = x.reshape(x.shape[0], groups, -1)
    square = (grouped**2).mean(axis=2, keepdims=True)
    return (grouped / np.sqrt(square + eps)).reshape(x.shape)


def unbiased_variance(x, groups, eps):
    """it divides the squared deviations by their number minus 1."""
    grouped = x.reshape(x.shape[0], groups, -1)
    var = grouped.var(axis=2, keepdims=True, ddof=1)
    return (
        (grouped - grouped.mean(axis=2, keepdims=True)) / np.sqrt(var + eps)
    ).reshape(x.shape)


def eps_outside_root(x, groups, eps):
    """it divides by σ + ε, which only shows where ε is not tiny."""
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - grouped.mean(axis=2, keepdims=True)
    return (centred / (centred.std(axis=2, keepdims=True) + eps)).reshape(x.shape)


def eps_hard_coded(x, groups, eps):
    """it uses ε = 1e-5 whatever it is given, which only shows where ε is not tiny."""
    return plain(x, groups, 1e-5)


def _images(examples=2, channels=6):
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 1.0, size=(examples, channels, 2, 3))
    return x * rng.uniform(0.5, 3.0, size=(examples, channels, 1, 1))


def _same(group_norm, x, groups, eps, **tolerance):
    tolerance = tolerance or {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(
        group_norm(x, groups, eps), plain(x, groups, eps), **tolerance
    )


def never_fails(group_norm):
    """Your test calls the implementation and asserts nothing that a wrong one violates:
    compare the values of the output with what they must be."""
    assert group_norm(_images(), 2, 0.3).shape == (2, 6, 2, 3)


def only_one_group(group_norm):
    """Your test seems to use a single group, where layer normalization and interleaved
    groups pass. Use several groups of several channels."""
    _same(group_norm, _images(), 1, 0.3)


def only_single_channels(group_norm):
    """Your test seems to use as many groups as channels, where instance normalization and
    interleaved groups pass. Use several groups of several channels."""
    _same(group_norm, _images(), 6, 0.3)


def as_many_groups_as_members(group_norm):
    """Your test seems to use C = G², where the number of groups and their size are the
    same. Choose, for example, 6 channels and 2 groups."""
    _same(group_norm, _images(channels=4), 2, 0.3)


def one_example(group_norm):
    """Your test seems to use one example, where statistics over the whole batch are
    invisible. Use two that differ."""
    _same(group_norm, _images(examples=1), 2, 0.3)


def centred_data(group_norm):
    """Your test seems to use data whose groups have mean 0, where an implementation that
    does not centre passes. Add an offset."""
    x = _images()
    x -= x.reshape(2, 2, -1).mean(axis=2).repeat(3, axis=1)[..., None, None]
    _same(group_norm, x, 2, 0.3)


def tiny_eps(group_norm):
    """Your test seems to use a tiny ε or a wide tolerance, where it hardly matters how ε
    enters. Use one comparable with the variance, and a tolerance near 1e-10."""
    _same(group_norm, _images(), 2, 1e-9, rtol=1e-4)


def exact_equality(group_norm):
    """Your test seems to demand exact equality. A correct implementation that adds in
    another order differs in the last digit: compare with a tolerance."""
    x = _images()
    assert (group_norm(x, 2, 0.3) == plain(x, 2, 0.3)).all()


def against_the_formula(group_norm):
    """The same, against a loop over groups."""
    rng = np.random.default_rng(5)
    for groups in (1, 2, 3, 6):
        x = 2.0 + rng.normal(size=(3, 6, 2, 2)) * rng.uniform(0.5, 2.0, (3, 6, 1, 1))
        y = group_norm(x, groups, 0.7)
        for n in range(3):
            parts = zip(np.split(x[n], groups), np.split(y[n], groups), strict=True)
            for part, out in parts:
                right = (part - part.mean()) / np.sqrt(part.var() + 0.7)
                assert np.abs(out - right).max() < 1e-11


def with_hypothesis(group_norm):
    """The same, on shapes that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    @given(st.integers(2, 3), st.integers(2, 3), st.integers(2, 4), st.integers(0, 99))
    def holds(examples, groups, size, seed):
        rng = np.random.default_rng(seed)
        shape = examples, groups * size, 2, 2
        x = 2.0 + rng.normal(size=shape) * rng.uniform(0.5, 2.0, (*shape[:2], 1, 1))
        _same(group_norm, x, groups, 0.4)

    holds()


EXERCISE = PropertyExercise(
    id="conventions-property",
    chapter="foundations/conventions",
    title="A test for group normalization",
    level="hard",
    reference=test_group_norm,
    why="Inside a group the output is a straight line in the input with a known slope and "
    "mean 0. Several groups of several channels, two examples, an offset and a large ε "
    "leave a wrong implementation nowhere to hide.",
    mistakes=variants(
        never_fails,
        only_one_group,
        only_single_channels,
        as_many_groups_as_members,
        one_example,
        centred_data,
        tiny_eps,
        exact_equality,
    ),
    alternatives=(against_the_formula, with_hypothesis),
    hints=(
        "Draw x at random, call `group_norm`, and state what must hold inside each group "
        "of neighbouring channels of one example.",
        "Choose inputs on which mistakes show: groups of several channels, more groups "
        "than one, C ≠ G², two examples, an offset, ε comparable with the variance.",
        "Inside a group the mean of the output is 0, and its differences are those of x "
        "times 1/√(σ² + ε).",
    ),
    correct=variants(plain, channel_by_channel, scale_and_shift_merged),
    mutants=variants(
        groups_interleaved,
        one_group,
        one_channel_a_group,
        size_for_number,
        over_the_batch,
        spread_of_channels_averaged,
        not_centred,
        unbiased_variance,
        eps_outside_root,
        eps_hard_coded,
    ),
)
