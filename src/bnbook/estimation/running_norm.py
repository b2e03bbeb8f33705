"""What the normalizations of this part share with `nn.BatchNorm2d`: arguments and state."""

import math

import torch
from torch import nn

from bnbook.foundations.folding import fold_batch_norm


class RunningNorm(nn.Module):
    """γ, β and running statistics under the names of `nn.BatchNorm2d`, without a forward.

    Args:
        num_features: C, the channels of x.
        eps: ε > 0.
        momentum: weight of the new batch in the running statistics, or None for the
            average of all batches so far.
        affine: whether there are γ and β.
        track_running_stats: must be True; these layers are made of them.
        device, dtype: of all tensors.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device,
        dtype,
    ):
        """Start with mean 0, variance 1, γ = 1 and β = 0, as PyTorch does."""
        super().__init__()
        if not isinstance(num_features, int) or num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features!r}")
        if not 0 < eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {eps}")
        if momentum is not None and not 0 < momentum <= 1:
            raise ValueError(
                f"momentum must lie between 0 and 1 or be None, got {momentum}; it is the "
                "weight of the new batch"
            )
        if not track_running_stats:
            raise ValueError(
                "this layer is made of its running statistics; use track_running_stats=True"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine = affine
        place = {"device": device, "dtype": dtype}
        self.weight = (
            nn.Parameter(torch.ones(num_features, **place)) if affine else None
        )
        self.bias = nn.Parameter(torch.zeros(num_features, **place)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features, **place))
        self.register_buffer("running_var", torch.ones(num_features, **place))
        self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))

    def count_batch(self) -> float:
        """Count one more batch, and return the weight of its statistics."""
        self.num_batches_tracked += 1
        if self.momentum is None:
            return 1 / self.num_batches_tracked.item()
        return self.momentum

    def check(self, x: torch.Tensor) -> None:
        """Refuse what is no batch of this number of channels.

        Raises:
            ValueError: x has another shape, or no example or position.
        """
        if x.ndim < 2 or x.shape[1] != self.num_features or x.numel() == 0:
            raise ValueError(
                f"x must have shape (M, {self.num_features}, …) with M at least 1, got "
                f"{tuple(x.shape)}"
            )

    @staticmethod
    def like(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Y in the dtype of x where that has half precision, as `nn.BatchNorm2d` returns it."""
        return y.to(x.dtype) if x.dtype in (torch.float16, torch.bfloat16) else y

    @torch.no_grad()
    def as_batch_norm(self, layer: nn.Module) -> nn.Module:
        """`nn.BatchNorm1d` to `3d` behind this layer, with copies of the state.

        It is in the mode of this module, and computes γ (x − mean)/√(var + ε) + β.
        """
        dimensions = "1d" if isinstance(layer, nn.Linear) else type(layer).__name__[-2:]
        make = getattr(nn, f"BatchNorm{dimensions}", nn.BatchNorm1d)
        norm = make(self.num_features, eps=self.eps, dtype=self.running_var.dtype)
        norm.running_mean.copy_(self.running_mean)
        norm.running_var.copy_(self.running_var)
        if self.affine:
            norm.weight.copy_(self.weight)
            norm.bias.copy_(self.bias)
        return norm.train(self.training)

    def fold(self, layer: nn.Module) -> nn.Module:
        """The layer before, with this normalization merged into it.

        Args:
            layer: `nn.Linear`, `nn.Conv1d` to `3d`, or a transposed convolution.

        Returns:
            One layer that computes what both do in evaluation mode.

        Raises:
            TypeError, ValueError: as `fold_batch_norm`.
        """
        return fold_batch_norm(layer, self.as_batch_norm(layer))

    def extra_repr(self) -> str:
        """The settings, as PyTorch prints a module."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
