import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_rt import ascend, formats
from sparse_rt.errors import FormatError, PatternError
from sparse_rt.formats import CompressedWeight
from tests import naive


def sample(m, n, k, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (m, k)).astype(np.int8), naive.random_weight(rng, (n, k))


def pruned(n, k, seed=0):
    return naive.prune_2_4(np.random.default_rng(seed).integers(-128, 128, (n, k)).astype(np.int8))


# --- compress_weight, decompress_weight ------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(1, 8), (16, 64), (5, 12), (3, 4), (0, 8), (4, 0)])
def test_compress_and_decompress(n, k):
    w = naive.random_weight(np.random.default_rng(n + k), (n, k))
    values, index = ascend.compress_weight(w)
    assert (values.shape, values.dtype) == ((n, k // 2), np.int8)
    assert (index.shape, index.dtype) == ((n, -(-k // 8)), np.uint8)
    expected_values, expected_index = naive.encode_matrix(w)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_array_equal(ascend.decompress_weight(values, index), w)


def test_compress_refuses_three_nonzeros_unless_told_to_prune():
    w = np.array([[0, 0, 0, 0, 3, -4, 5, 0]], np.int8)
    with pytest.raises(PatternError, match=r"3 nonzeros in row 0, columns 4..7"):
        ascend.compress_weight(w)
    assert ascend.decompress_weight(*ascend.compress_weight(w, prune=True)).tolist() == [[0, 0, 0, 0, 0, -4, 5, 0]]


@pytest.mark.parametrize("w", [np.zeros((2, 6), np.int8), np.zeros((2, 8), np.uint8), np.zeros((2, 8, 1), np.int8)])
def test_compress_refuses_what_the_hardware_does_not_take(w):
    with pytest.raises(FormatError, match="compress_weight"):
        ascend.compress_weight(w)


def test_decompress_refuses_index_3():
    with pytest.raises(FormatError, match="row 0, index 2"):
        ascend.decompress_weight(np.ones((1, 4), np.int8), np.array([[0x30]], np.uint8))


# --- mmad_with_sparse ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 2**32))
def test_mmad_is_the_dense_product(m, n, groups, seed):
    a, w = sample(m, n, 4 * groups, seed)
    y = ascend.mmad_with_sparse(a, *ascend.compress_weight(w))
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, naive.matmul_int32(a, w))
    assert y.tolist() == naive.matmul_loops(a, w)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32))
def test_mmad_selects_by_any_index_also_the_same_element_twice(m, n, groups, seed):
    rng = np.random.default_rng(seed)
    fields = np.pad(rng.integers(0, 3, (n, 2 * groups), np.uint8), ((0, 0), (0, -2 * groups % 4)))
    index = sum(fields[:, j::4] << 2 * j for j in range(4)).astype(np.uint8)
    values = rng.integers(-128, 128, (n, 2 * groups)).astype(np.int8)
    a = rng.integers(-128, 128, (m, 4 * groups)).astype(np.int8)
    expected = [
        [
            sum(int(values[o, j]) * int(a[i, 4 * (j // 2) + int(fields[o, j]) + j % 2]) for j in range(2 * groups))
            for o in range(n)
        ]
        for i in range(m)
    ]
    assert ascend.mmad_with_sparse(a, values, index).tolist() == expected


def test_the_documented_sample_128_128_64():
    a, w = sample(128, 64, 128)
    values, index = ascend.compress_weight(w)
    stored, stored_index = ascend.to_fractal(values, index)
    assert (stored.nbytes, stored_index.nbytes) == (4096, 1024)
    np.testing.assert_array_equal(ascend.mmad_with_sparse(a, values, index), naive.matmul_int32(a, w))


def test_the_documented_sample_128_7680_64_in_blocks_of_k():
    a, w = pruned(128, 7680, 1), pruned(64, 7680, 2)
    values, index = ascend.compress_weight(w)
    c = None
    for first in range(0, 7680, 3840):
        k = slice(first, first + 3840)
        half, bytes_ = slice(first // 2, first // 2 + 1920), slice(first // 8, first // 8 + 480)
        c = ascend.mmad_with_sparse(a[:, k], values[:, half], index[:, bytes_], c)
    np.testing.assert_array_equal(c, naive.matmul_int32(a, w))


def test_the_largest_sum_is_exact():
    w = np.tile(np.array([-128, 0, 0, -128], np.int8), (2, 1023))
    a = np.full((1, 4092), -128, np.int8)
    assert ascend.mmad_with_sparse(a, *ascend.compress_weight(w)).tolist() == [[2046 * 2**14] * 2]


def test_accumulation_that_leaves_int32_is_refused():
    a, w = np.full((1, 4), 1, np.int8), np.array([[1, 0, 0, 0]], np.int8)
    c = np.array([[2**31 - 2]], np.int32)
    c = ascend.mmad_with_sparse(a, *ascend.compress_weight(w), c)
    assert c.tolist() == [[2**31 - 1]]
    with pytest.raises(FormatError, match="int32"):
        ascend.mmad_with_sparse(a, *ascend.compress_weight(w), c)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 8), (3, 0, 8), (3, 2, 0)])
def test_a_zero_extent_is_a_no_op(m, n, k):
    values, index = np.zeros((n, k // 2), np.int8), np.zeros((n, k // 8), np.uint8)
    c = np.arange(m * n, dtype=np.int32).reshape(m, n)
    np.testing.assert_array_equal(ascend.mmad_with_sparse(np.zeros((m, k), np.int8), values, index, c), c)
    assert not ascend.mmad_with_sparse(np.zeros((m, k), np.int8), values, index).any()


def test_extents_up_to_4095():
    values, index = ascend.compress_weight(pruned(1, 8))
    assert ascend.mmad_with_sparse(np.zeros((4095, 8), np.int8), values, index).shape == (4095, 1)
    with pytest.raises(FormatError, match="m=4096"):
        ascend.mmad_with_sparse(np.zeros((4096, 8), np.int8), values, index)
    with pytest.raises(FormatError, match="k=4096"):
        ascend.mmad_with_sparse(np.zeros((1, 4096), np.int8), *ascend.compress_weight(pruned(1, 4096)))


@pytest.mark.parametrize(
    ("a", "values", "index", "c"),
    [
        (np.zeros((2, 16), np.int8), np.zeros((3, 4), np.int8), np.zeros((3, 1), np.uint8), None),
        (np.zeros((2, 8), np.uint8), np.zeros((3, 4), np.int8), np.zeros((3, 1), np.uint8), None),
        (np.zeros((2, 8), np.int8), np.zeros((3, 4), np.float32), np.zeros((3, 1), np.uint8), None),
        (np.zeros((2, 8), np.int8), np.zeros((3, 4), np.int8), np.zeros((3, 2), np.uint8), None),
        (np.zeros((2, 8), np.int8), np.zeros((3, 4), np.int8), np.full((3, 1), 0xC0, np.uint8), None),
        (np.zeros((2, 6), np.int8), np.zeros((3, 3), np.int8), np.zeros((3, 1), np.uint8), None),
        (np.zeros((2, 8), np.int8), np.zeros((3, 4), np.int8), np.zeros((3, 1), np.uint8), np.zeros((3, 2), np.int32)),
        (np.zeros((2, 8), np.int8), np.zeros((3, 4), np.int8), np.zeros((3, 1), np.uint8), np.zeros((2, 3), np.int64)),
    ],
)
def test_mmad_refuses_what_does_not_fit(a, values, index, c):
    with pytest.raises(FormatError, match="mmad_with_sparse"):
        ascend.mmad_with_sparse(a, values, index, c)


# --- load_data_with_sparse -------------------------------------------------------------------------------------------


@pytest.fixture
def buffers():
    rng = np.random.default_rng(7)
    src = rng.integers(-128, 128, 6 * 512 + 64).astype(np.int8)
    src_index = rng.integers(0, 256, 6 * 128 + 64).astype(np.uint8)
    return np.zeros(8 * 512, np.int8), np.zeros(8 * 128, np.uint8), src, src_index


def test_a_repeat_moves_512_bytes_and_128_of_index(buffers):
    dst, dst_index, src, src_index = buffers
    ascend.load_data_with_sparse(*buffers, repeat=1)
    np.testing.assert_array_equal(dst[:512], src[:512])
    np.testing.assert_array_equal(dst_index[:128], src_index[:128])
    assert not dst[512:].any()
    assert not dst_index[128:].any()


def test_repeats_strides_gaps_and_offsets(buffers):
    dst, dst_index, src, src_index = buffers
    ascend.load_data_with_sparse(
        *buffers,
        repeat=3,
        start_index=1,
        src_stride=2,
        dst_gap=1,
        dst_offset=1024,
        src_offset=32,
        index_offset=64,
    )
    expected, expected_index = np.zeros_like(dst), np.zeros_like(dst_index)
    for r in range(3):
        read, written = 1 + 2 * r, 2 + 2 * r
        expected[512 * written :][:512] = src[32 + 512 * read :][:512]
        expected_index[128 * written :][:128] = src_index[64 + 128 * read :][:128]
    np.testing.assert_array_equal(dst, expected)
    np.testing.assert_array_equal(dst_index, expected_index)


def test_the_default_stride_reads_one_fractal_again(buffers):
    dst, _, src, _ = buffers
    ascend.load_data_with_sparse(*buffers, repeat=3)
    np.testing.assert_array_equal(dst[: 3 * 512].reshape(3, 512), np.tile(src[:512], (3, 1)))


def test_repeat_0_does_nothing(buffers):
    ascend.load_data_with_sparse(*buffers, repeat=0, start_index=60000)
    assert not buffers[0].any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"repeat": 256},
        {"repeat": -1},
        {"repeat": 1, "start_index": -1},
        {"repeat": 1, "src_stride": 65536},
        {"repeat": 1, "dst_gap": -1},
        {"repeat": 1, "dst_offset": 256},
        {"repeat": 1, "dst_offset": -512},
        {"repeat": 1, "src_offset": 16},
        {"repeat": 1, "index_offset": 8},
        {"repeat": 7, "src_stride": 1},
        {"repeat": 9},
        {"repeat": 1, "start_index": 6},
        {"repeat": 1, "dst_offset": 8 * 512},
    ],
    ids=str,
)
def test_limits_alignment_and_ends_are_refused_before_anything_moves(buffers, arguments):
    with pytest.raises(FormatError, match="load_data_with_sparse"):
        ascend.load_data_with_sparse(*buffers, **arguments)
    assert not buffers[0].any()
    assert not buffers[1].any()


def test_a_buffer_is_flat_bytes(buffers):
    dst, dst_index, src, src_index = buffers
    with pytest.raises(FormatError, match="src: expected a flat buffer"):
        ascend.load_data_with_sparse(dst, dst_index, src.astype(np.int16), src_index, repeat=1)
    with pytest.raises(FormatError, match="src: expected a flat buffer"):
        ascend.load_data_with_sparse(dst, dst_index, src[:1024].reshape(2, 512), src_index, repeat=1)


def test_a_matmul_through_the_buffers():
    """Compress, tile, load, read the fractals back, multiply: what a kernel on the target does."""
    a, w = sample(16, 48, 192, 5)
    stored, stored_index = ascend.to_fractal(*ascend.compress_weight(w))
    l0b, l0b_index = np.zeros(stored.size, np.int8), np.zeros(stored_index.size, np.uint8)
    ascend.load_data_with_sparse(
        l0b, l0b_index, stored.ravel(), stored_index.ravel(), repeat=stored.size // 512, src_stride=1
    )
    values, index = ascend.from_fractal(l0b.reshape(stored.shape), l0b_index.reshape(stored_index.shape), 48, 192)
    np.testing.assert_array_equal(ascend.mmad_with_sparse(a, values, index), naive.matmul_int32(a, w))


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(64, 128), (16, 64), (17, 68), (1, 4), (5, 200), (0, 8), (3, 0)])
def test_fractals_of_a_matmul(n, k):
    values, index = ascend.compress_weight(naive.random_weight(np.random.default_rng(k), (n, k)))
    stored, stored_index = ascend.to_fractal(values, index)
    blocks = (-(-k // 64), -(-n // 16), 16)
    assert stored.shape == (*blocks, 32)
    assert stored_index.shape == (*blocks, 8)
    for row in range(n):
        for j in range(k // 2):
            assert stored[j // 32, row // 16, row % 16, j % 32] == values[row, j]
        for byte in range(index.shape[1]):
            assert stored_index[byte // 8, row // 16, row % 16, byte % 8] == index[row, byte]
    assert np.count_nonzero(stored) == np.count_nonzero(values)
    # The index of a fractal row lies at its address >> 2.
    if n and k:
        assert stored_index.strides[2] == stored.strides[2] >> 2
    back, back_index = ascend.from_fractal(stored, stored_index, n, k)
    np.testing.assert_array_equal(back, values, strict=True)
    np.testing.assert_array_equal(back_index, index, strict=True)


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((64, 3, 7, 7), (49, 4)),
        ((16, 64, 1, 1), (1, 1)),
        ((17, 65, 1, 3), (6, 2)),
        ((5, 132, 3, 3), (27, 1)),
        ((20, 6, 3), (3, 2)),
        ((3, 36, 1, 1), (1, 1)),
    ],
)
def test_fractal_z_of_a_convolution(shape, blocks):
    w = naive.random_weight(np.random.default_rng(8), shape)
    weight = formats.encode(w)
    stored, stored_index = ascend.to_fractal_z(weight)
    assert (stored.shape, stored.dtype) == ((*blocks, 16, 32), np.int8)
    assert (stored_index.shape, stored_index.dtype) == ((*blocks, 16, 8), np.uint8)

    # Naively: channel block, then kernel position; each position's channels encoded by themselves.
    n, c = shape[:2]
    flat = w.reshape(n, c, -1)
    positions, c1 = flat.shape[2], -(-c // 64)
    for position in range(positions):
        dense = np.zeros((n, 64 * c1), np.int8)
        dense[:, :c] = flat[:, :, position]
        values, index = naive.encode_matrix(dense)
        for block in range(c1):
            first = block * positions + position
            rows = stored[first].reshape(-1, 32)
            index_rows = stored_index[first].reshape(-1, 8)
            np.testing.assert_array_equal(rows[:n], values[:, 32 * block : 32 * block + 32])
            np.testing.assert_array_equal(index_rows[:n], index[:, 8 * block : 8 * block + 8])
            assert not rows[n:].any()
            assert not index_rows[n:].any()

    back = ascend.from_fractal_z(stored, stored_index, shape)
    np.testing.assert_array_equal(back.values, weight.values, strict=True)
    np.testing.assert_array_equal(back.index, weight.index, strict=True)
    np.testing.assert_array_equal(formats.decode(back), w)


@pytest.mark.parametrize("shape", [(0, 5, 1, 1), (3, 0, 2, 2), (2, 4, 0, 3)])
def test_fractal_z_of_nothing(shape):
    stored, stored_index = ascend.to_fractal_z(formats.encode(np.zeros(shape, np.int8)))
    assert stored.size == stored_index.size == 0
    assert formats.decode(ascend.from_fractal_z(stored, stored_index, shape)).shape == shape


def test_layouts_refuse_what_they_could_not_give_back():
    values, index = ascend.compress_weight(pruned(5, 12))
    stored, stored_index = ascend.to_fractal(values, index)
    with pytest.raises(FormatError, match="stored"):
        ascend.from_fractal(stored, stored_index, 17, 12)
    with pytest.raises(FormatError, match="multiple of 4"):
        ascend.from_fractal(stored, stored_index, 5, 10)
    with pytest.raises(FormatError, match="padding"):
        ascend.from_fractal(np.ones_like(stored), stored_index, 5, 12)
    with pytest.raises(FormatError, match="index"):
        ascend.from_fractal(stored, stored_index | 3, 5, 12)
    with pytest.raises(FormatError, match="expected"):
        ascend.to_fractal(values, index[:, :1])
    with pytest.raises(FormatError, match="int8"):
        ascend.to_fractal_z(formats.encode(np.zeros((2, 4, 1, 1), np.float32)))


def test_fractal_z_refuses_what_it_could_not_give_back():
    shape = (5, 12, 3, 3)
    stored, stored_index = ascend.to_fractal_z(formats.encode(naive.random_weight(np.random.default_rng(0), shape)))
    with pytest.raises(FormatError, match="stored"):
        ascend.from_fractal_z(stored[:-1], stored_index, shape)
    with pytest.raises(FormatError, match="stored_index"):
        ascend.from_fractal_z(stored, stored_index.astype(np.int8), shape)
    broken = stored.copy()
    broken[0, 0, 0, 31] = 1
    with pytest.raises(FormatError, match="padding"):
        ascend.from_fractal_z(broken, stored_index, shape)
    broken_index = stored_index.copy()
    broken_index[0, 0, 1, 0] |= 3
    with pytest.raises(FormatError, match="3 in row 1, index 0"):
        ascend.from_fractal_z(stored, broken_index, shape)
    with pytest.raises(FormatError, match="memory"):
        ascend.from_fractal_z(stored, stored_index, (5, 12, 2**40, 2**40))


def test_a_corrupt_weight_does_not_reach_the_layouts():
    with pytest.raises(FormatError, match="to_fractal_z"):
        ascend.to_fractal_z(CompressedWeight(np.zeros((2, 3), np.int8), np.zeros((2, 1), np.uint8), (2, 4, 1, 1)))
