"""Kernels between layers on inputs made to break them: cancellation, huge and tiny numbers, NaN, long rows."""

import math

import numpy as np
import pytest
from numba.core import config
from onnx import helper
from sparse_rt_kernels.between import elementwise, pooling
from sparse_rt_kernels.between.elementwise import Quantisation, QuantisedRows
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.vectors.quantisation import ByteTensor

from tests.kernels.between.test_elementwise import dequantised, onnx_run

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="machine code only")

POOL = ThreadPool(1)
UNIT = 2.0**-24
WIDTHS = (1, 2, 7, 64, 100, 768, 4097)
MEANS = (0.0, 1.0, -1e4, 1e8, 1e30, -3e38, 1e-30, 1e-42)


def norm_judge(x, epsilon):
    x = x.astype(np.float64)
    distances = x - x.mean(axis=-1, keepdims=True)
    variance = (distances**2).mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return distances / np.sqrt(variance + np.float64(np.float32(epsilon)))


def norm_bound(x, epsilon):
    """What the docstring of prepare_layer_norm promises, for gamma 1."""
    x = x.astype(np.float64)
    root = np.sqrt(((x - x.mean(axis=-1, keepdims=True)) ** 2).mean(axis=-1, keepdims=True) + epsilon)
    distances = np.abs(x - x[:, :1])
    mean, largest = distances.mean(axis=-1, keepdims=True), distances.max(axis=-1, keepdims=True)
    z = np.abs(norm_judge(x, epsilon))
    return 2.0**-23 * ((z + mean / root) * (x.shape[-1] / 4096 + 80) + 4 * largest / root + 4)


def norm(x, epsilon, beta=0.0, residual=None, source=None):
    y = np.empty(x.shape, np.float32)
    ones = np.ones(x.shape[1], np.float32)
    options = (residual is not None,) if source is None else (residual is not None, elementwise.NormOutputs())
    more = {} if source is None else {"x": source}
    launch = elementwise.prepare_layer_norm(
        len(x), elementwise.Norm(ones, ones * np.float32(beta), epsilon), 1, *options, **more
    )
    launch.run(x, y, POOL, *(() if residual is None else (residual,)))
    return y


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
def test_a_constant_row_is_normalised_to_zero(columns, epsilon):
    x = np.repeat(np.array(MEANS, np.float32)[:, None], columns, axis=1)
    np.testing.assert_array_equal(norm(x, epsilon, beta=3.0), 3.0)
    np.testing.assert_array_equal(norm(x / 2, epsilon, residual=x / 2), 0.0)


@pytest.mark.parametrize("columns", WIDTHS[1:])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12])
@pytest.mark.parametrize("spread", [1e-7, 1e-6, 1e-3, 0.25])
def test_normalising_nearly_constant_rows(columns, epsilon, spread):
    rng = np.random.default_rng(columns)
    noise = np.clip(rng.standard_normal((len(MEANS), columns)), -0.4, 0.4)
    x = (np.array(MEANS)[:, None] * (1 + spread * noise)).astype(np.float32)
    assert (np.abs(norm(x, epsilon) - norm_judge(x, epsilon)) <= norm_bound(x, epsilon)).all()
    half = (x / 2).astype(np.float32)
    assert (np.abs(norm(half, epsilon, residual=half) - norm_judge(x, epsilon)) <= norm_bound(x, epsilon)).all()


@pytest.mark.parametrize("columns", [2, 100, 4097, 100_003])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_normalising_rows_with_one_huge_element(columns, place):
    x = np.random.default_rng(columns).standard_normal((2, columns)).astype(np.float32)
    x[:, place] = 1e8
    assert (np.abs(norm(x, 1e-5) - norm_judge(x, 1e-5)) <= norm_bound(x, 1e-5)).all()


def test_normalising_without_epsilon():
    x = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32) * np.float32([[1e-30], [1.0], [1e30]])
    assert (np.abs(norm(x, 0.0) - norm_judge(x, 0.0)) <= norm_bound(x, 0.0)).all()
    assert np.isnan(norm(np.ones((1, 50), np.float32), 0.0)).all()


