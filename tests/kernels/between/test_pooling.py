"""Pooling against loops and against onnxruntime."""

import numpy as np
import onnxruntime
import pytest
from numba import config
from onnx import TensorProto, helper
from sparse_rt_kernels.between.elementwise import Quantisation
from sparse_rt_kernels.between.pooling import Window, prepare_max_pool, prepare_quantised_average_pool
from sparse_rt_kernels.threads.pool import ThreadPool

from tests.kernels.conformance import Guarded, activations

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="native tasks are machine code")

POOLS = {threads: ThreadPool(threads) for threads in (1, 2)}
DTYPES = [np.uint8, np.int8, np.float32]

# (h, w), kernel, strides, pads (top, left, bottom, right)
CASES = [
    ((112, 112), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((56, 57), (3, 3), (1, 1), (1, 1, 1, 1)),
    ((13, 130), (3, 3), (2, 2), (0, 0, 0, 0)),
    ((130, 13), (2, 2), (2, 2), (0, 0, 1, 1)),
    ((7, 7), (5, 5), (1, 1), (2, 2, 2, 2)),
    ((9, 21), (5, 4), (3, 3), (4, 0, 0, 3)),
    ((8, 33), (1, 7), (1, 4), (0, 6, 0, 0)),
    ((8, 66), (4, 1), (2, 1), (0, 0, 3, 0)),
    ((6, 17), (2, 3), (1, 2), (1, 0, 0, 2)),
    ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 1), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((1, 65), (1, 3), (1, 2), (0, 1, 0, 1)),
    ((5, 2), (5, 2), (1, 1), (0, 0, 0, 0)),
]


