import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_rt import formats
from sparse_rt.errors import FormatError, PatternError
from sparse_rt.formats import CompressedWeight
from tests import naive

DTYPES = [np.int8, np.uint8, np.float16, np.float32]
SHAPES = st.one_of(
    st.tuples(st.integers(0, 5), st.integers(0, 21)),
    st.tuples(st.integers(0, 3), st.integers(0, 11), st.integers(0, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 3), st.integers(1, 3)),
)
X, Y = 7, -9

# The published table: elements, values, index nibble i0 | i1 << 2.
TABLE = [
    ((X, Y, 0, 0), (X, Y), 0x0),
    ((X, 0, Y, 0), (X, Y), 0x4),
    ((X, 0, 0, Y), (X, Y), 0x8),
    ((0, X, Y, 0), (X, Y), 0x5),
    ((0, X, 0, Y), (X, Y), 0x9),
    ((0, 0, X, Y), (X, Y), 0xA),
    ((X, 0, 0, 0), (X, 0), 0x0),
    ((0, X, 0, 0), (X, 0), 0x1),
    ((0, 0, X, 0), (X, 0), 0x2),
    ((0, 0, 0, X), (0, X), 0x8),
    ((0, 0, 0, 0), (0, 0), 0x0),
]


def compressed(values, index, shape=None):
    values = np.array(values, np.int8) if isinstance(values, list) else values
    index = np.array(index, np.uint8)
    return CompressedWeight(values, index, shape or (len(values), 2 * values.shape[1]))


@pytest.mark.parametrize(("elements", "values", "nibble"), TABLE, ids=lambda v: str(v).replace(" ", ""))
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32])
def test_every_row_of_the_index_table(elements, values, nibble, dtype):
    weight = formats.encode(np.array([elements], dtype))
    assert weight.values.dtype == dtype
    assert weight.values.tolist() == [list(values)]
    assert weight.index.tolist() == [[nibble]]
    assert formats.decode(weight).tolist() == [list(elements)]


@pytest.mark.parametrize(("elements", "values", "nibble"), TABLE, ids=lambda v: str(v).replace(" ", ""))
def test_the_second_group_of_a_byte_is_its_high_nibble(elements, values, nibble):
    weight = formats.encode(np.array([(0, X, 0, Y, *elements)], np.int8))
    assert weight.values.tolist() == [[X, Y, *values]]
    assert weight.index.tolist() == [[0x9 | nibble << 4]]
    assert formats.decode(weight).tolist() == [[0, X, 0, Y, *elements]]


def test_the_documented_bytes():
    """Indexes 1 2 0 1 0 2 1 0 are the bytes 0x49 0x18."""
    weight = compressed([[1, 2, 3, 4, 5, 6, 7, 8]], [[0x49, 0x18]])
    assert formats.decode(weight).tolist() == [[0, 1, 0, 2, 3, 0, 4, 0, 5, 0, 0, 6, 0, 15, 0, 0]]
    i0, i1 = formats.group_indexes(weight.index, 4)
    assert np.stack((i0, i1), -1).ravel().tolist() == [1, 2, 0, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("nibble", [0x2, 0x6])
def test_both_documented_forms_of_a_lone_third_element_decode(nibble):
    assert formats.decode(compressed([[X, 0]], [[nibble]])).tolist() == [[0, 0, X, 0]]


@pytest.mark.parametrize(("nibble", "element"), [(0x1, 1), (0x6, 2)])
def test_two_indexes_of_one_element_add(nibble, element):
    expected = [0, 0, 0, 0]
    expected[element] = X + Y
    for dtype in (np.int8, np.float16, np.float32):
        assert formats.decode(compressed(np.array([[X, Y]], dtype), [[nibble]])).tolist() == [expected]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_sum_that_overflows_is_refused(dtype):
    values = np.full((3, 4), 0, dtype)
    values[1, 2:] = np.iinfo(dtype).max
    with pytest.raises(FormatError, match="row 1, group 1"):
        formats.decode(compressed(values, [[0x10]] * 3))
    values[1, 3] = 0
    assert formats.decode(compressed(values, [[0x10]] * 3))[1, 5] == np.iinfo(dtype).max


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_decodes_or_is_refused(byte):
    fields = [byte >> shift & 3 for shift in (0, 2, 4, 6)]
    weight = compressed([[1, 2, 4, 8], [1, 2, 4, 8]], [[0], [byte]])
    if 3 in fields:
        with pytest.raises(FormatError, match=rf"3 in row 1, index {fields.index(3)} \(byte 0, 0x{byte:02X}\)"):
            formats.decode(weight)
    else:
        expected = naive.decode_matrix(weight.values, weight.index)
        np.testing.assert_array_equal(formats.decode(weight), expected)
        # Whatever a foreign encoder wrote, encoding again gives the canonical form of the same weight.
        if expected[1, :4].any() and naive.holds(expected):
            again = formats.encode(expected)
            np.testing.assert_array_equal(formats.decode(again), expected)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.sampled_from(DTYPES), st.integers(0, 2**32))
