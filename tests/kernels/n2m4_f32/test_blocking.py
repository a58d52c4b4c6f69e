"""Panels, blocks, groups and shares of the float32 2:4 family, and what scratch they take."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rt_kernels.n2m4_f32.blocking import channel_lanes, shares
from sparse_rt_kernels.n2m4_f32.blocking import panels as blocking
from sparse_rt_kernels.n2m4_f32.blocking.row_lanes import float_scratch


@given(rows=st.integers(1, 5000), most=st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_panels_cover_all_rows_evenly(rows, most):
    bounds = [blocking.panel_bounds(rows, most, panel) for panel in range(blocking.panel_count(rows, most))]
    edges = [0, *itertools.accumulate(vectors * blocking.LANES for _, vectors in bounds)]
    assert [first for first, _ in bounds] == edges[:-1]
    assert edges[-1] - blocking.LANES < rows <= edges[-1]
    widths = {vectors for _, vectors in bounds}
    assert max(widths) <= most
    assert max(widths) - min(widths) <= 1


@given(k=st.integers(1, 20000), vectors=st.integers(1, 7), nbytes=st.integers(1, 1 << 20))
@settings(max_examples=50, deadline=None)
def test_blocks_of_k_fit_and_are_as_few_as_can_be(k, vectors, nbytes):
    length = blocking.block_length(k, vectors, nbytes)
    assert length % blocking.LANES == 0
    row = vectors * blocking.LANES * 4
    assert length == blocking.LANES or length * row <= nbytes
    padded = -(-k // blocking.LANES) * blocking.LANES
    most = max(nbytes // row // blocking.LANES, 1) * blocking.LANES
    assert -(-padded // length) == -(-padded // most)


@given(panels=st.integers(1, 60), tiles=st.integers(1, 60), threads=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_shares_cover_every_tile_of_every_panel_once(panels, tiles, threads):
    seen = np.zeros((panels, tiles), int)
    for work in blocking.split_work(panels, tiles, threads):
        assert work.first_tile % 4 == 0
        seen[work.first_panel : work.last_panel, work.first_tile : work.last_tile] += 1
    assert (seen == 1).all()


@given(first=st.integers(0, 9), tiles=st.integers(1, 90), most=st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_cut_shares_cover_every_tile_once(first, tiles, most):
    work = blocking.Work(2, 5, 4 * first, 4 * first + tiles)
    parts = blocking.cut_tiles(work, most)
    assert [part.first_tile for part in parts] == [work.first_tile, *(part.last_tile for part in parts[:-1])]
    assert parts[-1].last_tile == work.last_tile
    for part in parts:
        assert part[:2] == work[:2]
        assert part.first_tile % 4 == 0
        assert 0 < part.last_tile - part.first_tile <= max(most // 4, 1) * 4


@given(rows=st.integers(1, 400), k=st.integers(4, 300), nbytes=st.integers(1, 100_000), data=st.data())
@settings(max_examples=60, deadline=None)
def test_scratch_holds_every_panel_block(rows, k, nbytes, data):
    """The task's own arithmetic of where panel and partial sums lie, against what is allocated."""
    octets, tiles = -(-k // 8), data.draw(st.integers(1, 5))
    needed = 0
    for panel in range(blocking.panel_count(rows, blocking.MAX_VECTORS)):
        _, vectors = blocking.panel_bounds(rows, blocking.MAX_VECTORS, panel)
        length = blocking.block_length(octets * 8, vectors, nbytes)
        needed = max(needed, (length + 16 + -(-tiles // 4) * 16) * vectors * 16)
    assert float_scratch(rows, octets, nbytes, 0, tiles) >= needed


@given(rows=st.integers(1, 96))
@settings(max_examples=96, deadline=None)
def test_groups_are_few_and_hold_all_rows(rows):
    size = channel_lanes.group_size(rows)
    groups = -(-rows // channel_lanes.MAX_ROWS)
    assert 1 <= size <= channel_lanes.MAX_ROWS
    assert size * groups >= rows
    assert size * groups <= rows + 5 * groups


@given(rows=st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_lanes_of_rows_are_whole_vectors_or_all(rows):
    split = blocking.rows_as_lanes(rows)
    assert 0 <= split <= rows
    assert split == rows or split % blocking.LANES == 0


@given(
    rows=st.integers(1, 1500), images=st.integers(1, 3), tiles=st.integers(1, 300), threads=st.integers(1, 5),
    split=st.sampled_from([lambda rows: rows, lambda rows: 0, blocking.rows_as_lanes]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_shares_cover_every_row_and_tile_once(rows, images, tiles, threads, split):
    seen = np.zeros((images, rows, tiles), int)
    for share in shares.split_call(rows, split(rows), images, tiles, 64, 0, (30_000, 300_000), threads):
        lanes = share.last_lane - share.first_lane
        panels = blocking.panel_count(lanes, blocking.MAX_VECTORS)
        for job in range(share.first_panel, share.last_panel):
            image, panel = divmod(job, panels)
            first, vectors = blocking.panel_bounds(lanes, blocking.MAX_VECTORS, panel)
            here = slice(share.first_lane + first, min(share.last_lane, share.first_lane + first + 16 * vectors))
            seen[image, here, share.first_tile : share.last_tile] += 1
    assert (seen == 1).all()


@given(
    rows=st.integers(1, 1500), images=st.integers(1, 3), tiles=st.integers(1, 300), threads=st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_shares_of_a_convolution_cover_every_pixel_and_tile_once(rows, images, tiles, threads):
    seen = np.zeros((images, rows, tiles), int)
    for share in shares.split_call(
        rows, blocking.rows_as_lanes(rows), images, tiles, 64, 1, (30_000, 300_000), threads
    ):
        lanes, most = share.last_lane - share.first_lane, blocking.MOST_BESIDE if share.rest else blocking.MAX_VECTORS
        panels = blocking.panel_count(lanes, most)
        for job in range(share.first_panel, share.last_panel):
            image, panel = divmod(job, panels)
            first, vectors = blocking.panel_bounds(lanes, most, panel)
            last = min(share.last_lane, share.first_lane + first + 16 * vectors)
            if share.rest and panel + 1 == panels:
                assert 1 <= share.rest <= blocking.MOST_REST
                assert blocking.FEWEST_BESIDE <= vectors <= blocking.MOST_BESIDE
                last += share.rest
            seen[image, share.first_lane + first : last, share.first_tile : share.last_tile] += 1
    assert (seen == 1).all()


@given(vectors=st.integers(1, 400), threads=st.integers(2, 8), products=st.integers(1, 10**10))
@settings(max_examples=100, deadline=None)
def test_rows_are_cut_evenly_or_not_at_all(vectors, threads, products):
    parts = shares.lane_parts(vectors, products, threads)
    assert parts == 1 or parts % threads == 0
    longest = -(-vectors // threads) if parts == threads else vectors / threads
    assert parts == 1 or longest * threads <= 1.15 * vectors


@given(
    rows=st.integers(1, 300), octets=st.integers(1, 40), nbytes=st.integers(1, 100_000), conv=st.booleans(),
    tiles=st.integers(1, 9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_scratch_holds_groups_and_sums(rows, octets, nbytes, conv, tiles):
    """The task's own arithmetic of where groups and sums lie, against what is allocated."""
    for panel in range(blocking.panel_count(rows, blocking.MAX_VECTORS)):
        first, vectors = blocking.panel_bounds(rows, blocking.MAX_VECTORS, panel)
        width = 16 * vectors
        here = min(width, rows - first)
        size = channel_lanes.group_size(here)
        groups = -(-here // size)
        length = channel_lanes.block_octets(octets, groups * size, nbytes)
        needed = (length + 2) * 8 * width if conv else 0
        needed += -(-(width if conv else here) // size) * size * (length + 1) * 8
        needed += (-(-tiles // 4) if length < octets else 1) * 4 * channel_lanes.tile_bytes(here, size) // 4
        needed += width * 16 if conv else 0
        assert channel_lanes.float_scratch(rows, octets, nbytes, int(conv), tiles) >= needed
