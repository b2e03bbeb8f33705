"""Exercise: a test for a convolution that moves the mean behind the kernel."""

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants


def test_centred_convolution(convolve) -> None:
    """Test a circular convolution of a centred input: pass if it is right, else fail an `assert`.

    Args:
        convolve: a function of (x, kernel, mean). x has shape (B, S), kernel (K,) with K
            odd and at most S, and mean is a number. It must return, of shape (B, S) and
            with c = (K − 1)/2,

                y[b, i] = Σ_k kernel[k] (x[b, (i + k − c) mod S] − mean) .
    """
    rng = np.random.default_rng(0)
    for count, size, taps in [(3, 7, 3), (2, 5, 5), (4, 6, 1)]:
        x, kernel = rng.normal(size=(count, size)), rng.normal(size=taps)
        mean = 1.7
        expected = np.zeros((count, size))
        for i in range(size):
            for k in range(taps):
                at = (i + k - (taps - 1) // 2) % size
                expected[:, i] += kernel[k] * (x[:, at] - mean)
        got = convolve(x, kernel, mean)
        assert got.shape == expected.shape
        assert np.allclose(got, expected, rtol=1e-10, atol=1e-10)


def _circular(x, kernel):
    c = (len(kernel) - 1) // 2
    return sum(w * np.roll(x, c - k, axis=1) for k, w in enumerate(kernel))


def before(x, kernel, mean):
    """it subtracts the mean from the input."""
    return _circular(x - mean, kernel)


def behind(x, kernel, mean):
    """it subtracts the mean times the sum of the kernel from the output."""
    return _circular(x, kernel) - kernel.sum() * mean


def kernel_averaged(x, kernel, mean):
    """it averages the kernel where it must sum it."""
    return _circular(x, kernel) - kernel.mean() * mean


def central_tap(x, kernel, mean):
    """it multiplies the mean by the tap in the middle only."""
    return _circular(x, kernel) - kernel[len(kernel) // 2] * mean


def bare_mean(x, kernel, mean):
    """it subtracts the mean from the output, without the kernel."""
    return _circular(x, kernel) - mean


def no_mean(x, kernel, mean):
    """it ignores the mean."""
    return _circular(x, kernel)


def batch_mean(x, kernel, mean):
    """it subtracts the mean of x in place of the one it is given."""
    return _circular(x - x.mean(), kernel)


def zero_padded(x, kernel, mean):
    """it pads with zeros."""
    c = (len(kernel) - 1) // 2
    padded = np.pad(x, ((0, 0), (c, c)))
    size = x.shape[1]
    parts = [w * padded[:, k : k + size] for k, w in enumerate(kernel)]
    return sum(parts) - kernel.sum() * mean


def zero_padded_after_centring(x, kernel, mean):
    """it centres, then pads with zeros: the border of a constant picture is right, others are not."""
    return zero_padded(x - mean, kernel, 0.0)


def flipped(x, kernel, mean):
    """it turns the kernel round, which a symmetric kernel hides."""
    return before(x, kernel[::-1], mean)


def shifted(x, kernel, mean):
    """it does not centre the kernel."""
    return np.roll(before(x, kernel, mean), 1, axis=1)


def _case(symmetric=False):
    rng = np.random.default_rng(1)
    kernel = np.array([0.5, 2.0, 0.5]) if symmetric else rng.normal(size=3)
    return rng.normal(size=(3, 6)), kernel


def only_the_shape(convolve):
    """Your test seems to check only the shape."""
    x, kernel = _case()
    assert convolve(x, kernel, 0.7).shape == x.shape


def mean_zero(convolve):
    """Your test seems to use the mean 0. Then nothing shows what is done with it."""
    x, kernel = _case()
    assert np.allclose(convolve(x, kernel, 0.0), _circular(x, kernel))


def constant_picture(convolve):
    """Your test does not see in which order the taps meet the input. It seems to use a constant input only,
    which must give 0, or to compare the implementation with itself."""
    x, kernel = _case()
    assert np.allclose(convolve(np.full_like(x, 0.7), kernel, 0.7), 0)


def symmetric_kernel(convolve):
    """Your test seems to use symmetric kernels. A kernel that is turned round is then not found."""
    x, kernel = _case(symmetric=True)
    assert np.allclose(convolve(x, kernel, 0.7), _circular(x - 0.7, kernel))


def true_mean(convolve):
    """Your test seems to pass the mean of the input itself. An implementation that computes that mean and
    ignores the argument then passes; a running mean is another number."""
    x, kernel = _case()
    mean = x.mean()
    assert np.allclose(convolve(x, kernel, mean), _circular(x - mean, kernel))


def too_strict(convolve):
    """Your test seems to demand outputs of mean 0. They have it for the input's own mean only."""
    x, kernel = _case()
    assert abs(convolve(x, kernel, 0.7).mean()) < 1e-9


def by_properties(convolve):
    """The same, by linearity: impulses at every place, one at a time, then a shift of input and mean."""
    rng = np.random.default_rng(5)
    kernel, size = rng.normal(size=3), 6
    for i in range(size):
        x = np.zeros((1, size))
        x[0, i] = 1.0
        y = convolve(x, kernel, 0.0)
        expected = np.zeros((1, size))
        for k in range(3):
            expected[0, (i - k + 1) % size] += kernel[k]
        assert y.shape == x.shape and np.allclose(y, expected)
    x = rng.normal(size=(2, size))
    assert np.allclose(convolve(x + 0.9, kernel, 0.9), convolve(x, kernel, 0.0))
    sums = convolve(x, kernel, 0.0), convolve(x, kernel, 1.3)
    assert np.allclose(sums[0] - sums[1], 1.3 * kernel.sum())


EXERCISE = PropertyExercise(
    id="two-stage-property",
    chapter="estimation/two_stage",
    title="A test for the mean behind the kernel",
    level="hard",
    reference=test_centred_convolution,
    why="A mean that is not the input's own, a kernel without symmetry and a comparison at every position "
    "tell all mistakes apart.",
    mistakes=variants(
        only_the_shape,
        mean_zero,
        constant_picture,
        symmetric_kernel,
        true_mean,
        too_strict,
    ),
    alternatives=(by_properties,),
    hints=(
        "Write the sum of the task as two loops, and compare at every position.",
        "Use a kernel that is not symmetric and a mean that is neither 0 nor that of x.",
    ),
    correct=variants(behind, before),
    mutants=variants(
        kernel_averaged,
        central_tap,
        bare_mean,
        no_mean,
        batch_mean,
        zero_padded,
        zero_padded_after_centring,
        flipped,
        shifted,
    ),
)
