"""The network that the experiments of the part train, and its gradient descent."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.experiments import Diverged
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import accuracy, descend, tensors

WIDTHS = (64, 20, 15, 10)


@pytest.fixture(scope="module")
def data():
    return tensors(digits().standardized().train)


class TestBatchNorm:
    def test_equals_pytorch_forward_and_backward(self):
        z = torch.randn(9, 4, dtype=torch.float64, generator=torch.manual_seed(0)) + 2
        ours, theirs = BatchNorm(4, eps=0.1), nn.BatchNorm1d(4, eps=0.1).double()
        for norm in (ours, theirs):
            with torch.no_grad():
                norm.weight.copy_(torch.tensor([1.5, -0.7, 0.3, 2.0]))
                norm.bias.copy_(torch.tensor([0.1, 0.2, -0.4, 1.0]))
        g = torch.randn(9, 4, dtype=torch.float64, generator=torch.manual_seed(1))
        inputs = [z.clone().requires_grad_() for _ in range(2)]
        for norm, x in zip((ours, theirs), inputs, strict=True):
            (norm(x) * g).sum().backward()
        torch.testing.assert_close(ours(z), theirs(z))
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)

    def test_evaluation_on_the_fitted_batch_equals_training(self):
        z = torch.randn(9, 4, dtype=torch.float64, generator=torch.manual_seed(0)) + 2
        norm = BatchNorm(4)
        expected = norm(z)
        norm.fit(z)
        torch.testing.assert_close(norm.eval()(z), expected)
        assert not torch.allclose(norm.eval()(z[:3]), norm.train()(z[:3]))


class TestDenseNetwork:
    def test_scores_are_those_of_pytorch_modules(self, data):
        network = DenseNetwork(WIDTHS, seed=3)
        modules = []
        for linear, width in zip(network.linears, (20, 15, None), strict=True):
            modules.append(linear)
            if width:
                modules += [nn.BatchNorm1d(width).double(), nn.ReLU()]
        torch.testing.assert_close(network(data[0]), nn.Sequential(*modules)(data[0]))

    def test_record_is_what_happens(self, data):
        network = DenseNetwork(WIDTHS, normalization=None, activation=torch.tanh)
        record = network.record(data[0])
        assert [z.shape[1] for z in record.z] == [20, 15, 10]
        assert all(y is z for y, z in zip(record.y, record.z, strict=False))
        torch.testing.assert_close(record.a[1], torch.tanh(record.z[1]))
        torch.testing.assert_close(record.z[2], network.linears[2](record.a[1]))
        assert not network.normalized and DenseNetwork(WIDTHS).normalized

    def test_the_seed_gives_all_normalizations_the_same_weights(self):
        plain, norm = (
            DenseNetwork(WIDTHS, normalization=n, seed=5) for n in (None, BatchNorm)
        )
        for a, b in zip(plain.linears, norm.linears, strict=True):
            assert torch.equal(a.weight, b.weight)
        assert not torch.equal(DenseNetwork(WIDTHS, seed=6).linears[0].weight, a.weight)

    def test_the_variance_of_the_weights(self):
        weight = DenseNetwork((400, 300, 2), gain=3.0).linears[0].weight
        assert weight.var().item() == pytest.approx(3 / 400, rel=0.02)

    def test_fit_makes_evaluation_equal_to_training_on_that_batch(self, data):
        network = DenseNetwork(WIDTHS)
        network.fit(data[0])
        expected = network(data[0])
        torch.testing.assert_close(network.eval()(data[0]), expected)
        assert network.eval()(data[0][:1]).isfinite().all()  # one example alone

    def test_bad_input(self):
        with pytest.raises(ValueError, match="hidden layer"):
            DenseNetwork((64, 10))
        with pytest.raises(ValueError, match="width"):
            DenseNetwork((64, 0, 10))
        with pytest.raises(ValueError, match="gain"):
            DenseNetwork(WIDTHS, gain=0.0)


class TestDescent:
    def test_a_step_is_rate_times_gradient(self, data):
        network = DenseNetwork(WIDTHS, seed=1)
        before = [p.detach().clone() for p in network.parameters()]
        loss = functional.cross_entropy(network(data[0]), data[1])
        grads = torch.autograd.grad(loss, list(network.parameters()))
        seen = []
        losses = descend(
            network, *data, rate=0.3, steps=1, watch=lambda *a: seen.append(a)
        )
        assert losses == [pytest.approx(loss.item())] and seen == [(0, losses[0])]
        for p, old, grad in zip(network.parameters(), before, grads, strict=True):
            torch.testing.assert_close(p.detach(), old - 0.3 * grad)

    def test_batches_cover_an_epoch_once(self, data):
        class Seen(nn.Module):
            def __init__(self):
                super().__init__()
                self.scores = nn.Parameter(torch.zeros(3, dtype=torch.float64))
                self.rows = []

            def forward(self, x):
                self.rows.append(x[:, 0].tolist())
                return self.scores.expand(len(x), 3)

        x, t = torch.arange(10.0)[:, None], torch.zeros(10, dtype=torch.int64)
        network = Seen()
        descend(network, x, t, rate=0.1, steps=6, batch=3, seed=4)
        epochs = [[*itertools.chain(*r)] for r in (network.rows[:3], network.rows[3:])]
        for epoch in epochs:
            assert len(epoch) == len(set(epoch)) == 9
        assert epochs[0] != epochs[1]

    def test_learns_the_digits(self, data):
        network = DenseNetwork(WIDTHS)
        losses = descend(network, *data, rate=0.5, steps=60, batch=128)
        network.fit(data[0])
        test = tensors(digits().standardized().test)
        assert losses[-1] < losses[0] / 4 and accuracy(network, *test) > 0.9
        assert network.training  # the mode is restored

    def test_names_the_step_and_rate_of_a_divergence(self, data):
        identity = lambda z: z  # ReLUs would die, and the loss stay finite
        network = DenseNetwork(WIDTHS, normalization=None, activation=identity)
        with pytest.raises(Diverged, match="learning rate 1e\\+06") as error:
            descend(network, *data, rate=1e6, steps=50)
        assert error.value.step >= 1

    @pytest.mark.parametrize(
        "bad", [{"rate": 0.0}, {"rate": math.nan}, {"steps": 0}, {"batch": 0}]
    )
    def test_bad_input(self, data, bad):
        with pytest.raises(ValueError, match="must"):
            descend(DenseNetwork(WIDTHS), *data, **({"rate": 0.1, "steps": 1} | bad))

    def test_tensors(self):
        part = digits().train
        x, t = tensors(part, torch.float32)
        assert x.dtype == torch.float32 and t.dtype == torch.int64
        np.testing.assert_array_equal(x.numpy(), part.x)
