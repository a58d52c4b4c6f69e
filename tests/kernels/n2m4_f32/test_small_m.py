"""The channel-lane shape of the float32 2:4 family, and the choice between it and lanes of rows."""

import numpy as np
import pytest
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.n2m4_f32 import SIMD, SIMD_CHANNEL_LANES, SIMD_ROW_LANES
from sparse_rt_kernels.n2m4_f32.blocking import panels as blocking
from sparse_rt_kernels.n2m4_f32.kernel import simd
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.weight import Indexed
from sparse_rt_kernels.threads.pool import ThreadPool

from tests import naive
from tests.kernels import conformance as conf

simd_only = pytest.mark.skipif("avx512" not in isa.supported_tiers(), reason="needs the avx512 kernels")


def bare(n):
    return FloatEpilogue(np.zeros(n, np.float32))


@simd_only
@pytest.mark.parametrize("nbytes", [1, 1 << 20])
@pytest.mark.parametrize("m", [*range(1, 53), 75, 96, 97, 101, 121])
def test_every_height_of_the_register_tile(m, nbytes, monkeypatch):
    """n and k leave a part of a tile, of a strip, of an octet and of a turn; several blocks of k or one."""
    monkeypatch.setattr(simd, "panel_bytes", lambda: nbytes)
    rng = np.random.default_rng(m)
    w = naive.random_weight(rng, (37, 60), np.float32)
    x = rng.standard_normal((m, 60), np.float32)
    for kernel in (SIMD_CHANNEL_LANES, SIMD):
        conf.assert_sums(kernel, conf.matmul(kernel, x, conf.pack(kernel, w), bare(37), np.float32), x, w)


@simd_only
@pytest.mark.parametrize("size", [1, 3, 5, 6, 7, 8, 10])
@pytest.mark.parametrize("nbytes", [1, 6000, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_convolution_of_small_images(size, nbytes, threads, monkeypatch):
    monkeypatch.setattr(simd, "panel_bytes", lambda: nbytes)
    rng = np.random.default_rng(size)
    w = naive.random_weight(rng, (21, 12, 3, 3), np.float32)
    x = rng.standard_normal((2, 12, size, size), np.float32)
    geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1))
    for kernel in (SIMD_CHANNEL_LANES, SIMD):
        got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), bare(21), np.float32, ThreadPool(threads))
        conf.assert_conv_sums(kernel, got, x, w, geometry)


@simd_only
@pytest.mark.parametrize(
    ("height", "width"), [(7, 7), (2, 25), (3, 17), (4, 13), (5, 13), (2, 33), (7, 14), (14, 14), (10, 21)]
)
@pytest.mark.parametrize("nbytes", [1, 6000, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_pixels_beside_the_last_panel(height, width, nbytes, threads, monkeypatch):
    """1 to 4 pixels that fill no vector, and 5, which do not go there; panels of 3 and 4 vectors; odd n and k."""
    monkeypatch.setattr(simd, "panel_bytes", lambda: nbytes)
    rng = np.random.default_rng(height)
    w = naive.random_weight(rng, (21, 12, 3, 3), np.float32)
    x = rng.standard_normal((2, 12, height, width), np.float32)
    geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1))
    got = conf.conv(SIMD, x, geometry, conf.pack(SIMD, w), bare(21), np.float32, ThreadPool(threads))
    conf.assert_conv_sums(SIMD, got, x, w, geometry)


@simd_only
@pytest.mark.parametrize("nbytes", [1, 1 << 20])
@pytest.mark.parametrize("bad", [(0, 0), (3, 4), (6, 5), (6, 6)])
def test_inf_beside_a_panel_or_in_it(bad, nbytes, monkeypatch):
    """Of 49 pixels, 48 are lanes; inf in one must not reach the others, nor outputs by a stored zero."""
    monkeypatch.setattr(simd, "panel_bytes", lambda: nbytes)
    rng = np.random.default_rng(6)
    w = naive.random_weight(rng, (20, 16, 1, 1), np.float32)
    w[:, :4] = 0
    w[1::2, 3] = 1
    x = rng.standard_normal((1, 16, 7, 7), np.float32)
    clean = x.copy()
    row, column = bad
    x[0, 3, row, column] = np.inf
    residual = rng.standard_normal((1, 20, 7, 7)).astype(np.float32)
    geometry = conf.geometry_of(x, w)
    given = {"residual": residual, "in_place": True}
    got = conf.conv(SIMD, x, geometry, conf.pack(SIMD, w), bare(20), np.float32, **given)
    assert np.isinf(got[0, 1::2, row, column]).all()
    expected = conf.naive_conv(clean, w, geometry) + residual
    got[0, 1::2, row, column] = expected[0, 1::2, row, column]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@simd_only
@pytest.mark.parametrize("bad_row", [0, 47, 48, 49])
def test_inf_in_either_shape_of_one_call(bad_row):
    """Of 50 rows, 48 are lanes and two meet lanes of channels; each may hold what the other must not see."""
    rng = np.random.default_rng(5)
    w = naive.random_weight(rng, (20, 16), np.float32)
    w[:, :4] = 0
    w[1::2, 3] = 1
    x = rng.standard_normal((50, 16), np.float32)
    clean = x.copy()
    x[bad_row, 3] = np.inf
    assert blocking.rows_as_lanes(50) == 48
    got = conf.matmul(SIMD, x, conf.pack(SIMD, w), bare(20), np.float32)
    assert np.isinf(got[bad_row, 1::2]).all()
    got[bad_row, 1::2] = clean[bad_row] @ w[1::2].T
    conf.assert_sums(SIMD, got, clean, w)


def test_shapes_share_one_packed_form():
    values, index = naive.encode_matrix(naive.random_weight(np.random.default_rng(0), (32, 64), np.float32))
    packed = [kernel.pack_weight(Indexed(values, index)) for kernel in (SIMD, SIMD_ROW_LANES, SIMD_CHANNEL_LANES)]
    for other in packed[1:]:
        np.testing.assert_array_equal(other.panels.values, packed[0].panels.values)
        np.testing.assert_array_equal(other.panels.indexes, packed[0].panels.indexes)
    assert packed[0].nbytes <= 0.54 * 32 * 64 * 4
