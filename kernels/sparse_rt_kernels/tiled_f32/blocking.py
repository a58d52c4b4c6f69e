"""Tile and block sizes of the float32 tiles of any vector width, derived in this one place."""

from typing import NamedTuple

from sparse_rt_kernels.cpu.caches import level1_bytes, level2_bytes
from sparse_rt_kernels.product.f32.weight import REDUCTION

__all__ = ["Shape", "Share", "split"]


class Shape(NamedTuple):
    """One kind of register tile; plain ints, because compiled code is found again by them.

    Attributes
    ----------
    lanes
        Floats of a register: 8 or 16.
    vectors
        Registers of lanes in the widest tile.
    channels
        Output channels of a tile. vectors * channels accumulators, and one register for each broadcast weight and for
        a row of the panel: 12 + 3 of 16, or 24 + 5 of 32.
    """

    lanes: int
    vectors: int
    channels: int

    @property
    def most_floats(self) -> int:
        """Floats of a panel block, which is streamed once for each tile of channels.

        A tile of two channels multiplies too little to hide L2, so its block is of the size of L1: on Zen 4 half of it,
        which moves partial sums more often, was 6 to 15 % slower, four times as much 24 to 31 %. Four channels hide L2.
        """
        return (level1_bytes() if self.channels < 4 else level2_bytes() // 4) // 4

    def panel_count(self, rows: int) -> int:
        """Return how many panels cover `rows` activation rows."""
        return -(-rows // (self.lanes * self.vectors))

    def block_octets(self, octets: int) -> int:
        """Return of how many 8 reduction elements the blocks of a reduction are; they are balanced."""
        most = max(1, self.most_floats // (REDUCTION * self.lanes * self.vectors))
        blocks = -(-octets // most)
        return -(-octets // blocks)


class Share(NamedTuple):
    """One task: ranges of panels (counted over all images) and of tiles of channels; octets of a block of k."""

    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int
    block_octets: int


def split(panels: int, tiles: int, strip: int, threads: int, most: int, block_octets: int) -> list[Share]:
    """Split panels over threads if there are enough of them, else channels too, in whole strips of tiles.

    Not into more than `most` tasks.
    """
    if min(threads, most) == 1:
        return [Share(0, panels, 0, tiles, block_octets)]
    parts = min(panels, 4 * threads, most)
    strips = -(-tiles // strip)
    pieces = 1 if panels >= 2 * threads else min(strips, -(-2 * threads // panels), max(1, most // parts))
    return [
        Share(
            panels * part // parts,
            panels * (part + 1) // parts,
            min(tiles, strips * piece // pieces * strip),
            min(tiles, strips * (piece + 1) // pieces * strip),
            block_octets,
        )
        for part in range(parts)
        for piece in range(pieces)
    ]
