"""Block sizes of the int8 tiles of any vector width, derived from cache sizes in this one place."""

import functools
from typing import NamedTuple

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.tiled_u8s8.shape import Shape

__all__ = ["Blocking", "blocking"]

#: Rows of sums that the epilogue may read beyond the last one.
_SLACK = 16


class Blocking(NamedTuple):
    """How one thread walks its part of the product.

    Attributes
    ----------
    rows
        Activation rows that are packed at a time, a multiple of 24.
    steps
        Steps of 8 reduction elements whose operands are expanded at a time.
    panel, widened, operands, sums, table, end
        Byte offsets into the thread's scratch: packed rows, the same as int16, expanded weights, int32 sums, row
        addresses; and its size.
    """

    rows: int
    steps: int
    panel: int
    widened: int
    operands: int
    sums: int
    table: int
    end: int


@functools.lru_cache(maxsize=1024)
def blocking(shape: Shape, steps: int, most_rows: int) -> Blocking:
    """Return the blocking for a reduction of `steps` steps and at most `most_rows` rows a thread.

    Half of L2 holds the packed rows, which are read once for each 16 channels; half of L1 the operands that every tile
    meets again; the sums of all packed rows go through L1 to the epilogue.
    """
    in_level2 = caches.level2_bytes() // 2 // (steps * shape.row_bytes)
    in_level1 = caches.level1_bytes() // 2 // (CHANNELS * 4)
    needed = -(-most_rows // ROWS) * ROWS
    rows = max(ROWS, min(in_level2, in_level1, needed) // ROWS * ROWS)
    block_operands = shape.operand_bytes * CHANNELS // shape.lanes
    most_steps = max(8, caches.level1_bytes() // 2 // block_operands)
    blocks = -(-steps // most_steps)
    block_steps = -(-steps // blocks)
    widened = rows * steps * STEP
    operands = widened + (2 * widened if shape.is_widened else 0)
    sums = operands + block_steps * block_operands
    table = sums + (rows + _SLACK) * CHANNELS * 4
    return Blocking(rows, block_steps, 0, widened, operands, sums, table, table + (rows + 8) * 8)
