"""The bug museum: every invariant catches its bug, and raises no false alarm."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnbook.exercises.foundations import (
    museum_decay,
    museum_detached,
    museum_momentum,
    museum_padding,
    museum_repair,
)
from bnbook.foundations import museum_bugs as bugs
from bnbook.foundations import museum_practice as practice
from bnbook.foundations.forward import BatchNorm
from bnbook.foundations.museum import CORRECT, TorchLayer, catches, examine
from bnbook.foundations.museum_exhibits import EXHIBITS, exhibit
from bnbook.foundations.museum_invariants import Invariant, Setting
from bnbook.foundations.museum_practice import (
    Implementation,
    Layer,
    freeze,
    normalize_padded,
    parameter_groups,
    recompute,
    replicate,
    synchronize,
    train_network,
)

NOTEBOOK = Path(__file__).parents[2] / "book/foundations/museum.ipynb"
every_exhibit = pytest.mark.parametrize("shown", EXHIBITS, ids=lambda e: e.id)
SETTINGS = [
    Setting(size=size, features=d, eps=eps, momentum=m, seed=seed)
    for seed, (size, d, eps, m) in enumerate(
        [(6, 3, 0.1, 0.1), (2, 1, 0.5, 0.3), (9, 2, 0.02, 0.9)]
    )
]


def data(size=7, features=3, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(2.0, 3.0, size=(size, features)))


class TestExhibits:
    @every_exhibit
    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"seed{s.seed}")
    def test_its_invariant_catches_the_bug_and_nothing_else(self, shown, setting):
        assert not shown.invariant.holds(shown.implementation, setting)
        for name, right in CORRECT.items():
            assert shown.invariant.holds(right, setting), name

    @every_exhibit
    def test_replaces_exactly_one_decision_by_another(self, shown):
        right, wrong = Implementation(), shown.implementation
        changed = [
            field.name
            for field in dataclasses.fields(Implementation)
            if getattr(right, field.name) != getattr(wrong, field.name)
        ]
        assert changed == [shown.decision]
        if isinstance(shown.buggy, type):
            own = [name for name in vars(shown.buggy) if not name.startswith("__")]
            assert own == [shown.mended.__name__]
            assert getattr(Layer, own[0]) is shown.mended
        else:
            assert getattr(right, shown.decision) is shown.mended

    @every_exhibit
    def test_says_what_it_is(self, shown):
        assert shown.symptom and shown.title and shown.buggy.__doc__
        assert shown.invariant.residual.__doc__ and shown.invariant.statement
        assert bool(shown.thread) == bool(shown.url)
        if shown.thread:
            owner, name, number = shown.thread.replace("#", "/").split("/")
            assert shown.url == f"https://github.com/{owner}/{name}/issues/{number}"

    def test_are_at_least_ten_and_distinct(self):
        assert len(EXHIBITS) >= 13
        for attribute in ("id", "title", "invariant", "buggy"):
            assert len({getattr(e, attribute) for e in EXHIBITS}) == len(EXHIBITS)

    def test_matrix_has_a_full_diagonal_and_rows_that_differ(self):
        caught = catches()
        assert caught.shape == (len(EXHIBITS), len(EXHIBITS))
        assert caught.diagonal().all()
        assert caught.sum() < 2 * len(EXHIBITS)  # an invariant tells bugs apart

    def test_examine_shows_verdicts_in_text_and_html(self):
        shown = examine("square")
        assert repr(shown).splitlines()[:3] == [
            "The output has mean 0 and variance σ²/(σ² + ε).",
            "  the bug               ✗ violated",
            "  the mend              ✓ holds",
        ]
        assert shown._repr_html_().count("<tr>") == 1 + 1 + len(CORRECT)

    def test_examine_refuses_a_museum_that_is_wrong(self, monkeypatch):
        monkeypatch.setitem(CORRECT, "an impostor", exhibit("square").implementation)
        with pytest.raises(AssertionError, match="an impostor violates"):
            examine("square")

    def test_unknown_exhibit(self):
        with pytest.raises(
            ValueError, match="no exhibit has the id 'sqare'; there are"
        ):
            exhibit("sqare")


class TestNoFalseAlarm:
    """No invariant fails on a correct implementation, whatever the setting."""

    @every_exhibit
    @settings(max_examples=5)
    @given(
        size=st.integers(2, 9),
        features=st.integers(1, 4),
        eps=st.floats(0.01, 4.0),
        momentum=st.floats(0.01, 0.99).filter(lambda m: m != 0.5),
        seed=st.integers(0, 2**32),
        name=st.sampled_from(sorted(CORRECT)),
    )
    def test_on_any_setting(self, shown, size, features, eps, momentum, seed, name):
        setting = Setting(size, features, eps, momentum, seed)
        assert shown.invariant.holds(CORRECT[name], setting)

    @every_exhibit
    def test_an_invariant_changes_no_global_state(self, shown):
        before = torch.random.get_rng_state()
        shown.invariant.residual(Implementation(), Setting())
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.is_grad_enabled()


class TestInvariant:
    def test_one_that_raises_or_gives_nan_does_not_hold(self):
        def raises(implementation, setting):
            raise ValueError("no")

        for residual in (raises, lambda *_: float("nan")):
            assert not Invariant("", "", residual, 1.0).holds(Implementation())
        assert Invariant("", "", lambda *_: 0.5, 1.0).holds(Implementation())

    def test_does_not_hide_a_mistake_in_the_invariant(self):
        broken = Invariant("", "", lambda *_: undefined, 1.0)  # noqa: F821
        with pytest.raises(NameError):
            broken.holds(Implementation())

    @pytest.mark.parametrize(
        ("message", "change"),
        [
            ("size must be at least 2", {"size": 1}),
            ("features at least 1", {"features": 0}),
            ("eps must be positive", {"eps": 0.0}),
            ("eps must be positive", {"eps": float("nan")}),
            ("momentum must lie in", {"momentum": 0.5}),
            ("momentum must lie in", {"momentum": 1.0}),
        ],
    )
    def test_refuses_settings_that_tell_nothing(self, message, change):
        with pytest.raises(ValueError, match=message):
            Setting(**change)


class TestMends:
    """The right decisions agree with PyTorch and with the book."""

    def test_layer_equals_torch_and_the_book(self):
        layers = [
            kind(3, eps=0.2, momentum=0.3, dtype=torch.float64)
            for kind in (Layer, BatchNorm, TorchLayer)
        ]
        gamma, beta = torch.tensor([1.5, -0.3, 2.0]), torch.tensor([0.2, 1.0, -2.0])
        results = []
        for layer in layers:
            with torch.no_grad():
                layer.gamma.copy_(gamma)
                layer.beta.copy_(beta)
            x = data().requires_grad_()
            y = layer(x)
            (dx,) = torch.autograd.grad((y * data(seed=1)).sum(), x)
            evaluated = layer.eval()(data(seed=2))
            results.append((y, dx, layer.running_mean, layer.running_var, evaluated))
        for other in results[1:]:
            for mine, theirs in zip(results[0], other, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)

    def test_recompute_gives_the_gradient_of_a_plain_step(self):
        layer, plain = (nn.BatchNorm1d(3, dtype=torch.float64) for _ in range(2))
        x, dy = data().requires_grad_(), data(seed=1)
        (dx,) = torch.autograd.grad(plain(x), x, dy)
        torch.testing.assert_close(recompute(layer, x, dy), dx)
        torch.testing.assert_close(layer.state_dict(), plain.state_dict())

    def test_evaluate_restores_the_mode_and_needs_no_gradient(self):
        model = nn.Sequential(Layer(3, dtype=torch.float64)).train()
        assert not practice.evaluate(model, data()).requires_grad
        assert model.training and model[0].training
        practice.evaluate(model.eval(), data())
        assert not model.training

    def test_evaluate_does_not_thaw_a_frozen_part(self):
        frozen = freeze(Layer(3, dtype=torch.float64))
        model = nn.Sequential(frozen, Layer(3, dtype=torch.float64))
        model[1].train()
        practice.evaluate(model, data())
        assert [part.training for part in model] == [False, True]

    def test_replicas_and_freezing(self):
        layer = Layer(3, dtype=torch.float64)
        assert len({id(r.running_mean) for r in [layer, *replicate(layer, 3)]}) == 4
        assert replicate(layer, 0) == []
        assert not any(p.requires_grad for p in freeze(layer).parameters())

    def test_padded_sequences_equal_the_true_values_alone(self):
        x, lengths = data(10).reshape(2, 5, 3), torch.tensor([5, 2])
        y = normalize_padded(Layer(3, dtype=torch.float64), x, lengths)
        true = torch.cat([x[0], x[1, :2]])
        expected = Layer(3, dtype=torch.float64)(true)
        torch.testing.assert_close(torch.cat([y[0], y[1, :2]]), expected)
        assert not y[1, 2:].any()

    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
    def test_synchronize_merges_any_parts(self, sizes, seed):
        parts = torch.split(data(sum(sizes), seed=seed), sizes)
        moments = [(p.mean(0), p.var(0, correction=0)) for p in parts]
        means, variances = (torch.stack(m) for m in zip(*moments, strict=True))
        whole, counts = torch.cat(parts), torch.tensor(sizes)
        mean, var = synchronize(means, variances, counts)
        torch.testing.assert_close(mean, whole.mean(0), rtol=1e-12, atol=1e-12)
        expected = whole.var(0, correction=0)
        torch.testing.assert_close(var, expected, rtol=1e-12, atol=1e-12)

    def test_parameter_groups_hold_every_parameter_once(self):
        model = nn.Sequential(nn.Linear(4, 3), Layer(3), nn.Linear(3, 1))
        groups = parameter_groups(model, 0.1)
        found = [p for group in groups for p in group["params"]]
        assert {id(p) for p in found} == {id(p) for p in model.parameters()}
        assert len(found) == len(list(model.parameters()))
        decayed = [g["params"] for g in groups if g["weight_decay"]]
        assert [p.ndim for p in decayed[0]] == [2, 2]

    def test_training_is_reproducible_and_converges(self):
        one, two = (train_network(Layer, steps=30, seed=4) for _ in range(2))
        assert one == two
        assert one.loss[-1] < 0.3 * one.loss[0]
        torch_run = train_network(nn.BatchNorm1d, steps=30, seed=4)
        np.testing.assert_allclose(one.loss, torch_run.loss, rtol=1e-9)

    def test_exact_gradients_leave_the_length_of_weights_alone_but_detached_do_not(
        self,
    ):
        """⟨w, ∂L/∂w⟩ is of the order of ε with the true gradient."""
        growth = [
            abs(run.weight_norm[-1] / run.weight_norm[0] - 1)
            for run in (
                train_network(kind, steps=300, seed=1)
                for kind in (Layer, bugs.DetachedStatistics)
            )
        ]
        assert growth[0] < 0.01 < 0.05 < growth[1]


class TestSymptoms:
    """What the chapter says a user notices."""

    def test_one_pass_variance_of_two_numbers_vanishes(self):
        x = torch.tensor([[4095.0], [4097.0]])
        assert bugs.OnePassVariance(1).variance(x, x.mean(0)) == 0
        assert Layer(1).variance(x, x.mean(0)) == 1

    def test_one_example_poisons_inference(self):
        layer = bugs.AcceptsOneExample(2, dtype=torch.float64)
        assert torch.equal(layer(data(1, 2)), torch.zeros(1, 2, dtype=torch.float64))
        assert layer.eval()(data(4, 2)).isnan().all()

    def test_counting_twice_is_another_momentum(self):
        layer = Layer(3, momentum=0.1, dtype=torch.float64)
        bugs.recompute_and_count_twice(layer, data(), data(seed=1))
        expected = (1 - (1 - 0.1) ** 2) * data().mean(0)
        torch.testing.assert_close(layer.running_mean, expected)

    def test_decay_shrinks_gamma_by_the_same_factor_each_step(self):
        layer = Layer(3, dtype=torch.float64)
        optimizer = torch.optim.SGD(bugs.decay_everything(layer, 0.1), lr=0.5)
        for parameter in layer.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(7):
            optimizer.step()
        torch.testing.assert_close(
            layer.gamma.detach(), torch.full((3,), 0.95**7).double()
        )


class TestExercises:
    """The reference solutions agree with the code of the chapter."""

    def test_decay_is_what_an_optimizer_does(self):
        gamma = nn.Parameter(torch.tensor([1.7], dtype=torch.float64))
        optimizer = torch.optim.SGD([gamma], lr=0.3, weight_decay=0.2)
        gamma.grad = torch.zeros_like(gamma)
        for _ in range(5):
            optimizer.step()
        expected = museum_decay.decayed_gamma(1.7, 0.3, 0.2, 5)
        np.testing.assert_allclose(gamma.item(), expected, rtol=1e-12)

    def test_momentum_undoes_the_double_update(self):
        single = museum_momentum.momentum_for_repeats(0.2, 2)
        twice = Layer(3, momentum=single, dtype=torch.float64)
        once = Layer(3, momentum=0.2, dtype=torch.float64)
        bugs.recompute_and_count_twice(twice, data(), data(seed=1))
        once(data())
        torch.testing.assert_close(twice.state_dict(), once.state_dict())

    def test_repair_turns_two_bugs_into_the_right_layer(self):
        class Both(Layer):
            def to_remember(self, var, count):
                return var + self.eps

        kinds = {"eps": 0.2, "momentum": 0.3, "dtype": torch.float64}
        wrong, right = Both(3, **kinds), Layer(3, **kinds)
        for seed in range(4):
            wrong(data(5, seed=seed)), right(data(5, seed=seed))
        weight = 1 - (1 - 0.3) ** 4
        saved = wrong.running_var.numpy()
        repaired = museum_repair.repair_running_var(saved, 0.2, 5, weight)
        np.testing.assert_allclose(repaired, right.running_var.numpy(), rtol=1e-12)

    def test_padding_is_the_mend(self):
        x, lengths = data(10).reshape(2, 5, 3), torch.tensor([5, 2])
        layer = Layer(3, eps=0.2, dtype=torch.float64)
        y = museum_padding.masked_batch_norm(x.numpy(), lengths.double().numpy(), 0.2)
        expected = normalize_padded(layer, x, lengths).detach().numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)

    def test_lost_gradient_is_the_difference_of_bug_and_mend(self):
        gradients = []
        for kind in (Layer, bugs.DetachedStatistics):
            x = data().requires_grad_()
            y = kind(3, eps=0.2, dtype=torch.float64)(x) * torch.arange(1.0, 4.0)
            gradients.append(torch.autograd.grad((y * data(seed=1)).sum(), x)[0])
        missing = museum_detached.lost_gradient(
            data(seed=1).numpy(), data().numpy(), np.arange(1.0, 4.0), 0.2
        )
        expected = (gradients[0] - gradients[1]).numpy()
        np.testing.assert_allclose(missing, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "features must be a positive", lambda: Layer(0)),
        (ValueError, "features must be a positive", lambda: Layer(True)),
        (ValueError, "eps must be positive here", lambda: Layer(3, eps=0.0)),
        (ValueError, "eps must be finite", lambda: Layer(3, eps=-1.0)),
        (TypeError, "eps must be a real", lambda: Layer(3, eps="1")),
        (ValueError, "momentum must lie in", lambda: Layer(3, momentum=1.5)),
        (ValueError, "momentum must lie in", lambda: Layer(3, momentum=None)),
        (TypeError, "floating-point dtype", lambda: Layer(3, dtype=torch.int64)),
        (TypeError, "x is torch.float64", lambda: Layer(3)(data())),
        (ValueError, r"must have shape \(M, 3\)", lambda: Layer(3)(torch.ones(3))),
        (ValueError, r"must have shape \(M, 3\)", lambda: Layer(3)(torch.ones(4, 2))),
        (ValueError, "one value per", lambda: Layer(3)(torch.ones(1, 3))),
        (ValueError, "the batch is empty", lambda: Layer(3)(torch.ones(0, 3))),
        (
            ValueError,
            "must be finite",
            lambda: Layer(1)(torch.tensor([[1.0], [np.nan]])),
        ),
        (
            ValueError,
            "x must have shape",
            lambda: normalize_padded(Layer(3), torch.ones(4, 3), torch.ones(4)),
        ),
        (
            ValueError,
            "lengths must be 2 numbers",
            lambda: normalize_padded(
                Layer(3), torch.ones(2, 4, 3), torch.tensor([5, 1])
            ),
        ),
        (
            ValueError,
            "counts shape",
            lambda: synchronize(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3)),
        ),
        (
            ValueError,
            "counts must be positive",
            lambda: synchronize(
                torch.ones(2, 3), torch.ones(2, 3), torch.tensor([2, 0])
            ),
        ),
        (ValueError, "steps must be at least 1", lambda: train_network(Layer, steps=0)),
        (
            ValueError,
            "rate positive",
            lambda: train_network(Layer, steps=1, rate=float("nan")),
        ),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["evaluate", "recompute", "normalize_padded"])
def test_inputs_are_left_alone(name):
    x, layer = data(8).reshape(2, 4, 3), Layer(3, dtype=torch.float64)
    before = x.clone()
    if name == "normalize_padded":
        normalize_padded(layer, x, torch.tensor([4, 1]))
    else:
        extra = [x[0]] if name == "recompute" else []
        getattr(practice, name)(layer, x[0], *extra)
    assert torch.equal(x, before)
    assert not x.requires_grad


def test_the_chapter_shows_every_exhibit_and_links_its_thread():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells)
    for shown in EXHIBITS:
        assert f'examine("{shown.id}")' in text
        assert f"**Symptom:** {shown.symptom}." in text
        if shown.thread:
            assert f"[{shown.thread}]({shown.url})" in text
