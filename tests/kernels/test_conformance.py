"""Every kernel of the registry that this CPU can run, against naive arithmetic."""

import threading

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.weight import Indexed
from sparse_rt_kernels.threads.pool import ThreadPool

from tests import naive
from tests.kernels import conformance as conf
from tests.kernels.conformance import DENSE, FLOAT, INTEGER, KERNELS, SPARSE, by_name

ACTIVATIONS = {"u8s8": (np.uint8, np.int8), "f32": (np.float32,)}
WITH_ACTIVATIONS = [(kernel, dtype) for kernel in KERNELS for dtype in ACTIVATIONS[kernel.dtype]]


def pair_id(value):
    return by_name(value) if hasattr(value, "pack_weight") else np.dtype(value).name


every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=by_name)
every_sparse = pytest.mark.parametrize("kernel", SPARSE, ids=by_name)
every_activation = pytest.mark.parametrize(("kernel", "dtype"), WITH_ACTIVATIONS, ids=pair_id)


def around(tile):
    return sorted({1, 2, tile - 1, tile, tile + 1, 2 * tile} - {0})


def cut(sizes):
    """Fewer sizes where Python itself runs the loops."""
    return sizes[:2] if config.DISABLE_JIT else sizes


def check_matmul(kernel, dtype, m, n, k, rng, columns=None, pool=conf.ONE):
    w = conf.weight_for(kernel, rng, (n, k))
    x = conf.activations(rng, dtype, (m, k if columns is None else columns))
    epilogue, out_dtype = conf.sums_only(kernel, n)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), epilogue, out_dtype, pool)
    conf.assert_sums(kernel, got, x, w[:, : x.shape[1]])


# --- shapes ----------------------------------------------------------------------------------------------------------


@every_activation
def test_row_counts_around_the_tile(kernel, dtype):
    rng = np.random.default_rng(1)
    for m in cut([*around(kernel.mr), kernel.mr - 4, 5 * kernel.mr // 2]):
        check_matmul(kernel, dtype, m, kernel.nr + 1, 36, rng)


@every_activation
def test_every_row_count_of_one_tile(kernel, dtype):
    rng = np.random.default_rng(2)
    for m in cut(range(1, min(kernel.mr, 26))):
        check_matmul(kernel, dtype, m, 5, 20, rng)


@every_activation
def test_channel_counts_around_the_tile(kernel, dtype):
    rng = np.random.default_rng(3)
    for n in cut([*around(kernel.nr), 3 * kernel.nr + 2]):
        check_matmul(kernel, dtype, 7, n, 24, rng)


@every_activation
@pytest.mark.parametrize("k", cut([4, 8, 12, 16, 60, 64, 68, 100, 1028, 4100]))
def test_reduction_lengths(kernel, dtype, k):
    check_matmul(kernel, dtype, 5, kernel.nr + 1, k, np.random.default_rng(k))


@every_activation
@pytest.mark.parametrize("columns", [1, 3, 5, 11, 63, 65, 129])
def test_columns_that_are_no_multiple_of_four(kernel, dtype, columns):
    check_matmul(kernel, dtype, 9, 5, -(-columns // 4) * 4, np.random.default_rng(columns), columns)


@every_activation
def test_missing_columns_count_as_zero(kernel, dtype):
    """Even against a nonzero weight: what lies beyond x is zero, not whatever memory holds."""
    w = np.zeros((3, 8), np.float32 if kernel.dtype == "f32" else np.int8)
    w[:, 6:] = [[1, 2]]
    w[:, 0] = 3
    x = conf.activations(np.random.default_rng(0), dtype, (30, 7))
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, 3))
    conf.assert_sums(kernel, got, x, w[:, :7])


@every_kernel
def test_no_rows_no_channels_no_reduction(kernel):
    dtype = ACTIVATIONS[kernel.dtype][0]
    rng = np.random.default_rng(0)
    for m, n, k in ((0, 5, 8), (3, 0, 8), (3, 5, 0)):
        check_matmul(kernel, dtype, m, n, k, rng)


@every_activation
def test_strided_rows(kernel, dtype):
    rng = np.random.default_rng(4)
    w = conf.weight_for(kernel, rng, (19, 68))
    wide = conf.activations(rng, dtype, (50, 97))
    x = wide[:, 5:73]
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, 19), row_padding=11)
    conf.assert_sums(kernel, got, x, w)
    backwards = x[::-1]
    got = conf.matmul(kernel, backwards, conf.pack(kernel, w), *conf.sums_only(kernel, 19))
    conf.assert_sums(kernel, got, backwards, w)
    repeated = np.broadcast_to(x[0], (9, 68))
    got = conf.matmul(kernel, repeated, conf.pack(kernel, w), *conf.sums_only(kernel, 19))
    conf.assert_sums(kernel, got, repeated, w)


