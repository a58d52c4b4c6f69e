"""Tile and block sizes of the int8 tiles of any vector width, derived in this one place."""

import functools
from typing import NamedTuple

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.tiled_u8s8.weight import STRATEGIES
from sparse_rt_kernels.tiled_u8s8.weight.strategy import Strategy

__all__ = ["Blocking", "Shape", "blocking"]

#: Rows of sums that the epilogue may read beyond the last one.
_SLACK = 16


class Shape(NamedTuple):
    """One kind of register tile; plain ints, because compiled code is found again by them.

    Attributes
    ----------
    lanes
        int32 lanes of a register: 8 or 16.
    has_dot
        1 if the CPU multiplies and adds four byte products at once (vpdpbusd); 0 if it must go through pairs of int16
        (vpmaddwd, vpaddd). vpmaddubsw, which would take bytes, saturates: 2 * 255 * 127 does not fit int16.
    strategy
        Number of the weight's format in :data:`.weight.STRATEGIES`.
    """

    lanes: int
    has_dot: int
    strategy: int

    @property
    def weight(self) -> Strategy:
        """What the weight's format does."""
        return STRATEGIES[self.strategy]

    @property
    def rows(self) -> int:
        """Rows of the full tile: as many accumulators; 8 (of 32) or 4 (of 16) registers are left for operands."""
        return ROWS if self.lanes == CHANNELS else ROWS // 2

    @property
    def is_widened(self) -> bool:
        """Whether panels hold int16."""
        return self.weight.is_widened(self.has_dot)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row and step in a panel."""
        return STEP * (2 if self.is_widened else 1)

    @property
    def step_bytes(self) -> int:
        """Bytes of one step of a panel."""
        return ROWS * self.row_bytes

    @property
    def turn_bytes(self) -> int:
        """Bytes of a row that one broadcast brings."""
        return self.weight.turn_bytes(self.has_dot)

    @property
    def turns(self) -> int:
        """Broadcasts of a row and step."""
        return self.row_bytes // self.turn_bytes

    @property
    def register_bytes(self) -> int:
        """Bytes of a register."""
        return 4 * self.lanes

    @property
    def operand_bytes(self) -> int:
        """Bytes of one step's expanded operands for one register of channels."""
        return self.turns * self.weight.registers * self.register_bytes


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
