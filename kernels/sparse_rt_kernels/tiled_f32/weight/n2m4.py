"""2:4 float32 weights: each of 4 stored values of a channel meets the row of the panel that its index names."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.product.f32.n2m4 import SLOTS, add_skipping
from sparse_rt_kernels.product.f32.weight import interleaved, octets_of
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.tiled_f32.weight.strategy import Strategy
from sparse_rt_kernels.vectors import simd

__all__ = ["N2M4"]


def _pack(kernel: str, weight: Indexed, channels: int) -> PackedWeight[Panels]:
    n, half = weight.values.shape
    octets = octets_of(2 * half)
    values = interleaved(weight.values, channels, octets, SLOTS)
    indexes = interleaved(weight.indexes, channels, octets, 1)[:, :, 0]
    return PackedWeight(kernel, n, 2 * half, Panels(values, indexes))


def _add_octet(builder: Any, slots: list[list[Any]], rows: Any, values: Any, index: Any) -> None:
    channels, vectors, kind = len(slots), len(slots[0]), slots[0][0].type.pointee
    register = 4 * kind.count
    packed = simd.load(builder, index, ir.IntType(8 * channels))
    packed = builder.zext(packed, I64)
    for slot in range(SLOTS):
        for channel in range(channels):
            named = builder.and_(builder.lshr(packed, I64(8 * channel + 2 * slot)), I64(3))
            row = simd.element(builder, rows, builder.mul(named, I64(vectors * register)))
            row = simd.element(builder, row, (4 * (slot // 2) + slot % 2) * vectors * register)
            weight = simd.load(builder, simd.element(builder, values, 4 * (slot * channels + channel)), F32, 4)
            weight = simd.broadcast(builder, weight, kind.count)
            for vector, place in enumerate(slots[channel]):
                x = simd.load(builder, simd.element(builder, row, vector * register), kind, register)
                builder.store(simd.fma(builder, weight, x, builder.load(place)), place)


N2M4 = Strategy("n2m4", SLOTS, 1, _pack, _add_octet, add_skipping, few_channels=64)
