"""`bnbook.foundations.inference`, `folding` and `recalibration`: parity, exact facts, bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnbook.exercises.foundations import (
    inference_corrected,
    inference_fold_transposed,
    inference_memory,
    inference_moments,
    inference_pool,
    inference_property,
    inference_weights,
)
from bnbook.foundations.folding import (
    fold_batch_norm,
    inference_affine,
    per_output_scale,
)
from bnbook.foundations.forward import BatchNorm, batch_statistics
from bnbook.foundations.inference import (
    ESTIMATORS,
    RunningStatistics,
    ema_memory,
    ema_weights,
    estimate_variance,
    expected_variance,
    normal_deviation_factor,
    variance_spread,
)
from bnbook.foundations.recalibration import drift_run, recalibrate

rates = st.floats(0.0, 0.99)


def recursion(values, alpha, start=0.0):
    for value in values:
        start = alpha * start + (1 - alpha) * value
    return start


class TestWeights:
    @given(rates, st.integers(1, 30), st.integers(0, 2**32 - 1))
    def test_are_those_of_the_recursion(self, alpha, steps, seed):
        values = np.random.default_rng(seed).normal(size=steps)
        weights = ema_weights(alpha, steps)
        assert abs(weights @ values[::-1] - recursion(values, alpha)) < 1e-12
        assert abs(weights.sum() - (1 - alpha**steps)) < 1e-12

    def test_newest_first_and_alpha_is_the_weight_of_the_past(self):
        np.testing.assert_allclose(ema_weights(0.75, 3), [0.25, 0.1875, 0.140625])
        np.testing.assert_array_equal(ema_weights(0.0, 2), [1.0, 0.0])
        np.testing.assert_array_equal(ema_weights(1.0, 2), [0.0, 0.0])

    @given(st.floats(0.01, 0.98))
    def test_memory_against_sums_over_the_weights(self, alpha):
        weights = ema_weights(alpha, 3000)
        memory = ema_memory(alpha)
        np.testing.assert_allclose(
            memory.mean_age, weights @ np.arange(3000), rtol=1e-9
        )
        np.testing.assert_allclose(memory.window, 1 / (weights**2).sum(), rtol=1e-9)
        np.testing.assert_allclose(alpha**memory.half_life, 0.5, rtol=1e-9)
        # A plain average of that window is equally old.
        np.testing.assert_allclose((memory.window - 1) / 2, memory.mean_age, rtol=1e-12)

    def test_lag_under_drift_is_the_mean_age(self):
        steps = np.arange(2000.0)
        assert abs(steps[-1] - recursion(steps, 0.9) - ema_memory(0.9).mean_age) < 1e-9

    def test_no_memory(self):
        memory = ema_memory(0)
        assert (memory.mean_age, memory.half_life, memory.window) == (0, 0, 1)


class TestEstimators:
    def test_c4_against_known_values(self):
        assert normal_deviation_factor(2) == pytest.approx(
            math.sqrt(2 / math.pi), rel=1e-14
        )
        assert normal_deviation_factor(3) == pytest.approx(
            math.sqrt(math.pi) / 2, rel=1e-14
        )
        # The known expansion 1 − 1/(4M) − 7/(32M²) − …
        assert normal_deviation_factor(100) == pytest.approx(
            1 - 1 / 400 - 7 / 320000, abs=1e-6
        )

    @pytest.mark.parametrize("estimator", ["biased", "unbiased", "moments"])
    @pytest.mark.parametrize("alpha", [0.0, 0.6])
    def test_expectation_by_enumerating_every_outcome(self, estimator, alpha):
        """Two-valued data, four batches of three: all 2^12 outcomes are equally likely."""
        outcomes = np.array(list(itertools.product([3.0, 7.0], repeat=12))).reshape(
            -1, 4, 3
        )
        found = estimate_variance(outcomes, estimator, alpha).mean() / 4.0  # τ² = 4
        weights = ema_weights(alpha, 4) / ema_weights(alpha, 4).sum()
        finite = {
            "biased": 2 / 3,
            "unbiased": 1.0,
            "moments": 1 - (weights**2).sum() / 3,
        }
        assert abs(found - finite[estimator]) < 1e-12
        if estimator != "moments" or alpha == 0:  # there the window needs a long run
            assert abs(found - expected_variance(estimator, 3, alpha)) < 1e-12

    @pytest.mark.parametrize("size", [2, 5])
    def test_expectation_on_normal_data(self, size):
        rng = np.random.default_rng(5)
        batches = rng.normal(3.0, 2.0, size=(4000, 80, size))
        for estimator in ESTIMATORS:
            found = estimate_variance(batches, estimator, 0.8) / 4.0
            error = found.std(ddof=1) / np.sqrt(len(found))
            expected = expected_variance(estimator, size, 0.8)
            assert abs(found.mean() - expected) < 4 * error
        assert expected_variance("deviation", size, 0.8) < expected_variance(
            "biased", size, 0.8
        )

    @given(st.integers(2, 200), st.floats(0, 0.99))
    def test_order_of_the_biases(self, size, alpha):
        deviation, biased, moments, unbiased = (
            expected_variance(name, size, alpha)
            for name in ("deviation", "biased", "moments", "unbiased")
        )
        assert (
            deviation <= biased + 1e-12 and biased <= moments + 1e-12 < unbiased + 1e-9
        )

    @pytest.mark.parametrize("alpha", [0.0, 0.7])
    def test_the_newest_batch_comes_last(self, alpha):
        batches = (
            np.random.default_rng(9).normal(size=(5, 4)) * np.arange(1.0, 6.0)[:, None]
        )
        running = RunningStatistics(1, alpha=alpha)
        for batch in batches:
            update(running, batch[:, None])
        found = estimate_variance(batches, "unbiased", alpha)
        np.testing.assert_allclose(found, running.var[0], rtol=1e-12)

    def test_moments_do_not_cancel_under_a_large_mean(self):
        batches = np.random.default_rng(6).normal(size=(50, 4))
        near, far = (estimate_variance(batches + c, "moments", 0.9) for c in (0.0, 1e8))
        assert abs(near - far) < 1e-6

    def test_spread_is_that_of_the_data(self):
        rng = np.random.default_rng(7)
        for draw, kurtosis in (
            (rng.standard_normal, 0.0),
            (rng.standard_exponential, 6.0),
        ):
            found = draw((100_000, 8)).var(1, ddof=1)
            assert found.std() == pytest.approx(variance_spread(8, kurtosis), rel=0.05)

    def test_spread_of_two_values_by_enumeration(self):
        coins = np.array(
            list(itertools.product([-1.0, 1.0], repeat=4))
        )  # excess kurtosis −2
        assert coins.var(1, ddof=1).std() == pytest.approx(
            variance_spread(4, -2.0), rel=1e-12
        )


def batches_of(rng, sizes, features=3):
    return [rng.normal(2.0, 1.5, size=(size, features)) for size in sizes]


def update(running, x):
    found = batch_statistics(x)
    running.update(found.mean[0], found.var[0], found.count)


class TestRunningStatistics:
    def test_without_correction_it_is_pytorch(self):
        layer = nn.BatchNorm1d(3, momentum=0.2).double()
        running = RunningStatistics(3, alpha=0.8, bias_correction=False)
        for x in batches_of(np.random.default_rng(0), (4, 2, 9)):
            layer(torch.tensor(x))
            update(running, x)
        np.testing.assert_allclose(running.mean, layer.running_mean, rtol=1e-14)
        np.testing.assert_allclose(running.var, layer.running_var, rtol=1e-14)
        assert running.weight == pytest.approx(1 - 0.8**3)

    @given(
        st.lists(st.integers(2, 9), min_size=1, max_size=6),
        st.integers(0, 2**32 - 1),
        rates,
    )
    def test_corrected_average_is_a_weighted_mean(self, sizes, seed, alpha):
        batches = batches_of(np.random.default_rng(seed), sizes)
        running = RunningStatistics((3,), alpha=alpha)
        for x in batches:
            update(running, x)
        weights = ema_weights(alpha, len(sizes))[::-1]
        expected = np.average(
            [x.var(0, ddof=1) for x in batches], axis=0, weights=weights
        )
        np.testing.assert_allclose(running.var, expected, rtol=1e-11)
        expected = np.average([x.mean(0) for x in batches], axis=0, weights=weights)
        np.testing.assert_allclose(running.mean, expected, rtol=1e-9, atol=1e-12)

    @given(
        st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(0, 2**32 - 1)
    )
    def test_pooling_forgets_the_batches(self, sizes, seed):
        batches = batches_of(np.random.default_rng(seed), sizes)
        running = RunningStatistics(3)
        for x in batches:
            update(running, x)
        everything = np.concatenate(batches)
        np.testing.assert_allclose(
            running.mean, everything.mean(0), rtol=1e-10, atol=1e-12
        )
        np.testing.assert_allclose(running.var, everything.var(0, ddof=1), rtol=1e-10)
        assert running.count == sum(sizes)

    def test_merge_is_order_free_and_changes_nothing(self):
        batches = batches_of(np.random.default_rng(1), (4, 7, 2))
        parts = [RunningStatistics(3) for _ in batches]
        for part, x in zip(parts, batches, strict=True):
            update(part, x)
        before = [(part.mean, part.var, part.count) for part in parts]
        one = parts[0].merge(parts[1]).merge(parts[2])
        other = parts[2].merge(RunningStatistics(3)).merge(parts[0]).merge(parts[1])
        everything = np.concatenate(batches)
        for merged in (one, other):
            np.testing.assert_allclose(
                merged.var, everything.var(0, ddof=1), rtol=1e-12
            )
            np.testing.assert_allclose(merged.mean, everything.mean(0), rtol=1e-12)
            assert merged.count == 13
        for part, (mean, var, count) in zip(parts, before, strict=True):
            np.testing.assert_array_equal(part.mean, mean)
            np.testing.assert_array_equal(part.var, var)
            assert part.count == count

    def test_one_value_can_be_pooled(self):
        running = RunningStatistics(1)
        for value in (1.0, 4.0, 10.0):
            running.update(np.array([value]), np.zeros(1), 1)
        np.testing.assert_allclose(running.var, [np.var([1, 4, 10], ddof=1)])

    def test_results_are_copies(self):
        for options in ({}, {"alpha": 0.5}, {"alpha": 0.5, "bias_correction": False}):
            running = RunningStatistics(2, **options)
            running.update(np.ones(2), np.ones(2), 4)
            running.mean[:] = running.var[:] = 99.0
            assert running.mean.max() < 2 and running.var.max() < 2


LAYERS = {
    "linear": (lambda: nn.Linear(4, 6), (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3), (2, 4, 7, 6)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2), (2, 4, 3, 4, 3)),
    "strided": (lambda: nn.Conv2d(4, 6, 3, stride=(2, 3)), (2, 4, 9, 8)),
    "dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 7, 7)),
    "padded": (lambda: nn.Conv2d(4, 6, 3, padding=2), (2, 4, 5, 5)),
    "same": (lambda: nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 5, 5)),
    "circular": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        (2, 4, 5, 5),
    ),
    "reflect": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (2, 4, 5, 5),
    ),
    "replicate": (
        lambda: nn.Conv1d(4, 6, 3, padding=1, padding_mode="replicate"),
        (2, 4, 5),
    ),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 5)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        (2, 4, 5, 5),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(4, 6, 2), (1, 4, 2, 3, 2)),
    "transposed, grouped": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
        (2, 4, 4, 4),
    ),
    "transposed, depthwise": (lambda: nn.ConvTranspose1d(4, 8, 3, groups=4), (2, 4, 5)),
}
TORCH_NORMS = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}


def outputs_of(layer):
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def trained_norm(norm, seed=0):
    """Give a normalization statistics and parameters that hide nothing, and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in norm.named_buffers():
        if "running" in name:
            noise = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(noise.abs() + 0.3 if "var" in name else noise * 2)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return norm.eval()


