"""The operators between sparse layers, against definitions in NumPy and against onnxruntime."""

import itertools
import math

import numpy as np
import onnxruntime as ort
import pytest
from numba.core import config
from onnx import TensorProto, helper
from sparse_rt_kernels.between import elementwise, pooling
from sparse_rt_kernels.between.elementwise import Quantisation
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.threads import parts
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.vectors.quantisation import ByteTensor

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="machine code only")

POOLS = {threads: ThreadPool(threads) for threads in (1, 2)}
TYPES = {"u1": TensorProto.UINT8, "i1": TensorProto.INT8, "f4": TensorProto.FLOAT}
BYTES = ("u1", "i1")
#: Around the units of 64 elements, and enough for two tasks.
COUNTS = (1, 15, 63, 64, 65, 127, 1000)
MARGIN = 70


# --- judges ----------------------------------------------------------------------------------------------------------


def quantise(value, q, dtype):
    """value / scale, rounded half to even, plus the zero point, saturated. In float64."""
    info = np.iinfo(dtype)
    rounded = np.rint(np.asarray(value, np.float64) / np.float64(np.float32(q.scale)))
    return np.clip(rounded + q.zero_point, info.min, info.max).astype(dtype)


def dequantise(data, q):
    return (data.astype(np.float64) - q.zero_point) * np.float64(np.float32(q.scale))


def onnx_run(nodes, feeds, out_dtype, constants=(), optimised=True):
    """Run nodes on named arrays; their output is called y."""
    inits = [helper.make_tensor(name, TYPES[a.dtype.str[1:]], a.shape, a.tobytes(), raw=True) for name, a in constants]
    inputs = [helper.make_tensor_value_info(name, TYPES[a.dtype.str[1:]], a.shape) for name, a in feeds.items()]
    output = helper.make_tensor_value_info("y", TYPES[out_dtype], None)
    graph = helper.make_graph(nodes, "g", inputs, [output], inits)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def constants_of(name, q, dtype):
    return [(f"{name}_scale", np.array(q.scale, np.float32)), (f"{name}_zero", np.array(q.zero_point, dtype))]


def random_bytes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def random_quantisation(rng, dtype, low=0.01, high=0.05):
    info = np.iinfo(dtype)
    return Quantisation(float(np.float32(rng.uniform(low, high))), int(rng.integers(info.min, info.max + 1)))


def guarded(shape, dtype):
    """An output of NaN or of odd bytes, with a margin behind it; returns the output and a check of the margin."""
    count = int(np.prod(shape))
    whole = np.full(count + MARGIN, 77 if np.dtype(dtype).itemsize == 1 else np.nan, dtype)
    before = whole[count:].tobytes()

    def untouched():
        return whole[count:].tobytes() == before

    return whole[:count].reshape(shape), untouched


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 64, 65, 1000, 4096])
@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_parts_cover_every_element_once(count, tasks):
    bounds = [parts.part_bounds(count, 64, task, tasks) for task in range(tasks)]
    edges = [0, *(last for _, last in bounds)]
    assert [first for first, _ in bounds if first < count] == [edge for edge in edges[:-1] if edge < count]
    assert edges[-1] == count
    assert all(first % 64 == 0 for first, _ in bounds)


def test_small_work_is_one_task():
    assert parts.worthwhile_parts(3_000, 8) == 1
    assert parts.worthwhile_parts(5_000, 8) == 2
    assert parts.worthwhile_parts(1e9, 1) == 1
    assert parts.worthwhile_parts(1e9, 2) == 4


# --- quantised add ---------------------------------------------------------------------------------------------------


def run_quantised_add(a, b, y_dtype, parameters, threads=1):
    y, untouched = guarded(a.shape, y_dtype)
    launch = elementwise.prepare_quantised_add(a.size, a.dtype, b.dtype, y.dtype, parameters, threads)
    launch.run(a, y, POOLS[threads], other=b)
    assert untouched()
    return y


def add_judge(a, b, y_dtype, p):
    total = np.clip(dequantise(a, p.a) + dequantise(b, p.b), p.low, p.high)
    return quantise(total, p.y, y_dtype), total / np.float64(np.float32(p.y.scale))


