"""Noisy features: what scale and batches do, and the stored runs."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.data.noisy_features import noisy_features
from bnbook.optimization.batch_offsets import batch_mean_variance, batch_offsets
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import descend, tensors
from bnbook.optimization.robustness import (
    EXAMPLES,
    FEW,
    METHODS,
    ROBUSTNESS,
    InputNorm,
    choose,
    noisy_network,
    paired,
    seen_part,
    train_noisy,
)

SMALL = {"features": 40, "useful": 8, "held_out": 10}


@pytest.fixture(scope="module")
def data():
    return noisy_features(4, **SMALL)


def exact(width):
    return BatchNorm(width, eps=1e-30)  # PyTorch refuses 0


def groups(network, first, rest):
    """The first layer has its own rate."""
    inner = list(network.linears[0].parameters())
    own = {id(p) for p in inner}
    return [
        {"params": inner, "lr": first},
        {"params": [p for p in network.parameters() if id(p) not in own], "lr": rest},
    ]


def trained(
    data, normalization, *, scale=1.0, start=1.0, first=0.1, batch=10, seen=False
):
    x, t = tensors(data.train)
    network = DenseNetwork((40, 12, 5), normalization=normalization)
    with torch.no_grad():
        network.linears[0].weight.mul_(start)
        if seen:
            network.linears[0].weight.copy_(seen_part(network.linears[0].weight, x))
        network.linears[0].bias.requires_grad_(False)
    descend(
        network,
        scale * x,
        t,
        rate=1.0,
        steps=30,
        batch=batch,
        parameters=groups(network, first, 0.1),
    )
    return network


class TestScale:
    @pytest.mark.parametrize("s", [0.3, 2.0])
    def test_plain_network_rescaled_inputs_are_other_weights_and_another_rate(
        self, data, s
    ):
        inputs = trained(data, None, scale=s, first=0.02)
        weights = trained(data, None, start=s, first=0.02 * s**2)
        torch.testing.assert_close(
            s * inputs.linears[0].weight, weights.linears[0].weight
        )
        torch.testing.assert_close(inputs.linears[1].weight, weights.linears[1].weight)
        plain = trained(data, None, first=0.02)
        assert not torch.allclose(plain.linears[1].weight, inputs.linears[1].weight)

    @pytest.mark.parametrize("s", [0.01, 50.0])
    def test_normalized_network_does_not_see_the_scale_of_its_inputs(self, data, s):
        one, other = (trained(data, exact, scale=c) for c in (1.0, s))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)

    def test_with_eps_the_scale_is_another_eps(self, data):
        s = 0.05
        one = trained(data, lambda w: BatchNorm(w, eps=0.4), scale=s)
        other = trained(data, lambda w: BatchNorm(w, eps=0.4 / s**2))
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)

    def test_the_start_of_a_normalized_network_is_a_rate(self, data):
        a = 0.25
        one = trained(data, exact, start=a, first=0.1)
        other = trained(data, exact, first=0.1 / a**2)
        torch.testing.assert_close(one.linears[0].weight / a, other.linears[0].weight)


class TestUntouched:
    @pytest.mark.parametrize("normalization", [None, BatchNorm])
    def test_training_never_moves_what_no_example_sees(self, data, normalization):
        x, _ = tensors(data.train)
        before = DenseNetwork((40, 12, 5), normalization=normalization)
        after = trained(data, normalization)
        _, _, basis = torch.linalg.svd(x, full_matrices=True)
        hidden = basis[len(x) :].T
        first = [n.linears[0].weight.detach() for n in (before, after)]
        torch.testing.assert_close(first[0] @ hidden, first[1] @ hidden)
        assert (first[0] - first[1]).abs().max() > 1e-3
        seen = seen_part(first[1], x)
        torch.testing.assert_close(first[1] - seen, first[0] @ hidden @ hidden.T)
        torch.testing.assert_close(x @ seen.T, x @ first[1].T)

    @pytest.mark.parametrize("normalization", [None, BatchNorm])
    def test_projecting_last_is_starting_without_the_unseen_part(
        self, data, normalization
    ):
        x, _ = tensors(data.train)
        last, first = (trained(data, normalization, seen=s) for s in (False, True))
        weight = last.linears[0].weight
        torch.testing.assert_close(
            seen_part(weight, x), first.linears[0].weight.detach()
        )
        torch.testing.assert_close(last.linears[1].weight, first.linears[1].weight)

    def test_known_directions(self):
        x = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]])
        weight = torch.tensor([[3.0, 4.0, 0], [0, 0, 2.0]])
        expected = torch.tensor([[3.0, 0, 0], [0, 0, 0]])
        torch.testing.assert_close(seen_part(weight, x), expected)


class TestBatchOffsets:
    @given(st.integers(2, 7), st.integers(0, 2**31))
    @settings(max_examples=30, deadline=None)
    def test_variance_of_the_mean_by_all_batches(self, count, seed):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(count, 2)) * 3 + 1
        for batch in range(1, count + 1):
            means = [
                z[list(b)].mean(0) for b in itertools.combinations(range(count), batch)
            ]
            np.testing.assert_allclose(
                batch_mean_variance(z, batch), np.var(means, axis=0), atol=1e-12
            )

    def test_fixed_batches_last_and_shuffled_ones_change(self):
        z = np.random.default_rng(0).normal(size=200)
        fixed, shuffled = (
            [batch_offsets(z, 10, epochs=60, shuffle=s, seed=n) for n in range(12)]
            for s in (False, True)
        )
        assert max(f.changing for f in fixed) < 1e-25
        lasting = np.mean([f.lasting for f in fixed])
        both = np.mean([f.lasting + f.changing for f in shuffled])
        assert lasting == pytest.approx(both, rel=0.15)
        assert all(f.lasting < 0.2 * f.changing for f in shuffled)

    def test_one_batch_has_no_offset(self):
        z = np.random.default_rng(0).normal(size=20)
        found = batch_offsets(z, 20, epochs=3, shuffle=True)
        assert found.lasting < 1e-25 and found.changing < 1e-25

    @pytest.mark.parametrize(
        ("z", "batch", "message"),
        [
            (np.ones(1), 1, "at least two examples"),
            (np.ones(4), 5, "batch must be an integer from 1 to 4"),
            (np.ones(4), 0, "batch must be an integer from 1 to 4"),
            (np.ones(4), 2.5, "batch must be an integer"),
            (np.array([1.0, math.nan]), 1, "z must be finite"),
        ],
    )
    def test_bad_input(self, z, batch, message):
        with pytest.raises(ValueError, match=message):
            batch_mean_variance(z, batch)

    def test_bad_offsets(self):
        with pytest.raises(ValueError, match="a divisor of N"):
            batch_offsets(np.arange(10.0), 3, epochs=2, shuffle=True)
        with pytest.raises(ValueError, match="no variance"):
            batch_offsets(np.ones(4), 2, epochs=2, shuffle=True)


class TestNetwork:
    def test_methods_start_alike(self, data):
        networks = [noisy_network(data, m, start=0.5, seed=2) for m in METHODS]
        plain = DenseNetwork((40, 100, 5), seed=2, dtype=torch.float32)
        for network in networks:
            assert torch.equal(network.linears[0].weight, plain.linears[0].weight * 0.5)
        assert isinstance(networks[METHODS.index("inputs")], InputNorm)

    def test_normalized_inputs_are_batch_norm_and_a_plain_network(self, data):
        x, _ = tensors(data.train, torch.float32)
        network = noisy_network(data, "inputs")
        hat = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(network(x), network.network(hat))
        network.fit(x)
        torch.testing.assert_close(network.eval()(x), network.network(hat))

    def test_bad_input(self, data):
        with pytest.raises(ValueError, match="use one of none, fixed"):
            noisy_network(data, "layer")
        with pytest.raises(ValueError, match="start must be positive"):
            noisy_network(data, "none", start=0.0)


AT = {"per_class": 2, "noise": 1.0, "seed": 0, "steps": 50}


class TestTraining:
    def test_one_batch_makes_shuffling_idle(self):
        fixed, shuffled = (
            train_noisy(method=m, rate=0.3, **AT) for m in ("fixed", "shuffled")
        )
        assert fixed["test"] == pytest.approx(shuffled["test"], abs=0.02)
        assert fixed["unseen"] == pytest.approx(shuffled["unseen"], abs=1e-3)

    def test_looks_before_a_divergence_count(self):
        found = train_noisy(method="none", rate=300.0, **AT)
        assert found["diverged"] and found["last"] == 0.2
        assert 0.05 < found["validation"] < 0.6

    def test_learns_without_noise_features_to_speak_of(self):
        at = {**AT, "noise": 0.05, "per_class": 5}
        for method in METHODS[:3]:
            found = train_noisy(method=method, rate=0.3, **at)
            assert found["test"] > 0.95 and not found["diverged"]
            assert 0 <= found["unseen"] <= 1

    def test_shuffle_false_repeats_the_batches(self, data):
        x, t = tensors(data.train)
        seen = {True: [], False: []}
        for shuffle, batches in seen.items():

            class Spy(DenseNetwork):
                def forward(self, z, into=batches):
                    into.append(z.detach().clone())
                    return super().forward(z)

            descend(Spy((40, 6, 5)), x, t, rate=0.1, steps=4, batch=10, shuffle=shuffle)
        assert torch.equal(seen[False][0], seen[False][2])
        assert torch.equal(seen[False][1], seen[False][3])
        assert torch.equal(seen[False][0], seen[True][0])
        assert not torch.equal(seen[True][0], seen[True][2])


def frame(rows):
    names = ["method", "rate", "seed", "validation"]
    return pd.DataFrame(rows, columns=names)


class TestChoose:
    results = frame(
        [
            (method, rate, seed, base + 0.1 * (rate == best) + 0.01 * seed)
            for method, base, best in (("none", 0.5, 0.1), ("fixed", 0.6, 1.0))
            for rate in (0.1, 0.3, 1.0)
            for seed in range(4)
        ]
    )

    def test_best_rate_and_edge(self):
        found = choose(self.results, method="none")
        assert found.rate == 0.1 and found.edge
        assert list(found.runs.seed) == [0, 1, 2, 3]
        assert found.interval()[0] == pytest.approx(0.615)

    def test_the_rate_can_be_chosen_by_another_column(self):
        results = self.results.assign(seen=-self.results.rate)
        assert choose(results, method="fixed").rate == 1.0
        found = choose(results, by="seen", method="fixed")
        assert found.rate == 0.1 and found.interval("seen")[0] == pytest.approx(-0.1)
        pair = {"method": "fixed"}, {"method": "none"}
        for by, difference in (("seen", 0.0), ("validation", -0.9)):
            mean, _, _ = paired(results, *pair, column="seen", by=by)
            assert mean == pytest.approx(difference)

    def test_paired_difference(self):
        mean, low, high = paired(self.results, {"method": "fixed"}, {"method": "none"})
        assert mean == pytest.approx(0.1) and low == pytest.approx(high)
        mean, _, _ = paired(
            self.results, {"method": "fixed"}, {"method": "none"}, rate=0.1
        )
        assert mean == pytest.approx(0.0)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="no column 'norm'"):
            choose(self.results, norm=1)
        with pytest.raises(ValueError, match="no run with"):
            choose(self.results, method="batch")
        with pytest.raises(ValueError, match="no column 'score'"):
            choose(self.results, by="score", method="none")
        with pytest.raises(ValueError, match="name more columns"):
            choose(self.results)


class TestStored:
    def test_every_run_is_there(self):
        assert not ROBUSTNESS.missing()
        results = ROBUSTNESS.load()
        assert (results.outcome == "finished").all()
        assert results.validation.between(0.1, 1).all()

    def test_best_rates_of_the_plain_network_lie_inside_their_grid(self):
        results = ROBUSTNESS.load()
        at = {"separation": "levels", "noise": 3.0, "standardized": False}
        for n, by in itertools.product(EXAMPLES, ("validation", "seen")):
            found = choose(results, by=by, method="none", per_class=n, start=1.0, **at)
            assert not found.edge
        for n in FEW:
            assert not choose(results, method="none", per_class=n, start=0.1, **at).edge
