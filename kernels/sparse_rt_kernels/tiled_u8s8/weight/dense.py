"""Dense int8 weights: each broadcast meets the 4 values, or 2, that stand at its place in every channel."""

from typing import Any

import numpy as np

from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.product.weight import Dense, PackedWeight, Panels
from sparse_rt_kernels.tiled_u8s8.weight.interleave import interleaved, steps_of
from sparse_rt_kernels.tiled_u8s8.weight.strategy import Strategy

__all__ = ["DENSE"]

_QUADS = 2


def _pack(kernel: str, weight: Dense) -> PackedWeight[Panels]:
    n, k = weight.values.shape
    values = interleaved(weight.values, steps_of(k, _QUADS), 4 * _QUADS)
    index = np.empty((len(values), 0, CHANNELS), np.uint8)
    return PackedWeight(kernel, n, k, Panels(values, index, weight.values.sum(axis=1, dtype=np.int32)))


def _controls(builder: Any, lanes: int, has_dot: int, index: Any) -> list[list[Any]]:
    return [[]] * (_QUADS if has_dot else 2 * _QUADS)


DENSE = Strategy("dense", _QUADS, 4, False, 1, _pack, _controls, lambda builder, x, controls: x)
