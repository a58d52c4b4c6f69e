"""How the work of the float32 tiles of any vector width is split."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rt_kernels.tiled_f32.blocking import Shape, split

counts = st.integers(1, 60)


@given(panels=counts, tiles=counts, strip=st.integers(1, 4), threads=st.integers(1, 9), most=counts)
@settings(max_examples=200, deadline=None)
def test_shares_cover_every_tile_of_every_panel_once(panels, tiles, strip, threads, most):
    seen = np.zeros((panels, tiles), int)
    shares = split(panels, tiles, strip, threads, most, 7)
    for share in shares:
        assert share.first_tile % strip == 0
        assert share.block_octets == 7
        seen[share.first_panel : share.last_panel, share.first_tile : share.last_tile] += 1
    assert (seen == 1).all()
    assert len(shares) <= most


@given(octets=st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_blocks_of_k_are_few_and_fit(octets):
    for shape in (Shape(8, 6, 2), Shape(16, 6, 4)):
        block, octet_floats = shape.block_octets(octets), 8 * shape.lanes * shape.vectors
        assert 1 <= block <= octets
        assert block == 1 or block * octet_floats <= shape.most_floats
        # No fewer blocks would do.
        most = max(1, shape.most_floats // octet_floats)
        assert -(-octets // block) == -(-octets // most)