@every_activation
def test_read_only_arrays(kernel, dtype):
    rng = np.random.default_rng(5)
    w = conf.weight_for(kernel, rng, (9, 16))
    x = conf.activations(rng, dtype, (6, 16))
    x.flags.writeable = False
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, 9))
    conf.assert_sums(kernel, got, x, w)


@every_activation
@pytest.mark.parametrize(("m", "n", "k"), cut([(3, 5, 8), (200, 70, 64), (61, 200, 1028), (500, 33, 100)]))
def test_threads_share_the_work(kernel, dtype, m, n, k):
    check_matmul(kernel, dtype, m, n, k, np.random.default_rng(m), pool=ThreadPool(3))


# --- weights ---------------------------------------------------------------------------------------------------------


@every_activation
def test_all_zero_weight(kernel, dtype):
    w = np.zeros((18, 44), np.float32 if kernel.dtype == "f32" else np.int8)
    x = conf.activations(np.random.default_rng(0), dtype, (25, 44))
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, 18))
    assert not got.any()


@pytest.mark.parametrize(("kernel", "dtype"), [pair for pair in WITH_ACTIVATIONS if pair[0] in SPARSE], ids=pair_id)
def test_every_index_row(kernel, dtype):
    """The eleven rows of the index table, the other documented form of (0 0 X 0), and two values of one element."""
    value = np.float32 if kernel.dtype == "f32" else np.int8
    nibbles = [0x0, 0x4, 0x8, 0x5, 0x9, 0xA, 0x0, 0x1, 0x2, 0x6, 0x8, 0x0, 0x1]
    pairs = [(3, 4)] * 6 + [(3, 0), (3, 0), (3, 0), (3, 0), (0, 4), (0, 0), (3, 4)]
    values = np.array(pairs, value)
    index = np.array(nibbles, np.uint8)[:, None]
    x = conf.activations(np.random.default_rng(0), dtype, (26, 4))
    got = np.empty((26, len(pairs)), conf.sums_only(kernel, 1)[1])
    kernel.matmul(x, kernel.pack_weight(Indexed(values, index)), conf.sums_only(kernel, len(pairs))[0], got, conf.ONE)
    conf.assert_sums(kernel, got, x, naive.decode_matrix(values, index))


@every_sparse
def test_resident_bytes(kernel):
    value = np.float32 if kernel.dtype == "f32" else np.int8
    w = naive.prune_2_4(np.ones((64, 512), value))
    packed = conf.pack(kernel, w)
    assert packed.kernel == kernel.name
    assert (packed.n, packed.k) == (64, 512)
    assert packed.nbytes <= {"u8s8": 0.634, "f32": 0.532}[kernel.dtype] * w.nbytes


@pytest.mark.parametrize("kernel", DENSE, ids=by_name)
def test_resident_bytes_of_dense_weights(kernel):
    w = np.ones((64, 512), np.float32 if kernel.dtype == "f32" else np.int8)
    packed = conf.pack(kernel, w)
    assert (packed.n, packed.k) == (64, 512)
    assert packed.nbytes <= 1.01 * w.nbytes