def pair(name, ours=False, seed=0):
    build, shape = LAYERS[name]
    torch.manual_seed(seed)
    layer = build().double()
    count = outputs_of(layer)
    norm = (
        BatchNorm(count, eps=0.1) if ours else TORCH_NORMS[len(shape)](count, eps=0.1)
    )
    return (
        layer,
        trained_norm(norm.double(), seed),
        torch.randn(shape, dtype=torch.float64),
    )


class TestFolding:
    @pytest.mark.parametrize("name", LAYERS)
    @pytest.mark.parametrize("ours", [False, True], ids=["torch", "book"])
    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
    def test_equals_the_two_layers(self, name, ours, bias):
        layer, norm, x = pair(name, ours)
        if not bias:
            layer.bias = None
        before = [
            value.clone()
            for value in (*layer.state_dict().values(), *norm.state_dict().values())
        ]
        folded = fold_batch_norm(layer, norm)
        assert type(folded) is type(layer) and folded.bias is not None
        with torch.no_grad():
            torch.testing.assert_close(
                folded(x), norm(layer(x)), rtol=1e-12, atol=1e-12
            )
            assert (
                folded(x) - layer(x)
            ).abs().max() > 0.1  # the normalization does something
        after = [*layer.state_dict().values(), *norm.state_dict().values()]
        for one, other in zip(before, after, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert folded.weight.data_ptr() != layer.weight.data_ptr()

    @pytest.mark.parametrize(
        ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)]
    )
    @pytest.mark.parametrize(
        "name", ["linear", "padded", "grouped", "transposed, grouped"]
    )
    def test_in_narrow_dtypes(self, name, dtype, bound):
        layer, norm, x = pair(name)
        exact = norm(layer(x)).detach()
        folded = fold_batch_norm(layer.to(dtype), norm)
        assert folded.weight.dtype == folded.bias.dtype == dtype
        error = (folded(x.to(dtype)).double() - exact).abs().max() / exact.abs().max()
        assert error < bound

    def test_a_norm_without_parameters(self):
        layer, _, x = pair("conv2d")
        norm = trained_norm(nn.BatchNorm2d(6, affine=False, dtype=torch.float64))
        torch.testing.assert_close(fold_batch_norm(layer, norm)(x), norm(layer(x)))

    def test_frozen_parameters_stay_frozen(self):
        layer, norm, _ = pair("linear")
        assert fold_batch_norm(layer, norm).weight.requires_grad
        folded = fold_batch_norm(layer.requires_grad_(False), norm)
        assert not folded.weight.requires_grad and not folded.bias.requires_grad

    def test_a_whole_model(self):
        torch.manual_seed(3)
        norms = [
            trained_norm(n, s)
            for s, n in enumerate(
                (nn.BatchNorm2d(3), nn.BatchNorm2d(8), nn.BatchNorm2d(6), BatchNorm(4))
            )
        ]
        model = nn.Sequential(
            norms[0],  # nothing before it: stays
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norms[1], nn.ReLU()),
            nn.Sequential(nn.ConvTranspose2d(8, 6, 3, groups=2)),
            norms[2],  # folds across the border of a nested model
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 36, 4),
            norms[3],
        ).double()
        for norm in norms:
            norm.eval()
        x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
        folded = fold_batch_norm(model)
        kinds = [type(part).__name__ for part in folded]
        assert kinds == [
            "BatchNorm2d",
            "Conv2d",
            "ReLU",
            "ConvTranspose2d",
            "ReLU",
            "Flatten",
            "Linear",
        ]
        torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-11, atol=1e-11)

    def test_a_second_normalization_is_folded_no_further(self):
        layer, norm, x = pair("linear")
        second = trained_norm(nn.BatchNorm1d(6, dtype=torch.float64), seed=4)
        folded = fold_batch_norm(nn.Sequential(layer, norm, second))
        assert [type(part) for part in folded] == [nn.Linear, nn.BatchNorm1d]
        torch.testing.assert_close(folded(x), second(norm(layer(x))))

    def test_affine_of_a_norm(self):
        _, norm, _ = pair("linear")
        scale, shift = inference_affine(norm)
        z = torch.randn(5, 6, dtype=torch.float64)
        torch.testing.assert_close(scale * z + shift, norm(z))


