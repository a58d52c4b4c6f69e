"""The mean of each channel's plane: GlobalAveragePool of floats or of bytes."""

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.between.elementwise.quantise import quantise_range
from sparse_rt_kernels.between.pooling.maxima import INT8, UINT8
from sparse_rt_kernels.between.pooling.totals import total_of_bytes, total_of_floats
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray, cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32, I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.across import combine_across
from sparse_rt_kernels.vectors.loops import UNIT, zero
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, ByteTensor, byte_fields
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, FLOATS, LANES, WORDS

__all__ = ["prepare_global_average_pool", "prepare_quantised_global_average_pool"]

_FLOAT = np.dtype([(name, "i8") for name in ("planes", "parts", "pixels")])
_BYTES = np.dtype(
    [
        *((name, "i8") for name in ("planes", "parts", "pixels", "x_flip", "correction")),
        *((name, "f8") for name in ("factor", "scale")),
        *BYTE_FIELDS,
    ]
)
#: Floats that are added up before their sum is added to that of those before.
_STRETCH: Final = 1 << 14
#: Of bytes, whose sum int32 holds.
_MOST_PIXELS: Final = 1 << 23
#: Of one byte, of one float, and of one plane, on one core, from the last cache.
_BYTE_NANOSECONDS, _FLOAT_NANOSECONDS, _PLANE_NANOSECONDS = 0.02, 0.04, 1.0


def _add_bytes(builder: Any, total: Any, loaded: Any) -> Any:
    """Add each four neighbours of 64 unsigned bytes to the 16 int32 lanes of `total`."""
    pairs = simd.bitcast(builder, loaded, simd.vector(I16, 32))
    low = simd.bitwise_and(builder, pairs, simd.constant(I16, [0xFF] * 32))
    pairs = simd.add(builder, low, simd.shift_right(builder, pairs, simd.constant(I16, [8] * 32)))
    fours = simd.bitcast(builder, pairs, WORDS)
    low = simd.bitwise_and(builder, fours, simd.constant(I32, [0xFFFF] * 16))
    high = simd.shift_right(builder, fours, simd.constant(I32, [16] * 16))
    return simd.add(builder, total, simd.add(builder, low, high))


def _row_sums(
    builder: Any, places: list[Any], items: Any, kind: Any, sums: Any, put: Callable[[Any, Any], Any]
) -> list[Any]:
    """Return for each byte pointer 16 lanes that add up to the sum of its `items` items.

    ``put(total, loaded)`` adds a register of type `kind` to a total of type `sums`; lanes beyond the items are 0.
    """
    nbytes = 64 // kind.count
    rest = builder.and_(items, I64(kind.count - 1))
    whole = builder.sub(items, rest)
    slots = [cgutils.alloca_once(builder, sums) for _ in places]

    def take(at: Any, count: Any) -> None:
        for place, slot in zip(places, slots, strict=True):
            here = simd.element(builder, place, builder.mul(at, I64(nbytes)))
            loaded = simd.load(builder, here, kind) if count is None else simd.load_first(builder, here, kind, count)
            builder.store(put(builder.load(slot), loaded), slot)

    for slot in slots:
        builder.store(ir.Constant(sums, None), slot)
    with cgutils.for_range_slice(builder, zero(), whole, I64(kind.count), I64, inc=True) as (at, _):
        take(at, None)
    with builder.if_then(builder.icmp_signed(">", rest, zero())):
        take(whole, rest)
    return [builder.load(slot) for slot in slots]


def _each_16_planes(builder: Any, planes: Any, body: Callable[[list[Any], Any, Any], None]) -> None:
    """Emit ``body(numbers of 16 planes, first number, planes left)``; the last one stands for what is missing."""
    with cgutils.for_range_slice(builder, zero(), planes, I64(LANES), I64, inc=True) as (first, _):
        last = builder.sub(planes, I64(1))
        numbers = [builder.add(first, I64(lane)) for lane in range(LANES)]
        numbers = [builder.select(builder.icmp_signed("<", number, last), number, last) for number in numbers]
        body(numbers, first, builder.sub(planes, first))


@simd.emitter
def _float_means(context: Any, x: Any, y: Any, planes: Any, pixels: Any) -> Any:
    """``y[p] = sum(x[p]) / pixels`` of `planes` planes of float32 at x."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, planes, pixels = given
        count = lanes.broadcast_float(builder, builder.sitofp(pixels, F32))
        plane_bytes = builder.mul(pixels, I64(4))

        def mean(numbers: list[Any], first: Any, left: Any) -> None:
            places = [simd.pointer(builder, builder.add(x, builder.mul(n, plane_bytes))) for n in numbers]
            rows = _row_sums(builder, places, pixels, FLOATS, FLOATS, lambda a, b: simd.fadd(builder, a, b))
            means = builder.fdiv(combine_across(builder, rows, simd.fadd), count)
            lanes.store_floats(builder, builder.add(y, builder.mul(first, I64(4))), 0, means, left)

        _each_16_planes(builder, planes, mean)
        return zero()

    return types.intp(*[types.intp] * 4), generate


class _Bytes(NamedTuple):
    """Planes of bytes: ints in kernels, IR i64 where code is emitted.

    Attributes
    ----------
    planes, pixels
        How many, and of each.
    flip
        Xor-ed to each byte: 128 for signed ones.
    correction
        Subtracted from a plane's sum.
    """

    planes: Any
    pixels: Any
    flip: Any
    correction: Any


@simd.emitter
def _byte_means(context: Any, x: Any, y: Any, planes: Any, factor: Any) -> Any:
    """``y[p] = (sum(x[p] ^ flip) - correction) * factor``, float32, of planes at x, which are :class:`_Bytes`.

    What a plane lacks of a multiple of 64 bytes counts as 0 ^ flip.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, held, factor = given
        a = fields_of(builder, _Bytes, held)
        flips = simd.broadcast(builder, builder.trunc(a.flip, I8), 64)
        corrections = simd.broadcast(builder, builder.trunc(a.correction, I32), LANES)
        factors = lanes.broadcast_float(builder, factor)

        def mean(numbers: list[Any], first: Any, left: Any) -> None:
            places = [simd.pointer(builder, builder.add(x, builder.mul(n, a.pixels))) for n in numbers]

            def put(total: Any, loaded: Any) -> Any:
                return _add_bytes(builder, total, simd.bitwise_xor(builder, loaded, flips))

            rows = _row_sums(builder, places, a.pixels, BYTES, WORDS, put)
            sums = simd.subtract(builder, combine_across(builder, rows, simd.add), corrections)
            means = simd.fmultiply(builder, simd.to_float(builder, sums), factors)
            lanes.store_floats(builder, builder.add(y, builder.mul(first, I64(4))), 0, means, left)

        _each_16_planes(builder, a.planes, mean)
        return zero()

    return types.intp(types.intp, types.intp, planes, types.float32), generate