def assert_added(y, a, b, p):
    """Equal, but for one step where the exact quotient lies within float32 rounding of a tie."""
    expected, exact = add_judge(a, b, y.dtype, p)
    wrong = y != expected
    assert np.abs(y.astype(int) - expected)[wrong].max(initial=0) <= 1
    distance = np.abs(np.abs(exact - np.trunc(exact)) - 0.5)
    assert distance[wrong].max(initial=0) < 1e-4


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("a_dtype", "b_dtype", "y_dtype"), list(itertools.product(BYTES, repeat=3)))
def test_quantised_add(a_dtype, b_dtype, y_dtype, count):
    rng = np.random.default_rng(count)
    a, b = random_bytes(rng, count, a_dtype), random_bytes(rng, count, b_dtype)
    for low, high in [(-np.inf, np.inf), (0, np.inf), (0, 0.7), (-0.3, 0.4)]:
        quantisations = [random_quantisation(rng, dtype) for dtype in (a_dtype, b_dtype, y_dtype)]
        p = QuantisedAdd(*quantisations, low, high)
        assert_added(run_quantised_add(a, b, y_dtype, p), a, b, p)


@pytest.mark.parametrize("y_dtype", BYTES)
def test_quantised_add_of_every_pair_of_bytes(y_dtype):
    a, b = (side.ravel().astype(np.uint8) for side in np.meshgrid(np.arange(256), np.arange(256)))
    zero = 3 if y_dtype == "u1" else -77
    p = QuantisedAdd(Quantisation(0.0213, 121), Quantisation(0.0377, 7), Quantisation(0.0401, zero))
    for threads in POOLS:
        assert_added(run_quantised_add(a, b, y_dtype, p, threads), a, b, p)
    # Halves are exact here: they go to the even step before the odd zero point is added.
    p = QuantisedAdd(Quantisation(0.5, 100), Quantisation(0.5, 8), Quantisation(1.0, zero))
    np.testing.assert_array_equal(run_quantised_add(a, b, y_dtype, p), add_judge(a, b, y_dtype, p)[0])


