"""Intervals over seeds, against SciPy and by their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bnbook.intervals import mean_and_error, t_interval


class TestMeanAndError:
    def test_it_is_scipys(self):
        samples = np.random.default_rng(1).normal(size=(12, 3))
        mean, error = mean_and_error(samples)
        np.testing.assert_allclose(mean, samples.mean(0))
        np.testing.assert_allclose(error, stats.sem(samples))

    @pytest.mark.parametrize("samples", [1.0, [1.0]])
    def test_bad_input(self, samples):
        with pytest.raises(ValueError, match="at least two"):
            mean_and_error(samples)


class TestInterval:
    @given(st.lists(st.floats(-5, 5), min_size=3, max_size=12), st.floats(0.5, 0.99))
    def test_it_is_scipys(self, values, level):
        values = np.array(values)
        if values.std() < 1e-6:
            return
        mean, low, high = t_interval(values, level)
        expected = stats.ttest_1samp(values, 0).confidence_interval(level)
        np.testing.assert_allclose((low, high), expected, rtol=1e-7, atol=1e-9)
        assert low <= mean <= high

    def test_it_covers_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        hits = 0
        for sample in rng.normal(3.0, 2.0, size=(2000, 5)):
            _, low, high = t_interval(sample)
            hits += low <= 3.0 <= high
        assert abs(hits / 2000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)

    @pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, np.nan], [[1, 2, 3]]])
    def test_bad_values(self, values):
        with pytest.raises(ValueError, match="at least three finite"):
            t_interval(values)

    @pytest.mark.parametrize("level", [0.0, 1.0, np.nan])
    def test_bad_level(self, level):
        with pytest.raises(ValueError, match="level must lie"):
            t_interval([1.0, 2.0, 4.0], level)