def test_round_trip(shape, dtype, seed):
    w = naive.random_weight(np.random.default_rng(seed), shape, dtype)
    weight = formats.encode(w)
    values, index = naive.encode_matrix(naive.weight_matrix(w))
    assert weight.values.flags.c_contiguous
    assert weight.index.flags.c_contiguous
    assert weight.k4 == naive.weight_matrix(w).shape[1]
    np.testing.assert_array_equal(weight.values, values, strict=True)
    np.testing.assert_array_equal(weight.index, index, strict=True)
    formats.check(weight)
    np.testing.assert_array_equal(formats.decode(weight), w, strict=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(0, 8), st.integers(0, 2**32))
def test_matrix_round_trip_and_foreign_forms(rows, groups, seed):
    rng = np.random.default_rng(seed)
    fields = rng.integers(0, 3, (rows, groups * 2), np.uint8)
    values = rng.integers(-60, 60, (rows, groups * 2)).astype(np.int8)
    padded = np.pad(fields, ((0, 0), (0, -groups * 2 % 4)))
    index = sum(padded[:, j::4] << 2 * j for j in range(4)).astype(np.uint8)
    dense = formats.decode_matrix(values, index)
    np.testing.assert_array_equal(dense, naive.decode_matrix(values, index))
    np.testing.assert_array_equal(formats.decode_matrix(*formats.encode_matrix(dense)), dense)


@pytest.mark.parametrize("dtype", DTYPES)
def test_index_is_a_quarter_of_int8_values(dtype):
    weight = formats.encode(np.zeros((16, 64), dtype))
    assert weight.index.nbytes * 4 == weight.values.size
    assert weight.nbytes == 16 * 32 * np.dtype(dtype).itemsize + 16 * 8


def test_negative_zero_is_zero_and_nan_is_not():
    w = np.array([[-0.0, np.nan, -0.0, 1.0, -0.0, -0.0, -0.0, np.inf]], np.float32)
    weight = formats.encode(w)
    assert weight.index.tolist() == [[0x89]]
    assert not np.signbit(weight.values[0, 2])
    np.testing.assert_array_equal(formats.decode(weight), w)
    assert not np.signbit(formats.decode(weight)[0, 0])


def test_nan_keeps_its_bits():
    bits = np.array([[0, 0x7FC12345, 0, 0]], np.uint32)
    assert formats.encode(bits.view(np.float32)).values.view(np.uint32).tolist() == [[0x7FC12345, 0]]


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda w: w.astype(w.dtype.newbyteorder(">")), lambda w: w[::-1].copy()[::-1]]
)
def test_any_strides_and_byte_order(change):
    w = naive.random_weight(np.random.default_rng(1), (6, 10, 3), np.float32)
    weight = formats.encode(change(w))
    np.testing.assert_array_equal(weight.values, formats.encode(w).values)
    assert weight.values.dtype.isnative
    strided = CompressedWeight(np.asfortranarray(weight.values), np.asfortranarray(weight.index), weight.shape)
    np.testing.assert_array_equal(formats.decode(strided), w)
    unaligned = np.zeros(weight.values.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(weight.values.shape)
    unaligned[...] = weight.values
    np.testing.assert_array_equal(formats.decode(dataclasses.replace(weight, values=unaligned)), w)


def test_encode_refuses_what_is_not_2_4_unless_told_to_prune():
    w = np.arange(1, 41, dtype=np.int8).reshape(2, 20)
    with pytest.raises(PatternError, match=r"layer 'fc' \(2, 20\): expected 2:4 along k, got 4 nonzeros in row 0, col"):
        formats.encode(w, "layer 'fc'")
    np.testing.assert_array_equal(formats.decode(formats.encode(w, prune=True)), naive.prune_2_4(w))


@pytest.mark.parametrize(
    "w", [np.zeros((2, 4)), np.zeros((2, 4), np.int32), np.zeros(4, np.int8), np.int8(3) * np.ones(())]
)
def test_encode_refuses_other_dtypes_and_ranks(w):
    with pytest.raises(FormatError, match="expected"):
        formats.encode(w)


def test_encode_matrix_refuses_kernels():
    with pytest.raises(FormatError, match="matrix"):
        formats.encode_matrix(np.zeros((2, 4, 1), np.int8))


# --- corrupt input -------------------------------------------------------------------------------------------------

GOOD = formats.encode(naive.random_weight(np.random.default_rng(2), (3, 7, 3), np.int8))  # k4 = 24, 9 of 12 index bytes


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (3, 7, 4)},
        {"shape": (4, 7, 3)},
        {"shape": (3, 9, 3)},
        {"shape": (3, 24)[:1]},
        {"shape": ()},
        {"shape": (3, -7, -3)},
        {"shape": (3, 7, 2**40, 2**40)},
        {"shape": (2**62, 7, 3)},
        {"shape": (3, 7.0, 3)},
        {"shape": (3, "7", 3)},
        {"values": GOOD.values[:, :-1]},
        {"values": GOOD.values[0]},
        {"values": GOOD.values.astype(np.int16)},
        {"values": GOOD.values.astype(">f4")},
        {"values": GOOD.values.astype(np.float64)},
        {"index": GOOD.index[:, :-1]},
        {"index": GOOD.index.ravel()},
        {"index": GOOD.index.view(np.int8)},
        {"index": np.zeros((3, 4), np.uint8)},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(FormatError, match="layer 'x': expected"):
        formats.decode(dataclasses.replace(GOOD, **change), "layer 'x'")


