"""How a tile of an octet image ends: its sums become bytes, in planes or in blocks of 8 channels (NCHWc8).

With NCHWc8 a second tensor of bytes, the residual, may be added on the way: it lies as the output does.
"""

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import I8, I64
from sparse_rt_kernels.n2m4_u8s8.tile.residual import Residual
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, store_planes
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import REGISTER, WORDS

__all__ = ["BLOCKS", "PLANES", "SUMS", "SUMS_OF_SECOND", "store_blocks", "store_in_planes", "store_sums"]

#: What a tile stores: planes of channels, blocks of 8 channels, or those with a residual added.
PLANES: Final = 0
BLOCKS: Final = 1
SUMS: Final = 2

#: As SUMS, where the convolution's own bytes are the second operand of the add.
SUMS_OF_SECOND: Final = 3

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


def store_sums(
    builder: Any,
    requantiser: Requantiser,
    sums: list[Any],
    plain: bool,
    runs: Any,
    count: int,
    out: Any,
    stride: Any,
    residual: Residual,
    other: Any,
) -> None:
    """Requantise the tile, add the residual, and store it, one run after the other.

    The sums wait in memory: so many operands of the add are needed that, beside 28 sums, they would be read from there
    for each row, and two loads a cycle are all there are.

    Parameters
    ----------
    runs, count
        Where the offsets of the runs in `out` and `other` lie, and how many there are.
    stride
        Bytes from 8 channels to the next 8.
    """
    length = len(sums) // count
    held = cgutils.alloca_once(builder, ir.ArrayType(WORDS, len(sums)))
    held.align = REGISTER
    base = builder.bitcast(held, I8.as_pointer())
    for row, each in enumerate(sums):
        simd.store(builder, simd.element(builder, base, row * REGISTER), each, REGISTER)
    # From an address that LLVM does not know: it would keep the sums in registers, and other operands in memory.
    base = simd.pointer(builder, simd.in_order(builder, builder.ptrtoint(held, I64)))
    for run in range(count):
        own = [
            simd.load(builder, simd.element(builder, base, (run * length + row) * REGISTER), WORDS, REGISTER)
            for row in range(length)
        ]
        offset = simd.load(builder, simd.element(builder, runs, 8 * run), I64, 8)
        rows = residual.rows(builder, requantiser, own, plain, builder.add(other, offset), stride)
        fours = [residual.narrow(builder, four) for four in _fours(rows)]
        _store_run(builder, fours, builder.add(out, offset), stride, length)


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
