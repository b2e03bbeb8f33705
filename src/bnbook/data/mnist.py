"""The handwritten digits of MNIST (LeCun et al. 1998), from a folder that the reader gives.

The folder holds four files in the IDX format, packed by gzip or not: the images and the
labels of 60 000 examples for training and of 10 000 for the test. The book neither
contains nor downloads them; without them its experiments use `bnbook.data.digits`.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from bnbook.data.splits import Dataset, Split

CLASSES = 10
TRAIN, VALIDATION = 10_000, 5_000
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_GZIP = b"\x1f\x8b"


def mnist(
    folder: Path | str,
    *,
    train: int = TRAIN,
    validation: int = VALIDATION,
    seed: int = 0,
) -> Dataset:
    """MNIST in three parts; training and validation are drawn from the training files.

    Args:
        folder: where the four files are.
        train: examples to train on; Morwani (2020), §3, takes 10 000.
        validation: other examples to choose by.
        seed: of the draw.

    Returns:
        Features from 0, white, to 255, one a pixel, 784 for the original files. The test
        part is the whole test set, in the order of the file.

    Raises:
        FileNotFoundError: the folder or one of the files is missing.
        ValueError: a file is damaged or not what its name says, or train and validation
            are not positive or exceed the training files together.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}; put the four MNIST files there: "
            + ", ".join(name for pair in _FILES.values() for name in pair)
        )
    x, t = _examples(folder, "train")
    if min(train, validation) < 1 or train + validation > len(x):
        raise ValueError(
            f"train and validation must be at least 1 and together at most {len(x)}, the "
            f"examples in the training files, got {train} and {validation}"
        )
    order = np.random.default_rng(seed).permutation(len(x))
    chosen = np.split(order[: train + validation], [train])
    rows, columns = x.shape[1:]
    test = _examples(folder, "test")
    if test[0].shape[1:] != (rows, columns):
        raise ValueError(
            f"the images in {folder} have {rows} × {columns} pixels for training and "
            f"{test[0].shape[1]} × {test[0].shape[2]} for the test; use one set of files"
        )
    names = tuple(
        f"pixel_{row}_{column}" for row in range(rows) for column in range(columns)
    )
    parts = [(x[part], t[part]) for part in chosen] + [test]
    return Dataset("MNIST", names, *(_split(*part) for part in parts))


def load_idx(path: Path | str) -> np.ndarray:
    """Read an IDX file of unsigned bytes, packed by gzip or not, as its first bytes say.

    The format: two zero bytes, the type (8 for unsigned bytes), the number of dimensions,
    each dimension as a big-endian 32-bit number, then the values.

    Args:
        path: the file.

    Returns:
        An array of uint8 with the dimensions that the file names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another type, or shorter or longer than it says.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{path.name} is a damaged gzip file ({error}); fetch it again"
            ) from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path.name} is no IDX file: it starts with {content[:4].hex(' ') or 'nothing'}, "
            "not with 00 00; fetch it again"
        )
    kind, dimensions = content[2:4]
    if kind != 8:
        raise ValueError(
            f"{path.name} holds values of type 0x{kind:02x}; MNIST has unsigned bytes, 0x08"
        )
    start = 4 + 4 * dimensions
    if dimensions < 1 or len(content) < start:
        raise ValueError(
            f"{path.name} ends within its header, which announces {dimensions} dimensions; "
            "fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    expected = math.prod(shape)
    if len(content) - start != expected:
        raise ValueError(
            f"{path.name} announces the shape {shape}, {expected} bytes, and holds "
            f"{len(content) - start}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _examples(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    names = _FILES[part]
    x, t = (load_idx(_find(folder, name)) for name in names)
    if x.ndim != 3 or t.ndim != 1:
        raise ValueError(
            f"{names[0]} must hold images, three dimensions, and {names[1]} labels, one; got "
            f"{x.ndim} and {t.ndim}; are the files exchanged?"
        )
    if len(x) != len(t) or not x.size:
        raise ValueError(
            f"{names[0]} holds {len(x)} images of {x.shape[1]} × {x.shape[2]} pixels and "
            f"{names[1]} {len(t)} labels; they must be as many, and at least one"
        )
    if t.max() >= CLASSES:
        at = int(t.argmax())
        raise ValueError(
            f"{names[1]}, label {at}, is {t[at]}; a digit lies between 0 and 9"
        )
    return x, t


def _find(folder: Path, name: str) -> Path:
    # Some sites write a dot for the last hyphen but one: train-images.idx3-ubyte.
    spellings = (name, name.replace("-idx", ".idx"))
    for path in (folder / (s + end) for s in spellings for end in ("", ".gz")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz")


def _split(x: np.ndarray, t: np.ndarray) -> Split:
    return Split(x.reshape(len(x), -1).astype(np.float32), t.astype(np.int64))
