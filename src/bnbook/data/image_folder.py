"""Images from a folder, one subfolder a class, as ImageNet is usually unpacked."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

ENDINGS = (".jpg", ".jpeg", ".png")
MEAN, STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of ImageNet's training images
BILINEAR = Image.Resampling.BILINEAR


class ImageFolder(Dataset):
    """The images of a folder, as standardized tensors with the number of their class.

    Classes are the subfolders in alphabetical order, hidden ones left out; the images of
    a class are the files in it that end in .jpg, .jpeg or .png, in alphabetical order, hidden ones
    left out. So the number of an image is the same on every machine. Folders within a class
    are not looked into. Images with 16 bits a channel are scaled to 8.

    For training, a random part of the image with 8% to 100% of its area and a side ratio
    of 3/4 to 4/3 is resized, and mirrored in half of the cases. The draw is a function of
    `seed`, `epoch` and the number of the image. For evaluation, the shorter side is
    resized to 8/7 of the size and the centre is taken.

    Args:
        root: the folder.
        size: side of the square that comes out, in pixels.
        train: whether to draw.
        seed: of the draws.
        mean, std: of the channels, subtracted and divided by.

    Attributes:
        classes: their names.
        epoch: set it before each pass; other draws in each.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no subfolder, or one without images; or size is below 1.
    """

    def __init__(
        self,
        root: Path | str,
        size: int,
        *,
        train: bool,
        seed: int = 0,
        mean: tuple[float, float, float] = MEAN,
        std: tuple[float, float, float] = STD,
    ):
        """List the files."""
        root = Path(root).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"there is no folder {root}; it should hold one folder of images a class"
            )
        if size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {size}")
        folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        if not folders:
            raise ValueError(
                f"{root} has no subfolders; it should hold one folder of images a class"
            )
        self.size, self.train, self.seed, self.epoch = size, train, seed, 0
        self.mean = np.array(mean, dtype=np.float32)
        self.std = np.array(std, dtype=np.float32)
        self.classes = tuple(folder.name for folder in folders)
        self.files: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders):
            files = sorted(p for p in folder.iterdir() if _is_image(p))
            if not files:
                raise ValueError(
                    f"the class {folder.name} in {root} has no image that ends in "
                    f"{', '.join(ENDINGS)}; add some, or remove the folder"
                )
            self.files += [(file, label) for file in files]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Image (3, size, size), float32, and class.

        Raises:
            ValueError: the file is no image, or damaged; the message names it.
        """
        path, label = self.files[index]
        try:
            with Image.open(path) as image:
                image = _eight_bits(image).convert("RGB")
        except (OSError, SyntaxError, UnidentifiedImageError) as error:
            raise ValueError(
                f"{path} is damaged or no image ({error}); replace or remove it"
            ) from error
        values = np.asarray(self._square(image, index), dtype=np.float32) / 255
        values = (values - self.mean) / self.std
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))), label

    def _square(self, image: Image.Image, index: int) -> Image.Image:
        size = (self.size, self.size)
        if not self.train:
            return image.resize(size, BILINEAR, box=centre_box(*image.size))
        rng = np.random.default_rng([self.seed, self.epoch, index])
        image = image.resize(size, BILINEAR, box=random_box(*image.size, rng))
        if rng.random() < 0.5:
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image


def _is_image(path: Path) -> bool:
    visible = path.name[0] != "."  # macOS keeps a hidden ._a.jpg beside a.jpg
    return visible and path.suffix.lower() in ENDINGS and path.is_file()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey images of 16 bits as such of 8, which `convert` would clip to white."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image, dtype=np.int64).clip(0, 65535)
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def centre_box(width: int, height: int) -> tuple[float, float, float, float]:
    """The central square with 7/8 of the shorter side: left, top, right, bottom."""
    side = min(width, height) * 7 / 8
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random part of 8% to 100% of the area, sides 3 : 4 to 4 : 3, if that fits;
    after ten draws that do not fit, the whole image."""
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * width * height
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return 0.0, 0.0, float(width), float(height)
