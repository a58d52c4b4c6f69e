"""2:4 int8 weights: of each broadcast a byte shuffle takes what the index names, for every channel."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.llvm import I8, I32
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.tiled_u8s8.weight.interleave import interleaved, steps_of
from sparse_rt_kernels.tiled_u8s8.weight.strategy import Strategy
from sparse_rt_kernels.vectors import simd

__all__ = ["N2M4"]

_QUADS = 1


def _pack(kernel: str, weight: Indexed) -> PackedWeight[Panels]:
    n, half = weight.values.shape
    steps = steps_of(half, _QUADS)
    values, index = interleaved(weight.values, steps, 4 * _QUADS), interleaved(weight.indexes, steps, 1)
    return PackedWeight(kernel, n, 2 * half, Panels(values, index, weight.values.sum(axis=1, dtype=np.int32)))


def _spread(builder: Any, bits: Any, moves: list[tuple[int, int]], base: int) -> Any:
    """Return, in each lane, 2-bit fields moved by `moves` (where from, where to), plus the constant `base`."""
    lanes = bits.type.count
    total = simd.constant(I32, [base] * lanes)
    for start, end in moves:
        field = simd.bitwise_and(builder, bits, simd.constant(I32, [3 << start] * lanes))
        shift = simd.constant(I32, [abs(end - start)] * lanes)
        total = simd.add(builder, total, builder.shl(field, shift) if end >= start else builder.lshr(field, shift))
    return total


def _controls(builder: Any, lanes: int, has_dot: int, index: Any) -> list[list[Any]]:
    bits = simd.widen_byte(builder, simd.load(builder, index, simd.vector(I8, lanes)))
    if has_dot:
        # Four bytes of the eight: (0, 1, 4, 5) + the 2-bit index.
        return [[_spread(builder, bits, [(2 * j, 8 * j) for j in range(4)], 0x05040100)]]
    # Two bytes of four, each followed by a zero (top bit set), which widens it to 16 bits on the way.
    pairs = ([(4 * group, 0), (4 * group + 2, 16)] for group in range(2))
    return [[_spread(builder, bits, moves, 0x80018000 - (1 << 32))] for moves in pairs]


def _choose(builder: Any, x: Any, controls: list[Any]) -> Any:
    (control,) = controls
    return simd.shuffle_bytes(builder, simd.bitcast(builder, x, control.type), control)


N2M4 = Strategy("n2m4", _QUADS, 8, True, 2, _pack, _controls, _choose, few_channels=32)
