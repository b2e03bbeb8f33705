"""Images made up on the fly, so that a training script can be tried without data."""

import numpy as np
import torch
from torch.utils.data import Dataset


class SyntheticImages(Dataset):
    """Waves, whose direction and length tell the class, under noise.

    Image `index` is a function of `seed` and `index`, so no file is needed and every
    process sees the same.

    Args:
        count: number of images.
        classes: number of classes; image i has class i modulo this.
        size: of the square, in pixels.
        channels: of the image.
        noise: standard deviation of the noise; the wave has 0.7.
        seed: of phases, noise, and the waves' colours.
        first: number of the first image, so that sets for training and validation do not
            overlap.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        count: int,
        classes: int = 10,
        size: int = 16,
        *,
        channels: int = 3,
        noise: float = 1.0,
        seed: int = 0,
        first: int = 0,
    ):
        """Nothing is computed yet."""
        least = min(count, classes, size, channels)
        if least < 1 or noise < 0 or first < 0:
            raise ValueError(
                "count, classes, size and channels must be at least 1, noise and first at "
                f"least 0, got {count}, {classes}, {size}, {channels}, {noise}, {first}"
            )
        self.count, self.size, self.channels = count, size, channels
        self.noise, self.seed, self.first, self.epoch = noise, seed, first, 0
        self.classes = tuple(f"wave_{label}" for label in range(classes))

    def __len__(self) -> int:
        """Number of images."""
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Image (channels, size, size), float32, and class.

        Raises:
            IndexError: there is no such image.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} images, from 0, got {index}")
        label = (self.first + index) % len(self.classes)
        rng = np.random.default_rng([self.seed, self.first + index])
        angle = np.pi * label / len(self.classes)
        period = 4 + label % 3
        rows, columns = np.mgrid[: self.size, : self.size]
        along = np.cos(angle) * columns + np.sin(angle) * rows
        phases = rng.uniform(0, 2 * np.pi) + np.arange(self.channels)[:, None, None]
        image = np.sin(2 * np.pi * along / period + phases)
        image += self.noise * rng.standard_normal(image.shape)
        return torch.from_numpy(image.astype(np.float32)), label
