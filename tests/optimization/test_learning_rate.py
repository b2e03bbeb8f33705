"""What a large step does: the equivalent network, norms, explosions, and their experiments."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bnbook.data.images import images
from bnbook.exercises.optimization import (
    learning_rate_border,
    learning_rate_layer,
    learning_rate_length,
    learning_rate_order,
    learning_rate_property,
)
from bnbook.experiments import Diverged, deviation
from bnbook.optimization import divergence, divergence_runs
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import tensors
from bnbook.optimization.learning_rate import (
    contradiction_step,
    equivalent_network,
    explosion_order,
    largest_weight,
    layer_norms,
    length_change,
    response,
)

WIDTHS = (64, 12, 9, 10)


@pytest.fixture(scope="module")
def data():
    x, t = tensors(images("digits", seed=0).standardized().train)
    return x[:200], t[:200]


def stirred(seed=0, eps=1e-5):
    """A normalized network with γ, β and biases that are not trivial."""
    network = DenseNetwork(
        WIDTHS, seed=seed, normalization=lambda width: BatchNorm(width, eps=eps)
    )
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (*network.linears, *network.norms):
            noise = torch.randn(part.bias.shape, generator=rng, dtype=torch.float64)
            part.bias.add_(0.4 * noise)
        for norm in network.norms:
            noise = torch.randn(norm.weight.shape, generator=rng, dtype=torch.float64)
            norm.weight.add_(0.3 * noise)
    return network


class TestEquivalentNetwork:
    @pytest.mark.parametrize("eps", [1e-14, 1e-5, 0.3])
    def test_same_scores_on_the_batch_and_others_elsewhere(self, data, eps):
        network = stirred(eps=eps)
        plain = equivalent_network(network, data[0])
        torch.testing.assert_close(plain(data[0]), network(data[0]))
        assert not plain.normalized
        half = data[0][:50]
        assert (plain(half) - network(half)).abs().max() > 0.01

    def test_gradients_differ_by_the_projection(self, data):
        network = stirred(eps=1e-14)
        plain = equivalent_network(network, data[0])
        grads = []
        for one in (network, plain):
            record = one.record(data[0])
            loss = functional.cross_entropy(record.z[-1], data[1])
            grads.append(torch.autograd.grad(loss, [record.y[-1], record.z[-2]]))
        torch.testing.assert_close(grads[0][0], grads[1][0])  # nothing in between
        norm, z = network.norms[-1], network.record(data[0]).z[-2]
        z_hat = (z - z.mean(0)) / z.std(0, correction=0)
        g = grads[0][0] * norm.weight / z.std(0, correction=0)
        expected = g - g.mean(0) - z_hat * (g * z_hat).mean(0)
        torch.testing.assert_close(grads[0][1], expected)

    def test_the_first_network_is_unchanged(self, data):
        network = stirred()
        before = {k: v.clone() for k, v in network.named_parameters()}
        equivalent_network(network, data[0])
        assert all(torch.equal(v, before[k]) for k, v in network.named_parameters())
        assert network.training

    def test_bad_input(self, data):
        with pytest.raises(TypeError, match="BatchNorm"):
            equivalent_network(DenseNetwork(WIDTHS, normalization=None), data[0])
        with pytest.raises(ValueError, match="two examples"):
            equivalent_network(stirred(), data[0][:1])


class TestLayerNorms:
    def test_by_hand(self, data):
        network = stirred(1)
        found = layer_norms(network, *data)
        loss = functional.cross_entropy(network(data[0]), data[1])
        loss.backward()
        assert found.loss == pytest.approx(loss.item())
        for number, linear in enumerate(network.linears):
            weight, grad = linear.weight.detach(), linear.weight.grad
            assert found.weights[number] == pytest.approx(weight.norm().item())
            assert found.weight_gradients[number] == pytest.approx(grad.norm().item())
            assert found.along[number] == pytest.approx((weight * grad).sum().item())
        plain = equivalent_network(network, data[0])
        expected = [linear.weight.norm().item() for linear in plain.linears]
        np.testing.assert_allclose(found.effective, expected)
        norm = network.norms[0]
        both = torch.cat([norm.weight, norm.bias]).norm().item()
        assert found.shift_scale[0] == pytest.approx(both)
        assert found.shift_scale[-1] == pytest.approx(10**0.5)

    def test_gradients_are_those_by_the_outputs(self, data):
        network = stirred(2)
        found = layer_norms(network, *data)
        # Adding a vector to β moves Y_l; its gradient is the sum over the examples.
        record = network.record(data[0])
        loss = functional.cross_entropy(record.z[-1], data[1])
        by_y, by_beta = torch.autograd.grad(loss, [record.y[0], network.norms[0].bias])
        torch.testing.assert_close(by_y.sum(0), by_beta)
        assert found.gradients[0] == pytest.approx(by_y.norm().item())

    def test_euler_in_a_homogeneous_network(self, data):
        network = DenseNetwork(WIDTHS, normalization=None, seed=3)
        found = layer_norms(network, *data)
        scores = network(data[0]).detach().requires_grad_()
        functional.cross_entropy(scores, data[1]).backward()
        expected = (scores * scores.grad).sum().item()
        np.testing.assert_allclose(found.along, expected)

    def test_orthogonal_in_a_normalized_layer(self, data):
        found = layer_norms(stirred(4, eps=1e-14), *data)
        size = found.weights * found.weight_gradients
        assert (abs(found.along / size)[:-1] < 1e-10).all()


class TestResponse:
    def test_links(self, data):
        plain = DenseNetwork(WIDTHS, normalization=None, seed=0)
        found = response(plain, *data, layer=2, factor=1.001)
        assert found.activations == pytest.approx(1)
        assert found.gradients > 0.5 and found.weight_gradients > 0.5
        normalized = response(stirred(eps=1e-14), *data, layer=2)
        for value in vars(normalized).values():
            assert value == pytest.approx(0, abs=1e-9)

    def test_output_layer_still_answers(self, data):
        assert response(stirred(), *data, layer=3).gradients > 0.5

    def test_the_network_is_unchanged(self, data):
        network = stirred()
        before = network(data[0]).detach()
        response(network, *data, layer=2, factor=3.0)
        assert torch.equal(network(data[0]), before)

    def test_bad_input(self, data):
        for layer in (1, 4):
            with pytest.raises(ValueError, match="layer must lie"):
                response(stirred(), *data, layer=layer)
        for factor in (0.0, 1.0, -2.0, math.inf):
            with pytest.raises(ValueError, match="factor"):
                response(stirred(), *data, layer=2, factor=factor)


class TestLength:
    @given(st.integers(0, 999), st.floats(1e-3, 10))
    @settings(max_examples=30, deadline=None)
    def test_parts_sum_to_the_change(self, seed, rate):
        w, g = np.random.default_rng(seed).normal(size=(2, 3, 4))
        found = length_change(w, g, rate)
        expected = ((w - rate * g) ** 2).sum() - (w**2).sum()
        assert found.total == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert found.across >= 0

    def test_bad_input(self):
        with pytest.raises(ValueError, match="shape"):
            length_change(np.ones(3), np.ones(4), 0.1)
        for rate in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="rate"):
                length_change(np.ones(3), np.ones(3), rate)


class TestContradiction:
    @pytest.mark.parametrize("layers", [1, 2, 3, 5])
    def test_is_gradient_descent(self, layers):
        w = torch.full((layers,), 1.2, dtype=torch.float64, requires_grad=True)
        f = w.prod()
        (functional.softplus(f) / 2 + functional.softplus(-f) / 2).backward()
        stepped = (w - 0.7 * w.grad).detach().numpy()
        np.testing.assert_allclose(contradiction_step(1.2, layers, 0.7), stepped)

    @given(st.integers(3, 12), st.floats(1e-3, 0.5))
    @settings(max_examples=40, deadline=None)
    def test_border(self, layers, rate):
        border = largest_weight(layers, rate)
        for factor, grows in ((0.99, False), (1.01, True)):
            score = (factor * border) ** layers
            if score < 30:  # tanh is not yet 1 there
                continue
            after = abs(contradiction_step(factor * border, layers, rate))
            assert (after > factor * border) == grows

    def test_beyond_the_range(self):
        assert contradiction_step(1e300, 5, 1.0) == -math.inf

    def test_bad_input(self):
        with pytest.raises(ValueError, match="layers"):
            largest_weight(2, 1.0)
        with pytest.raises(ValueError, match="layers"):
            contradiction_step(1.0, 0, 1.0)
        with pytest.raises(ValueError, match="rate"):
            largest_weight(3, 0.0)


class TestOrder:
    @pytest.mark.parametrize("order", [1.0, 2.0, 6.5])
    def test_of_a_known_explosion(self, order):
        increments = 1.3 * order ** np.arange(4)
        losses = 200 * np.exp(np.concatenate([[0], increments.cumsum()]))
        assert explosion_order(losses) == pytest.approx(order)
        calm = np.array([2.5, 2.2, 2.6, 9.0])
        assert explosion_order(np.concatenate([calm, losses])) == pytest.approx(order)
        dead = np.concatenate([losses, [2.3, 2.3, np.nan]])
        assert explosion_order(dead) == pytest.approx(order)

    def test_of_two_layers(self):
        run = divergence_runs.record_losses("equivalent", 2, 20, 30.0, 8, 0)
        assert explosion_order([r["loss"] for r in run]) == pytest.approx(1, abs=0.15)

    def test_of_linear_layers(self):
        for depth in (3, 5):
            run = divergence_runs.record_losses("linear", depth, 20, 16.0, 12, 0)
            order = explosion_order([r["loss"] for r in run])
            assert order == pytest.approx(depth - 1, rel=0.1)

    @pytest.mark.parametrize("losses", [[2.0, 1.0], [2.0, 500.0, 9e5], [200.0, 100.0]])
    def test_too_few(self, losses):
        with pytest.raises(ValueError, match="three losses"):
            explosion_order(losses)


class TestDivergence:
    def test_stops_at_the_bound_or_not_at_all(self, data):
        network = divergence.start("plain", 6, 30, data[0], seed=0)
        run = divergence.train_until(network, *data, rate=4.0, steps=30)
        assert run.step == len(run.losses) - 1
        assert run.losses[-1] > 10 * run.losses[0]
        assert max(run.losses[:-1]) <= 10 * run.losses[0]
        network = divergence.start("normalized", 6, 30, data[0], seed=0)
        run = divergence.train_until(network, *data, rate=0.1, steps=4)
        assert run.step is None and len(run.losses) == 4

    def test_the_bound_is_relative_to_the_start(self, data):
        network = divergence.start("plain", 3, 30, data[0], seed=0)
        with torch.no_grad():
            network.linears[-1].weight.mul_(100)
        run = divergence.train_until(network, *data, rate=1e-6, steps=3)
        assert run.losses[0] > 50 and run.step is None

    def test_a_loss_that_is_not_finite(self, data):
        network = divergence.start("plain", 6, 30, data[0], seed=0)
        run = divergence.train_until(
            network, *data, rate=1e250, steps=9, bound=math.inf
        )
        assert run.step is not None and np.isfinite(run.losses).all()

    def test_starts(self, data):
        starts = {
            kind: divergence.start(kind, 4, 15, data[0], seed=2)
            for kind in divergence.KINDS
        }
        torch.testing.assert_close(
            starts["equivalent"](data[0]), starts["normalized"](data[0])
        )
        assert torch.equal(
            starts["plain"].linears[1].weight, starts["normalized"].linears[1].weight
        )
        assert len(starts["plain"].linears) == 4
        linear = divergence.start("linear", 4, 15, data[0], seed=2)
        torch.testing.assert_close(linear(3 * data[0]), 3 * linear(data[0]))
        torch.testing.assert_close(linear(-data[0]), -linear(data[0]))

    def test_bad_input(self, data):
        with pytest.raises(ValueError, match="kind"):
            divergence.start("other", 4, 15, data[0])
        with pytest.raises(ValueError, match="depth"):
            divergence.start("plain", 1, 15, data[0])
        with pytest.raises(ValueError, match="bound"):
            network = divergence.start("plain", 3, 8, data[0])
            divergence.train_until(network, *data, rate=0.1, steps=1, bound=1.0)

    def test_limits_are_limits(self):
        found = divergence_runs.find_limits("equivalent", 4, 20, 15, 0)
        assert found["trains"] <= found["stable"] < 7
        x, t = tensors(images("digits", seed=0).standardized().train)
        for power, diverges in (
            (found["stable"], False),
            (found["stable"] + 0.5, True),
        ):
            network = divergence.start("equivalent", 4, 20, x, seed=0)
            run = divergence.train_until(network, x, t, rate=2**power, steps=15)
            assert (run.step is not None) == diverges
        with pytest.raises(ValueError, match="no rate"):
            divergence_runs.find_limits("plain", 4, 20, 1, 0, lowest=12)

    def test_training_on_batches(self):
        at = {"width": 20, "batch": 64, "epochs": 2, "seed": 0}
        found = divergence_runs.train_on_batches("normalized", 3, rate=0.5, **at)
        assert found["validation"] > 0.8 and found["loss"] < 1
        assert found["dead"] == 0 and 1 < found["grown"] < 2
        still = divergence_runs.train_on_batches(
            "normalized", 3, rate=0.5, frozen="both", **at
        )
        assert still["grown"] == 1 and still["loss"] != found["loss"]
        for bad in ({"frozen": "delta"}, {"frozen": "beta", "kind": "plain"}):
            with pytest.raises(ValueError, match="frozen must be"):
                divergence_runs.train_on_batches(
                    **({"kind": "normalized", "depth": 3, "rate": 0.5} | at | bad)
                )
        with pytest.raises(Diverged):
            divergence_runs.train_on_batches("plain", 6, rate=1e3, **at)

    def test_choice_counts_divergence_as_failure(self):
        results = divergence_runs.ACCURACY.load()
        best = divergence_runs.choose_rate(results, kind="plain", depth=10)
        means = (
            results[(results.kind == "plain") & (results.depth == 10)]
            .fillna({"validation": 0.0})
            .groupby("rate")
            .validation.mean()
        )
        assert means[best.rate] == means.max() and list(best.runs.seed) == [*range(5)]
        made = pd.DataFrame(
            {
                "kind": "plain",
                "depth": 3,
                "rate": [0.1] * 3 + [1.0] * 3,
                "seed": [0, 1, 2] * 2,
                "validation": [0.8, 0.8, 0.8, 0.9, np.nan, np.nan],
                "test": 0.7,
            }
        )
        assert divergence_runs.choose_rate(made, kind="plain", depth=3).rate == 0.1
        with pytest.raises(ValueError, match="no run"):
            divergence_runs.choose_rate(results, kind="plain", depth=99)

    def test_fresh_starts_use_the_chosen_rates(self):
        results, fresh = divergence_runs.ACCURACY.load(), divergence_runs.FRESH.load()
        for depth in (3, 10):
            chosen = {
                divergence_runs.choose_rate(results, kind=kind, depth=depth).rate
                for kind in ("plain", "normalized")
            }
            assert set(fresh[fresh.depth == depth].rate) == chosen
        assert not set(fresh.seed) & set(results.seed)

    def test_results_are_stored_and_can_be_repeated(self):
        assert all(not one.missing() for one in divergence_runs.EXPERIMENTS)
        live, stored = divergence_runs.SEEDS.replay(kind="plain", width=32, seed=0)
        assert deviation(live, stored) < 1e-3


class TestExercises:
    def test_length(self):
        w, g = np.random.default_rng(1).normal(size=(2, 7))
        along, across, limit = learning_rate_length.EXERCISE.reference(w, g, 0.4)
        ours = length_change(w, g, 0.4)
        assert (along, across) == pytest.approx((ours.along, ours.across))
        assert ((w - limit * g) ** 2).sum() == pytest.approx((w**2).sum())

    def test_border(self):
        layers = np.array([3.0, 5.0, 10.0])
        ours = [largest_weight(int(count), 0.3) for count in layers]
        answer = learning_rate_border.EXERCISE.reference
        np.testing.assert_allclose(answer(layers, 0.3), ours)

    def test_order(self):
        losses = np.array([120.0, 1e4, 3e9, 1e22, 1e47])
        answer = learning_rate_order.EXERCISE.reference
        assert answer(losses) == pytest.approx(explosion_order(losses))

    def test_layer(self):
        W, Y, G = (
            torch.randn(shape, dtype=torch.float64, requires_grad=True)
            for shape in ((3, 4), (4, 5), (3, 5))
        )
        B = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
        (G.detach() * (W @ Y + B)).sum().backward()
        answer = learning_rate_layer.EXERCISE.reference
        found = answer(*(v.detach().numpy() for v in (W, Y, G)))
        for one, expected in zip(found, (W.grad, Y.grad, B.grad[:, 0]), strict=True):
            np.testing.assert_allclose(one, expected.numpy())

    def test_divergence(self):
        exercise = learning_rate_property.EXERCISE
        for right in exercise.correct:
            exercise.reference(right.function)
        for wrong in exercise.mutants:
            with pytest.raises(AssertionError):
                exercise.reference(wrong.function)