@pytest.mark.parametrize("columns", [1, 5, 64, 100])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_normalising_what_is_no_number_as_onnxruntime_does(columns, odd, place):
    x = np.random.default_rng(1).standard_normal((2, columns)).astype(np.float32)
    x[0, place] = odd
    node = helper.make_node("LayerNormalization", ["x", "g"], ["y"], epsilon=1e-5)
    expected = onnx_run([node], {"x": x}, "f4", [("g", np.ones(columns, np.float32))])
    assert np.isnan(expected[0]).all()
    np.testing.assert_allclose(norm(x, 1e-5), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1"])
@pytest.mark.parametrize("columns", [1, 63, 768])
def test_normalising_constant_bytes(dtype, columns):
    rng = np.random.default_rng(columns)
    x = np.full((3, columns), 77, dtype)
    given = QuantisedRows(Quantisation(0.37, 3), np.dtype(dtype))
    np.testing.assert_array_equal(norm(x, 1e-12, source=given), 0.0)
    x[rng.random(x.shape) < 0.1] = 78
    wide = dequantised(x, given)
    assert (np.abs(norm(x, 1e-12, source=given) - norm_judge(wide, 1e-12)) <= norm_bound(wide, 1e-12)).all()


# --- softmax ---------------------------------------------------------------------------------------------------------


def softmax(x):
    y = np.empty_like(x)
    elementwise.prepare_softmax(*x.shape, 1).run(x, y, POOL)
    return y


def softmax_rows(rng, columns):
    rows = {"equal": np.zeros(columns), "huge": np.full(columns, 3e38), "low": np.full(columns, -3e38)}
    rows["denormal"] = np.full(columns, 1e-42)
    rows["spread"] = rng.standard_normal(columns) * 50
    rows["far"] = rng.standard_normal(columns) * 1e4
    rows["slope"] = np.linspace(0, -110, columns)
    rows["large mean"] = 1e7 + rng.standard_normal(columns)
    rows["masked"] = rng.standard_normal(columns)
    rows["masked"][1::2] = -np.inf
    rows["masked by the lowest"] = rng.standard_normal(columns)
    rows["masked by the lowest"][1::2] = np.finfo(np.float32).min
    return np.array(list(rows.values()), np.float32)


@pytest.mark.parametrize("columns", [1, 2, 5, 64, 100, 1000, 50_003])
def test_softmax_of_hard_rows(columns):
    x = softmax_rows(np.random.default_rng(columns), columns)
    distance = x.astype(np.float64).max(axis=1, keepdims=True) - x
    exact = np.exp(-distance)
    exact /= exact.sum(axis=1, keepdims=True)
    y = softmax(x)
    kept = distance < 87.29
    with np.errstate(invalid="ignore"):
        bound = np.where(kept, UNIT * (distance + columns / 4096 + 70) * exact + 1e-44, 0.0)
    assert (np.abs(y - exact)[kept] <= bound[kept]).all()
    np.testing.assert_array_equal(y[distance > 87.31], 0.0)


@pytest.mark.parametrize("columns", [1, 5, 64, 100])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_softmax_of_what_is_no_number_as_onnxruntime_does(columns, odd):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, columns)).astype(np.float32)
    x[0, 0], x[1, -1], x[2] = odd, odd, odd
    expected = onnx_run([helper.make_node("Softmax", ["x"], ["y"])], {"x": x}, "f4")
    np.testing.assert_allclose(softmax(x), expected, rtol=1e-5, atol=1e-37)


# --- functions of one element ----------------------------------------------------------------------------------------

