"""SIMD int8 depthwise convolution straight from narrow planes, for AVX-512 VNNI: byte permutations stand for padding.

Some output rows, up to 64 pixels, are a block. What a row of the kernel reads for them lies within one register of 64
bytes, or two; a permutation picks for each pixel the columns that its taps meet, or a byte of padding, the last one.
"""

from typing import Any, Final, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.between.depthwise.finish import Finish, dot
from sparse_rt_kernels.between.depthwise.operands import Bytes, Planes
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, LANES, WORDS

__all__ = ["BlockTables", "convolve_permuted"]

_MASK = simd.vector(ir.IntType(1), 64)


#: Of the tier that all of this needs.
_LEVEL: Final = isa.number_of("avx512vnni")


class BlockTables(NamedTuple):
    """How planes are cut: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    count, nbytes
        How many blocks a plane has, and bytes from block to block of the output.
    places, masks
        (count, rows) int64 bytes from the plane to what a row reads, and (count, rows, registers) int64, a bit for each
        byte that is to be read; `pad` stands for the others.
    controls
        (operands of a row, vectors, 64) bytes: where vector t finds the 4 columns of pixel ``vectors * j + t``.
    stores
        (count,) int64, a bit for each pixel.
    flip, pad
        A byte that is xor-ed to each byte of the source, and the padding, before that.
    """

    count: Any
    nbytes: Any
    places: Any
    masks: Any
    controls: Any
    stores: Any
    flip: Any
    pad: Any


class _Rows:
    """What the rows of a block read, emitted."""

    def __init__(self, builder: Any, tables: BlockTables, registers: int) -> None:
        self._builder = builder
        self._tables = tables
        self._registers = registers
        self._flips, padding = (
            simd.broadcast(builder, builder.trunc(byte, I8), 64) for byte in (tables.flip, tables.pad)
        )
        self._padding = simd.bitwise_xor(builder, padding, self._flips)

    def mask(self, table: Any, number: Any) -> Any:
        """Return 64 bits of a table as lanes."""
        return self._builder.bitcast(
            simd.load(self._builder, simd.item(self._builder, table, number, 8), I64, 8), _MASK
        )

    def of_block(self, block: Any, source: Any, height: int) -> tuple[list[Any], list[list[Any]]]:
        """Return where each row begins, for the plane at `source`, and the masks of its registers."""
        builder, tables = self._builder, self._tables
        first = builder.mul(block, I64(height))
        moved, bits = [], []
        for r in range(height):
            row = builder.add(first, I64(r))
            place = simd.load(builder, simd.item(builder, tables.places, row, 8), I64, 8)
            moved.append(builder.add(source, place))
            inside = builder.mul(row, I64(self._registers))
            bits.append(
                [self.mask(tables.masks, builder.add(inside, I64(number))) for number in range(self._registers)]
            )
        return moved, bits

    def read(self, at: Any, bits: list[Any]) -> list[Any]:
        """Return the registers of a row, unsigned, with padding where `bits` are not set."""
        builder = self._builder
        result = []
        for number, mask in enumerate(bits):
            place = simd.pointer(builder, builder.add(at, I64(64 * number)))
            value = simd.load_masked(builder, place, BYTES, mask, ir.Constant(BYTES, None))
            # Adding 128 flips a byte's sign bit, and a sum can be masked.
            result.append(builder.select(mask, simd.add(builder, value, self._flips), self._padding))
        return result

    def permuted(self, values: list[Any], steer: Any) -> Any:
        """Return the bytes of one or two registers that `steer` names, as words of 4."""
        if len(values) == 1:
            value = simd.permute_bytes(self._builder, values[0], steer)
        else:
            value = simd.permute_two(self._builder, values[0], steer, values[1])
        return self._builder.bitcast(value, WORDS)


@simd.emitter
def convolve_permuted(
    context: Any,
    rows: Any,
    registers: Any,
    vectors: Any,
    planes: Any,
    blocks: Any,
    weights: Any,
    operands: Any,
) -> Any:
    """``out[c] = epilogue(sum over rows r, groups g of weights[c, r, g] . permuted(source[c], r, g))``, block by block.

    All planes' first block, then their second: what differs from block to block, masks above all, stays in registers.

    Parameters
    ----------
    rows, registers, vectors
        Literal ints: rows of the kernel, which has as many columns, registers that a row reads, and vectors of 16
        pixels of a block.
    planes, blocks
        :class:`operands.Planes` and :class:`BlockTables`.
    weights
        (planes, rows, operands of a row, 4) int8.
    operands
        :class:`operands.Bytes` of several channels.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Planes, given[3])
        tables = fields_of(builder, BlockTables, given[4])
        end = fields_of(builder, Bytes, given[6])
        height, ways = rows.literal_value, vectors.literal_value
        # An operand has 4 columns.
        width = -(-height // 4)
        reader = _Rows(builder, tables, registers.literal_value)
        steers = [
            simd.load(builder, simd.item(builder, tables.controls, number, 64), BYTES, 64)
            for number in range(ways * width)
        ]

        def scalar(table: Any, number: Any, kind: Any) -> Any:
            return simd.load(builder, simd.item(builder, table, number, 4), kind, 4)

        with cgutils.for_range(builder, tables.count) as block:
            moved, bits = reader.of_block(block.index, a.source, height)
            store = reader.mask(tables.stores, block.index)
            begin = builder.add(a.out, builder.mul(block.index, tables.nbytes))
            with cgutils.for_range(builder, a.count) as plane:
                sums = [simd.broadcast(builder, scalar(end.offset, plane.index, I32), LANES)] * ways
                at = builder.mul(plane.index, a.source_plane)
                word = simd.item(builder, given[5], builder.mul(plane.index, I64(height * width)), 4)
                for r in range(height):
                    values = reader.read(builder.add(moved[r], at), bits[r])
                    for g in range(width):
                        tap = simd.load(builder, simd.element(builder, word, 4 * (r * width + g)), I32, 4)
                        operand = simd.broadcast(builder, tap, LANES)
                        for t in range(ways):
                            picked = reader.permuted(values, steers[ways * g + t])
                            sums[t] = dot(builder, _LEVEL, sums[t], picked, operand)
                scale, bias = (scalar(table, plane.index, F32) for table in (end.scale, end.bias))
                finish = Finish(builder, _LEVEL, 4 // ways, end._replace(scale=scale, bias=bias))
                place = simd.pointer(builder, builder.add(begin, builder.mul(plane.index, a.out_plane)))
                finish.store(sums, place, store)
        return I64(0)

    return types.intp(rows, registers, vectors, planes, blocks, types.intp, operands), generate
