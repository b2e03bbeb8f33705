"""Algorithm 1: a convolution with the mean taken before it and the scale after it."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.population_norm import (
    position_moments,
    positions_mean,
    spread,
)
from bnbook.estimation.two_stage import TwoStageNorm


class TwoStageConv2d(TwoStageNorm):
    """y = R (γ p/√(ν̄ + ε)) + β with p = W ⋆ x − W̄ μ̄, in two towers.

    μ is the mean of the *input*, (C_in,), and ν the second moment of p, (C_out,). W̄ is
    the kernel, summed over its positions. So the running mean does not age when W moves.
    W̄ μ̄ is subtracted at every position, those at the border included: that is
    W ⋆ (x − μ̄) if padding continues a constant as a constant, which zeros do not.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            padding_mode, device, dtype: as for `nn.Conv2d`; there is no bias but β.
        eps, momentum, affine, r_m, r_v, f_max, u_max, rotation, seed, microbatch, seen_by,
            nu_about: as for `TwoStageNorm`.

    Shapes:
        (M, C_in, H, W) to (M, C_out, H', W').

    Source: Anonymous (2022), §3.3 and Alg. 1, which adds ε to ν and so keeps it in ν̄; here
    it is added to ν̄, as in §3.1. The ReLU is left to the model.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        **options,
    ):
        """Start with PyTorch's initial kernel, μ̄ = 0, ν̄ = 1, γ = 1 and β = 0."""
        super().__init__(
            out_channels, eps, momentum, affine, True, device, dtype, **options
        )
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias=False,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        mean = torch.zeros(in_channels, device=device, dtype=dtype)
        self.register_buffer("running_mean", mean)

    def center(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """W ⋆ x − W̄ mean, with mean (C_in,) or (M, C_in)."""
        z = self.conv(x)
        # A copy: W's gradient needs the mean as it was, after μ̄ has moved on.
        subtracted = summed(self.conv.weight, mean.clone(), self.conv.groups)
        return z - spread(subtracted, z)

    def moments(
        self, x: torch.Tensor, p: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """μ_b of x, (M, C_in), and (E p, E p²) over the positions, (M, C_out) each."""
        return positions_mean(x), position_moments(p)

    def moved(self, mean: torch.Tensor) -> torch.Tensor:
        """W̄ (mean − μ̄), (1, C_out) or (M, C_out)."""
        return summed(self.conv.weight, mean - self.running_mean, self.conv.groups)

    def check(self, x: torch.Tensor) -> None:
        """Refuse what is no batch of images with this number of channels.

        Raises:
            ValueError: x has another shape, or no example or position.
        """
        channels = self.conv.in_channels
        if x.ndim != 4 or x.shape[1] != channels or x.numel() == 0:
            raise ValueError(
                f"x must have shape (M, {channels}, H, W) with M at least 1, got "
                f"{tuple(x.shape)}"
            )

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """The plain convolution that computes the same in evaluation mode.

        Its kernel is K = R (γ W/√(running ν + ε)), and its bias is β minus the running mean
        times K, summed over its positions; whatever the padding.

        Raises:
            ValueError: the layer is in training mode, or a rotation meets groups.

        Source: Anonymous (2022), Alg. 1, ConvLayer_Inference.
        """
        if self.training:
            raise ValueError(
                "the layer is in training mode, where it may bound an example; call "
                ".eval() on it first"
            )
        if self.rotation is not None and self.conv.groups != 1:
            raise ValueError(
                "a rotation mixes all channels, so it folds into a convolution without "
                "groups only; build the layer without a rotation"
            )
        scale = 1 / (self.running_var.double() + self.eps).sqrt()
        if self.weight is not None:
            scale = scale * self.weight.double()
        kernel = self.conv.weight.double() * scale[:, None, None, None]
        if self.rotation is not None:
            kernel = torch.einsum("oc,cikl->oikl", self.rotation.double(), kernel)
        folded = copy.deepcopy(self.conv)
        folded.weight.copy_(kernel)
        shift = -summed(kernel, self.running_mean.double(), self.conv.groups)[0]
        if self.bias is not None:
            shift = shift + self.bias.double()
        folded.bias = nn.Parameter(shift.to(folded.weight.dtype))
        return folded

    def extra_repr(self) -> str:
        """The settings, as PyTorch prints a module."""
        return super().extra_repr() + f", seen_by={self.seen_by}"


def summed(weight: torch.Tensor, mean: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """W̄ mean: the kernel summed over its positions, times the mean of each channel.

    Args:
        weight: (C_out, C_in/groups, H, W).
        mean: (C_in,) or (M, C_in).
        groups: of the convolution.

    Returns:
        (1, C_out) or (M, C_out).
    """
    means = mean if mean.ndim == 2 else mean[None]
    total = weight.sum((2, 3), keepdim=True)
    return F.conv2d(means[:, :, None, None], total, groups=groups)[:, :, 0, 0]
