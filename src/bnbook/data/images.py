"""Pictures of digits by name: the embedded ones, or MNIST from a folder of the reader."""

import os
from functools import lru_cache

from bnbook.data.digits import digits
from bnbook.data.mnist import mnist
from bnbook.data.splits import Dataset

NAMES = ("digits", "mnist")
FOLDER = "BNBOOK_MNIST"  # the environment variable that names the folder


@lru_cache(maxsize=4)
def images(name: str = "digits", seed: int = 0) -> Dataset:
    """The dataset of this name.

    Args:
        name: "digits", 8 × 8 pixels and embedded, or "mnist", 28 × 28, from the folder that
            the environment variable BNBOOK_MNIST names.
        seed: of the split.

    Raises:
        ValueError: another name, no folder is named, or the files are damaged.
        FileNotFoundError: the folder or one of its files is missing.
    """
    if name == "digits":
        return digits(seed)
    if name != "mnist":
        raise ValueError(f"unknown dataset {name!r}; use one of {', '.join(NAMES)}")
    folder = os.environ.get(FOLDER)
    if not folder:
        raise ValueError(
            f"MNIST needs a folder with its four files; name it with --folder or in {FOLDER}"
        )
    return mnist(folder, seed=seed)
