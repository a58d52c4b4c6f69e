"""Which instructions and how many registers a tile has: all that sets one tier's int8 tile apart from another's."""

from typing import NamedTuple

from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP

__all__ = ["Shape"]


class Shape(NamedTuple):
    """One kind of register tile; plain ints, because compiled code is found again by them.

    Attributes
    ----------
    lanes
        int32 lanes of a register: 8 or 16.
    has_dot
        1 if the CPU multiplies and adds four byte products at once (vpdpbusd); 0 if it must go through pairs of int16
        (vpmaddwd, vpaddd). vpmaddubsw, which would take bytes, saturates: 2 * 255 * 127 does not fit int16.
    is_sparse
        1 for 2:4 weights, 0 for dense ones.
    """

    lanes: int
    has_dot: int
    is_sparse: int

    @property
    def rows(self) -> int:
        """Rows of the full tile: as many accumulators; 8 (of 32) or 4 (of 16) registers are left for operands."""
        return 24 if self.lanes == CHANNELS else 12

    @property
    def is_widened(self) -> bool:
        """Whether panels hold int16: where no shuffle widens bytes on the way, packing does."""
        return not (self.has_dot or self.is_sparse)

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
        return 8 if self.has_dot and self.is_sparse else 4

    @property
    def turns(self) -> int:
        """Broadcasts of a row and step."""
        return self.row_bytes // self.turn_bytes

    @property
    def operand_bytes(self) -> int:
        """Bytes of one step's expanded operands for one register of channels: values, and controls if 2:4."""
        return self.turns * self.lanes * 4 * (1 + self.is_sparse)
