"""Long experiments resume, and their files never hold half a run."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnbook import experiments
from bnbook.data.images import FOLDER
from bnbook.experiments import Diverged, Experiment, deviation, main

SETTINGS = [{"model": m, "rate": r, "seed": s} for m in ("bn", "none") for r in (0.1, 3.0) for s in (0, 1)]


def epochs(model, rate, seed):
    if model == "none" and rate > 1:
        raise Diverged(step=7 + seed, learning_rate=rate)
    return [{"epoch": e, "loss": rate / (e + 1) + seed / 3, "best": e == 1} for e in range(3)]


def make(folder, run=epochs, settings=SETTINGS, name="curves"):
    return Experiment("training", name, run, settings, folder=folder)


@pytest.fixture
def finished(tmp_path):
    experiment = make(tmp_path)
    assert main([experiment], []) == 0
    return experiment


class TestRunning:
    def test_results_come_back_typed_exact_and_in_the_order_of_the_settings(self, finished):
        table = finished.load()
        assert list(table.columns) == ["model", "rate", "seed", "outcome", "epoch", "loss", "best", "versions"]
        kept = table[table.outcome == "finished"]
        assert len(kept) == 6 * 3 and len(table) == 20
        wanted = [r["loss"] for s in SETTINGS[:6] for r in epochs(**s)]
        assert kept.loss.tolist() == wanted  # to the last bit
        assert table.rate.dtype == float and table.seed.dtype.kind == "i"
        assert set(table.versions) == {experiments._versions()}
        assert f"numpy {np.__version__}" in table.versions[0] and "torch" in table.versions[0]

    def test_a_diverged_run_is_recorded_and_the_others_go_on(self, finished):
        table = finished.load().query("outcome != 'finished'")
        assert table.outcome.tolist() == [f"diverged at step {7 + s} with learning rate 3" for s in (0, 1)]
        assert table.loss.isna().all() and table.model.eq("none").all()

    def test_a_diverged_run_may_come_first(self, tmp_path):
        experiment = make(tmp_path, settings=SETTINGS[::-1])
        assert main([experiment], []) == 0
        assert experiment.load().loss.notna().sum() == 18
        assert main([experiment], []) == 0

    def test_finished_runs_are_not_run_again(self, finished, tmp_path):
        before = finished.path.read_bytes()

        def forbidden(**setting):
            raise AssertionError("ran again")

        assert main([make(tmp_path, forbidden)], []) == 0
        assert finished.path.read_bytes() == before

    def test_new_settings_are_added_and_left_out_ones_are_kept_but_not_loaded(self, finished, tmp_path):
        more = make(tmp_path, settings=[*SETTINGS[2:], {"model": "bn", "rate": 0.5, "seed": 9}])
        assert more.missing() == [{"model": "bn", "rate": 0.5, "seed": 9}]
        with pytest.raises(FileNotFoundError, match=r"1 of the 7 runs of curves are missing.*--only curves"):
            more.load()
        assert main([more], []) == 0
        assert set(more.load().rate) == {0.1, 3.0, 0.5} and finished.load().seed.max() == 1

    def test_a_failing_run_leaves_no_row_the_others_go_on_and_the_status_says_so(self, tmp_path, capsys):
        def fragile(model, rate, seed):
            if seed == 1 and model == "bn":
                raise RuntimeError("out of luck")
            return epochs("bn", rate, seed)

        experiment = make(tmp_path, fragile)
        assert main([experiment], []) == 1
        assert "out of luck" in capsys.readouterr().err
        assert experiment.missing() == [s for s in SETTINGS if s["seed"] == 1 and s["model"] == "bn"]

    def test_an_interrupted_experiment_keeps_what_is_finished(self, tmp_path, capsys):
        def interrupted(model, rate, seed):
            if model == "none":
                raise KeyboardInterrupt
            return epochs(model, rate, seed)

        experiment = make(tmp_path, interrupted)
        assert main([experiment], []) == 130
        assert "interrupted" in capsys.readouterr().out
        assert len(experiment.missing()) == 4
        assert main([make(tmp_path)], []) == 0

    def test_fresh_forgets_and_list_only_says(self, finished, tmp_path, capsys):
        assert main([finished], ["--list"]) == 0
        assert capsys.readouterr().out == "curves: 8 of 8 runs are finished\n"
        main([make(tmp_path, lambda **s: {"other": 1})], ["--fresh"])
        assert finished.load().other.eq(1).all()

    def test_only_runs_the_named_and_refuses_an_unknown_name(self, tmp_path, capsys):
        one, two = make(tmp_path, name="one"), make(tmp_path, name="two")
        assert main([one, two], ["--only", "two"]) == 0
        assert len(one.missing()) == 8 and two.missing() == []
        with pytest.raises(SystemExit):
            main([one, two], ["--only", "three"])
        assert "three" in capsys.readouterr().err


class TestAtomicity:
    def test_a_write_that_fails_leaves_the_old_file_and_no_other(self, finished, monkeypatch):
        before = finished.path.read_bytes()

        def full(descriptor):
            raise OSError("no space left on device")

        monkeypatch.setattr(experiments.os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            make(finished.folder, settings=[{"model": "bn", "rate": 9.0, "seed": 0}]).execute(
                {"model": "bn", "rate": 9.0, "seed": 0}
            )
        assert finished.path.read_bytes() == before
        assert [p.name for p in finished.path.parent.iterdir()] == ["curves.csv"]

    def test_a_run_that_another_process_has_finished_meanwhile_is_not_doubled(self, finished):
        before = finished.path.read_bytes()
        finished.execute(SETTINGS[0])
        assert finished.path.read_bytes() == before

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a signal of POSIX")
    def test_a_killed_process_leaves_whole_runs_only(self, tmp_path):
        script = textwrap.dedent(f"""
            from pathlib import Path
            from bnbook.experiments import Experiment, main
            rows = lambda seed: [dict(epoch=e, loss=e / 7) for e in range(200)]
            main([Experiment("training", "killed", rows, [dict(seed=s) for s in range(5000)],
                             folder=Path({str(tmp_path)!r}))], [])
        """)
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        path = tmp_path / "killed.csv"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 50_000):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        table = pd.read_csv(path)
        assert len(table) >= 200
        assert (table.groupby("seed").epoch.count() == 200).all()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows goes without the lock")
    def test_two_processes_lose_no_row_of_each_other(self, tmp_path):
        script = textwrap.dedent(f"""
            import sys
            from pathlib import Path
            from bnbook.experiments import Experiment, main
            settings = [dict(seed=s) for s in range(int(sys.argv[1]), int(sys.argv[1]) + 40)]
            sys.exit(main([Experiment("training", "both", lambda seed: dict(loss=seed / 3), settings,
                                      folder=Path({str(tmp_path)!r}))], []))
        """)
        processes = [subprocess.Popen([sys.executable, "-c", script, start], stdout=subprocess.DEVNULL)
                     for start in ("0", "100")]
        assert [p.wait() for p in processes] == [0, 0]
        assert sorted(pd.read_csv(tmp_path / "both.csv").seed) == [*range(40), *range(100, 140)]


class TestReplay:
    def test_the_live_result_equals_the_stored_one(self, finished):
        live, stored = finished.replay(model="bn", rate=3.0, seed=1)
        assert list(live.columns) == ["epoch", "loss", "best"]
        assert deviation(live, stored) == 0

    def test_a_changed_run_is_seen(self, finished, tmp_path):
        def changed(**setting):
            return [{**row, "loss": row["loss"] * 1.01} for row in epochs(**setting)]

        live, stored = make(tmp_path, changed).replay(model="bn", rate=0.1, seed=0)
        assert deviation(live, stored) == pytest.approx(0.01)

    def test_what_fits_several_settings_or_none_is_refused(self, finished):
        for chosen, count in (({"model": "bn"}, 4), ({"seed": 5}, 0), ({"sede": 0}, 0)):
            with pytest.raises(ValueError, match=rf"^{count} settings of curves have"):
                finished.replay(**chosen)

    def test_a_missing_run_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            make(tmp_path).replay(model="bn", rate=0.1, seed=0)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.floats(-0.5, 0.5), st.data())
    def test_deviation_is_relative_to_the_largest_entry(self, values, change, data):
        stored = pd.DataFrame({"a": values, "name": "x"})
        at = data.draw(st.integers(0, len(values) - 1))
        live = stored.copy()
        live.loc[at, "a"] += change
        wanted = abs(live.a[at] - values[at]) / (max(map(abs, values)) or 1.0)
        assert deviation(live, stored) == wanted

    def test_deviation_sees_texts_gaps_and_shapes(self):
        stored = pd.DataFrame({"a": [1.0, np.nan], "name": ["x", "y"]})
        assert deviation(stored, stored) == 0
        assert deviation(stored.assign(name=["x", "z"]), stored) == math.inf
        assert deviation(stored.assign(a=[1.0, 1.0]), stored) == math.inf
        assert deviation(stored.assign(a=[np.nan, 1.0]), stored) == math.inf
        endless = pd.DataFrame({"a": [1.0, np.inf, -np.inf]})
        assert deviation(endless, endless) == 0
        assert deviation(endless.assign(a=[1.5, np.inf, -np.inf]), endless) == 0.5
        for values in ([1.0, np.inf, np.inf], [np.inf, np.inf, -np.inf], [1, 2, 3]):
            assert deviation(endless.assign(a=values), endless) == math.inf
        for other in (stored[:1], stored.rename(columns={"a": "b"})):
            with pytest.raises(ValueError, match="compare the same setting"):
                deviation(other, stored)


class TestData:
    """`--data mnist` runs the experiments whose settings name a dataset on another one."""

    def two(self, tmp_path, run=lambda data, seed: {"loss": float(len(data))}):
        on = [{"data": "digits", "seed": 0}, {"data": "digits", "seed": 1}]
        return [
            Experiment("training", "pictures", run, on, folder=tmp_path),
            Experiment("training", "other", lambda seed: {"loss": 1.0}, [{"seed": 0}], folder=tmp_path),
        ]

    @pytest.fixture
    def asked(self, monkeypatch):
        monkeypatch.delenv(FOLDER, raising=False)
        found = []
        monkeypatch.setattr(
            "bnbook.experiments.images", lambda name: found.append((name, os.environ.get(FOLDER)))
        )
        yield found
        os.environ.pop(FOLDER, None)

    def test_runs_on_the_other_dataset_into_a_file_of_its_own(self, tmp_path, asked):
        both = self.two(tmp_path)
        assert main(both, ["--data", "mnist", "--folder", "pictures of mine"]) == 0
        assert asked == [("mnist", "pictures of mine")]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures_mnist.csv"]
        table = both[0].on("mnist").load()
        assert (table.data == "mnist").all() and (table.loss == 5.0).all() and len(table) == 2
        assert len(both[0].missing()) == 2  # the digits are another experiment

    def test_what_has_one_dataset_is_refused_by_name(self, tmp_path, asked, capsys):
        with pytest.raises(SystemExit):
            main(self.two(tmp_path), ["--data", "mnist", "--only", "other"])
        assert "other has no setting `data`" in capsys.readouterr().err

    def test_missing_files_are_named_before_the_first_run(self, tmp_path, monkeypatch, capsys):
        monkeypatch.delenv(FOLDER, raising=False)
        with pytest.raises(SystemExit):
            main(self.two(tmp_path), ["--data", "mnist"])
        assert "--folder" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_the_list_needs_no_files(self, tmp_path, asked, capsys):
        assert main(self.two(tmp_path), ["--data", "mnist", "--list"]) == 0
        assert asked == [] and "pictures_mnist: 0 of 2" in capsys.readouterr().out


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ([], "no settings"),
            ([{"seed": 0}, {"sed": 1}], "same names"),
            ([{"outcome": 0}], "none of them outcome"),
            ([{"seed": 0}, {"seed": 0}], "twice"),
            ([{"seed": [0]}], "number, string or boolean"),
        ],
    )
    def test_settings(self, tmp_path, settings, message):
        with pytest.raises(ValueError, match=message):
            make(tmp_path, settings=settings)

    @pytest.mark.parametrize("name", ["", "Two Words", "../up", 3])
    def test_names(self, tmp_path, name):
        with pytest.raises(ValueError, match="lower-case words"):
            make(tmp_path, name=name)

    @pytest.mark.parametrize("rows", [[], {}, [{"a": 1}, {"b": 1}], {"seed": 3}, {"versions": 3}])
    def test_rows_that_do_not_fit(self, tmp_path, rows):
        with pytest.raises(ValueError, match="run must return rows with the same names"):
            make(tmp_path, lambda **s: rows).execute(SETTINGS[0])
        assert not (tmp_path / "curves.csv").exists()

    def test_a_value_that_a_file_cannot_hold(self, tmp_path):
        with pytest.raises(ValueError, match="number, string or boolean"):
            make(tmp_path, lambda **s: {"loss": np.zeros(2)}).execute(SETTINGS[0])

    def test_other_columns_than_before(self, finished, tmp_path):
        before = finished.path.read_bytes()
        with pytest.raises(ValueError, match="--fresh"):
            make(tmp_path, lambda **s: {"other": 1}).execute({**SETTINGS[0], "seed": 9})
        assert finished.path.read_bytes() == before

    @pytest.mark.parametrize(
        ("text", "message"),
        [("", "has not the columns"), ("a,b\n1,2\n", "has not the columns"),
         ("model,rate,seed,outcome,versions\nbn,0.1\n", "row 2: expected 5 fields, got 2")],
    )
    def test_a_damaged_file_is_named(self, tmp_path, text, message):
        (tmp_path / "curves.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            make(tmp_path).load()


def test_diverged_names_step_and_learning_rate():
    error = Diverged(step=17, learning_rate=2.5)
    assert (error.step, error.learning_rate) == (17, 2.5)
    assert "step 17 with learning rate 2.5" in str(error)
