"""Small networks for the digits: full-precision, binary and ternary ones, and their training."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnbook.data.digits import digits
from bnbook.data.splits import Split
from bnbook.experiments import Experiment
from bnbook.propagation.binary import BinaryConv2d, BinaryLinear, Sign, clip_latent
from bnbook.propagation.deploy import pack_network
from bnbook.propagation.packing import unpack_bits
from bnbook.propagation.ternary import TernaryLinear

KINDS = ("float", "binary", "ternary", "convolution")
LARGEST = 16  # of a pixel of the digits


def network(kind: str, *, seed: int, width: int = 256) -> nn.Sequential:
    """An untrained network for the digits, with integers 0 to 16 as its input.

    Args:
        kind: "float" has ReLU and real weights; "binary" and "ternary" have signs and
            such weights; all three have the widths 64, `width`, `width`, 10.
            "convolution" is binary, with two convolutions before its last layer.
        seed: of the weights.
        width: of the hidden layers.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; use one of {', '.join(KINDS)}")
    generator = torch.Generator().manual_seed(seed)
    if kind == "convolution":
        inner = {"padding": 1, "generator": generator}
        return nn.Sequential(
            BinaryConv2d(1, 32, 3, **inner),  # integers: 0 is a value like any other
            nn.BatchNorm2d(32),
            Sign(),
            BinaryConv2d(32, 64, 3, stride=2, pad_value=-1, **inner),
            nn.BatchNorm2d(64),
            Sign(),
            nn.Flatten(),
            BinaryLinear(64 * 4 * 4, 10, generator=generator),
            nn.BatchNorm1d(10),
        )

    def linear(inputs, outputs):
        if kind != "float":
            layer = BinaryLinear if kind == "binary" else TernaryLinear
            return layer(inputs, outputs, generator=generator)
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=False)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        return layer

    parts = []
    for inputs, outputs in ((64, width), (width, width)):
        parts += [linear(inputs, outputs), nn.BatchNorm1d(outputs)]
        parts += [nn.ReLU() if kind == "float" else Sign()]
    return nn.Sequential(*parts, linear(width, 10), nn.BatchNorm1d(10))


def train(kind: str, *, seed: int, width: int = 256, epochs: int = 30) -> nn.Sequential:
    """A network of `kind`, trained on the digits with Adam and cross-entropy.

    The learning rate falls from 0.01 to 0 along a cosine. Batches are drawn with `seed`.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: the kind is unknown, or epochs is not a positive integer.
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be a positive integer, got {epochs!r}")
    model = network(kind, seed=seed, width=width).train()
    x, t = inputs(digits().train, kind)
    generator = torch.Generator().manual_seed(seed)
    size, rate = 64, 0.01
    steps = len(x) // size
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order[: steps * size].split(size):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[rows]), t[rows]).backward()
            optimizer.step()
            schedule.step()
            clip_latent(model)
    return model.eval()


def inputs(part: Split, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels 0 to 16 as float32, (N, 64) or (N, 1, 8, 8) for "convolution"; and labels."""
    x = torch.from_numpy(part.x)
    return (
        x.reshape(-1, 1, 8, 8) if kind == "convolution" else x,
        torch.from_numpy(part.t),
    )


@torch.no_grad()
def predictions(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The class with the largest output, the first of several: (N,)."""
    return model(x).argmax(dim=1).numpy()


@torch.no_grad()
def disagreements(model: nn.Sequential, x: torch.Tensor) -> dict[str, int]:
    """Where a network and its packed twin differ on a set of images.

    Args:
        model: in evaluation mode, as `pack_network` takes it.
        x: its input.

    Returns:
        "signs": how many signs behind hidden layers were compared; "wrong_signs": how
        many of them differ; "wrong_predictions": how many predicted classes differ.
    """
    packed = pack_network(model, largest=LARGEST)
    hidden = iter(packed.hidden(x.numpy()))
    found = {"signs": 0, "wrong_signs": 0}
    y = x
    for part in model:
        y = part(y)
        if isinstance(part, Sign):
            expected = np.moveaxis(y.numpy() > 0, 1, -1)
            bits = unpack_bits(next(hidden), expected.shape[-1])
            found["signs"] += bits.size
            found["wrong_signs"] += int((bits != expected).sum())
    wrong = packed.predict(x.numpy()) != y.argmax(dim=1).numpy()
    return found | {"wrong_predictions": int(wrong.sum())}


def bytes_of(model: nn.Module) -> int:
    """Bytes of the weights, running statistics and parameters of a network in float32."""
    state = model.state_dict().values()
    return sum(value.numel() * 4 for value in state if value.is_floating_point())


def accuracy_run(kind: str, seed: int) -> dict[str, float | int]:
    """Train one network; its accuracies, sizes, and disagreements with its packed twin."""
    model, data = train(kind, seed=seed), digits()
    row: dict[str, float | int] = {}
    for name in ("validation", "test"):
        x, t = inputs(getattr(data, name), kind)
        row[name] = float((predictions(model, x) == t.numpy()).mean())
    row |= {"float_bytes": bytes_of(model)}
    if kind == "float":
        return row | {"packed_bytes": 0, "wrong_signs": 0, "wrong_predictions": 0}
    found = disagreements(model, inputs(data.test, kind)[0])
    del found["signs"]
    return row | {"packed_bytes": pack_network(model, largest=LARGEST).nbytes} | found


EXPERIMENTS = (
    Experiment(
        part="propagation",
        name="deploy_accuracy",
        run=accuracy_run,
        settings=[{"kind": kind, "seed": seed} for kind in KINDS for seed in range(5)],
    ),
)