@kernel_jit
def _long_float_mean(x: int, pixels: int) -> float:
    """Return the mean of one plane of float32: what is added to a large sum one by one would lose digits."""
    total = 0.0
    for first in range(0, pixels, _STRETCH):
        total += total_of_floats(x + 4 * first, min(_STRETCH, pixels - first))
    return total / pixels


@kernel_jit
def _long_byte_total(x: int, pixels: int, is_signed: int) -> int:
    """Return the sum of one plane of bytes."""
    return total_of_bytes(INT8, x, pixels) if is_signed else total_of_bytes(UINT8, x, pixels)


def _float_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Average one part of the planes."""
    r = carray(arguments, (1,), _FLOAT)[0]
    first, last = part_bounds(r.planes, UNIT, task, r.parts)
    if r.pixels > _STRETCH:
        means = carray(as_pointer(out), (r.planes,), np.float32)
        for plane in range(first, last):
            means[plane] = np.float32(_long_float_mean(x + 4 * plane * r.pixels, r.pixels))
        return 0
    return _float_means(x + 4 * first * r.pixels, out + 4 * first, last - first, r.pixels)


@functools.cache
def _byte_task(level: int) -> TaskFunction:
    """Return the task of bytes for a level of :mod:`isa`."""

    def mean_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Average one part of the planes, into scratch, and quantise the means."""
        r = carray(arguments, (1,), _BYTES)[0]
        first, last = part_bounds(r.planes, UNIT, task, r.parts)
        count = last - first
        if r.pixels > _MOST_PIXELS:
            means = carray(as_pointer(scratch), (count,), np.float32)
            for plane in range(count):
                total = _long_byte_total(x + (first + plane) * r.pixels, r.pixels, r.x_flip)
                means[plane] = np.float32(np.float32(total - r.correction) * np.float32(r.factor))
        else:
            planes = _Bytes(count, r.pixels, r.x_flip, r.correction)
            _byte_means(x + first * r.pixels, scratch, planes, np.float32(r.factor))
        fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
        return quantise_range(level, scratch, out + first, count, np.float32(r.scale), fields)

    return mean_task


def prepare_global_average_pool(planes: int, pixels: int, threads: int) -> Launch:
    """Prepare ``y[p] = mean(x[p])`` of float32, for `planes` = b * c planes of `pixels` = h * w: ``run(x, y, pool)``.

    Both arrays are C-contiguous. Float32 is summed in 16 lanes, in another order than onnxruntime's, and of 2**14
    pixels at a time: the error is at most ``e mean(|x|) (min(pixels, 2**14) / 16 + 6)``, e = 2**-24, and the rounding
    of y.
    """
    parts = worthwhile_parts(planes * (pixels * _FLOAT_NANOSECONDS + _PLANE_NANOSECONDS), threads)
    return Launch([Phase(_float_task, np.array([(planes, parts, pixels)], _FLOAT), parts)])


def prepare_quantised_global_average_pool(
    planes: int, pixels: int, x: ByteTensor, y: ByteTensor, threads: int, tier: str | None = None
) -> Launch:
    """Prepare ``y[p] = saturate(round_half_even(mean((x[p] - zx) sx) / sy) + zy)`` of bytes: ``run(x, y, pool)``.

    `planes` = b * c, `pixels` = h * w; both arrays are C-contiguous. The sum is exact; next to a tie the byte may
    differ by one from onnxruntime's, which adds floats. `tier` is the most specific one whose instructions may be used;
    see :func:`isa.supported_tiers`.
    """
    shift, zero_point = x.unsigned_zero - x.quantisation.zero_point, x.quantisation.zero_point
    if pixels > _MOST_PIXELS:
        correction = zero_point * pixels
    else:
        correction = (zero_point + shift) * pixels + shift * (-pixels % 64)
    parts = worthwhile_parts(planes * (pixels * _BYTE_NANOSECONDS + _PLANE_NANOSECONDS), threads)
    factor = float(np.float32(x.quantisation.scale)) / pixels
    fixed = (planes, parts, pixels, shift, correction, factor, y.quantisation.scale)
    record = (*fixed, *byte_fields(y.quantisation, y.dtype))
    return Launch([Phase(_byte_task(isa.level(tier)), np.array([record], _BYTES), parts)], 0, 4 * (planes + UNIT))
