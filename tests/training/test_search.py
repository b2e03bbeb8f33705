"""Tests of the hyperparameter searches: the printed algorithm, its readings, its statistics."""

import math
import statistics

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from bnbook.experiments import Diverged, deviation
from bnbook.training import search as chapter
from bnbook.training.genetic_search import (
    FIRST_BOUNDS,
    Trial,
    draw,
    genetic_search,
    next_bounds,
    select,
    try_score,
)
from bnbook.training.other_searches import random_search, tpe_search
from bnbook.training.search_simulation import gaussian_mutation, quadratic, simulate
from bnbook.training.shrinkage import on_quadratic, returned_spread, without_selection


def generator(seed=0):
    return np.random.default_rng(seed)


def hill(rate=-3.0, l2=-4.0):
    """A score with its optimum at these exponents."""
    return lambda a, b: -((math.log10(a) - l2) ** 2) - (math.log10(b) - rate) ** 2


class Mirrored:
    """Draws 1 − u where the generator draws u."""

    def __init__(self, seed):
        self.rng = generator(seed)

    def random(self, size):
        return 1 - self.rng.random(size)


def as_printed(score, rng):
    """Algorithm 3.2.0 line by line, in plain Python."""
    l_upper, l_lower, a_upper, a_lower = 0.0, -10.0, 0.0, -10.0
    history = []
    for _ in range(10):
        models = []
        for _ in range(10):
            u = rng.random(2)
            l2 = 10 ** (l_lower + (l_upper - l_lower) * u[0])
            rate = 10 ** (a_lower + (a_upper - a_lower) * u[1])
            models.append((score(l2, rate), l2, rate))
        top = sorted(models, key=lambda model: model[0], reverse=True)[:3]
        logs = [math.log10(model[1]) for model in top]
        mean, std = statistics.fmean(logs), statistics.pstdev(logs)
        l_upper, l_lower = mean + 1.5 * std, mean - 1.5 * std
        logs = [math.log10(model[2]) for model in top]
        mean, std = statistics.fmean(logs), statistics.pstdev(logs)
        a_upper, a_lower = mean + 1.5 * std, mean - 1.5 * std
        history.append([[l_lower, l_upper], [a_lower, a_upper]])
    return 10 ** ((l_upper + l_lower) / 2), 10 ** ((a_upper + a_lower) / 2), history


