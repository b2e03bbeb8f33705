"""The largest eigenvalues of a Hessian, against the whole matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.optimization.dense import BatchNorm, DenseNetwork
from bnbook.optimization.descent import descend, tensors
from bnbook.optimization.hessian import (
    Hessian,
    classifier_loss,
    lanczos,
    power_iteration,
    top_eigenvalues,
)

SMALL = (64, 6, 5, 10)


class Matrix:
    """A matrix in place of a Hessian, which counts its products."""

    def __init__(self, matrix):
        self.matrix, self.size, self.products = matrix, len(matrix), 0

    def __matmul__(self, v):
        self.products += 1
        return self.matrix @ v


def symmetric(values, seed=0):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=2 * (len(values),)))[0]
    return Matrix(q @ np.diag(values) @ q.T)


@pytest.fixture(scope="module")
def data():
    x, t = tensors(digits().standardized().train)
    return x[:300], t[:300]


@pytest.fixture(scope="module", params=[BatchNorm, None], ids=["norm", "plain"])
def network(request, data):
    network = DenseNetwork(SMALL, normalization=request.param, activation=torch.tanh)
    descend(network, *data, rate=0.3, steps=20)
    return network


class TestHessian:
    def test_products_equal_those_of_autograd(self, network, data):
        loss, point = classifier_loss(network, *data)
        hessian = Hessian(loss, point)
        dense = torch.autograd.functional.hessian(loss, point).numpy()
        np.testing.assert_allclose(hessian.dense(), dense, atol=1e-12)
        assert hessian.products == hessian.size == len(point)
        v = np.random.default_rng(0).normal(size=len(point))
        np.testing.assert_allclose(hessian @ v, dense @ v, atol=1e-12)

    def test_products_equal_differences_of_gradients(self, network, data):
        loss, point = classifier_loss(network, *data)
        v = np.random.default_rng(1).normal(size=len(point))
        h = 1e-5
        ends = [Hessian(loss, point + s * h * torch.from_numpy(v)) for s in (1, -1)]
        difference = (ends[0].gradient - ends[1].gradient) / (2 * h)
        np.testing.assert_allclose(
            Hessian(loss, point) @ v, difference, rtol=1e-5, atol=1e-7
        )

    def test_loss_is_that_of_training_mode_and_nothing_changes(self, network, data):
        expected = functional.cross_entropy(network.train()(data[0]), data[1])
        state = {n: v.clone() for n, v in network.state_dict().items()}
        network.eval()
        loss, point = classifier_loss(network, *data)
        assert loss(point).item() == pytest.approx(expected.item(), rel=1e-14)
        assert not any(module.training for module in network.modules())
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name])
        network.train()

    def test_single_precision_is_computed_in_double(self, network, data):
        network = DenseNetwork(SMALL, dtype=torch.float32)
        loss, point = classifier_loss(network, data[0].float(), data[1])
        assert point.dtype == loss(point).dtype == torch.float64

    def test_bad_input(self, network, data):
        with pytest.raises(TypeError, match="floating-point"):
            Hessian(lambda w: w.sum(), torch.arange(3))
        with pytest.raises(ValueError, match="vector"):
            Hessian(lambda w: w.sum(), torch.ones(2, 2))
        with pytest.raises(ValueError, match="shape"):
            Hessian(lambda w: (w**3).sum(), torch.ones(3)) @ np.ones(2)
        for loss in (lambda w: w.log().sum(), lambda w: w.sqrt().sum()):
            with pytest.raises(ValueError, match="not finite"):
                Hessian(loss, torch.zeros(2, dtype=torch.float64))
        with pytest.raises(ValueError, match="must be finite"):
            classifier_loss(network, data[0] * torch.nan, data[1])
        with pytest.raises(ValueError, match=r"t \(M,\)"):
            classifier_loss(network, data[0], data[1][:5])
        with pytest.raises(ValueError, match="no parameters"):
            classifier_loss(nn.Identity(), *data)


class TestEigenvalues:
    @pytest.mark.parametrize("k", [1, 5, 10])
    def test_equal_those_of_the_whole_matrix(self, network, data, k):
        dense = Hessian(*classifier_loss(network, *data)).dense()
        expected = np.linalg.eigvalsh(dense)[::-1][:k]
        for seed in (0, 1):
            found = top_eigenvalues(network, *data, k, seed=seed)
            np.testing.assert_allclose(found.values, expected, rtol=1e-3)
            assert found.products < len(dense) / 2
        again = top_eigenvalues(network, *data, k, seed=1)
        np.testing.assert_array_equal(again.values, found.values)

    def test_power_iteration_finds_the_same_with_more_products(self, network, data):
        hessian = Hessian(*classifier_loss(network, *data))
        slow, fast = power_iteration(hessian, 3), lanczos(hessian, 3)
        np.testing.assert_allclose(slow.values, fast.values, rtol=1e-3)
        assert slow.products > 2 * fast.products
        assert hessian.products == slow.products + fast.products

    @pytest.mark.parametrize("find", [lanczos, power_iteration])
    def test_are_the_largest_by_algebraic_value(self, find):
        matrix = symmetric([-9.0, 5.0, 3.0, *np.linspace(-1, 1, 60)])
        np.testing.assert_allclose(find(matrix, 2).values, [5.0, 3.0], rtol=1e-3)

    @pytest.mark.parametrize("size", [1, 2, 7, 20, 21, 22])
    def test_as_many_as_there_are_parameters(self, size):
        values = np.arange(1.0, size + 1)
        for k in {1, size - 1 or 1, size}:
            found = lanczos(symmetric(values), k)
            np.testing.assert_allclose(found.values, values[::-1][:k], rtol=1e-3)

    def test_a_tighter_tolerance_gives_smaller_errors(self):
        values = 0.9 ** np.arange(200)
        found = [lanczos(symmetric(values), 10, rtol=r) for r in (0.3, 1e-9)]
        errors = [abs(f.values / values[:10] - 1).max() for f in found]
        assert errors[1] < 1e-10 and found[0].products < found[1].products

    @settings(max_examples=25, deadline=None)
    @given(st.integers(2, 40), st.integers(0, 10**6), st.floats(0.1, 10))
    def test_scale_with_the_loss(self, size, seed, factor):
        values = np.random.default_rng(seed).normal(size=size) + 5
        k = min(3, size)
        one = lanczos(symmetric(values, seed), k, rtol=1e-8)
        many = lanczos(symmetric(values * factor, seed), k, rtol=1e-8)
        np.testing.assert_allclose(one.values, np.sort(values)[::-1][:k], rtol=1e-6)
        np.testing.assert_allclose(many.values, factor * one.values, rtol=1e-6)

    @pytest.mark.parametrize("find", [lanczos, power_iteration])
    def test_bad_input(self, find):
        matrix = symmetric([3.0, 2.0, 1.0])
        for k in (0, -1, 4):
            with pytest.raises(ValueError, match="k must lie between 1 and 3"):
                find(matrix, k)
        with pytest.raises(TypeError, match="integer"):
            find(matrix, 1.5)
        for rtol in (0.0, 1.0, np.nan):
            with pytest.raises(ValueError, match="rtol"):
                find(matrix, 1, rtol=rtol)

    def test_zeros_count_too(self):
        values = lanczos(symmetric([3.0, 2.0, *[0.0] * 40]), 5).values
        np.testing.assert_allclose(values, [3, 2, 0, 0, 0], atol=1e-12)

    def test_says_when_lanczos_fails(self):
        with pytest.raises(RuntimeError, match="broke down"):
            lanczos(symmetric([0.0] * 40), 2)

    def test_says_when_there_are_no_such_eigenvalues(self):
        with pytest.raises(RuntimeError, match="1 eigenvalues are positive"):
            power_iteration(symmetric([1.0, -2.0, -3.0]), 2)
        with pytest.raises(RuntimeError, match="found 0 of 1"):
            power_iteration(symmetric([1.0, 0.99999, 0.5]), 1, rtol=1e-9, most=20)