def out_size(size, kernel, strides, pads):
    return tuple((size[a] + pads[a] + pads[a + 2] - kernel[a]) // strides[a] + 1 for a in (0, 1))


def windows(x, kernel, strides, pads, out):
    """Yield each output pixel and the part of x that its window covers, (b, c, rows, columns)."""
    for p in range(out[0]):
        for q in range(out[1]):
            top, left = p * strides[0] - pads[0], q * strides[1] - pads[1]
            rows = slice(max(top, 0), max(top + kernel[0], 0))
            columns = slice(max(left, 0), max(left + kernel[1], 0))
            yield p, q, x[:, :, rows, columns]


def naive_max(x, kernel, strides, pads, out):
    y = np.empty((*x.shape[:2], *out), x.dtype)
    for p, q, seen in windows(x, kernel, strides, pads, out):
        columns = seen[:, :, 0]
        for row in range(1, seen.shape[2]):
            columns = np.where(columns > seen[:, :, row], columns, seen[:, :, row])
        y[:, :, p, q] = columns[:, :, 0]
        for column in range(1, columns.shape[2]):
            y[:, :, p, q] = np.where(y[:, :, p, q] > columns[:, :, column], y[:, :, p, q], columns[:, :, column])
    return y


def run_max(x, kernel, strides, pads, out, threads):
    y = Guarded((*x.shape[:2], *out), x.dtype, fill=0xFF)
    launch = prepare_max_pool(Window.of(x.shape, kernel, strides, pads, y.array.shape), x.dtype, threads)
    launch.run(x, y.array, POOLS[threads])
    y.check()
    return y.array


def run_onnxruntime(x, operator, **attributes):
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [helper.make_tensor_value_info("x", kind, x.shape)]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", kind, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    assert kind in (TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pool_equals_loops(case, dtype, threads):
    size, kernel, strides, pads = case
    x = activations(np.random.default_rng(1), dtype, (2, 3, *size))
    out = out_size(size, kernel, strides, pads)
    np.testing.assert_array_equal(
        run_max(x, kernel, strides, pads, out, threads), naive_max(x, kernel, strides, pads, out)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("ceil", [0, 1])
def test_max_pool_equals_onnxruntime(dtype, ceil):
    x = activations(np.random.default_rng(2), dtype, (1, 64, 112, 112))
    options = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil_mode": ceil}
    expected = run_onnxruntime(x, "MaxPool", **options)
    assert expected.shape[2:] == (56 + ceil, 56 + ceil)
    np.testing.assert_array_equal(run_max(x, (3, 3), (2, 2), (1, 1, 1, 1), expected.shape[2:], 2), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_padding_never_wins(dtype):
    lowest = -np.inf if dtype == np.float32 else np.iinfo(dtype).min
    x = np.full((1, 2, 9, 9), lowest, dtype)
    assert (run_max(x, (3, 3), (2, 2), (1, 1, 1, 1), (5, 5), 1) == dtype(lowest)).all()


@pytest.mark.parametrize(("kernel", "strides"), [((3, 3), (2, 2)), ((3, 3), (1, 1)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("width", [8, 40])
def test_nan_gives_way_as_in_onnxruntime(kernel, strides, width):
    rng = np.random.default_rng(3)
    x = activations(rng, np.float32, (1, 3, width, width))
    x[rng.random(x.shape) < 0.2] = np.nan
    pads = (0, 0, 0, 0)
    out = out_size((width, width), kernel, strides, pads)
    got = run_max(x, kernel, strides, pads, out, 1)
    np.testing.assert_array_equal(got, naive_max(x, kernel, strides, pads, out))
    np.testing.assert_array_equal(got, run_onnxruntime(x, "MaxPool", kernel_shape=kernel, strides=strides))
    padded = out_size((width, width), kernel, strides, (1, 1, 1, 1))
    np.testing.assert_array_equal(
        run_max(x, kernel, strides, (1, 1, 1, 1), padded, 2), naive_max(x, kernel, strides, (1, 1, 1, 1), padded)
    )


def test_many_rows_go_through_scratch_in_bands():
    x = activations(np.random.default_rng(4), np.float32, (1, 1, 300, 500))
    out = out_size((300, 500), (3, 3), (1, 1), (1, 1, 1, 1))
    expected = naive_max(x, (3, 3), (1, 1), (1, 1, 1, 1), out)
    np.testing.assert_array_equal(run_max(x, (3, 3), (1, 1), (1, 1, 1, 1), out, 1), expected)


def test_windows_in_the_padding_alone_are_refused():
    with pytest.raises(ValueError, match="meet the plane"):
        Window.of((1, 1, 4, 4), (2, 2), (1, 1), (2, 0, 0, 0), (1, 1, 5, 3))
    with pytest.raises(ValueError, match="meet the plane"):
        Window.of((1, 1, 4, 4), (2, 2), (1, 1), (0, 0, 0, 0), (1, 1, 5, 3))


def test_other_dtypes_are_refused():
    windows = Window.of((1, 1, 4, 4), (2, 2), (1, 1), (0, 0, 0, 0), (1, 1, 3, 3))
    with pytest.raises(TypeError, match="expected uint8"):
        prepare_max_pool(windows, np.dtype(np.int32), 1)
    one = Quantisation(1.0, 0)
    with pytest.raises(TypeError, match="expected uint8"):
        prepare_quantised_average_pool(windows, False, np.dtype(np.float32), one, one, 1)


def naive_average(x, kernel, strides, pads, out, include_pad):
    """The mean of x, in float64."""
    y = np.empty((*x.shape[:2], *out))
    for p, q, seen in windows(x, kernel, strides, pads, out):
        sizes = [
            min(first * strides[a] - pads[a] + kernel[a], x.shape[2 + a] + pads[a + 2]) - first * strides[a] + pads[a]
            for a, first in enumerate((p, q))
        ]
        count = sizes[0] * sizes[1] if include_pad else seen.shape[2] * seen.shape[3]
        y[:, :, p, q] = seen.astype(np.float64).sum(axis=(2, 3)) / count
    return y


@pytest.mark.parametrize("dtype", [np.uint8, np.int8], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("include_pad", [False, True])
@pytest.mark.parametrize("case", [*CASES, ((7, 7), (7, 7), (1, 1), (0, 0, 0, 0))], ids=str)
def test_quantised_average_pool_equals_loops(case, include_pad, dtype):
    size, kernel, strides, pads = case
    x = activations(np.random.default_rng(6), dtype, (2, 33, *size))
    out = out_size(size, kernel, strides, pads)
    y = Guarded((2, 33, *out), dtype)
    # The output's range is narrower than the means': some saturate.
    read, written = Quantisation(0.04, 13), Quantisation(0.017, -5 if dtype == np.int8 else 100)
    windows = Window.of(x.shape, kernel, strides, pads, y.array.shape)
    prepare_quantised_average_pool(windows, include_pad, x.dtype, read, written, 2).run(x, y.array, POOLS[2])
    y.check()
    mean = naive_average(x.astype(np.int64) - 13, kernel, strides, pads, out, include_pad)
    exact = np.float32(0.04).astype(np.float64) * mean / np.float32(0.017).astype(np.float64) + written.zero_point
    info = np.iinfo(dtype)
    # Float32 may round the other way what is close to a half.
    assert (np.abs(y.array - np.clip(exact, info.min, info.max)) <= 0.5 + 1e-3).all()
