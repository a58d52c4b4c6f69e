"""What the conformance tests share: one way to drive every kernel of the registry, and its judge."""

import numpy as np
from sparse_rt_kernels.cpu.isa import supported_tiers
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.weight import Dense, Indexed
from sparse_rt_kernels.threads.pool import ThreadPool

from tests import naive

KERNELS = [kernel for kernel in registry.kernels() if kernel.isa in supported_tiers()]
INTEGER = [kernel for kernel in KERNELS if kernel.dtype == "u8s8"]
FLOAT = [kernel for kernel in KERNELS if kernel.dtype == "f32"]
SPARSE = [kernel for kernel in KERNELS if kernel.format == "n2m4"]
SPARSE_FLOAT = [kernel for kernel in SPARSE if kernel.dtype == "f32"]
DENSE = [kernel for kernel in KERNELS if kernel.format == "dense"]
ONE = ThreadPool(1)
GUARD = 0xA5


def by_name(kernel):
    return kernel.name


def activations(rng, dtype, shape):
    if dtype == np.float32:
        return rng.standard_normal(shape, np.float32)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def weight_for(kernel, rng, shape):
    if kernel.format == "dense":
        return activations(rng, np.float32 if kernel.dtype == "f32" else np.int8, shape)
    return naive.random_weight(rng, shape, np.float32 if kernel.dtype == "f32" else np.int8)


def pack(kernel, w):
    """A weight (n, c, *kernel), 2:4 unless the kernel is dense -> the kernel's packed weight."""
    matrix = naive.weight_matrix(w)
    if kernel.format == "dense":
        return kernel.pack_weight(Dense(matrix))
    return kernel.pack_weight(Indexed(*naive.encode_matrix(matrix)))


def sums_only(kernel, n):
    """The epilogue that changes nothing, and the output's dtype."""
    if kernel.dtype == "f32":
        return FloatEpilogue(np.zeros(n, np.float32)), np.float32
    return IntegerEpilogue(np.zeros(n, np.int32), np.ones(n, np.float32), np.zeros(n, np.float32)), np.int32


def integer_epilogue(rng, n, low=-np.inf, high=np.inf, zero_point=0, scale=1e-3):
    return IntegerEpilogue(
        rng.integers(-5000, 5000, n).astype(np.int32),
        (rng.random(n) * scale).astype(np.float32),
        rng.standard_normal(n).astype(np.float32),
        low,
        high,
        zero_point,
    )


def expected_integers(acc, epilogue, dtype):
    """acc (..., n) int64 -> what the kernel must store, by the naive requantisation."""
    e = epilogue
    if dtype == np.int32:
        return naive.wrap_int32(acc + e.offset)
    if dtype == np.float32:
        t = naive.wrap_int32(acc + e.offset).astype(np.float32) * e.scale
        t = t + e.bias
        return np.minimum(np.maximum(t, np.float32(e.low)), np.float32(e.high))
    return naive.requantise(acc, e.offset, e.scale, e.bias, e.zero_point, dtype, e.low, e.high)


def channels_last(planes):
    return np.moveaxis(planes, 1, -1)


def channels_first(pixels):
    return np.moveaxis(pixels, -1, 1)


class Guarded:
    """An array of given shape and row padding inside a larger buffer whose other bytes are watched."""

    def __init__(self, shape, dtype, row_padding=0, fill=GUARD):
        itemsize = np.dtype(dtype).itemsize
        *outer, columns = shape
        width = columns * itemsize + row_padding * itemsize
        size = int(np.prod(outer)) * width
        self._buffer = np.full(64 + size + 64, GUARD, np.uint8)
        rows = self._buffer[64 : 64 + size].reshape(-1, width)[:, : columns * itemsize]
        self.array = rows.view(dtype)
        self.array[...] = np.frombuffer(bytes([fill]) * itemsize, dtype)[0]
        self._mask = np.ones(self._buffer.size, bool)
        self._mask[64 : 64 + size].reshape(-1, width)[:, : columns * itemsize] = False
        if len(shape) != 2:
            self.array = self.array.reshape(shape)

    def check(self):
        assert (self._buffer[self._mask] == GUARD).all(), "bytes outside the output were written"


def matmul(kernel, x, packed, epilogue, dtype, pool=ONE, row_padding=3, fill=0xFF, residual=None, in_place=False):
    """Run a matmul into a guarded, strided output that holds NaN or other garbage on entry."""
    out = Guarded((len(x), packed.n), dtype, row_padding, fill)
    kernel.matmul(x, packed, epilogue, out.array, pool, _placed(residual, out, row_padding, in_place))
    out.check()
    return out.array


def conv(kernel, x, geometry, packed, epilogue, dtype, pool=ONE, fill=0xFF, residual=None, in_place=False):
    """Run a convolution into a guarded output that holds NaN or other garbage on entry."""
    shape = (geometry.batch, geometry.out_channels, geometry.out_height, geometry.out_width)
    out = Guarded(shape, dtype, 0, fill)
    kernel.conv(x, geometry, packed, epilogue, out.array, pool, _placed(residual, out, 0, in_place))
    out.check()
    return out.array


def _placed(residual, out, row_padding, in_place):
    """Put a residual, if there is one, into the output or an array of its strides."""
    if residual is None:
        return None
    holder = out if in_place else Guarded(residual.shape, residual.dtype, row_padding)
    holder.array[...] = residual
    return holder.array


def assert_sums(kernel, got, x, w):
    """Judge a bare product x @ w.T: exact integers, or floats within the bound."""
    if kernel.dtype == "u8s8":
        np.testing.assert_array_equal(got, naive.matmul_int32(x, w))
        return
    error = np.abs(got - naive.matmul(x, w))
    assert (error <= naive.float_bound(x, w)).all()


def stuffed(x, geometry):
    """x with `input_stride` - 1 padding values between neighbouring pixels."""
    b, c, h, w = x.shape
    down, right = geometry.input_stride
    out = np.full((b, c, (h - 1) * down + 1, (w - 1) * right + 1), geometry.pad_value, x.dtype)
    out[:, :, ::down, ::right] = x
    return out


def naive_conv(x, w, geometry):
    g = geometry
    return naive.conv2d(stuffed(x, g), w, g.strides, g.pads, g.dilations, g.pad_value)


def assert_conv_sums(kernel, got, x, w, geometry):
    """Judge a bare convolution."""
    if kernel.dtype == "u8s8":
        np.testing.assert_array_equal(got, naive.wrap_int32(naive_conv(x, w, geometry)))
        return
    error = np.abs(got - naive_conv(x, w, geometry))
    bound = naive_conv(np.abs(x), np.abs(w), geometry) * (w[0].size + 1) * np.finfo(np.float32).eps
    assert (error <= bound).all()


def geometry_of(x, w, **options):
    b, c, height, width = x.shape
    return ConvGeometry(b, c, height, width, len(w), w.shape[2:], **options)
