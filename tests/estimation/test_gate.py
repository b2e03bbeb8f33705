"""A gate: values, what it catches, and that it is ScaleGrad once it is open."""

import torch

from bnbook.estimation.gate import Gate
from bnbook.estimation.scale_grad import scale_grad

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.manual_seed(seed))


class TestGate:
    def test_closed_it_catches_the_sum_and_passes_nothing(self):
        gate, q, g = Gate(draw(3)), draw(5, 3, seed=1).requires_grad_(), draw(5, 3)
        y = gate(q, 0.5)
        assert torch.equal(y, gate.value.expand(5, 3))
        y.backward(g)
        assert q.grad is None
        torch.testing.assert_close(gate.caught, g.sum(0))

    def test_open_it_is_scale_grad(self):
        value, q, g, r = draw(3), draw(5, 3, seed=1), draw(5, 3), draw(5, 3, seed=2)
        found = []
        gate = Gate(value)
        gate.open = True
        for operation in (gate, lambda q_b, r: scale_grad(value, q_b, r)):
            variable = q.clone().requires_grad_()
            (operation(variable**2, r) * g).sum().backward()
            found.append(variable.grad)
        torch.testing.assert_close(*found)
        assert gate.caught is None

    def test_what_comes_before_a_closed_gate_is_not_visited(self):
        """Not even with zeros: that would cost a pass over all activations."""
        visited = []

        class Visited(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.set_materialize_grads(False)
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                visited.append(g)
                return g

        x = draw(4, 2).requires_grad_()
        gate = Gate(draw(2))
        gate(Visited.apply(x), 1.0).sum().backward()
        assert visited in ([], [None]) and x.grad is None