@pytest.mark.parametrize(("a_dtype", "b_dtype"), list(itertools.product(BYTES, repeat=2)))
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("optimised", [False, True])
def test_quantised_add_as_onnxruntime_does(a_dtype, b_dtype, relu, optimised):
    rng = np.random.default_rng(3)
    a, b = random_bytes(rng, (4, 7, 300), a_dtype), random_bytes(rng, (4, 7, 300), b_dtype)
    qs = [random_quantisation(rng, dtype) for dtype in (a_dtype, b_dtype, a_dtype)]
    nodes = [helper.make_node("DequantizeLinear", [n, f"{n}_scale", f"{n}_zero"], [f"{n}f"]) for n in "ab"]
    nodes.append(helper.make_node("Add", ["af", "bf"], ["sum"]))
    if relu:
        nodes.append(helper.make_node("Relu", ["sum"], ["clipped"]))
    nodes.append(helper.make_node("QuantizeLinear", ["clipped" if relu else "sum", "y_scale", "y_zero"], ["y"]))
    sides = zip("aby", qs, (a_dtype, b_dtype, a_dtype), strict=True)
    constants = [constant for side in sides for constant in constants_of(*side)]
    expected = onnx_run(nodes, {"a": a, "b": b}, a_dtype, constants, optimised)
    y = run_quantised_add(a, b, a_dtype, QuantisedAdd(*qs, 0 if relu else -np.inf))
    difference = np.abs(y.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_quantised_add_in_place():
    rng = np.random.default_rng(4)
    a, b = random_bytes(rng, 777, "u1"), random_bytes(rng, 777, "u1")
    p = QuantisedAdd(*(random_quantisation(rng, "u1") for _ in range(3)))
    expected = run_quantised_add(a, b, "u1", p)
    elementwise.prepare_quantised_add(a.size, a.dtype, b.dtype, a.dtype, p, 1).run(a, a, POOLS[1], other=b)
    np.testing.assert_array_equal(a, expected)


def test_other_dtypes_are_refused():
    q = Quantisation(1.0, 0)
    int16 = np.dtype(np.int16)
    with pytest.raises(TypeError, match="expected int8 or uint8, got int16"):
        elementwise.prepare_quantised_add(1, int16, int16, int16, QuantisedAdd(q, q, q), 1)


# --- float32 add -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [*COUNTS, 200_001])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0, np.inf), (0, 1)])
def test_add(count, threads, low, high):
    rng = np.random.default_rng(count)
    a, b = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    a[:: count // 3 + 1] = (np.nan, np.inf, -np.inf)[count % 3]
    y, untouched = guarded(count, np.float32)
    elementwise.prepare_add(count, threads, low, high).run(a, y, POOLS[threads], other=b)
    assert untouched()
    np.testing.assert_array_equal(y, np.clip(a + b, np.float32(low), np.float32(high)))


# --- quantise, dequantise --------------------------------------------------------------------------------------------


def run_quantise(x, y_dtype, q, threads=1, low=-np.inf, high=np.inf):
    y, untouched = guarded(x.shape, y_dtype)
    elementwise.prepare_quantise(x.size, y.dtype, q, threads, low, high).run(x, y, POOLS[threads])
    assert untouched()
    return y


def near_ties(rng, q, count):
    """Floats whose quotients are ties, or next to one, or small, or large; and what is no number."""
    halves = ((rng.integers(-300, 300, count) + 0.5) * np.float64(np.float32(q.scale))).astype(np.float32)
    beside = [np.nextafter(halves, np.float32(side)) for side in (-np.inf, np.inf)]
    odd = np.array([np.nan, np.inf, -np.inf, 3e9, -3e9, 3e38, -3e38, 0.0, -0.0, 1e-40, -1e-40], np.float32)
    return rng.permutation(np.concatenate([halves, *beside, odd]))


@pytest.mark.parametrize("y_dtype", BYTES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 2.0**-60, 2.0**60, None])
def test_quantise_as_onnxruntime_does(y_dtype, scale):
    rng = np.random.default_rng(7)
    for _ in range(5 if scale is None else 1):
        q = random_quantisation(rng, y_dtype)
        q = q if scale is None else Quantisation(scale, q.zero_point)
        x = near_ties(rng, q, 1000)
        node = helper.make_node("QuantizeLinear", ["x", "y_scale", "y_zero"], ["y"])
        expected = onnx_run([node], {"x": x}, y_dtype, constants_of("y", q, y_dtype))
        np.testing.assert_array_equal(run_quantise(x, y_dtype, q), expected)


@pytest.mark.parametrize("y_dtype", BYTES)
@pytest.mark.parametrize("count", [*COUNTS, 300_001])
@pytest.mark.parametrize("threads", POOLS)
def test_quantise(y_dtype, count, threads):
    rng = np.random.default_rng(count)
    q = random_quantisation(rng, y_dtype)
    x = rng.normal(0, 60 * q.scale, count).astype(np.float32)
    for low, high in [(-np.inf, np.inf), (0, np.inf), (-20 * q.scale, 30.4 * q.scale)]:
        # The quotient is rounded to float32 before it is rounded to a whole number.
        quotient = np.clip(x, np.float32(low), np.float32(high)) / np.float32(q.scale)
        expected = quantise(quotient, Quantisation(1.0, q.zero_point), y_dtype)
        np.testing.assert_array_equal(run_quantise(x, y_dtype, q, threads, low, high), expected)


@pytest.mark.parametrize("x_dtype", BYTES)
@pytest.mark.parametrize("count", [*COUNTS, 300_001])
@pytest.mark.parametrize("threads", POOLS)
def test_dequantise(x_dtype, count, threads):
    rng = np.random.default_rng(count)
    x, q = random_bytes(rng, count, x_dtype), random_quantisation(rng, x_dtype)
    y, untouched = guarded(count, np.float32)
    elementwise.prepare_dequantise(count, x.dtype, q, threads).run(x, y, POOLS[threads])
    assert untouched()
    np.testing.assert_array_equal(y, dequantise(x, q).astype(np.float32))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-30, 1e30])
def test_scales_without_meaning_are_refused(scale):
    with pytest.raises(ValueError, match="expected a scale between"):
        Quantisation(scale, 0)