class TestAsPrinted:
    @pytest.mark.parametrize("seed", range(5))
    def test_follows_the_printed_lines(self, seed):
        found = genetic_search(hill(), rng=generator(seed))
        l2, rate, history = as_printed(hill(), generator(seed))
        np.testing.assert_allclose(found.bounds[1:], history, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            [found.l2, found.learning_rate], [l2, rate], rtol=1e-9
        )
        assert len(found.trials) == 100
        assert found.bounds[0].tolist() == [list(b) for b in FIRST_BOUNDS]

    def test_every_model_lies_within_the_bounds_of_its_generation(self):
        found = genetic_search(hill(), rng=generator(3))
        for trial in found.trials:
            (l_low, l_high), (r_low, r_high) = found.bounds[trial.generation]
            assert l_low <= trial.log_l2 <= l_high
            assert r_low <= trial.log_rate <= r_high

    def test_what_is_returned_was_never_trained(self):
        tried = []

        def score(l2, rate):
            tried.append((l2, rate))
            return hill()(l2, rate)

        found = genetic_search(score, rng=generator(1))
        assert len(tried) == 100
        assert (found.l2, found.learning_rate) not in tried
        best = genetic_search(hill(), rng=generator(1), returns="best")
        assert (best.l2, best.learning_rate) == max(tried, key=lambda p: hill()(*p))

    def test_is_the_simulation_with_the_same_numbers(self):
        found = genetic_search(
            lambda l2, rate: -((math.log10(rate) + 3) ** 2), rng=generator(8)
        )
        many = simulate(quadratic(-3.0), 1, generator(8))
        np.testing.assert_allclose(many.bounds[0], found.bounds, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(many.returned[0], [found.log_l2, found.log_rate])

    def test_the_sample_deviation_reaches_the_bounds(self):
        found = genetic_search(hill(), rng=generator(8), ddof=1)
        best = sorted(found.trials[:10], key=lambda trial: -trial.score)[:3]
        rates = [trial.log_rate for trial in best]
        half = 1.5 * statistics.stdev(rates)
        mean = statistics.fmean(rates)
        assert found.bounds[1, 1] == pytest.approx([mean - half, mean + half])
        assert simulate(quadratic(-3.0), 1, generator(8), ddof=1).bounds[
            0
        ] == pytest.approx(
            genetic_search(
                lambda l2, rate: -((math.log10(rate) + 3) ** 2),
                rng=generator(8),
                ddof=1,
            ).bounds
        )

    def test_only_the_order_of_the_scores_counts(self):
        a = genetic_search(hill(), rng=generator(2))
        b = genetic_search(lambda *p: math.exp(hill()(*p) / 50), rng=generator(2))
        np.testing.assert_array_equal(a.bounds, b.bounds)


class TestReadings:
    def test_the_order_of_the_bounds_does_not_matter(self):
        """Reversed bounds with 1 − u are the same search, from the second generation."""

        class Half(Mirrored):
            drawn = 0

            def random(self, size):
                self.drawn += 1
                u = self.rng.random(size)
                return u if self.drawn <= 10 else 1 - u

        plain = genetic_search(hill(), rng=generator(4))
        reversed_ = genetic_search(hill(), rng=Half(4), upper_first=False)
        np.testing.assert_allclose(
            reversed_.bounds[1:, :, ::-1], plain.bounds[1:], rtol=1e-9, atol=1e-9
        )
        assert reversed_.log_rate == pytest.approx(plain.log_rate)

    def test_sample_deviation_widens_by_the_root_of_three_halves(self):
        chosen = generator().normal(size=(3, 2))
        widths = [np.diff(next_bounds(chosen, ddof=ddof))[:, 0] for ddof in (0, 1)]
        np.testing.assert_allclose(widths[1] / widths[0], math.sqrt(1.5))

    def test_elitism_never_loses_the_best(self):
        survivors = 0
        for seed in range(8):
            options = {"rng": generator(seed), "generations": 2}
            found = genetic_search(hill(), elitism=True, **options)
            first = sorted(found.trials[:10], key=lambda t: -t.score)[:3]
            both = sorted([*first, *found.trials[10:]], key=lambda t: -t.score)[:3]
            chosen = np.array([(t.log_l2, t.log_rate) for t in both])
            np.testing.assert_allclose(found.bounds[-1], next_bounds(chosen))
            survivors += sum(trial.generation == 0 for trial in both)
        assert survivors

    def test_bounds_may_leave_the_first_ones_unless_kept(self):
        outside = lambda l2, rate: math.log10(rate) + 0 * l2
        left = [genetic_search(outside, rng=generator(s)) for s in range(20)]
        assert max(found.bounds[..., 1].max() for found in left) > 0
        for s in range(20):
            kept = genetic_search(outside, rng=generator(s), keep_inside=True)
            assert -10 <= kept.bounds.min()
            assert kept.bounds.max() <= 0

    def test_ties(self):
        trials = [Trial(0, float(-i), -1.0, 0.5) for i in range(10)]
        assert select(trials, 3) == trials[:3]
        seen = {
            trial.log_l2
            for seed in range(40)
            for trial in select(trials, 3, ties="random", rng=generator(seed))
        }
        assert len(seen) == 10
        mixed = [*trials, Trial(0, 1.0, 1.0, 0.6)]
        assert select(mixed, 1, ties="random", rng=generator())[0].score == 0.6

    def test_a_diverged_model_is_never_preferred_and_the_others_go_on(self):
        def score(l2, rate):
            if rate > 1e-3:
                raise Diverged(step=3, learning_rate=rate)
            return math.log10(rate)

        found = genetic_search(score, rng=generator(6))
        assert 0 < found.failures < 100
        assert found.learning_rate < 1e-2
        assert not found.best.failed

    def test_failed_runs_rank_last_or_are_dropped(self):
        good, bad = Trial(0, -1.0, -1.0, 0.4), Trial(0, -9.0, -9.0, -np.inf)
        assert select([bad, good, bad], 3) == [good, bad, bad]
        assert select([bad, good, bad], 3, failed="dropped") == [good]

    @pytest.mark.parametrize("ddof", [0, 1])
    def test_all_failed(self, ddof):
        nothing = lambda l2, rate: math.nan
        dropped = genetic_search(nothing, rng=generator(), failed="dropped", ddof=ddof)
        assert (dropped.bounds == dropped.bounds[0]).all()
        assert dropped.failures == 100
        last = genetic_search(nothing, rng=generator(), ddof=ddof)
        assert np.isfinite(last.bounds).all()

    @pytest.mark.parametrize("ddof", [0, 1])
    def test_a_single_survivor_closes_the_bounds_on_itself(self, ddof):
        calls = []

        def once(l2, rate):
            calls.append((l2, rate))
            return 1.0 if len(calls) == 4 else math.nan

        found = genetic_search(
            once, rng=generator(), failed="dropped", generations=1, ddof=ddof
        )
        assert found.bounds[-1, 0] == pytest.approx([math.log10(calls[3][0])] * 2)


finite = st.floats(-20, 20)


class TestProperties:
    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.tuples(finite, finite), min_size=3, max_size=6), finite)
    def test_bounds_move_and_scale_with_the_points(self, points, shift):
        chosen = np.array(points)
        bounds = next_bounds(chosen)
        np.testing.assert_allclose(
            next_bounds(chosen + shift), bounds + shift, atol=1e-9
        )
        np.testing.assert_allclose(next_bounds(2 * chosen), 2 * bounds, atol=1e-9)
        np.testing.assert_allclose(bounds.mean(axis=1), chosen.mean(axis=0), atol=1e-9)
        assert (bounds[:, 0] <= bounds[:, 1]).all()

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 2**32), st.integers(1, 4), st.integers(3, 6), st.booleans())
    def test_any_search_is_finite_and_deterministic(self, seed, gens, models, elitism):
        def run():
            return genetic_search(
                hill(),
                rng=generator(seed),
                generations=gens,
                models=models,
                elitism=elitism,
            )

        found, again = run(), run()
        assert found.trials == again.trials
        assert found.bounds.shape == (gens + 1, 2, 2)
        assert np.isfinite(found.bounds).all()
        assert found.best.score >= max(trial.score for trial in found.trials)

    def test_a_symmetric_problem_is_searched_symmetrically(self):
        center = quadratic(-5.0)
        a = simulate(center, 200, generator(1)).returned
        b = simulate(center, 200, Mirrored(1)).returned
        np.testing.assert_allclose(a + 5, -(b + 5), atol=1e-9)


