"""The exercises of the part `foundations`."""


import numpy as np
import pytest
import torch

from bnbook.exercises import check
from bnbook.exercises.foundations import EXERCISES as LISTED
from bnbook.foundations.backward import batch_norm_backward, batch_norm_backward_steps
from bnbook.foundations.forward import BatchNorm, batch_norm

EXERCISES = {exercise.id: exercise for exercise in LISTED}
CHAPTERS = tuple(dict.fromkeys(exercise.chapter for exercise in LISTED))


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
        close(
            outlier(-2.5, 4, 0.2),
            batch_norm(x, np.ones(1), np.zeros(1), eps=0.2)[1].z_hat[2, 0],
        )
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
        for got, expected in zip(
            answer("forward-running")(*before, x, 0.3), running, strict=True
        ):
            close(got, expected)
        rng = np.random.default_rng(13)
        weight, bias, inputs = (
            rng.normal(size=(4, 3)),
            rng.normal(size=4),
            rng.normal(size=(6, 3)),
        )
        folded, shift = answer("forward-fold")(weight, bias, gamma, beta, *running, eps)
        expected = layer.eval()(torch.tensor(inputs @ weight.T + bias)).detach().numpy()
        close(inputs @ folded.T + shift, expected)

    def test_backward(self, dense, images):
        x, gamma, beta, dy, eps = dense
        _, cache = batch_norm(x, gamma, beta, eps=eps)
        grads, steps = (
            batch_norm_backward(dy, cache),
            batch_norm_backward_steps(dy, cache),
        )
        dgamma, dbeta = answer("backward-dgamma-dbeta")(dy, cache.z_hat)
        close(dgamma, grads.dgamma)
        close(dbeta, grads.dbeta)
        close(answer("backward-dvar")(dy, x, gamma, eps), steps.dvar[0])
        paths = answer("backward-paths")(dy, x, gamma, eps)
        for got, expected in zip(
            paths, (steps.path_z_hat, steps.path_var, steps.path_mean), strict=True
        ):
            close(got, np.broadcast_to(expected, x.shape))
        close(answer("backward-dx")(dy, x, gamma, eps), grads.dx)
        along = (grads.dx * cache.z_hat).sum(axis=0)
        close(
            answer("backward-epsilon")(grads.dgamma, gamma, x.var(axis=0), eps), along
        )
        x, gamma, beta, dy, eps = images
        _, cache = batch_norm(x, gamma, beta, eps=eps, axes=(0, 2, 3))
        close(
            answer("backward-conv")(dy, x, gamma, eps),
            batch_norm_backward(dy, cache).dx,
        )

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
            leaves[0],
            torch.tensor(mean),
            torch.tensor(var),
            *leaves[1:],
            training=False,
            eps=eps,
        )
        exact = torch.autograd.grad(y, leaves, torch.tensor(dy))
        for got, expected in zip(
            answer("backward-eval")(dy, x, gamma, mean, var, eps), exact, strict=True
        ):
            close(got, expected.numpy())

    @pytest.mark.parametrize("name", ["forward-property", "backward-property"])
    def test_correct_implementations_agree_and_wrong_ones_do_not(self, name, dense):
        x, gamma, beta, dy, eps = dense
        exercise = EXERCISES[name]
        args = (
            (x, gamma, beta, eps) if name.startswith("forward") else (dy, x, gamma, eps)
        )

        def flat(function):
            result = function(*args)
            return np.concatenate(
                [np.ravel(a) for a in (result if type(result) is tuple else (result,))]
            )

        y, cache = batch_norm(x, gamma, beta, eps=eps)
        grads = batch_norm_backward(dy, cache)
        exact = flat(
            lambda *_: (
                y
                if name.startswith("forward")
                else (grads.dx, grads.dgamma, grads.dbeta)
            )
        )
        for variant in exercise.correct:
            close(flat(variant.function), exact)
        assert any(
            (flat(v.function) != flat(exercise.correct[0].function)).any()
            for v in exercise.correct
        )
        for variant in exercise.mutants:
            assert abs(flat(variant.function) - exact).max() > 1e-3, variant.id


def test_a_test_against_autograd_passes():
    def by_autograd(batch_norm_backward):
        rng = np.random.default_rng(3)
        x, dy, gamma = (
            rng.normal(1.0, 2.0, size=(5, 3)),
            rng.normal(size=(5, 3)),
            rng.normal(size=3),
        )
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, np.zeros(3))]
        y = torch.nn.functional.batch_norm(
            leaves[0], None, None, *leaves[1:], training=True, eps=0.5
        )
        expected = torch.autograd.grad(y, leaves, torch.tensor(dy))
        for got, want in zip(
            batch_norm_backward(dy, x, gamma, 0.5), expected, strict=True
        ):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-9, atol=1e-11)

    assert check("backward-property", by_autograd, seconds=100).outcome == "correct"