def test_sums_of_unlike_scales_are_refused():
    for scale in (2.0**-11, 2.0**60):
        one = Quantisation(2.0**-50 if scale > 1 else 1.0, 0)
        with pytest.raises(ValueError, match=r"expected scales of 2\*\*-100 to 2\*\*10 times that of y"):
            QuantisedAdd(one, one, Quantisation(scale, 0))


# --- rows of bytes ---------------------------------------------------------------------------------------------------


def random_rows(rng, rows, columns, dtype, biased):
    """Bytes, and what they stand for."""
    bias = rng.standard_normal(columns).astype(np.float32) if biased else None
    given = elementwise.QuantisedRows(random_quantisation(rng, dtype), np.dtype(dtype), bias)
    return random_bytes(rng, (rows, columns), dtype), given


def dequantised(data, given):
    """What the separate steps make of them, which is equal to NumPy's float32."""
    bias = np.zeros(data.shape[1], np.float32) if given.bias is None else given.bias
    y = np.empty(data.shape, np.float32)
    launch = elementwise.prepare_dequantise_rows(len(data), data.dtype, given.quantisation, bias, 1)
    launch.run(data, y, POOLS[1])
    q = given.quantisation
    np.testing.assert_array_equal(y, (data.astype(np.float32) - np.float32(q.zero_point)) * np.float32(q.scale) + bias)
    return y


# --- global average pool ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 17, 7, 7), (2, 100, 8, 8), (1, 5, 9, 13), (1, 3, 40, 33)])
@pytest.mark.parametrize("threads", POOLS)
def test_average_pool(shape, threads):
    rng = np.random.default_rng(shape[1])
    x = rng.standard_normal(shape).astype(np.float32)
    y, untouched = guarded(shape[:2], np.float32)
    planes, pixels = shape[0] * shape[1], shape[2] * shape[3]
    pooling.prepare_global_average_pool(planes, pixels, threads).run(x, y, POOLS[threads])
    assert untouched()
    np.testing.assert_allclose(y, x.astype(np.float64).mean(axis=(2, 3)), rtol=0, atol=1e-6)
    expected = onnx_run([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": x}, "f4")
    np.testing.assert_allclose(y[..., None, None], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 17, 7, 7), (1, 2048, 7, 7), (2, 70, 8, 8), (1, 3, 40, 33)])
@pytest.mark.parametrize(("x_dtype", "y_dtype"), list(itertools.product(BYTES, repeat=2)))
def test_quantised_average_pool(shape, x_dtype, y_dtype):
    rng = np.random.default_rng(shape[1])
    x = random_bytes(rng, shape, x_dtype)
    planes, pixels = shape[0] * shape[1], shape[2] * shape[3]
    for threads in POOLS:
        for _ in range(4):
            qx, qy = random_quantisation(rng, x_dtype), random_quantisation(rng, y_dtype, 0.001, 0.01)
            y, untouched = guarded(shape[:2], y_dtype)
            launch = pooling.prepare_quantised_global_average_pool(
                planes, pixels, ByteTensor(qx, x.dtype), ByteTensor(qy, y.dtype), threads
            )
            launch.run(x, y, POOLS[threads])
            assert untouched()
            means = dequantise(x, qx).mean(axis=(2, 3))
            assert_nearest(y, means, qy)