class TestShrinkage:
    @pytest.mark.parametrize("ddof", [0, 1])
    def test_without_selection(self, ddof):
        points = generator(1).random((400_000, 3))
        factor = 3 * points.std(axis=1, ddof=ddof)
        expected = without_selection(ddof=ddof)
        assert factor.mean() == pytest.approx(expected.mean, rel=4e-3)
        assert math.sqrt((factor**2).mean()) == pytest.approx(expected.rms, rel=4e-3)
        assert np.exp(np.log(factor).mean()) == pytest.approx(
            expected.typical, rel=6e-3
        )

    @pytest.mark.parametrize("optimum", [0.5, 1.0, 1.7, -0.2])
    @pytest.mark.parametrize("ddof", [0, 1])
    def test_with_selection_in_the_middle_on_an_edge_and_beyond(self, optimum, ddof):
        points = generator(2).random((100_000, 10))
        order = np.argsort(abs(points - optimum), axis=1)[:, :3]
        factor = 3 * np.take_along_axis(points, order, 1).std(axis=1, ddof=ddof)
        expected = on_quadratic(ddof=ddof)
        assert factor.mean() == pytest.approx(expected.mean, rel=1e-2)
        assert math.sqrt((factor**2).mean()) == pytest.approx(expected.rms, rel=1e-2)
        assert np.exp(np.log(factor).mean()) == pytest.approx(
            expected.typical, rel=1e-2
        )

    def test_selecting_three_of_three_is_no_selection(self):
        got, expected = on_quadratic(models=3), without_selection()
        for name in ("mean", "rms", "typical"):
            assert getattr(got, name) == pytest.approx(
                getattr(expected, name), rel=1e-6
            )

    @pytest.mark.parametrize("ddof", [0, 1])
    def test_spread_of_a_hyperparameter_without_effect(self, ddof):
        spread = returned_spread(10.0, 10, ddof=ddof)
        measured = simulate(quadratic(-3.0), 20_000, generator(3), ddof=ddof).returned
        assert measured[:, 0].std() == pytest.approx(spread, rel=2e-2)
        assert measured[:, 0].mean() == pytest.approx(-5, abs=0.1)

    def test_spread_in_the_limit(self):
        assert returned_spread(10, 200) == pytest.approx(10 / math.sqrt(18))
        assert returned_spread(10, 200, ddof=1) == pytest.approx(10 / 3)
        assert returned_spread(10, 1, ddof=1) == pytest.approx(10 / 6)

    def test_uniform_children_vary_less_than_their_parents_and_mutants_more(self):
        parents, rng = np.array([-3.0, -2.0, -0.5]), generator(4)
        bounds = next_bounds(parents[:, None])[0]
        children = draw(bounds, rng.random(200_000))
        assert children.var() == pytest.approx(0.75 * parents.var(), rel=1e-2)
        assert children.max() <= bounds[1]
        mutants = gaussian_mutation(parents, 0.5, 200_000, rng)
        assert mutants.var() == pytest.approx(parents.var() + 0.25, rel=1e-2)
        assert mutants.mean() == pytest.approx(parents.mean(), abs=1e-2)
        assert kstest(children, "uniform", (bounds[0], np.ptp(bounds))).pvalue > 1e-3