def dx_from_sums(dy, x, gamma, eps, *, mean=1.0, var=1.0):
    """Yu's Eq. (12), with a weight on the path through the mean and on the one through the variance."""
    count = len(x)
    root = np.sqrt(((x - np.mean(x, 0)) ** 2).sum(0) / count + eps)
    z_hat = (x - np.mean(x, 0)) / root
    total = (dy * gamma).sum(0), (dy * gamma * z_hat).sum(0)
    return (count * dy * gamma - mean * total[0] - var * z_hat * total[1]) / (
        count * root
    )


STUDENTS = [
    (
        "forward-standardize",
        "unbiased-variance",
        lambda x, e: (
            (x - x.mean(0)) / np.sqrt(((x - x.mean(0)) ** 2).sum(0) / (len(x) - 1) + e)
        ),
    ),
    (
        "forward-standardize",
        "eps-outside-root",
        lambda x, e: (x - x.mean(0)) / (x.var(0) ** 0.5 + e),
    ),
    (
        "forward-standardize",
        "wrong-axis",
        lambda x, e: ((x.T - x.mean(1)) / np.sqrt(x.var(1) + e)).T,
    ),
    (
        "forward-standardize",
        "eps-ignored",
        lambda x, e: (x - x.mean(0)) * x.var(0) ** -0.5,
    ),
    (
        "forward-identity",
        "eps-ignored",
        lambda x, e: (np.sqrt(((x - x.mean(0)) ** 2).mean(0)), np.mean(x, 0)),
    ),
    (
        "forward-batch-norm",
        "one-pass-variance",
        lambda x, g, b, e: (
            g
            / np.sqrt(np.einsum("md,md->d", x, x) / len(x) - x.mean(0) ** 2 + e)
            * (x - x.mean(0))
            + b
        ),
    ),
    (
        "forward-conv",
        "one-image-at-a-time",
        lambda x, g, b, e: np.stack(
            [
                [
                    (c - c.mean()) / np.sqrt(c.var() + e) * s + t
                    for c, s, t in zip(i, g, b, strict=True)
                ]
                for i in x
            ]
        ),
    ),
    (
        "forward-conv",
        "parameters-along-width",
        lambda x, g, b, e: (
            b
            + (x - x.mean((0, 2, 3)).reshape(-1, 1, 1))
            * g
            / np.sqrt(x.var((0, 2, 3)).reshape(-1, 1, 1) + e)
        ),
    ),
    (
        "forward-running",
        "momentum-of-the-past",
        lambda m, v, x, p: (
            x.mean(0) + p * (m - x.mean(0)),
            x.var(0, ddof=1) + p * (v - x.var(0, ddof=1)),
        ),
    ),
    (
        "forward-fold",
        "bias-lost",
        lambda w, b, g, beta, m, v, e: (
            np.diag(g / np.sqrt(v + e)) @ w,
            beta - m * g / np.sqrt(v + e),
        ),
    ),
    (
        "backward-dgamma-dbeta",
        "averaged",
        lambda dy, z: ((z * dy).sum(0) / len(z), dy.sum(0) / len(z)),
    ),
    ("backward-dx", "mean-path-dropped", lambda *a: dx_from_sums(*a, mean=0)),
    ("backward-dx", "variance-path-dropped", lambda *a: dx_from_sums(*a, var=0)),
    ("backward-dx", "detached-statistics", lambda *a: dx_from_sums(*a, mean=0, var=0)),
    (
        "backward-dx",
        "sums-for-means",
        lambda *a: dx_from_sums(*a, mean=len(a[1]), var=len(a[1])),
    ),
    ("backward-dx", "mean-path-sign", lambda *a: dx_from_sums(*a, mean=-1)),
    ("backward-dx", "gamma-lost", lambda dy, x, g, e: dx_from_sums(dy, x, 1.0, e)),
    (
        "backward-conv",
        "divided-by-images",
        lambda dy, x, g, e: np.moveaxis(
            dx_from_sums(
                *(np.moveaxis(a, 1, -1).reshape(-1, x.shape[1]) for a in (dy, x)),
                g,
                e,
                mean=x.shape[2] * x.shape[3],
                var=x.shape[2] * x.shape[3],
            ).reshape(x.shape[0], x.shape[2], x.shape[3], x.shape[1]),
            -1,
            1,
        ),
    ),
    (
        "backward-jacobian",
        "variance-path-dropped",
        lambda x, g, e: (
            g
            * (x.var() + e) ** -0.5
            * (np.identity(len(x)) - np.full((len(x),) * 2, 1 / len(x)))
        ),
    ),
    ("backward-epsilon", "orthogonal", lambda d, g, v, e: np.zeros(len(v))),
    (
        "backward-eval",
        "batch-statistics",
        lambda dy, x, g, m, v, e: (
            dy * g * (x.var(0) + e) ** -0.5,
            np.einsum("md,md->d", dy, (x - x.mean(0)) / np.sqrt(x.var(0) + e)),
            dy.sum(0),
        ),
    ),
]

