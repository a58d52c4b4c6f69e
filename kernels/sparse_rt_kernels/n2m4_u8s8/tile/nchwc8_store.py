"""How a tile of a convolution ends: its sums become bytes, in planes or in blocks of 8 channels (NCHWc8)."""

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, store_planes
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import WORDS

__all__ = ["BLOCKS", "PLANES", "store_blocks", "store_in_planes"]

#: What a tile stores: planes of channels, or blocks of 8 channels.
PLANES: Final = 0
BLOCKS: Final = 1

_FOUR = 4


def store_in_planes(
    builder: Any, requantiser: Requantiser, sums: list[Any], plain: bool, out: Any, stride: Any
) -> None:
    """Requantise and store the tile, 16 pixels of a channel at a time; the second 16 overlap the first."""
    pixels = len(sums)
    fours: dict[int, Any] = {}
    for first in sorted({0, pixels - 16}):
        for pixel in range(first, first + 16, _FOUR):
            if pixel not in fours:
                fours[pixel] = requantiser.four_rows(builder, sums[pixel : pixel + _FOUR], plain)
        store_planes(builder, [fours[pixel] for pixel in range(first, first + 16, _FOUR)], out, stride, first)


def store_blocks(
    builder: Any, requantiser: Requantiser, sums: list[Any], plain: bool, outs: Sequence[Any], stride: Any
) -> None:
    """Requantise and store the tile in runs of neighbouring pixels.

    Parameters
    ----------
    outs
        Addresses of the first pixel of each run.
    stride
        Bytes from 8 channels to the next 8.
    """
    length = len(sums) // len(outs)
    for run, out in enumerate(outs):
        rows = [requantiser.row(builder, each, plain) for each in sums[run * length : (run + 1) * length]]
        fours = [requantiser.unsigned(builder, four, plain) for four in _fours(rows)]
        _store_run(builder, fours, out, stride, length)


def _fours(rows: list[Any]) -> list[list[Any]]:
    filled = [*rows, *[rows[-1]] * (-len(rows) % _FOUR)]
    return [filled[first : first + _FOUR] for first in range(0, len(filled), _FOUR)]


def _store_run(builder: Any, fours: list[Any], out: Any, stride: Any, length: int) -> None:
    """Store `length` pixels, the first 8 channels at `out`, the others `stride` bytes away.

    4 channels of 4 pixels lie in every 16 bytes, and become 8 channels of a pixel in every 8.
    """
    words = [simd.bitcast(builder, four, WORDS) for four in fours]
    octets = simd.vector(I64, _FOUR * len(words))
    mask = ir.Constant(ir.VectorType(ir.IntType(1), octets.count), [int(at < length) for at in range(octets.count)])
    for plane in range(2):
        lanes = [
            16 * four + 4 * (2 * plane + half) + pixel
            for four in range(len(words))
            for pixel in range(_FOUR)
            for half in (0, 1)
        ]
        value = simd.bitcast(builder, simd.shuffle(builder, words[0], words[-1], lanes), octets)
        place = simd.pointer(builder, builder.add(out, builder.mul(stride, I64(plane))))
        if octets.count == length:
            simd.store(builder, place, value)
        else:
            simd.store_masked(builder, place, value, mask)