class TestOtherSearches:
    def test_random_search_stays_inside_and_returns_its_best(self):
        found = random_search(hill(), rng=generator(), evaluations=50)
        values = np.array([(t.log_l2, t.log_rate) for t in found.trials])
        assert values.shape == (50, 2)
        assert values.min() >= -10
        assert values.max() <= 0
        assert found.best.score == max(t.score for t in found.trials)
        assert (found.log_l2, found.log_rate) == (
            found.best.log_l2,
            found.best.log_rate,
        )

    def test_tpe_is_deterministic_silent_and_leaves_optuna_as_it_was(self, capsys):
        optuna.logging.set_verbosity(optuna.logging.INFO)
        found = tpe_search(hill(), seed=1, evaluations=40)
        again = tpe_search(hill(), seed=1, evaluations=40)
        assert found.trials == again.trials
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""
        assert abs(found.log_rate + 3) < 1

    def test_the_first_ten_of_tpe_are_random_and_the_rest_is_not(self):
        found = tpe_search(hill(), seed=2)
        away = np.array([abs(trial.log_rate + 3) for trial in found.trials])
        assert np.median(away[:10]) > 3 * np.median(away[50:])

    def test_tpe_survives_failures(self):
        def score(l2, rate):
            if rate > 1e-4:
                raise Diverged(step=1, learning_rate=rate)
            return math.log10(rate)

        found = tpe_search(score, seed=0, evaluations=30)
        assert 0 < found.failures < 30
        assert found.learning_rate <= 1e-4
        assert tpe_search(lambda *_: math.nan, seed=0, evaluations=3).failures == 3


class TestNetwork:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(
            chapter, "EXAMPLES", {"train": 60, "validation": 40, "test": 50}
        )
        monkeypatch.setattr(chapter, "SIZES", (28, 6, 1))
        chapter.toy_dataset.cache_clear()
        yield
        chapter.toy_dataset.cache_clear()

    def test_dataset(self):
        data = chapter.toy_dataset(0)
        assert [len(part.t) for part in data.parts().values()] == [60, 40, 50]
        np.testing.assert_allclose(data.train.x.mean(axis=0), 0, atol=1e-4)

    def test_each_call_trains_another_network_and_every_method_the_same(self):
        data = chapter.toy_dataset(0)
        first, second = (
            chapter.NetworkScore(data, batch_norm=True, seed=3) for _ in range(2)
        )
        a = [first(1e-6, 0.1) for _ in range(4)]
        assert a == [second(1e-6, 0.1) for _ in range(4)]
        assert len(set(a)) > 1
        assert 0.3 < first.test_accuracy(1e-6, 0.1) <= 1

    def test_a_diverged_retraining_counts_as_the_majority(self):
        data = chapter.toy_dataset(0)
        score = chapter.NetworkScore(data, batch_norm=False, seed=0)
        with pytest.raises(Diverged):
            score(0.0, 1e30)
        share = data.test.t.mean()
        assert score.test_accuracy(0.0, 1e30) == max(share, 1 - share)

    def test_retrainings_take_the_seeds_after_those_of_the_search(self, monkeypatch):
        seeds = []

        def fit(data, *, batch_norm, l2, learning_rate, seed):
            seeds.append(seed)
            if seed == 2102:
                raise Diverged(step=1, learning_rate=learning_rate)
            return 0.9, 0.6

        monkeypatch.setattr(chapter, "fit", fit)
        data = chapter.toy_dataset(0)
        score = chapter.NetworkScore(data, batch_norm=True, seed=2)
        score(1e-6, 0.1)
        share = data.test.t.mean()
        expected = (0.6 + max(share, 1 - share) + 0.6) / 3
        assert score.test_accuracy(1e-6, 0.1) == pytest.approx(expected)
        assert seeds == [2001, 2101, 2102, 2103]

    def test_a_diverged_run_counts_as_the_majority_in_the_sweep_too(self):
        sweep = pd.DataFrame(
            {
                "seed": [0, 1, 1],
                "validation_accuracy": [0.7, math.nan, 0.6],
                "test_accuracy": [0.8, math.nan, 0.5],
            }
        )
        counted = chapter.count_diverged(sweep)
        parts = chapter.toy_dataset(1).parts()
        for column in ("validation_accuracy", "test_accuracy"):
            share = parts[column.removesuffix("_accuracy")].t.mean()
            kept = sweep[column].tolist()
            assert counted[column].tolist() == [kept[0], max(share, 1 - share), kept[2]]
        assert sweep.test_accuracy.isna().sum() == 1

    def test_majority(self):
        assert chapter.majority(np.array([0, 0, 0, 1])) == 0.75
        assert chapter.majority(np.array([1, 1, 0, 1])) == 0.75

    @pytest.mark.parametrize("method", chapter.METHODS)
    def test_a_search_on_the_network_gives_ten_rows(self, method):
        rows = chapter.run_network(method, True, 0)
        assert [row["evaluations"] for row in rows] == list(range(10, 101, 10))
        scores = [row["best_score"] for row in rows]
        assert scores == sorted(scores)
        moved = rows[-1]["rate_upper"] != 0
        assert moved == (method == "genetic")

    def test_sweep(self):
        row = chapter.run_sweep(True, -8.0, -1.0, 0)
        assert set(row) == {"validation_accuracy", "test_accuracy"}


