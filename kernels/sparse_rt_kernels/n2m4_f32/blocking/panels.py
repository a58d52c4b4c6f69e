"""Tiles, panels of lanes and blocks of k of the float32 2:4 family, and how their work is split."""

from typing import Final, NamedTuple

from sparse_rt_kernels.cpu.caches import level1_bytes, level2_bytes
from sparse_rt_kernels.jit.compilation import kernel_arithmetic
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.vectors.registers import LANES

__all__ = [
    "CHANNELS",
    "FEWEST_BESIDE",
    "MAX_VECTORS",
    "MOST_BESIDE",
    "MOST_REST",
    "OCTET_BYTES",
    "PORTABLE_VECTORS",
    "REDUCTION",
    "WEIGHT_BYTES",
    "Work",
    "block_length",
    "cut_tiles",
    "most_tiles",
    "panel_bounds",
    "panel_bytes",
    "panel_count",
    "row_panel_bytes",
    "rows_as_lanes",
    "split_work",
]

#: Vectors of the widest register tile.
MAX_VECTORS: Final = 6
#: Vectors of a panel of the portable loops.
PORTABLE_VECTORS: Final = 4
#: Output channels of a register tile. 6 x 4 accumulators leave 8 of AVX-512's 32 registers for the weights and their
#: broadcasts; with 7 x 4, one accumulator is spilled.
CHANNELS: Final = 4
#: Vectors of a panel beside rows that fill no vector: with them, their accumulators stay in registers.
FEWEST_BESIDE: Final = 3
MOST_BESIDE: Final = 4
#: How many such rows can be computed beside a panel.
MOST_REST: Final = 4
#: Rows that are left over from whole vectors and still faster with lanes of channels than in a vector of their own.
MOST_LEFT: Final = 11
#: Bytes of an octet of a packed row, and of the weights of a tile for one.
OCTET_BYTES: Final = 4 * REDUCTION
WEIGHT_BYTES: Final = 4 * CHANNELS * REDUCTION // 2


@kernel_arithmetic
def panel_count(rows: int, max_vectors: int) -> int:
    """Return how many panels of at most `max_vectors` vectors cover `rows` rows."""
    vectors = (rows + LANES - 1) // LANES
    return (vectors + max_vectors - 1) // max_vectors


@kernel_arithmetic
def panel_bounds(rows: int, max_vectors: int, panel: int) -> tuple[int, int]:
    """Return ``(first_row, vectors)`` of panel number `panel` of those that cover `rows` rows.

    Widths differ by at most one vector: 13 vectors become 4 + 4 + 5.
    """
    total = -(-rows // LANES)
    panels = panel_count(rows, max_vectors)
    first = panel * total // panels
    return first * LANES, (panel + 1) * total // panels - first


def panel_bytes() -> int:
    """Return the bytes of a panel block of the portable loops, which stream it from L2; no shape takes more."""
    return level2_bytes() * 5 // 16


def row_panel_bytes() -> int:
    """Return the bytes of a panel block of the tile with lanes of rows, which reads it once for each 4 channels.

    Every FMA takes a register of the panel from memory. A CPU with two 64-byte FMAs a cycle (Zen 5) reads as much from
    L1 only, so the block stays there, beside the weights and partial sums that stream through; shorter blocks would
    load and store the partial sums more often.
    """
    return level1_bytes() * 11 // 16


@kernel_arithmetic
def block_length(k: int, vectors: int, nbytes: int) -> int:
    """Return how many of `k` reduction elements a panel block of `nbytes` holds, a multiple of 16.

    16 rows of x are transposed at once, and whole cache lines of them are read. Blocks are balanced: each costs one
    pass over the partial sums, so their number is what counts.
    """
    steps = (k + LANES - 1) // LANES
    most = max(1, nbytes // (LANES * LANES * 4 * vectors))
    blocks = (steps + most - 1) // most
    return (steps + blocks - 1) // blocks * LANES


class Work(NamedTuple):
    """One thread's share of a call: panels (over all images) and channel tiles, both half-open ranges."""

    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int


def split_work(panels: int, tiles: int, threads: int) -> list[Work]:
    """Split panels over threads if there are enough of them, else channel tiles too, in strips of 16 channels."""
    if threads == 1 or panels * tiles <= 1:
        return [Work(0, panels, 0, tiles)]
    strips = -(-tiles // (LANES // CHANNELS))
    if panels >= 2 * threads:
        # A few more shares than threads even out what other programs take.
        count = min(panels, 4 * threads)
        bounds = [panels * i // count for i in range(count + 1)]
        return [Work(bounds[i], bounds[i + 1], 0, tiles) for i in range(count)]
    count = min(strips, threads if panels == 1 else 2 * threads // panels + 1)
    bounds = [min(tiles, strips * i // count * (LANES // CHANNELS)) for i in range(count + 1)]
    return [Work(p, p + 1, bounds[i], bounds[i + 1]) for p in range(panels) for i in range(count)]


def most_tiles(rows: int) -> int:
    """Return how many channel tiles a share of `rows` lanes works on at once: their partial sums stay in L2.

    They take 3/8 of it. With half as many, x is packed too often (2 % slower on Zen 5), with four times as many k 1024,
    n 4096 was 3 to 10 % slower.
    """
    vectors = -(-rows // LANES)
    widest = -(-vectors // panel_count(rows, MAX_VECTORS))
    return max(LANES // CHANNELS, level2_bytes() * 3 // 8 // (CHANNELS * widest * LANES * 4))


def cut_tiles(work: Work, most: int) -> list[Work]:
    """Cut a share into ones of at most `most` channel tiles, in strips of 16 channels, as even as can be.

    What is repeated for each is the packing of its panels.
    """
    strip = LANES // CHANNELS
    strips = -(-(work.last_tile - work.first_tile) // strip)
    count = -(-strips // max(1, most // strip))
    bounds = [min(work.last_tile, work.first_tile + strips * i // count * strip) for i in range(count + 1)]
    return [work._replace(first_tile=bounds[i], last_tile=bounds[i + 1]) for i in range(count)]


def rows_as_lanes(rows: int) -> int:
    """Return how many of `rows` rows are to be lanes, the first ones; of the others, channels are.

    A register tile of whole vectors of rows is the fastest there is, but one row left over would take a vector of its
    own. Measured on Zen 4, in 10**9 products a second (dense: 57): row lanes 66 with one vector, 87 with two, 91 from
    three on; channel lanes 38 for one row, 68 for four, 72 to 78 from eight on.
    """
    left = rows % LANES
    if rows < 2 * LANES:
        return 0
    return rows if left == 0 or left > MOST_LEFT else rows - left
