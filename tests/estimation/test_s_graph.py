"""The S-graph: against autograd, exact enumeration of minibatches, and its definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bnbook import figures
from bnbook.estimation.batch_moments import BatchMoments, expand_batch_norms
from bnbook.estimation.path_estimates import (
    PathEstimates,
    kept_share,
    relative_bias,
    squared_bias,
)
from bnbook.estimation.products import (
    over_minibatches,
    product_bias,
    two_factor_bias,
    unbiased_product,
)
from bnbook.estimation.s_graph import LOSS, SGraph, WithLoss, trace_s_graph
from bnbook.estimation.s_graph_cost import (
    backward_costs,
    counted,
    node_counts,
    shared_values,
)
from bnbook.estimation.s_graph_drawing import (
    base_edges,
    draw_base_graph,
    draw_s_graph,
    layered,
)
from bnbook.exercises.estimation import (
    s_graph_factors,
    s_graph_paths,
    s_graph_product,
    s_graph_property,
    s_graph_unbiased,
)


def double(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=double(seed), dtype=torch.float64)


class SourceExample(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x, y):
        return (self.W * (x - x.mean(0)) - y).abs().mean(0)


class Residual(nn.Module):
    """Two convolutions with batch normalization and a shortcut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        a = functional.relu(self.norm1(self.first(x)))
        b = functional.relu(self.norm2(self.second(a)) + a)
        return self.head(b.mean((2, 3)))


def dense():
    return nn.Sequential(
        nn.Linear(5, 4, bias=False),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Linear(4, 3, bias=False),
    )


def network(make=Residual, count=6, seed=0):
    torch.manual_seed(seed)
    model = make().double()
    with torch.no_grad():  # not the neutral values of the initialization
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.5, 0.5)
    x = normal(count, 2, 4, 4) if make is Residual else normal(count, 5)
    t = torch.arange(count) % 3
    return WithLoss(model, functional.cross_entropy), x, t


def traced(make=Residual, count=6, seed=0) -> SGraph:
    return trace_s_graph(*network(make, count, seed))


@pytest.fixture(scope="module")
def residual_graph():
    graph = traced()
    return graph, graph.all_jacobians(), graph.all_jacobians(per_example=True)


