"""The checker: every exercise keeps its promises, and no student's code can break or fool it."""

import functools
import importlib.util
import itertools
import json
import math
import random
import re
import subprocess
import sys
import time
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch

from bnbook.exercises import check, hint, solution, stub
from bnbook.exercises.core import registry
from bnbook.exercises.functions import expectations, judge, mistaken, prepare
from bnbook.exercises.model import (
    FunctionExercise,
    PropertyExercise,
    Result,
    stub_source,
    variants,
)
from bnbook.exercises.outputs import agree, observe

ROOT = Path(__file__).resolve().parents[1]
EXERCISES = registry()
FUNCTIONS = {
    name: e for name, e in EXERCISES.items() if isinstance(e, FunctionExercise)
}
PROPERTIES = {
    name: e for name, e in EXERCISES.items() if isinstance(e, PropertyExercise)
}
MISTAKES = [(name, mistake) for name, e in EXERCISES.items() for mistake in e.mistakes]
ANSWERS = [
    (name, answer)
    for name, e in EXERCISES.items()
    for answer in (e.reference, *e.alternatives)
]
every_exercise = pytest.mark.parametrize("name", EXERCISES)


def stub_function(name):
    namespace = {"np": np}
    exec(stub(name), namespace)
    return namespace[EXERCISES[name].reference.__name__]


class TestEveryExercise:
    @every_exercise
    def test_is_complete(self, name):
        exercise = EXERCISES[name]
        part, chapter = exercise.chapter.split("/")
        assert name.startswith(chapter.replace("_", "-") + "-")
        assert exercise.reference.__module__.startswith(f"bnbook.exercises.{part}")
        assert len(exercise.mistakes) >= 3
        assert len(exercise.hints) >= 2
        assert len(exercise.alternatives) >= 1
        assert exercise.why

    @every_exercise
    def test_a_solution_pasted_into_its_notebook_runs(self, name):
        part = EXERCISES[name].chapter.partition("/")[0]
        path = ROOT / f"book/{part}/exercises.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = next(cell for cell in cells if cell["cell_type"] == "code")
        namespace = {}
        exec("".join(code["source"]), namespace)
        exec(solution(name).source, namespace)
        answer = namespace[EXERCISES[name].reference.__name__]
        assert check(name, answer).outcome == "correct"
        for text in EXERCISES[name].hints:
            used = set(re.findall(r"\b(\w+)\.\w+\(", text)) & sys.stdlib_module_names
            assert used <= set(namespace), text

    @every_exercise
    def test_untouched_stub_is_not_attempted(self, name):
        result = check(name, stub_function(name))
        assert (result.outcome, result.mistake) == ("not attempted", None)

    @every_exercise
    def test_stub_has_the_signature_and_the_task_and_nothing_of_the_answer(self, name):
        source, reference = stub(name), EXERCISES[name].reference
        made = stub_function(name)
        assert made.__doc__ == reference.__doc__
        assert (
            made.__code__.co_varnames
            == reference.__code__.co_varnames[: reference.__code__.co_argcount]
        )
        assert source.endswith('"""\n    raise NotImplementedError("your turn")')
        assert solution(name).source.startswith(source.rpartition("\n")[0])

    @pytest.mark.parametrize(
        ("name", "answer"), ANSWERS, ids=lambda v: getattr(v, "__name__", v)
    )
    def test_right_answers_are_correct(self, name, answer):
        result = check(name, answer)
        assert (result.outcome, result.mistake) == ("correct", None), result

    @pytest.mark.parametrize(
        ("name", "mistake"), MISTAKES, ids=lambda v: getattr(v, "id", v)
    )
    def test_known_mistakes_get_their_own_diagnosis(self, name, mistake):
        result = check(name, mistake.function)
        assert result.mistake == mistake.id, result
        assert mistake.sentence in result.message
        assert result.outcome in ("incorrect", "cannot be checked")
        if result.outcome == "cannot be checked":
            reasons = ("has shape", "has dtype", "raised ValueError")
            assert any(reason in result.message for reason in reasons)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_no_two_mistakes_look_alike(self, name):
        exercise = EXERCISES[name]
        for one, other in itertools.combinations(exercise.mistakes, 2):
            pairs = zip(mistaken(exercise, one), mistaken(exercise, other), strict=True)
            assert not all(
                type(a) is type(b) is tuple and agree(a, b) for a, b in pairs
            ), (one.id, other.id)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_cases_are_small_and_telling(self, name):
        exercise = EXERCISES[name]
        assert len(exercise.cases) >= 2
        assert len({case.name for case in exercise.cases}) == len(exercise.cases)
        # A note says what sets its case apart, so no other case may have it too.
        notes = [case.note for case in exercise.cases if case.note]
        assert len(set(notes)) == len(notes)
        for case, right in zip(exercise.cases, expectations(exercise), strict=True):
            arrays = [arg for arg in case.args if isinstance(arg, np.ndarray)]
            assert all(
                array.dtype == np.float64 and array.size <= 200 for array in arrays
            )
            assert all(
                np.isfinite(output.values).all() and any(output.values)
                for output in right
            )
        # The same answer cannot be right on two cases: M, D and ε change from one to the next.
        assert len(set(expectations(exercise))) == len(exercise.cases)

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_a_test_can_tell_each_wrong_implementation(self, name):
        exercise = EXERCISES[name]
        assert len(exercise.correct) >= 2
        assert len(exercise.mutants) >= 3
        for weak in exercise.mistakes:
            assert check(name, weak.function).outcome == "incorrect"

    @every_exercise
    def test_the_answer_may_print_and_still_passes(self, name, capsys):
        def chatty(*args):
            print("x" * 100_000)
            return EXERCISES[name].reference(*args)

        assert check(name, chatty).outcome == "correct"
        assert "[the rest of the output is not shown]" in capsys.readouterr().out


