"""The exercises of the part `propagation`."""

import numpy as np
import torch

from bnbook.exercises.propagation import EXERCISES as LISTED
from bnbook.foundations.forward import batch_norm
from bnbook.foundations.geometry import normalization_jacobian
from bnbook.propagation.activations import Activation
from bnbook.propagation.ternary import tern, ternary_parts
from bnbook.propagation.ternary_levels import optimal_ternary
from bnbook.propagation.variance import (
    ACTIVATIONS,
    quadrature_moments,
    theory,
    weight_law,
)

EXERCISES = {exercise.id: exercise for exercise in LISTED}


def close(got, expected, rtol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-12)


def answer(name):
    return EXERCISES[name].reference


class TestVariance:
    """Each reference solution equals the functions of the chapter, or what they rest on."""

    widths = (7, 4, 12, 5, 3)

    def law(self):
        return weight_law(
            "normal", lambda fan_in, fan_out: (3 + fan_in) / (40 + fan_out)
        )

    def of_layers(self):
        fans = zip(self.widths, self.widths[1:], strict=False)
        return np.array([self.law().variance(*pair) for pair in fans])

    def test_layers(self):
        expected = theory(self.widths, ACTIVATIONS["ReLU"], self.law())
        forward, backward = answer("variance-layers")(
            np.array(self.widths, float), self.of_layers()
        )
        close(forward, expected.forward)
        close(backward, expected.backward)

    def test_norm(self):
        x, gamma = np.random.default_rng(1).normal(2.0, 1.5, size=9), -0.7
        for eps in (0.0, 0.4):
            jacobian = normalization_jacobian(x, gamma, eps=eps)
            close(answer("variance-norm")(x, gamma, eps), (jacobian**2).sum(axis=1))
        moved = batch_norm(x[:, None], np.ones(1), np.zeros(1), eps=0.0)[1].z_hat[:, 0]
        smallest = answer("variance-norm")(x, gamma, 0.0).argmin()
        assert smallest == abs(moved).argmax()

    def test_chi(self):
        a = np.array([0.3, -0.8, 0.5, 0.2, -0.1])
        f = np.polynomial.HermiteE(a)
        found = quadrature_moments(Activation("polynomial", f, f.deriv()))
        close(answer("variance-chi")(a), found.chi, rtol=1e-10)

    def test_depth(self):
        chi = quadrature_moments(ACTIVATIONS["tanh"]).chi
        expected = theory(self.widths, ACTIVATIONS["tanh"], self.law(), norm=True)
        found = answer("variance-depth")(
            np.array(self.widths, float), self.of_layers(), chi
        )
        close(found, expected.factors[1:])  # the first layer's input is x, not f

    def test_property(self):
        for kind in ("normal", "uniform", "signs"):
            answer("variance-property")(weight_law(kind, "He").sample)


class TestDeploy:
    """Each reference solution equals the packed layers of the chapter."""

    def bits(self, shape, words):
        from bnbook.propagation.packing import pack_bits

        values = np.random.default_rng(0).random((*shape,)) < 0.5
        padded = np.zeros((len(values), 64 * words))
        padded[:, : shape[1]] = values
        return padded, pack_bits(values)

    def test_bytes_and_dot(self):
        from bnbook.propagation.packing import sign_dot

        (p, packed_p), (q, packed_q) = self.bits((3, 70), 2), self.bits((5, 70), 2)
        close(answer("deploy-dot")(p, q, 70), sign_dot(packed_p, packed_q, 70))
        assert answer("deploy-bytes")(70, 5, 1) == packed_q.nbytes

    def test_ternary(self):
        from bnbook.propagation.packing import pack_ternary, ternary_dot

        a, w = np.random.default_rng(1).integers(-1, 2, (2, 4, 50))
        planes = [(v != 0).astype(float) for v in (a, w)]
        signs = [(v > 0).astype(float) for v in (a, w)]
        got = answer("deploy-ternary")(planes[0], signs[0], planes[1], signs[1])
        close(got, ternary_dot(pack_ternary(a), pack_ternary(w)))
        assert answer("deploy-bytes")(50, 4, 2) == sum(
            plane.nbytes for plane in pack_ternary(w)
        )

    def test_threshold(self):
        import torch

        from bnbook.propagation.thresholds import fold_sign

        rng = np.random.default_rng(2)
        gamma, beta, mean = rng.normal(0, 3, (3, 200))
        gamma[:20], var = 0.0, rng.uniform(1, 9, 200)
        norm = torch.nn.BatchNorm1d(200, eps=0.5, dtype=torch.float64).eval()
        values = (gamma, beta, mean, var)
        for tensor, value in zip(norm.state_dict().values(), values, strict=False):
            tensor.copy_(torch.from_numpy(value))
        sums = np.arange(-40, 41)[:, None]
        turn, at = answer("deploy-threshold")(*values, 0.5, 40)
        expected = fold_sign(norm, -40, 40).bits(sums)
        np.testing.assert_array_equal(turn * sums >= at, expected)

    def test_property(self):
        from bnbook.propagation.thresholds import real_threshold

        for variant in EXERCISES["deploy-property"].correct:
            rng = np.random.default_rng(3)
            gamma, beta, mean = rng.normal(0, 3, (3, 50))
            turn, at = variant.function(gamma, beta, mean, np.full(50, 2.0))
            rule = real_threshold(gamma, beta, mean, np.full(50, 4.0), 0.0)
            sums = np.arange(-100, 101)[:, None]
            np.testing.assert_array_equal(turn * sums >= at, rule.bits(sums))


