"""How far the two factors of a path through a second moment depend on one another.

The gradient of weights W through a second moment S is a product of two means over the
data, of J_n(W, S) and J_n(S, L). One example gives the product of its own two, and the
mean of that is off by their covariance. Here every statistic is a node of its own, so
both factors hold all other statistics fixed.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.gradient_error import weighted_layers
from bnbook.estimation.population_norm import (
    PopulationNorm,
    population_norms,
    positions_mean,
    spread,
)
from bnbook.estimation.rotation import rotate


@dataclass(frozen=True)
class SecondMomentEdges:
    """Both factors for N examples, the C channels of one layer, P weights a channel.

    Attributes:
        slope: J_n(S, L), (N, C).
        contribution: J_n(W, S), (N, C, P); P are the weights that make the channel.
        ratio: S/Q of each example and channel, (N, C).
    """

    slope: torch.Tensor
    contribution: torch.Tensor
    ratio: torch.Tensor


def second_moment_edges(
    model: nn.Sequential, x: torch.Tensor, t: torch.Tensor
) -> list[SecondMomentEdges]:
    """The edges of each normalized layer, from the input on; see `calibrate`.

    Args:
        model, x, t: network with the running statistics of x, examples, labels.

    Source: Anonymous (2022), §2.1.
    """
    layers, norms = weighted_layers(model), population_norms(model)
    seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = [
        part.register_forward_hook(lambda m, i, o: seen.update({m: (i[0].detach(), o)}))
        for part in (*layers, *norms)
    ]
    try:
        loss = F.cross_entropy(model.eval()(x), t, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    upstream = torch.autograd.grad(loss, [seen[norm][1] for norm in norms])
    with torch.no_grad():
        return [
            _edges(layer, norm, *seen[layer], dy)
            for layer, norm, dy in zip(layers, norms, upstream, strict=True)
        ]


def _edges(
    layer: nn.Module,
    norm: PopulationNorm,
    before: torch.Tensor,
    z: torch.Tensor,
    dy: torch.Tensor,
) -> SecondMomentEdges:
    p, total = norm.center(z, norm.running_mean), norm.running_var + norm.eps
    if norm.rotation is not None:
        dy = rotate(dy, norm.rotation.T)
    # ∂/∂ν of γ p/√(ν + ε), at every position
    dnu = -0.5 * p * spread(norm.weight / total**1.5, p)
    slope = (dy * dnu).flatten(2).sum(2) if p.ndim > 2 else dy * dnu
    if isinstance(layer, nn.Conv2d):
        before = F.unfold(
            before, layer.kernel_size, padding=layer.padding, stride=layer.stride
        )
        d = before.shape[2]
        contribution = 2 / d * torch.einsum("ncp,nip->nci", p.flatten(2), before)
    else:
        contribution = 2 * p[:, :, None] * before[:, None]
    return SecondMomentEdges(
        slope, contribution, norm.running_var / positions_mean(p**2)
    )


def dependence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """‖Cov(a, b)‖/√(Var a · tr Var b) of each channel, between 0 and 1.

    For one-dimensional b it is the absolute value of the correlation.

    Args:
        a: a number for each of N examples and C channels, (N, C).
        b: a vector for each, (N, C, P).

    Returns:
        (C,), 0 where a or b is constant.

    Raises:
        ValueError: the shapes do not fit, or N is below 2.
    """
    if b.ndim != 3 or a.shape != b.shape[:2] or len(a) < 2:
        raise ValueError(
            f"a must be (N, C) and b (N, C, P) with N at least 2, got {tuple(a.shape)} "
            f"and {tuple(b.shape)}"
        )
    a, b = a - a.mean(0), b - b.mean(0)
    covariance = (a[:, :, None] * b).mean(0).norm(dim=1)
    scale = ((a**2).mean(0) * (b**2).sum(2).mean(0)).sqrt()
    return torch.where(scale > 0, covariance / scale, torch.zeros_like(scale))
