"""Small networks without and with skip connections, for any normalization.

Several networks of one shape can train side by side, as `members` of one: each has its
own channels, and convolutions in groups keep them apart.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.rotation import hadamard_rotation

Layers = Callable[..., nn.Module]
UNBIASED = partial(nn.Conv2d, bias=False)  # a normalization adds a bias of its own


class ConvNet(nn.Module):
    """3 × 3 convolutions, each normalized and followed by a ReLU, and a linear layer.

    The last depth//4 × 2 convolutions have twice the channels, and the first of them
    halves the picture. The linear layer takes the mean over the positions.

    Args:
        classes: number of outputs of a member.
        depth: number of convolutions on the longest path; even.
        width: channels of a member in the first layers.
        in_channels: those of the picture of a member.
        residual: put a skip connection around each two convolutions; where the channels
            change it is a 1 × 1 convolution, normalized as the others are.
        members: S, networks side by side.
        first_stride: of the first convolution; 2 for large pictures.
        convolution: makes a convolution; takes the arguments of `nn.Conv2d`, but `bias`.
        normalization: makes what follows a convolution, from its number of channels. For
            `TwoStageConv2d`, which normalizes itself, `nn.Identity`.

    Shapes:
        (M, S in_channels, H, W) to (M, S classes).

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        depth: int = 6,
        width: int = 16,
        in_channels: int = 1,
        residual: bool = False,
        members: int = 1,
        first_stride: int = 1,
        convolution: Layers = UNBIASED,
        normalization: Layers = nn.BatchNorm2d,
    ):
        """Start with PyTorch's initial weights."""
        super().__init__()
        _require_positive(
            classes=classes, width=width, in_channels=in_channels, members=members
        )
        if not isinstance(depth, int) or depth < 2 or depth % 2:
            raise ValueError(f"depth must be even and at least 2, got {depth!r}")
        if first_stride not in (1, 2):
            raise ValueError(f"first_stride must be 1 or 2, got {first_stride!r}")
        self.members, self.residual = members, residual

        def layer(before: int, after: int, kernel: int, stride: int) -> nn.Module:
            made = convolution(
                members * before,
                members * after,
                kernel,
                stride,
                kernel // 2,
                groups=members,
            )
            return nn.Sequential(made, normalization(members * after))

        wide = depth - depth // 4 * 2  # the first layer with twice the channels
        self.layers, self.skips = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for number in range(depth):
            after = width if number < wide else 2 * width
            stride = first_stride if number == 0 else 2 if number == wide else 1
            self.layers.append(layer(channels, after, 3, stride))
            if residual and number % 2 == 0:
                same = channels == after and stride == 1
                skip = nn.Identity() if same else layer(channels, after, 1, stride)
                self.skips.append(skip)
            channels = after
        self.classify = nn.Conv2d(
            members * channels, members * classes, 1, groups=members
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scores of the classes."""
        if not self.residual:
            for layer in self.layers:
                x = F.relu(layer(x))
        else:
            for first, second, skip in zip(
                self.layers[::2], self.layers[1::2], self.skips, strict=True
            ):
                x = F.relu(second(F.relu(first(x))) + skip(x))
        return self.classify(x.mean((2, 3), keepdim=True)).flatten(1)


class DenseNet(nn.Module):
    """Dense layers, each normalized and followed by a ReLU, and a last linear layer.

    A dense layer is a 1 × 1 convolution of pictures of one pixel, so the same factories
    serve it, `TwoStageConv2d` among them.

    Args:
        features: number of inputs of a member.
        classes: number of outputs of a member.
        depth: number of hidden layers.
        width: their size.
        members, convolution, normalization: as for `ConvNet`.

    Shapes:
        (M, S, …) with as many values as S × features, to (M, S classes).

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        features: int,
        classes: int = 10,
        *,
        depth: int = 4,
        width: int = 64,
        members: int = 1,
        convolution: Layers = UNBIASED,
        normalization: Layers = nn.BatchNorm2d,
    ):
        """Start with PyTorch's initial weights."""
        super().__init__()
        _require_positive(
            features=features,
            classes=classes,
            depth=depth,
            width=width,
            members=members,
        )
        self.members = members
        sizes = [members * size for size in (features, *[width] * depth)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                convolution(before, after, 1, 1, 0, groups=members),
                normalization(after),
            )
            for before, after in itertools.pairwise(sizes)
        )
        self.classify = nn.Conv2d(sizes[-1], members * classes, 1, groups=members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scores of the classes."""
        x = x.flatten(1)[:, :, None, None]
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.classify(x).flatten(1)


def hadamard_of_members(channels: int, members: int) -> torch.Tensor:
    """A Hadamard rotation for each member, in the blocks of one matrix.

    Args:
        channels: of all members together; those of one are a power of two.

    Returns:
        (channels, channels), orthogonal.
    """
    if members < 1 or channels % members:
        raise ValueError(f"{channels} channels cannot be dealt to {members} members")
    return torch.block_diag(*[hadamard_rotation(channels // members)] * members)


@torch.no_grad()
def initialize(model: ConvNet | DenseNet, seeds: Sequence[int]) -> None:
    """Draw the weights of each member from its own seed: normal, variance 2/fan-in.

    Biases become 0, so that a network without normalization starts well too (He et al.,
    2015). A member does not depend on the others, nor on the kind of layers.

    Raises:
        ValueError: there are not as many seeds as members.
    """
    if len(seeds) != model.members:
        raise ValueError(f"{model.members} members need as many seeds, got {seeds}")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            for part, generator in zip(
                module.weight.chunk(len(seeds)), generators, strict=True
            ):
                part.normal_(0.0, (2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.zero_()


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number above 0, got {number!r}")
