"""Signs, ternary values and small integers as bits in 64-bit words, and their dot products.

Bit j of a row is bit j % 64 of word j // 64. Bits behind the last entry are 0 in every
plane, and each dot product below is written so that they contribute nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

WORD = 64
_CHUNK = (
    1 << 16
)  # words in a temporary array, so that it stays in the processor's cache


class Ternary(NamedTuple):
    """Entries −1, 0, +1 as two planes of bits: where they are not 0, and where +1."""

    nonzero: np.ndarray
    positive: np.ndarray


def word_count(length: int) -> int:
    """Number of words that hold `length` bits: length/64, rounded up."""
    return -(-length // WORD)


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Pack booleans along the last axis.

    Args:
        bits: (…, K), boolean.

    Returns:
        (…, ⌈K/64⌉), uint64; unused bits are 0.

    Raises:
        TypeError: bits is not a boolean array.
        ValueError: it has no axis, or K is 0.
    """
    if type(bits) is not np.ndarray or bits.dtype != bool:
        raise TypeError(
            f"bits must be a boolean array, got {_kind(bits)}; compare first, as in x > 0"
        )
    if bits.ndim == 0 or bits.shape[-1] == 0:
        raise ValueError(f"bits must be (…, K) with K at least 1, got {bits.shape}")
    length = bits.shape[-1]
    octets = np.packbits(bits, axis=-1, bitorder="little")
    padded = np.zeros((*bits.shape[:-1], 8 * word_count(length)), np.uint8)
    padded[..., : octets.shape[-1]] = octets
    return padded.view("<u8").astype(np.uint64, copy=False)


def unpack_bits(words: np.ndarray, length: int) -> np.ndarray:
    """The first `length` bits of each row, (…, length) booleans; undoes `pack_bits`.

    Raises:
        TypeError: words is not an array of uint64.
        ValueError: the rows have not as many words as `length` bits need, or a bit behind
            the last is set.
    """
    _require_words("words", words, length)
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, count=length, bitorder="little")
    return bits.astype(bool)


def pack_signs(x: np.ndarray) -> np.ndarray:
    """Pack entries −1 and +1: bit 1 for +1, bit 0 for −1.

    Args:
        x: (…, K), real numbers.

    Returns:
        (…, ⌈K/64⌉), uint64.

    Raises:
        TypeError: x is not an array of real numbers.
        ValueError: an entry is neither −1 nor +1, or K is 0.
    """
    return pack_bits(_require_values("x", x, (-1, 1)) > 0)


def pack_ternary(x: np.ndarray) -> Ternary:
    """Pack entries −1, 0 and +1 into two planes.

    Args, returns and raises: as `pack_signs`; 0 is an entry too.
    """
    x = _require_values("x", x, (-1, 0, 1))
    return Ternary(pack_bits(x != 0), pack_bits(x > 0))