def bad_norm(change, kind=nn.BatchNorm2d, **options):
    norm = kind(6, **options).eval()
    change(norm)
    return norm


CONV = nn.Conv2d(4, 6, 3)
HOOKED = nn.Conv2d(4, 6, 3)
HOOKED.register_forward_hook(lambda *_: None)
PARAMETRIZED = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            "training mode.*eval",
            lambda: fold_batch_norm(CONV, nn.BatchNorm2d(6)),
        ),
        (ValueError, "training mode", lambda: fold_batch_norm(CONV, BatchNorm(6))),
        (
            ValueError,
            "training mode",
            lambda: fold_batch_norm(nn.Sequential(CONV, nn.BatchNorm2d(6))),
        ),
        (
            ValueError,
            "6 outputs .* 4 features",
            lambda: fold_batch_norm(CONV, nn.BatchNorm2d(4).eval()),
        ),
        (
            ValueError,
            "6 outputs .* 4 features",
            lambda: fold_batch_norm(CONV, BatchNorm(4).eval()),
        ),
        (
            ValueError,
            "use BatchNorm2d",
            lambda: fold_batch_norm(CONV, nn.BatchNorm1d(6).eval()),
        ),
        (
            ValueError,
            "track_running_stats=False",
            lambda: fold_batch_norm(
                CONV, nn.BatchNorm2d(6, track_running_stats=False).eval()
            ),
        ),
        (
            ValueError,
            "running variance is negative",
            lambda: fold_batch_norm(CONV, bad_norm(lambda n: n.running_var.fill_(-1))),
        ),
        (
            ValueError,
            "mean of BatchNorm2d is not finite",
            lambda: fold_batch_norm(
                CONV, bad_norm(lambda n: n.running_mean.fill_(math.nan))
            ),
        ),
        (
            ValueError,
            "scale of BatchNorm2d is not finite",
            lambda: fold_batch_norm(
                CONV, bad_norm(lambda n: n.weight.data.fill_(math.inf))
            ),
        ),
        (
            ValueError,
            "ε is 0",
            lambda: fold_batch_norm(
                CONV, bad_norm(lambda n: n.running_var.zero_(), eps=0.0)
            ),
        ),
        (
            ValueError,
            "overflows torch.float16",
            lambda: fold_batch_norm(
                nn.Conv2d(4, 6, 3).half(), bad_norm(lambda n: n.bias.data.fill_(1e6))
            ),
        ),
        (
            ValueError,
            "forward hooks",
            lambda: fold_batch_norm(HOOKED, nn.BatchNorm2d(6).eval()),
        ),
        (
            TypeError,
            "remove a parametrization",
            lambda: fold_batch_norm(PARAMETRIZED, nn.BatchNorm2d(6).eval()),
        ),
        (
            TypeError,
            "got ReLU",
            lambda: fold_batch_norm(nn.ReLU(), nn.BatchNorm2d(6).eval()),
        ),
        (
            TypeError,
            "got LayerNorm",
            lambda: fold_batch_norm(CONV, nn.LayerNorm(6).eval()),
        ),
        (
            TypeError,
            "got InstanceNorm2d",
            lambda: inference_affine(nn.InstanceNorm2d(6).eval()),
        ),
        (
            ValueError,
            r"scale must have shape \(6,\), got \(4,\)",
            lambda: per_output_scale(CONV, torch.ones(4)),
        ),
        (TypeError, "Conv2d alone", lambda: fold_batch_norm(CONV)),
        (TypeError, "ModuleList alone", lambda: fold_batch_norm(nn.ModuleList([CONV]))),
    ],
)
def test_bad_folding(error, message, call):
    with pytest.raises(error, match=message):
        call()


