"""Layers that hold bits and integers only: packed weights, and integer thresholds."""

from dataclasses import dataclass

import numpy as np

from bnbook.propagation.packing import (
    Ternary,
    count_bits,
    level_dot,
    pack_bits,
    pack_levels,
    pack_signs,
    pack_ternary,
    ternary_dot,
)
from bnbook.propagation.thresholds import Scores

ARRAYS = ("positive", "nonzero", "threshold")


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedLayer:
    """A linear layer or a convolution, then thresholds, or scores for an argmax.

    Input is either integers from 0 to 2^levels − 1, (N, K) or (N, channels, height,
    width), or, if levels is 0, signs packed along the channels: (N, words) or (N, height,
    width, words). A convolution reads its windows as rows of a linear layer.

    Attributes:
        positive: (D, words), uint64: weights of +1.
        nonzero: (D, words): weights that are not 0; None for signs.
        length: K, the number of weights of an output.
        levels: binary digits of an input, or 0 for signs.
        window: (height, width) of a convolution; None for a linear layer.
        stride, padding: of the convolution.
        pad: what is in the padding: −1, 0 or 1; 0 if the input holds integers.
        threshold: (D,), int16 or int32: an output is +1 where its sum is at least this; None in the last
            layer.
        last: the scores of the last layer; None in the others.
    """

    positive: np.ndarray
    nonzero: np.ndarray | None
    length: int
    levels: int = 0
    window: tuple[int, int] | None = None
    stride: int = 1
    padding: int = 0
    pad: int = 0
    threshold: np.ndarray | None = None
    last: Scores | None = None

    @property
    def weights(self) -> np.ndarray | Ternary:
        """The packed weights as `packing` takes them."""
        if self.nonzero is None:
            return self.positive
        return Ternary(self.nonzero, self.positive)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that have to be stored, by name."""
        found = {n: a for n in ARRAYS if (a := getattr(self, n)) is not None}
        return found | ({} if self.last is None else vars(self.last))

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The integers before the threshold: (N, D), or (N, height, width, D)."""
        if self.window is None:
            rows, shape = x.reshape(len(x), -1), (len(x),)
        else:
            windows = self._windows(x, self._fill())
            shape = windows.shape[:3]
            rows = windows.reshape(-1, windows.shape[-1])
        return self._dot(rows, x).reshape(*shape, -1)

    def bits(self, x: np.ndarray) -> np.ndarray:
        """The signs that the layer passes on, packed along the channels."""
        return pack_bits(self.sums(x) >= self.threshold)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The scores, (N, D), int64: only their order means something."""
        return self.last(self.sums(x))

    def _dot(self, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        if self.levels:
            return level_dot(pack_levels(rows, self.levels), self.weights)
        if self.window is not None and self.padding and self.pad == 0:
            # A padded 0 is a third level: the input is ternary there.
            inside = self._windows(np.broadcast_to(self._used(x), x[:1].shape), 0)
            inside = inside.reshape(-1, rows.shape[1])
            a = Ternary(np.tile(inside, (len(x), 1)), rows)
            if self.nonzero is None:
                return ternary_dot(self.positive, a).T
            return ternary_dot(a, self.weights)
        if self.nonzero is None:
            return self.length - 2 * count_bits(np.bitwise_xor, [rows], [self.positive])
        return ternary_dot(rows, self.weights)

    def _channels(self) -> int:
        return self.length // (self.window[0] * self.window[1])

    def _used(self, x: np.ndarray) -> np.ndarray:
        """The words of one position that hold a 1 for every channel."""
        return pack_bits(np.ones(self._channels(), bool)).reshape(x.shape[-1])

    def _fill(self) -> np.ndarray | int:
        """What a position outside holds: 0, or a word of ones for every channel."""
        if self.levels or self.pad != 1:
            return 0
        return pack_bits(np.ones(self._channels(), bool))

    def _windows(self, x: np.ndarray, fill: np.ndarray | int) -> np.ndarray:
        """Every window as one row: (N, height', width', entries)."""
        p, (high, wide) = self.padding, self.window
        if self.levels:
            x = x.transpose(0, 2, 3, 1)
        n, h, w, c = x.shape
        padded = np.empty((n, h + 2 * p, w + 2 * p, c), x.dtype)
        padded[...] = fill
        padded[:, p : p + h, p : p + w] = x
        views = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), (1, 2))
        views = views[:, :: self.stride, :: self.stride]  # (N, h', w', c, high, wide)
        return views.transpose(0, 1, 2, 4, 5, 3).reshape(*views.shape[:3], -1)


def pack_weights(w: np.ndarray, *, levels: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pack the weights of a layer, in the order in which its input comes.

    Args:
        w: (D, channels, height, width) of signs or of −1, 0 and 1; a linear layer on K
            inputs is (D, K, 1, 1).
        levels: as in `PackedLayer`; signs are packed position by position, integers
            row by row.

    Returns:
        positive and nonzero, (D, words); nonzero is None if no weight is 0. Both lie in
        memory word by word, as the sums read them.

    Raises:
        ValueError: a weight is none of −1, 0 and 1.
    """
    last = w.transpose(0, 2, 3, 1)
    if levels:
        last = last.reshape(len(w), 1, 1, -1)
    flat = lambda words: np.asfortranarray(words.reshape(len(w), -1))  # noqa: E731
    if (w != 0).all():
        return flat(pack_signs(last)), None
    planes = pack_ternary(last)
    return flat(planes.positive), flat(planes.nonzero)
