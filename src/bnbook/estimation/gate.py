"""A statistic whose gradient is caught in one backward pass and passed on in the next."""

import torch


class Gate:
    """The value S for each example. Closed, it keeps ∂L/∂S and passes nothing on; open,
    it passes each example's gradient to Q, as `scale_grad(S, Q, r)` does.

    So one forward pass serves both stages of two-stage backpropagation, whose towers have
    equal values and differ in what goes through the statistics.

    Args:
        value: S, (C,); it receives no gradient.

    Attributes:
        open: False at the start.
        caught: ∂L/∂S, summed over the examples, (C,), after a backward pass while closed;
            None before, or if the loss does not see it.
    """

    def __init__(self, value: torch.Tensor):
        """Start closed."""
        self.value, self.open = value, False
        self.caught: torch.Tensor | None = None

    def __call__(self, q_b: torch.Tensor, r: torch.Tensor | float) -> torch.Tensor:
        """S for each example, (M, C), with a way to Q.

        Args:
            q_b: Q of each example, (M, C).
            r: factor of the gradient to Q, a number or (M, C).
        """
        return _Pass.apply(q_b, r, self)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_b, r, gate):
        ctx.r, ctx.gate = r, gate  # r is no part of the graph
        return gate.value.expand_as(q_b).clone()

    @staticmethod
    def backward(ctx, g):
        if ctx.gate.open:
            return ctx.r * g, None, None
        ctx.gate.caught = g.sum(0)
        return None, None, None
