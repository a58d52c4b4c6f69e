"""Convolutions of the int8 2:4 family whose tiles read an NCHWc8 image, instead of packed rows."""

import re

import numpy as np
import pytest
from numba import njit
from sparse_rt_kernels.cpu import caches, isa
from sparse_rt_kernels.n2m4_u8s8 import VNNI
from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import image_blocking
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import Image, Tiles, nchwc8_tiles
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8_store import BLOCKS, PLANES
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.operands import Operands
from sparse_rt_kernels.product.u8s8.sizes import STEP
from sparse_rt_kernels.threads.pool import ThreadPool

from tests.kernels import conformance as conf

pytestmark = pytest.mark.skipif("avx512vnni" not in isa.supported_tiers(), reason="needs AVX-512 VNNI")

SAME = {"pads": (1, 1, 1, 1), "pad_value": 5}
#: Input shape, output channels, kernel, the rest of the geometry.
CASES = {
    "1x1, 28 + 21 pixels": ((1, 16, 7, 7), 16, (1, 1), {}),
    "1x1, the last tile overlaps": ((2, 16, 5, 13), 48, (1, 1), {}),
    "1x1, 21 pixels": ((3, 8, 3, 7), 16, (1, 1), {}),
    "1x1, 25 pixels": ((2, 8, 5, 5), 16, (1, 1), {}),
    "1x1 of many pixels": ((2, 512, 56, 56), 16, (1, 1), {}),
    "1x1 strided": ((1, 8, 28, 28), 16, (1, 1), {"strides": (2, 2)}),
    "1x1 strided, few rows": ((2, 24, 13, 14), 16, (1, 1), {"strides": (2, 2)}),
    "1x1 padded and strided": ((1, 8, 12, 13), 16, (1, 1), {"strides": (2, 2), **SAME, "pads": (1, 0, 2, 1)}),
    "3x3 of 7 columns": ((3, 16, 7, 7), 32, (3, 3), SAME),
    "3x3 of 14 columns": ((5, 256, 14, 14), 16, (3, 3), SAME),
    "3x3 of 21 columns": ((1, 8, 11, 21), 16, (3, 3), SAME),
    "3x3 of 4 columns": ((3, 16, 4, 4), 16, (3, 3), SAME),
    "3x3 of 8 columns": ((5, 256, 8, 8), 32, (3, 3), SAME),
    "3x3 of 16 columns": ((1, 8, 5, 16), 16, (3, 3), SAME),
    "3x3 of 20 columns": ((2, 8, 9, 20), 16, (3, 3), SAME),
    "3x3 of 52 columns": ((1, 128, 52, 52), 16, (3, 3), SAME),
    "24 pixels": ((2, 8, 6, 4), 16, (3, 3), SAME),
    "3x3 of 32 columns, strided": ((1, 16, 32, 32), 16, (3, 3), {"strides": (2, 2), **SAME}),
    "3x3 of 56 columns": ((2, 64, 56, 56), 16, (3, 3), SAME),
    "3x3 strided": ((2, 8, 28, 28), 16, (3, 3), {"strides": (2, 2), **SAME}),
    "3x3 without padding": ((1, 24, 30, 30), 16, (3, 3), {}),
    "3x3 dilated": ((1, 24, 32, 32), 16, (3, 3), {"dilations": (2, 2)}),
    "3x3 strided and dilated": ((1, 8, 31, 31), 16, (3, 3), {"dilations": (2, 3), "strides": (2, 2), **SAME}),
    "5x7": ((1, 8, 33, 35), 16, (5, 7), {"pads": (2, 3, 2, 3), "pad_value": 9}),
    "5x7 strided": ((1, 8, 33, 28), 16, (5, 7), {"pads": (2, 3, 2, 3), "strides": (3, 2), "pad_value": 100}),
    "one row, beyond its image": ((2, 8, 9, 28), 32, (1, 3), {"pads": (5, 1, 5, 1), "strides": (3, 1)}),
    "rows of padding alone": ((1, 8, 2, 7), 16, (1, 1), {"pads": (6, 0, 4, 0), "pad_value": 3}),
}