class TestExperiments:
    @pytest.mark.parametrize(
        "chosen",
        [
            {"method": "genetic", "optimum": -3.0, "noise": 0.5, "seed": 4},
            {"method": "random", "optimum": 0.41, "noise": 0.0, "seed": 1},
            {"method": "tpe", "optimum": -0.21, "noise": 0.0, "seed": 2},
        ],
    )
    def test_stored_quadratics_are_what_the_code_gives(self, chosen):
        assert deviation(*chapter.QUADRATIC.replay(**chosen)) < 1e-6

    def test_names(self):
        assert [e.name for e in chapter.EXPERIMENTS] == [
            "search_quadratic",
            "search_sweep",
            "search_network",
        ]


def good(l2, rate):
    return 0.5


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"generations": 0}, ValueError, "generations"),
            ({"generations": 2.0}, TypeError, "generations"),
            ({"models": 2}, ValueError, "at least 3"),
            ({"selected": 0}, ValueError, "selected"),
            ({"selected": 1, "ddof": 1}, ValueError, "at least 2"),
            ({"ddof": 2}, ValueError, "ddof must be one of"),
            ({"factor": -1.0}, ValueError, "the source uses 1.5"),
            ({"factor": math.nan}, ValueError, "factor"),
            ({"factor": "wide"}, TypeError, "factor"),
            ({"ties": "last"}, ValueError, "ties must be one of"),
            ({"failed": "ignored"}, ValueError, "failed must be one of"),
            ({"returns": "mean"}, ValueError, "returns must be one of"),
            ({"bounds": ((-10, 0),)}, ValueError, "log₁₀"),
            ({"bounds": ((0, -10), (-10, 0))}, ValueError, "below its upper"),
            ({"bounds": ((-10, math.inf), (-10, 0))}, ValueError, "finite"),
        ],
    )
    def test_genetic_search(self, options, error, words):
        with pytest.raises(error, match=words):
            genetic_search(good, rng=generator(), **options)

    @pytest.mark.parametrize("value", [None, "0.5", True, np.zeros(2)])
    def test_a_score_that_is_no_number(self, value):
        with pytest.raises(TypeError, match="validation accuracy"):
            try_score(lambda l2, rate: value, 0.0, 0.0)

    def test_an_error_in_the_training_is_not_swallowed(self):
        def broken(l2, rate):
            raise ZeroDivisionError

        for run in (
            lambda: genetic_search(broken, rng=generator()),
            lambda: random_search(broken, rng=generator()),
            lambda: tpe_search(broken, seed=0),
        ):
            with pytest.raises(ZeroDivisionError):
                run()

    def test_others(self):
        with pytest.raises(ValueError, match="evaluations"):
            random_search(good, rng=generator(), evaluations=0)
        with pytest.raises(TypeError, match="seed"):
            tpe_search(good, seed=0.5)
        with pytest.raises(ValueError, match="bounds"):
            tpe_search(good, seed=0, bounds=3)
        with pytest.raises(ValueError, match="needs rng"):
            quadratic(0.0, noise=1.0)
        with pytest.raises(ValueError, match="noise"):
            quadratic(0.0, noise=-1.0)
        with pytest.raises(ValueError, match="repetitions"):
            simulate(quadratic(0.0), 0, generator())
        with pytest.raises(ValueError, match="models"):
            on_quadratic(models=2)
        with pytest.raises(ValueError, match="ddof"):
            without_selection(ddof=2)
        with pytest.raises(ValueError, match="generations"):
            returned_spread(10, 0)
        with pytest.raises(ValueError, match="method must be one of"):
            chapter.search("grid", good, 0)
