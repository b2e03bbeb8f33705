"""The experiment: what a run does, and what its results are turned into."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnbook.data.higgs_masses import FEATURES
from bnbook.experiments import Diverged, deviation
from bnbook.training import higgs
from bnbook.training.higgs import events, run_dropout, run_toy, sequential, trained
from bnbook.training.higgs_results import (
    CHANCE,
    MARGIN,
    SOURCE_TABLE,
    at_best_rate,
    best_rate_of_each_seed,
    best_rates,
    first_epoch_at,
    highest_trainable,
    measured,
    paired,
    runs,
    shrinkage,
)
from bnbook.training.network import Network, evaluate

SMALL = {"width": 8, "rows": 1200, "l2": 0.0}


@pytest.fixture(scope="module")
def small():
    return events(1200, 0)


class TestRun:
    def test_rows(self, small):
        rows = trained(
            small, model="bn", width=8, rate=0.3, l2=0.0, seed=0, batch_size=100
        )
        assert [row["epoch"] for row in rows] == list(range(1, 11))
        accuracy = [row["validation_accuracy"] for row in rows]
        assert {row["best_epoch"] for row in rows} == {1 + int(np.argmax(accuracy))}
        assert len({row["test_accuracy"] for row in rows}) == 1
        assert all(np.isfinite(list(row.values())).all() for row in rows)

    @pytest.mark.parametrize("model", higgs.MODELS)
    def test_the_test_accuracy_is_that_of_the_best_epoch(self, small, model):
        options = {"model": model, "width": 8, "rate": 0.3, "l2": 0.0, "seed": 1}
        rows = trained(small, **options, batch_size=100, epochs=6)
        best = rows[0]["best_epoch"]
        # The same run, stopped there: nothing that came later may matter.
        stopped = trained(small, **options, batch_size=100, epochs=best)
        assert stopped[-1]["best_epoch"] == best
        assert stopped[-1]["test_accuracy"] == rows[0]["test_accuracy"]

    def test_both_models_start_from_the_same_weights_and_the_same_events(self):
        control, bn = (
            Network((28, *[8] * 4, 1), batch_norm=flag, seed=5)
            for flag in (False, True)
        )
        for i in range(1, 6):
            np.testing.assert_array_equal(
                control.parameters[f"W{i}"], bn.parameters[f"W{i}"]
            )
        assert events(1200, 5) is events(1200, 5)

    def test_another_seed_is_other_events(self):
        a, b = events(1200, 0).train, events(1200, 1).train
        assert (a.x[:50] != b.x[:50]).any(axis=1).all()
        assert a.x.shape == (840, len(FEATURES))

    def test_it_is_deterministic(self):
        rows = [run_toy(model="bn", rate=0.2, seed=2, **SMALL) for _ in range(2)]
        assert rows[0] == rows[1]

    def test_l2_reaches_the_weights(self, small):
        def final(l2):
            rows = trained(
                small, model="control", width=8, rate=0.5, l2=l2, seed=0, batch_size=50
            )
            return rows[-1]["train_loss"]

        assert final(1.0) == pytest.approx(np.log(2), abs=0.01), "all weights vanish"
        assert final(0.0) < 0.68

    def test_a_rate_that_is_too_high_diverges_and_says_so(self, small):
        with pytest.raises(Diverged, match="learning rate 1e"):
            trained(
                small,
                model="control",
                width=8,
                rate=1e12,
                l2=0.0,
                seed=0,
                batch_size=100,
            )

    def test_an_unknown_model(self, small):
        with pytest.raises(ValueError, match="model must be one of"):
            trained(small, model="BN", width=8, rate=0.1, l2=0.0, seed=0)

    def test_the_fast_normalization_gives_the_numbers_of_the_readable_one(self, small):
        rows = trained(
            small,
            model="bn",
            width=8,
            rate=0.2,
            l2=1e-3,
            seed=3,
            batch_size=100,
            epochs=2,
            dtype=np.float64,
        )
        from bnbook.training.network import train

        network = Network(
            (28, *[8] * 4, 1), batch_norm=True, seed=3, dtype=np.float64, alpha=0.97
        )
        parts = {n: (x.astype(float), t) for n, (x, t) in small.parts().items()}
        history = train(
            network,
            parts["train"],
            parts["validation"],
            learning_rate=0.2,
            l2=1e-3,
            epochs=2,
            batch_size=100,
            seed=3,
        )
        np.testing.assert_allclose(
            [row["train_loss"] for row in rows], history.train_loss, rtol=1e-9
        )
        network.restore(history.best)
        assert rows[0]["test_accuracy"] == evaluate(network, *parts["test"])[1]


class TestDropout:
    def test_the_model_is_that_of_the_other_experiments(self):
        for batch_norm in (False, True):
            model = sequential(28, batch_norm, 0.3)
            ours = Network((28, *[64] * 4, 1), batch_norm=batch_norm, seed=0)
            assert sum(p.numel() for p in model.parameters()) == sum(
                p.size for p in ours.parameters.values()
            )
            kinds = [type(layer).__name__ for layer in model]
            block = ["Linear", *["BatchNorm1d"] * batch_norm, "ReLU", "Dropout"]
            assert kinds == block * 4 + ["Linear"]
            spread = [w.std().item() for w in model.parameters() if w.ndim == 2]
            fan_in = np.array([28, 64, 64, 64, 64])
            expected = np.sqrt(np.array([2, 2, 2, 2, 1]) / fan_in)
            np.testing.assert_allclose(spread, expected, rtol=0.3)

    def test_a_run(self, monkeypatch):
        monkeypatch.setattr(higgs, "ROWS", 1200)
        row = run_dropout(model="bn", dropout=0.2, rate=0.3, seed=0)
        again = run_dropout(model="bn", dropout=0.2, rate=0.3, seed=0)
        assert row == again
        assert 1 <= row["best_epoch"] <= higgs.EPOCHS
        assert 0.4 < row["test_accuracy"] < 0.8
        monkeypatch.setattr(torch, "isfinite", lambda loss: torch.tensor(False))
        with pytest.raises(Diverged, match="step 0"):
            run_dropout(model="control", dropout=0.0, rate=0.3, seed=0)


class TestSettings:
    def test_every_experiment_is_listed_and_has_three_seeds_or_more(self):
        names = [experiment.name for experiment in higgs.EXPERIMENTS]
        assert len(set(names)) == len(names)
        for experiment in higgs.EXPERIMENTS:
            assert experiment.name.startswith("higgs_")
            seeds = {setting["seed"] for setting in experiment.settings}
            assert len(seeds) >= 3 or experiment is higgs.SLICE

    def test_both_models_get_the_same_budget(self):
        for experiment in higgs.EXPERIMENTS:
            if experiment is higgs.WIDE_RUNS:
                continue  # there the control tries more rates
            counts = [
                sum(setting["model"] == model for setting in experiment.settings)
                for model in higgs.MODELS
            ]
            assert counts[0] == counts[1], experiment.name

    def test_the_rates_of_later_runs_are_those_that_the_sweep_chose(self):
        assert best_rates(runs(higgs.SWEEP.load())) == higgs.BEST_RATE

    def test_no_rate_at_the_edge_of_the_grid_was_chosen(self):
        """A best or highest rate at the last of the grid would only be a bound."""
        table = runs(higgs.SWEEP.load())
        chosen = [best_rate_of_each_seed(table), highest_trainable(table)]
        for rates in chosen:
            assert rates.to_numpy().max() < max(higgs.RATES)
            assert rates.to_numpy().min() > min(higgs.RATES)

    def test_the_slice_comes_out_as_stored(self):
        live, stored = higgs.SLICE.replay(model="bn")
        assert deviation(live, stored) < 1e-6


def frame(*runs_):
    """Epochs as Experiment.load gives them: (model, rate, seed, accuracies or None)."""
    rows = []
    for model, rate, seed, accuracies in runs_:
        setting = {"model": model, "rate": rate, "seed": seed}
        if accuracies is None:
            rows.append(
                setting | {"outcome": "diverged at step 3 with learning rate 9"}
            )
            continue
        for epoch, accuracy in enumerate(accuracies, 1):
            rows.append(
                setting
                | {
                    "outcome": "finished",
                    "epoch": epoch,
                    "train_loss": 1.0 / epoch,
                    "train_accuracy": accuracy + 0.1,
                    "validation_loss": 2.0 / epoch,
                    "validation_accuracy": accuracy,
                    "best_epoch": 1 + int(np.argmax(accuracies)),
                    "test_accuracy": max(accuracies) - 0.01,
                }
            )
    return pd.DataFrame(rows)


EXAMPLE = frame(
    *(("bn", 1.0, seed, [0.60, 0.70 + 0.01 * seed, 0.65]) for seed in range(3)),
    *(("bn", 3.0, seed, [0.50, 0.54, 0.55]) for seed in range(3)),
    *(("bn", 0.3, seed, [0.55, 0.57, 0.62]) for seed in range(3)),
    *(("control", 0.3, seed, [0.58, 0.60, 0.66 - 0.01 * seed]) for seed in range(3)),
    ("control", 1.0, 0, [0.80, 0.90, 0.95]),
    ("control", 1.0, 1, None),
    ("control", 1.0, 2, [0.5, 0.5, 0.5]),
    *(("control", 3.0, seed, None) for seed in range(3)),
)


class TestResults:
    def test_one_row_a_run(self):
        table = runs(EXAMPLE)
        assert len(table) == 3 * 6
        run = table[(table.model == "bn") & (table.rate == 1) & (table.seed == 2)]
        (run,) = run.to_dict("records")
        assert run["best_epoch"] == 2
        assert run["validation_accuracy"] == pytest.approx(0.72)
        assert run["train_loss"] == 0.5 and run["final_train_loss"] == 1 / 3
        assert run["final_train_accuracy"] == pytest.approx(0.75)
        assert run["gap"] == pytest.approx(0.1)
        assert run["test_accuracy"] == pytest.approx(0.71)
        assert run["trains"] and not run["diverged"]
        assert table.diverged.sum() == 4
        assert not table[table.diverged].trains.any()
        assert table[table.diverged].validation_accuracy.isna().all()

    def test_the_threshold(self):
        level = CHANCE + MARGIN
        table = runs(
            frame(("bn", 1.0, 0, [level, 0]), ("bn", 2.0, 0, [level - 1e-9, 0]))
        )
        assert table.trains.tolist() == [True, False]
        assert runs(frame(("bn", 1.0, 0, [0.2, 0.2])), threshold=0.2).trains.all()

    def test_best_rates(self):
        table = runs(EXAMPLE)
        # The control is best at 1, on the one seed of three that liked it: not a rate.
        assert best_rates(table) == {"bn": 1.0, "control": 0.3}
        chosen = at_best_rate(table)
        assert len(chosen) == 6
        assert set(zip(chosen.model, chosen.rate, strict=True)) == {
            ("bn", 1.0),
            ("control", 0.3),
        }
        each = best_rate_of_each_seed(table)
        assert each.control.tolist() == [1.0, 0.3, 0.3]
        assert each.bn.tolist() == [1.0, 1.0, 1.0]

    def test_highest_trainable(self):
        highest = highest_trainable(runs(EXAMPLE))
        assert highest.bn.tolist() == [1.0, 1.0, 1.0]
        assert highest.control.tolist() == [1.0, 0.3, 0.3]
        with pytest.raises(ValueError, match="trains at no rate"):
            highest_trainable(
                runs(frame(("bn", 1.0, 0, [0.1, 0.2]), ("control", 1.0, 0, None)))
            )

    def test_paired(self):
        chosen = at_best_rate(runs(EXAMPLE))
        got = paired(chosen, "validation_accuracy")
        np.testing.assert_allclose(got, [0.04, 0.06, 0.08])
        with pytest.raises(ValueError, match="has gaps"):
            paired(chosen.assign(gap=np.nan), "gap")
        with pytest.raises(ValueError, match="duplicate"):
            paired(pd.concat([chosen, chosen]), "gap")

    def test_a_table_without_its_best_epoch_is_refused(self):
        with pytest.raises(ValueError, match="best epoch"):
            runs(EXAMPLE.assign(best_epoch=9))

    def test_first_epoch_at(self):
        bn = EXAMPLE[(EXAMPLE.model == "bn") & (EXAMPLE.rate == 1)]
        level = pd.Series({0: 0.65, 1: 0.60, 2: 0.99})
        assert first_epoch_at(bn, level).to_dict() == {0: 2, 1: 1, 2: 4}


class TestInterval:
    def test_evidence(self):
        interval = measured([1.0, 2.0, 3.0], claim_low=0)
        assert interval.estimate == 2
        assert interval.high - interval.low == pytest.approx(
            2 * 4.3027 / np.sqrt(3), rel=1e-4
        )
        assert (interval.claim_low, interval.claim_high) == (0, np.inf)


class TestShrinkage:
    @given(st.floats(0, 5), st.floats(0, 0.19), st.integers(0, 300))
    def test_it_is_what_the_steps_do(self, rate, l2, steps):
        w = 1.0
        for _ in range(steps):
            w -= rate * l2 * w
        assert shrinkage(rate, l2, steps) == pytest.approx(1 - w, abs=1e-12)

    def test_tiny_ones_keep_their_digits(self):
        assert shrinkage(2.57, 1.26e-8, 1) == pytest.approx(3.2382e-8, rel=1e-9)
        assert shrinkage(1.0, 1.0, 0) == 0 and shrinkage(1.0, 1.0, 3) == 1

    @pytest.mark.parametrize("bad", [(2.0, 1.0, 1), (-1.0, 0.5, 1), (1.0, 0.5, -1)])
    def test_bad_input(self, bad):
        with pytest.raises(ValueError, match="need 0"):
            shrinkage(*bad)


def test_the_table_of_the_source():
    assert {len(pair) for pair in SOURCE_TABLE.values()} == {2}
    gap = np.subtract(
        SOURCE_TABLE["train_accuracy"], SOURCE_TABLE["validation_accuracy"]
    )
    np.testing.assert_allclose(gap, SOURCE_TABLE["gap"], atol=1e-12)
    decay = np.multiply(SOURCE_TABLE["rate"], SOURCE_TABLE["l2"])
    np.testing.assert_allclose(decay, [2.4676e-8, 3.2382e-8], rtol=1e-12)
