"""The simulated collisions, and the seven masses derived from the other columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from bnbook.data import higgs_toy as module
from bnbook.data.higgs_masses import (
    FEATURES,
    HIGH_LEVEL,
    LOW_LEVEL,
    W_MASS,
    derived_masses,
    nearest,
    neutrino_pz,
)
from bnbook.data.higgs_toy import background, detected, higgs_toy, signal
from bnbook.data.kinematics import four_vector, mass, mass_squared


@pytest.fixture(scope="module")
def events():
    return higgs_toy(20_000, seed=0)


@pytest.fixture(scope="module", params=[signal, background], ids=["signal", "tt"])
def particles(request):
    return request.param(2000, np.random.default_rng(1))


class TestChains:
    def test_every_decay_conserves_the_four_momentum(self, particles):
        p = particles
        total = p.get("H0", p.get("tt"))
        decays = {
            "W_lv": ("lepton", "neutrino"),
            "W_jj": ("q1", "q2"),
            "h0": ("b1", "b2"),
            "t_lv": ("W_lv", "b1"),
            "t_jj": ("W_jj", "b2"),
            "tt": ("t_lv", "t_jj"),
        }
        checked = 0
        for parent, (one, other) in decays.items():
            if parent in p:
                np.testing.assert_allclose(p[one] + p[other], p[parent], atol=1e-8)
                checked += 1
        assert checked >= 3
        final = sum(p[n] for n in ("lepton", "neutrino", "q1", "q2", "b1", "b2"))
        np.testing.assert_allclose(final, total, atol=1e-8)
        balance = (total + p["radiated"])[:, 1:3]
        np.testing.assert_allclose(balance, 0, atol=1e-8)

    def test_the_charged_higgs_is_one_w_and_the_light_one(self):
        p = signal(2000, np.random.default_rng(2))
        rest = p["H+"] - p["h0"]
        is_lv = abs(rest - p["W_lv"]).max(axis=1) < 1e-6
        is_jj = abs(rest - p["W_jj"]).max(axis=1) < 1e-6
        assert (is_lv ^ is_jj).all()
        assert 0.45 < is_lv.mean() < 0.55, "either W may be the one from the H⁰"

    def test_masses(self, particles):
        p, reach = particles, 4 * module.W_WIDTH + 1e-6
        for name in ("W_lv", "W_jj"):
            assert abs(mass(p[name]) - W_MASS).max() < reach
        for name in ("lepton", "neutrino", "q1", "q2", "radiated"):
            small = (
                1e-9 * (p["W_lv"] + p["W_jj"])[:, 0] ** 2 + 1e-9 * p[name][:, 0] ** 2
            )
            assert (abs(mass_squared(p[name])) < small).all(), name
        for name in ("b1", "b2"):
            np.testing.assert_allclose(mass(p[name]), 4.7, rtol=1e-5)
        if "h0" in p:
            for name, m in (("h0", 125), ("H+", 325), ("H0", 425)):
                np.testing.assert_allclose(mass(p[name]), m, rtol=1e-9)
        else:
            for name in ("t_lv", "t_jj"):
                assert abs(mass(p[name]) - 173).max() < 4 * module.TOP_WIDTH + 1e-6
            assert mass(p["tt"]).min() > 2 * (173 - 4 * module.TOP_WIDTH)

    def test_energies_are_positive(self, particles):
        assert min(p[:, 0].min() for p in particles.values()) > 0


class TestColumns:
    def test_shape_and_types(self, events):
        x, t = events
        assert x.shape == (20_000, 28) == (len(t), len(FEATURES))
        assert (x.dtype, t.dtype) == (np.float32, np.int64)
        assert np.isfinite(x).all()
        assert set(t) == {0, 1}

    def test_signal_is_53_percent(self, events):
        deviation = np.sqrt(0.53 * 0.47 / 20_000)
        assert abs(events[1].mean() - 0.53) < 4 * deviation

    def test_what_the_detector_accepts(self, events):
        column = dict(zip(FEATURES, events[0].T, strict=True))
        pts = np.array([column[f"jet_{k}_pt"] for k in range(1, 5)])
        tags = np.array([column[f"jet_{k}_btag"] for k in range(1, 5)])
        assert (np.diff(pts, axis=0) <= 0).all(), "jets come in order of pt"
        assert min(pts.min(), column["lepton_pT"].min()) >= 20
        assert set(np.unique(tags)) == {0, 1, 2}
        assert ((tags > 0).sum(axis=0) >= 2).all()
        for name, values in column.items():
            if name.endswith("eta"):
                assert abs(values).max() <= 2.5
            if name.endswith("phi"):
                assert abs(values).max() <= np.float32(np.pi)
            if name.startswith("m_") or name == "missing_energy_magnitude":
                assert values.min() >= 0

    def test_the_seven_masses_come_from_the_other_columns(self, events):
        x = events[0]
        np.testing.assert_array_equal(
            derived_masses(x[:, :21]).astype(np.float32), x[:, 21:]
        )

    def test_resonances_are_where_the_particles_are(self, events):
        x, t = events
        column = dict(zip(FEATURES, x.T, strict=True))

        def peak(name, label, low, high):
            counts, edges = np.histogram(
                column[name][t == label], bins=np.arange(low, high, 10)
            )
            return edges[counts.argmax()] + 5

        assert abs(peak("m_bb", 1, 40, 300) - 125) <= 15
        assert abs(peak("m_wbb", 1, 150, 600) - 325) <= 20
        assert abs(peak("m_wwbb", 1, 250, 800) - 425) <= 25
        assert abs(peak("m_jjj", 0, 60, 500) - 173) <= 15
        assert abs(peak("m_jlv", 0, 60, 500) - 173) <= 15
        assert abs(peak("m_jj", 0, 20, 300) - 80) <= 15
        assert abs(np.median(column["m_lv"]) - W_MASS) < 0.1


class TestRandomness:
    def test_the_seed_decides(self):
        for a, b in zip(higgs_toy(500, 3), higgs_toy(500, 3), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (higgs_toy(500, 3)[0] != higgs_toy(500, 4)[0]).any(axis=1).all()

    def test_more_events_begin_with_the_same(self, events):
        x, t = higgs_toy(321, seed=0)
        np.testing.assert_array_equal(x, events[0][:321])
        np.testing.assert_array_equal(t, events[1][:321])

    def test_no_two_events_are_alike(self, events):
        assert len(np.unique(events[0], axis=0)) == len(events[0])

    def test_one_event(self):
        x, t = higgs_toy(1, seed=11)
        assert x.shape == (1, 28) and t.shape == (1,)

    @pytest.mark.parametrize(
        ("n", "seed", "kind", "message"),
        [
            (0, 0, ValueError, "n must be at least 1"),
            (5, -1, ValueError, "seed must be at least 0"),
            (5.0, 0, TypeError, "n must be an integer"),
            (5, "a", TypeError, "seed must be an integer"),
            (True, 0, TypeError, "n must be an integer"),
        ],
    )
    def test_bad_input(self, n, seed, kind, message):
        with pytest.raises(kind, match=message):
            higgs_toy(n, seed)


class TestDifficulty:
    def test_no_single_column_separates(self, events):
        x, t = events
        for name, column in zip(FEATURES, x.T, strict=True):
            auc = roc_auc_score(t, column)
            assert max(auc, 1 - auc) < 0.6, name
            tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=100)
            halves = slice(None, 10_000), slice(10_000, None)
            tree.fit(column[halves[0], None], t[halves[0]])
            assert tree.score(column[halves[1], None], t[halves[1]]) < 0.68, name

    def test_all_columns_together_lie_between_chance_and_certainty(self, events):
        x, t = events
        scores = {}
        for name, columns in (("low", slice(21)), ("all", slice(28))):
            model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
            model.fit(x[:14_000, columns], t[:14_000])
            scores[name] = roc_auc_score(
                t[14_000:], model.predict_proba(x[14_000:, columns])[:, 1]
            )
        assert 0.6 < scores["low"] < scores["all"] - 0.05
        assert 0.7 < scores["all"] < 0.9


class TestNeutrino:
    @given(st.integers(0, 2**32 - 1))
    def test_the_w_has_its_mass_or_more(self, seed):
        rng = np.random.default_rng(seed)
        lepton = four_vector(
            rng.uniform(20, 200, 60), rng.normal(0, 1, 60), rng.uniform(-3, 3, 60)
        )
        px, py = rng.normal(0, 50, (2, 60))
        pz = neutrino_pz(lepton, px, py)
        neutrino = np.stack([np.sqrt(px**2 + py**2 + pz**2), px, py, pz], axis=-1)
        m = mass(lepton + neutrino)
        across = np.hypot(lepton[:, 1], lepton[:, 2]) * np.hypot(px, py)
        root = W_MASS**2 >= 2 * (across - lepton[:, 1] * px - lepton[:, 2] * py)
        np.testing.assert_allclose(m[root], W_MASS, rtol=1e-7)
        assert (m[~root] > W_MASS).all()

    def test_of_two_roots_it_takes_the_one_nearer_to_0(self):
        p = signal(3000, np.random.default_rng(4))
        px, py = p["neutrino"][:, 1:3].T
        pz = neutrino_pz(p["lepton"], px, py, mass(p["W_lv"]))
        true = p["neutrino"][:, 3]
        # The generated neutrino is a root; the other one follows from their sum.
        pt2 = (p["lepton"][:, 1:3] ** 2).sum(axis=1)
        a = mass(p["W_lv"]) ** 2 / 2 + (
            p["lepton"][:, 1:3] * p["neutrino"][:, 1:3]
        ).sum(1)
        other = 2 * a * p["lepton"][:, 3] / pt2 - true
        expected = np.where(abs(true) < abs(other), true, other)
        error = abs(pz - expected) / (abs(true) + abs(other))
        assert np.quantile(error, 0.99) < 1e-4
        assert 0.5 < (abs(true) < abs(other)).mean() < 0.9


class TestDerivedMasses:
    def test_without_blur_the_true_masses_come_back(self):
        """A made-up event in which every assignment is known."""
        rng = np.random.default_rng(5)
        p = background(400, rng)
        low = np.zeros((400, 21))
        low[:, 0], low[:, 1], low[:, 2] = as_columns(p["lepton"])
        low[:, 3], _, low[:, 4] = as_columns(p["neutrino"])
        for k, name in enumerate(("b1", "q1", "b2", "q2")):
            low[:, 5 + 4 * k : 8 + 4 * k] = np.stack(as_columns(p[name]), axis=-1)
            low[:, 8 + 4 * k] = 2.0 * name.startswith("b")
        got = dict(zip(HIGH_LEVEL, derived_masses(low).T, strict=True))
        jets = {n: four_vector(*as_columns(p[n])) for n in ("q1", "q2", "b1", "b2")}
        np.testing.assert_allclose(got["m_jj"], mass(p["W_jj"]), rtol=1e-6)
        np.testing.assert_allclose(got["m_bb"], mass(jets["b1"] + jets["b2"]))
        near = abs(got["m_jjj"] - 173) < 8
        assert near.mean() > 0.85, "mostly the right b-jet"

    def test_the_order_of_the_jets_does_not_matter(self, events):
        low = events[0][:200, :21].astype(np.float64)
        low[:, [8, 12, 16, 20]] += np.array([0.01, 0.02, 0.03, 0.04])  # no ties
        jets = low[:, 5:].reshape(-1, 4, 4)[:, [2, 0, 3, 1]].reshape(-1, 16)
        np.testing.assert_allclose(
            derived_masses(np.concatenate([low[:, :5], jets], axis=1)),
            derived_masses(low),
            rtol=1e-10,
        )

    def test_turning_the_event_changes_nothing(self, events):
        low = events[0][:300, :21].astype(np.float64)
        turned = low.copy()
        turned[:, [2, 4, 7, 11, 15, 19]] += 0.7
        np.testing.assert_allclose(
            derived_masses(turned), derived_masses(low), rtol=1e-7
        )

    def test_mirroring_along_the_beam_changes_nothing(self, events):
        low = events[0][:300, :21].astype(np.float64)
        turned = low.copy()
        turned[:, [1, 6, 10, 14, 18]] *= -1
        np.testing.assert_allclose(
            derived_masses(turned), derived_masses(low), rtol=1e-7
        )

    def test_masses_that_need_no_neutrino_survive_a_boost_along_the_beam(self, events):
        low = events[0][:300, :21].astype(np.float64)
        moved = low.copy()
        moved[:, [1, 6, 10, 14, 18]] += 0.4
        before, after = derived_masses(low), derived_masses(moved)
        for name in ("m_jj", "m_bb"):
            k = HIGH_LEVEL.index(name)
            np.testing.assert_allclose(after[:, k], before[:, k], rtol=1e-8)

    def test_all_masses_scale_with_the_momenta_if_the_w_does(self, events, monkeypatch):
        from bnbook.data import higgs_masses

        low = events[0][:300, :21].astype(np.float64)
        scaled = low.copy()
        scaled[:, [0, 3, 5, 9, 13, 17]] *= 2
        before = derived_masses(low)
        defaults = higgs_masses.neutrino_pz.__defaults__
        monkeypatch.setattr(higgs_masses.neutrino_pz, "__defaults__", (2 * W_MASS,))
        monkeypatch.setattr(higgs_masses, "TOP_MASS", 346.0)
        monkeypatch.setattr(higgs_masses, "CHARGED_HIGGS_MASS", 650.0)
        assert defaults == (W_MASS,)
        np.testing.assert_allclose(derived_masses(scaled), 2 * before, rtol=1e-7)

    def test_nearest(self):
        got = nearest([[np.array([1.0, 9.0])], [np.array([4.0, 6.0])]], targets=[5.0])
        np.testing.assert_array_equal(got, [[4.0, 6.0]])

    def test_nothing_is_changed_in_place(self, events):
        low = events[0][:50, :21].copy()
        low.flags.writeable = False
        derived_masses(low)

    @pytest.mark.parametrize(
        ("low", "kind", "message"),
        [
            (np.zeros((3, 28)), ValueError, r"shape \(N, 21\)"),
            (np.zeros(21), ValueError, r"shape \(N, 21\)"),
            (np.zeros((3, 21), int), TypeError, "floating-point"),
            (np.full((3, 21), np.nan), ValueError, "finite"),
        ],
    )
    def test_bad_input(self, low, kind, message):
        with pytest.raises(kind, match=message):
            derived_masses(low)


def as_columns(p):
    pt = np.hypot(p[:, 1], p[:, 2])
    return pt, np.arcsinh(p[:, 3] / pt), np.arctan2(p[:, 2], p[:, 1])


def test_the_detector_blurs_energies_by_what_it_says():
    """A lepton of known energy comes back with 2 %, a hard jet with more."""
    count, rng = 40_000, np.random.default_rng(6)
    phis = {"lepton": 0.0, "q1": 1.0, "q2": 2.0, "b1": 3.0, "b2": 4.0, "radiated": 5.0}
    pts = {"lepton": 50.0, "q1": 400.0, "radiated": 20.0}
    particles = {
        name: four_vector(
            np.full(count, pts.get(name, 100.0)), np.zeros(count), np.full(count, phi)
        )
        for name, phi in phis.items()
    }
    rows = detected(particles, rng)
    assert abs(rows[:, 0].std() / 50 - 0.02) < 0.001
    blur = np.sqrt(1 / 400 + 0.06**2 + (module.LOST / (1 - module.LOST)) ** 2)
    assert abs(rows[:, 5].std() / 400 - blur) < 0.005
    visible = sum(p[:, 1:3] for p in particles.values())[0]
    missing = rows[:, 3, None] * np.stack([np.cos(rows[:, 4]), np.sin(rows[:, 4])], -1)
    np.testing.assert_allclose(missing.mean(axis=0), -visible, atol=2)
    assert len(LOW_LEVEL) == rows.shape[1] == 21
