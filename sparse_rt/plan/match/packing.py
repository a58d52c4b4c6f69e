"""Pack a weight for a kernel, in the format that the kernel takes."""

from typing import Any

import numpy as np
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.product.weight import PackedWeight

from sparse_rt import formats
from sparse_rt.formats import Weight

__all__ = ["PackedWeights", "pack", "pack_blank"]

_DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "u8s8": np.dtype(np.int8)}


class PackedWeights:
    """The weights that several layers of a model share, packed once for each kernel."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[Weight, PackedWeight[Any]]] = {}

    def of(self, kernel: registry.Kernel, weight: Weight, is_shared: bool) -> PackedWeight[Any]:
        """Return a weight as :func:`pack` does: where it is shared, one object for the same weight."""
        key = kernel.name, id(weight)
        found = self._found.get(key)
        if found is None:
            # With the weight, so that no other can have its id.
            found = weight, pack(kernel, weight)
            if is_shared:
                self._found[key] = found
        return found[1]


def pack(kernel: registry.Kernel, weight: Weight) -> PackedWeight[Any]:
    """Pack a weight; a kernel for another format, as dense ones are, gets it in its own."""
    if weight.format.name != kernel.format:
        weight = formats.by_name(kernel.format).encode(weight.decode())
    return kernel.pack_weight(weight.arrays)


def pack_blank(kernel: registry.Kernel, shape: tuple[int, ...]) -> PackedWeight[Any]:
    """Pack a weight (n, c) or (n, c, *kernel) of zeros."""
    return pack(kernel, formats.by_name(kernel.format).encode(np.zeros(shape, _DTYPES[kernel.dtype])))
