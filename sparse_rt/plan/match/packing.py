"""Pack a weight for a kernel, each in the form that the kernel takes: 2:4 or dense."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.product.weight import Dense, Indexed, PackedWeight

from sparse_rt import formats

__all__ = ["PackedWeights", "pack_blank", "pack_compressed", "pack_dense"]

_DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "u8s8": np.dtype(np.int8)}


class PackedWeights:
    """The weights that several layers of a model share, packed once for each kernel."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int], tuple[object, PackedWeight[Any]]] = {}

    def of(
        self, kernel: registry.Kernel, values: NDArray[Any], index: NDArray[np.uint8], is_shared: bool
    ) -> PackedWeight[Any]:
        """Return a weight as :func:`pack_compressed` does: where it is shared, one object for the same arrays."""
        key = kernel.name, id(values), id(index)
        found = self._found.get(key)
        if found is None:
            packed = pack_compressed(kernel, np.ascontiguousarray(values), np.ascontiguousarray(index))
            # With the arrays, so that no others can have their ids.
            found = (values, index), packed
            if is_shared:
                self._found[key] = found
        return found[1]


def pack_compressed(kernel: registry.Kernel, values: NDArray[Any], index: NDArray[np.uint8]) -> PackedWeight[Any]:
    """Pack a canonical 2:4 weight, values (n, k / 2) and index (n, ceil(k / 8)); a dense kernel gets its zeros, too."""
    if kernel.format == "dense":
        return pack_dense(kernel, formats.decode_matrix(values, index))
    return kernel.pack_weight(Indexed(values, index))


def pack_dense(kernel: registry.Kernel, matrix: NDArray[Any]) -> PackedWeight[Any]:
    """Pack a matrix (n, k), k a multiple of 4, for a dense kernel."""
    return kernel.pack_weight(Dense(matrix))


def pack_blank(kernel: registry.Kernel, n: int, k: int) -> PackedWeight[Any]:
    """Pack a weight (n, k) of zeros, k a multiple of 4, for any kernel."""
    values = np.zeros((n, k // 2), _DTYPES[kernel.dtype])
    return pack_compressed(kernel, values, np.zeros((n, -(-k // 8)), np.uint8))
