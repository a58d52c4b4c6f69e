"""Dense float32 weights: each of 8 values of a channel meets its row of the panel."""

from typing import Any

import numpy as np

from sparse_rt_kernels.between.direct_convolution.calls import prepare_floats
from sparse_rt_kernels.jit.llvm import F32
from sparse_rt_kernels.product.f32.weight import REDUCTION, interleaved, octets_of
from sparse_rt_kernels.product.weight import Dense, PackedWeight, Panels
from sparse_rt_kernels.tiled_f32.weight.strategy import Strategy
from sparse_rt_kernels.vectors import simd

__all__ = ["DENSE"]


def _pack(kernel: str, weight: Dense, channels: int) -> PackedWeight[Panels]:
    n, k = weight.values.shape
    values = interleaved(weight.values, channels, octets_of(k), REDUCTION)
    return PackedWeight(kernel, n, k, Panels(values, np.empty((len(values), 0, channels), np.uint8)))


def _add_octet(builder: Any, slots: list[list[Any]], rows: Any, values: Any, index: Any) -> None:
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


DENSE = Strategy("dense", REDUCTION, 0, _pack, _add_octet, None, prepare_direct=prepare_floats)
