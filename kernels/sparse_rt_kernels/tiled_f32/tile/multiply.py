"""SIMD micro-kernels of the float32 tiles of any vector width: the register tile, and what moves data in and out.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.tiled_f32.blocking import REDUCTION
from sparse_rt_kernels.vectors import simd

__all__ = ["copy_lanes", "finish_plane", "finish_rows", "gather_lanes", "tile", "transpose_in", "zero_bytes"]


def _at(builder: Any, base: Any, index: Any, size: Any) -> Any:
    """Return the byte pointer `index` items of `size` bytes after the address `base`."""
    size = I64(size) if isinstance(size, int) else size
    return simd.pointer(builder, builder.add(base, builder.mul(index, size)))


def _spoil(builder: Any, total: Any, value: Any) -> None:
    """Note in the slot `total` the lanes of `value` that are infinite or NaN."""
    # 0 * x is NaN exactly for those, and a NaN stays in the sum.
    zero = ir.Constant(value.type, None)
    builder.store(simd.fma(builder, zero, value, builder.load(total)), total)


def _clean(builder: Any, kind: Any) -> Any:
    """Return a slot for :func:`_spoil`."""
    return cgutils.alloca_once_value(builder, ir.Constant(kind, None))


def _spoiled(builder: Any, total: Any) -> Any:
    """Return the lanes that :func:`_spoil` noted as bits of an i64."""
    noted = builder.load(total)
    bits = builder.bitcast(builder.fcmp_unordered("uno", noted, noted), ir.IntType(noted.type.count))
    return builder.zext(bits, I64)


# --- the register tile -----------------------------------------------------------------------------------------------


def _sparse_octet(builder: Any, slots: list[list[Any]], rows: Any, values: Any, index: Any) -> None:
    """Add 8 reduction elements of 2:4 weights: each stored value meets the row of the panel that its index names."""
    channels, vectors, kind = len(slots), len(slots[0]), slots[0][0].type.pointee
    register = 4 * kind.count
    packed = simd.load(builder, index, ir.IntType(8 * channels))
    packed = builder.zext(packed, I64)
    for slot in range(4):
        for channel in range(channels):
            named = builder.and_(builder.lshr(packed, I64(8 * channel + 2 * slot)), I64(3))
            row = simd.element(builder, rows, builder.mul(named, I64(vectors * register)))
            row = simd.element(builder, row, (4 * (slot // 2) + slot % 2) * vectors * register)
            weight = simd.load(builder, simd.element(builder, values, 4 * (slot * channels + channel)), F32, 4)
            weight = simd.broadcast(builder, weight, kind.count)
            for vector, place in enumerate(slots[channel]):
                x = simd.load(builder, simd.element(builder, row, vector * register), kind, register)
                builder.store(simd.fma(builder, weight, x, builder.load(place)), place)


def _dense_octet(builder: Any, slots: list[list[Any]], rows: Any, values: Any) -> None:
    """Add 8 reduction elements of dense weights."""
    channels, vectors, kind = len(slots), len(slots[0]), slots[0][0].type.pointee
    register = 4 * kind.count
    for k in range(REDUCTION):
        weights = []
        for channel in range(channels):
            weight = simd.load(builder, simd.element(builder, values, 4 * (k * channels + channel)), F32, 4)
            weights.append(simd.broadcast(builder, weight, kind.count))
        for vector in range(vectors):
            place = simd.element(builder, rows, (k * vectors + vector) * register)
            x = simd.load(builder, place, kind, register)
            for weight, slot in zip(weights, (row[vector] for row in slots), strict=True):
                builder.store(simd.fma(builder, weight, x, builder.load(slot)), slot)


@simd.emitter
def tile(
    context: Any,
    lanes: Any,
    vectors: Any,
    channels: Any,
    is_sparse: Any,
    panel: Any,
    values: Any,
    index: Any,
    octets: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """``sums[c, p] (+)= sum_k panel[k, p] * w[c, k]`` for `channels` channels c and `vectors` registers of lanes p.

    Parameters
    ----------
    lanes, vectors, channels, is_sparse
        Literal ints.
    panel
        (8 * octets, vectors * lanes) float32, aligned to a register.
    values, index
        One tile of channels; see :mod:`.weight`.
    sums
        (channels, vectors * lanes) float32, aligned to a register.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, panel, values, index, octets, sums, resume = given
        kind = simd.vector(F32, lanes.literal_value)
        width, depth, register = vectors.literal_value, channels.literal_value, 4 * lanes.literal_value
        slots = [[cgutils.alloca_once(builder, kind) for _ in range(width)] for _ in range(depth)]
        flat = [slot for row in slots for slot in row]
        out = simd.pointer(builder, sums)
        places = [simd.element(builder, out, number * register) for number in range(len(flat))]
        for slot in flat:
            builder.store(ir.Constant(kind, None), slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0))):
            for place, slot in zip(places, flat, strict=True):
                builder.store(simd.load(builder, place, kind, register), slot)
        moving = [cgutils.alloca_once_value(builder, simd.pointer(builder, one)) for one in (panel, values, index)]
        stored = 4 if is_sparse.literal_value else REDUCTION
        sizes = (REDUCTION * width * register, stored * depth * 4, depth)
        with cgutils.for_range(builder, octets):
            here = [builder.load(place) for place in moving]
            if is_sparse.literal_value:
                _sparse_octet(builder, slots, *here)
            else:
                _dense_octet(builder, slots, *here[:2])
            for place, pointer, size in zip(moving, here, sizes, strict=True):
                builder.store(simd.element(builder, pointer, size), place)
        for place, slot in zip(places, flat, strict=True):
            simd.store(builder, place, builder.load(slot), register)
        return I64(0)

    return types.intp(lanes, vectors, channels, is_sparse, *[types.intp] * 6), generate