GOOD = np.array([0.5, 1.0])


def running(**options):
    return RunningStatistics(2, **options)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            r"alpha must lie in \[0, 1\], got 1.5.*momentum",
            lambda: ema_weights(1.5, 3),
        ),
        (ValueError, "alpha must lie in", lambda: ema_weights(-0.1, 3)),
        (ValueError, "alpha must lie in.*nan", lambda: running(alpha=math.nan)),
        (
            TypeError,
            "alpha must be a real number, got str",
            lambda: running(alpha="0.9"),
        ),
        (
            TypeError,
            "alpha must be a real number, got bool",
            lambda: running(alpha=True),
        ),
        (ValueError, "steps must be at least 1, got 0", lambda: ema_weights(0.5, 0)),
        (TypeError, "steps must be an integer", lambda: ema_weights(0.5, 2.0)),
        (ValueError, "alpha must be below 1", lambda: ema_memory(1.0)),
        (
            ValueError,
            "size must be at least 2, got 1",
            lambda: normal_deviation_factor(1),
        ),
        (ValueError, "size must be at least 2", lambda: variance_spread(1)),
        (ValueError, "at least -2", lambda: variance_spread(4, -3.0)),
        (ValueError, "finite", lambda: variance_spread(4, math.inf)),
        (TypeError, "excess_kurtosis must be", lambda: variance_spread(4, "heavy")),
        (
            ValueError,
            "estimator must be one of",
            lambda: expected_variance("best", 4, 0.9),
        ),
        (
            ValueError,
            "estimator must be one of",
            lambda: estimate_variance(np.ones((3, 4)), "best", 0.9),
        ),
        (
            ValueError,
            r"must have shape \(…, T, M\)",
            lambda: estimate_variance(np.ones(4), "biased", 0.9),
        ),
        (
            ValueError,
            r"M ≥ 2, got \(3, 1\)",
            lambda: estimate_variance(np.ones((3, 1)), "biased", 0.9),
        ),
        (
            TypeError,
            "floating-point",
            lambda: estimate_variance(np.ones((3, 4), int), "biased", 0.9),
        ),
        (
            ValueError,
            "alpha must be below 1",
            lambda: estimate_variance(np.ones((3, 4)), "biased", 1.0),
        ),
        (
            ValueError,
            "pooling has no initial value",
            lambda: running(bias_correction=False),
        ),
        (
            ValueError,
            r"mean must have shape \(2,\).*got \(3,\)",
            lambda: running().update(np.ones(3), GOOD, 4),
        ),
        (
            ValueError,
            r"var must have shape \(2,\)",
            lambda: running().update(GOOD, np.ones((1, 2)), 4),
        ),
        (
            ValueError,
            "var must not be negative",
            lambda: running().update(GOOD, -GOOD, 4),
        ),
        (
            ValueError,
            "var must be finite",
            lambda: running().update(GOOD, GOOD * math.nan, 4),
        ),
        (TypeError, "mean must be", lambda: running().update([0.5, 1.0], GOOD, 4)),
        (TypeError, "mean must be real", lambda: running().update(GOOD * 1j, GOOD, 4)),
        (
            ValueError,
            "count must be at least 2",
            lambda: running(alpha=0.9).update(GOOD, GOOD, 1),
        ),
        (
            ValueError,
            "count must be at least 1",
            lambda: running().update(GOOD, GOOD, 0),
        ),
        (
            TypeError,
            "count must be an integer",
            lambda: running().update(GOOD, GOOD, 4.0),
        ),
        (ValueError, "call update with a batch first", lambda: running().mean),
        (ValueError, "call update with a batch first", lambda: running(alpha=0.9).var),
        (TypeError, "must be RunningStatistics", lambda: running().merge(3)),
        (
            ValueError,
            "depends on the order",
            lambda: running().merge(running(alpha=0.9)),
        ),
        (
            ValueError,
            r"other must have shape \(2,\)",
            lambda: running().merge(RunningStatistics(3)),
        ),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_a_rate_of_one_never_has_an_estimate():
    frozen = running(alpha=1.0)
    frozen.update(GOOD, GOOD, 4)
    with pytest.raises(ValueError, match="total weight 0"):
        _ = frozen.mean