# --- integers --------------------------------------------------------------------------------------------------------

integer_kernels = pytest.mark.parametrize("kernel", INTEGER, ids=by_name)
signedness = pytest.mark.parametrize("dtype", [np.uint8, np.int8])


@integer_kernels
@signedness
@pytest.mark.parametrize("out_dtype", [np.int32, np.float32, np.uint8, np.int8])
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, 6.0), (-1.5, 2.25), (1e9, np.inf)])
def test_integer_epilogues(kernel, dtype, out_dtype, low, high):
    rng = np.random.default_rng(6)
    w = conf.weight_for(kernel, rng, (37, 52))
    x = conf.activations(rng, dtype, (30, 52))
    packed = conf.pack(kernel, w)
    zero_points = {np.uint8: (0, 3, 255), np.int8: (-128, -7, 127)}.get(out_dtype, (0,))
    for zero_point in zero_points:
        epilogue = conf.integer_epilogue(rng, 37, low, high, zero_point)
        got = conf.matmul(kernel, x, packed, epilogue, out_dtype)
        np.testing.assert_array_equal(got, conf.expected_integers(naive.matmul(x, w), epilogue, out_dtype))


@integer_kernels
@pytest.mark.parametrize("out_dtype", [np.uint8, np.int8])
def test_requantisation_rounds_ties_to_even(kernel, out_dtype):
    w = np.zeros((1, 4), np.int8)
    w[0, 0] = 1
    x = np.zeros((256, 4), np.uint8)
    x[:, 0] = range(256)
    for zero_point in (0, 1, 7):
        epilogue = IntegerEpilogue(
            np.array([-128], np.int32), np.array([0.5], np.float32), np.zeros(1, np.float32), zero_point=zero_point
        )
        got = conf.matmul(kernel, x, conf.pack(kernel, w), epilogue, out_dtype)
        np.testing.assert_array_equal(got, conf.expected_integers(naive.matmul(x, w), epilogue, out_dtype))


@integer_kernels
def test_the_product_is_rounded_before_the_sum(kernel):
    """A fused multiply-add would differ in the last bit for some of these."""
    rng = np.random.default_rng(7)
    w = conf.weight_for(kernel, rng, (64, 64))
    x = conf.activations(rng, np.uint8, (48, 64))
    epilogue = conf.integer_epilogue(rng, 64, scale=1.0)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), epilogue, np.float32)
    np.testing.assert_array_equal(got, conf.expected_integers(naive.matmul(x, w), epilogue, np.float32))


@integer_kernels
@pytest.mark.parametrize(("activation", "value"), [(255, -128), (255, 127), (-128, -128), (-128, 127), (127, -128)])
def test_extreme_products_do_not_saturate(kernel, activation, value):
    k = 64 if config.DISABLE_JIT else 4096
    w = np.zeros((17, k), np.int8)
    w[:, :: 1 if kernel.format == "dense" else 2] = value
    x = np.full((25, k), activation, np.uint8 if activation > 127 else np.int8)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), *conf.sums_only(kernel, 17))
    np.testing.assert_array_equal(got, naive.matmul_int32(x, w))


@integer_kernels
@signedness
def test_offsets_wrap(kernel, dtype):
    rng = np.random.default_rng(8)
    w = conf.weight_for(kernel, rng, (5, 16))
    x = conf.activations(rng, dtype, (9, 16))
    offset = np.array([2**31 - 1, -(2**31), 2**31 - 5, -(2**31) + 5, 0], np.int32)
    epilogue = IntegerEpilogue(offset, np.ones(5, np.float32), np.zeros(5, np.float32))
    got = conf.matmul(kernel, x, conf.pack(kernel, w), epilogue, np.int32)
    np.testing.assert_array_equal(got, naive.wrap_int32(naive.matmul(x, w) + offset))


