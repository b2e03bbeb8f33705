"""The dataset of useful and noisy features."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.data.noisy_features import noisy_features


def whole(data):
    return (
        np.concatenate([p.x for p in data.parts().values()]),
        np.concatenate([p.t for p in data.parts().values()]),
    )


class TestNoisyFeatures:
    def test_the_setting_of_the_source(self):
        data = noisy_features(3)
        assert data.train.x.shape == (15, 1000) and data.classes == 5
        assert data.validation.x.shape == data.test.x.shape == (300, 1000)
        assert [n.startswith("useful") for n in data.features] == [True] * 100 + [
            False
        ] * 900

    def test_classes_are_balanced_and_in_random_order(self):
        data = noisy_features(7, classes=3, features=4, useful=2)
        for part in data.parts().values():
            assert len(set(np.bincount(part.t))) == 1
            assert (np.diff(part.t) != 0).sum() > 2

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(2, 6),
        st.integers(1, 8),
        st.floats(0, 0.99),
        st.integers(0, 2**31),
    )
    def test_each_useful_feature_separates_the_classes(self, c, d1, width, seed):
        data = noisy_features(
            3, features=d1 + 2, useful=d1, classes=c, width=width, held_out=4, seed=seed
        )
        x, t = whole(data)
        for column in x.T[:d1]:
            low = np.array([column[t == k].min() for k in range(c)])
            high = np.array([column[t == k].max() for k in range(c)])
            order = np.argsort(low)
            assert (high[order][:-1] < low[order][1:]).all()

    def test_the_nearest_centre_is_right_so_linear_scores_separate(self):
        x, t = whole(noisy_features(40, features=12, useful=12, width=0.95))
        # the middle of the range of a class is close to its centre
        middle = np.array([(x[t == k].min(0) + x[t == k].max(0)) / 2 for k in range(5)])
        scores = x @ middle.T - (middle**2).sum(1) / 2
        assert (scores.argmax(1) == t).all()

    def test_levels_have_mean_0_and_variance_1(self):
        data = noisy_features(2, features=6, useful=6, width=0, classes=4)
        centres = np.array([data.train.x[data.train.t == k][0] for k in range(4)])
        np.testing.assert_allclose(centres.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(centres.var(0), 1, rtol=1e-6)
        assert len({tuple(np.argsort(column)) for column in centres.T}) > 1

    def test_noise_has_its_deviation_and_says_nothing(self):
        x, t = whole(noisy_features(400, features=30, useful=10, noise=2.5))
        rest = x[:, 10:]
        assert rest.std() == pytest.approx(2.5, rel=0.02)
        means = np.array([rest[t == k].mean(0) for k in range(5)])
        assert np.abs(means).max() < 5 * 2.5 / math.sqrt(460)
        assert (
            noisy_features(2, features=5, useful=2, noise=0).train.x[:, 2:] == 0
        ).all()

    def test_planes_are_separable_by_linear_scores(self):
        from scipy.optimize import linprog

        data = noisy_features(
            20, features=6, useful=4, classes=3, separation="planes", margin=0.3
        )
        x, t = data.train.x[:, :4].astype(float), data.train.t
        rows = []  # (v_t − v_k) · x ≥ 1 for every other class k
        for z, label in zip(x, t, strict=True):
            for k in set(range(3)) - {label}:
                row = np.zeros((3, 4))
                row[label], row[k] = -z, z
                rows.append(row.ravel())
        found = linprog(
            np.zeros(12), np.array(rows), -np.ones(len(rows)), bounds=(None, None)
        )
        assert found.success
        # one useful feature alone does not do it
        for column in x.T:
            low = [column[t == k].min() for k in range(3)]
            high = [column[t == k].max() for k in range(3)]
            assert max(low) < min(high)

    def test_more_examples_of_the_same_classes(self):
        few, many = (noisy_features(n, features=9, useful=3) for n in (2, 5))
        rows = {row.tobytes() for row in many.train.x}
        assert all(row.tobytes() in rows for row in few.train.x)
        np.testing.assert_array_equal(few.test.x, many.test.x)

    def test_the_noise_level_leaves_the_useful_features(self):
        quiet, loud = (
            noisy_features(4, features=9, useful=3, noise=s) for s in (1, 10)
        )
        np.testing.assert_array_equal(quiet.train.x[:, :3], loud.train.x[:, :3])
        np.testing.assert_allclose(
            10 * quiet.train.x[:, 3:], loud.train.x[:, 3:], rtol=1e-6
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"per_class": 0}, "per_class must be an integer of at least 1, got 0"),
            ({"per_class": 2.5}, "per_class must be an integer"),
            ({"per_class": True}, "per_class must be an integer"),
            ({"useful": 11}, "useful must be at most features, got 11 of 10"),
            ({"useful": 0}, "useful must be an integer of at least 1"),
            ({"classes": 1}, "classes must be an integer of at least 2, got 1"),
            ({"noise": math.inf}, "noise must be a number of at least 0"),
            ({"noise": math.nan}, "noise must be a number of at least 0"),
            ({"noise": -1.0}, "noise must be a number of at least 0"),
            ({"noise": "3"}, "noise must be a number"),
            ({"width": 1.0}, "width must be a number of at least 0 and below 1"),
            ({"margin": -0.1}, "margin must be a number of at least 0"),
            ({"held_out": 0}, "held_out must be an integer of at least 1"),
            ({"separation": "rings"}, "use one of levels, planes"),
            ({"separation": "planes", "margin": 99.0}, "lower the margin"),
        ],
    )
    def test_bad_input(self, arguments, message):
        given_ = {"per_class": 1, "features": 10, "useful": 3, **arguments}
        with pytest.raises(ValueError, match=message):
            noisy_features(**given_)