def assert_nearest(y, exact, q, slack=1e-4):
    """y is the byte of `exact`, or one step off where that lies within `slack` steps of a tie."""
    quotient = exact / np.float64(np.float32(q.scale))
    wrong = y != quantise(exact, q, y.dtype)
    assert np.abs(y.astype(int) - quantise(exact, q, y.dtype))[wrong].max(initial=0) <= 1
    assert np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5)[wrong].max(initial=0) < slack


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("optimised", [False, True])
def test_quantised_average_pool_as_onnxruntime_does(dtype, optimised):
    rng = np.random.default_rng(5)
    x = random_bytes(rng, (2, 64, 7, 7), dtype)
    qx, qy = random_quantisation(rng, dtype), random_quantisation(rng, dtype, 0.001, 0.01)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["float"]),
        helper.make_node("GlobalAveragePool", ["float"], ["mean"]),
        helper.make_node("QuantizeLinear", ["mean", "y_scale", "y_zero"], ["y"]),
    ]
    constants = [*constants_of("x", qx, dtype), *constants_of("y", qy, dtype)]
    expected = onnx_run(nodes, {"x": x}, dtype, constants, optimised)[..., 0, 0]
    y = np.empty((2, 64), dtype)
    read, written = ByteTensor(qx, x.dtype), ByteTensor(qy, y.dtype)
    pooling.prepare_quantised_global_average_pool(128, 49, read, written, 1).run(x, y, POOLS[1])
    difference = np.abs(y.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.03


# --- gelu ------------------------------------------------------------------------------------------------------------


def gelu_judge(v, approximate):
    v = v.astype(np.float64)
    if approximate:
        return v * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))
    return v * 0.5 * (1 + np.vectorize(math.erf)(v / np.sqrt(2)))


def assert_gelu(y, v, approximate):
    expected = gelu_judge(v, approximate)
    np.testing.assert_allclose(y, expected, rtol=5e-7, atol=1e-6)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_curve(approximate):
    v = np.concatenate([np.linspace(-12, 12, 200_001), [1e3, -1e3, 1e-30, 0, -1e30, 1e30, np.inf]]).astype(np.float32)
    y = np.empty_like(v)
    elementwise.prepare_gelu(1, v.size, 1, approximate=approximate).run(v, y, POOLS[1])
    assert_gelu(y, v, approximate)
    v[:] = np.nan
    elementwise.prepare_gelu(1, 16, 1, approximate=approximate).run(v, y, POOLS[1])
    assert np.isnan(y[:16]).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 63), (5, 64), (4, 100), (40, 3072)])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("y_dtype", [None, *BYTES])
def test_gelu(rows, columns, threads, biased, y_dtype):
    rng = np.random.default_rng(columns)
    x = rng.normal(0, 2, (rows, columns)).astype(np.float32)
    bias = rng.standard_normal(columns).astype(np.float32) if biased else None
    v = x + bias if biased else x
    y, untouched = guarded(x.shape, y_dtype or np.float32)
    q = None if y_dtype is None else random_quantisation(rng, y_dtype)
    launch = elementwise.prepare_gelu(
        rows, columns, threads, bias, False, None if q is None else ByteTensor(q, y.dtype)
    )
    launch.run(x, y, POOLS[threads])
    assert untouched()
    if q is None:
        assert_gelu(y, v, False)
    else:
        assert_nearest(y, gelu_judge(v, False), q)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_as_onnxruntime_does(approximate):
    x = np.random.default_rng(1).normal(0, 3, (7, 1000)).astype(np.float32)
    expected = onnx_run([helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)], {"x": x}, "f4")
    y = np.empty_like(x)
    elementwise.prepare_gelu(*x.shape, 1, approximate=approximate == "tanh").run(x, y, POOLS[1])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1.5e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 63), (5, 64), (4, 100), (40, 3072)])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("x_dtype", BYTES)
@pytest.mark.parametrize("y_dtype", [None, "u1"])
def test_gelu_of_bytes(rows, columns, threads, biased, x_dtype, y_dtype):
    rng = np.random.default_rng(columns)
    x, given = random_rows(rng, rows, columns, x_dtype, biased)
    q = None if y_dtype is None else random_quantisation(rng, y_dtype)
    wide = dequantised(x, given)
    results = []
    for source, description in [(x, given), (wide, None)]:
        y, untouched = guarded(x.shape, y_dtype or np.float32)
        quantised = None if q is None else ByteTensor(q, y.dtype)
        launch = elementwise.prepare_gelu(rows, columns, threads, None, False, quantised, description)
        launch.run(source, y, POOLS[threads])
        assert untouched()
        results.append(y)
    np.testing.assert_array_equal(*results, err_msg="not what separate steps give")
    if q is None:
        assert_gelu(results[0], wide, False)
    else:
        assert_nearest(results[0], gelu_judge(wide, False), q)


def test_gelu_refuses_two_biases():
    _, given = random_rows(np.random.default_rng(0), 1, 4, "u1", True)
    with pytest.raises(TypeError, match="expected one bias"):
        elementwise.prepare_gelu(1, 4, 1, np.zeros(4, np.float32), x=given)


