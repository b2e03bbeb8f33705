"""Exercise: a test that a fast normalization has to pass."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_fast_normalization(normalize) -> None:
    """Test a fast implementation of batch normalization: pass if it is right, else fail an `assert`.

    Args:
        normalize: a function of x (M, D), gamma (D,), beta (D,) and eps that returns
            γ (x − μ)/√(σ² + ε) + β, (M, D). It may work block by block, but it must not
            change its input, and it must keep six digits also where the mean is a million
            times the deviation.
    """
    rng = np.random.default_rng(0)
    for rows, columns, mean, eps in [
        (5, 3, 0.0, 0.5),
        (67, 4, 3.0, 1e-3),
        (41, 2, 1e6, 1e-3),
    ]:
        x = rng.normal(mean, np.linspace(0.5, 2.0, columns), size=(rows, columns))
        gamma, beta = rng.normal(size=(2, columns))
        before = x.copy(), gamma.copy(), beta.copy()
        y = normalize(x, gamma, beta, eps)
        centred = x - x.mean(axis=0)
        expected = gamma * centred / np.sqrt((centred**2).mean(axis=0) + eps) + beta
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
        for after, old in zip((x, gamma, beta), before, strict=True):
            assert (after == old).all()


def textbook(x, gamma, beta, eps):
    """it takes two passes over the whole batch."""
    centred = x - x.mean(axis=0)
    return gamma * centred / np.sqrt((centred**2).mean(axis=0) + eps) + beta


def shifted_blocks(x, gamma, beta, eps):
    """it subtracts the first row and sums blocks of 16 rows, which rounds differently."""
    moved = x - x[0]
    total, square = np.zeros((2, x.shape[1]))
    for start in range(0, len(x), 16):
        block = moved[start : start + 16]
        total += block.sum(axis=0)
        square += (block * block).sum(axis=0)
    mean = total / len(x)
    scale = gamma / np.sqrt(square / len(x) - mean**2 + eps)
    return moved * scale + (beta - scale * mean)


def parallel_halves(x, gamma, beta, eps):
    """it treats the features in two halves, and merges nothing because features are independent."""
    half = x.shape[1] // 2
    parts = [slice(0, half), slice(half, None)]
    return np.concatenate(
        [textbook(x[:, p], gamma[p], beta[p], eps) for p in parts], axis=1
    )


def remainder_lost(x, gamma, beta, eps):
    """its blocks of 4 rows leave out the last rows where M is no multiple of 4: they stay as they were."""
    y, whole = x.copy(), len(x) - len(x) % 4
    y[:whole] = textbook(x, gamma, beta, eps)[:whole]
    return y


def statistics_of_a_block(x, gamma, beta, eps):
    """it takes mean and variance of the first 64 rows for those of the batch."""
    some = x[:64]
    scale = gamma / np.sqrt(some.var(axis=0) + eps)
    return (x - some.mean(axis=0)) * scale + beta


def block_by_block(x, gamma, beta, eps):
    """it normalizes each block of 32 rows by itself, which is right for a small batch."""
    blocks = np.array_split(x, max(1, len(x) // 32))
    return np.concatenate([textbook(block, gamma, beta, eps) for block in blocks])


def one_pass(x, gamma, beta, eps):
    """it computes σ² = E[x²] − μ² in one pass, which loses its digits where the mean is large."""
    mean = x.mean(axis=0)
    var = np.maximum((x**2).mean(axis=0) - mean**2, 0)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def single_precision(x, gamma, beta, eps):
    """it works in float32, which is too narrow where the mean is large."""
    return textbook(x.astype(np.float32), gamma, beta, eps).astype(float)


def in_place(x, gamma, beta, eps):
    """it writes its result over its input, to save a buffer that was not its own."""
    x[:] = textbook(x, gamma, beta, eps)
    return x.copy()


def parameter_overwritten(x, gamma, beta, eps):
    """it keeps γ/√(σ² + ε) in the array of γ, and so changes the parameter."""
    gamma /= np.sqrt(x.var(axis=0) + eps)
    return (x - x.mean(axis=0)) * gamma + beta


def eps_lost(x, gamma, beta, eps):
    """it leaves out ε, which shows only where ε is not small beside the variance."""
    return textbook(x, gamma, beta, 0.0)


def scale_positive(x, gamma, beta, eps):
    """it loses the sign of γ."""
    return textbook(x, abs(gamma), beta, eps)


def _compare(normalize, rows, mean=2.0, eps=0.1, seed=1, parameters=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, [0.5, 1.0, 2.0], size=(rows, 3))
    gamma, beta = rng.normal(size=(2, 3)) if parameters is None else parameters
    given = x.copy(), gamma.copy(), beta.copy()
    expected = textbook(*given, eps)
    return normalize(x, gamma, beta, eps), expected, (x, gamma, beta), given


def _untouched(arrays, given):
    for after, old in zip(arrays, given, strict=True):
        assert (after == old).all()


def never_fails(normalize):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare the
    values with what they must be."""
    y, *_ = _compare(normalize, 8)
    assert y.shape == (8, 3)