HARD = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e-30, 0.5, 5.0, 5.25, 6.0, 9.0, 17.0, 50.0, 80.0, 100.0, 1e10, 3e38]
HARD = np.array([*HARD, *(-value for value in HARD), np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
def test_activations_of_hard_numbers(name):
    y = np.empty_like(HARD)
    elementwise.prepare_activation(name, HARD.size, 1).run(HARD, y, POOL)
    x = HARD.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(y, exact, rtol=5e-7, atol=2e-38)
    assert np.signbit(y[1]) == (name == "tanh")


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_of_hard_numbers(approximate):
    y = np.empty_like(HARD)
    elementwise.prepare_gelu(1, HARD.size, 1, approximate=approximate).run(HARD, y, POOL)
    finite = HARD[np.isfinite(HARD)].astype(np.float64)
    if approximate:
        exact = finite / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (finite + 0.044715 * finite**3)))
    else:
        exact = finite / 2 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in finite]))
    np.testing.assert_allclose(y[np.isfinite(HARD)], exact, rtol=5e-7, atol=1e-6)
    form = "tanh" if approximate else "none"
    expected = onnx_run([helper.make_node("Gelu", ["x"], ["y"], approximate=form)], {"x": HARD}, "f4")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert y[-3] == np.inf


# --- means -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [1, 49, (1 << 14) + 1, 1 << 20])
@pytest.mark.parametrize("kind", ["normal", "constant", "cancelling"])
def test_means_of_floats(pixels, kind):
    x = np.random.default_rng(pixels).standard_normal((3, pixels)).astype(np.float32)
    if kind == "constant":
        x[:] = 0.1
    if kind == "cancelling":
        x += 1e4
        x[:, 1::2] *= -1
    y = np.empty(3, np.float32)
    pooling.prepare_global_average_pool(3, pixels, 1).run(x, y, POOL)
    wide = x.astype(np.float64)
    bound = UNIT * np.abs(wide).mean(axis=1) * (min(pixels, 1 << 14) / 16 + 6)
    assert (np.abs(y - wide.mean(axis=1)) <= bound + np.abs(y) * UNIT).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pixels", [1, 49, (1 << 14) + 1])
def test_means_of_what_is_no_number(odd, pixels):
    x = np.ones((2, pixels), np.float32)
    x[0, -1] = odd
    y = np.empty(2, np.float32)
    pooling.prepare_global_average_pool(2, pixels, 1).run(x, y, POOL)
    np.testing.assert_array_equal(y, np.float32([odd, 1.0]))


@pytest.mark.parametrize("dtype", ["u1", "i1"])
@pytest.mark.parametrize("pixels", [(1 << 23) - 1, 1 << 23, (1 << 23) + 65])
def test_means_of_more_bytes_than_int32_holds(dtype, pixels):
    info = np.iinfo(dtype)
    x = np.full((2, pixels), info.max, dtype)
    x[1, ::3] = info.min
    qx, qy = Quantisation(0.5, info.min), Quantisation(0.75, 7)
    y = np.empty(2, dtype)
    read, written = ByteTensor(qx, x.dtype), ByteTensor(qy, x.dtype)
    launch = pooling.prepare_quantised_global_average_pool(2, pixels, read, written, 2)
    launch.run(x, y, ThreadPool(2))
    means = (x.astype(np.int64).mean(axis=1) - qx.zero_point) * 0.5
    expected = np.clip(np.rint(means / 0.75) + 7, info.min, info.max)
    np.testing.assert_array_equal(y, expected)


# --- quantised add ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [2.0**-20, 1.0, 37.0, 2.0**10])
@pytest.mark.parametrize("dtype", ["u1", "i1"])
def test_sums_that_cancel(ratio, dtype):
    """All pairs of bytes: where two large terms undo each other nothing may be left but the zero point."""
    info = np.iinfo(dtype)
    values = np.arange(info.min, info.max + 1)
    a, b = (part.astype(dtype).ravel() for part in np.meshgrid(values, values))
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    scale, zero = float(np.float32(0.01)), int(info.min) + 128
    p = QuantisedAdd(Quantisation(ratio * scale, zero), Quantisation(ratio * scale, zero - 3), Quantisation(scale, 5))
    y = np.empty_like(a)
    elementwise.prepare_quantised_add(a.size, a.dtype, b.dtype, y.dtype, p, 1).run(a, y, POOL, b)
    quotient = ((a.astype(int) - zero) + (b.astype(int) - zero + 3)) * np.float64(ratio)
    expected = np.clip(np.rint(quotient) + 5, info.min, info.max)
    tie = np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5) < 0.05
    np.testing.assert_array_equal(y[~tie], expected[~tie])