class TestInterface:
    def test_unknown_id_lists_near_ones(self):
        with pytest.raises(
            ValueError, match=r"'bakward-dx'; did you mean one of .*\"backward-dx\""
        ):
            check("bakward-dx", np.sum)
        with pytest.raises(ValueError, match="forward-standardize"):
            hint("???")
        with pytest.raises(ValueError, match="no exercise has the id 3"):
            solution(3)

    def test_the_result_of_a_call_instead_of_a_function(self):
        result = check("forward-standardize", np.ones(3))
        assert result.outcome == "cannot be checked"
        assert 'check("forward-standardize", standardize)' in result.message
        assert "ndarray" in result.message

    def test_hints_come_one_by_one(self):
        total = len(EXERCISES["backward-dx"].hints)
        texts = [repr(hint("backward-dx", n)) for n in range(1, total + 1)]
        assert repr(hint("backward-dx")) == texts[0]
        assert len(set(texts)) == total
        assert 'hint("backward-dx", 2)' in texts[0]
        assert 'solution("backward-dx")' in texts[-1]
        for wrong in (0, total + 1, "2", None):
            with pytest.raises(ValueError, match=f"hints 1 to {total}"):
                hint("backward-dx", wrong)

    def test_the_first_line_of_a_hint_gives_nothing_away(self):
        first, _, rest = hint("backward-dx")._repr_html_().partition("\n")
        assert first == "<!-- A hint: click to read it. -->"
        assert rest.startswith('<div class="bn-hint"><p><strong>Hint 1 of')

    def test_solution_is_the_source_in_the_file(self):
        shown = solution("forward-standardize")
        path = ROOT / "src/bnbook/exercises/foundations/forward_standardize.py"
        assert repr(shown) in path.read_text(encoding="utf-8")
        assert shown._repr_markdown_().startswith("```python\ndef standardize(")
        assert EXERCISES["forward-standardize"].why in shown._repr_markdown_()

    def test_result_reads_the_same_in_text_and_html(self):
        message = "`x` < 3 & <b>\nsecond"
        result = Result("some-id", "cannot be checked", message)
        assert repr(result) == "! some-id: cannot be checked\n`x` < 3 & <b>\nsecond"
        html = result._repr_html_()
        assert 'class="bn-result bn-result--cannot-be-checked"' in html
        assert "<p><code>x</code> &lt; 3 &amp; &lt;b&gt;</p><p>second</p>" in html
        assert "style" not in html
        assert "color" not in html

    def test_same_answer_same_words(self):
        def off(x, eps):
            return x + eps

        assert check("forward-standardize", off) == check("forward-standardize", off)

    def test_a_reference_without_docstring_makes_no_stub(self):
        def silent(x):
            return x

        with pytest.raises(ValueError, match="docstring"):
            stub_source(silent)

    def test_descriptions_that_could_not_be_diagnosed_are_refused(self):
        exercise = EXERCISES["forward-standardize"]
        shared = {k: getattr(exercise, k) for k in exercise.__dataclass_fields__}

        def twice(x, eps):
            """You do it twice."""

        with pytest.raises(ValueError, match="two mistakes share an id"):
            FunctionExercise(**shared | {"mistakes": variants(twice, twice)})
        with pytest.raises(ValueError, match="level"):
            FunctionExercise(**shared | {"level": "easy"})

        def harmless(x, eps):
            """You do nothing wrong."""
            return exercise.reference(x, eps)

        with pytest.raises(
            ValueError, match="the known mistake harmless returns nothing wrong"
        ):
            prepare(FunctionExercise(**shared | {"mistakes": variants(harmless)}))


def standardize(x, eps):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


def verdict(function, **options):
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        result = check("forward-standardize", function, **options)
    assert not leaked, leaked
    return result


class TestWaysOfWriting:
    """An answer may be any callable, and be written in any way."""

    def test_lambda_partial_callable_object_and_decorated(self):
        class Standardize:
            def __call__(self, x, eps):
                return standardize(x, eps)

        @functools.lru_cache(maxsize=1)
        def mean():
            return np.mean

        @functools.wraps(standardize)
        def wrapped(*args, **kwargs):
            return standardize(*args, **kwargs)

        for answer in (
            lambda x, eps: (x - mean()(x, 0)) / (np.var(x, 0) + eps) ** 0.5,
            functools.partial(lambda y, x, eps: standardize(x, eps), None),
            Standardize(),
            Standardize().__call__,
            wrapped,
        ):
            assert verdict(answer).outcome == "correct"

    def test_views_and_fortran_order(self):
        assert (
            verdict(lambda x, eps: np.asfortranarray(standardize(x, eps))).outcome
            == "correct"
        )
        assert (
            verdict(lambda x, eps: standardize(x, eps)[::-1][::-1]).outcome == "correct"
        )

    def test_a_list_may_stand_for_a_tuple(self):
        reference = EXERCISES["forward-identity"].reference
        result = check("forward-identity", lambda x, eps: list(reference(x, eps)))
        assert result.outcome == "correct"

    @pytest.mark.parametrize("kind", [int, float, np.int64])
    def test_a_whole_number_may_be_a_numpy_integer(self, kind):
        reference = EXERCISES["cost-flops"].reference
        result = check("cost-flops", lambda *args: kind(reference(*args)))
        assert result.outcome == "correct"

    @pytest.mark.parametrize("kind", [np.int64, np.int8])
    def test_whole_numbers_may_stand_for_floats(self, kind):
        def answer(gamma, beta, mean, std):
            return mean - beta * std / gamma, np.where(gamma > 0, 1, -1).astype(kind)

        assert check("binary-fold", answer).outcome == "correct"
        reference = EXERCISES["deploy-dot"].reference
        result = check("deploy-dot", lambda *args: reference(*args).astype(kind))
        assert result.outcome == "correct"
        result = check("binary-fold", lambda *args: answer(*args)[::-1])
        assert "right but in another order" in result.message

    def test_whole_numbers_that_cut_fractions_off_are_told_so(self):
        def answer(w, factor):
            alpha = np.zeros(len(w), dtype=int)
            alpha[:] = EXERCISES["ternary-scale"].reference(w, factor)
            return alpha

        result = check("ternary-scale", answer)
        assert result.outcome == "incorrect"
        assert "has dtype int64, which holds no fractions" in result.message
        wrong = check("deploy-dot", lambda p, q, length: (p @ q.T).astype(int))
        assert wrong.mistake == "both-one"
        assert "fractions" not in wrong.message

    def test_a_number_may_be_a_float_or_a_numpy_number(self):
        reference = EXERCISES["forward-degenerate"].reference
        for kind in (float, np.float64, np.array):
            assert (
                check(
                    "forward-degenerate", lambda *a, kind=kind: kind(reference(*a))
                ).outcome
                == "correct"
            )


