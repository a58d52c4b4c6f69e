"""Sizes of the shape with lanes of channels: groups of rows, blocks of k, scratch."""

import functools
from typing import Final

from sparse_rt_kernels.cpu.caches import level1_bytes
from sparse_rt_kernels.jit.compilation import kernel_arithmetic
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, MAX_VECTORS, OCTET_BYTES, REDUCTION
from sparse_rt_kernels.vectors.registers import LANES

__all__ = [
    "MAX_ROWS",
    "STRIP",
    "block_octets",
    "float_scratch",
    "group_bytes",
    "group_items",
    "group_size",
    "padded_rows",
    "tile_bytes",
    "tiles_at_once",
]

#: Rows of the tallest register tile: as many accumulators, with weights, control, x and constants in the other seven.
MAX_ROWS: Final = 25
#: Tiles whose channels fill a register.
STRIP: Final = LANES // CHANNELS
#: Octets that the register tile's loop is unrolled by, at most.
_UNROLLED: Final = 4


@kernel_arithmetic
def group_size(rows: int) -> int:
    """Return the height of the register tile for `rows` rows: the least number of groups, as even as tiles exist."""
    groups = (rows + MAX_ROWS - 1) // MAX_ROWS
    size = (rows + groups - 1) // groups
    if size <= 2:
        return size
    return (size + 3) // 4 * 4 if size <= 20 else MAX_ROWS


@kernel_arithmetic
def tiles_at_once(size: int) -> int:
    """Return how many packed tiles of 4 channels the register tile of `size` rows spans.

    For few rows, four streams of weights keep the hardware's prefetchers busier than one, and more tiles give FMAs that
    do not wait for each other.
    """
    return 4 if size <= 4 else 2 if size <= 8 else 1


@kernel_arithmetic
def padded_rows(size: int) -> int:
    """Return `size` rounded up to 4, the rows whose sums share a register."""
    return (size + STRIP - 1) // STRIP * STRIP


@kernel_arithmetic
def tile_bytes(rows: int, size: int) -> int:
    """Return the bytes of a tile's sums of `rows` rows in groups of `size`."""
    return (rows + size - 1) // size * padded_rows(size) * CHANNELS * 4


@kernel_arithmetic
def block_octets(octets: int, rows: int, nbytes: int) -> int:
    """Return how many octets of `rows` packed rows go into a block of `nbytes`.

    Blocks are balanced, and of whole turns of the register tile's loop.
    """
    most = max(_UNROLLED, nbytes // (OCTET_BYTES * rows) // _UNROLLED * _UNROLLED)
    blocks = (octets + most - 1) // most
    return ((octets + blocks - 1) // blocks + _UNROLLED - 1) // _UNROLLED * _UNROLLED


@kernel_arithmetic
def group_items(octets: int, width: int, size: int) -> int:
    """Return the floats that groups of `size` rows take, of `width` rows; a multiple of 16."""
    items = (width + size - 1) // size * size * (octets + 1) * REDUCTION
    return (items + LANES - 1) // LANES * LANES


def group_bytes() -> int:
    """Return the bytes of packed rows that make a block: they are read again for each tile, beside its weights."""
    return level1_bytes() // 2


def float_scratch(lanes: int, octets: int, nbytes: int, is_conv: int, tiles: int) -> int:
    """Return the float32 items of scratch of a share of `lanes` rows and `tiles` channel tiles; blocks of `nbytes`."""
    most = 0
    widest = min(MAX_VECTORS, -(-lanes // LANES))
    # Panels have nearly equally many vectors, and the last one may have fewer rows than lanes.
    for rows in range(LANES * (max(1, widest // 2) - 1) + 1, min(lanes, LANES * widest) + 1):
        most = max(most, _panel_items(rows, octets, nbytes, is_conv, tiles))
    return most


@functools.lru_cache(maxsize=1 << 14)
def _panel_items(rows: int, octets: int, nbytes: int, is_conv: int, tiles: int) -> int:
    """Return the float32 items that a panel of `rows` rows takes; the same for calls of any number of panels."""
    width, size = -(-rows // LANES) * LANES, group_size(rows)
    length = block_octets(octets, -(-rows // size) * size, nbytes)
    panel = (length + 2) * REDUCTION * width if is_conv else 0
    strips = -(-tiles // STRIP) if length < octets else 1
    sums = strips * tile_bytes(rows, size) + (width * LANES if is_conv else 0)
    return panel + group_items(length, width, size) + sums
