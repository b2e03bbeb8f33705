"""Two small networks of the kinds in the source: branches side by side, and shortcuts.

They stand for Inception-v3 and ResNet-50 where those are too large, and have what makes
conversion hard there: normalizations inside blocks inside blocks, channel numbers that
are no power of two, and a normalized shortcut.
"""

import torch
from torch import nn


class BasicConv2d(nn.Module):
    """Convolution without bias, `nn.BatchNorm2d`, ReLU; named as in torchvision."""

    def __init__(self, before: int, after: int, size: int = 1, *, stride: int = 1):
        """Padding keeps the size of the image."""
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(M, before, H, W) to (M, after, H', W')."""
        return self.bn(self.conv(x)).relu()


class Branches(nn.Module):
    """One block of an Inception network: four branches, their channels side by side."""

    def __init__(self, before: int, width: int):
        """The output has 5 width channels."""
        super().__init__()
        half = width // 2
        self.branch1x1 = BasicConv2d(before, width)
        self.branch3x3 = nn.Sequential(
            BasicConv2d(before, half), BasicConv2d(half, width + half, 3)
        )
        self.branch_double = nn.Sequential(
            BasicConv2d(before, half),
            BasicConv2d(half, width, 3),
            BasicConv2d(width, width + half, 3),
        )
        self.branch_pool = nn.Sequential(
            nn.AvgPool2d(3, 1, 1), BasicConv2d(before, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(M, before, H, W) to (M, 5 width, H, W)."""
        branches = self.branch1x1, self.branch3x3, self.branch_double, self.branch_pool
        return torch.cat([branch(x) for branch in branches], 1)


class Residual(nn.Module):
    """y = ReLU(x + two normalized convolutions of x), the shortcut normalized if it must
    change the channels or the size, as in the source."""

    def __init__(self, before: int, after: int, stride: int):
        """The first convolution has the stride."""
        super().__init__()
        self.first = BasicConv2d(before, after, 3, stride=stride)
        self.conv = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.downsample = None
        if before != after or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(M, before, H, W) to (M, after, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return (shortcut + self.bn(self.conv(self.first(x)))).relu()


def inception_style(
    classes: int = 10, *, channels: int = 3, width: int = 8, dropout: float = 0.0
) -> nn.Sequential:
    """A stem, two blocks of branches, and a classifier: 15 normalizations.

    Args:
        classes: number of outputs.
        channels: of the image.
        width: even; a block has 5 width channels.
        dropout: share of features that are dropped before the classifier.

    Raises:
        ValueError: width is odd or below 2.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width must be even and at least 2, got {width}")
    return nn.Sequential(
        BasicConv2d(channels, width, 3, stride=2),
        Branches(width, width),
        nn.MaxPool2d(2),
        Branches(5 * width, width),
        *_head(5 * width, classes, dropout),
    )


def resnet_style(
    classes: int = 10, *, channels: int = 3, width: int = 8, dropout: float = 0.0
) -> nn.Sequential:
    """A stem, three residual blocks, and a classifier: 9 normalizations.

    Args:
        classes, channels, dropout: as for `inception_style`.
        width: channels of the first block; doubled twice.

    Raises:
        ValueError: width is below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    return nn.Sequential(
        BasicConv2d(channels, width, 3),
        Residual(width, width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        *_head(4 * width, classes, dropout),
    )


def _head(features: int, classes: int, dropout: float) -> list[nn.Module]:
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return [*pool, nn.Linear(features, classes)]