class TestStudentsWhoGoWrong:
    @pytest.mark.parametrize(
        ("value", "there", "absent"),
        [
            (np.nan, "0/0 or a root of a negative number", "overflow"),
            (np.inf, "an overflow, a logarithm of 0 or a division by 0", "0/0"),
            (-np.inf, "an overflow, a logarithm of 0 or a division by 0", "0/0"),
        ],
    )
    def test_numbers_that_are_not_finite_get_their_own_causes(
        self, value, there, absent
    ):
        message = verdict(lambda x, eps: np.full(x.shape, value)).message
        assert there in message
        assert absent not in message

    def test_raises(self):
        def broken(x, eps):
            scale = 1
            return scale + undefined  # noqa: F821

        result = verdict(broken)
        assert result.outcome == "cannot be checked"
        line = broken.__code__.co_firstlineno + 2
        assert f"NameError in line {line}, `return scale + undefined" in result.message
        assert "name 'undefined' is not defined" in result.message

    def test_raises_in_a_library_names_the_students_line(self):
        def broken(x, eps):
            return np.linalg.inv(x)

        line = broken.__code__.co_firstlineno + 1
        assert (
            f"LinAlgError in line {line}, `return np.linalg.inv(x)`"
            in verdict(broken).message
        )

    def test_not_implemented_elsewhere_is_not_a_stub(self):
        calls = []

        def half_done(x, eps):
            calls.append(None)
            if len(calls) > 1:
                raise NotImplementedError
            return standardize(x, eps)

        assert verdict(half_done).outcome == "cannot be checked"

        def from_a_library(x, eps):
            return torch.nn.Module()(torch.tensor(x))

        result = verdict(from_a_library)
        assert result.outcome == "cannot be checked"
        assert "NotImplementedError in line" in result.message

    def test_exception_that_cannot_be_described(self):
        class Nasty(Exception):
            def __str__(self):
                raise RuntimeError

        def broken(x, eps):
            raise Nasty

        assert "raised Nasty in line" in verdict(broken).message

    def test_wrong_number_of_parameters(self):
        result = verdict(lambda x: x)
        assert result.outcome == "cannot be checked"
        assert "takes 1 positional argument but 2 were given" in result.message
        assert "`standardize(x, eps)`" in result.message

    @pytest.mark.parametrize(
        "error", [SystemExit, GeneratorExit, MemoryError, StopIteration]
    )
    def test_leaves_in_unusual_ways(self, error):
        def leave(x, eps):
            raise error

        result = verdict(leave)
        assert result.outcome == "cannot be checked"
        assert error.__name__ in result.message

    def test_sys_exit(self):
        assert verdict(lambda x, eps: sys.exit(1)).outcome == "cannot be checked"

    def test_recursion(self):
        def deeper(x, eps):
            return deeper(x, eps)

        assert "RecursionError" in verdict(deeper).message

    def test_a_real_interrupt_by_the_user_passes_through(self):
        def interrupted(x, eps):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check("forward-standardize", interrupted)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda z: None,
                "returned None where `z_hat` was expected. A function without `return`",
            ),
            (lambda z: z.tolist(), "returned a list of length 6"),
            (
                lambda z: (z, z),
                "returned a tuple of length 2 where `z_hat` was expected. Return `z_hat` alone",
            ),
            (
                torch.tensor,
                "returned a Tensor where `z_hat` was expected. Return a NumPy array",
            ),
            (lambda z: z.view(np.matrix), "subclass of np.ndarray"),
            (np.ma.masked_invalid, "a MaskedArray"),
            (lambda z: iter(z), "returned an iterator"),
            (lambda z: "correct", "returned a str"),
            (lambda z: True, "returned a bool"),
            (lambda z: z[:, :2], "`z_hat` has shape (6, 2), expected (6, 3)"),
            (
                lambda z: z.T,
                "`z_hat` has shape (3, 6), expected (6, 3). Is it transposed?",
            ),
            (lambda z: z[None], "Only axes of length 1 differ"),
            (
                lambda z: z.sum(),
                "`z_hat` has shape (), expected (6, 3). It is a single number",
            ),
            (lambda z: 1.0, "It is a single number"),
            (lambda z: np.zeros((0, 3)), "`z_hat` has shape (0, 3)"),
            (
                lambda z: z.astype(np.float32),
                "`z_hat` has dtype float32, expected float64",
            ),
            (lambda z: z.astype(">f8"), "`z_hat` has dtype >f8, expected float64"),
            (lambda z: z.astype(np.longdouble), "expected float64"),
            (
                lambda z: z.astype(complex),
                "`z_hat` has dtype complex128, expected float64: return real",
            ),
            (lambda z: z.astype(object), "`z_hat` has dtype object, expected float64"),
            (lambda z: np.broadcast_to(z, (200_000, 6, 3)), "has shape (200000, 6, 3)"),
        ],
    )
    def test_returns_something_that_cannot_be_compared(self, change, words):
        result = verdict(lambda x, eps: change(standardize(x, eps)))
        assert result.outcome == "cannot be checked"
        assert words in result.message

    @pytest.mark.parametrize("kind", [Fraction, Decimal, sympy.Float])
    def test_an_exact_number_is_to_be_converted(self, kind):
        reference = EXERCISES["binary-parity"].reference
        result = check("binary-parity", lambda fan_in: kind(reference(fan_in)))
        assert result.outcome == "cannot be checked"
        assert "return `float(share)`" in result.message

    def test_a_mask_is_to_be_converted(self):
        result = check("ternary-levels", lambda x, delta: abs(x) > delta)
        assert "has dtype bool, expected float64: return numbers" in result.message
        assert "`.astype(float)`" in result.message

    def test_tuples_are_counted(self):
        for answer, words in [
            (
                lambda x, eps: [x.mean(0)] * 3,
                "a list of length 3; return the tuple `(gamma, beta)`",
            ),
            (lambda x, eps: (x.mean(0),), "a tuple of length 1; return 2 arrays"),
            (
                lambda x, eps: np.stack([x.mean(0), x.mean(0)]),
                "an ndarray; return the tuple",
            ),
            (lambda x, eps: (x.mean(0), None), "returned None where"),
        ]:
            result = check("forward-identity", answer)
            assert result.outcome == "cannot be checked"
            assert words in result.message

    def test_coroutines_and_generators(self):
        async def later(x, eps):
            return standardize(x, eps)

        def one_by_one(x, eps):
            yield standardize(x, eps)

        assert "a coroutine" in verdict(later).message
        assert "a generator" in verdict(one_by_one).message

    def test_nan_and_infinity_are_located(self):
        def one_nan(x, eps):
            out = standardize(x, eps)
            out[2, 1] = np.nan
            return out

        result = verdict(one_nan)
        assert (result.outcome, result.mistake) == ("incorrect", None)
        assert "`z_hat[2, 1]` should be" in result.message
        assert "yours is nan. 1 of 18 entries are NaN" in result.message
        assert "infinite" in verdict(lambda x, eps: x / 0).message

    def test_division_warnings_do_not_leak(self):
        assert verdict(lambda x, eps: np.sqrt(-np.abs(x))).outcome == "incorrect"

    def test_warnings_turned_into_errors_by_the_student_are_theirs(self):
        def strict(x, eps):
            with np.errstate(all="raise"):
                return x / 0

        assert "FloatingPointError" in verdict(strict).message

    def test_input_changed_in_place(self):
        def in_place(x, eps):
            x -= x.mean(axis=0)
            x /= np.sqrt((x**2).mean(axis=0) + eps)
            return x

        result = verdict(in_place)
        assert result.outcome == "incorrect"
        assert (
            "The returned values are right. Your function changes its argument `x` in place"
            in result.message
        )
        assert "`x /= …`" in result.message
        assert (
            verdict(standardize).outcome == "correct"
        )  # the cases themselves are as they were

    def test_an_argument_returned_as_it_is(self):
        def lazy(mean, var, x, momentum):
            if momentum == 0:
                return mean, var
            return EXERCISES["forward-running"].reference(mean, var, x, momentum)

        result = check("forward-running", lazy)
        assert (result.outcome, result.mistake) == ("incorrect", None)
        assert "returns `running_mean` and `running_var` itself" in result.message
        assert "Case “momentum 0”" in result.message
        copied = check("forward-running", lambda *a: [v.copy() for v in lazy(*a)])
        assert copied.outcome == "correct"

    def test_input_reshaped_or_cleared_in_place(self):
        def reshaped(x, eps):
            out = standardize(x, eps)
            x.shape = (x.size,)
            return out

        def cleared(x, eps):
            out = standardize(x, eps)
            x[...] = np.nan
            return out

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert verdict(reshaped).outcome == "incorrect"
        assert verdict(cleared).outcome == "incorrect"

    def test_single_precision_inside(self):
        def single(x, eps):
            return standardize(x.astype(np.float32), np.float32(eps)).astype(np.float64)

        result = verdict(single)
        assert result.outcome == "incorrect"
        assert "single precision" in result.message

    def test_finite_differences_are_no_gradient(self):
        def numerical(dy, x, gamma, eps):
            out = np.zeros_like(x)
            for index in np.ndindex(x.shape):
                step = np.zeros_like(x)
                step[index] = 1e-6
                up, down = (
                    (dy * gamma * standardize(x + s, eps)).sum() for s in (step, -step)
                )
                out[index] = (up - down) / 2e-6
            return out

        result = check("backward-dx", numerical)
        assert result.outcome == "incorrect"
        assert "finite difference" in result.message