class TestTracer:
    def test_the_sources_example_has_the_sources_graph(self):
        graph = trace_s_graph(SourceExample(), normal(5), normal(5, seed=1))
        assert graph.nodes == ("D", "W", "mean", "L")
        expected = {("D", "mean"), ("D", "L"), ("W", "L"), ("mean", "L")}
        assert set(graph.edges) == expected
        assert graph.parameters == ("W",) and graph.reductions == ("mean", "L")
        shared = {n for n, kind in graph.kinds.items() if kind != "batch"}
        assert shared == {"w", "mean", "mean_1"}

    def test_one_normalized_layer_has_mean_and_square(self):
        graph = traced(dense)
        assert graph.reductions == ("model.1.mean", "model.1.square", "L")
        assert ("model.1.mean", "model.1.square") in graph.edges
        assert ("model.1.weight", "L") in graph.edges
        assert ("model.1.weight", "model.1.square") not in graph.edges

    def test_values_are_those_of_the_model(self):
        loss, x, t = network()
        graph = trace_s_graph(loss, x, t)
        torch.testing.assert_close(graph.values[LOSS], loss(x, t), rtol=1e-14, atol=0)

    def test_the_model_is_left_alone(self):
        loss, x, t = network()
        before = {n: v.clone() for n, v in loss.state_dict().items()}
        trace_s_graph(loss, x, t)
        assert all(torch.equal(v, before[n]) for n, v in loss.state_dict().items())
        assert isinstance(loss.model.norm1, nn.BatchNorm2d)

    @pytest.mark.parametrize(
        "operation",
        [
            lambda x: x.var(0, correction=0),
            lambda x: x.std(0),
            lambda x: x.sum(0),
            lambda x: x.softmax(0),
            lambda x: x.logsumexp(0),
            lambda x: x.amax(0),
            lambda x: x.cumsum(0),
            lambda x: x.flip(0),
            lambda x: x.roll(1, 0),
            lambda x: x[1:],
            lambda x: x[x > 0],
            lambda x: x @ x.transpose(0, 1),
            lambda x: functional.normalize(x, dim=0),
            lambda x: functional.mse_loss(x, x * 2, reduction="sum"),
        ],
    )
    def test_what_mixes_examples_and_is_no_mean_is_refused(self, operation):
        class Uses(nn.Module):
            def forward(self, x):
                return operation(x).mean()

        with pytest.raises(ValueError, match=r"mixes examples|one example alone"):
            trace_s_graph(Uses(), normal(6, 2))

    @pytest.mark.parametrize(
        "operation",
        [
            lambda x: x.mean(0),
            lambda x: x.mean(),
            lambda x: (x**2).mean(0).sqrt(),
            lambda x: functional.layer_norm(x, [2]),
            lambda x: x.softmax(1),
            lambda x: x.flatten(1).cumsum(1),
            lambda x: functional.mse_loss(x, 2 * x),
        ],
    )
    def test_means_and_what_stays_in_an_example_are_accepted(self, operation):
        class Uses(nn.Module):
            def forward(self, x):
                return operation(x).mean()

        assert LOSS in trace_s_graph(Uses(), normal(6, 2)).nodes

    def test_a_sum_of_dead_units_is_no_mean(self):
        """All values are 0 on this batch; the other batches tell a sum from a mean."""

        class Dead(nn.Module):
            def forward(self, x):
                return functional.relu(x).sum(0).mean()

        with pytest.raises(ValueError, match="mixes examples"):
            trace_s_graph(Dead(), -normal(6, 2).abs())

    def test_values_that_cancel_contradict_nothing(self):
        """The mean of a normalized example is a rounding error; a sum of them as well."""

        class Cancels(nn.Module):
            def __init__(self, reduce):
                super().__init__()
                self.reduce = reduce

            def forward(self, x):
                return self.reduce(functional.layer_norm(x, [4])).mean()

        graph = trace_s_graph(Cancels(lambda y: y.mean(1)), normal(6, 4))
        assert graph.kinds["mean"] == "batch"
        with pytest.raises(ValueError, match="mixes examples"):
            trace_s_graph(Cancels(lambda y: y.sum(0)), normal(6, 4))

    @pytest.mark.parametrize(
        ("operation", "words"),
        [
            (functional.dropout, "random numbers"),
            (lambda x: functional.relu(x * 1, inplace=True), "inplace=False"),
            (lambda x: x.max(0)[0], "not a tensor"),
            (lambda x: x.view(x.shape[0], -1), "not a tensor"),
            (lambda x: torch.log(x), "not finite"),
            (lambda x: x.view(6, 2, 1), "size of the batch is built in; use -1"),
            (
                lambda x: functional.batch_norm(x, None, None, training=True),
                "no value for one example alone: it needs more",
            ),
        ],
    )
    def test_other_refusals_say_what_to_do(self, operation, words):
        class Uses(nn.Module):
            def forward(self, x):
                return operation(x).mean()

        with pytest.raises(ValueError, match=words):
            trace_s_graph(Uses(), normal(6, 2) - 1)

    def test_bad_input_is_refused(self):
        loss, x, t = network()
        with pytest.raises(TypeError, match=r"nn\.Module"):
            trace_s_graph(lambda x: x, x)
        with pytest.raises(TypeError, match="tensors"):
            trace_s_graph(loss, x.numpy(), t)
        with pytest.raises(ValueError, match="at least 2"):
            trace_s_graph(loss, x[:1], t[:1])
        with pytest.raises(ValueError, match="same number"):
            trace_s_graph(loss, x, t[:-1])
        with pytest.raises(ValueError, match="wants an input"):
            trace_s_graph(loss, x)
        with pytest.raises(ValueError, match="takes fewer"):
            trace_s_graph(loss, x, t, t)
        with pytest.raises(ValueError, match="one number"):
            trace_s_graph(loss.model, x)
        summed = WithLoss(loss.model, lambda s, t: s.sum())
        with pytest.raises(ValueError, match="mixes examples"):
            trace_s_graph(summed, x, t)

    def test_a_penalty_on_the_weights_keeps_the_gradient(self):
        loss, x, t = network(dense)

        class Penalized(nn.Module):
            def __init__(self):
                super().__init__()
                self.loss = loss

            def forward(self, x, t):
                return self.loss(x, t) + 0.1 * (self.loss.model[0].weight ** 2).sum()

        graph = trace_s_graph(Penalized(), x, t)
        name = "loss.model.0.weight"
        found = graph.path_sum(name, graph.all_jacobians())
        weight = loss.model[0].weight
        (gradient,) = torch.autograd.grad(Penalized()(x, t), weight)
        torch.testing.assert_close(found, gradient.flatten(), rtol=1e-10, atol=1e-12)