# --- sigmoid and tanh ------------------------------------------------------------------------------------------------

ACTIVATION_JUDGES = {"sigmoid": lambda v: 0.5 * (1 + np.tanh(0.5 * v)), "tanh": np.tanh}


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
def test_activation_curve(name):
    specials = [0, 1e-30, -1e-30, 0.5, -0.5, 60, -60, 1e3, 1e30, -1e30, np.inf, -np.inf]
    x = np.concatenate([np.linspace(-20, 20, 200_001), np.linspace(-0.6, 0.6, 10_001), specials]).astype(np.float32)
    y = np.empty_like(x)
    elementwise.prepare_activation(name, x.size, 1).run(x, y, POOLS[1])
    wide = x.astype(np.float64)
    # 1 + tanh cancels where sigmoid is small.
    expected = np.exp(-np.logaddexp(0, -wide)) if name == "sigmoid" else np.tanh(wide)
    np.testing.assert_allclose(y, expected, rtol=5e-7, atol=1e-37)
    x[:100] = np.nan
    elementwise.prepare_activation(name, 100, 1).run(x, y, POOLS[1])
    assert np.isnan(y[:100]).all()


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
@pytest.mark.parametrize("count", [*COUNTS, 70_001])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("y_dtype", [None, *BYTES])
def test_activation(name, count, threads, y_dtype):
    rng = np.random.default_rng(count)
    x = rng.normal(0, 3, count).astype(np.float32)
    y, untouched = guarded(x.shape, y_dtype or np.float32)
    q = None if y_dtype is None else random_quantisation(rng, y_dtype, 0.003, 0.01)
    quantised = None if q is None else ByteTensor(q, y.dtype)
    elementwise.prepare_activation(name, count, threads, quantised).run(x, y, POOLS[threads])
    assert untouched()
    expected = ACTIVATION_JUDGES[name](x.astype(np.float64))
    if q is None:
        np.testing.assert_allclose(y, expected, rtol=5e-7, atol=1e-7)
    else:
        assert_nearest(y, expected, q)


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
def test_activation_as_onnxruntime_does(name):
    x = np.random.default_rng(1).normal(0, 4, (7, 1000)).astype(np.float32)
    expected = onnx_run([helper.make_node(name.capitalize(), ["x"], ["y"])], {"x": x}, "f4")
    y = np.empty_like(x)
    elementwise.prepare_activation(name, x.size, 1).run(x, y, POOLS[1])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [*COUNTS, 200_001])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("x_dtype", BYTES)
@pytest.mark.parametrize("dtype", [np.float32, *BYTES])
def test_byte_table(count, threads, x_dtype, dtype):
    rng = np.random.default_rng(count)
    x = random_bytes(rng, count, x_dtype)
    table = rng.integers(-128, 128, 256).astype(np.int8).astype(np.float32) if dtype is np.float32 else None
    table = random_bytes(rng, 256, dtype) if table is None else table
    y, untouched = guarded(x.shape, dtype)
    elementwise.prepare_byte_table(count, table, threads).run(x, y, POOLS[threads])
    assert untouched()
    np.testing.assert_array_equal(y, table[x.view(np.uint8)])


def test_byte_table_refuses_another_size():
    with pytest.raises(TypeError, match="expected 256"):
        elementwise.prepare_byte_table(1, np.zeros(128, np.uint8), 1)


# --- layer normalisation ---------------------------------------------------------------------------------------------