def test_refused_updates_change_nothing():
    kept = running(alpha=0.5)
    kept.update(GOOD, GOOD, 4)
    with pytest.raises(ValueError, match="negative"):
        kept.update(GOOD * 9, -GOOD, 4)
    np.testing.assert_allclose(kept.mean, GOOD)
    assert kept.count == 4


def network(kind=nn.BatchNorm2d):
    torch.manual_seed(8)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        kind(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        kind(3),
        nn.Flatten(),
    ).double()


class TestRecalibration:
    @pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNorm])
    def test_inference_becomes_training_mode_on_the_whole_set(self, kind):
        model = network(kind)
        x = torch.randn(10, 2, 5, 5, dtype=torch.float64) * 3 + 1
        before = [value.clone() for value in model.state_dict().values()]
        exact = recalibrate(model, x.split([4, 1, 5]), unbiased=False)
        for one, other in zip(before, model.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other)
        assert model.training and not exact.training
        torch.testing.assert_close(exact(x), model.train()(x), rtol=1e-11, atol=1e-11)

    def test_unbiased_by_default(self):
        x = torch.randn(6, 3, dtype=torch.float64)
        model = recalibrate(nn.Sequential(nn.BatchNorm1d(3)).double(), [x[:1], x[1:]])
        torch.testing.assert_close(model[0].running_var, x.var(0))
        torch.testing.assert_close(model[0].running_mean, x.mean(0))

    def test_bad_input(self):
        x = torch.randn(4, 3)
        shared = nn.BatchNorm1d(3)
        norm = nn.BatchNorm1d(3, track_running_stats=False)
        for error, message, model, batches in (
            (TypeError, "torch.nn.Module", "model", [x]),
            (ValueError, "batches is empty", nn.BatchNorm1d(3), []),
            (ValueError, "must be finite", nn.BatchNorm1d(3), [x * math.nan]),
            (TypeError, "floating-point tensor", nn.BatchNorm1d(3), [x.numpy()]),
            (ValueError, "no batch normalization", nn.Linear(3, 3), [x]),
            (ValueError, "runs twice", nn.Sequential(shared, shared), [x]),
            (ValueError, "track_running_stats=False", norm, [x]),
            (ValueError, "rest on 1 values", nn.BatchNorm1d(3), [x[:1]]),
        ):
            with pytest.raises(error, match=message):
                recalibrate(model, batches)


