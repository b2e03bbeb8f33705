"""How far the gradients of converted networks are from the truth, layer by layer."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnbook.data.synthetic_images import SyntheticImages
from bnbook.estimation.convert import convert_normalization
from bnbook.estimation.gradient_error import calibrate
from bnbook.estimation.small_nets import inception_style, resnet_style
from bnbook.estimation.two_stage import two_stage_backward
from bnbook.experiments import Experiment

NETWORKS = {"Inception-style": inception_style, "ResNet-style": resnet_style}


@dataclass(frozen=True)
class Errors:
    """Relative errors of the gradient by the kernels.

    Attributes:
        layers: |estimate − true|/|true| of each kernel, by name.
        all: the same of all kernels in one row.
        cosine: of the angle between estimate and truth, of all kernels in one row.
        size: |true|, of all kernels in one row.
    """

    layers: dict[str, float]
    all: float
    cosine: float
    size: float


def examples(count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic images of 16 × 16 pixels in float64, and their classes."""
    data = [SyntheticImages(count)[i] for i in range(count)]
    x = torch.stack([image for image, _ in data]).double()
    return x, torch.tensor([label for _, label in data])


def trained(
    net: Callable[..., nn.Module],
    x: torch.Tensor,
    t: torch.Tensor,
    *,
    seed: int,
    steps: int,
    rate: float = 0.1,
) -> nn.Module:
    """A network after some steps of gradient descent with batch normalization over x."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = net(width=8).double()
    for _ in range(steps):
        model.zero_grad()
        F.cross_entropy(model(x), t).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
    return model


def conversion_errors(
    model: nn.Module, x: torch.Tensor, t: torch.Tensor, method: str, **options
) -> Errors:
    """Convert the model, give it the statistics of x, and compare with batch
    normalization over all of x; without a bound and a cap.

    Args:
        model: with `nn.BatchNorm2d`, in training mode.
        x, t: the whole data.
        method, options: as for `convert_normalization`.
    """
    truth = copy.deepcopy(model)
    truth.zero_grad()
    F.cross_entropy(truth(x), t).backward()
    free = {"u_max": None} if method == "frozen" else {"u_max": None, "f_max": None}
    twin = convert_normalization(model, method, **free, **options)
    twin.zero_grad()
    calibrate(twin, x)
    if method == "two_stage":
        two_stage_backward(twin, x, t, F.cross_entropy, chunk=len(x))
    else:
        F.cross_entropy(twin(x), t).backward()
    kernels = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    pairs = {
        name: (
            twin.get_submodule(name).weight.grad,
            truth.get_submodule(name).weight.grad,
        )
        for name in kernels
    }
    error, size, product = (
        np.array([float(measure(*pair)) for pair in pairs.values()])
        for measure in (
            lambda g, true: (g - true).norm(),
            lambda g, true: true.norm(),
            lambda g, true: (g * true).sum(),
        )
    )
    lengths = [float(g.norm()) for g, _ in pairs.values()]
    whole = np.linalg.norm(size)
    return Errors(
        dict(zip(kernels, (error / size).tolist(), strict=True)),
        float(np.linalg.norm(error) / whole),
        float(product.sum() / (whole * np.linalg.norm(lengths))),
        float(whole),
    )


def compared(network: str, steps: int, seed: int) -> dict[str, float | int]:
    """Errors of the two-stage gradient by what ν_b is taken about, and of one example's.

    Args:
        network: a name in NETWORKS.
        steps: of training before the comparison.
        seed: of the weights.
    """
    x, t = examples()
    model = trained(NETWORKS[network], x, t, seed=seed, steps=steps)
    row: dict[str, float | int] = {}
    for about in ("mean", "running"):
        errors = conversion_errors(model, x, t, "two_stage", nu_about=about)
        row[f"about_{about}"] = errors.all
        row[f"exact_{about}"] = sum(e < 1e-10 for e in errors.layers.values())
        row[f"cosine_{about}"] = errors.cosine
    single = conversion_errors(model, x, t, "single_example")
    row |= {"single_example": single.all, "cosine_single": single.cosine}
    row["size"] = single.size
    row["joint"] = conversion_errors(model, x, t, "improved_renorm").all
    return row


CONVERSION_BIAS = Experiment(
    part="estimation",
    name="conversion_bias",
    run=compared,
    settings=[
        {"network": network, "steps": steps, "seed": seed}
        for network in NETWORKS
        for steps in (0, 20)
        for seed in range(8)
    ],
)
EXPERIMENTS = (CONVERSION_BIAS,)
