"""Fold batch normalization at inference into the linear layer before it.

With fixed statistics, γ (z − mean)/√(var + ε) + β is an affine map of each output
feature, and an affine map after a linear one is a linear layer with other weights and
another bias.
"""

import copy

import torch
from torch import nn

from bnbook.foundations.forward import BatchNorm

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNorm)


def fold_batch_norm(module: nn.Module, norm: nn.Module | None = None) -> nn.Module:
    """Merge a layer and the batch normalization after it, or all such pairs of a model.

    `fold_batch_norm(layer, norm)` returns one layer that computes `norm(layer(x))`;
    `fold_batch_norm(model)` returns an `nn.Sequential` in which every normalization
    that directly follows a supported layer is folded. Nested `nn.Sequential`s are
    flattened. Other modules are copied, as is a normalization that follows something
    else. Nothing that was passed is changed.

    Weights are computed in float64 and stored in the layer's dtype. Padding, stride,
    dilation and groups stay as they are: the map acts on the output. An `nn.Linear` is
    taken to receive (M, D) input, because on (N, L, D) `nn.BatchNorm1d` would normalize
    L.

    Args:
        module: `nn.Linear`, `nn.Conv1d` to `3d` or `nn.ConvTranspose1d` to `3d`, in any
            mode; or an `nn.Sequential`.
        norm: `torch.nn.BatchNorm*` or the book's `BatchNorm`, in evaluation mode; None
            for a model.

    Returns:
        The new layer, with a bias; or the new model, in evaluation mode.

    Raises:
        TypeError: module or norm is of another type.
        ValueError: norm is in training mode, keeps no running statistics, or holds a
            negative variance or values that are not finite; the channels or the
            dimensions do not match; a layer or a normalization carries forward hooks;
            or the folded weights overflow the layer's dtype.

    Source: Anonymous (2022), §1; Morwani (2020), §3, for w_eq and b_eq.
    """
    if norm is not None:
        return _fold_pair(module, norm)
    if type(module) is not nn.Sequential:
        raise TypeError(
            f"expected a layer and a normalization, or one nn.Sequential, got {type(module).__name__} "
            "alone; pass fold_batch_norm(layer, norm)"
        )
    folded: list[nn.Module] = []
    last = None  # the original of folded[-1]
    for part in _leaves(module):
        if type(part) in NORMS and type(last) in LAYERS:
            folded[-1] = _fold_pair(last, part)
        else:
            folded.append(copy.deepcopy(part))
        last = part
    return nn.Sequential(*folded).eval()


def _leaves(model: nn.Sequential) -> list[nn.Module]:
    """The modules of nested Sequentials, in the order in which they run."""
    if model._forward_hooks or model._forward_pre_hooks:
        raise ValueError(
            "an nn.Sequential carries forward hooks, which folding would lose; remove them"
        )
    found = []
    for part in model:
        found.extend(_leaves(part) if type(part) is nn.Sequential else [part])
    return found


@torch.no_grad()
def _fold_pair(layer: nn.Module, norm: nn.Module) -> nn.Module:
    _check_pair(layer, norm)
    scale, shift = inference_affine(norm)
    weight, bias = (
        layer.weight.double(),
        0.0 if layer.bias is None else layer.bias.double(),
    )
    scale, shift = scale.to(weight.device), shift.to(weight.device)
    new_weight = weight * per_output_scale(layer, scale)
    new_bias = scale * bias + shift
    folded = copy.deepcopy(layer)
    for name, value in (("weight", new_weight), ("bias", new_bias)):
        stored = value.to(layer.weight.dtype)
        if not torch.isfinite(stored).all():
            raise ValueError(
                f"the folded {name} overflows {layer.weight.dtype}: it reaches {value.abs().max():.3g}; "
                "convert the layer to a wider dtype first"
            )
        setattr(
            folded, name, nn.Parameter(stored, requires_grad=layer.weight.requires_grad)
        )
    return folded