def pack_levels(x: np.ndarray, bits: int) -> np.ndarray:
    """Pack integers from 0 to 2^bits − 1 into one plane for each binary digit.

    Args:
        x: (…, K), integers, in any real dtype.
        bits: number of planes.

    Returns:
        (bits, …, ⌈K/64⌉), uint64; plane b holds the digits of weight 2^b.

    Raises:
        TypeError: x is not an array of real numbers.
        ValueError: an entry is not an integer from 0 to 2^bits − 1, or K is 0.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ValueError(f"bits must be an integer from 1 to 16, got {bits!r}")
    _require_real("x", x)
    # Written so that NaN fails too.
    wrong = ~((x >= 0) & (x < 2**bits) & (x == np.floor(x)))
    if wrong.any():
        raise ValueError(
            f"x must hold integers from 0 to {2**bits - 1}, got {x[wrong][0]}; "
            "quantize it first, or use more bits"
        )
    whole = x.astype(np.int64)
    return np.stack([pack_bits((whole >> b) & 1 == 1) for b in range(bits)])


def sign_dot(a: np.ndarray, w: np.ndarray, length: int) -> np.ndarray:
    """Dot products of rows of signs: s = K − 2 · (number of bits that differ).

    A product of signs is +1 where their bits agree and −1 where they differ. An unused
    bit is 0 in a and in w, so it never differs.

    Args:
        a: (M, words), as `pack_signs` returns it.
        w: (D, words).
        length: K, the number of signs in a row.

    Returns:
        s: (M, D), int32.

    Raises:
        TypeError: a or w is not an array of uint64.
        ValueError: they have other shapes, not as many words as K needs, or unused bits
            that are set.
    """
    _require_words("a", a, length, 2)
    _require_words("w", w, length, 2)
    return length - 2 * count_bits(np.bitwise_xor, [a], [w])


def ternary_dot(a: np.ndarray | Ternary, w: Ternary) -> np.ndarray:
    """Dot products with ternary rows: entries that count, minus twice those that differ.

    Args:
        a: (M, words) signs from `pack_signs`, or ternary rows from `pack_ternary`.
        w: ternary rows, planes of shape (D, words).

    Returns:
        s: (M, D), int32.

    Raises:
        TypeError: a plane is not an array of uint64.
        ValueError: the planes have other shapes.
    """
    planes = list(a) if isinstance(a, Ternary) else [a]
    for name, plane in (*(("a", p) for p in planes), *(("w", p) for p in w)):
        _require_plane(name, plane, 2)
    if isinstance(a, Ternary):
        both = count_bits(np.bitwise_and, [a.nonzero], [w.nonzero])
        differ = count_bits(
            lambda m_a, s_a, m_w, s_w: (s_a ^ s_w) & (m_a & m_w), planes, [*w]
        )
    else:
        both = np.bitwise_count(w.nonzero).sum(axis=-1, dtype=np.int32)
        differ = count_bits(lambda s_a, m_w, s_w: (s_a ^ s_w) & m_w, planes, [*w])
    return both - 2 * differ


def level_dot(planes: np.ndarray, w: np.ndarray | Ternary) -> np.ndarray:
    """Dot products of rows of small integers with rows of signs or ternary entries.

    An integer is Σ_b 2^b x_b with digits x_b of 0 or 1. For signs, a digit contributes
    +1 where the bit of w is 1 and −1 where it is 0: Σ_j w_j x_bj = 2 #(x_b and w) − #x_b.

    Args:
        planes: (bits, M, words), as `pack_levels` returns them.
        w: (D, words) from `pack_signs`, or `Ternary` planes.

    Returns:
        s: (M, D), int32.

    Raises:
        TypeError: planes or w is not an array of uint64.
        ValueError: their shapes do not fit.
    """
    positive = w.positive if isinstance(w, Ternary) else w
    _require_plane("planes", planes, 3)
    _require_plane("w", positive, 2)
    total = np.zeros((planes.shape[1], len(positive)), np.int32)
    for b, digit in enumerate(planes):
        plus = count_bits(np.bitwise_and, [digit], [positive])
        if isinstance(w, Ternary):
            used = count_bits(np.bitwise_and, [digit], [w.nonzero])
        else:
            used = np.bitwise_count(digit).sum(axis=-1, dtype=np.int32)[:, None]
        total += (2 * plus - used) << b
    return total


def count_bits(
    combine: Callable[..., np.ndarray],
    a_planes: list[np.ndarray],
    w_planes: list[np.ndarray],
) -> np.ndarray:
    """Number of set bits of combine(row of a, row of w), for all pairs of rows.

    Works on pieces whose temporaries fit the cache: some rows of a, some words.

    Args:
        combine: takes one array for each plane of a, then one for each of w, and
            combines them bit by bit.
        a_planes: arrays of uint64, (M, words).
        w_planes: arrays of uint64, (D, words).

    Returns:
        (M, D), int32.

    Raises:
        ValueError: the rows have not as many words.
    """
    (rows, words), (columns, w_words) = a_planes[0].shape, w_planes[0].shape
    if words != w_words:
        raise ValueError(
            f"a has {words} words in a row and w has {w_words}; pack rows of one length"
        )
    total = np.zeros((rows, columns), np.int32)
    width = max(1, min(words, _CHUNK // max(columns, 1)))
    height = max(1, _CHUNK // (width * max(columns, 1)))
    for first in range(0, words, width):
        w_piece = [w.T[first : first + width] for w in w_planes]
        for top in range(0, rows, height):
            a_piece = [
                a[top : top + height, first : first + width, None] for a in a_planes
            ]
            bits = combine(*a_piece, *w_piece)
            total[top : top + height] += np.bitwise_count(bits).sum(1, dtype=np.int32)
    return total


def _kind(value: object) -> str:
    return str(getattr(value, "dtype", type(value).__name__))


def _require_real(name: str, x: np.ndarray) -> None:
    if type(x) is not np.ndarray or x.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} must be an array of real numbers, got {_kind(x)}; use np.asarray"
        )
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name} must be (…, K) with K at least 1, got {x.shape}")


def _require_values(name: str, x: np.ndarray, allowed: tuple[int, ...]) -> np.ndarray:
    _require_real(name, x)
    wrong = ~np.isin(x, allowed)
    if wrong.any():
        raise ValueError(
            f"{name} must hold only {', '.join(f'{v:+d}' if v else '0' for v in allowed)}, "
            f"got {x[wrong][0]}; one bit cannot hold it, take its sign first"
        )
    return x


def _require_plane(name: str, words: np.ndarray, ndim: int | None = None) -> None:
    if type(words) is not np.ndarray or words.dtype != np.uint64:
        raise TypeError(
            f"{name} must be an array of uint64, got {_kind(words)}; pack it first"
        )
    if words.ndim == 0 or (ndim is not None and words.ndim != ndim):
        raise ValueError(
            f"{name} must have {ndim or 'at least 1'} axes, got shape {words.shape}"
        )


def _require_words(
    name: str, words: np.ndarray, length: int, ndim: int | None = None
) -> None:
    _require_plane(name, words, ndim)
    if isinstance(length, bool) or not isinstance(length, int | np.integer):
        raise TypeError(f"length must be an integer, got {type(length).__name__}")
    if length < 1 or words.shape[-1] != word_count(length):
        raise ValueError(
            f"{name} has {words.shape[-1]} words in a row, and {length} entries need "
            f"{word_count(max(length, 0))}; pass the length that was packed"
        )
    used = length % WORD
    if used and (words[..., -1] >> np.uint64(used)).any():
        raise ValueError(
            f"{name} has bits set behind entry {length}; they would be counted. "
            "Pass the length that was packed"
        )
