"""Block sizes of the int8 2:4 family, all derived from cache sizes in this one place."""

import functools
from typing import Final, NamedTuple

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, PANEL_STEP, ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Blocking", "Partition", "blocking", "images_per_group", "partition", "worthwhile_threads"]


def _ceil_div(count: int, unit: int) -> int:
    return -(-count // unit)


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
    blocks = max(1, _ceil_div(steps, most_steps))
    # Balanced, and a multiple of 8, so that unrolled tiles have no remainder but in the last block.
    block_steps = _ceil_div(_ceil_div(steps, blocks), 8) * 8
    most = min(caches.level2_bytes() // 2 // (max(steps, 1) * STEP), _ceil_div(most_rows, ROWS) * ROWS)
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


#: Steps of a tile that are worth a thread of their own: about 1.7 us on a core of 16 cycles a step. Handing work to a
#: worker that is awake and waiting for it take 1 us.
_TASK_STEPS: Final = 400
#: What a tile takes beside its steps, in steps: requantising and storing it, in planes.
_TILE_STEPS: Final = 4


def worthwhile_threads(rows: int, channels: int, steps: int, threads: int) -> int:
    """Return how many of `threads` threads a product is worth: handing work over and waiting for it take time.

    A block of channels costs a tile's time for each 24 rows, and for the weight it reads another half.
    """
    work = _ceil_div(channels, CHANNELS) * (steps + _TILE_STEPS) * (2 * _ceil_div(rows, ROWS) + 1) // 2
    return max(1, min(threads, work // _TASK_STEPS))


class Partition(NamedTuple):
    """A grid of tasks: `row_parts` x `channel_parts`."""

    row_parts: int
    channel_parts: int

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self.row_parts * self.channel_parts


#: Cycles a step on Zen 5: a tile of 24 rows and 16 channels; a row of what fills no tile, and each of the tiles of 16,
#: 8, 4, 2 and 1 rows that it is cut into; reading and expanding the weight of 16 channels; reading a row, packing some.
_TILE_CYCLES: Final = 16.5
_ROW_CYCLES: Final = 0.7
_REST_CYCLES: Final = 0.8
_WEIGHT_CYCLES: Final = 4.0
_READ_CYCLES: Final = 0.75


def _task_cycles(rows: int, blocks: int) -> float:
    """Return the cycles a step of a task of so many rows and blocks of 16 channels."""
    tiles, rest = divmod(rows, ROWS)
    product = tiles * _TILE_CYCLES + rest * _ROW_CYCLES + rest.bit_count() * _REST_CYCLES
    return blocks * (product + _WEIGHT_CYCLES) + rows * _READ_CYCLES


@functools.lru_cache(maxsize=1024)
def partition(rows: int, channels: int, threads: int) -> Partition:
    """Split a product among threads into the grid whose largest task takes least.

    Tasks that share channels each read those channels' weight, and tasks that share rows each read, and perhaps pack,
    those rows. Rows are cut between tiles, so that few rows leave threads waiting: 128 are 72 and 56.
    """
    tiles, blocks = _ceil_div(rows, ROWS), _ceil_div(channels, CHANNELS)
    # Twice as many tasks as threads where they stay large: one core may be slower, or busy elsewhere.
    if threads > 1 and tiles >= 16 * threads:
        return Partition(2 * threads, 1)
    grids = [Partition(parts, max(1, min(blocks, threads // parts))) for parts in range(1, min(tiles, threads) + 1)]

    def cycles(grid: Partition) -> float:
        most_rows = min(rows, _ceil_div(tiles, grid.row_parts) * ROWS)
        return _task_cycles(most_rows, _ceil_div(blocks, grid.channel_parts))

    return min(grids, key=cycles, default=Partition(1, 1))


def images_per_group(image_bytes: int, batch: int) -> int:
    """Return how many staged images are convolved at a time: as many as stay in a cache, at least one."""
    return max(1, min(batch, 2 * caches.level2_bytes() // max(image_bytes, 1)))
