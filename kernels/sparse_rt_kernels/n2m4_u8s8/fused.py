"""Register tiles that end in bytes: sums of 24 rows and 16 channels are requantised before they leave registers.

Like every emitter of this family it returns an intp: Numba may drop a call that returns nothing.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, ROWS
from sparse_rt_kernels.n2m4_u8s8.micro import Octets, multiply_loop
from sparse_rt_kernels.vectors import simd

__all__ = ["Requantiser", "narrow_rows", "store_planes", "tiles_to_bytes"]

_WORDS = simd.vector(simd.I32, CHANNELS)
_FLOATS = simd.vector(simd.F32, CHANNELS)
_BYTES = simd.vector(simd.I8, 64)
_REGISTER = 64


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _everywhere(builder: Any, lanes: Any) -> Any:
    """Return whether all of some booleans are true."""
    mask = ir.IntType(lanes.type.count)
    return builder.icmp_unsigned("==", builder.bitcast(lanes, mask), ir.Constant(mask, -1))


def narrow_rows(builder: Any, rows: list[Any], zero_point: Any) -> Any:
    """Return 4 rows of int32, with the zero point added and saturated, as 64 bytes: 4 of each row in every 16."""
    pairs = [simd.pack_int16(builder, rows[first], rows[first + 1]) for first in (0, 2)]
    pairs = [simd.add_saturated(builder, pair, zero_point) for pair in pairs]
    return simd.pack_uint8(builder, *pairs)


class Requantiser:
    """The operands of 16 channels, and what they make of four rows of sums."""

    def __init__(self, builder: Any, operands: Sequence[Any]) -> None:
        scale, bias, low, high, zero_point, sign = operands
        self._scale = simd.load(builder, simd.pointer(builder, scale), _FLOATS)
        self._bias = simd.load(builder, simd.pointer(builder, bias), _FLOATS)
        self._high = simd.broadcast(builder, high, CHANNELS)
        # Outputs are made as uint8; int8 is uint8 less 128, so that one kind of saturation does for both.
        self._zero_point = simd.broadcast(builder, builder.trunc(builder.add(zero_point, sign), simd.I16), 32)
        self._sign = simd.broadcast(builder, builder.trunc(sign, simd.I8), 64)
        bounds = (simd.nearest_int(builder, simd.broadcast(builder, bound, CHANNELS)) for bound in (low, high))
        self._least, self._most = (narrow_rows(builder, [bound] * 4, self._zero_point) for bound in bounds)

    def is_plain(self, builder: Any) -> Any:
        """Return whether a product is all there is to round: no bias, no bounds but those of a byte, |scale| < 1.

        No product of an int32 and such a scale leaves int32.
        """
        one, zero = (simd.constant(simd.F32, [value] * CHANNELS) for value in (1.0, 0.0))
        small = builder.and_(
            builder.fcmp_ordered("<", self._scale, one),
            builder.fcmp_ordered(">", self._scale, simd.constant(simd.F32, [-1.0] * CHANNELS)),
        )
        lanes = builder.and_(small, builder.fcmp_ordered("==", self._bias, zero))
        unbounded = simd.subtract(builder, self._most, self._least)
        return builder.and_(
            _everywhere(builder, lanes),
            _everywhere(builder, builder.icmp_signed("==", unbounded, simd.constant(simd.I8, [-1] * 64))),
        )

    def scaled(self, builder: Any, sums: Any, plain: bool) -> Any:
        """Return a row of sums as floats, before they are bounded and rounded."""
        value = simd.fmultiply(builder, simd.to_float(builder, sums), self._scale)
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        return value if plain else simd.fadd(builder, value, self._bias)

    def row(self, builder: Any, sums: Any, plain: bool) -> Any:
        """Return a row of sums rounded to int32, without the zero point.

        Only what int32 does not hold must be bounded before; rounding makes the least int32 of it, and of NaN.
        """
        value = self.scaled(builder, sums, plain)
        return simd.nearest_int(builder, value if plain else simd.smaller(builder, self._high, value))

    def unsigned(self, builder: Any, rows: list[Any], plain: bool) -> Any:
        """Return 4 rounded rows as 64 unsigned bytes: in each 16 of them, 4 channels of the first row, of the second...

        round(clip(t)) is clip(round(t)), so that bounds are applied to 64 bytes at a time.
        """
        value = narrow_rows(builder, rows, self._zero_point)
        if plain:
            return value
        return simd.smaller_byte(builder, simd.larger_byte(builder, value, self._least), self._most)

    def four_rows(self, builder: Any, sums: list[Any], plain: bool) -> Any:
        """Return 4 rows of sums as 64 bytes, ordered as by :meth:`unsigned`."""
        rows = [self.row(builder, one, plain) for one in sums]
        return simd.bitwise_xor(builder, self.unsigned(builder, rows, plain), self._sign)


def _store_rows(builder: Any, four: Any, out: Any, stride: Any, first: int) -> None:
    """Store 4 rows of 16 channels."""
    words = simd.bitcast(builder, four, _WORDS)
    rows = simd.shuffle(builder, words, words, [4 * lane + row for row in range(4) for lane in range(4)])
    for row in range(4):
        value = simd.shuffle(builder, rows, rows, range(4 * row, 4 * row + 4))
        simd.store(builder, simd.pointer(builder, builder.add(out, builder.mul(stride, _int(first + row)))), value)


#: Turns 4 channels of each of 4 rows into 4 rows of each of 4 channels, in every 16 bytes.
_TURN = [4 * row + channel for channel in range(4) for row in range(4)] * 4
#: Interleave 32-bit words, or pairs of them, within every 16 bytes: the unpack instructions.
_LOW_WORDS = [lane + part for lane in range(0, 16, 4) for part in (0, 16, 1, 17)]
_LOW_PAIRS = [lane + part for lane in range(0, 16, 4) for part in (0, 1, 16, 17)]


def _interleave(builder: Any, a: Any, b: Any, low: list[int]) -> list[Any]:
    return [simd.shuffle(builder, a, b, [lane + half for lane in low]) for half in (0, 2)]


def store_planes(builder: Any, fours: list[Any], out: Any, stride: Any, first: int) -> None:
    """Store 16 or 8 pixels of 16 channels, from pixel `first` on; `fours` are 4 pixels each."""
    turn = simd.constant(simd.I8, _TURN)
    # Each word is 4 pixels of one channel.
    words = [simd.bitcast(builder, simd.shuffle_bytes(builder, four, turn), _WORDS) for four in fours]
    pairs = [_interleave(builder, words[i], words[i + 1], _LOW_WORDS) for i in range(0, len(words), 2)]
    if len(pairs) == 2:
        pairs = [_interleave(builder, a, b, _LOW_PAIRS) for a, b in zip(*pairs, strict=True)]
    # Lanes of 16 bytes hold channels 0, 4, 8, 12, or 0 and 1, 4 and 5, 8 and 9, 12 and 13, and so on.
    registers = [register for pair in pairs for register in pair]
    size = len(registers)
    for channel in range(CHANNELS):
        value = registers[channel % 4 * len(registers) // 4]
        at = channel // 4 * 4 + channel % (4 // len(registers)) * size
        place = simd.pointer(builder, builder.add(out, builder.mul(stride, _int(channel))))
        simd.store(
            builder, simd.element(builder, place, first), simd.shuffle(builder, value, value, range(at, at + size))
        )


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
        self._slots = [cgutils.alloca_once(builder, _WORDS) for _ in range(ROWS)]
        self._x, self._sums, self._out = (cgutils.alloca_once_value(builder, each) for each in (x, sums, out))

    def multiply(self, builder: Any, strides: Sequence[Any], operands: Sequence[Any], resume: Any, start: Any) -> Any:
        """Return the sums of one tile, `start` and sums so far included."""
        for slot in self._slots:
            builder.store(start, slot)
        with builder.if_then(builder.icmp_signed("!=", resume, _int(0)), likely=False):
            sums = simd.pointer(builder, builder.load(self._sums))
            for row, slot in enumerate(self._slots):
                so_far = simd.load(builder, simd.element(builder, sums, row * _REGISTER), _WORDS, _REGISTER)
                builder.store(simd.add(builder, so_far, start), slot)
        multiply_loop(builder, self._slots, Octets(builder.load(self._x), *strides), *operands)
        return [builder.load(slot) for slot in self._slots]

    def out(self, builder: Any) -> Any:
        """Return the address of the tile's first output."""
        return builder.load(self._out)

    def advance(self, builder: Any, x: Any, out: Any) -> None:
        """Move on to the next tile, so many bytes of activations and of outputs away."""
        for place, step in ((self._x, x), (self._sums, _int(ROWS * _REGISTER)), (self._out, out)):
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
        correction = simd.load(builder, simd.pointer(builder, row_sums), _WORDS)
        shifts = simd.broadcast(builder, builder.trunc(shift, simd.I32), CHANNELS)
        start = simd.load(builder, simd.pointer(builder, offset), _WORDS)
        start = simd.subtract(builder, start, simd.multiply(builder, correction, shifts))
        requantiser = Requantiser(builder, operands)
        walk = _Walk(builder, x, sums, out)
        in_planes = bool(planes.literal_value)
        out_bytes = _int(ROWS) if in_planes else builder.mul(stride, _int(ROWS))

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
        return _int(0)

    operands = [*[types.intp] * 5, types.float32, types.float32, types.intp, types.intp]
    return types.intp(planes, *[types.intp] * 12, *operands), generate
