"""Batch normalization written with means over examples and nothing else.

`nn.BatchNorm` is one operation that mixes examples. Here it is five, of which two are
means: μ = E x and ν = E (x − μ)², over examples and positions. Their names are what
`torch.fx` and the S-graph show.
"""

import copy

import torch
from torch import fx, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def channel_mean(x: torch.Tensor) -> torch.Tensor:
    """Mean over examples and positions: (M, C, …) to (C,)."""
    return x.transpose(0, 1).flatten(1).mean(1)


def subtract(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """X − mean, with mean (C,)."""
    return x - _channels(mean, x)


def divide(p: torch.Tensor, square: torch.Tensor, eps: float) -> torch.Tensor:
    """p/√(square + ε), with square (C,)."""
    return p / _channels((square + eps).sqrt(), p)


def scale_and_shift(
    x_hat: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor
) -> torch.Tensor:
    """γ x̂ + β, with γ and β (C,)."""
    return x_hat * _channels(gamma, x_hat) + _channels(beta, x_hat)


def _channels(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 2))


for _name in ("channel_mean", "subtract", "divide", "scale_and_shift"):
    fx.wrap(_name)  # one node each in a traced graph


class BatchMoments(nn.Module):
    """A batch normalization that shares the parameters of another and computes the same
    in separate steps; it does not update the running statistics.

    Args:
        norm: `nn.BatchNorm1d` to `3d`.

    Raises:
        TypeError: norm is something else.
    """

    def __init__(self, norm: nn.Module):
        """Take parameters, ε and mode."""
        super().__init__()
        if not isinstance(norm, BATCH_NORMS):
            raise TypeError(
                f"norm must be nn.BatchNorm1d to 3d, got {type(norm).__name__}"
            )
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x, (M, C, …), by its own statistics in training mode."""
        by_batch = self.training or self.running_mean is None
        p = subtract(x, channel_mean(x) if by_batch else self.running_mean)
        square = channel_mean(p * p) if by_batch else self.running_var
        y = divide(p, square, self.eps)
        return y if self.weight is None else scale_and_shift(y, self.weight, self.bias)


def expand_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of the model in which every `nn.BatchNorm` is a `BatchMoments`."""
    model = copy.deepcopy(model)
    if isinstance(model, BATCH_NORMS):
        return BatchMoments(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BATCH_NORMS):
                setattr(parent, name, BatchMoments(child))
    return model