def check(case, dtype, out_dtype, pool=conf.ONE):
    shape, n, kernel, options = CASES[case]
    options = dict(options)
    if dtype == np.int8 and "pad_value" in options:
        options["pad_value"] = -options["pad_value"]
    rng = np.random.default_rng(len(case))
    w = conf.weight_for(VNNI, rng, (n, shape[1], *kernel))
    x = conf.activations(rng, dtype, shape)
    geometry = conf.geometry_of(x, w, **options)
    assert image_blocking(geometry) is not None
    epilogue = conf.integer_epilogue(rng, n, zero_point=-3 if out_dtype == np.int8 else 7)
    got = conf.conv(VNNI, x, geometry, conf.pack(VNNI, w), epilogue, out_dtype, pool)
    acc = conf.channels_last(conf.naive_conv(x, w, geometry))
    np.testing.assert_array_equal(got, conf.channels_first(conf.expected_integers(acc, epilogue, out_dtype)))


@pytest.mark.parametrize(("dtype", "out_dtype"), [(np.uint8, np.uint8), (np.int8, np.uint8), (np.int8, np.int8)])
@pytest.mark.parametrize("case", CASES)
def test_every_pixel(case, dtype, out_dtype):
    check(case, dtype, out_dtype)


@pytest.mark.parametrize("case", CASES)
def test_threads_share_the_work(case):
    check(case, np.uint8, np.uint8, ThreadPool(3))


@pytest.mark.parametrize("level2", [8 * 1024, 64 * 1024, 16 * 1024 * 1024])
def test_any_cache_size_gives_the_same_answer(level2, monkeypatch):
    """A small cache holds a few rows at a time, a large one several images."""
    monkeypatch.setattr(caches, "level2_bytes", lambda: level2)
    image_blocking.cache_clear()
    try:
        for case in CASES:
            check(case, np.uint8, np.uint8)
    finally:
        image_blocking.cache_clear()


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 12},
        {"width": 17},
        {"strides": (1, 3), "width": 45},
        {"input_stride": (1, 2)},
        {"pads": (0, -1, 0, 1)},
        {"height": 3, "width": 6},
    ],
)
def test_other_convolutions_go_another_way(options):
    plain = {"batch": 1, "channels": 16, "height": 9, "width": 16, "out_channels": 16, "kernel": (3, 3)}
    assert image_blocking(ConvGeometry(**plain)) is not None
    assert image_blocking(ConvGeometry(**{**plain, **options})) is None


@pytest.mark.parametrize("ending", [PLANES, BLOCKS])
@pytest.mark.parametrize(("length", "runs"), [(7, 4), (4, 7)])
def test_the_tile_keeps_its_accumulators_in_registers(length, runs, ending):
    @njit
    def run(places, end, base, words, values, controls, steps, out, stride, offset, scale, low, high):
        tiles, image = Tiles(places, end, out, stride), Image(base, words, values, controls, steps)
        operands = Operands(offset, offset, 0, scale, scale, low, high, 0, 0)
        return nchwc8_tiles(length, runs, 8, ending, tiles, image, operands)

    run.compile(f"intp({', '.join(['intp'] * 11)}, float32, float32)")
    lines = next(iter(run.inspect_asm().values())).splitlines()
    loops = "\n".join(lines).split("vpdpbusd")
    assert len(loops) == 29
    body = "\n".join(loops[1:-1])
    # Those of the first two pixels come before.
    assert len(re.findall("vpbroadcastq", body)) == 26
    assert not re.findall(r"rsp", body), "a register is spilled"


def test_planes_begin_in_different_sets_of_a_cache():
    for size, channels in ((56, 64), (28, 128), (14, 1024), (7, 2048)):
        image = image_blocking(ConvGeometry(1, channels, size, size, 64))
        assert image.numbers.plane_bytes % 128 == 64
        assert STEP * image.numbers.capacity_rows < image.numbers.plane_bytes
