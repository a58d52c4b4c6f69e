"""Few packed rows times the weight, in tiles of 16, 8, 4, 2 and 1 rows."""

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8.tile import small_m as stream
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["stream_few", "stream_pair", "stream_rows"]

#: Steps that a tile of 8 or 16 rows expands at a time: 2 KiB of controls.
_CHUNK = 32


@kernel_jit
def stream_few(
    rows: int, panel: int, panel_step: int, values: int, index: int, steps: int, sums: int, resume: int
) -> int:
    """Multiply fewer than 8 rows with 16 channels."""
    if rows >= 4:
        stream.stream_tile(4, 1, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 4 * STEP, sums + 4 * REGISTER, rows - 4
    if rows >= 2:
        stream.stream_tile(2, 2, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 2 * STEP, sums + 2 * REGISTER, rows - 2
    if rows == 1:
        stream.stream_tile(1, 4, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
    return 0


@kernel_jit
def stream_rows(
    rows: int, panel: int, panel_step: int, values: int, index: int, steps: int, controls: int, most: int, sums: int
) -> int:
    """Multiply fewer than 24 rows with 16 channels; `controls` is scratch for `most` steps, a multiple of 4."""
    chunk = min(_CHUNK, most)
    if rows >= 16:
        stream.expanding_tile(16, panel, panel_step, values, index, steps, chunk, controls, sums, 0)
        panel, sums, rows = panel + 16 * STEP, sums + 16 * REGISTER, rows - 16
    if rows >= 8:
        stream.expanding_tile(8, panel, panel_step, values, index, steps, chunk, controls, sums, 0)
        panel, sums, rows = panel + 8 * STEP, sums + 8 * REGISTER, rows - 8
    return stream_few(rows, panel, panel_step, values, index, steps, sums, 0)


@kernel_jit
def stream_pair(
    rows: int, panel: int, panel_step: int, values: int, index: int, steps: int, controls: int, most: int, sums: int
) -> int:
    """Multiply up to 16 rows with 32 channels; the second 16 channels' sums follow 24 rows after the first's."""
    second, following = steps * REGISTER, steps * CHANNELS
    if rows >= 8:
        # Enough rows to hide their broadcasts, and soon too many accumulators for two blocks.
        stream_rows(rows, panel, panel_step, values, index, steps, controls, most, sums)
        values, index, sums = values + second, index + following, sums + ROWS * REGISTER
        return stream_rows(rows, panel, panel_step, values, index, steps, controls, most, sums)
    if rows >= 4:
        stream.stream_tile(4, 1, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
        panel, sums, rows = panel + 4 * STEP, sums + 4 * REGISTER, rows - 4
    if rows >= 2:
        stream.stream_tile(2, 1, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
        panel, sums, rows = panel + 2 * STEP, sums + 2 * REGISTER, rows - 2
    if rows == 1:
        stream.stream_tile(1, 2, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
    return 0
