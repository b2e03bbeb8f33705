"""Exercise: a test that tells the best ternary vector from a good one."""

import itertools

import numpy as np

from bnbook.exercises.model import PropertyExercise, variants
from bnbook.exercises.propagation.ternary_optimal import best_ternary


def test_best_ternary(ternarize) -> None:
    """Test an implementation of the best ternary vector: pass if it is the best, else fail an `assert`.

    Args:
        ternarize: a function of w (N,), not all 0, that returns t (N,) of −1, 0 and 1, and a
            number α ≥ 0. No other pair may have a smaller Σ (w − αt)².
    """
    rng = np.random.default_rng(0)
    fixed = [np.array([5.0, 1.0, -1.0, 0.9]), np.array([1.0, -1.1, 0.05, 1.2])]
    for w in [*fixed, *rng.normal(size=(12, 5)), *rng.standard_t(2, size=(12, 5))]:
        t, alpha = ternarize(w)
        assert t.shape == w.shape and set(t.tolist()) <= {-1.0, 0.0, 1.0}
        assert alpha >= 0
        error = ((w - alpha * t) ** 2).sum()
        for pattern in itertools.product((-1.0, 0.0, 1.0), repeat=len(w)):
            other = np.array(pattern)
            fit = w @ other / max(other @ other, 1)
            assert error <= ((w - fit * other) ** 2).sum() + 1e-9


def sorted_once(w):
    """it sorts the magnitudes and compares all numbers to keep."""
    return best_ternary(w)


def every_threshold(w):
    """it tries every magnitude as the smallest one that is kept."""
    found = [_keep(w, np.abs(w) >= least) for least in np.abs(w)]
    return min(found, key=lambda pair: ((w - pair[1] * pair[0]) ** 2).sum())


def _keep(w, kept):
    return np.sign(w) * kept, float(np.abs(w)[kept].mean())


def rule_of_thumb(w):
    """it uses Δ = 0.7 mean|w|, which is the best for some vectors and not for others."""
    return _keep(w, np.abs(w) > 0.7 * np.abs(w).mean())


def signs(w):
    """it keeps all weights, which is the best where all magnitudes are similar."""
    return np.sign(w), float(np.abs(w).mean())


def only_the_largest(w):
    """it keeps only the largest weight."""
    return _keep(w, np.abs(w) == np.abs(w).max())


def signs_lost(w):
    """it loses the signs, which is invisible for positive weights."""
    t, alpha = best_ternary(w)
    return np.abs(t), alpha


def scale_of_all(w):
    """it divides the kept magnitudes by N instead of their number."""
    t, alpha = best_ternary(w)
    return t, alpha * np.abs(t).mean()


def same_mean_square(w):
    """it chooses α to keep the mean square, not the closest."""
    t, _ = best_ternary(w)
    return t, float(np.sqrt((w[t != 0] ** 2).mean()))


def climbs(w):
    """it starts from signs and alternates between the best α and Δ = α/2 until nothing changes, which
    may stop before the best."""
    kept = np.ones(len(w), bool)
    for _ in range(20):
        t, alpha = _keep(w, kept)
        kept = np.abs(w) > alpha / 2
    return t, alpha


def levels_scaled(w):
    """it returns αt instead of t, which has the right error if one forgets to multiply."""
    t, alpha = best_ternary(w)
    return alpha * t, 1.0


def _vectors(count=20, size=5):
    return np.random.default_rng(1).normal(size=(count, size))


def never_fails(ternarize):
    """Your test calls the implementation and asserts nothing that a wrong one violates: compare its
    error with that of other pairs."""
    t, _ = ternarize(_vectors()[0])
    assert t.shape == (5,)


def only_three_levels(ternarize):
    """Your test seems to check only that t holds −1, 0 and 1. So does every wrong choice of zeros."""
    for w in _vectors():
        assert set(ternarize(w)[0].tolist()) <= {-1.0, 0.0, 1.0}


def only_against_signs(ternarize):
    """Your test seems to check only that the error is not above that of plain signs. Better than one
    alternative is not the best: compare with all patterns of a short vector."""
    for w in _vectors():
        t, alpha = ternarize(w)
        plain = ((w - np.abs(w).mean() * np.sign(w)) ** 2).sum()
        assert ((w - alpha * t) ** 2).sum() <= plain + 1e-9


