"""`bnbook.foundations.normalization`: parity with PyTorch, limits, invariances, and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bnbook.foundations.forward import batch_norm
from bnbook.foundations.normalization import (
    batch_normalize,
    group_normalize,
    instance_normalize,
    layer_normalize,
    normalize,
    rms_normalize,
    shared_statistics,
    standardize_weights,
)

SHAPE = (4, 6, 3, 5)
METHODS = {
    "batch": (
        lambda x, eps: batch_normalize(x, eps=eps),
        lambda t, eps: F.batch_norm(t, None, None, training=True, eps=eps),
    ),
    "layer": (
        lambda x, eps: layer_normalize(x, eps=eps),
        lambda t, eps: F.layer_norm(t, t.shape[1:], eps=eps),
    ),
    "instance": (
        lambda x, eps: instance_normalize(x, eps=eps),
        lambda t, eps: F.instance_norm(t, eps=eps),
    ),
    "group": (
        lambda x, eps: group_normalize(x, 3, eps=eps),
        lambda t, eps: F.group_norm(t, 3, eps=eps),
    ),
    "rms": (
        lambda x, eps: rms_normalize(x, eps=eps),
        lambda t, eps: F.rms_norm(t, t.shape[1:], eps=eps),
    ),
}
ours = pytest.mark.parametrize("name", METHODS)


def images(shape=SHAPE, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(3.0, 1.0, shape)
        * rng.uniform(0.5, 3.0, shape[:2] + (1,) * (len(shape) - 2))
    ).astype(dtype)


@ours
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_equals_pytorch(name, eps, dtype, bound):
    mine, theirs = METHODS[name]
    x = images(dtype=dtype)
    before = x.copy()
    y = mine(x, eps)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y, theirs(torch.tensor(x), eps).numpy(), rtol=0, atol=bound
    )
    np.testing.assert_array_equal(x, before)


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 5),
    st.integers(0, 2**31),
)
@settings(max_examples=20)
def test_group_equals_pytorch_for_any_shape(
    examples, groups, per_group, positions, seed
):
    x = images((examples, groups * per_group, positions), seed)
    theirs = F.group_norm(torch.tensor(x), groups, eps=0.1).numpy()
    np.testing.assert_allclose(
        group_normalize(x, groups, eps=0.1), theirs, rtol=0, atol=1e-12
    )


def test_layers_of_pytorch_with_parameters():
    """γ and β have one entry a channel in GroupNorm and one an entry of the example in LayerNorm."""
    x = images()
    gamma, beta = np.random.default_rng(1).normal(size=(2, 6))
    group = nn.GroupNorm(2, 6, dtype=torch.float64)
    with torch.no_grad():
        group.weight.copy_(torch.tensor(gamma))
        group.bias.copy_(torch.tensor(beta))
        theirs = group(torch.tensor(x)).numpy()
    mine = gamma[:, None, None] * group_normalize(x, 2) + beta[:, None, None]
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    assert nn.GroupNorm(1, 6).weight.shape == (6,)
    assert nn.LayerNorm(SHAPE[1:]).weight.shape == SHAPE[1:]


def test_batch_is_the_first_chapters_batch_norm():
    x = images()
    y, _ = batch_norm(x, np.ones(6), np.zeros(6), eps=0.2, axes=(0, 2, 3))
    np.testing.assert_allclose(batch_normalize(x, eps=0.2), y, rtol=0, atol=1e-14)


def test_limits():
    x = images()
    np.testing.assert_allclose(
        group_normalize(x, 1), layer_normalize(x), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        group_normalize(x, 6), instance_normalize(x), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        batch_normalize(x[:1]), instance_normalize(x[:1]), rtol=0, atol=1e-12
    )
    centred = x - x.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(
        rms_normalize(centred), layer_normalize(x), rtol=0, atol=1e-12
    )
    assert np.abs(group_normalize(x, 2) - layer_normalize(x)).max() > 0.1


def test_weights_are_examples():
    w = images((8, 3, 3, 3))
    np.testing.assert_allclose(
        standardize_weights(w), layer_normalize(w), rtol=0, atol=0
    )
    np.testing.assert_allclose(
        standardize_weights(w).mean(axis=(1, 2, 3)), 0, atol=1e-14
    )


@ours
def test_scale_invariance_needs_eps_zero(name):
    mine, _ = METHODS[name]
    x = images()
    np.testing.assert_allclose(mine(7.0 * x, 0.0), mine(x, 0.0), rtol=0, atol=1e-12)
    assert np.abs(mine(7.0 * x, 1.0) - mine(x, 1.0)).max() > 1e-2


@ours
def test_shift_invariance_needs_centring(name):
    mine, _ = METHODS[name]
    x = images()
    moved = np.abs(mine(x + 5.0, 0.1) - mine(x, 0.1)).max()
    assert moved > 0.1 if name == "rms" else moved < 1e-12


@ours
def test_company_matters_to_batch_alone(name):
    mine, _ = METHODS[name]
    x = images()
    alone, together = mine(x[:1], 0.1), mine(x, 0.1)[:1]
    assert (np.abs(alone - together).max() > 1e-2) == (name == "batch")


@ours
@given(st.integers(0, 2**31))
@settings(max_examples=6)
def test_moments(name, seed):
    """Mean 0 and mean square v/(v + ε) in every group; RMS keeps its mean."""
    mine, _ = METHODS[name]
    x, eps = images((3, 6, 4), seed), 0.2
    y, labels = mine(x, eps), shared_statistics(lambda a: mine(a, eps), (3, 6, 4))
    for label in range(labels.max() + 1):
        inside = labels == label
        square = (x[inside] ** 2).mean() if name == "rms" else x[inside].var()
        np.testing.assert_allclose(
            (y[inside] ** 2).mean(), square / (square + eps), rtol=1e-12
        )
        if name != "rms":
            np.testing.assert_allclose(y[inside].mean(), 0, atol=1e-13)


@pytest.mark.parametrize(
    ("method", "groups"),
    [
        (batch_normalize, 6),
        (layer_normalize, 3),
        (rms_normalize, 3),
        (instance_normalize, 18),
        (lambda x: group_normalize(x, 2), 6),
        (lambda x: F.group_norm(torch.tensor(x), 2).numpy(), 6),
        (lambda x: F.batch_norm(torch.tensor(x), None, None, training=True).numpy(), 6),
        (
            lambda x: F.batch_norm(
                torch.tensor(x), torch.zeros(6).double(), torch.ones(6).double()
            ).numpy(),
            3 * 6 * 4,
        ),
    ],
)
def test_shared_statistics_counts_groups(method, groups):
    labels = shared_statistics(method, (3, 6, 2, 2))
    assert labels.max() + 1 == groups
    assert set(np.unique(labels, return_counts=True)[1]) == {72 // groups}


def test_neighbouring_channels_form_a_group():
    labels = shared_statistics(lambda x: group_normalize(x, 2), (1, 6, 1, 2))
    assert labels[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_shared_statistics_refuses_what_is_no_partition():
    with pytest.raises(ValueError, match="mutual"):
        shared_statistics(lambda x: np.cumsum(x), (4,))
    with pytest.raises(ValueError, match="mutual"):
        shared_statistics(lambda x: x + np.roll(x, 1), (4,))
    with pytest.raises(ValueError, match="must have entries"):
        shared_statistics(layer_normalize, (0, 3))


def test_derivative_by_complex_step():
    x, step = images((2, 4)), 1e-30
    bumped = x.astype(complex)
    bumped[0, 1] += 1j * step
    for method in (layer_normalize, rms_normalize):
        exact = method(bumped, eps=0.1).imag / step
        numeric = (
            method(x + (bumped.imag / step) * 1e-6, eps=0.1) - method(x, eps=0.1)
        ) / 1e-6
        np.testing.assert_allclose(exact, numeric, atol=1e-5)
        assert not exact[1].any()


def test_large_mean_and_narrow_dtype():
    x = np.random.default_rng(2).normal(size=(3, 4, 6)) + 1e8
    theirs = F.layer_norm(torch.tensor(x - 1e8), (4, 6)).numpy()
    np.testing.assert_allclose(layer_normalize(x), theirs, rtol=0, atol=1e-6)
    half = np.full((2, 300), 300.0, dtype=np.float16)  # the squares overflow float16
    assert np.isfinite(rms_normalize(half)).all()


def test_empty_batch_is_no_problem_without_company():
    assert layer_normalize(np.zeros((0, 4))).shape == (0, 4)
    assert rms_normalize(np.zeros((0, 4))).shape == (0, 4)
    with pytest.raises(ValueError, match="nothing to average: axes \\(0,\\)"):
        batch_normalize(np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: group_normalize(images(), 4),
            ValueError,
            r"divide the 6 channels, got 4; use one of \[1, 2, 3, 6\]",
        ),
        (
            lambda: group_normalize(images(), 0),
            ValueError,
            "divide the 6 channels, got 0",
        ),
        (lambda: group_normalize(images(), 2.0), TypeError, "integer, got 2.0"),
        (lambda: group_normalize(images(), True), TypeError, "integer, got True"),
        (lambda: normalize(images(), 4, eps=0.1), ValueError, "axis 4 is out of range"),
        (lambda: normalize(images(), (0, -4), eps=0.1), ValueError, "same axis twice"),
        (lambda: normalize(images(), (), eps=0.1), ValueError, "axes is empty"),
        (lambda: normalize(images(), 1.5, eps=0.1), TypeError, "integer or a tuple"),
        (
            lambda: normalize(images(), 1, eps=-1.0),
            ValueError,
            "eps must be finite and at least 0",
        ),
        (
            lambda: normalize(images(), 1, eps="x"),
            TypeError,
            "eps must be a real number",
        ),
        (
            lambda: normalize(np.arange(6).reshape(2, 3), 1, eps=0.1),
            TypeError,
            "floating-point",
        ),
        (lambda: normalize([1.0, 2.0], 0, eps=0.1), TypeError, "plain NumPy array"),
        (
            lambda: layer_normalize(np.array([[1.0, np.nan]])),
            ValueError,
            "must be finite",
        ),
        (lambda: layer_normalize(np.ones((3, 1))), ValueError, "see one value"),
        (
            lambda: instance_normalize(np.ones((3, 2))),
            ValueError,
            r"shape \(N, C, H, …\), got \(3, 2\)",
        ),
        (
            lambda: standardize_weights(np.ones(3)),
            ValueError,
            r"w must have shape \(D, D_in, …\)",
        ),
        (lambda: layer_normalize(np.ones((2, 3)), eps=0.0), ValueError, "0/0"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
