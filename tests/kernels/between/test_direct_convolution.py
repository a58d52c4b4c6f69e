"""Dense convolutions whose tiles read a padded image of 4-byte words, instead of packed rows."""

import numpy as np
import pytest
from sparse_rt_kernels.between.direct_convolution import calls, layout
from sparse_rt_kernels.between.direct_convolution.layout import staged_image_of
from sparse_rt_kernels.cpu import caches, isa
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.threads.pool import ThreadPool

from tests.kernels import conformance as conf

needs_avx512 = pytest.mark.skipif("avx512" not in isa.supported_tiers(), reason="needs AVX-512")
needs_vnni = pytest.mark.skipif("avx512vnni" not in isa.supported_tiers(), reason="needs AVX-512 VNNI")

SAME = {"pads": (1, 1, 1, 1), "pad_value": 5}
#: Input shape, output channels, kernel, the rest of the geometry.
CASES = {
    "7x7 strided, 3 channels": ((2, 3, 37, 41), 64, (7, 7), {"strides": (2, 2), "pads": (3, 3, 3, 3), "pad_value": 9}),
    "3x3 strided, 3 channels": ((1, 3, 64, 64), 32, (3, 3), {"strides": (2, 2), **SAME}),
    "3x3, 48 channels out": ((1, 4, 20, 14), 48, (3, 3), SAME),
    "3x3, 16 channels out": ((3, 9, 5, 27), 16, (3, 3), SAME),
    "1 channel, no padding": ((1, 1, 9, 130), 16, (2, 3), {}),
    "dilated": ((1, 5, 33, 40), 32, (3, 3), {"dilations": (2, 3), **SAME}),
    "strided and dilated": ((1, 6, 35, 40), 16, (3, 2), {"dilations": (2, 3), "strides": (3, 2), **SAME}),
    "one row": ((2, 7, 1, 65), 80, (1, 5), {"pads": (0, 2, 0, 2), "pad_value": 3}),
    "rows of padding alone": ((1, 3, 2, 16), 16, (2, 2), {"pads": (6, 0, 4, 1), "pad_value": 3}),
    "1x1": ((2, 70, 6, 19), 48, (1, 1), {}),
    "1x1, rows above and below": ((1, 6, 4, 15), 32, (1, 1), {"pads": (2, 0, 1, 0), "pad_value": 8}),
    "several chunks": ((2, 64, 60, 70), 16, (3, 3), SAME),
}


def operands(kernel, case, dtype):
    shape, n, window, options = CASES[case]
    options = dict(options)
    if dtype == np.int8 and "pad_value" in options:
        options["pad_value"] = -options["pad_value"]
    if dtype == np.float32:
        options.pop("pad_value", None)
    rng = np.random.default_rng(len(case))
    w = conf.weight_for(kernel, rng, (n, shape[1], *window))
    x = conf.activations(rng, dtype, shape)
    return rng, x, w, conf.geometry_of(x, w, **options)


def check_bytes(case, dtype, out_dtype, pool=conf.ONE):
    kernel = registry.select("u8s8", "dense", "avx512vnni")
    rng, x, w, geometry = operands(kernel, case, dtype)
    assert staged_image_of(geometry, 4) is not None
    epilogue = conf.integer_epilogue(rng, len(w), zero_point=-3 if out_dtype == np.int8 else 7)
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), epilogue, out_dtype, pool)
    acc = conf.channels_last(conf.naive_conv(x, w, geometry))
    np.testing.assert_array_equal(got, conf.channels_first(conf.expected_integers(acc, epilogue, out_dtype)))


def check_floats(case, pool=conf.ONE):
    kernel = registry.select("f32", "dense", "avx512")
    _, x, w, geometry = operands(kernel, case, np.float32)
    assert staged_image_of(geometry, 1) is not None
    epilogue, dtype = conf.sums_only(kernel, len(w))
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), epilogue, dtype, pool)
    conf.assert_conv_sums(kernel, got, x, w, geometry)


@needs_vnni
@pytest.mark.parametrize(("dtype", "out_dtype"), [(np.uint8, np.uint8), (np.int8, np.uint8), (np.int8, np.int8)])
@pytest.mark.parametrize("case", CASES)
def test_bytes_are_exact(case, dtype, out_dtype):
    check_bytes(case, dtype, out_dtype)


@needs_avx512
@pytest.mark.parametrize("case", CASES)
def test_floats_are_within_the_bound(case):
    check_floats(case)


@pytest.fixture
def small_chunks(monkeypatch):
    """A second-level cache that holds few rows of any image, and tasks that are worthwhile however small."""
    monkeypatch.setattr(caches, "level2_bytes", lambda: 16 * 1024)
    monkeypatch.setattr(calls, "_TASK_WORDS", 1)
    layout.staged_image_of.cache_clear()
    yield
    layout.staged_image_of.cache_clear()


@needs_vnni
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("case", CASES)
def test_parts_and_chunks_meet(case, threads, small_chunks):
    pool = ThreadPool(threads)
    check_bytes(case, np.uint8, np.int8, pool)
    check_floats(case, pool)


@needs_vnni
@pytest.mark.parametrize("scale", [0.0, -0.5, 3.0])
@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, 6.0)])
def test_any_requantisation(scale, low, high):
    kernel = registry.select("u8s8", "dense", "avx512vnni")
    rng, x, w, geometry = operands(kernel, "3x3 strided, 3 channels", np.uint8)
    epilogue = conf.integer_epilogue(rng, len(w), low, high, 11)
    epilogue.scale[::2] = scale
    epilogue.bias[:16] = 0
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), epilogue, np.uint8)
    acc = conf.channels_last(conf.naive_conv(x, w, geometry))
    np.testing.assert_array_equal(got, conf.channels_first(conf.expected_integers(acc, epilogue, np.uint8)))


@needs_avx512
def test_nan_stays_and_bounds_hold():
    kernel = registry.select("f32", "dense", "avx512")
    rng, x, w, geometry = operands(kernel, "3x3, 48 channels out", np.float32)
    x[0, 0, 10, 7] = np.nan
    epilogue = conf.FloatEpilogue(rng.standard_normal(len(w), np.float32), 0.0, 6.0)
    got = conf.conv(kernel, x, geometry, conf.pack(kernel, w), epilogue, np.float32)
    with np.errstate(invalid="ignore"):
        sums = conf.naive_conv(x, w, geometry) + epilogue.bias[:, None, None]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(sums))
    np.testing.assert_allclose(got, np.clip(sums, 0, 6), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [
        ((1, 3, 20, 13), (3, 3), SAME),
        ((1, 3, 40, 60), (3, 3), {"strides": (1, 3)}),
        ((1, 3, 40, 60), (3, 3), {"pads": (0, -1, 0, 0)}),
        ((1, 3, 40, 60), (3, 3), {"input_stride": (2, 2)}),
        ((1, 3, 40, 60), (1, 1), {"strides": (2, 2)}),
        ((1, 3, 40, 60), (1, 3), {"strides": (2, 1)}),
    ],
)
def test_other_geometries_go_another_way(shape, window, options):
    x, w = np.zeros(shape, np.uint8), np.zeros((16, shape[1], *window), np.int8)
    assert staged_image_of(conf.geometry_of(x, w, **options), 4) is None