def norm_judge(v, gamma, beta, epsilon):
    v = v.astype(np.float64)
    return (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + epsilon) * gamma + beta


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 15), (2, 64), (5, 100), (128, 768), (40, 769)])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("wanted", ["y", "q", "yq", "yt", "ytq", "tq"])
def test_layer_norm(rows, columns, threads, residual, wanted):
    if "t" in wanted and not residual:
        return
    rng = np.random.default_rng(columns)
    x, other = (rng.normal(3, 2, (rows, columns)).astype(np.float32) for _ in range(2))
    gamma, beta = (rng.standard_normal(columns).astype(np.float32) for _ in range(2))
    area = 4 * x.size + MARGIN
    out, untouched = guarded(3 * area, "u1")
    before = out.copy()
    places = {name: number * area if name in wanted else None for number, name in enumerate("ytq")}
    q = random_quantisation(rng, "i1") if "q" in wanted else None
    launch = elementwise.prepare_layer_norm(
        rows,
        elementwise.Norm(gamma, beta, 1e-5),
        threads,
        residual,
        elementwise.NormOutputs(places["y"], places["t"], places["q"]),
        None if q is None else ByteTensor(q, np.dtype("i1")),
    )
    launch.run(x, out, POOLS[threads], other if residual else None)
    assert untouched()
    v = x + other if residual else x
    expected = norm_judge(v, gamma, beta, 1e-5)
    sizes = {"y": 4 * x.size, "t": 4 * x.size, "q": x.size}
    got = {name: out[at : at + sizes[name]] for name, at in places.items() if at is not None}
    if "y" in got:
        np.testing.assert_allclose(got["y"].view(np.float32).reshape(x.shape), expected, rtol=0, atol=1e-5)
    if "t" in got:
        np.testing.assert_array_equal(got["t"].view(np.float32).reshape(x.shape), v)
    if "q" in got:
        assert_nearest(got["q"].view("i1").reshape(x.shape), expected, q, 1e-2)
    for name, part in got.items():
        before[places[name] :][: sizes[name]] = part
    np.testing.assert_array_equal(out, before, err_msg="something else was written")


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 15), (2, 64), (5, 100), (40, 768)])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("sides", ["u1", "i1", "u1 f4", "f4 i1", "i1 u1", "u1 i1"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("wanted", ["y", "q", "tq"])
def test_layer_norm_of_bytes(rows, columns, threads, sides, biased, wanted):
    rng = np.random.default_rng(columns)
    dtypes = sides.split()
    if wanted == "tq" and len(dtypes) == 1:
        return
    made = [random_rows(rng, rows, columns, "u1" if dtype == "f4" else dtype, biased) for dtype in dtypes]
    wide = [dequantised(*one) for one in made]
    given = [(values, None) if d == "f4" else one for values, one, d in zip(wide, made, dtypes, strict=True)]
    gamma, beta = (rng.standard_normal(columns).astype(np.float32) for _ in range(2))
    q = random_quantisation(rng, "i1") if "q" in wanted else None
    area = 4 * rows * columns + MARGIN
    places = elementwise.NormOutputs(*(area * number if name in wanted else None for number, name in enumerate("ytq")))
    results = []
    for operands in (given, [(values, None) for values in wide]):
        arrays, descriptions = zip(*operands, strict=True)
        residual = len(operands) == 2 and (descriptions[1] or True)
        out, untouched = guarded(3 * area, "u1")
        quantised = None if q is None else ByteTensor(q, np.dtype("i1"))
        launch = elementwise.prepare_layer_norm(
            rows, elementwise.Norm(gamma, beta, 1e-5), threads, residual, places, quantised, descriptions[0]
        )
        launch.run(arrays[0], out, POOLS[threads], *arrays[1:])
        assert untouched()
        results.append(out)
    np.testing.assert_array_equal(*results, err_msg="not what separate steps give")
    if wanted == "y":
        expected = norm_judge(np.sum(wide, 0), gamma, beta, 1e-5)
        y = results[0][: 4 * rows * columns].view(np.float32).reshape(rows, columns)
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5)


def test_layer_norm_with_a_large_mean():
    x = np.random.default_rng(0).normal(1000, 1, (4, 768)).astype(np.float32)
    y = np.empty_like(x)
    one, none = np.ones(768, np.float32), np.zeros(768, np.float32)
    elementwise.prepare_layer_norm(4, elementwise.Norm(one, none, 1e-12), 1).run(x, y, POOLS[1])
    np.testing.assert_allclose(y, norm_judge(x, one, none, 1e-12), rtol=0, atol=2e-4)


def test_layer_norm_as_onnxruntime_does():
    rng = np.random.default_rng(2)
    x, other = (rng.standard_normal((6, 200)).astype(np.float32) for _ in range(2))
    gamma, beta = (rng.standard_normal(200).astype(np.float32) for _ in range(2))
    node = helper.make_node("SkipLayerNormalization", ["x", "r", "g", "b"], ["y"], domain="com.microsoft", epsilon=1e-5)
    expected = onnx_run([node], {"x": x, "r": other, "g": gamma, "b": beta}, "f4")
    y = np.empty_like(x)
    elementwise.prepare_layer_norm(6, elementwise.Norm(gamma, beta, 1e-5), 1, residual=True).run(x, y, POOLS[1], other)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_layer_norm_refuses_what_contradicts_itself():
    norm = elementwise.Norm(np.ones(4, np.float32), np.ones(4, np.float32), 0.0)
    with pytest.raises(TypeError, match=r"if, and only if, outputs\.quantised"):
        elementwise.prepare_layer_norm(1, norm, 1, quantised=ByteTensor(Quantisation(1.0, 0), np.dtype("i1")))
    with pytest.raises(TypeError, match="expected a residual"):
        elementwise.prepare_layer_norm(1, norm, 1, outputs=elementwise.NormOutputs(total=0))


# --- softmax ---------------------------------------------------------------------------------------------------------


def softmax_judge(x):
    # The difference is that of float32: its rounding is not the exponential's fault.
    e = np.exp((x - x.max(1, keepdims=True)).astype(np.float64))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 15), (2, 64), (5, 100), (1536, 128), (7, 1000)])
