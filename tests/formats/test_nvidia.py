import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_rt import formats
from sparse_rt.errors import FormatError
from sparse_rt.formats import CompressedWeight
from tests import naive

PAIRS = list(itertools.combinations(range(4), 2))


def decode_absolute(values, metadata):
    """Naive decoder of linear metadata: nibble p0 | p1 << 2, low nibble first."""
    rows, half = values.shape
    out = np.zeros((rows, 2 * half), values.dtype)
    for row, g in itertools.product(range(rows), range(half // 2)):
        nibble = int(metadata[row, g // 2]) >> 4 * (g % 2) & 15
        assert nibble & 3 < nibble >> 2
        out[row, 4 * g + (nibble & 3)] = values[row, 2 * g]
        out[row, 4 * g + (nibble >> 2)] = values[row, 2 * g + 1]
    return out


@pytest.mark.parametrize("pair", PAIRS)
def test_ours_is_theirs_less_four(pair):
    dense = np.zeros((1, 4), np.int8)
    dense[0, list(pair)] = 5, 6
    weight = formats.encode(dense)
    values, metadata = formats.to_nvidia_metadata(weight)
    assert metadata.tolist() == [[pair[0] | pair[1] << 2]]
    assert metadata[0, 0] - 4 == weight.index[0, 0]
    assert values.tolist() == [[5, 6]]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([(3, 8), (2, 12), (4, 7), (2, 5, 3), (3, 16, 3, 1), (0, 4), (2, 0)]),
    st.sampled_from([np.int8, np.float16, np.float32]),
    st.integers(0, 2**32),
)
def test_round_trip(shape, dtype, seed):
    w = naive.random_weight(np.random.default_rng(seed), shape, dtype)
    weight = formats.encode(w)
    values, metadata = formats.to_nvidia_metadata(weight)
    np.testing.assert_array_equal(decode_absolute(values, metadata), naive.weight_matrix(w))
    back = formats.from_nvidia_metadata(values, metadata, shape)
    np.testing.assert_array_equal(back.values, weight.values, strict=True)
    np.testing.assert_array_equal(back.index, weight.index, strict=True)


@pytest.mark.parametrize("word", ["<u2", "<i2", "<u4", "<i4", ">u2", ">i4"])
@pytest.mark.parametrize("columns", [32, 40, 36, 4])
def test_words_are_the_same_bytes(word, columns):
    w = naive.random_weight(np.random.default_rng(4), (3, columns), np.float16)
    values, metadata = formats.to_nvidia_metadata(formats.encode(w))
    size = np.dtype(word).itemsize
    padded = np.pad(metadata, ((0, 0), (0, -metadata.shape[1] % size)))
    words = padded.view(f"<{word[1:]}").astype(word)
    np.testing.assert_array_equal(formats.decode(formats.from_nvidia_metadata(values, words, w.shape)), w)


@pytest.mark.parametrize("nibble", [p0 | p1 << 2 for p0 in range(4) for p1 in range(4) if p0 >= p1])
@pytest.mark.parametrize("high", [False, True])
def test_equal_or_descending_positions_are_refused(nibble, high):
    metadata = np.full((2, 2), 0x44, np.uint8)
    metadata[1, 1] = nibble << 4 | 4 if high else 0x40 | nibble
    with pytest.raises(FormatError, match=r"row 1, byte 1 \(columns 8..15\)"):
        formats.from_nvidia_metadata(np.ones((2, 8), np.int8), metadata, (2, 16))


def test_a_half_used_byte():
    values = np.array([[1, 2]], np.int8)
    for byte in (0x44, 0x14, 0x00):
        with pytest.raises(FormatError):
            formats.from_nvidia_metadata(values, np.array([[byte]], np.uint8), (1, 4))
    weight = formats.from_nvidia_metadata(values, np.array([[0xE]], np.uint8), (1, 4))
    assert formats.decode(weight).tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("values", "metadata", "shape"),
    [
        (np.ones((1, 8), np.int8), np.full((1, 3), 0x44, np.uint8), (1, 16)),
        (np.ones((1, 6), np.int8), np.full((1, 2), 0x44, np.uint8), (1, 16)),
        (np.ones((1, 8), np.int8), np.full((1, 2), 0x44, np.int8), (1, 16)),
        (np.ones((1, 8), np.int8), np.full((1, 2), 0x44, np.float32), (1, 16)),
        (np.ones((1, 8), np.int32), np.full((1, 2), 0x44, np.uint8), (1, 16)),
        (np.ones((1, 8), np.int8), np.full((1, 1), 0x44444444, np.uint32), (1, 16)),
        (np.ones((1, 8), np.int8), np.full((1, 2), 0x44, np.uint8), (1, 2**40, 2**40)),
        (np.ones((1, 8), np.int8), np.full((1, 2), 0x44, np.uint8), (16,)),
    ],
)
def test_what_does_not_fit_is_refused(values, metadata, shape):
    with pytest.raises(FormatError, match="expected"):
        formats.from_nvidia_metadata(values, metadata, shape)


def test_the_arguments_are_not_touched():
    metadata = np.full((1, 2), 0x44, np.uint8)
    formats.from_nvidia_metadata(np.ones((1, 8), np.int8), metadata, (1, 16))
    assert (metadata == 0x44).all()


def test_indexes_that_share_an_element_leave_as_their_sum():
    foreign = CompressedWeight(np.array([[3, 4, 5, 6]], np.int8), np.array([[0x21]], np.uint8), (1, 8))
    values, metadata = formats.to_nvidia_metadata(foreign)
    assert decode_absolute(values, metadata).tolist() == [[0, 7, 0, 0, 0, 6, 5, 0]]
