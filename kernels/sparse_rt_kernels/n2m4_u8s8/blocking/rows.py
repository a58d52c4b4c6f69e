"""Block sizes of products of packed rows."""

import functools
from typing import NamedTuple

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, PANEL_STEP, ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Blocking", "blocking"]


class Blocking(NamedTuple):
    """How one thread walks its part of the product.

    Attributes
    ----------
    rows
        Activation rows that are packed at a time, a multiple of 24.
    steps
        Steps of 8 reduction elements whose controls are expanded at a time.
    panel, controls, sums, table, end
        Byte offsets into the thread's scratch: packed rows, controls, int32 sums, row addresses; and its size.
    """

    rows: int
    steps: int
    panel: int
    controls: int
    sums: int
    table: int
    end: int


@functools.lru_cache(maxsize=1024)
def blocking(steps: int, most_rows: int, row_stride: int = 1) -> Blocking:
    """Return the blocking for a reduction of `steps` steps and at most `most_rows` rows a thread.

    `row_stride` is the bytes from row to row of the output. Each block of 16 channels writes a piece of a line of every
    row, and the next block the next piece: the lines of a block of rows must stay in L2 meanwhile. Strides that a large
    power of two divides put them all into few sets of it.

    Half of L2 holds the packed rows, which are read once for each 16 channels; half of L1 the controls and the values
    that every tile of them meets again. Where a reduction does not fit that, the sums of all packed rows wait for the
    next block of steps, in half of L1.
    """
    most_steps = max(8, caches.level1_bytes() * 3 // 4 // (2 * REGISTER))
    blocks = max(1, -(-steps // most_steps))
    # Balanced, and a multiple of 8, so that unrolled tiles have no remainder but in the last block.
    block_steps = -(-steps // blocks)
    block_steps += -block_steps % 8
    most = min(caches.level2_bytes() // 2 // (max(steps, 1) * STEP), -(-most_rows // ROWS) * ROWS)
    power_of_two = row_stride & -row_stride
    if power_of_two > REGISTER:
        most = min(most, caches.level2_bytes() // power_of_two * 3 // 4)
    if blocks > 1:
        most = min(most, caches.level1_bytes() // 2 // (CHANNELS * 4))
    rows = max(ROWS, most // ROWS * ROWS)
    controls = rows // ROWS * steps * PANEL_STEP
    sums = controls + block_steps * REGISTER
    # Few rows have sums of two blocks; the transposed epilogue reads 16 rows at a time, wherever an image begins.
    table = sums + ((max(rows, 2 * ROWS) if blocks > 1 else 2 * ROWS) + 16) * REGISTER
    return Blocking(rows, block_steps, 0, controls, sums, table, table + (rows + 8) * 8)