STUDENTS += [
    (
        "forward-degenerate",
        "second-moment",
        lambda a, n, e: (
            (a - a / n) / np.sqrt(np.append(np.zeros(n - 1), a).var(ddof=1) + e)
        ),
    ),
    (
        "forward-batch-norm",
        "only-normalized",
        lambda x, g, b, e: (x - x.mean(0)) * (x.var(0) + e) ** -0.5,
    ),
    (
        "forward-conv",
        "everything-along-width",
        lambda x, g, b, e: (
            (x - x.mean((0, 2, 3))) * (x.var((0, 2, 3)) + e) ** -0.5 * g + b
        ),
    ),
    (
        "backward-dvar",
        "normalized-twice",
        lambda dy, x, g, e: (
            -0.5 * (dy * g * (x - x.mean(0))).sum(0) * (x.var(0) + e) ** (-3 // 2)
        ),
    ),
    (
        "backward-dx",
        "variance-path-dropped",
        lambda dy, x, g, e: (
            g
            * (x.var(0) + e) ** -0.5
            * (dy - dy.mean(0) - (x - x.mean(0)) * dy.mean(0) * (x - x.mean(0)).mean(0))
        ),
    ),
    (
        "backward-dgamma-dbeta",
        "product-of-sums",
        lambda dy, z: (z.sum(0), dy.sum(0)),
    ),
    (
        "backward-dgamma-dbeta",
        "product-of-sums",
        lambda dy, z: (np.zeros(z.shape[1]), dy.sum(0)),
    ),
    (
        "forward-running",
        "biased-deviation-for-variance",
        lambda m, v, x, p: (m + p * (x.mean(0) - m), v + p * (x.std(0) - v)),
    ),
]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("backward-dgamma-dbeta", ["0 up to rounding", "or multiply two sums"]),
        ("forward-degenerate", ["a²/M, and two mistakes", "second moment", "ddof=1"]),
        ("backward-dvar", ["Either you use ẑ", "Or your power is −2"]),
        ("backward-dx", ["variance is missing or 0", "mean(g) · mean(ẑ) is 0"]),
    ],
)
def test_two_causes_of_one_result_are_both_named(name, words):
    """They return the same numbers, so no check can tell which one it was."""
    sentences = [mistake.sentence for mistake in EXERCISES[name].mistakes]
    assert any(all(word in sentence for word in words) for sentence in sentences)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, e: np.squeeze((x - x.mean(0)) / np.sqrt(x.var(0) + e)),
        lambda x, e: (x - x.mean(0)) / np.sqrt(x.var(0) + e) / (e > 0),
    ],
    ids=["squeezed", "not for ε = 0"],
)
def test_one_feature_and_no_epsilon_are_cases(answer):
    assert check("forward-standardize", answer).outcome != "correct"


@pytest.mark.parametrize("momentum", [0, 1])
def test_the_ends_of_the_range_of_momentum_are_cases(momentum):
    def wrong_at_one_end(mean, var, x, p):
        right = answer("forward-running")(mean, var, x, p)
        return tuple(a + (p == momentum) for a in right)

    result = check("forward-running", wrong_at_one_end)
    assert result.outcome == "incorrect"
    assert f"What differs here: the momentum is {momentum}" in result.message


@pytest.mark.parametrize(
    ("name", "mistake", "answer"), STUDENTS, ids=[f"{s[0]}-{s[1]}" for s in STUDENTS]
)
def test_a_mistake_is_known_however_it_is_written(name, mistake, answer):
    assert check(name, answer).mistake == mistake


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_has_enough_exercises(chapter):
    exercises = [exercise for exercise in LISTED if exercise.chapter == chapter]
    assert len(exercises) >= 6
    assert {exercise.level for exercise in exercises} == {"warm-up", "core", "hard"}
    assert any(exercise.id.endswith("-property") for exercise in exercises)