def test_the_longest_reduction_fits_int32():
    from sparse_rt_kernels.n2m4_u8s8 import MAX_K

    assert MAX_K % 4 == 0
    assert MAX_K // 2 * 255 * 128 <= 2**31 - 1 < (MAX_K + 4) // 2 * 255 * 128


# --- floats ----------------------------------------------------------------------------------------------------------

float_kernels = pytest.mark.parametrize("kernel", FLOAT, ids=by_name)


@float_kernels
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, 6.0), (-0.5, 0.25)])
def test_float_epilogue(kernel, low, high):
    rng = np.random.default_rng(9)
    w = conf.weight_for(kernel, rng, (21, 40))
    x = conf.activations(rng, np.float32, (35, 40))
    bias = rng.standard_normal(21).astype(np.float32)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), FloatEpilogue(bias, low, high), np.float32)
    expected = np.clip(naive.matmul(x, w) + bias, low, high)
    bound = naive.float_bound(x, w) + np.abs(expected) * np.finfo(np.float32).eps + np.abs(bias) * 1e-6
    assert (np.abs(got - expected) <= bound).all()


# --- convolutions ----------------------------------------------------------------------------------------------------

GEOMETRIES = {
    "1x1": ((1, 8, 6, 5), (9, 8, 1, 1), {}),
    "1x1 of 3 channels": ((1, 3, 4, 4), (5, 3, 1, 1), {}),
    "1x1 strided": ((1, 16, 9, 8), (17, 16, 1, 1), {"strides": (2, 3)}),
    "1x1 padded": ((1, 4, 3, 3), (4, 4, 1, 1), {"pads": (1, 1, 1, 1), "pad_value": 9}),
    "3x3": ((1, 16, 8, 7), (20, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    "3x3 of 64 channels": ((1, 64, 7, 7), (18, 64, 3, 3), {"pads": (1, 1, 1, 1), "pad_value": 5}),
    "3x3 of 72 channels": ((1, 72, 5, 6), (6, 72, 3, 3), {"pads": (1, 0, 0, 1)}),
    "3x3 of 20 channels, batch 2": ((2, 20, 9, 11), (33, 20, 3, 3), {"pads": (1, 2, 0, 1), "pad_value": 7}),
    "3x3 strided": ((1, 9, 11, 12), (16, 9, 3, 3), {"strides": (2, 2), "pads": (1, 1, 0, 0)}),
    "3x3 dilated": ((1, 12, 10, 10), (3, 12, 3, 3), {"dilations": (2, 3), "pads": (2, 3, 2, 3), "pad_value": 3}),
    "7x7 of 3 channels": ((1, 3, 23, 21), (12, 3, 7, 7), {"strides": (2, 2), "pads": (3, 3, 3, 3), "pad_value": 11}),
    "5x2": ((1, 6, 7, 9), (4, 6, 5, 2), {"pads": (2, 0, 1, 1)}),
    "cropping pads": ((1, 5, 9, 10), (4, 5, 2, 2), {"pads": (-1, -2, -1, 1), "pad_value": 2}),
    "crops all but padding": ((1, 4, 2, 2), (4, 4, 1, 1), {"pads": (-2, 0, 3, 0), "pad_value": 4}),
    "stuffed": ((1, 8, 4, 5), (6, 8, 3, 3), {"input_stride": (2, 3), "pads": (1, 2, 1, 2), "pad_value": 6}),
    "stuffed and cropped": ((2, 7, 5, 4), (5, 7, 4, 2), {"input_stride": (3, 2), "pads": (-1, -3, 2, 1)}),
    "one row": ((1, 10, 1, 37), (7, 10, 1, 5), {"pads": (0, 2, 0, 2), "pad_value": 1}),
    "one row dilated": ((3, 4, 1, 19), (8, 4, 1, 3), {"dilations": (1, 2), "strides": (1, 2)}),
    "one pixel": ((1, 12, 1, 1), (5, 12, 1, 1), {}),
    "kernel of the whole image": ((2, 8, 5, 4), (6, 8, 5, 4), {}),
    "many images of few pixels": ((9, 8, 3, 3), (17, 8, 1, 1), {}),
    "wide rows": ((1, 5, 3, 70), (19, 5, 3, 3), {"pads": (1, 1, 1, 1)}),
    "many channels": ((1, 132, 4, 4), (34, 132, 1, 1), {}),
}


@every_activation
@pytest.mark.parametrize("case", GEOMETRIES)
def test_convolutions(kernel, dtype, case):
    shape, weight_shape, options = GEOMETRIES[case]
    options = dict(options)
    if kernel.dtype == "f32":
        options.pop("pad_value", None)
    elif dtype == np.int8 and "pad_value" in options:
        options["pad_value"] = -options["pad_value"]
    if config.DISABLE_JIT and np.prod(weight_shape) > 2000:
        pytest.skip("Python itself runs the loops")
    rng = np.random.default_rng(10)
    w = conf.weight_for(kernel, rng, weight_shape)
    x = conf.activations(rng, dtype, shape)
    geometry = conf.geometry_of(x, w, **options)
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), *conf.sums_only(kernel, len(w)))
    conf.assert_conv_sums(kernel, got, x, w, geometry)


