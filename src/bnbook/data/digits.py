"""The handwritten digits that come with scikit-learn: 1797 images of 8 × 8 pixels."""

from sklearn.datasets import load_digits

from bnbook.data.splits import Dataset, split


def digits(seed: int = 0) -> Dataset:
    """The optical digits of Alpaydin and Kaynak (1998), as scikit-learn ships them.

    A feature is the number of dark points, 0 to 16, in a cell of 4 × 4 points of the
    scanned image; three of the 64 cells are always empty. A class is a digit. Nothing is
    downloaded.

    Args:
        seed: of the split: 20 % validation, 20 % test, the rest for training.
    """
    data = load_digits()
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return split(
        "digits", names, data.data, data.target, validation=0.2, test=0.2, seed=seed
    )
