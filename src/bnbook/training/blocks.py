"""Passes over the rows of a batch, a cache-sized block at a time, on one thread or several.

NumPy makes one pass over memory for each operation. Applied to a block that stays in the
L2 cache, the second and later operations of a chain read what the one before has left
there. NumPy also starts its inner loop anew for every row that a (D,) vector is
broadcast to; repeated over a few rows beforehand, the vector makes that loop longer.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

BLOCK_BYTES = 256 * 1024  # of one operand; three of them fit into an L2 cache of 1 MB
SHARED_BLOCK_BYTES = (
    4 * BLOCK_BYTES
)  # threads meet at the interpreter lock: fewer calls
TILE_BYTES = 64 * 1024  # of a repeated vector
BLOCK_ROWS = 256  # longer sums in one go would cost float32 more digits

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """How the rows of an (M, D) array are cut: `tile` rows make one long row, and
    `blocks` are (first row, row after the last, rows that make one long row)."""

    tile: int
    blocks: tuple[tuple[int, int, int], ...]
    largest: int

    def repeat(self, vector: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """A (D,) vector, repeated `tile` times, (tile · D,)."""
        return np.tile(vector.astype(dtype), self.tile)


@cache
def plan(rows: int, columns: int, itemsize: int, threads: int) -> Plan:
    """Cut an array of this shape into blocks; what no whole tile covers comes last.

    Args:
        rows: M ≥ 1.
        columns: D ≥ 1.
        itemsize: bytes of a number.
        threads: how many share the work. Several take larger blocks and no tiles.
    """
    per_row, size = columns * itemsize, BLOCK_BYTES
    tile = max(1, min(rows, TILE_BYTES // per_row, BLOCK_ROWS))
    if threads > 1:
        tile, size = 1, min(SHARED_BLOCK_BYTES, -(-rows // threads) * per_row)
    step = tile * max(1, min(size // per_row, BLOCK_ROWS) // tile)
    whole = rows - rows % tile
    blocks = [
        (start, min(start + step, whole), tile) for start in range(0, whole, step)
    ]
    if whole < rows:
        blocks.append((whole, rows, 1))
    return Plan(tile, tuple(blocks), max(stop - start for start, stop, _ in blocks))


def aligned(shapes: Sequence[tuple[int, ...]], dtype: np.dtype) -> list[np.ndarray]:
    """New arrays of these shapes from one allocation, each at the start of a cache line.

    A vector instruction whose operand crosses the border of two lines loads or stores
    both. Of a large allocation NumPy asks the system to map it in large pages, which are
    looked up faster.

    Args:
        shapes: one an array.
        dtype: of all of them.
    """
    dtype = np.dtype(dtype)
    line = 64 // dtype.itemsize
    starts = np.cumsum([0, *(-(-math.prod(shape) // line) * line for shape in shapes)])
    arena = np.empty(starts[-1] + line, dtype)
    first = -arena.ctypes.data % 64 // dtype.itemsize
    return [
        arena[first + start : first + start + math.prod(shape)].reshape(shape)
        for start, shape in zip(starts, shapes, strict=False)
    ]


def long_rows(array: np.ndarray, block: tuple[int, int, int]) -> np.ndarray:
    """The rows of a block as a view with `tile` rows in each: (rows/tile, tile · D)."""
    start, stop, tile = block
    return array[start:stop].reshape((stop - start) // tile, tile * array.shape[1])


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="bnbook")


def share(
    work: Callable[[Sequence[tuple[int, ...]]], Result],
    blocks: Sequence[tuple[int, ...]],
    threads: int,
) -> list[Result]:
    """Give each thread its part of the blocks, and collect what `work` returns.

    NumPy releases the interpreter lock inside an operation, so the threads run at once.
    """
    parts = min(threads, len(blocks))
    if parts <= 1:
        return [work(blocks)]
    cuts = [len(blocks) * part // parts for part in range(parts + 1)]
    shares = [blocks[a:b] for a, b in itertools.pairwise(cuts)]
    running = [_pool(threads - 1).submit(work, some) for some in shares[1:]]
    return [work(shares[0]), *(future.result() for future in running)]


def product(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, *, threads: int = 1
) -> np.ndarray:
    """a @ b, written into `out`; each thread computes its part of the rows.

    A BLAS library with threads of its own lets them spin for a while after a product, in
    wait for the next one, and what comes in between has to share the cores with them.
    Threads that each call a single-threaded product leave nobody waiting: use this
    inside `one_blas_thread`.

    Args:
        a: (M, K).
        b: (K, N).
        out: (M, N), no part of a or b.
        threads: how many work at once.
    """

    def work(part: Sequence[tuple[int, int]]) -> None:
        for start, stop in part:
            np.matmul(a[start:stop], b, out=out[start:stop])

    parts = min(threads, len(a))
    cuts = [len(a) * part // parts for part in range(parts + 1)]
    share(work, list(itertools.pairwise(cuts)), threads)
    return out


def one_blas_thread(threads: int) -> contextlib.AbstractContextManager:
    """Limit BLAS to one thread in a block whose products several threads share; leave it
    as it is for one."""
    if threads == 1:
        return contextlib.nullcontext()
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def affine(
    x: np.ndarray,
    out: np.ndarray,
    *,
    shift: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    offset: np.ndarray,
    relu: bool = False,
    threads: int = 1,
) -> None:
    """Write (x − shift) · scale + offset into `out`, or the positive part of it.

    Args:
        x: (M, D), C-contiguous; may be `out`.
        out: (M, D), C-contiguous.
        shift: (D,); None for 0.
        scale: (D,); None for 1.
        offset: (D,).
        relu: whether to replace negative results by 0.
        threads: how many work at once.
    """
    cut = plan(*x.shape, x.itemsize, threads)
    before, factor, after = (
        None if v is None else cut.repeat(v, x.dtype) for v in (shift, scale, offset)
    )
    zero = np.zeros(cut.tile * x.shape[1], x.dtype) if relu else None

    def work(blocks: Sequence[tuple[int, int, int]]) -> None:
        # The last blocks of the pass before are still in the cache: begin with them.
        for block in reversed(blocks):
            y, width = long_rows(out, block), block[2] * x.shape[1]
            t = long_rows(x, block)
            if before is not None:
                t = np.subtract(t, before[:width], out=y)
            if factor is not None:
                t = np.multiply(t, factor[:width], out=y)
            np.add(t, after[:width], out=y)
            if zero is not None:
                np.maximum(y, zero[:width], out=y)

    share(work, cut.blocks, threads)


def column_sums(block: np.ndarray, ones: np.ndarray | None) -> np.ndarray:
    """Σ over the rows of (rows, D): a BLAS product with ones, or NumPy's own sum.

    BLAS serves one thread at a time, so threads that share the work do without it.
    """
    if ones is None:
        return np.add.reduce(block, axis=0)
    return ones[: len(block)] @ block


def keep_where_positive(
    dy: np.ndarray, a: np.ndarray, out: np.ndarray, *, threads: int = 1
) -> None:
    """Write dy where a > 0, else 0, into `out`: the backward pass of a = max(y, 0).

    Args:
        dy: (M, D), C-contiguous.
        a: (M, D), C-contiguous.
        out: (M, D), C-contiguous; may be dy.
        threads: how many work at once.
    """
    cut = plan(*dy.shape, dy.itemsize, threads)

    def work(blocks: Sequence[tuple[int, int, int]]) -> None:
        scratch = np.empty((cut.largest, dy.shape[1]), bool)
        for start, stop, _ in reversed(blocks):
            positive = np.greater(a[start:stop], 0, out=scratch[: stop - start])
            np.multiply(dy[start:stop], positive, out=out[start:stop])

    share(work, cut.blocks, threads)


def descend(
    w: np.ndarray, dw: np.ndarray, decay: float, rate: float, *, threads: int = 1
) -> None:
    """Replace w by decay · w − rate · dw, in place; dw becomes rate · dw.

    Args:
        w: weights, (K, N), C-contiguous.
        dw: their gradient, likewise.
        decay: 1 − learning rate · λ.
        rate: learning rate.
        threads: how many work at once.
    """

    def work(blocks: Sequence[tuple[int, int, int]]) -> None:
        for block in reversed(blocks):
            some, step = long_rows(w, block), long_rows(dw, block)
            if decay != 1:
                np.multiply(some, decay, out=some)
            np.multiply(step, rate, out=step)
            np.subtract(some, step, out=some)

    share(work, plan(*w.shape, w.itemsize, threads).blocks, threads)