def only_stationary(ternarize):
    """Your test seems to check only that α is the mean of the kept magnitudes and that α/2 separates
    them from the others. That holds at the best pair, and at other pairs that cannot be improved in small
    steps: compare errors."""
    rng = np.random.default_rng(2)
    for w in [*_vectors(), *rng.standard_t(2, size=(20, 5))]:
        t, alpha = ternarize(w)
        assert set(t.tolist()) <= {-1.0, 0.0, 1.0}
        assert (t * w >= 0).all() and t.any()
        assert abs(alpha - np.abs(w)[t != 0].mean()) < 1e-9
        assert ((np.abs(w) > alpha / 2) == (t != 0)).all()


def only_positive_weights(ternarize):
    """Your test seems to use positive weights only, where a lost sign is invisible."""
    for w in np.abs(_vectors()):
        assert _excess(ternarize, w) <= 1e-9


def only_similar_weights(ternarize):
    """Your test seems to use weights of similar size only, where keeping all of them is the best. Add
    vectors with large and small weights."""
    rng = np.random.default_rng(3)
    for w in rng.uniform(1, 1.2, (10, 5)) * rng.choice([-1, 1], (10, 5)):
        t, alpha = ternarize(w)
        assert set(t.tolist()) <= {-1.0, 0.0, 1.0}
        best, scale = best_ternary(w)
        assert abs(alpha - scale) < 1e-9 and (t == best).all()


def error_only(ternarize):
    """Your test seems to compare Σ (w − αt)² only and not to look at t. An implementation that returns
    αt for t, and α = 1, has the same error."""
    rng = np.random.default_rng(4)
    for w in [*_vectors(), *rng.standard_t(2, size=(20, 5))]:
        assert _excess(ternarize, w) <= 1e-9


def exact_equality(ternarize):
    """Your test seems to demand the same digits of α. A sum in another order differs in the last:
    compare with a tolerance."""
    rng = np.random.default_rng(5)
    for w in [*_vectors(), *rng.standard_t(2, size=(20, 5))]:
        t, alpha = ternarize(w)
        best, scale = best_ternary(w)
        assert (t == best).all() and alpha == scale


def _excess(ternarize, w):
    """Error of an implementation above the least one."""
    (t, alpha), (best, scale) = ternarize(w), best_ternary(w)
    return ((w - alpha * t) ** 2).sum() - ((w - scale * best) ** 2).sum()


def by_sorting(ternarize):
    """The same, against the solution by sorting."""
    rng = np.random.default_rng(6)
    for w in [*rng.normal(size=(40, 6)), *rng.standard_t(2, size=(40, 6))]:
        t, alpha = ternarize(w)
        assert set(np.unique(t)) <= {-1, 0, 1}
        assert abs(_excess(lambda _, pair=(t, alpha): pair, w)) < 1e-9


def with_hypothesis(ternarize):
    """The same, on vectors that hypothesis chooses."""
    from hypothesis import given
    from hypothesis import strategies as st

    @given(st.integers(0, 2**32 - 1), st.integers(1, 3))
    def holds(seed, degrees):
        w = np.random.default_rng(seed).standard_t(degrees, size=6)
        t, alpha = ternarize(w)
        assert all(level in (-1, 0, 1) for level in t)
        best, scale = best_ternary(w)
        least = ((w - scale * best) ** 2).sum()
        assert ((w - alpha * t) ** 2).sum() <= least + 1e-9 * (1 + least)

    holds()


EXERCISE = PropertyExercise(
    id="ternary-property",
    chapter="propagation/ternary",
    title="A test for the closest ternary vector",
    level="hard",
    reference=test_best_ternary,
    why="A vector of five has 3⁵ patterns, so the best can be found by trying all. Vectors with some large "
    "weights, and some without, tell the rules of thumb from the best.",
    mistakes=variants(
        never_fails,
        only_three_levels,
        only_against_signs,
        only_stationary,
        only_positive_weights,
        only_similar_weights,
        error_only,
        exact_equality,
    ),
    alternatives=(by_sorting, with_hypothesis),
    hints=(
        "For a short vector, `itertools.product((-1, 0, 1), repeat=len(w))` gives every pattern. The best α "
        "of a pattern t is w·t/t·t.",
        "Check that t holds only −1, 0 and 1, then that no pattern has a smaller error, with a little room "
        "for rounding. Use vectors of mixed signs, some with one large weight.",
    ),
    correct=variants(sorted_once, every_threshold),
    mutants=variants(
        rule_of_thumb,
        signs,
        only_the_largest,
        signs_lost,
        scale_of_all,
        same_mean_square,
        climbs,
        levels_scaled,
    ),
)
