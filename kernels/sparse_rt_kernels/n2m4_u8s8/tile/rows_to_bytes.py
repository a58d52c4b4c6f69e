"""Register tiles that end in bytes: sums of 24 rows and 16 channels are requantised before they leave registers.

Like every emitter of this family it returns an intp: Numba may drop a call that returns nothing.
"""

from collections.abc import Sequence
from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.n2m4_u8s8.tile.rows import Octets, multiply_loop
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, store_planes
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import REGISTER, WORDS

__all__ = ["tiles_to_bytes"]


def _store_rows(builder: Any, four: Any, out: Any, stride: Any, first: int) -> None:
    """Store 4 rows of 16 channels."""
    words = simd.bitcast(builder, four, WORDS)
    rows = simd.shuffle(builder, words, words, [4 * lane + row for row in range(4) for lane in range(4)])
    for row in range(4):
        value = simd.shuffle(builder, rows, rows, range(4 * row, 4 * row + 4))
        simd.store(builder, simd.pointer(builder, builder.add(out, builder.mul(stride, I64(first + row)))), value)


def _store(
    builder: Any, requantiser: Requantiser, sums: list[Any], plain: bool, planes: bool, out: Any, stride: Any
) -> None:
    """Requantise and store a tile."""
    fours: list[Any] = []
    for row in range(0, ROWS, 4):
        four = requantiser.four_rows(builder, sums[row : row + 4], plain)
        if not planes:
            _store_rows(builder, four, out, stride, row)
            continue
        fours.append(four)
        if len(fours) == 4 or row + 4 == ROWS:
            store_planes(builder, fours, out, stride, row + 4 - 4 * len(fours))
            fours = []


class _Walk:
    """Where a run of tiles has got to: slots of the accumulators, and of the addresses that move on."""

    def __init__(self, builder: Any, x: Any, sums: Any, out: Any) -> None:
        self._slots = [cgutils.alloca_once(builder, WORDS) for _ in range(ROWS)]
        self._x, self._sums, self._out = (cgutils.alloca_once_value(builder, each) for each in (x, sums, out))

    def multiply(self, builder: Any, strides: Sequence[Any], operands: Sequence[Any], resume: Any, start: Any) -> Any:
        """Return the sums of one tile, `start` and sums so far included."""
        for slot in self._slots:
            builder.store(start, slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0)), likely=False):
            sums = simd.pointer(builder, builder.load(self._sums))
            for row, slot in enumerate(self._slots):
                so_far = simd.load(builder, simd.element(builder, sums, row * REGISTER), WORDS, REGISTER)
                builder.store(simd.add(builder, so_far, start), slot)
        multiply_loop(builder, self._slots, Octets(builder.load(self._x), *strides), *operands)
        return [builder.load(slot) for slot in self._slots]

    def out(self, builder: Any) -> Any:
        """Return the address of the tile's first output."""
        return builder.load(self._out)

    def advance(self, builder: Any, x: Any, out: Any) -> None:
        """Move on to the next tile, so many bytes of activations and of outputs away."""
        for place, step in ((self._x, x), (self._sums, I64(ROWS * REGISTER)), (self._out, out)):
            builder.store(builder.add(builder.load(place), step), place)


@simd.emitter
def tiles_to_bytes(
    context: Any,
    planes: Any,
    tiles: Any,
    x: Any,
    row_stride: Any,
    step_stride: Any,
    tile_stride: Any,
    values: Any,
    controls: Any,
    steps: Any,
    sums: Any,
    resume: Any,
    out: Any,
    stride: Any,
    offset: Any,
    row_sums: Any,
    shift: Any,
    scale: Any,
    bias: Any,
    low: Any,
    high: Any,
    zero_point: Any,
    sign: Any,
) -> Any:
    """:func:`micro.tile` of 24 rows and :func:`finish.finish_rows` or `finish_planes` in one, without a way through L1.

    A run of tiles in one call: what 16 channels have in common is prepared once, and nothing but the next tile's first
    dot products stands between two tiles.

    Parameters
    ----------
    planes
        Literal int: 0 stores rows of 16 channels, 1 planes of 24 pixels a tile.
    tiles
        How many; their sums and their outputs follow each other.
    x, row_stride, step_stride, tile_stride
        Activations as for :func:`micro.tile`, and bytes from tile to tile.
    values, controls, steps
        As for :func:`micro.tile`, `controls` expanded.
    sums, resume
        If `resume` is not 0, what earlier steps summed up: (24, 16) int32 a tile, 64-byte aligned. Not written.
    out, stride
        First element, and bytes from row to row, or from channel to channel.
    offset, row_sums, shift, scale, bias, low, high, zero_point
        As for :func:`finish.finish_rows` with 16 channels.
    sign
        0 for uint8 outputs, 128 for int8.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, tiles, x, row_stride, step_stride, tile_stride, values, controls, steps, sums, resume, *rest = given
        out, stride, offset, row_sums, shift, *operands = rest
        correction = simd.load(builder, simd.pointer(builder, row_sums), WORDS)
        shifts = simd.broadcast(builder, builder.trunc(shift, I32), CHANNELS)
        start = simd.load(builder, simd.pointer(builder, offset), WORDS)
        start = simd.subtract(builder, start, simd.multiply(builder, correction, shifts))
        requantiser = Requantiser(builder, operands)
        walk = _Walk(builder, x, sums, out)
        in_planes = bool(planes.literal_value)
        out_bytes = I64(ROWS) if in_planes else builder.mul(stride, I64(ROWS))

        def run(plain: bool) -> None:
            with cgutils.for_range(builder, tiles):
                strides, weight = (row_stride, step_stride), (values, controls, steps)
                totals = walk.multiply(builder, strides, weight, resume, start)
                _store(builder, requantiser, totals, plain, in_planes, walk.out(builder), stride)
                walk.advance(builder, tile_stride, out_bytes)

        with builder.if_else(requantiser.is_plain(builder), likely=True) as (plain, general):
            with plain:
                run(True)
            with general:
                run(False)
        return I64(0)

    operands = [*[types.intp] * 5, types.float32, types.float32, types.intp, types.intp]
    return types.intp(planes, *[types.intp] * 12, *operands), generate