class TestTimeLimit:
    def test_endless_loop(self):
        def endless(x, eps):
            while True:
                pass

        result = verdict(endless, seconds=0.2)
        assert result.outcome == "cannot be checked"
        assert "did not finish within 0.2 s" in result.message

    def test_endless_loop_that_swallows_everything(self):
        def stubborn(x, eps):
            while True:
                try:
                    sum(range(50))
                except BaseException:
                    pass

        assert "did not finish" in verdict(stubborn, seconds=0.2).message

    def test_interruption_dressed_as_another_error(self):
        def dressed(x, eps):
            try:
                while True:
                    pass
            except BaseException as error:
                raise ValueError("not my fault") from error

        assert "did not finish" in verdict(dressed, seconds=0.2).message

    def test_interruption_turned_into_an_answer(self):
        def caught(x, eps):
            try:
                while True:
                    pass
            except BaseException:
                return standardize(x, eps)

        assert "did not finish" in verdict(caught, seconds=0.2).message

    def test_all_cases_share_the_limit(self):
        def slow(x, eps):
            end = time.monotonic() + 0.15
            while time.monotonic() < end:
                pass
            return standardize(x, eps)

        assert verdict(slow, seconds=0.3).outcome == "cannot be checked"
        assert verdict(slow, seconds=10).outcome == "correct"

    def test_nothing_is_interrupted_afterwards(self):
        for _ in range(50):
            verdict(lambda x, eps: [None for _ in iter(int, 1)], seconds=0.002)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass

    @pytest.mark.parametrize("install", ["setprofile", "settrace"])
    def test_a_profiler_or_a_debugger_may_watch(self, install):
        code = (
            "import sys; from bnbook.exercises import check\n"
            "def endless(x, eps):\n"
            "    while True: pass\n"
            f"sys.{install}(lambda *args: None)\n"
            "for seconds in (0.2, 0.2): print(check('forward-standardize', endless, seconds=seconds).outcome)\n"
            "print(check('forward-standardize', lambda x, eps: x).outcome)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        assert run.stdout.splitlines() == [
            "cannot be checked",
            "cannot be checked",
            "incorrect",
        ]

    def test_a_test_that_never_ends(self):
        def endless(batch_norm):
            while True:
                batch_norm(np.ones((3, 2)), np.ones(2), np.ones(2), 0.1)

        result = check("forward-property", endless, seconds=0.2)
        assert result.outcome == "cannot be checked"
        assert "did not finish" in result.message

    def test_a_loop_inside_hypothesis(self):
        from hypothesis import given
        from hypothesis import strategies as st

        def endless(batch_norm):
            @given(st.integers())
            def inner(n):
                while True:
                    pass

            inner()

        message = check("forward-property", endless, seconds=1).message
        assert "did not finish" in message
        assert "smaller arrays" in message


