"""Plain kernels for a format: decode what was packed, and leave the rest to the naive judges."""

from typing import Any, NamedTuple

import numpy as np
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight

from tests.models import numpy_kernel
from tests.models.python_launch import prepared_conv, prepared_matmul


class Matrix(NamedTuple):
    """The panels of these kernels."""

    values: Any


def kernels(format, decode):
    """One kernel for each dtype; `decode` makes the matrix (n, k) of the format's arrays."""
    return [_kernel(f"{dtype}_{format}_plain_1x1__generic", dtype, format, decode) for dtype in ("f32", "u8s8")]


def _kernel(name, dtype, format, decode):
    def pack_weight(weight):
        matrix = decode(weight)
        assert matrix.dtype == (np.float32 if dtype == "f32" else np.int8)
        return PackedWeight(name, *matrix.shape, Matrix(np.ascontiguousarray(matrix)))

    def matmul(x, packed, epilogue, out):
        numpy_kernel.dense_matmul(x, packed.panels.values, epilogue, out)

    def conv(x, geometry, packed, epilogue, out):
        matrix = packed.panels.values
        w = matrix.reshape(len(matrix), *geometry.kernel, -1).transpose(0, 3, 1, 2)
        numpy_kernel.dense_conv(x, geometry, w, epilogue, out)

    return Kernel(name, dtype, format, 1, 1, "generic", pack_weight, prepared_matmul(matmul), prepared_conv(conv))
