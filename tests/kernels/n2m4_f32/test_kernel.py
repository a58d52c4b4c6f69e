"""What the float32 2:4 family promises beyond the conformance suite."""

import itertools

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels import n2m4_f32
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.n2m4_f32.kernel import portable, simd
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.weight import Indexed
from sparse_rt_kernels.threads.pool import ThreadPool

from tests import naive
from tests.kernels import conformance as conf

every_kernel = pytest.mark.parametrize("kernel", conf.SPARSE_FLOAT, ids=conf.by_name)
interpreted = bool(config.DISABLE_JIT)
simd_only = pytest.mark.skipif("avx512" not in isa.supported_tiers(), reason="needs the avx512 kernel")


def bare(n):
    return FloatEpilogue(np.zeros(n, np.float32))


def skipping(x, w):
    """x @ w.T in float64 with stored zeros skipped: what inf and NaN become, by the definition."""
    out = np.zeros((len(x), len(w)))
    with np.errstate(invalid="ignore"):
        for i, o in itertools.product(range(len(x)), range(len(w))):
            used = np.flatnonzero(w[o])
            out[i, o] = (x[i, used].astype(np.float64) * w[o, used]).sum()
    return out


def small_blocks(monkeypatch, nbytes):
    """Make panel blocks so short that small problems have several."""
    for module in (portable, simd):
        monkeypatch.setattr(module, "panel_bytes", lambda: nbytes)


# --- a stored zero is skipped ----------------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_no_nonzero_weight_names_never_matters(kernel, bad):
    """All eleven rows of the index table, so also zeros in the stored half and groups of four zeros."""
    w = np.zeros((11, 8), np.float32)
    for row, pattern in enumerate(naive.INDEX_TABLE):
        w[row, :4] = np.array(pattern) * (row + 1)
    packed = conf.pack(kernel, w)
    for column in range(8):
        x = np.arange(1, 25, dtype=np.float32).reshape(3, 8)
        x[1, column] = bad
        got = conf.matmul(kernel, x, packed, bare(11), np.float32)
        np.testing.assert_array_equal(got, skipping(x, w).astype(np.float32))
        assert np.isfinite(got[1, w[:, column] == 0]).all()
        assert not np.isfinite(got[1, w[:, column] != 0]).any()


@every_kernel
@pytest.mark.parametrize("nbytes", [1, 1 << 20])
def test_inf_and_nan_in_a_matmul(kernel, nbytes, monkeypatch):
    small_blocks(monkeypatch, nbytes)
    rng = np.random.default_rng(0)
    m, n, k = (5, 6, 20) if interpreted else (130, 37, 51)
    w = naive.random_weight(rng, (n, k), np.float32)
    x = rng.standard_normal((m, k), np.float32)
    spoiled = rng.random(x.shape) < 0.02
    x[spoiled] = rng.choice([np.inf, -np.inf, np.nan], spoiled.sum())
    expected = skipping(x, w)
    got = conf.matmul(kernel, x, conf.pack(kernel, w), bare(n), np.float32)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    np.testing.assert_allclose(got[finite], expected[finite], rtol=1e-4, atol=1e-5)


@every_kernel
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_inf_and_nan_in_a_convolution(kernel, stride):
    rng = np.random.default_rng(1)
    w = naive.random_weight(rng, (5, 4, 3, 3), np.float32)
    x = rng.standard_normal((1, 4, 9, 9), np.float32)
    clean = x.copy()
    x[0, 1, 4, 4], x[0, 2, 8, 8], x[0, 3, 0, 0] = np.inf, np.nan, -np.inf
    geometry = conf.geometry_of(x, w, strides=(stride, stride), pads=(1, 1, 1, 1))
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), bare(5), np.float32)
    without = naive.conv2d(clean, w, (stride, stride), (1, 1, 1, 1))
    touched = naive.conv2d((x != clean).astype(np.float32), (w != 0).astype(np.float32), (stride,) * 2, (1,) * 4) > 0
    assert touched.any()
    assert not np.isfinite(got[touched]).any()
    np.testing.assert_allclose(got[~touched], without[~touched], rtol=1e-4, atol=1e-5)


@every_kernel
def test_all_zero_weight_gives_the_bias_whatever_x_holds(kernel):
    x = np.full((3, 8), np.nan, np.float32)
    bias = np.array([1.5, -2.0], np.float32)
    packed = conf.pack(kernel, np.zeros((2, 8), np.float32))
    np.testing.assert_array_equal(conf.matmul(kernel, x, packed, FloatEpilogue(bias), np.float32), [bias] * 3)


@every_kernel
def test_overflow_and_nan_pass_the_epilogue(kernel):
    x = np.array([[3e38, 3e38, 0, 0], [np.nan, 0, 0, 0], [-np.inf, 1, 0, 0]], np.float32)
    packed = conf.pack(kernel, np.array([[2, 2, 0, 0]], np.float32))
    got = conf.matmul(kernel, x, packed, FloatEpilogue(np.ones(1, np.float32), -4.0, 6.0), np.float32)
    np.testing.assert_array_equal(got, [[6.0], [np.nan], [-4.0]])