@pytest.mark.parametrize("shape", [(0, 2**62), (2**62, 0), (0, 2**40, 2**40), (1, 4, 0, 2**62)])
def test_a_huge_shape_hidden_by_a_zero_is_refused(shape):
    with pytest.raises(FormatError, match="memory"):
        formats.decode(CompressedWeight(np.zeros((shape[0] if shape[0] < 9 else 0, 0), np.int8), GOOD.index, shape))


def test_a_shape_with_more_elements_than_the_values_fails_before_allocation():
    with pytest.raises(FormatError, match="expected values"):
        formats.decode(dataclasses.replace(GOOD, shape=(2**29, 2**30)))


def test_nonzero_unused_bits_are_refused():
    with pytest.raises(FormatError, match=r"unused high bits.*0x40 in row 1"):
        formats.decode(compressed([[0, 0], [1, 2], [1, 2]], [[0], [0x40], [0x90]]))


def test_a_nonzero_in_the_channel_padding_is_refused():
    values = GOOD.values.copy().reshape(3, 3, 4)
    index = np.zeros((3, 3), np.uint8)
    index[1, 2] = 0x80  # second group of the third kernel position: channel 7 of 0..6
    values[...] = 0
    values[1, 2, 3] = 5
    broken = CompressedWeight(values.reshape(3, 12), index, (3, 7, 3))
    with pytest.raises(FormatError, match="row 1, kernel position 2, channel 7"):
        formats.check(broken)
    values[1, 2, 3] = 0
    formats.check(broken)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(min_size=6, max_size=6), st.binary(min_size=2, max_size=2), st.sampled_from([(1, 12), (1, 11), (1, 3, 3)])
)
def test_random_bytes_decode_as_the_naive_decoder_says_or_are_refused(values, index, shape):
    weight = CompressedWeight(np.frombuffer(values, np.int8)[None], np.frombuffer(index, np.uint8)[None], shape)
    try:
        dense = formats.decode(weight)
    except FormatError:
        return
    with np.errstate(over="ignore"):
        matrix = naive.decode_matrix(weight.values, weight.index)
    np.testing.assert_array_equal(naive.weight_matrix(dense), matrix)


def test_empty_weights():
    for shape in [(0, 8), (3, 0), (2, 4, 0), (0, 0)]:
        assert formats.decode(formats.encode(np.zeros(shape, np.float32))).shape == shape


@pytest.mark.parametrize("shape", [(5, 8, 3, 3), (4, 6, 2), (3, 5, 1, 4), (2, 12, 3), (3, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_rotate180(shape, dtype):
    weight = naive.random_weight(np.random.default_rng(9), shape, dtype)
    rotated = formats.encode(weight).rotate180()
    formats.check(rotated)
    np.testing.assert_array_equal(formats.decode(rotated), np.flip(weight, tuple(range(2, len(shape)))))