class TestTernary:
    """Each reference solution equals the functions of the chapter, or every case there is."""

    def test_levels(self):
        x = np.random.default_rng(61).normal(size=(5, 4))
        x[0, 0] = 0.5
        for delta in (0.0, 0.5, 3.0):
            close(answer("ternary-levels")(x, delta), tern(x, delta))

    def test_scale(self):
        w = np.random.default_rng(62).normal(size=(6, 4)) * np.array(
            [[1e-3], *5 * [[1]]]
        )
        for factor in (0.0, 0.7, 1.5):
            _, alpha, _ = ternary_parts(torch.tensor(w), factor=factor, scale="output")
            close(answer("ternary-scale")(w, factor), alpha[:, 0].numpy())

    def test_optimal(self):
        for w in np.random.default_rng(63).standard_t(2, size=(20, 9)):
            t, alpha = answer("ternary-optimal")(w)
            found = optimal_ternary(w)
            close(t, found.t)
            close(alpha, found.scale)

    def test_batch(self):
        rng = np.random.default_rng(64)
        a, total = rng.normal(1.0, 2.0, (5, 3)), 0.0
        for t in np.ndindex(3, 3, 3):
            w = np.array(t) - 1
            chance = np.where(w == 0, 0.3, 0.35).prod()
            total += chance * (a @ w).var()
        close(answer("ternary-batch")(a, 0.7), total)


class TestBinary:
    """Each reference solution equals the layers and the theory of the chapter."""

    def test_ste(self):
        import torch

        from bnbook.propagation.binary import SignSTE

        rng = np.random.default_rng(1)
        s = torch.tensor(rng.normal(size=(9, 5)).round(1), requires_grad=True)
        da = rng.normal(size=(9, 5))
        SignSTE.apply(s, "hardtanh").backward(torch.tensor(da))
        got = answer("binary-ste")(s.detach().numpy(), da)
        np.testing.assert_array_equal(got, s.grad.numpy())

    def test_parity(self):
        from bnbook.propagation.binary_theory import lattice_slope

        for fan_in in (1, 2, 7, 64, 129):
            expected = float(lattice_slope("hardtanh", fan_in))
            close(answer("binary-parity")(fan_in), expected)

    def test_telescope(self):
        from bnbook.propagation.binary_theory import sign_theory, slope

        widths = (9, 4, 17, 6, 5)
        for name in ("identity", "hardtanh", "relu"):
            got = answer("binary-telescope")(
                np.array(widths, float), float(slope(name))
            )
            close(got, sign_theory(widths, name, norm=True))

    def test_fold_and_property(self):
        from bnbook.propagation.binary_bias import sign_rule

        gamma = np.array([0.5, -2.0, 1.0, -0.3])
        beta, mean = np.random.default_rng(2).normal(size=(2, 4))
        rule = sign_rule(gamma, beta, mean, np.full(4, 1.5))
        bias, direction = answer("binary-fold")(gamma, beta, mean, np.full(4, 1.5))
        close(bias, rule.bias)
        np.testing.assert_array_equal(direction, rule.direction)
        answer("binary-property")(lambda s, *parameters: sign_rule(*parameters)(s))