class TestExpandedNorms:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("affine", [True, False])
    def test_agrees_with_pytorch(self, training, affine):
        norm = nn.BatchNorm2d(3, eps=0.1, affine=affine).double()
        norm.running_mean.copy_(normal(3))
        norm.running_var.copy_(normal(3).exp())
        norm.train(training)
        x = normal(4, 3, 2, 2, seed=2) + 1
        torch.testing.assert_close(
            BatchMoments(norm)(x), norm(x), rtol=1e-12, atol=1e-12
        )

    def test_a_norm_by_itself_and_a_wrong_layer(self):
        assert isinstance(expand_batch_norms(nn.BatchNorm1d(2)), BatchMoments)
        with pytest.raises(TypeError, match="BatchNorm1d"):
            BatchMoments(nn.Linear(2, 2))


class TestFunctionsOfOneExample:
    @pytest.mark.parametrize("make", [dense, Residual])
    def test_each_batch_node_is_a_function_of_its_example_and_shared_nodes(self, make):
        graph = traced(make)
        for name in [n for n, kind in graph.kinds.items() if kind == "batch"]:
            f, whole = graph.batch_function(name), graph.batch_value(name)
            for n in range(6):
                row = f([v[n : n + 1] for v in graph.inputs], graph.values)
                torch.testing.assert_close(row[0], whole[n], rtol=1e-10, atol=1e-12)

    def test_other_examples_act_through_shared_nodes_only(self):
        graph = traced()
        f = graph.batch_function("linear")
        changed = [v.clone() for v in graph.inputs]
        changed[0][1:] = normal(5, 2, 4, 4, seed=9)
        moved = f(changed, graph.values)
        assert torch.allclose(moved[0], graph.batch_value("linear")[0], rtol=1e-12)
        assert not torch.allclose(moved[1], graph.batch_value("linear")[1])

    def test_names_that_do_not_exist(self):
        graph = traced(dense)
        with pytest.raises(ValueError, match="no batch node"):
            graph.batch_function("model.1.mean")
        with pytest.raises(ValueError, match="no reduction"):
            graph.function("model.0.weight")
        with pytest.raises(ValueError, match="no edge"):
            graph.jacobian("L", "model.1.mean")
        with pytest.raises(ValueError, match="no edge"):
            graph.jacobian("D", "L")
        with pytest.raises(ValueError, match="no node"):
            list(graph.paths("nothing"))
        with pytest.raises(ValueError, match="source must"):
            graph.path_sum("L", {})


class TestPaths:
    def test_the_sum_is_the_gradient_by_autograd(self, residual_graph):
        graph, jacobians, examples = residual_graph
        loss, x, t = network()
        loss(x, t).backward()
        for name, p in loss.named_parameters():
            expected = p.grad.flatten()
            found = graph.path_sum(name, jacobians)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
            by_nodes = PathEstimates(graph, name, examples).averaged(jacobians)
            torch.testing.assert_close(by_nodes, expected, rtol=1e-9, atol=1e-13)

    def test_the_sum_is_a_finite_difference(self, residual_graph):
        graph, jacobians, _ = residual_graph
        loss, x, t = network()
        weight, step = loss.model.first.weight, 1e-6
        direction = normal(*weight.shape, seed=4)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
                ends.append(loss(x, t).item())
                weight -= sign * step * direction
        slope = (ends[0] - ends[1]) / (2 * step)
        found = graph.path_sum("model.first.weight", jacobians) @ direction.flatten()
        assert found.item() == pytest.approx(slope, rel=1e-6)

    def test_jacobians_of_examples_have_the_jacobian_as_their_mean(
        self, residual_graph
    ):
        _, jacobians, examples = residual_graph
        for edge, jacobian in jacobians.items():
            torch.testing.assert_close(
                examples[edge].mean(0), jacobian, rtol=1e-9, atol=1e-12
            )

    def test_counts_are_those_of_the_listed_paths(self, residual_graph):
        graph = residual_graph[0]
        for source, target in itertools.product(graph.nodes, graph.reductions):
            listed = len(list(graph.paths(source, target)))
            assert graph.count_paths(source, target) == listed

    def test_a_normalized_layer_multiplies_the_paths_by_four(self):
        for layers in (1, 2, 3):

            def make(layers=layers):
                parts = [dense()[:3]] + [
                    nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
                    for _ in range(layers - 1)
                ]
                return nn.Sequential(*parts, nn.Linear(4, 3))

            graph = traced(make)
            assert graph.count_paths("model.0.0.weight") == 4**layers


