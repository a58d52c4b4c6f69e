"""Tile and block sizes of the float32 2:4 family, all derived in this one place."""

from typing import Final

from sparse_rt_kernels.jit import kernel_jit

__all__ = [
    "CHANNELS",
    "LANES",
    "MAX_VECTORS",
    "PORTABLE_VECTORS",
    "REDUCTION",
    "block_length",
    "panel_bounds",
    "panel_count",
]

#: Floats of one vector: lanes are activation rows (output pixels, tokens).
LANES: Final = 16
#: Vectors of the widest register tile.
MAX_VECTORS: Final = 7
#: Vectors of a panel of the portable loops.
PORTABLE_VECTORS: Final = 4
#: Output channels of a register tile. 7 x 4 accumulators leave 4 of AVX-512's 32 registers for broadcast weights.
CHANNELS: Final = 4
#: Reduction elements that one index byte covers; panels and packed weights are padded to it.
REDUCTION: Final = 8

# Bytes of a panel block: what the micro-kernel streams once for each tile of channels. It need not fit L1: reading it
# in order, the hardware prefetcher hides L2 behind 4 channels' FMAs. It must share an L2 of 1 MiB (512 KiB on older
# cores) with the weights and the partial sums that stream through. Measured on Zen 4: flat from 64 to 512 KiB.
_PANEL_BYTES: Final = 320 * 1024


@kernel_jit
def panel_count(rows: int, max_vectors: int) -> int:
    """Return how many panels of at most `max_vectors` vectors cover `rows` rows."""
    vectors = (rows + LANES - 1) // LANES
    return (vectors + max_vectors - 1) // max_vectors


@kernel_jit
def panel_bounds(rows: int, max_vectors: int, panel: int) -> tuple[int, int]:
    """Return ``(first_row, vectors)`` of panel number `panel` of those that cover `rows` rows.

    Widths differ by at most one vector: 13 vectors become 6 + 7.
    """
    total = -(-rows // LANES)
    panels = panel_count(rows, max_vectors)
    first = panel * total // panels
    return first * LANES, (panel + 1) * total // panels - first


@kernel_jit
def block_length(k: int, vectors: int) -> int:
    """Return how many of `k` reduction elements one panel block of `vectors` vectors holds, a multiple of 8.

    Blocks are balanced: each costs one pass over the partial sums, so their number is what counts.
    """
    octets = -(-k // REDUCTION)
    most = max(1, _PANEL_BYTES // (REDUCTION * LANES * 4 * vectors))
    blocks = -(-octets // most)
    return -(-octets // blocks) * REDUCTION
