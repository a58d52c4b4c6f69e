"""Scratch of the shape with lanes of rows: a panel block, partial sums, and what rows beside the last panel take."""

from typing import NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_arithmetic
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    FEWEST_BESIDE,
    MAX_VECTORS,
    MOST_BESIDE,
    MOST_REST,
    REDUCTION,
    block_length,
)
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["RestPlaces", "float_scratch", "rest_places"]


class RestPlaces(NamedTuple):
    """Where in a share's scratch the rows beside a panel lie, in items."""

    panel_at: int
    rows_at: int
    finished_at: int
    sums_at: int


@kernel_arithmetic
def rest_places(rest_at: int, length: int) -> RestPlaces:
    """Return where the rows beside panel blocks of up to `length` elements lie.

    As lanes of a vector, (length + 16, 16); as rows, (octets, rows, 8); 16 channels of finished rows; the sums of all
    tiles, (tiles, 4 rows, 4 channels).
    """
    rows_at = rest_at + (length + LANES) * LANES
    finished_at = rows_at + (length + LANES) * MOST_REST
    return RestPlaces(rest_at, rows_at, finished_at, finished_at + LANES * LANES)


def float_scratch(lanes: int, octets: int, nbytes: int, rest: int, tiles: int) -> int:
    """Return the float32 items of scratch of a share of `lanes` rows and `tiles` channel tiles; blocks of `nbytes`.

    `rest` rows are computed beside the last panel.
    """
    widest = min(MOST_BESIDE if rest else MAX_VECTORS, -(-lanes // LANES))
    k = octets * REDUCTION
    # Panels of one call differ by one vector, and the narrower have longer blocks.
    panel = max(
        (block_length(k, vectors, nbytes) + LANES) * vectors * LANES
        for vectors in range(max(1, widest // 2), widest + 1)
    )
    # Channels are transposed by 16.
    channels = -(-tiles * CHANNELS // LANES) * LANES
    if rest == 0:
        return panel + channels * widest * LANES
    length = max(block_length(k, vectors, nbytes) for vectors in range(FEWEST_BESIDE, widest + 1))
    return panel + channels * widest * LANES + rest_places(0, length).sums_at + channels * MOST_REST
