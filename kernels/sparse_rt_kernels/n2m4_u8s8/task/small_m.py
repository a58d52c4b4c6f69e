"""Small m: fewer than 24 packed rows times the weight, in tiles of 16, 8, 4, 2 and 1 rows."""

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8.tile.small_m import Chunk, Packed, Panel, expanding_tile, small_tile
from sparse_rt_kernels.product.u8s8.sizes import ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["multiply_below_24", "multiply_below_8", "multiply_pair"]

#: Steps that a tile of 8 or 16 rows expands at a time: 2 KiB of controls.
_CHUNK = 32


@kernel_jit
def _below(panel: Panel, rows: int) -> Panel:
    """Return where the rows after `rows` of a panel lie."""
    return Panel(panel.first + rows * STEP, panel.step)


@kernel_jit
def multiply_below_8(rows: int, panel: Panel, weight: Packed, sums: int, resume: int) -> int:
    """Multiply fewer than 8 rows with 16 channels."""
    if rows >= 4:
        small_tile(4, 1, 1, panel, weight, sums, resume)
        panel, sums, rows = _below(panel, 4), sums + 4 * REGISTER, rows - 4
    if rows >= 2:
        small_tile(2, 2, 1, panel, weight, sums, resume)
        panel, sums, rows = _below(panel, 2), sums + 2 * REGISTER, rows - 2
    if rows == 1:
        small_tile(1, 4, 1, panel, weight, sums, resume)
    return 0


@kernel_jit
def multiply_below_24(rows: int, panel: Panel, weight: Packed, room: Chunk, sums: int) -> int:
    """Multiply fewer than 24 rows with 16 channels."""
    chunk = Chunk(min(_CHUNK, room.steps), room.controls)
    if rows >= 16:
        expanding_tile(16, panel, weight, chunk, sums, 0)
        panel, sums, rows = _below(panel, 16), sums + 16 * REGISTER, rows - 16
    if rows >= 8:
        expanding_tile(8, panel, weight, chunk, sums, 0)
        panel, sums, rows = _below(panel, 8), sums + 8 * REGISTER, rows - 8
    return multiply_below_8(rows, panel, weight, sums, 0)


@kernel_jit
def multiply_pair(rows: int, panel: Panel, weight: Packed, room: Chunk, sums: int) -> int:
    """Multiply up to 16 rows with 32 channels; the second 16 channels' sums follow 24 rows after the first's."""
    if rows >= 8:
        # Enough rows to hide their broadcasts, and soon too many accumulators for two blocks.
        multiply_below_24(rows, panel, weight, room, sums)
        values, index = weight.values + weight.values_block, weight.index + weight.index_block
        following = Packed(values, index, weight.steps, weight.values_block, weight.index_block)
        return multiply_below_24(rows, panel, following, room, sums + ROWS * REGISTER)
    if rows >= 4:
        small_tile(4, 1, 2, panel, weight, sums, 0)
        panel, sums, rows = _below(panel, 4), sums + 4 * REGISTER, rows - 4
    if rows >= 2:
        small_tile(2, 1, 2, panel, weight, sums, 0)
        panel, sums, rows = _below(panel, 2), sums + 2 * REGISTER, rows - 2
    if rows == 1:
        small_tile(1, 2, 2, panel, weight, sums, 0)
    return 0