def inference_affine(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale γ/√(var + ε) and shift β − scale · mean of a normalization, in float64.

    Raises:
        TypeError: norm is not a batch normalization.
        ValueError: norm is in training mode, keeps no running statistics, or holds a
            negative variance or values that are not finite, or √(var + ε) is 0.
    """
    if type(norm) not in NORMS:
        raise TypeError(
            f"expected a batch normalization, one of {[kind.__name__ for kind in NORMS]}, "
            f"got {type(norm).__name__}"
        )
    if norm.training:
        raise ValueError(
            f"{type(norm).__name__} is in training mode, where its output depends on the batch; "
            "call .eval() on it first"
        )
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            f"{type(norm).__name__} keeps no running statistics (track_running_stats=False), so it uses "
            "those of the batch at inference too; train it with running statistics"
        )
    mean, var = norm.running_mean.double(), norm.running_var.double()
    if isinstance(norm, BatchNorm):
        gamma, beta = norm.gamma, norm.beta
    else:
        gamma, beta = norm.weight, norm.bias  # None where affine=False
    gamma = torch.ones_like(mean) if gamma is None else gamma.detach().double()
    beta = torch.zeros_like(mean) if beta is None else beta.detach().double()
    for name, value in (
        ("mean", mean),
        ("variance", var),
        ("scale", gamma),
        ("shift", beta),
    ):
        if not torch.isfinite(value).all():
            raise ValueError(
                f"the {name} of {type(norm).__name__} is not finite; mend what produced NaN or infinity"
            )
    if (var < 0).any():
        raise ValueError(
            f"the running variance is negative, {var.min():.3g}; a variance is at least 0, "
            "so check how it was loaded or converted"
        )
    if (var + norm.eps == 0).any():
        raise ValueError(
            "a feature has running variance 0 and ε is 0, so its output is 0/0; use a larger eps"
        )
    scale = gamma / torch.sqrt(var + norm.eps)
    return scale, beta - scale * mean


def _check_pair(layer: nn.Module, norm: nn.Module) -> None:
    if type(layer) not in LAYERS:
        raise TypeError(
            f"expected one of {[kind.__name__ for kind in LAYERS]} before the normalization, got "
            f"{type(layer).__name__}; remove a parametrization before folding"
        )
    if type(norm) not in NORMS:
        raise TypeError(
            f"expected a batch normalization, one of {[kind.__name__ for kind in NORMS]}, "
            f"got {type(norm).__name__}"
        )
    features = (
        layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    )
    expected = len(norm.gamma) if isinstance(norm, BatchNorm) else norm.num_features
    if features != expected:
        raise ValueError(
            f"the layer has {features} outputs and the normalization {expected} features; "
            "fold a normalization into the layer whose output it receives"
        )
    wanted = type(norm).__name__[-2:] if type(norm) in NORMS[:3] else None
    found = "1d" if isinstance(layer, nn.Linear) else type(layer).__name__[-2:]
    if wanted is not None and wanted != found:
        raise ValueError(
            f"{type(norm).__name__} does not accept the output of {type(layer).__name__}; "
            f"use BatchNorm{found}"
        )
    for part in (layer, norm):
        if part._forward_hooks or part._forward_pre_hooks:
            raise ValueError(
                f"{type(part).__name__} carries forward hooks, which folding would run on other values; "
                "remove them first"
            )


def per_output_scale(layer: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    """The scale of each output, shaped to multiply the weights of the layer.

    Args:
        layer: a supported layer with D outputs.
        scale: one number per output, shape (D,).

    Returns:
        A tensor that broadcasts against `layer.weight`.

    Raises:
        ValueError: there is not one number per output.
    """
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if scale.shape != (outputs,):
        raise ValueError(
            f"scale must have shape ({outputs},), got {tuple(scale.shape)}; "
            "pass one number per output of the layer"
        )
    trailing = [1] * (layer.weight.ndim - 2)
    if not isinstance(layer, TRANSPOSED):
        return scale.view(-1, 1, *trailing)  # weight: (out, in/groups, …)
    # Weight: (in, out/groups, …). The rows of group g feed the outputs of group g.
    by_group = scale.view(layer.groups, 1, -1)
    rows = layer.in_channels // layer.groups
    return by_group.expand(-1, rows, -1).reshape(layer.in_channels, -1, *trailing)
