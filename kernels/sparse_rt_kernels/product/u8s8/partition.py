"""How int8 products are split among threads, and convolutions into groups of images."""

import functools
from typing import Final, NamedTuple

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS

__all__ = ["Partition", "images_per_group", "partition", "worthwhile_threads"]


def _ceil_div(count: int, unit: int) -> int:
    return -(-count // unit)


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
