"""2:4 float32 weights: each of 4 stored values of a channel meets the row of the panel that its index names."""

from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.product.f32.weight import REDUCTION, interleaved, octets_of
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.tiled_f32.weight.strategy import Strategy
from sparse_rt_kernels.vectors import simd

__all__ = ["N2M4"]

_SLOTS = 4


def _pack(kernel: str, weight: Indexed, channels: int) -> PackedWeight[Panels]:
    n, half = weight.values.shape
    octets = octets_of(2 * half)
    values = interleaved(weight.values, channels, octets, _SLOTS)
    indexes = interleaved(weight.indexes, channels, octets, 1)[:, :, 0]
    return PackedWeight(kernel, n, 2 * half, Panels(values, indexes))


def _add_octet(builder: Any, slots: list[list[Any]], rows: Any, values: Any, index: Any) -> None:
    channels, vectors, kind = len(slots), len(slots[0]), slots[0][0].type.pointee
    register = 4 * kind.count
    packed = simd.load(builder, index, ir.IntType(8 * channels))
    packed = builder.zext(packed, I64)
    for slot in range(_SLOTS):
        for channel in range(channels):
            named = builder.and_(builder.lshr(packed, I64(8 * channel + 2 * slot)), I64(3))
            row = simd.element(builder, rows, builder.mul(named, I64(vectors * register)))
            # Slots 0 and 1 belong to the first 4 rows; the second slot of each 4 names rows 1 to 3.
            row = simd.element(builder, row, (4 * (slot // 2) + slot % 2) * vectors * register)
            weight = simd.load(builder, simd.element(builder, values, 4 * (slot * channels + channel)), F32, 4)
            weight = simd.broadcast(builder, weight, kind.count)
            for vector, place in enumerate(slots[channel]):
                x = simd.load(builder, simd.element(builder, row, vector * register), kind, register)
                builder.store(simd.fma(builder, weight, x, builder.load(place)), place)


@kernel_jit
def _add_skipping(panel: NDArray[np.float32], values: int, index: int, sums: NDArray[np.float32]) -> int:
    channels, octets = sums.shape[0], panel.shape[0] // REDUCTION
    weights = carray(as_pointer(values), (octets, _SLOTS, channels), np.float32)
    indexes = carray(as_pointer(index), (octets, channels), np.uint8)
    for octet in range(octets):
        for slot in range(_SLOTS):
            for channel in range(channels):
                weight = weights[octet, slot, channel]
                if weight != 0:
                    row = octet * REDUCTION + 4 * (slot // 2) + slot % 2 + (indexes[octet, channel] >> (2 * slot) & 3)
                    for lane in range(panel.shape[1]):
                        sums[channel, lane] += weight * panel[row, lane]
    return 0


N2M4 = Strategy("n2m4", _SLOTS, 1, _pack, _add_octet, _add_skipping)
