"""Shapes of weights."""

import pytest

from sparse_rt.errors import FormatError
from sparse_rt.formats.shape import checked_shape, padded_channels, reduction_length


def test_reduction_length():
    assert [reduction_length(shape, 4) for shape in ((3, 8), (3, 9), (3, 5, 2, 3))] == [8, 12, 48]
    assert reduction_length((3, 5, 2, 3), 1) == 30


def test_padded_channels():
    assert [padded_channels(count, 4) for count in (0, 1, 4, 5)] == [0, 4, 4, 8]
    assert padded_channels(5, 1) == 5


@pytest.mark.parametrize("bad", [(4,), (4, -1), (2**40, 2**40, 0), ("4", 4), 4])
def test_a_shape_that_no_weight_has(bad):
    with pytest.raises(FormatError, match="'l'"):
        checked_shape(bad, "layer 'l'")