# --- into the panel --------------------------------------------------------------------------------------------------


def _load_square(builder: Any, kind: Any, source: Any, stride: Any, rows: Any, columns: Any, slots: list[Any]) -> None:
    """Load as many rows as there are lanes; zeros beyond `rows` and `columns`, where memory is not read."""
    size = kind.count
    whole = builder.icmp_signed(">=", rows, I64(size))
    whole = builder.and_(whole, builder.icmp_signed(">=", columns, I64(size)))
    places = [_at(builder, source, I64(row), stride) for row in range(size)]
    with builder.if_else(whole) as (full, ragged):
        with full:
            for place, slot in zip(places, slots, strict=True):
                builder.store(simd.load(builder, place, kind, 4), slot)
        with ragged:
            for row, (place, slot) in enumerate(zip(places, slots, strict=True)):
                builder.store(ir.Constant(kind, None), slot)
                with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                    builder.store(simd.load_first(builder, place, kind, columns), slot)


@simd.emitter
def transpose_in(
    context: Any, lanes: Any, source: Any, stride: Any, rows: Any, columns: Any, out: Any, out_stride: Any
) -> Any:
    """``out[j, i] = source[i, j]`` for i < lanes and j < columns of a row-major float32 matrix.

    `columns` is rounded up to a multiple of `lanes`; only the first `rows` rows and `columns` columns of the source are
    read, the others are zero. Strides are in bytes; `out` is aligned to a register. Returns 0 if all that was read is
    finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, rows, columns, out, out_stride = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(size)]
        total = _clean(builder, kind)
        squares = builder.udiv(builder.add(columns, I64(size - 1)), I64(size))
        with cgutils.for_range(builder, squares) as loop:
            first = builder.mul(loop.index, I64(size))
            left = builder.sub(columns, first)
            _load_square(builder, kind, builder.add(source, builder.mul(first, I64(4))), stride, rows, left, slots)
            block = [builder.load(slot) for slot in slots]
            for value in block:
                _spoil(builder, total, value)
            base = builder.add(out, builder.mul(first, out_stride))
            for column, value in enumerate(simd.transpose(builder, block)):
                simd.store(builder, _at(builder, base, I64(column), out_stride), value, 4 * size)
        return _spoiled(builder, total)

    return types.intp(lanes, *[types.intp] * 6), generate


@simd.emitter
def copy_lanes(context: Any, lanes: Any, source: Any, stride: Any, count: Any, out: Any, out_stride: Any) -> Any:
    """``out[k, l] = source[k, l]`` for k < count and one register of lanes l; strides in bytes.

    `out` is aligned to a register. Returns 0 if all are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, count, out, out_stride = given
        kind = simd.vector(F32, lanes.literal_value)
        total = _clean(builder, kind)
        with cgutils.for_range(builder, count) as loop:
            value = simd.load(builder, _at(builder, source, loop.index, stride), kind, 4)
            simd.store(builder, _at(builder, out, loop.index, out_stride), value, 4 * kind.count)
            _spoil(builder, total, value)
        return _spoiled(builder, total)

    return types.intp(lanes, *[types.intp] * 5), generate


