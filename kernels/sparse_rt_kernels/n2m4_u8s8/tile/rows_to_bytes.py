"""Register tiles that end in bytes: sums of 24 rows and 16 channels are requantised before they leave registers.

Like every emitter of this family it returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.n2m4_u8s8.tile.rows import Expanded, Octets, multiply_loop
from sparse_rt_kernels.product.u8s8.operands import Operands
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, store_planes
from sparse_rt_kernels.product.u8s8.sizes import ROWS
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import REGISTER, WORDS

__all__ = ["Tiles", "tiles_to_bytes"]


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

    def multiply(self, builder: Any, octets: Octets, weight: Expanded, resume: Any, start: Any) -> Any:
        """Return the sums of one tile, `start` and sums so far included; it lies as `octets` do."""
        for slot in self._slots:
            builder.store(start, slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0)), likely=False):
            sums = simd.pointer(builder, builder.load(self._sums))
            for row, slot in enumerate(self._slots):
                so_far = simd.load(builder, simd.element(builder, sums, row * REGISTER), WORDS, REGISTER)
                builder.store(simd.add(builder, so_far, start), slot)
        multiply_loop(builder, self._slots, octets._replace(first=builder.load(self._x)), weight)
        return [builder.load(slot) for slot in self._slots]

    def out(self, builder: Any) -> Any:
        """Return the address of the tile's first output."""
        return builder.load(self._out)

    def advance(self, builder: Any, x: Any, out: Any) -> None:
        """Move on to the next tile, so many bytes of activations and of outputs away."""
        for place, step in ((self._x, x), (self._sums, I64(ROWS * REGISTER)), (self._out, out)):
            builder.store(builder.add(builder.load(place), step), place)


class Tiles(NamedTuple):
    """A run of tiles whose rows, sums and outputs follow each other.

    Attributes
    ----------
    count, x_stride
        How many, and bytes of activations from tile to tile.
    sums, resume
        If `resume` is not 0, what earlier steps summed up: (24, 16) int32 a tile, 64-byte aligned. Not written.
    out, stride
        First element, and bytes from row to row, or from channel to channel.
    """

    count: Any
    x_stride: Any
    sums: Any
    resume: Any
    out: Any
    stride: Any


@simd.emitter
def tiles_to_bytes(context: Any, planes: Any, tiles: Any, octets: Any, weight: Any, operands: Any) -> Any:
    """:func:`.rows.tile` of 24 rows, and :func:`.finish.finish_rows` or `finish_planes`, without a way through L1.

    A run of tiles in one call: what 16 channels have in common is prepared once, and nothing but the next tile's first
    dot products stands between two tiles.

    Parameters
    ----------
    planes
        Literal int: 0 stores rows of 16 channels, 1 planes of 24 pixels a tile.
    tiles
        :class:`Tiles`.
    octets, weight
        As for :func:`.rows.tile`; `octets` are those of the first tile.
    operands
        :class:`.operands.Operands` of 16 channels.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds: tuple[Any, ...] = (Tiles, Octets, Expanded, Operands)
        records = [fields_of(builder, kind, record) for kind, record in zip(kinds, given[1:], strict=True)]
        run_of, x, expanded, own = records
        requantiser = Requantiser(builder, own)
        walk = _Walk(builder, x.first, run_of.sums, run_of.out)
        in_planes = bool(planes.literal_value)
        out_bytes = I64(ROWS) if in_planes else builder.mul(run_of.stride, I64(ROWS))

        def run(plain: bool) -> None:
            with cgutils.for_range(builder, run_of.count):
                totals = walk.multiply(builder, x, expanded, run_of.resume, requantiser.start)
                _store(builder, requantiser, totals, plain, in_planes, walk.out(builder), run_of.stride)
                walk.advance(builder, run_of.x_stride, out_bytes)

        with builder.if_else(requantiser.is_plain(builder), likely=True) as (plain, general):
            with plain:
                run(True)
            with general:
                run(False)
        return I64(0)

    return types.intp(planes, tiles, octets, weight, operands), generate