class TestEstimates:
    def test_an_example_of_a_dense_layer_passes_nothing(self):
        graph = traced(dense)
        examples = graph.all_jacobians(per_example=True)
        estimate = PathEstimates(graph, "model.0.weight", examples)
        assert estimate.single_example().abs().max() < 1e-15
        assert estimate.true().abs().max() > 1e-3
        after = PathEstimates(graph, "model.3.weight", examples)
        torch.testing.assert_close(after.single_example(), after.true())

    def test_the_limit_of_two_factors_lacks_the_paths_through_the_square(self):
        graph = traced(dense)
        examples = graph.all_jacobians(per_example=True)
        estimate = PathEstimates(graph, "model.0.weight", examples)
        edge = {e: j.mean(0) for e, j in examples.items()}
        w, mean, square = "model.0.weight", "model.1.mean", "model.1.square"
        to_square = edge[w, square] + edge[mean, square] @ edge[w, mean]
        lost = (edge[square, LOSS] @ to_square)[0]
        assert lost.abs().max() > 1e-3
        torch.testing.assert_close(estimate.two_factor(None), estimate.true() - lost)

    def test_expectations_are_those_over_all_minibatches(self):
        graph = traced(dense, count=3)
        examples = graph.all_jacobians(per_example=True)
        estimate = PathEstimates(graph, "model.0.weight", examples)
        to_each = estimate._to_each(examples)

        def two_factors(chosen):
            total = examples["model.0.weight", LOSS][chosen].mean(0)
            for name in ("model.1.mean", "model.1.square"):
                last = examples[name, LOSS][chosen].mean(0)
                total = total + last @ to_each[name][chosen].mean(0)
            return total[0]

        for size in (1, 2, 3):
            tried = over_minibatches(
                lambda s: two_factors(torch.from_numpy(s)), 3, size
            )
            torch.testing.assert_close(estimate.two_factor(size), tried)

    def test_one_example_makes_all_estimates_equal(self, residual_graph):
        graph, _, examples = residual_graph
        estimate = PathEstimates(graph, "model.first.weight", examples)
        torch.testing.assert_close(estimate.single_example(), estimate.two_factor(1))
        drawn = [estimate.one_minibatch(torch.tensor([n])) for n in range(6)]
        torch.testing.assert_close(sum(drawn) / 6, estimate.single_example())
        torch.testing.assert_close(
            estimate.one_minibatch(torch.arange(6)), estimate.true()
        )

    def test_several_minibatches_at_once(self, residual_graph):
        graph, _, examples = residual_graph
        estimate = PathEstimates(graph, "model.first.weight", examples)
        chosen = torch.tensor([[0, 1, 1], [2, 5, 3]])
        together = estimate.one_minibatch(chosen)
        for row, found in zip(chosen, together, strict=True):
            by_hand = {e: j[row].mean(0) for e, j in examples.items()}
            torch.testing.assert_close(found, estimate.averaged(by_hand))

    def test_within_an_example_with_positions_its_own_variance_passes(self):
        """The two paths to ν leave 2 W Var(u) within an example, not over all."""

        class Positions(nn.Module):
            def __init__(self):
                super().__init__()
                self.W = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

            def forward(self, u):
                p = self.W * u - (self.W * u).mean()
                return ((p / (p**2).mean().sqrt()).exp()).mean()

        u = normal(5, 7)
        graph = trace_s_graph(Positions(), u)
        examples = graph.all_jacobians(per_example=True)
        square = graph.reductions[1]
        passed = PathEstimates(graph, "W", examples)._to_each(examples)[square]
        within = 2 * 1.3 * u.var(1, correction=0)
        torch.testing.assert_close(passed[:, 0, 0], within)

    def test_squared_bias_has_none(self):
        """Over all pairs of a small set of draws it is the squared bias exactly."""
        values, true = normal(4, 3), normal(3, seed=1)
        pairs = itertools.product(range(4), repeat=2)
        found = sum(squared_bias(values[list(pair)], true) for pair in pairs) / 16
        expected = relative_bias(values.mean(0), true) ** 2
        assert found == pytest.approx(expected, rel=1e-12)
        with pytest.raises(ValueError, match="at least 2"):
            squared_bias(values[:1], true)

    def test_measures_of_bias(self):
        g = torch.tensor([3.0, 4.0])
        assert kept_share(g, g) == pytest.approx(1) and relative_bias(g, g) == 0
        assert kept_share(0 * g, g) == 0 and relative_bias(0 * g, g) == pytest.approx(1)

    def test_bad_input(self, residual_graph):
        graph, jacobians, examples = residual_graph
        with pytest.raises(ValueError, match="source must"):
            PathEstimates(graph, "L", examples)
        with pytest.raises(ValueError, match="per_example"):
            PathEstimates(graph, "model.first.weight", jacobians)
        with pytest.raises(ValueError, match="size"):
            PathEstimates(graph, "model.first.weight", examples).two_factor(0)


