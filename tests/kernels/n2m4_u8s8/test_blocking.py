"""The block sizes of the int8 2:4 family."""

import numpy as np
import pytest
from sparse_rt_kernels.cpu import caches, isa
from sparse_rt_kernels.n2m4_u8s8 import VNNI
from sparse_rt_kernels.n2m4_u8s8.blocking import rows as blocking
from sparse_rt_kernels.product.u8s8 import sizes

from tests.kernels import conformance as conf

needs_vnni = pytest.mark.skipif("avx512vnni" not in isa.supported_tiers(), reason="needs AVX-512 VNNI")


@pytest.mark.parametrize("steps", [1, 8, 72, 384, 5000, 16448])
@pytest.mark.parametrize("rows", [1, 23, 24, 25, 384, 100_000])
def test_blocks_are_whole_tiles_and_do_not_overlap(steps, rows):
    blocks = blocking.blocking(steps, rows)
    assert blocks.rows % sizes.ROWS == 0
    assert blocks.rows >= sizes.ROWS
    assert blocks.steps % 8 == 0
    assert blocks.controls - blocks.panel >= blocks.rows * steps * sizes.STEP
    assert blocks.sums - blocks.controls >= min(steps, blocks.steps) * 64
    # Sums of all rows are kept only where the reduction is blocked.
    assert blocks.table - blocks.sums >= (blocks.rows if blocks.steps < steps else sizes.ROWS) * 64
    assert blocks.end - blocks.table >= blocks.rows * 8
    assert {blocks.controls % 64, blocks.sums % 64, blocks.table % 64} == {0}


@needs_vnni
@pytest.mark.parametrize("level1", [4 * 1024, 256 * 1024])
@pytest.mark.parametrize("level2", [16 * 1024, 16 * 1024 * 1024])
def test_any_cache_sizes_give_the_same_answer(level1, level2, monkeypatch):
    """Small caches force many blocks of rows and steps, with sums carried between them."""
    monkeypatch.setattr(caches, "level1_bytes", lambda: level1)
    monkeypatch.setattr(caches, "level2_bytes", lambda: level2)
    blocking.blocking.cache_clear()
    try:
        rng = np.random.default_rng(3)
        w = conf.weight_for(VNNI, rng, (35, 1100))
        x = conf.activations(rng, np.int8, (77, 1100))
        conf.assert_sums(VNNI, conf.matmul(VNNI, x, conf.pack(VNNI, w), *conf.sums_only(VNNI, 35)), x, w)
        w = conf.weight_for(VNNI, rng, (17, 40, 3, 3))
        x = conf.activations(rng, np.uint8, (5, 40, 6, 7))
        geometry = conf.geometry_of(x, w, pads=(1, 1, 1, 1), pad_value=3)
        got = conf.conv(VNNI, x, geometry, conf.pack(VNNI, w), *conf.sums_only(VNNI, 17))
        conf.assert_conv_sums(VNNI, got, x, w, geometry)
    finally:
        blocking.blocking.cache_clear()


def test_rows_whose_lines_share_cache_sets_are_few():
    plain = blocking.blocking(128, 2048, 4100).rows
    assert blocking.blocking(128, 2048, 4096).rows * 4096 <= caches.level2_bytes()
    assert blocking.blocking(128, 2048, 4096).rows < plain
