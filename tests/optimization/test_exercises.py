"""Verdicts on answers to this part's exercises that once passed, or were told the wrong thing."""

import itertools
import math

import numpy as np
import pytest

from bnbook.exercises import check
from bnbook.exercises.core import find
from bnbook.exercises.optimization import (
    least_squares_star,
    lp_norms_property,
    robustness_honest,
    scale_invariance_sphere,
)


def verdict(name, answer):
    result = check(name, answer)
    assert result.outcome == "incorrect", result
    return result


class TestHonest:
    def test_each_way_to_choose_takes_another_rate_in_the_first_case(self):
        validation, test = find("robustness-honest").cases[0].args
        epoch = validation.argmax(axis=2)
        kept = np.take_along_axis(test, epoch[..., None], 2)[..., 0]
        scores = {
            "as asked": validation.max(axis=2).mean(axis=1),
            "by the test": kept.mean(axis=1),
            "mean over epochs": validation.mean(axis=(1, 2)),
            "last epoch": validation[:, :, -1].mean(axis=1),
            "luckiest run": validation.max(axis=(1, 2)),
        }
        assert len({score.argmax() for score in scores.values()}) == len(scores)
        mean, best = validation.mean(axis=1), scores["as asked"]
        for values in (best, mean.ravel()):  # rounding decides nothing
            assert np.diff(np.sort(values)[-2:]) > 1e-3

    def test_the_first_case_has_a_tie_that_matters(self):
        args = find("robustness-honest").cases[0].args
        answers = robustness_honest.last_of_equals, robustness_honest.mean_of_equals
        for wrong in answers:
            right = robustness_honest.honest_accuracy(*args)
            assert abs(wrong(*args)[1] - right[1]) > 0.01


class TestScaleFree:
    scales = 1e-6, 1e6, np.array([1e-6, 1.0, 1e6])

    @pytest.mark.parametrize("negative", [-1.0, -0.3, np.array([1.0, -1.0, 1.0])])
    def test_a_negative_scale_is_not_called_a_demand_of_equal_bits(self, negative):
        z = np.random.default_rng(1).normal(size=(6, 3))

        def tolerant(normalize):
            for s in (negative, *self.scales):
                assert np.allclose(normalize(s * z), normalize(z))

        assert verdict("robustness-property", tolerant).mistake == "negative-scale"

    def test_a_wrong_statement_is_not_called_one_either(self):
        z = np.random.default_rng(1).normal(size=(6, 3))

        def unchanged(normalize):
            assert np.allclose(normalize(z), z)

        def zero(normalize):
            with np.errstate(all="ignore"):
                assert np.allclose(normalize(0 * z), normalize(z))

        for wrong in (unchanged, zero):
            assert "equal bits" not in verdict("robustness-property", wrong).message

    def test_equal_bits_are(self):
        z = np.random.default_rng(1).normal(size=(6, 3))

        def strict(normalize):
            for s in (0.3, *self.scales):
                assert (normalize(s * z) == normalize(z)).all()

        assert verdict("robustness-property", strict).mistake == "bit-by-bit"

    def test_one_vector_of_scales_is_not_enough(self):
        z = np.random.default_rng(1).normal(size=(6, 3))

        def once(normalize):
            assert np.allclose(normalize(self.scales[-1] * z), normalize(z))

        assert verdict("robustness-property", once).mistake == "one-vector"


class TestScaleInvariance:
    def test_one_point_and_a_percent_are_not_enough(self):
        w = np.array([1.0, 2.0, 3.0, 4.0])

        def once(gradient):
            g = gradient(w)
            assert abs(w @ g) <= 0.01 * np.linalg.norm(w) * np.linalg.norm(g)
            assert np.allclose(gradient(2 * w), g / 2, rtol=0.01, atol=0)

        result = verdict("scale-invariance-property", once)
        assert result.mistake == "not-short-enough"

    def test_no_case_makes_a_formula_an_argument(self):
        for _, _, rates, decay in (
            case.args for case in find("scale-invariance-schedule").cases
        ):
            for angle in (np.sqrt(2 * rates * decay), np.arccos(1 - rates * decay)):
                assert not np.allclose(angle, rates)

    def test_no_factor_is_named_for_a_direction_without_decay(self):
        for wrong in (
            scale_invariance_sphere.decay_after,
            scale_invariance_sphere.direction_without_decay,
        ):
            message = verdict("scale-invariance-sphere", wrong).message
            assert "factor (" not in message


class TestEveryOrder:
    @staticmethod
    def formula(*orders, sign=1):
        def compares(normalize):
            x = sign * np.random.default_rng(3).exponential(size=(8, 3)) * 0.01
            for p in orders:
                expected = lp_norms_property.plain(x, p)
                np.testing.assert_allclose(normalize(x, p), expected, atol=1e-9)

        return compares

    def test_infinity_is_missed_only_where_it_was_not_passed(self):
        message = "leave out p = ∞"
        without = verdict("lp-norms-property", self.formula(1.0, 2.0, 3.0))
        assert without.mistake == "no-infinity" and message in without.message
        upwards = self.formula(1.0, 2.0, 3.0, math.inf)
        found = verdict("lp-norms-property", upwards)
        assert found.mistake == "skewed-upwards" and message not in found.message
        downwards = self.formula(1.0, 2.0, 3.0, math.inf, sign=-1)
        assert check("lp-norms-property", downwards).outcome == "correct"

    def test_even_orders_are_not_called_order_two(self):
        assert verdict("lp-norms-property", self.formula(2.0)).mistake == "only-two"
        two_and_four = verdict("lp-norms-property", self.formula(2.0, 4.0))
        assert "p = 2 only" not in two_and_four.message


class TestPseudoCondition:
    def test_the_zero_is_recognized_however_rounding_leaves_it(self):
        def by_inverse(hessian, g):
            u = np.linalg.inv(hessian) @ g
            star = hessian - np.outer(g, g) / (u @ hessian @ u)
            values = np.linalg.eigvals(star)
            return values.min(), values.max()

        def by_singular_values(hessian, g):
            u = np.linalg.solve(hessian, g)
            star = hessian - np.outer(g, g) / (u @ g)
            values = np.linalg.svd(star, compute_uv=False)
            return values[-1], values[0]

        zeros = [
            answer(*case.args)[0]
            for answer, case in itertools.product(
                (least_squares_star.zero_kept, by_inverse, by_singular_values),
                find("least-squares-star").cases,
            )
        ]
        assert max(abs(zero) for zero in zeros) < 1e-13
        for answer in (by_inverse, by_singular_values):
            assert verdict("least-squares-star", answer).mistake == "zero-kept"
