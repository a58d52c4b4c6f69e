"""Depthwise convolution against loops and against onnxruntime."""

import numpy as np
import onnxruntime
import pytest
from numba import config
from onnx import helper, numpy_helper
from sparse_rt_kernels.between.depthwise import prepare_depthwise
from sparse_rt_kernels.between.depthwise.floats import prepare_floats
from sparse_rt_kernels.between.depthwise.integer import prepare_integer
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.pool import ThreadPool

from tests import naive
from tests.kernels.conformance import (
    Guarded,
    activations,
    channels_first,
    channels_last,
    expected_integers,
    integer_epilogue,
)

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="native tasks are machine code")

POOLS = {threads: ThreadPool(threads) for threads in (1, 2)}

# (b, c, h, w), kernel, strides, dilations, pads (top, left, bottom, right)
CASES = [
    ((1, 5, 112, 112), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 5, 112, 112), (3, 3), (2, 2), (1, 1), (0, 0, 1, 1)),
    ((1, 3, 5, 224), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 3, 6, 256), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ((1, 3, 7, 112), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    ((1, 9, 40, 112), (5, 5), (2, 1), (1, 2), (0, 4, 3, 4)),
    ((1, 3, 4, 15), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((2, 2, 8, 29), (3, 3), (1, 1), (1, 1), (2, 0, 1, 3)),
    ((2, 3, 15, 31), (3, 3), (2, 2), (1, 1), (0, 1, 1, 0)),
    ((1, 3, 9, 61), (3, 3), (2, 2), (1, 1), (-1, 3, 2, -2)),
    ((2, 3, 56, 56), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 5, 12, 32), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 3, 66, 66), (3, 3), (2, 2), (1, 1), (0, 0, 0, 0)),
    ((2, 3, 55, 57), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ((3, 33, 7, 7), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((2, 17, 9, 8), (3, 3), (1, 1), (1, 1), (0, 1, 0, 1)),
    ((1, 2, 3, 130), (3, 3), (1, 1), (1, 2), (2, 2, 1, 2)),
    ((1, 6, 5, 3), (3, 3), (1, 1), (1, 1), (4, 1, 4, 1)),
    ((1, 3, 5, 64), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 3, 9, 63), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    ((1, 3, 9, 127), (5, 5), (1, 2), (2, 1), (2, 2, 2, 2)),
    ((2, 18, 14, 14), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((2, 18, 14, 14), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ((2, 18, 28, 28), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ((1, 7, 28, 28), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    ((1, 40, 14, 14), (5, 5), (2, 2), (1, 1), (2, 2, 2, 2)),
    ((1, 4, 13, 11), (5, 5), (2, 2), (1, 1), (2, 1, 1, 2)),
    ((1, 4, 31, 17), (3, 3), (1, 1), (2, 2), (2, 2, 2, 2)),
    ((1, 4, 20, 23), (3, 3), (2, 2), (3, 2), (0, 4, 3, 1)),
    ((1, 4, 20, 23), (3, 3), (3, 3), (1, 1), (1, 1, 1, 1)),
    ((1, 4, 20, 23), (2, 7), (1, 4), (2, 1), (1, 0, 0, 5)),
    ((1, 4, 9, 40), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 4, 9, 40), (4, 4), (2, 1), (1, 1), (3, 0, 0, 3)),
    ((1, 4, 1, 70), (1, 9), (1, 2), (1, 1), (0, 4, 0, 4)),
    ((1, 70, 1, 1), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    ((1, 3, 12, 12), (3, 3), (1, 1), (1, 1), (-2, -1, 0, -3)),
    ((1, 3, 12, 12), (3, 3), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 3, 3, 3), (3, 3), (2, 2), (1, 1), (7, 7, 0, 0)),
]


def geometry_of(case, pad_value=0):
    (b, c, h, w), kernel, strides, dilations, pads = case
    return ConvGeometry(b, c, h, w, c, kernel, strides, dilations, pads, (1, 1), pad_value)


def naive_sums(x, w, g):
    return naive.conv(x, w[:, None], g.strides, g.pads, g.dilations, g.pad_value, len(w))


def prepare_staged(geometry, x_dtype, out_dtype, w, epilogue, threads):
    """The way that takes every geometry, with what this CPU can do."""
    if x_dtype == np.float32:
        return prepare_floats(geometry, w, epilogue, threads)
    return prepare_integer(geometry, x_dtype, out_dtype, w, epilogue, threads, isa.level())


def prepare_generic(*given):
    """The way of CPUs of which nothing is known."""
    return prepare_depthwise(*given, tier="generic")


WAYS = [prepare_depthwise, prepare_staged, prepare_generic]


def run(x, w, geometry, epilogue, dtype, threads, prepare=prepare_depthwise):
    shape = (geometry.batch, geometry.channels, geometry.out_height, geometry.out_width)
    out = Guarded(shape, dtype, fill=0xFF)
    launch = prepare(geometry, x.dtype, np.dtype(dtype), w, epilogue, threads)
    launch.run(x, out.array, POOLS[threads])
    launch.run(x, out.array, POOLS[threads])
    out.check()
    return out.array


@pytest.mark.parametrize("prepare", WAYS, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "dtypes", [(np.uint8, np.uint8), (np.int8, np.int8), (np.uint8, np.float32), (np.int8, np.int32)]
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_equal_loops(case, dtypes, threads, prepare):
    rng = np.random.default_rng(1)
    x = activations(rng, dtypes[0], case[0])
    w = activations(rng, np.int8, (case[0][1], *case[1]))
    geometry = geometry_of(case, 17)
    clip = (-3.0, 5.0) if case[1] == (5, 5) else (-np.inf, np.inf)
    epilogue = integer_epilogue(rng, len(w), *clip, zero_point=9)
    sums = channels_last(naive_sums(x, w, geometry))
    expected = channels_first(expected_integers(sums, epilogue, dtypes[1]))
    np.testing.assert_array_equal(run(x, w, geometry, epilogue, dtypes[1], threads, prepare), expected)


@pytest.mark.parametrize("prepare", WAYS, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-20.0, 31.0), (4.0, 3.0)])
@pytest.mark.parametrize("case", [case for case in CASES if case[1] == (3, 3)][::2], ids=str)
def test_products_alone_equal_loops(case, bounds, dtype, prepare):
    """No bias, scales below 1: nothing but a product is rounded. Bounds may cross; some channels' scale is 0."""
    rng = np.random.default_rng(5)
    x, w = activations(rng, dtype, case[0]), activations(rng, np.int8, (case[0][1], 3, 3))
    scale = np.where(np.arange(len(w)) % 3 == 2, 0, 0.01 * rng.random(len(w))).astype(np.float32)
    offset = rng.integers(-5000, 5000, len(w)).astype(np.int32)
    epilogue = IntegerEpilogue(offset, scale, np.zeros(len(w), np.float32), *bounds, zero_point=9)
    geometry = geometry_of(case, 3)
    expected = channels_first(expected_integers(channels_last(naive_sums(x, w, geometry)), epilogue, dtype))
    np.testing.assert_array_equal(run(x, w, geometry, epilogue, dtype, 2, prepare), expected)


@pytest.mark.parametrize("prepare", WAYS, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_floats_equal_loops(case, threads, prepare):
    rng = np.random.default_rng(2)
    x = activations(rng, np.float32, case[0])
    w = activations(rng, np.float32, (case[0][1], *case[1]))
    geometry = geometry_of(case)
    epilogue = FloatEpilogue(rng.standard_normal(len(w), np.float32), -1.5, 6.0)
    bias = epilogue.bias[:, None, None]
    expected = np.clip(naive_sums(x, w, geometry) + bias, -1.5, 6.0)
    bound = (naive_sums(np.abs(x), np.abs(w), geometry) + np.abs(bias)) * (w[0].size + 1) * np.finfo(np.float32).eps
    got = run(x, w, geometry, epilogue, np.float32, threads, prepare)
    assert (np.abs(got - expected) <= bound).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_extreme_sums_saturate(dtype):
    info = np.iinfo(dtype)
    x = np.full((1, 2, 14, 14), info.min if dtype == np.int8 else info.max, dtype)
    w = np.stack([np.full((3, 3), -128, np.int8), np.full((3, 3), 127, np.int8)])
    case = (x.shape, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    for scale in (1.0, 1e6):
        epilogue = IntegerEpilogue(np.zeros(2, np.int32), np.full(2, scale, np.float32), np.zeros(2, np.float32))
        geometry = geometry_of(case, int(info.min))
        expected = channels_first(expected_integers(channels_last(naive_sums(x, w, geometry)), epilogue, dtype))
        np.testing.assert_array_equal(run(x, w, geometry, epilogue, dtype, 1), expected)


@pytest.mark.parametrize("size", [7, 14, 28])
def test_nan_stays_where_it_is_read(size):
    x = np.zeros((1, 2, size, size), np.float32)
    x[0, 0, 3, 0] = np.nan
    geometry = geometry_of((x.shape, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)))
    epilogue = FloatEpilogue(np.zeros(2, np.float32), 0.0, 6.0)
    got = run(x, np.ones((2, 3, 3), np.float32), geometry, epilogue, np.float32, 1)
    expected = np.zeros(x.shape, bool)
    expected[0, 0, 2:5, 0:2] = True
    np.testing.assert_array_equal(np.isnan(got), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equals_onnxruntime(dtype, stride):
    rng = np.random.default_rng(3)
    x = activations(rng, dtype, (1, 32, 28, 28))
    w = activations(rng, np.int8 if dtype == np.uint8 else np.float32, (32, 3, 3))
    geometry = geometry_of((x.shape, (3, 3), (stride, stride), (1, 1), (1, 1, 1, 1)), 120 if dtype == np.uint8 else 0)
    options = {"strides": (stride, stride), "pads": (1, 1, 1, 1), "group": 32}
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    if dtype == np.uint8:
        named = {"xs": np.float32(0.02), "xz": np.uint8(120), "ws": np.float32(0.01), "wz": np.int8(0)}
        named |= {"ys": np.float32(0.05), "yz": np.uint8(100)}
        node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], **options)
        scale = np.full(32, named["xs"] * named["ws"] / named["ys"], np.float32)
        offset = (-120 * w.astype(np.int32).sum(axis=(1, 2))).astype(np.int32)
        epilogue = IntegerEpilogue(offset, scale, np.zeros(32, np.float32), zero_point=100)
    else:
        named, epilogue = {}, FloatEpilogue(np.zeros(32, np.float32))
        node = helper.make_node("Conv", ["x", "w"], ["y"], **options)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (named | {"w": w[:, None]}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    got = run(x, w, geometry, epilogue, dtype, 2)
    if dtype == np.uint8:
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_depthwise_is_refused():
    epilogue = FloatEpilogue(np.zeros(4, np.float32))
    float32, byte = np.dtype(np.float32), np.dtype(np.uint8)
    weight = np.zeros((4, 1, 1), np.float32)
    with pytest.raises(ValueError, match="as many outputs"):
        prepare_depthwise(ConvGeometry(1, 2, 4, 4, 4), float32, float32, weight, epilogue, 1)
    geometry = ConvGeometry(1, 4, 4, 4, 4, input_stride=(2, 1))
    with pytest.raises(ValueError, match="no zero-stuffing"):
        prepare_depthwise(geometry, float32, float32, weight, epilogue, 1)
    with pytest.raises(TypeError, match="FloatEpilogue"):
        prepare_depthwise(ConvGeometry(1, 4, 4, 4, 4), byte, byte, weight, epilogue, 1)
