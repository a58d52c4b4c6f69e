"""What every format promises of its weights, held by one that stores a pattern and by the dense one."""

import numpy as np
import pytest

from sparse_rt import formats
from tests import naive

FORMATS = [*formats.FORMATS.values(), formats.DENSE]
SHAPES = [(6, 8), (5, 7), (4, 6, 3), (3, 9, 2, 2)]


@pytest.fixture(params=FORMATS, ids=lambda format: format.name)
def format(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


def weight(shape, dtype, seed=0):
    return naive.random_weight(np.random.default_rng(seed), shape, dtype)


def by_row(dense):
    return dense.reshape(len(dense), -1)


def test_decoding_gives_what_was_encoded(format, shape):
    for dtype in (np.int8, np.uint8, np.float32):
        dense = weight(shape, dtype)
        encoded = format.encode(dense)
        assert (encoded.shape, encoded.dtype, encoded.format) == (shape, dense.dtype, format)
        np.testing.assert_array_equal(encoded.decode(), dense, strict=True)


def test_sums_of_rows(format, shape):
    dense = weight(shape, np.int8)
    dense[np.unravel_index(np.flatnonzero(dense)[0], shape)] = -128
    encoded = format.encode(dense)
    wide = by_row(dense).astype(np.int64)
    for found, expected in ((encoded.row_sums(), wide), (encoded.absolute_row_sums(), np.abs(wide))):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected.sum(axis=1))


def test_rotating_by_180_degrees(format, shape):
    dense = weight(shape, np.float32)
    rotated = format.encode(dense).rotate180()
    np.testing.assert_array_equal(rotated.decode(), np.flip(dense, tuple(range(2, len(shape)))))


def test_scaling_by_output_channel(format, shape):
    for dtype in (np.float32, np.int8):
        dense = weight(shape, dtype)
        factors = np.linspace(0.5, 3, shape[0]).astype(np.float32)
        scaled = format.encode(dense).scaled(factors)
        expected = dense.astype(np.float32) * factors.reshape(-1, *[1] * (len(shape) - 1))
        np.testing.assert_array_equal(scaled.decode(), expected, strict=True)


def test_unsigned_weights_are_read_as_signed_where_they_fit(format):
    small = np.minimum(weight((4, 8), np.uint8), 127)
    signed = format.encode(small).as_int8()
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.decode(), small)
    large = small.copy()
    large[np.unravel_index(np.flatnonzero(large)[0], large.shape)] = 128
    assert format.encode(large).as_int8() is None
    assert format.encode(weight((4, 8), np.float32)).as_int8() is None


def test_a_signed_weight_stays_one_object():
    """Layers that share a weight share what is packed of it, which is found by the weight."""
    encoded = formats.encode(weight((4, 8), np.int8))
    assert encoded.as_int8() is encoded


def test_tables():
    assert formats.by_name("n2m4") is formats.N2M4
    assert formats.by_name("dense") is formats.DENSE
    with pytest.raises(KeyError):
        formats.by_name("n1m4")
    assert formats.format_of(formats.encode(weight((4, 8), np.int8)).pattern) is formats.N2M4


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((8, 8), np.int8, None),
        ((8, 4), np.int8, "4 input channels, 2:4 needs more than 4"),
        ((8, 8), np.float64, "the weight is float64, which is not stored as 2:4"),
        ((3, 5), np.int8, "compressed it would take 15 bytes, dense it takes 15"),
    ],
)
def test_why_no_format_takes_a_shape(shape, dtype, reason):
    assert formats.reason_for_all(shape, np.dtype(dtype)) == reason
    assert formats.formats_for(shape, np.dtype(dtype)) == ((formats.N2M4,) if reason is None else ())