class TestDrift:
    def test_reproducible_and_slow_averages_lag(self):
        runs = [drift_run((0.5, 0.99), steps=40, seed=s) for s in (1, 1, 2)]
        assert runs[0].loss == runs[1].loss != runs[2].loss
        assert runs[0].error[0.5] < runs[0].error[0.99]
        assert runs[0].truth.shape == runs[0].averages[0.99].shape == (40, 16)
        # The first average is the first batch: the bias of the start is corrected.
        np.testing.assert_allclose(runs[0].averages[0.5][0], runs[0].averages[0.99][0])

    @pytest.mark.parametrize(
        ("message", "change"),
        [
            ("each below 1", {"alphas": (1.0,)}),
            ("at least one rate", {"alphas": ()}),
            ("steps must be at least 1", {"steps": 0}),
            ("rate must be positive", {"rate": math.nan}),
            ("size must be at least 2", {"size": 1}),
            ("depth must be at least 1", {"depth": 0}),
        ],
    )
    def test_bad_input(self, message, change):
        options = {"alphas": (0.9,), "steps": 2, "seed": 0} | change
        with pytest.raises(ValueError, match=message):
            drift_run(options.pop("alphas"), **options)


class TestExercises:
    """The reference solutions are the functions of the chapter."""

    def test_weights_and_memory(self):
        weights = inference_weights.average_weights(0.8, 6)
        np.testing.assert_allclose(weights[:0:-1], ema_weights(0.8, 6), rtol=1e-14)
        assert weights.sum() == pytest.approx(1, rel=1e-14)
        assert weights[0] == pytest.approx(0.8**6)
        found, expected = inference_memory.memory(0.8), ema_memory(0.8)
        assert found == (expected.mean_age, expected.half_life, expected.window)

    def test_averages(self):
        rng = np.random.default_rng(10)
        batches = batches_of(rng, (4, 9, 2))
        average, pooled = RunningStatistics(3, alpha=0.7), RunningStatistics(3)
        for x in batches:
            update(average, x)
            update(pooled, x)
        means, variances = (
            np.stack([f(x, axis=0) for x in batches]) for f in (np.mean, np.var)
        )
        path = inference_corrected.corrected_average(means, 0.7)
        np.testing.assert_allclose(path[-1], average.mean, rtol=1e-13)
        mean, var = inference_pool.pool(means, variances, np.array([4.0, 9.0, 2.0]))
        np.testing.assert_allclose(mean, pooled.mean, rtol=1e-13)
        np.testing.assert_allclose(var * 15 / 14, pooled.var, rtol=1e-13)

    @pytest.mark.parametrize("size", [1, 3])
    def test_moments_are_unbiased(self, size):
        solution = inference_moments.variance_from_moments
        for alpha, tau2 in ((0.0, 2.0), (0.9, 5.0)):
            left = 1 - (1 - alpha) / (
                (1 + alpha) * size
            )  # of τ², as the chapter proves
            if left > 0:
                found = solution(np.zeros(1), np.array([tau2 * left]), alpha, size)
                np.testing.assert_allclose(found, tau2)

    @pytest.mark.parametrize("groups", [1, 2])
    def test_transposed(self, groups):
        layer = nn.ConvTranspose1d(4, 6, 3, groups=groups).double()
        norm = trained_norm(nn.BatchNorm1d(6, eps=0.1).double())
        folded = fold_batch_norm(layer, norm)
        state = [
            v.detach().numpy()
            for v in (layer.weight, layer.bias, norm.weight, norm.bias)
        ]
        state += [norm.running_mean.numpy(), norm.running_var.numpy()]
        weight, bias = inference_fold_transposed.fold_transposed(*state, 0.1, groups)
        np.testing.assert_allclose(weight, folded.weight.detach(), rtol=1e-13)
        np.testing.assert_allclose(bias, folded.bias.detach(), rtol=1e-12, atol=1e-14)

    def test_implementations_of_inference_mode(self):
        exercise = inference_property.EXERCISE
        arguments = inference_property._batch()
        x, gamma, beta, mean, var = (torch.tensor(a) for a in arguments[:5])
        exact = nn.functional.batch_norm(
            x, mean, var, gamma, beta, eps=arguments[5]
        ).numpy()
        for variant in exercise.correct:
            np.testing.assert_allclose(
                variant.function(*inference_property._batch()), exact, rtol=1e-12
            )
        for variant in exercise.mutants:
            arguments = inference_property._batch()
            wrong = abs(variant.function(*arguments) - exact).max() > 1e-3
            assert wrong or (arguments[3] != mean.numpy()).any(), variant.id
