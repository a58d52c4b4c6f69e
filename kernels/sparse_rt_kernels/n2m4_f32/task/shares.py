"""How a call of the SIMD kernels is cut into tasks: which rows in which shape, which part on which thread."""

import functools
from typing import Final, NamedTuple

from sparse_rt_kernels.n2m4_f32.blocking import (
    CHANNELS,
    FEWEST_BESIDE,
    MAX_VECTORS,
    MOST_BESIDE,
    MOST_REST,
    REDUCTION,
    Work,
    cut_tiles,
    most_tiles,
    panel_count,
    split_work,
)
from sparse_rt_kernels.n2m4_f32.task.call import Call
from sparse_rt_kernels.n2m4_f32.task.channel_lanes import float_scratch as channel_lanes_scratch
from sparse_rt_kernels.n2m4_f32.task.row_lanes import float_scratch as row_lanes_scratch
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
    """What one task computes: a range of lanes in one of the two shapes, `rest` rows after it, the work within it.

    And how: the bytes of a panel block, the items of scratch.
    """

    channel_lanes: int
    first_lane: int
    last_lane: int
    rest: int
    work: Work
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
    for channel_lanes, first, last, rest in ranges:
        nbytes = blocks[channel_lanes]
        call = Call(0, 0, 0, 0, 0, 0, 0, octets, images, rows, first, last, nbytes, is_conv, 0, rest)
        panels = images * panel_count(last - first, MOST_BESIDE if rest else MAX_VECTORS)
        for work in split_work(panels, tiles, 1 if cut and not channel_lanes else threads):
            works = [work] if channel_lanes else cut_tiles(work, most_tiles(last - first))
            for part in works:
                items = row_lanes_scratch(call, part.last_tile - part.first_tile)
                if channel_lanes:
                    # Rows that hold inf or NaN become lanes.
                    items = max(items, channel_lanes_scratch(call, part.last_tile - part.first_tile))
                shares.append(Share(channel_lanes, first, last, rest, part, nbytes, items))
    return tuple(shares)