class TestCheats:
    """Nothing wrong is called correct, whatever it pretends."""

    def test_objects_that_agree_with_everything(self):
        class Agreeable:
            shape, dtype, size, ndim = (6, 3), np.dtype(float), 18, 2
            __array_priority__ = 1e9

            def __eq__(self, other):
                return True

            __hash__ = None

            def __array__(self, *args, **kwargs):
                return np.zeros((6, 3))

            def __getattr__(self, name):
                return lambda *args, **kwargs: self

        class AgreeableArray(np.ndarray):
            def __eq__(self, other):
                return True

            __hash__ = None

            def __sub__(self, other):
                return np.zeros_like(other)

            def __array_ufunc__(self, *args, **kwargs):
                return np.True_

        class AgreeableFloat(float):
            def __eq__(self, other):
                return True

            __hash__ = None

        assert verdict(lambda x, eps: Agreeable()).outcome == "cannot be checked"
        assert (
            verdict(lambda x, eps: x.view(AgreeableArray)).outcome
            == "cannot be checked"
        )
        assert (
            verdict(
                lambda x, eps: np.full(x.shape, AgreeableFloat(), dtype=object)
            ).outcome
            != "correct"
        )
        assert (
            check("forward-degenerate", lambda *args: AgreeableFloat()).outcome
            == "cannot be checked"
        )

    def test_the_elements_of_an_object_array_are_not_asked(self):
        asked = []

        class Curious:
            def __float__(self):
                asked.append(self)
                return 0.0

        assert (
            verdict(lambda x, eps: np.full(x.shape, Curious())).outcome
            == "cannot be checked"
        )
        assert not asked

    def test_a_huge_array_is_not_copied(self):
        (output,) = observe(np.broadcast_to(1.0, (10_000, 10_000)), ("z_hat",), 1e-11)
        assert (output.shape, output.values) == ((10_000, 10_000), None)

    def test_patched_numpy(self, monkeypatch):
        def always(*args, **kwargs):
            return True

        for name in (
            "allclose",
            "isclose",
            "array_equal",
            "abs",
            "max",
            "all",
            "isfinite",
            "asarray",
        ):
            monkeypatch.setattr(np, name, always)
        monkeypatch.setattr(np.testing, "assert_allclose", always)
        assert verdict(lambda x, eps: x).outcome == "incorrect"

    def test_numpy_patched_or_emptied_by_the_answer(self, monkeypatch):
        for name in ("allclose", "isclose", "sqrt", "mean", "abs"):
            monkeypatch.setattr(np, name, getattr(np, name))  # restored afterwards

        def vandal(x, eps):
            for name in ("allclose", "isclose", "mean", "abs"):
                vars(np).pop(name, None)
            np.sqrt = lambda value: value
            return x / np.sqrt(x.var(axis=0) + eps)

        assert verdict(vandal).outcome == "incorrect"
        other = check(
            "backward-dx",
            lambda dy, x, gamma, eps: gamma * dy / np.sqrt(x.var(axis=0) + eps),
        )
        assert other.outcome == "incorrect"

    def test_what_is_expected_is_fixed_at_import(self):
        code = (
            "import numpy as np; from bnbook.exercises import check; np.sqrt = lambda v: v\n"
            "answer = lambda x, eps: (x - x.mean(0)) / np.sqrt(x.var(0) + eps)\n"
            "print(check('forward-standardize', answer).mistake)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert run.stdout == "missing-root\n"

    def test_right_on_all_cases_but_one(self):
        cases = EXERCISES["forward-standardize"].cases
        for index in range(len(cases)):
            calls = itertools.count()

            def almost(x, eps, calls=calls, index=index):
                return standardize(x, eps) + (1e-9 if next(calls) == index else 0)

            result = verdict(almost)
            assert result.outcome == "incorrect"
            assert f"Case “{cases[index].name}”" in result.message

    def test_a_shared_buffer_overwritten_later(self):
        buffer = np.zeros(1000)

        def reuse(x, eps):
            out = buffer[: x.size].reshape(x.shape)
            out[...] = 0
            return out

        assert verdict(reuse).outcome == "incorrect"

    def test_one_wrong_entry_is_enough(self):
        def one_off(x, eps):
            out = standardize(x, eps)
            out[-1, -1] *= 1 + 1e-8
            return out

        assert verdict(one_off).outcome == "incorrect"

    def test_global_state_is_neither_read_nor_left_behind(self):
        def meddler(x, eps):
            np.random.seed(0)  # noqa: NPY002
            np.seterr(all="raise")
            warnings.simplefilter("error")
            sys.stdout = None
            return standardize(x, eps)

        before = np.geterr(), list(warnings.filters), sys.stdout
        assert check("forward-standardize", meddler).outcome == "correct"
        assert (np.geterr(), list(warnings.filters), sys.stdout) == before

        def drawn(x, eps):
            return np.random.rand(*x.shape)  # noqa: NPY002

        assert check("forward-standardize", drawn).outcome == "incorrect"

    def test_variables_of_the_caller_are_not_read(self):
        standardize = "not the function that is passed"
        assert check("forward-standardize", lambda x, eps: x).outcome == "incorrect"
        assert standardize


class TestUnlistedMistakes:
    """A mistake that no list holds is still described."""

    @pytest.mark.parametrize(
        ("name", "answer", "words"),
        [
            (
                "forward-standardize",
                lambda x, eps: -standardize(x, eps),
                "Every entry of `z_hat` is −1 times the right value",
            ),
            (
                "forward-standardize",
                lambda x, eps: standardize(x, eps) + 3,
                "Every entry of `z_hat` is too large by the same 3",
            ),
            (
                "forward-standardize",
                lambda x, eps: standardize(x, eps) + x[0],
                "Each feature of `z_hat` is off by its own constant",
            ),
            (
                "forward-standardize",
                lambda x, eps: standardize(x, 2 * eps),
                "Each feature of `z_hat` is off by its own factor",
            ),
            (
                "forward-standardize",
                lambda x, eps: x.copy(),
                "`z_hat` is the argument `x`, unchanged",
            ),
            ("forward-standardize", lambda x, eps: 0 * x, "`z_hat` is zero everywhere"),
            (
                "forward-batch-norm",
                lambda x, g, b, eps: abs(g) * standardize(x, eps) + b,
                "`y` is wrong in feature 1 only, of 3",
            ),
            (
                "backward-dgamma-dbeta",
                lambda dy, z: ((dy * z).sum(0), dy.mean(0)),
                "Every entry of `dbeta` is 1/M (here 1/6) times the right value.\n`dgamma`: right.",
            ),
            (
                "backward-eval",
                lambda dy, x, g, m, v, e: (
                    g / np.sqrt(v + e) * dy,
                    dy.sum(0),
                    (dy * (x - m) / np.sqrt(v + e)).sum(0),
                ),
                "The arrays are right but in another order: return (dx, dgamma, dbeta)",
            ),
            (
                "forward-fold",
                lambda w, b, g, beta, m, v, e: (
                    (w * (g / np.sqrt(v + e))[:, None]).T,
                    g / np.sqrt(v + e) * (b - m) + beta,
                ),
                "`weight` is the transpose of the right result",
            ),
            (
                "backward-dx",
                lambda dy, x, gamma, eps: gamma * dy,
                "“6 examples, 3 features”), your result is that of a known mistake: You treat μ and σ² as",
            ),
            (
                "scale-invariance-sphere",
                lambda u, g, norm2, rate, decay: (
                    (u - rate * g / norm2) / np.linalg.norm(u - rate * g / norm2),
                    (1 - rate * decay) * (norm2 + rate**2 * g @ g / norm2),
                ),
                "Up to a factor (0.92 for `norm2` on “three weights”), your result is that of a known mistake",
            ),
            (
                "forward-running",
                lambda m, v, x, p: (
                    m * (1 - p) + p * x.mean(0),
                    v + (p > 0) * 0.1 * (x.var(0, ddof=1) - v),
                ),
                "Right on “5 examples, 3 features”, “momentum 0”. Wrong on “two examples, momentum 0.3”, ",
            ),
            (
                "forward-degenerate",
                lambda a, count, eps: (
                    2 * EXERCISES["forward-degenerate"].reference(a, count, eps)
                ),
                "`z_hat` is 2 times the right value",
            ),
        ],
    )
    def test_its_pattern_is_named(self, name, answer, words):
        result = check(name, answer)
        assert (result.outcome, result.mistake) == ("incorrect", None)
        assert words in result.message

    def test_the_note_of_a_case_is_shown_if_that_case_alone_fails(self):
        reference = EXERCISES["forward-degenerate"].reference

        def small(a, count, eps):
            return reference(a, count, eps) + (abs(a) < 1)

        def integers(a, count, eps):
            x = np.zeros(count, dtype=int)
            x[0] = a
            return (x[0] - x.mean()) / np.sqrt(x.var() + eps)

        message = check("forward-degenerate", small).message
        assert "What differs here: ε is larger than σ²" in message
        message = check("forward-degenerate", integers).message
        assert "What differs here" not in message
        assert "Wrong on “a small next to √ε”, “two values”." in message

        def five(x, gamma, eps):
            z = (x - x.mean()) / np.sqrt(x.var() + eps)
            root = gamma / np.sqrt(x.var() + eps)
            return root * (np.eye(5) - 0.2 - 0.2 * np.outer(z, z))

        message = check("backward-jacobian", five).message
        assert "What differs here" not in message
        assert "Wrong on “4 values, γ < 0”, “2 values”." in message
        assert (
            "On “2 values”, x (2,), gamma = 2.2, eps = 0.5, your function raises"
            in (message)
        )
        assert "NumPy lines shapes up from the right" in message

    def test_a_factor_that_contradicts_a_known_mistake_is_not_its_likeness(self):
        def weighted(mean, var, x, p):
            factor = np.sqrt(len(x) / (len(x) - 1)) ** 2
            kept = (1 - p) * var + p * x.var(0)
            return (1 - p) * mean + p * x.mean(0), kept * factor + 0 * p

        result = check("forward-running", weighted)
        assert result.mistake == "past-corrected-too"
        exercise = EXERCISES["forward-batch-norm"]
        kept = [m for m in exercise.mistakes if m.id != "only-normalized"]
        shared = {k: getattr(exercise, k) for k in exercise.__dataclass_fields__}
        unaware = FunctionExercise(**shared | {"mistakes": tuple(kept)})
        bare = judge(unaware, lambda x, g, b, e: standardize(x, e), 5.0)
        assert bare.mistake is None
        assert "known mistake" not in bare.message

    def test_equal_numbers_are_no_likeness(self):
        def constant(x, gamma, eps):
            return np.full(len(x), 3 * gamma**2 / (x.var() + eps) / len(x))

        result = check("variance-norm", constant)
        assert result.mistake is None
        assert "known mistake" not in result.message

    def test_an_overflow_is_told_by_what_sets_its_case_apart(self):
        def share(k):
            ways = float(math.factorial(k)) / float(math.factorial(k // 2))
            ways /= float(math.factorial(k - k // 2))
            return (1 + k % 2) * ways / 2**k

        message = check("binary-parity", share).message
        assert "raised OverflowError" in message
        assert "What differs here: K is large" in message

    def test_arrays_in_another_order_are_told_by_their_shapes(self):
        reference = EXERCISES["forward-fold"].reference
        result = check("forward-fold", lambda *a: reference(*a)[::-1])
        assert result.outcome == "incorrect"
        assert "right but in another order: return (weight, bias)" in result.message

    def test_the_first_deviation_is_located(self):
        def off(x, eps):
            out = standardize(x, eps)
            out[1, 2] += 0.5
            out[4, 0] += 0.25
            return out

        expected = standardize(*EXERCISES["forward-standardize"].cases[0].args)[1, 2]
        message = verdict(off).message
        assert "Case “6 examples, 3 features”: x (6, 3), eps = 0.1." in message
        assert (
            f"`z_hat[1, 2]` should be {expected:.6g}, yours is {expected + 0.5:.6g}"
            in message
        )
        assert "2 of 18 entries are wrong" in message


def one_batch():
    rng = np.random.default_rng(5)
    return (
        rng.normal(1.0, 2.0, size=(5, 3)),
        np.array([1.5, -0.5, 2.0]),
        np.array([0.5, -1.0, 2.0]),
        0.5,
    )


def test_raising_differently_is_another_mistake():
    mistake = next(
        m
        for m in EXERCISES["forward-standardize"].mistakes
        if m.id == "wrong-axis-unaligned"
    )

    def answer(x, eps):
        if x.shape[0] != x.shape[1]:
            raise KeyError
        return mistake.function(x, eps)

    assert verdict(mistake.function).mistake == mistake.id
    assert verdict(answer).mistake is None


class TestPropertyTests:
    def test_a_failure_without_a_call_does_not_count(self):
        def hopeless(batch_norm):
            raise AssertionError

        result = check("forward-property", hopeless)
        assert result.outcome == "incorrect"
        assert "never calls its argument `batch_norm`" in result.message

    def test_a_memory_is_no_test(self):
        calls = itertools.count()

        def counts(batch_norm):
            batch_norm(*one_batch())
            assert next(calls) < 3

        result = check("forward-property", counts)
        assert result.outcome == "incorrect"
        assert "must not depend on earlier calls" in result.message

    def test_rejecting_everything(self):
        def gloomy(batch_norm):
            batch_norm(*one_batch())
            raise AssertionError("no")

        result = check("forward-property", gloomy)
        assert result.outcome == "incorrect"
        assert "rejects a correct implementation" in result.message
        assert "AssertionError in line" in result.message

    def test_unseeded_numbers_make_no_random_verdict(self):
        def loose(batch_norm):
            x = np.random.randn(10, 3)  # noqa: NPY002
            y = batch_norm(x, np.ones(3), np.zeros(3), random.choice([1e-5, 2e-5]))
            assert np.allclose(y.std(0), 1)

        np.random.seed(5)  # noqa: NPY002
        random.seed(5)
        before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        results = {check("forward-property", loose) for _ in range(3)}
        after = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
        assert before == after
        assert len(results) == 1
        message = results.pop().message
        assert "tighter than rounding" not in message
        assert "unseeded" not in message

    def test_data_that_change_from_run_to_run_are_named(self):
        draws = itertools.count()

        def unlucky(batch_norm):
            n = next(draws)
            x, gamma, beta, eps = one_batch()
            batch_norm(x + n, gamma, beta, eps)
            assert n not in (1, 5)

        result = check("forward-property", unlucky)
        assert result.outcome == "incorrect"
        assert "Your test draws unseeded numbers" in result.message
        assert "tighter than rounding" not in result.message

        def sound(batch_norm):
            x, gamma, beta, eps = one_batch()
            x = x + next(draws)
            expected = gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta
            np.testing.assert_allclose(batch_norm(x, gamma, beta, eps), expected)

        result = check("forward-property", sound)
        assert result.outcome == "correct"
        assert "Your test draws unseeded numbers" in result.message

    def test_a_weak_test_is_named_only_if_its_calls_bear_it_out(self):
        def sums(backward, dy):
            rng = np.random.default_rng(4)
            x = rng.normal(size=(5, 3))
            dx, _, dbeta = backward(dy, x, np.array([1.5, -0.5, 2.0]), 0.5)
            np.testing.assert_allclose(dx.sum(0), 0, atol=1e-12)
            np.testing.assert_allclose(dbeta, dy.sum(0), rtol=1e-10)

        dy = np.random.default_rng(6).normal(size=(5, 3))
        result = check("backward-property", lambda b: sums(b, dy))
        assert result.mistake == "only-the-sum-of-dx-and-dbeta"
        result = check("backward-property", lambda b: sums(b, np.ones((5, 3))))
        assert result.mistake == "upstream-of-ones"

    def test_tolerance_below_rounding(self):
        x, gamma, beta, eps = one_batch()
        expected = gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta

        def strict(batch_norm):
            assert np.abs(batch_norm(x, gamma, beta, eps) - expected).max() == 0

        result = check("forward-property", strict)
        assert result.mistake == "exact-equality"
        assert "Your tolerance is tighter than rounding" in result.message

    def test_demanding_more_than_the_task_is_no_matter_of_rounding(self):
        def normal(draw):
            weights = draw(np.random.default_rng(0), 300, 80) * np.sqrt(150)
            assert abs((weights**4).mean() - 3) < 0.3

        message = check("variance-property", normal).message
        assert "rounding" not in message
        assert "your test demands more than the task does" in message

    def test_a_sample_too_small_is_a_matter_of_chance(self):
        def small(draw):
            weights = draw(np.random.default_rng(0), 8, 3)
            assert abs((weights**2).mean() * 4 - 1) < 0.05

        message = check("variance-property", small).message
        assert "no room for chance" in message
        assert "rounding" not in message

    def test_survivors_are_named(self):
        x, gamma, beta, _ = one_batch()

        def two_holes(batch_norm):
            np.testing.assert_allclose(
                batch_norm(x, gamma, beta, 1e-5).mean(axis=0), beta, atol=1e-9
            )
            y = batch_norm(x, gamma, beta, 0.5)
            np.testing.assert_allclose(
                y.std(axis=0), abs(gamma) * x.std(axis=0) / np.sqrt(x.var(axis=0) + 0.5)
            )

        result = check("forward-property", two_holes)
        assert result.outcome == "incorrect"
        assert "passes 2 of 10 wrong implementations" in result.message
        for mutant in EXERCISES["forward-property"].mutants:
            survives = mutant.id in ("scale-without-sign", "examples-shuffled")
            assert (mutant.sentence in result.message) == survives
        assert result.message.count("\nAnother: ") == 1

    def test_one_survivor_has_no_others(self):
        def one_hole(draw):
            rng = np.random.default_rng(0)
            for fan_in, fan_out in [(300, 80), (80, 300)]:
                scaled = draw(rng, fan_in, fan_out) * np.sqrt(fan_in / 2)
                assert scaled.shape == (fan_in, fan_out)
                assert abs(scaled.mean()) < 0.05
                assert abs((scaled**2).mean() - 1) < 0.1
                assert abs((scaled[:, 1:] * scaled[:, :-1]).mean()) < 0.05

        message = check("variance-property", one_hole).message
        assert message.endswith(
            "Your test passes 1 of 9 wrong implementations: it ignores the generator: every layer of the "
            "same shape gets the same weights."
        )

    def test_many_survivors_are_counted(self):
        message = check("binary-property", lambda rule: None).message
        assert "never calls" in message
        weak = EXERCISES["binary-property"].mistakes[0].function
        message = check("binary-property", weak).message
        total = len(EXERCISES["binary-property"].mutants)
        assert f"Your test passes {total} of {total} wrong implementations." in message
        assert message.count("Another: ") == 2
        assert message.endswith(f"And {total - 3} more.")

    def test_a_returned_truth_value_is_no_assertion(self):
        result = check(
            "forward-property", lambda batch_norm: bool(batch_norm(*one_batch()).any())
        )
        assert result.outcome == "incorrect"
        assert result.mistake == "never-fails"
        assert "returns a bool, which is ignored" in result.message

    def test_crashing_on_a_correct_implementation(self):
        result = check(
            "forward-property", lambda batch_norm: batch_norm(*one_batch()[:3])
        )
        assert result.outcome == "cannot be checked"
        assert "it takes 4 arguments: x, gamma, beta, eps" in result.message
        assert "given a correct implementation" in result.message
        assert (
            "`test_batch_norm(batch_norm)`"
            in check("forward-property", lambda: None).message
        )

    def test_crashing_on_a_wrong_one_is_no_rejection(self):
        def crashes(batch_norm):
            x, gamma, beta, eps = one_batch()
            if abs(batch_norm(x, gamma, beta, eps).mean(axis=0) - beta).max() > 1e-9:
                raise ValueError("wrong mean")

        result = check("forward-property", crashes)
        assert result.outcome == "cannot be checked"
        assert "reject with an AssertionError" in result.message

    def test_keywords_and_groups_of_failures(self):
        reference = EXERCISES["forward-property"].correct[0].function

        def grouped(batch_norm):
            x, gamma, beta, eps = one_batch()
            y = batch_norm(eps=eps, beta=beta, gamma=gamma, x=x)
            failures = [
                AssertionError(str(d))
                for d in range(3)
                if not np.allclose(
                    y[:, d], reference(x, gamma, beta, eps)[:, d], rtol=1e-10
                )
            ]
            if failures:
                raise ExceptionGroup("several", failures)

        assert check("forward-property", grouped).outcome == "correct"

    def test_given_directly_on_the_test(self):
        from hypothesis import given
        from hypothesis import strategies as st

        reference = EXERCISES["forward-property"].correct[0].function

        @given(seed=st.integers(0, 2**32 - 1))
        def holds(batch_norm, seed):
            rng = np.random.default_rng(seed)
            args = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=3), 0.5
            np.testing.assert_allclose(batch_norm(*args), reference(*args), atol=1e-9)

        assert check("forward-property", holds).outcome == "correct"

    def test_the_profile_of_hypothesis_is_put_back(self):
        from hypothesis import settings

        before = settings.get_current_profile_name()
        settings.register_profile("the student's", max_examples=33)
        settings.load_profile("the student's")
        try:
            check("forward-property", lambda batch_norm: None)
            assert settings.get_current_profile_name() == "the student's"
            assert settings().max_examples == 33
        finally:
            settings.load_profile(before)

    def test_the_settings_of_the_students_test_are_put_back(self):
        from hypothesis import given, settings
        from hypothesis import strategies as st

        seen = []

        @settings(max_examples=7, database=None)
        @given(st.integers())
        def holds(n):
            seen.append(n)

        result = check("forward-property", lambda batch_norm: holds())
        assert result.outcome == "incorrect"
        check("forward-property", holds)
        seen.clear()
        holds()
        assert len(seen) <= 7

    def test_prints_are_shown_once(self, capsys):
        def chatty(batch_norm):
            print("hello")
            batch_norm(*one_batch())

        check("forward-property", chatty)
        assert capsys.readouterr().out == "hello\n"

    def test_implementations_carry_no_name(self):
        names = set()

        def curious(batch_norm):
            names.add(batch_norm.__name__)
            names.add(batch_norm.__doc__)
            batch_norm(*one_batch())

        check("forward-property", curious)
        assert names == {"implementation", None}


def load_tool():
    spec = importlib.util.spec_from_file_location(
        "exercises_tool", ROOT / "tools" / "exercises.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool():
    return load_tool()


@pytest.fixture
def book(tmp_path):
    """A book with one exercise notebook."""
    path = tmp_path / "book" / "part" / "exercises.ipynb"
    path.parent.mkdir(parents=True)
    cells = [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {},
            "source": ["Σ: [c](c.ipynb), [w](https://example.org), [h](#here)"],
        },
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": "b",
            "metadata": {"bnbook": {"stub": "backward-dx"}},
            "outputs": [],
            "source": stub("backward-dx").splitlines(keepends=True),
        },
        {
            "cell_type": "code",
            "execution_count": 2,
            "id": "c",
            "metadata": {"jupyter": {"outputs_hidden": True}, "tags": ["hide-cell"]},
            "outputs": [
                {"name": "stdout", "output_type": "stream", "text": ["secret\n"]}
            ],
            "source": ["print('secret')"],
        },
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(load_tool().dump(notebook), encoding="utf-8")
    return tmp_path


class TestTool:
    def test_sync_leaves_a_notebook_in_step_alone(self, tool, book):
        path = book / "book" / "part" / "exercises.ipynb"
        before = path.read_bytes(), path.stat().st_mtime_ns
        assert tool.sync(book) == {}
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before

    def test_sync_mends_the_stub_and_nothing_else(self, tool, book):
        path = book / "book" / "part" / "exercises.ipynb"
        right = path.read_text(encoding="utf-8")
        path.write_text(right.replace("your turn", "my own words"), encoding="utf-8")
        assert tool.drifted(json.loads(path.read_text(encoding="utf-8"))) == [
            "backward-dx"
        ]
        assert tool.sync(book) == {path: ["backward-dx"]}
        assert path.read_text(encoding="utf-8") == right

    def test_work_copies_without_outputs(self, tool, book):
        copied, kept = tool.work(book)
        target = book / "work" / "part" / "exercises.ipynb"
        assert (copied, kept) == ([target], [])
        prose, answer, secret = json.loads(target.read_text(encoding="utf-8"))["cells"]
        assert prose["source"] == [
            "Σ: [c](../../book/part/c.ipynb), [w](https://example.org), [h](#here)"
        ]
        assert "".join(answer["source"]) == stub("backward-dx")
        assert (secret["outputs"], secret["execution_count"]) == ([], None)
        assert secret["metadata"] == {"tags": ["hide-cell"]}

    def test_work_runs_through_without_showing_an_answer(self, tool, book):
        path = book / "book" / "part" / "exercises.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        sources = ['hint("backward-dx", 2)', 'solution("backward-dx")', "hints = 3"]
        notebook["cells"] = [
            {"cell_type": "code", "id": f"{i}", "metadata": {}, "source": [source]}
            for i, source in enumerate(sources)
        ]
        path.write_text(tool.dump(notebook), encoding="utf-8")
        (target,), _ = tool.work(book)
        cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
        assert ["".join(cell["source"]) for cell in cells] == [
            '# hint("backward-dx", 2)',
            '# solution("backward-dx")',
            "hints = 3",
        ]

    def test_work_never_overwrites(self, tool, book):
        target = book / "work" / "part" / "exercises.ipynb"
        target.parent.mkdir(parents=True)
        target.write_text("my answers", encoding="utf-8")
        assert tool.work(book) == ([], [target])
        assert target.read_text(encoding="utf-8") == "my answers"

    def test_commands_say_what_they_did(self, tool, book, capsys, monkeypatch):
        monkeypatch.setattr(tool, "ROOT", book)
        for command, words in [
            ("sync", "every stub cell is what its solution gives"),
            ("work", "copied  work/part/exercises.ipynb"),
            ("work", "kept    work/part/exercises.ipynb"),
        ]:
            assert tool.main([command]) == 0
            assert words in capsys.readouterr().out
        with pytest.raises(SystemExit):
            tool.main(["destroy"])
        assert "invalid choice" in capsys.readouterr().err

    def test_the_real_notebooks_are_written_as_the_tool_writes(self, tool):
        for path in (ROOT / "book").glob("*/exercises.ipynb"):
            text = path.read_text(encoding="utf-8")
            assert tool.dump(json.loads(text)) == text, (
                f"{path.name}: run `python tools/execute.py`"
            )
