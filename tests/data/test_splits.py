"""Datasets in three parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbook.data.splits import Dataset, Split, split


def examples(count=40, features=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(5.0, [1.0, 10.0, 0.1][:features], size=(count, features))
    return x, rng.integers(0, 3, count)


NAMES = ("a", "b", "c")


def dealt(x, t, **options):
    return split(
        "some", NAMES, x, t, **{"validation": 0.2, "test": 0.2, "seed": 0} | options
    )


@given(
    st.integers(3, 200), st.floats(0.05, 0.5), st.floats(0.05, 0.4), st.integers(0, 99)
)
def test_every_example_is_in_exactly_one_part(count, validation, test, seed):
    x = np.arange(3 * count, dtype=np.float64).reshape(count, 3)
    t = np.arange(count)
    sizes = int(validation * count), int(test * count)
    if min(*sizes, count - sum(sizes)) < 1:
        with pytest.raises(ValueError, match="leave a part empty"):
            dealt(x, t, validation=validation, test=test, seed=seed)
        return
    parts = dealt(x, t, validation=validation, test=test, seed=seed).parts()
    assert (len(parts["validation"].x), len(parts["test"].x)) == sizes
    labels = np.concatenate([p.t for p in parts.values()])
    assert sorted(labels) == list(range(count))
    for part in parts.values():
        np.testing.assert_array_equal(part.x, x[part.t].astype(np.float32))


def test_the_seed_decides():
    x, t = examples()
    same, other = dealt(x, t), dealt(x, t, seed=1)
    np.testing.assert_array_equal(dealt(x, t).train.x, same.train.x)
    assert (other.train.x != same.train.x).any()


def test_types():
    data = dealt(*examples())
    for part in data.parts().values():
        assert (part.x.dtype, part.t.dtype) == (np.float32, np.int64)
    assert data.classes == 3
    counts = np.bincount(data.validation.t)
    assert data.majority == counts.max() / counts.sum()


class TestStandardized:
    def test_mean_0_variance_1_in_training_and_the_same_map_elsewhere(self):
        data = dealt(*examples(4000))
        new = data.standardized()
        np.testing.assert_allclose(new.train.x.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(new.train.x.std(axis=0), 1, rtol=1e-5)
        mean, std = data.train.x.mean(axis=0), data.train.x.std(axis=0)
        for name in ("validation", "test"):
            old, moved = data.parts()[name], new.parts()[name]
            np.testing.assert_allclose(moved.x, (old.x - mean) / std, atol=1e-4)
            np.testing.assert_array_equal(moved.t, old.t)
            assert abs(moved.x.mean(axis=0)).max() > 1e-4, "not its own statistics"

    def test_a_constant_feature_is_moved_to_0(self):
        x, t = examples()
        for value in (0.0, 7.3, 1e-30, 1e30):
            x[:, 1] = value
            new = dealt(x, t).standardized()
            assert (new.train.x[:, 1] == 0).all()
            assert np.isfinite(new.test.x).all()

    def test_the_mean_of_a_far_feature_keeps_its_digits(self):
        """A float32 mean of 3000 values around 10⁶ would be off by more than their spread."""
        rng = np.random.default_rng(0)
        x = 1e6 + rng.normal(size=(5000, 3))
        new = dealt(x, np.zeros(5000, int)).standardized()
        assert abs(new.train.x.mean(axis=0)).max() < 1e-3

    def test_nothing_is_changed_in_place(self):
        x, t = examples()
        data = dealt(x, t)
        before = data.train.x.copy()
        data.standardized()
        np.testing.assert_array_equal(data.train.x, before)
        np.testing.assert_array_equal(x, examples()[0])


class TestBadInput:
    @pytest.mark.parametrize(
        ("x", "t", "options", "kind", "message"),
        [
            (np.zeros(5), np.zeros(5, int), {}, ValueError, r"x must be \(N, D\)"),
            (np.zeros((5, 3)), np.zeros(4, int), {}, ValueError, r"t \(N,\)"),
            (np.zeros((5, 3), int), np.zeros(5, int), {}, TypeError, "floating point"),
            (np.zeros((5, 3)), np.zeros(5), {}, TypeError, "integer"),
            (np.zeros((5, 2)), np.zeros(5, int), {}, ValueError, r"shape \(N, 3\)"),
            (np.full((5, 3), np.inf), np.zeros(5, int), {}, ValueError, "finite"),
            (np.zeros((5, 3)), -np.ones(5, int), {}, ValueError, "from 0"),
            (np.zeros((5, 3)), np.zeros(5, int), {"test": 1.5}, ValueError, "share"),
            (
                np.zeros((5, 3)),
                np.zeros(5, int),
                {"validation": 0},
                ValueError,
                "share",
            ),
            (
                np.zeros((5, 3)),
                np.zeros(5, int),
                {"test": 0.8},
                ValueError,
                "leave a part empty",
            ),
        ],
    )
    def test_split(self, x, t, options, kind, message):
        with pytest.raises(kind, match=message):
            dealt(x, t, **options)

    def test_dataset(self):
        good = Split(np.zeros((4, 3), np.float32), np.zeros(4, int))
        with pytest.raises(ValueError, match=r"test\.t must hold 4 class numbers"):
            Dataset("d", NAMES, good, good, Split(good.x, np.zeros(3, int)))
        with pytest.raises(
            TypeError, match=r"validation\.t must be an array of integer"
        ):
            Dataset("d", NAMES, good, Split(good.x, [0, 0, 0, 0]), good)