# --- shapes ----------------------------------------------------------------------------------------------------------


@every_kernel
@pytest.mark.parametrize("m", [*range(1, 18), 31, 33, 48, 49, 79, 80, 95, 96, 97, 130, 193, 209])
def test_every_width_of_the_register_tile(kernel, m):
    if interpreted and m > 33:
        pytest.skip("Python itself runs the loops")
    rng = np.random.default_rng(m)
    w = naive.random_weight(rng, (21, 28), np.float32)
    x = rng.standard_normal((m, 28), np.float32)
    conf.assert_sums(kernel, conf.matmul(kernel, x, conf.pack(kernel, w), bare(21), np.float32), x, w)


@every_kernel
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("nbytes", [1, 5000])
def test_many_blocks_of_k(kernel, nbytes, threads, monkeypatch):
    small_blocks(monkeypatch, nbytes)
    rng = np.random.default_rng(2)
    w = naive.random_weight(rng, (9, 76), np.float32)
    x = rng.standard_normal((20, 74), np.float32)  # two columns fewer than the weight counts
    w[:, 74:] = 0
    got = conf.matmul(kernel, x, conf.pack(kernel, w), bare(9), np.float32, ThreadPool(threads))
    conf.assert_sums(kernel, got, x, w[:, :74])
    w = naive.random_weight(rng, (6, 5, 3, 3), np.float32)
    x = rng.standard_normal((2, 5, 6, 7), np.float32)
    geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1))
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), bare(6), np.float32, ThreadPool(threads))
    conf.assert_conv_sums(kernel, got, x, w, geometry)


@every_kernel
@pytest.mark.parametrize("width", [1, 2, 5, 7, 15, 16, 17, 33])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_lanes_that_span_output_rows(kernel, width, stride):
    """Narrow images put many output rows into one vector: pieces, then instructions that gather."""
    rng = np.random.default_rng(width)
    height = 3 if interpreted else 9
    w = naive.random_weight(rng, (4, 4, 2, 3), np.float32)
    x = rng.standard_normal((2, 4, height, width), np.float32)
    geometry = conf.geometry_of(x, w, strides=(1, stride), pads=(1, 1, 0, 1))
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), bare(4), np.float32)
    conf.assert_conv_sums(kernel, got, x, w, geometry)


@every_kernel
def test_reads_nothing_beyond_x(kernel):
    """x ends where memory that must not be used begins: NaN there would show in the result."""
    rng = np.random.default_rng(3)
    w = naive.random_weight(rng, (5, 11), np.float32)
    buffer = np.full(16 + 7 * 11 + 16, np.nan, np.float32)
    buffer[16:-16] = rng.standard_normal(77)
    x = buffer[16:-16].reshape(7, 11)
    conf.assert_sums(kernel, conf.matmul(kernel, x, conf.pack(kernel, w), bare(5), np.float32), x, w)
    w = naive.random_weight(rng, (5, 1, 3, 3), np.float32)
    image = x.reshape(1, 1, 7, 11)
    geometry = conf.geometry_of(image, w, strides=(2, 2), pads=(1, 1, 1, 1))
    got = conf.conv(kernel, image, geometry, conf.pack(kernel, w), bare(5), np.float32)
    conf.assert_conv_sums(kernel, got, image, w, geometry)


@every_kernel
def test_read_only_and_strided_rows(kernel):
    rng = np.random.default_rng(4)
    w = naive.random_weight(rng, (5, 12), np.float32)
    x = rng.standard_normal((19, 20), np.float32)
    x.flags.writeable = False
    part = x[:, 4:16]
    conf.assert_sums(kernel, conf.matmul(kernel, part, conf.pack(kernel, w), bare(5), np.float32), part, w)


@every_kernel
def test_an_integer_epilogue_is_refused(kernel):
    packed = conf.pack(kernel, np.zeros((1, 4), np.float32))
    zeros = np.zeros(1, np.float32)
    wrong = IntegerEpilogue(np.zeros(1, np.int32), zeros, zeros)
    with pytest.raises(TypeError, match="expected a FloatEpilogue, got IntegerEpilogue"):
        kernel.matmul(np.zeros((1, 4), np.float32), packed, wrong, np.zeros((1, 1), np.float32), conf.ONE)


# --- layout and blocking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [n2m4_f32.SIMD, n2m4_f32.PORTABLE], ids=conf.by_name)
def test_packed_weight_interleaves_four_channels(kernel):
    rng = np.random.default_rng(5)
    values, index = naive.encode_matrix(naive.random_weight(rng, (7, 20), np.float32))
    packed = kernel.pack_weight(Indexed(values, index))
    assert packed.panels.values.shape == (2, 3, 4, 4)
    assert packed.panels.indexes.shape == (2, 3, 4)
    for channel, octet, slot in itertools.product(range(8), range(3), range(4)):
        there = channel < 7 and 4 * octet + slot < 10
        expected = values[channel, 4 * octet + slot] if there else 0
        assert packed.panels.values[channel // 4, octet, slot, channel % 4] == expected
        assert packed.panels.indexes[channel // 4, octet, channel % 4] == (index[channel, octet] if channel < 7 else 0)