numbers = st.lists(
    st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=4
).map(np.array)


FIXED = np.array([[0.0, 1.0, 3.0, -2.0], [1.0, 2.0, -1.0, 0.5]])  # Cov(a, b) ≠ 0


class TestProducts:
    @settings(max_examples=30, deadline=None)
    @given(a=numbers, b=numbers, size=st.integers(1, 4), replace=st.booleans())
    @example(a=FIXED[0], b=FIXED[1], size=2, replace=False)
    @example(a=FIXED[0], b=FIXED[1], size=3, replace=True)
    def test_bias_of_a_product_is_that_over_all_minibatches(self, a, b, size, replace):
        count = min(len(a), len(b))
        a, b = a[:count], b[:count]
        size = size if replace else min(size, count)
        tried = over_minibatches(
            lambda s: a[s].mean() * b[s].mean(), count, size, replace=replace
        )
        found = product_bias(a, b, size, replace=replace)
        assert tried - a.mean() * b.mean() == pytest.approx(found, abs=1e-11)

    @settings(max_examples=30, deadline=None)
    @given(a=numbers, b=numbers, size=st.integers(2, 4))
    def test_pairs_of_different_examples_have_no_bias(self, a, b, size):
        count = min(len(a), len(b))
        a, b = a[:count], b[:count]
        tried = over_minibatches(lambda s: unbiased_product(a[s], b[s]), count, size)
        assert tried == pytest.approx(a.mean() * b.mean(), abs=1e-11)

    def test_matrices(self):
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 3, 2))
        tried = over_minibatches(lambda s: a[s].mean(0) @ b[s].mean(0), 4, 3)
        expected = tried - a.mean(0) @ b.mean(0)
        np.testing.assert_allclose(product_bias(a, b, 3), expected, atol=1e-14)

    def test_two_factors(self):
        rng = np.random.default_rng(4)
        a, b, c = rng.normal(size=(3, 4)) + 0.5
        for size in (1, 2, 4):
            tried = over_minibatches(
                lambda s: a[s].mean() * (b[s] * c[s]).mean(), 4, size
            )
            expected = tried - a.mean() * b.mean() * c.mean()
            assert two_factor_bias(a, b, c, size) == pytest.approx(expected, abs=1e-14)
        lasting = a.mean() * (np.mean(b * c) - b.mean() * c.mean())
        assert two_factor_bias(a, b, c, 10**9) == pytest.approx(lasting, rel=1e-6)

    def test_bad_input(self):
        a = np.ones(3)
        with pytest.raises(ValueError, match="must both be"):
            product_bias(a, np.ones(4), 2)
        with pytest.raises(ValueError, match="finite"):
            product_bias(a * math.nan, a, 2)
        with pytest.raises(ValueError, match="at least 1"):
            product_bias(a, a, 0)
        with pytest.raises(ValueError, match="with replacement"):
            product_bias(a, a, 4, replace=False)
        with pytest.raises(ValueError, match="B at least 2"):
            unbiased_product(a[:1], a[:1])
        with pytest.raises(ValueError, match="too many"):
            over_minibatches(np.mean, 20, 20)