@pytest.mark.parametrize("threads", POOLS)
@pytest.mark.parametrize("spread", [1, 20, 1e4])
def test_softmax(rows, columns, threads, spread):
    x = np.random.default_rng(columns).normal(0, spread, (rows, columns)).astype(np.float32)
    x[0, columns // 2 :] = -np.inf if columns > 1 else 0
    y, untouched = guarded(x.shape, np.float32)
    elementwise.prepare_softmax(rows, columns, threads).run(x, y, POOLS[threads])
    assert untouched()
    np.testing.assert_allclose(y, softmax_judge(x), rtol=1e-6, atol=2e-38)
    elementwise.prepare_softmax(rows, columns, threads).run(x, x, POOLS[threads])
    np.testing.assert_array_equal(x, y, err_msg="in place")


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_softmax_of_rows_without_a_softmax(odd):
    x = np.zeros((3, 70), np.float32)
    x[1] = odd if odd == -np.inf else x[1]
    x[1, 69] = odd
    y = np.empty_like(x)
    elementwise.prepare_softmax(3, 70, 1).run(x, y, POOLS[1])
    assert np.isnan(y[1]).any()
    np.testing.assert_allclose(y[[0, 2]], 1 / 70, rtol=1e-6)


def test_softmax_as_onnxruntime_does():
    x = np.random.default_rng(1).normal(0, 5, (2, 3, 33, 40)).astype(np.float32)
    expected = onnx_run([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": x}, "f4")
    y = np.empty_like(x)
    elementwise.prepare_softmax(2 * 3 * 33, 40, 1).run(x, y, POOLS[1])
    np.testing.assert_allclose(y, expected, rtol=4e-6, atol=1e-37)


# --- join ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("widths", [(1,), (64, 7), (5, 130, 1), (20000, 33, 1, 40000)])
@pytest.mark.parametrize("looked_up", [(), (0,), (1, 2)])
def test_join(rows, widths, looked_up, threads):
    rng = np.random.default_rng(5)
    arrays = [rng.integers(0, 256, (rows, width), np.uint8) for width in widths]
    tables = [rng.integers(0, 256, 256, np.uint8) if i in looked_up else None for i in range(len(widths))]
    y = np.empty((rows, sum(widths)), np.uint8)
    launch = elementwise.prepare_concat(rows, widths, tables, threads)
    launch.run(arrays[0], y, POOLS[threads], *arrays[1:])
    parts = [x if table is None else table[x] for x, table in zip(arrays, tables, strict=True)]
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))


def test_join_refuses_tables_of_another_size():
    with pytest.raises(TypeError, match="256 bytes"):
        elementwise.prepare_concat(1, [4], [np.zeros(4, np.uint8)], 1)