@every_activation
def test_convolution_by_threads(kernel, dtype):
    rng = np.random.default_rng(11)
    size = 9 if config.DISABLE_JIT else 40
    for shape, weight_shape in (((2, 16, size, size), (24, 16, 3, 3)), ((1, 32, 3, 3), (100, 32, 1, 1))):
        w = conf.weight_for(kernel, rng, weight_shape)
        x = conf.activations(rng, dtype, shape)
        geometry = conf.geometry_of(x, w)
        got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), *conf.sums_only(kernel, len(w)), pool=ThreadPool(3))
        conf.assert_conv_sums(kernel, got, x, w, geometry)


@integer_kernels
@signedness
@pytest.mark.parametrize("out_dtype", [np.int32, np.float32, np.uint8, np.int8])
def test_integer_convolution_epilogues(kernel, dtype, out_dtype):
    rng = np.random.default_rng(12)
    for shape, n in (((1, 8, 7, 9), 16), ((3, 8, 5, 5), 21)):
        w = conf.weight_for(kernel, rng, (n, 8, 3, 3))
        x = conf.activations(rng, dtype, shape)
        geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1), pad_value=-3 if dtype == np.int8 else 3)
        epilogue = conf.integer_epilogue(rng, n, -1.0, 3.0, 5 if np.dtype(out_dtype).itemsize == 1 else 0)
        got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), epilogue, out_dtype)
        acc = conf.channels_last(conf.naive_conv(x, w, geometry))
        expected = conf.channels_first(conf.expected_integers(acc, epilogue, out_dtype))
        np.testing.assert_array_equal(got, expected)


# --- threads of the caller -------------------------------------------------------------------------------------------


@every_kernel
def test_concurrent_callers_do_not_disturb_each_other(kernel):
    dtype = ACTIVATIONS[kernel.dtype][0]
    rng = np.random.default_rng(13)
    w = conf.weight_for(kernel, rng, (40, 100))
    packed, pool = conf.pack(kernel, w), ThreadPool(2)
    failures = []

    def call(seed):
        try:
            own = np.random.default_rng(seed)
            for _ in range(1 if config.DISABLE_JIT else 10):
                x = conf.activations(own, dtype, (int(own.integers(1, 60)), 100))
                got = conf.matmul(kernel, x, packed, *conf.sums_only(kernel, 40), pool=pool)
                conf.assert_sums(kernel, got, x, w)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- residuals -------------------------------------------------------------------------------------------------------

ADDING = [kernel for kernel in FLOAT if kernel.adds_residual]
every_adding = pytest.mark.parametrize("kernel", ADDING, ids=by_name)


def finished(sums, bias, residual, low, high):
    return np.minimum(np.maximum(sums + bias + residual, np.float32(low)), np.float32(high))


