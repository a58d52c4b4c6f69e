"""A kernel in plain NumPy over the naive judges, so that plans can be tested apart from the real kernels."""

import numpy as np
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight, Panels

from tests import naive
from tests.models.python_launch import prepared_conv, prepared_matmul


def pack_weight(weight):
    n, half = weight.values.shape
    return PackedWeight("integers" if weight.values.dtype == np.int8 else "floats", n, 2 * half, Panels(*weight))


def _store(acc, epilogue, out):
    """acc (m, n)."""
    if out.dtype == np.int32:
        out[:] = naive.wrap_int32(acc + epilogue.offset)
    elif hasattr(epilogue, "offset"):
        total = naive.wrap_int32(acc + epilogue.offset).astype(np.float32)
        t = np.clip(total * epilogue.scale + epilogue.bias, np.float32(epilogue.low), np.float32(epilogue.high))
        if out.dtype == np.float32:
            out[:] = t
        else:
            info = np.iinfo(out.dtype)
            out[:] = np.clip(np.rint(t).astype(np.float64) + epilogue.zero_point, info.min, info.max)
    else:
        out[:] = np.clip(acc + epilogue.bias, epilogue.low, epilogue.high)


def matmul(x, packed, epilogue, out):
    w = naive.decode_matrix(packed.panels.values, packed.panels.indexes)[:, : x.shape[1]]
    dense_matmul(x, w, epilogue, out)


def conv(x, geometry, packed, epilogue, out):
    w = naive.decode_matrix(packed.panels.values, packed.panels.indexes)
    w = w.reshape(len(w), *geometry.kernel, geometry.padded_channels(4)).transpose(0, 3, 1, 2)[:, : geometry.channels]
    dense_conv(x, geometry, w, epilogue, out)


def dense_matmul(x, w, epilogue, out):
    """Multiply x (m, k) by w (n, k)."""
    assert x.flags.aligned
    assert x.strides[1] == x.itemsize
    _store(naive.wide(x) @ naive.wide(w).T, epilogue, out)


def dense_conv(x, geometry, w, epilogue, out):
    """Convolve x (b, c, h, w) with w (n, c, *kernel)."""
    assert x.flags.c_contiguous
    assert x.flags.aligned
    a, b = geometry.input_stride
    shape = ((geometry.height - 1) * a + 1, (geometry.width - 1) * b + 1)
    stuffed = np.full((*x.shape[:2], *shape), geometry.pad_value, x.dtype)
    stuffed[:, :, ::a, ::b] = x
    y = naive.conv2d(stuffed, w, geometry.strides, geometry.pads, geometry.dilations, geometry.pad_value)
    flat = np.empty((y.shape[0] * y.shape[2] * y.shape[3], y.shape[1]), out.dtype)
    _store(y.transpose(0, 2, 3, 1).reshape(flat.shape), epilogue, flat)
    out[:] = flat.reshape(y.shape[0], y.shape[2], y.shape[3], y.shape[1]).transpose(0, 3, 1, 2)


KERNELS = {
    "u8s8": Kernel(
        "integers", "u8s8", "n2m4", 1, 1, "generic", pack_weight, prepared_matmul(matmul), prepared_conv(conv)
    ),
    "f32": Kernel("floats", "f32", "n2m4", 1, 1, "generic", pack_weight, prepared_matmul(matmul), prepared_conv(conv)),
}


def float_epilogue(n):
    return FloatEpilogue(np.zeros(n, np.float32))
