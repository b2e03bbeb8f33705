"""How far each estimate of the gradient is from the true one, layer by layer."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.two_stage import (
    TwoStageNorm,
    tower,
    two_stage_backward,
)
from bnbook.estimation.two_stage_conv import TwoStageConv2d

ORDERS = ("before", "after")


def stack(
    order: str,
    depth: int,
    *,
    width: int = 8,
    classes: int = 10,
    seed: int = 0,
    **options,
) -> nn.Sequential:
    """A classifier of pictures, (M, 1, H, W), of `depth` normalized 3×3 convolutions.

    Circular padding, no bound on examples, float64.

    Args:
        order: whether the mean is taken "before" the convolution (`TwoStageConv2d`) or
            "after" it (`nn.Conv2d` and `TwoStageNorm`).
        depth: number of normalized layers.
        width: their channels.
        classes: number of outputs.
        seed: of the weights.
        options: of the normalizations.

    Raises:
        ValueError: there is no such order.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    torch.manual_seed(seed)
    parts, before = [], 1
    kind = {"padding": 1, "padding_mode": "circular", "dtype": torch.float64}
    options = {"u_max": None} | options
    for _ in range(depth):
        if order == "before":
            parts.append(TwoStageConv2d(before, width, 3, **kind, **options))
        else:
            parts.append(nn.Conv2d(before, width, 3, bias=False, **kind))
            parts.append(TwoStageNorm(width, dtype=torch.float64, **options))
        parts.append(nn.ReLU())
        before = width
    head = nn.Linear(width, classes, dtype=torch.float64)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the convolutions, in order."""
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]


def population_output(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """The output of `stack` with the statistics of x, whose gradient is the true one.

    Written apart from the towers: plain means, and autograd through them.
    """
    for part in model:
        if isinstance(part, TwoStageConv2d):
            p = part.center(x, x.mean((0, 2, 3)))
            x = part.output(p, (p**2).mean((0, 2, 3)))
        elif isinstance(part, TwoStageNorm):
            x = F.batch_norm(
                x, None, None, part.weight, part.bias, training=True, eps=part.eps
            )
        else:
            x = part(x)
    return x


def errors_by_layer(
    model: nn.Sequential, x: torch.Tensor, t: torch.Tensor
) -> dict[str, list[float]]:
    """|estimate − true|/|true| of the gradient of each kernel, from input to output.

    The running statistics must be those of x; see `calibrate`.
    """
    truth = torch.autograd.grad(
        F.cross_entropy(population_output(model, x), t), kernels(model)
    )
    found = {}
    for name in ("joint", "two-stage", "single example"):
        twin = copy.deepcopy(model)
        if name == "two-stage":
            two_stage_backward(twin, x, t, F.cross_entropy, chunk=len(x))
        else:
            with tower(twin, "joint" if name == "joint" else "first"):
                F.cross_entropy(twin(x), t).backward()
        found[name] = [
            float((w.grad - g).norm() / g.norm())
            for w, g in zip(kernels(twin), truth, strict=True)
        ]
    return found