def only_mean_and_variance(normalize):
    """Your test seems to check only mean and variance of the output. An implementation that spoils
    single rows, forgets the sign of γ or changes its input can pass: compare every entry."""
    y, expected, *_ = _compare(normalize, 8)
    np.testing.assert_allclose(y.mean(axis=0), expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(y.std(axis=0), expected.std(axis=0), rtol=1e-6)


def whole_blocks(normalize):
    """Your test seems to use one small batch of a round size. A fast implementation cuts the batch
    into blocks: use more rows than a block has, and a number that no block size divides."""
    y, expected, arrays, given = _compare(normalize, 16)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    _untouched(arrays, given)


def small_mean(normalize):
    """Your test seems to use data with a small mean only. A fast implementation may take one pass,
    which loses its digits where the mean is large: add data with a mean of a million."""
    for rows in (5, 67):
        y, expected, arrays, given = _compare(normalize, rows)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
        _untouched(arrays, given)


def input_not_watched(normalize):
    """Your test compares the output and does not look at the input again. An implementation that
    overwrites x or γ passes: copy them before, and compare after the call."""
    for rows, mean in ((5, 0.0), (67, 3.0), (41, 1e6)):
        y, expected, *_ = _compare(normalize, rows, mean)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def plain_parameters(normalize):
    """Your test seems to use γ = 1 and β = 0, where an implementation that loses the sign of γ is
    right. Draw γ and β at random, with both signs."""
    for rows, mean in ((5, 0.0), (67, 3.0), (41, 1e6)):
        plain = np.ones(3), np.zeros(3)
        y, expected, arrays, given = _compare(normalize, rows, mean, parameters=plain)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
        _untouched(arrays, given)


def exact_equality(normalize):
    """Your test asks for equality to the last bit. A fast implementation sums in another order: leave
    room for rounding."""
    y, expected, *_ = _compare(normalize, 67)
    assert (y == expected).all()


def row_by_row(normalize):
    """The same, entry by entry in plain Python."""
    for rows, mean in ((6, 0.5), (83, 1e6)):
        y, _, arrays, (x, gamma, beta) = _compare(
            normalize, rows, mean, eps=0.3, seed=5
        )
        for d in range(3):
            mu = sum(x[:, d]) / rows
            var = sum((v - mu) ** 2 for v in x[:, d]) / rows
            for m in range(rows):
                right = gamma[d] * (x[m, d] - mu) / (var + 0.3) ** 0.5 + beta[d]
                assert abs(y[m, d] - right) < 1e-6
        _untouched(arrays, (x, gamma, beta))


def many_sizes(normalize):
    """The same over many sizes."""
    for rows in (2, 3, 31, 64, 65, 130):
        for mean in (0.0, 1e6):
            y, expected, arrays, given = _compare(normalize, rows, mean, seed=rows)
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
            _untouched(arrays, given)


EXERCISE = PropertyExercise(
    id="cost-property",
    chapter="training/cost",
    title="A test for a fast normalization",
    level="hard",
    reference=test_fast_normalization,
    why="Speed is bought with blocks, buffers and fewer passes, so a test must look where these go wrong: "
    "at odd numbers of rows, at arrays that are not the function's own, and at large means.",
    mistakes=variants(
        never_fails,
        only_mean_and_variance,
        whole_blocks,
        small_mean,
        input_not_watched,
        plain_parameters,
        exact_equality,
    ),
    alternatives=(row_by_row, many_sizes),
    hints=(
        "Compute the expected output plainly, in your test, and compare every entry with a tolerance.",
        "Use several batches: one of 67 rows, say, since blocks are cut at round numbers, and one with a "
        "mean of a million. Copy the arguments before the call and compare them after it.",
    ),
    correct=variants(textbook, shifted_blocks, parallel_halves),
    mutants=variants(
        remainder_lost,
        statistics_of_a_block,
        block_by_block,
        one_pass,
        single_precision,
        in_place,
        parameter_overwritten,
        eps_lost,
        scale_positive,
    ),
)