@simd.emitter
def gather_lanes(
    context: Any, lanes: Any, source: Any, stride: Any, offsets: Any, count: Any, out: Any, out_stride: Any
) -> Any:
    """``out[k, l] = source[k, offsets[l]]`` for k < count, zero where an offset is negative; strides in bytes.

    `offsets` are int32, in items; `out` is aligned to a register. Returns 0 if all are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, offsets, count, out, out_stride = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        total = _clean(builder, kind)
        where = simd.load(builder, simd.pointer(builder, offsets), simd.vector(I32, size), 4)
        with cgutils.for_range(builder, count) as loop:
            value = simd.gather(builder, _at(builder, source, loop.index, stride), where, kind)
            simd.store(builder, _at(builder, out, loop.index, out_stride), value, 4 * size)
            _spoil(builder, total, value)
        return _spoiled(builder, total)

    return types.intp(lanes, *[types.intp] * 6), generate


@simd.emitter
def zero_bytes(context: Any, out: Any, count: Any) -> Any:
    """Store zeros at `count` addresses from `out` on."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        cgutils.memset(builder, simd.pointer(builder, given[0]), given[1], I8(0))
        return I64(0)

    return types.intp(types.intp, types.intp), generate


# --- out of the sums -------------------------------------------------------------------------------------------------


def _clipped(builder: Any, value: Any, low: Any, high: Any) -> Any:
    lanes = value.type.count
    # larger and smaller return their second operand if it is NaN.
    value = simd.larger(builder, simd.broadcast(builder, low, lanes), value)
    return simd.smaller(builder, simd.broadcast(builder, high, lanes), value)


@simd.emitter
def finish_rows(
    context: Any,
    lanes: Any,
    sums: Any,
    stride: Any,
    bias: Any,
    low: Any,
    high: Any,
    out: Any,
    out_stride: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """``out[i, j] = clip(sums[j, i] + bias[j], low, high)`` for i < rows and j < columns, both at most `lanes`.

    A square of `sums` is read whatever it holds; a NaN stays NaN. Strides are in bytes.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, stride, bias, low, high, out, out_stride, rows, columns = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        block = [simd.load(builder, _at(builder, sums, I64(row), stride), kind, 4 * size) for row in range(size)]
        shift = simd.load_first(builder, simd.pointer(builder, bias), kind, columns)
        turned = [
            _clipped(builder, simd.fadd(builder, value, shift), low, high) for value in simd.transpose(builder, block)
        ]
        whole = builder.icmp_signed("==", builder.add(rows, columns), I64(2 * size))
        with builder.if_else(whole) as (full, ragged):
            with full:
                for row, value in enumerate(turned):
                    simd.store(builder, _at(builder, out, I64(row), out_stride), value, 4)
            with ragged:
                for row, value in enumerate(turned):
                    with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                        simd.store_first(builder, _at(builder, out, I64(row), out_stride), value, columns)
        return I64(0)

    floats = [types.float32] * 2
    return types.intp(lanes, *[types.intp] * 3, *floats, *[types.intp] * 4), generate


@simd.emitter
def finish_plane(context: Any, lanes: Any, sums: Any, bias: Any, low: Any, high: Any, out: Any, count: Any) -> Any:
    """``out[i] = clip(sums[i] + bias[0], low, high)`` for i < count, 1 to `lanes`; a NaN stays NaN."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, bias, low, high, out, count = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        shift = simd.broadcast(builder, simd.load(builder, simd.pointer(builder, bias), F32, 4), size)
        value = simd.fadd(builder, simd.load(builder, simd.pointer(builder, sums), kind, 4 * size), shift)
        value, place = _clipped(builder, value, low, high), simd.pointer(builder, out)
        with builder.if_else(builder.icmp_signed("==", count, I64(size))) as (full, ragged):
            with full:
                simd.store(builder, place, value, 4)
            with ragged:
                simd.store_first(builder, place, value, count)
        return I64(0)

    return types.intp(lanes, types.intp, types.intp, types.float32, types.float32, types.intp, types.intp), generate
