"""Pieces of weights: all of it once, in the order of memory, cut at groups."""

import numpy as np
import pytest

from sparse_rt.sparsity.piecewise import pieces


@pytest.mark.parametrize("shape", [(7, 13), (1, 40), (9, 1), (4, 6, 3, 3), (0, 8), (3, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_pieces_cover_a_weight_once(shape, turned, monkeypatch):
    monkeypatch.setattr("sparse_rt.sparsity.piecewise._ELEMENTS", 20)
    weight = np.zeros(shape, np.int8)
    if turned:
        weight = np.zeros((shape[1], shape[0], *shape[2:]), np.int8).swapaxes(0, 1)
    seen = np.zeros(shape, np.int64)
    parts = list(pieces(weight, 4, rows=2))
    for part in parts:
        seen[part] += 1
        assert (part[0].start or 0) % 2 == 0
        assert (part[1].start or 0) % 4 == 0
    assert (seen == 1).all()
    assert len(parts) > 1 or weight.size <= 40