class TestCost:
    def test_all_nodes_fit_in_one_forward_pass(self):
        for make in (dense, Residual):
            count = node_counts(traced(make))
            assert count["together"] == count["forward"] < count["apart"]

    def test_a_combination_costs_one_backpropagation(self, residual_graph):
        graph = residual_graph[0]
        seeds = {n: torch.randn(graph.values[n].shape) for n in graph.reductions}
        seeds = {n: s.double() for n, s in seeds.items()}
        cost = backward_costs(graph, seeds)
        assert cost["combination"].flops == cost["loss"].flops > 0
        extra = cost["combination"].operations - cost["loss"].operations
        assert 0 <= extra <= len(seeds) - 1

    def test_values_together_and_apart(self, residual_graph):
        graph = residual_graph[0]
        given = {p: graph.values[p] for p in graph.parameters}
        together = shared_values(graph, given)
        apart = shared_values(graph, given, apart=True)
        for name in graph.reductions:
            torch.testing.assert_close(together[name], graph.values[name])
            torch.testing.assert_close(apart[name], graph.values[name])

    def test_counting(self):
        a, b = normal(2, 3), normal(3, 5)
        cost = counted(lambda: torch.relu(a @ b).transpose(0, 1))
        assert cost.flops == 2 * 2 * 3 * 5 and cost.operations == 2

    def test_seeds_must_fit(self, residual_graph):
        with pytest.raises(ValueError, match="seeds"):
            backward_costs(residual_graph[0], {"nothing": torch.ones(1)})


class TestDrawing:
    def test_layers_follow_the_edges(self):
        graph = traced(dense)
        places = layered(list(graph.kinds), base_edges(graph))
        assert all(places[a][1] > places[b][1] for a, b in base_edges(graph))
        assert len(set(places.values())) == len(places)

    def test_boxes_and_ovals(self):
        graph = trace_s_graph(SourceExample(), normal(5), normal(5, seed=1))
        _, axes = figures.figure(1, 2)
        draw_base_graph(axes[0], graph, {"w": "$W$"})
        draw_s_graph(axes[1], graph, highlight=[("W", "L")])
        styles = {
            text.get_text(): type(text.get_bbox_patch().get_boxstyle()).__name__
            for text in axes[0].texts
            if text.get_bbox_patch()
        }
        assert styles["$W$"] == styles["mean"] == "Ellipse"
        assert styles["x"] == styles["sub"] == "Square"
        assert axes[1].lines[-1].get_label()

    def test_labels_must_fit(self):
        graph = trace_s_graph(SourceExample(), normal(5), normal(5, seed=1))
        _, axes = figures.figure()
        with pytest.raises(ValueError, match="no nodes"):
            draw_s_graph(axes, graph, {"nothing": "?"})
        with pytest.raises(ValueError, match="its own label"):
            draw_s_graph(axes, graph, {"mean": "W"})


class TestExercises:
    rng = np.random.default_rng(6)

    def test_product_is_that_of_the_chapter(self):
        a, b = self.rng.normal(size=(2, 5))
        found = s_graph_product.bias_of_product(a, b, 3)
        assert found == pytest.approx(product_bias(a, b, 3))

    def test_unbiased_product_is_that_of_the_chapter(self):
        a, b = self.rng.normal(size=(2, 5))
        found = s_graph_unbiased.product_without_bias(a, b)
        assert found == pytest.approx(unbiased_product(a, b))

    def test_two_factors_are_those_of_the_chapter(self):
        a, b, c = self.rng.normal(size=(3, 5))
        found = s_graph_factors.two_factor_expectation(a, b, c, 3)
        expected = two_factor_bias(a, b, c, 3) + a.mean() * b.mean() * c.mean()
        assert found == pytest.approx(expected)

    def test_paths_are_those_of_a_traced_graph(self):
        class Scalar(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

            def forward(self, x):
                p = self.w * x - (self.w * x).mean(0)
                return (p**3 / (p**2).mean(0) - self.w).abs().mean(0)

        graph = trace_s_graph(Scalar(), normal(6))
        names, jacobians = graph.nodes[1:], graph.all_jacobians()
        matrix = np.zeros((len(names), len(names)))
        for (start, end), value in jacobians.items():
            matrix[names.index(end), names.index(start)] = value.item()
        found = s_graph_paths.gradient_by_paths(matrix)
        expected = graph.path_sum("w", jacobians).item()
        assert found[0] == pytest.approx(expected, rel=1e-12)

    def test_the_property_test_agrees_with_the_tracer(self):
        s_graph_property.test_reduction(lambda x: np.tanh(x).mean(0))
        with pytest.raises(AssertionError):
            s_graph_property.test_reduction(lambda x: x.std(0))