@every_adding
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, 0.5)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 8), (17, 21, 60), (50, 37, 60), (100, 130, 1028), (193, 16, 64)])
def test_residual_of_a_matmul(kernel, m, n, k, bounds, threads, in_place):
    rng = np.random.default_rng(m)
    w, x = conf.weight_for(kernel, rng, (n, k)), conf.activations(rng, np.float32, (m, k))
    residual, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, n), n))
    given = {"residual": residual, "in_place": in_place, "pool": ThreadPool(threads)}
    got = conf.matmul(kernel, x, conf.pack(kernel, w), FloatEpilogue(bias, *bounds), np.float32, **given)
    error = np.abs(got - finished(naive.matmul(x, w), bias, residual, *bounds))
    assert (error <= naive.float_bound(x, w) + 1e-6 * (np.abs(residual) + np.abs(bias))).all()


@every_adding
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("size", "kernel_size", "stride"), [(5, 1, 1), (7, 1, 1), (7, 3, 1), (15, 3, 2), (14, 1, 1)])
def test_residual_of_a_convolution(kernel, size, kernel_size, stride, threads, in_place):
    rng = np.random.default_rng(size)
    w = conf.weight_for(kernel, rng, (37, 24, kernel_size, kernel_size))
    x = conf.activations(rng, np.float32, (2, 24, size, size))
    geometry = conf.geometry_of(x, w, strides=(stride, stride), pads=(kernel_size // 2,) * 4)
    bias = rng.standard_normal(37).astype(np.float32)
    sums = conf.naive_conv(x, w, geometry)
    residual = rng.standard_normal(sums.shape).astype(np.float32)
    given = {"residual": residual, "in_place": in_place, "pool": ThreadPool(threads)}
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), FloatEpilogue(bias, 0.0), np.float32, **given)
    bound = conf.naive_conv(np.abs(x), np.abs(w), geometry) * (w[0].size + 1) * np.finfo(np.float32).eps
    error = np.abs(got - finished(sums, bias[:, None, None], residual, 0.0, np.inf))
    assert (error <= bound + 1e-6 * (np.abs(residual) + np.abs(bias[:, None, None]))).all()


@every_adding
@pytest.mark.parametrize("m", [1, 7, 49, 50, 100])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_residual_is_added_once_where_x_is_not_finite(kernel, m, bad):
    """In place: what was written before inf was found must not be added again."""
    rng = np.random.default_rng(m)
    w, x = conf.weight_for(kernel, rng, (20, 16)), conf.activations(rng, np.float32, (m, 16))
    w[:, :4], w[1::2, 3] = 0, 1
    clean = x.copy()
    x[m // 2, 3] = bad
    residual = rng.standard_normal((m, 20)).astype(np.float32)
    bare = FloatEpilogue(np.zeros(20, np.float32))
    got = conf.matmul(kernel, x, conf.pack(kernel, w), bare, np.float32, residual=residual, in_place=True)
    assert not np.isfinite(got[m // 2, 1::2]).any()
    got[m // 2, 1::2] = clean[m // 2] @ w[1::2].T + residual[m // 2, 1::2]
    np.testing.assert_allclose(got, naive.matmul(clean, w) + residual, rtol=1e-5, atol=1e-5)


@every_adding
def test_residual_that_is_not_finite_stays_so(kernel):
    rng = np.random.default_rng(1)
    w, x = conf.weight_for(kernel, rng, (8, 16)), conf.activations(rng, np.float32, (50, 16))
    residual = np.zeros((50, 8), np.float32)
    residual[0, 0], residual[49, 7], residual[20, 3] = np.nan, np.nan, np.inf
    got = conf.matmul(
        kernel, x, conf.pack(kernel, w), FloatEpilogue(np.zeros(8, np.float32), 0.0), np.float32, residual=residual
    )
    assert np.isnan(got[0, 0])
    assert np.isnan(got[49, 7])
    assert got[20, 3] == np.inf
    assert np.isfinite(got).sum() == got.size - 3
