"""How a call of the SIMD kernels is cut into tasks: which rows in which shape, which part on which thread."""

import functools
from typing import Final, NamedTuple

from sparse_rt_kernels.n2m4_f32.blocking import channel_lanes, row_lanes
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    FEWEST_BESIDE,
    MAX_VECTORS,
    MOST_BESIDE,
    MOST_REST,
    REDUCTION,
    cut_tiles,
    most_tiles,
    panel_count,
    split_work,
)
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["Share", "lane_parts", "split_call"]

#: Products (of the dense weight) that are worth a task of their own: about 40 us, ten times what the task costs.
_TASK_PRODUCTS: Final = 3_500_000
#: Vectors of rows from which on a thread's rows are cut further, which evens out what other programs take of the CPU.
_PART_VECTORS: Final = 2 * MAX_VECTORS
_MOST_PARTS: Final = 8
#: How much longer than the average the longest part may take.
_UNEVEN: Final = 1.15


class Share(NamedTuple):
    """What one task computes, and how.

    Attributes
    ----------
    has_channel_lanes
        Whether lanes are channels, as for small m, or rows.
    first_lane, last_lane
        The rows to compute, of each image.
    rest
        How many pixels after the last lane are computed beside the last panel, because they fill no vector: at most 4.
    first_panel, last_panel, first_tile, last_tile
        The work among these: panels (over all images) and channel tiles; see :class:`.panels.Work`.
    panel_bytes
        Of a block of packed lanes.
    items
        float32 items of scratch.
    """

    has_channel_lanes: int
    first_lane: int
    last_lane: int
    rest: int
    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int
    panel_bytes: int
    items: int


def lane_parts(vectors: int, products: int, threads: int) -> int:
    """Return into how many ranges of whole vectors the rows of one matrix are cut; 1 if channels must be cut instead.

    Cutting rows leaves nothing to do twice, whereas threads that share rows all pack them. `products` is m * n * k.
    """
    if -(-vectors // threads) * threads > _UNEVEN * vectors:
        return 1
    rounds = min(_MOST_PARTS, vectors // (_PART_VECTORS * threads), products // (_TASK_PRODUCTS * threads))
    return threads * max(1, rounds)


def _beside(left: int, lanes: int) -> int:
    """Return how many of `left` rows are computed beside a range of lanes: all or none."""
    return left if left <= MOST_REST and lanes >= FEWEST_BESIDE * LANES else 0


@functools.lru_cache(maxsize=4096)
def split_call(
    rows: int,
    split: int,
    images: int,
    tiles: int,
    octets: int,
    is_conv: int,
    blocks: tuple[int, int],
    threads: int,
) -> tuple[Share, ...]:
    """Return the shares of a call: rows [0, split) of each image as lanes, for the others channels as lanes.

    `blocks` are the bytes of a panel block with lanes of rows, and with lanes of channels.
    """
    ranges = []
    if split > 0:
        vectors = -(-split // LANES)
        products = split * tiles * CHANNELS * octets * REDUCTION
        parts = 1 if threads == 1 or images > 1 else lane_parts(vectors, products, threads)
        if is_conv and parts == threads and _beside(rows - split, split):
            # With one part a thread, that with rows beside it took a tenth longer. Panels by channels split evenly.
            parts = 1
        edges = [min(split, i * vectors // parts * LANES) for i in range(parts + 1)]
        rest = _beside(rows - split, edges[-1] - edges[-2]) if is_conv else 0
        ranges = [(0, edges[i], edges[i + 1], rest if i + 1 == parts else 0) for i in range(parts)]
        rows -= rest
    cut = len(ranges) > 1
    if split < rows:
        ranges.append((1, split, rows, 0))
    shares = []
    for has_channel_lanes, first, last, rest in ranges:
        lanes, nbytes = last - first, blocks[has_channel_lanes]
        panels = images * panel_count(lanes, MOST_BESIDE if rest else MAX_VECTORS)
        for work in split_work(panels, tiles, 1 if cut and not has_channel_lanes else threads):
            for part in [work] if has_channel_lanes else cut_tiles(work, most_tiles(lanes)):
                own = part.last_tile - part.first_tile
                items = row_lanes.float_scratch(lanes, octets, nbytes, rest, own)
                if has_channel_lanes:
                    # Rows that hold inf or NaN become lanes.
                    items = max(items, channel_lanes.float_scratch(lanes, octets, nbytes, is_conv, own))
                shares.append(Share(has_channel_lanes, first, last, rest, *part, nbytes, items))
    return tuple(shares)
