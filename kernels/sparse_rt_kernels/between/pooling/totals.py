"""SIMD sums of bytes and of floats, for any CPU: plain vectors, which LLVM splits where it must.

Each is a Numba intrinsic on addresses (intp).
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.between.pooling.maxima import INT8
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES

__all__ = ["add_row", "total_of_bytes", "total_of_floats"]


def _reduce(builder: Any, name: str, arguments: list[Any]) -> Any:
    vector = arguments[-1].type
    signature = ir.FunctionType(vector.element, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _each_vector(builder: Any, lanes: int, count: Any, emit: Callable[[Any, Any], None]) -> None:
    """Emit ``emit(first, None)`` for whole vectors of `count` items, then ``emit(first, rest)``."""
    rest = builder.urem(count, I64(lanes))
    whole = builder.sub(count, rest)
    with cgutils.for_range_slice(builder, I64(0), whole, I64(lanes), I64, inc=True) as (first, _):
        emit(first, None)
    with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
        emit(whole, rest)


@simd.emitter
def total_of_bytes(context: Any, item: Any, source: Any, count: Any) -> Any:
    """Return the sum of `count` bytes; `item` is a literal int, UINT8 or INT8."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, count = given
        is_signed = item.literal_value == INT8
        slot = cgutils.alloca_once_value(builder, I64(0))
        kind = simd.vector(I8, 64)
        flips = simd.constant(I8, [128 if is_signed else 0] * 64)

        def add(first: Any, rest: Any) -> None:
            place = simd.pointer(builder, builder.add(source, first))
            value = simd.load(builder, place, kind) if rest is None else simd.load_first(builder, place, kind, rest)
            # Unsigned bytes are added up by one instruction.
            if is_signed:
                value = simd.bitwise_xor(builder, value, flips)
            wide = builder.zext(value, simd.vector(I32, 64))
            total = _reduce(builder, "llvm.vector.reduce.add.v64i32", [wide])
            if is_signed:
                total = builder.sub(total, I32(64 * 128))
            builder.store(builder.add(builder.load(slot), builder.sext(total, I64)), slot)

        _each_vector(builder, 64, count, add)
        return builder.load(slot)

    return types.intp(item, *[types.intp] * 2), generate


@simd.emitter
def total_of_floats(context: Any, source: Any, count: Any) -> Any:
    """Return the float32 sum of `count` float32: 16 sums, added up in pairs."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count = given
        slot = cgutils.alloca_once(builder, FLOATS)
        builder.store(ir.Constant(FLOATS, None), slot)

        def add(first: Any, rest: Any) -> None:
            place = simd.pointer(builder, builder.add(source, builder.mul(first, I64(4))))
            value = (
                simd.load(builder, place, FLOATS, 4) if rest is None else simd.load_first(builder, place, FLOATS, rest)
            )
            builder.store(simd.fadd(builder, builder.load(slot), value), slot)

        _each_vector(builder, LANES, count, add)
        total = builder.load(slot)
        for half in (8, 4, 2, 1):
            low, high = (simd.shuffle(builder, total, total, range(first, first + half)) for first in (0, half))
            total = simd.fadd(builder, low, high)
        return builder.extract_element(total, I32(0))

    return types.float32(*[types.intp] * 2), generate


@simd.emitter
def add_row(context: Any, item: Any, source: Any, sums: Any, width: Any) -> Any:
    """``sums[i] += source[i]`` for `width` bytes of a row.

    Parameters
    ----------
    item
        Literal int: UINT8 or INT8.
    sums
        (width,) int32.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, sums, width = given
        loaded, held = simd.vector(I8, LANES), simd.vector(I32, LANES)
        widen = builder.sext if item.literal_value == INT8 else builder.zext

        def add(first: Any, rest: Any) -> None:
            place = simd.pointer(builder, builder.add(source, first))
            at = simd.pointer(builder, builder.add(sums, builder.mul(first, I64(4))))
            if rest is None:
                value, before = simd.load(builder, place, loaded), simd.load(builder, at, held, 4)
                simd.store(builder, at, builder.add(before, widen(value, held)), 4)
            else:
                value = simd.load_first(builder, place, loaded, rest)
                before = simd.load_first(builder, at, held, rest)
                simd.store_first(builder, at, builder.add(before, widen(value, held)), rest)

        _each_vector(builder, LANES, width, add)
        return I64(0)

    return types.intp(item, *[types.intp] * 3), generate
