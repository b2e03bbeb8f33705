"""The exercises of the part `foundations`: right answers, and a notebook that holds them all."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bnbook.exercises import stub
from bnbook.exercises.foundations import EXERCISES as LISTED
from bnbook.foundations.backward import batch_norm_backward, batch_norm_backward_steps
from bnbook.foundations.forward import BatchNorm, batch_norm

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((ROOT / "book/foundations/exercises.ipynb").read_text(encoding="utf-8"))
EXERCISES = {exercise.id: exercise for exercise in LISTED}
CHAPTERS = ("foundations/forward", "foundations/backward")


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.fixture
def dense():
    rng = np.random.default_rng(11)
    x, dy = rng.normal(2.0, 1.5, size=(7, 4)), rng.normal(size=(7, 4))
    return x, rng.normal(size=4), rng.normal(size=4), dy, 0.3


@pytest.fixture
def images():
    rng = np.random.default_rng(12)
    x, dy = rng.normal(2.0, 1.5, size=(3, 4, 2, 5)), rng.normal(size=(3, 4, 2, 5))
    return x, rng.normal(size=4), rng.normal(size=4), dy, 0.3


def answer(name):
    return EXERCISES[name].reference


class TestReferencesAreTheBook:
    """Each reference solution equals the functions that the chapters prove, or autograd."""

    def test_forward(self, dense, images):
        x, gamma, beta, _, eps = dense
        y, cache = batch_norm(x, gamma, beta, eps=eps)
        close(answer("forward-standardize")(x, eps), cache.z_hat)
        close(answer("forward-batch-norm")(x, gamma, beta, eps), y)
        close(batch_norm(x, *answer("forward-identity")(x, eps), eps=eps)[0], x)
        x, gamma, beta, _, eps = images
        close(
            answer("forward-conv")(x, gamma, beta, eps),
            batch_norm(x, gamma, beta, eps=eps, axes=(0, 2, 3))[0],
        )

    def test_outlier(self):
        outlier = answer("forward-degenerate")
        x = np.array([0.0, 0.0, -2.5, 0.0])[:, None]
        close(outlier(-2.5, 4, 0.2), batch_norm(x, np.ones(1), np.zeros(1), eps=0.2)[1].z_hat[2, 0])
        close(outlier(1e9, 10, 1e-5), 3.0)  # √(M − 1)

    def test_running_statistics_and_folding(self, dense):
        x, gamma, beta, _, eps = dense
        layer = BatchNorm(4, eps=eps, momentum=0.3, dtype=torch.float64)
        with torch.no_grad():
            layer.gamma.copy_(torch.tensor(gamma))
            layer.beta.copy_(torch.tensor(beta))
            layer.running_mean.copy_(torch.arange(4.0))
            before = layer.running_mean.numpy().copy(), layer.running_var.numpy().copy()
            layer(torch.tensor(x))
        running = layer.running_mean.numpy(), layer.running_var.numpy()
        for got, expected in zip(answer("forward-running")(*before, x, 0.3), running, strict=True):
            close(got, expected)
        rng = np.random.default_rng(13)
        weight, bias, inputs = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(6, 3))
        folded, shift = answer("forward-fold")(weight, bias, gamma, beta, *running, eps)
        expected = layer.eval()(torch.tensor(inputs @ weight.T + bias)).detach().numpy()
        close(inputs @ folded.T + shift, expected)

    def test_backward(self, dense, images):
        x, gamma, beta, dy, eps = dense
        _, cache = batch_norm(x, gamma, beta, eps=eps)
        grads, steps = batch_norm_backward(dy, cache), batch_norm_backward_steps(dy, cache)
        dgamma, dbeta = answer("backward-dgamma-dbeta")(dy, cache.z_hat)
        close(dgamma, grads.dgamma)
        close(dbeta, grads.dbeta)
        close(answer("backward-dvar")(dy, x, gamma, eps), steps.dvar[0])
        paths = answer("backward-paths")(dy, x, gamma, eps)
        for got, expected in zip(paths, (steps.path_z_hat, steps.path_var, steps.path_mean), strict=True):
            close(got, np.broadcast_to(expected, x.shape))
        close(answer("backward-dx")(dy, x, gamma, eps), grads.dx)
        along = (grads.dx * cache.z_hat).sum(axis=0)
        close(answer("backward-epsilon")(grads.dgamma, gamma, x.var(axis=0), eps), along)
        x, gamma, beta, dy, eps = images
        _, cache = batch_norm(x, gamma, beta, eps=eps, axes=(0, 2, 3))
        close(answer("backward-conv")(dy, x, gamma, eps), batch_norm_backward(dy, cache).dx)

    def test_jacobian_and_inference_mode(self, dense):
        x, gamma, beta, dy, eps = dense

        def one_feature(column):
            centred = column - column.mean()
            return gamma[0] * centred / torch.sqrt((centred**2).mean() + eps)

        exact = torch.autograd.functional.jacobian(one_feature, torch.tensor(x[:, 0]))
        close(answer("backward-jacobian")(x[:, 0], gamma[0], eps), exact.numpy())

        mean, var = np.arange(4.0), np.arange(1.0, 5.0)
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
        y = torch.nn.functional.batch_norm(
            leaves[0], torch.tensor(mean), torch.tensor(var), *leaves[1:], training=False, eps=eps
        )
        exact = torch.autograd.grad(y, leaves, torch.tensor(dy))
        for got, expected in zip(answer("backward-eval")(dy, x, gamma, mean, var, eps), exact, strict=True):
            close(got, expected.numpy())

    @pytest.mark.parametrize("name", ["forward-property", "backward-property"])
    def test_correct_implementations_agree_and_wrong_ones_do_not(self, name, dense):
        x, gamma, beta, dy, eps = dense
        exercise = EXERCISES[name]
        args = (x, gamma, beta, eps) if name.startswith("forward") else (dy, x, gamma, eps)

        def flat(function):
            result = function(*args)
            return np.concatenate([np.ravel(a) for a in (result if type(result) is tuple else (result,))])

        y, cache = batch_norm(x, gamma, beta, eps=eps)
        grads = batch_norm_backward(dy, cache)
        exact = flat(lambda *_: y if name.startswith("forward") else (grads.dx, grads.dgamma, grads.dbeta))
        for variant in exercise.correct:
            close(flat(variant.function), exact)
        assert any((flat(v.function) != flat(exercise.correct[0].function)).any() for v in exercise.correct)
        for variant in exercise.mutants:
            assert abs(flat(variant.function) - exact).max() > 1e-3, variant.id


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_has_enough_exercises(chapter):
    exercises = [exercise for exercise in LISTED if exercise.chapter == chapter]
    assert len(exercises) >= 6
    assert {exercise.level for exercise in exercises} == {"warm-up", "core", "hard"}
    assert any(exercise.id.endswith("-property") for exercise in exercises)


def sources(kind):
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


class TestNotebook:
    def test_stub_cells_are_what_the_solutions_give(self):
        spec = importlib.util.spec_from_file_location("exercises_tool", ROOT / "tools" / "exercises.py")
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        assert [name for name, _ in tool.stub_cells(NOTEBOOK)] == list(EXERCISES), "a stub cell is missing"
        assert tool.drifted(NOTEBOOK) == [], "run `python tools/exercises.py sync`"

    def test_exercises_come_in_order_under_their_chapters(self):
        names = [
            exercise
            for chapter in CHAPTERS
            for exercise in EXERCISES
            if EXERCISES[exercise].chapter == chapter
        ]
        assert names == list(EXERCISES)
        headings = [source.partition("\n")[0] for source in sources("markdown") if source.startswith("#")]
        assert headings == ["# Exercises", "## Forward", "## Backward"]

    @pytest.mark.parametrize("name", EXERCISES)
    def test_each_exercise_has_all_its_cells(self, name):
        exercise = EXERCISES[name]
        start = f"```{{exercise}} {exercise.title}\n:label: ex-{name}\n\n**{exercise.level.capitalize()}.** "
        at = [i for i, cell in enumerate(NOTEBOOK["cells"]) if "".join(cell["source"]).startswith(start)]
        assert len(at) == 1, f"no markdown cell starts with {start!r}"
        hints = [f'hint("{name}"{f", {n}" if n > 1 else ""})' for n in range(1, len(exercise.hints) + 1)]
        expected = [
            stub(name),
            f'check("{name}", {exercise.reference.__name__})',
            *hints,
            f'solution("{name}")',
        ]
        cells = NOTEBOOK["cells"][at[0] + 1 : at[0] + 1 + len(expected)]
        assert ["".join(cell["source"]) for cell in cells] == expected
        folded = cells[2:]
        assert all("hide-cell" in cell["metadata"]["tags"] for cell in folded)
        labels = [cell["metadata"]["mystnb"]["code_prompt_show"] for cell in folded]
        total = len(hints)
        assert labels == [*(f"Show hint {n} of {total}" for n in range(1, total + 1)), "Show solution"]

    def test_stored_outputs_are_those_of_an_unsolved_notebook(self):
        code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        for cell in code:
            shown = "".join("".join(o.get("data", {}).get("text/plain", "")) for o in cell["outputs"])
            assert all(output["output_type"] == "execute_result" for output in cell["outputs"])
            if "".join(cell["source"]).startswith("check("):
                assert shown.startswith("○ ")
                assert ": not attempted\n" in shown
            assert not re.search(r"/(tmp|home|root|work|Users)/|0x[0-9a-f]{6}", json.dumps(cell["outputs"]))

    def test_no_two_functions_share_a_name(self):
        names = [exercise.reference.__name__ for exercise in LISTED]
        assert len(set(names)) == len(names)
