"""Attention against its definition in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from sparse_rt_kernels.between.attention import (
    Attention,
    ByteOperand,
    Place,
    QuantisedAttention,
    are_bytes_available,
    is_available,
    prepare_attention,
    prepare_quantised_attention,
)
from sparse_rt_kernels.between.elementwise import Quantisation, QuantisedRows
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.vectors.quantisation import ByteTensor

from tests.kernels.conformance import Guarded

pytestmark = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not is_available(), reason="native tasks for registers of 64 bytes"
)

POOLS = {threads: ThreadPool(threads) for threads in (1, 2)}


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def by_heads(array, heads):
    """See (batch, tokens, heads * size) as (batch, heads, tokens, size)."""
    batch, tokens, width = array.shape
    return array.reshape(batch, tokens, heads, width // heads).transpose(0, 2, 1, 3)


def place(view, base):
    return Place(view.ctypes.data - base.ctypes.data, *view.strides[:3])


def judge(query, key, value, scale, mask):
    query, key, value = (array.astype(np.float64) for array in (query, key, value))
    scores = query @ key.swapaxes(-1, -2) * scale + (0 if mask is None else mask)
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ value


def attend(query, key, value, heads, scale, threads=1, mask=None):
    """Run the kernel on (batch, tokens, heads * size); return what it wrote and what it should have written."""
    out = Guarded((*query.shape[:2], value.shape[2]), np.float32, fill=0xFF)
    seen = [by_heads(array, heads) for array in (query, key, value, out.array)]
    masks = None if mask is None else np.broadcast_to(mask, (*seen[0].shape[:3], key.shape[1]))
    places = [place(view, base) for view, base in zip(seen, (query, key, value, out.array), strict=True)]
    attention = Attention(
        batch=len(query),
        heads=heads,
        queries=query.shape[1],
        keys=key.shape[1],
        size=seen[0].shape[3],
        value_size=seen[2].shape[3],
        scale=scale,
        query=places[0],
        key=places[1],
        value=places[2],
        out=places[3],
        mask=None if masks is None else place(masks, mask),
    )
    others = (key, value) if mask is None else (key, value, mask)
    prepare_attention(attention, threads).run(query, out.array, POOLS[threads], *others)
    out.check()
    return seen[3], judge(*seen[:3], scale, masks)


def operands(rng, batch, heads, queries, keys, size, value_size):
    return (
        normal(rng, batch, queries, heads * size),
        normal(rng, batch, keys, heads * size),
        normal(rng, batch, keys, heads * value_size),
    )


def check(got, expected, tolerance=2e-6):
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [8, 20, 64, 80])
@pytest.mark.parametrize("tokens", [1, 17, 33, 129])
def test_self_attention(tokens, size, threads):
    given = operands(np.random.default_rng(tokens), 2, 3, tokens, tokens, size, size)
    check(*attend(*given, 3, size**-0.5, threads))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 2]),
    st.sampled_from([None, (1, 1, 1), (0, 0, 1), (1, 0, 1), (0, 1, 1)]),
)
def test_any_shape(batch, heads, queries, keys, size, value_size, threads, whole):
    """`whole` says which of batch, heads and queries the mask varies along; None for no mask."""
    rng = np.random.default_rng(queries * 71 + keys)
    sizes = (batch, heads, queries)
    mask = None
    if whole is not None:
        mask = normal(rng, *(size if varies else 1 for size, varies in zip(sizes, whole, strict=True)), keys)
        mask[..., 1::3] = -np.inf
    check(*attend(*operands(rng, batch, heads, queries, keys, size, value_size), heads, 0.3, threads, mask))


@pytest.mark.parametrize("threads", [1, 2])
def test_long_sequences_go_block_by_block(threads):
    """More keys than are laid out at once, more queries than there is scratch memory for; scores that grow."""
    rng = np.random.default_rng(3)
    query, key, value = operands(rng, 1, 2, 300, 1500, 16, 24)
    key *= np.linspace(0.1, 3, 1500, dtype=np.float32)[:, None]
    # A float32 score of 60 errs by 4e-6, and so does its exponential.
    check(*attend(query, key, value, 2, 1.0, threads), 3e-5)


def test_masked_blocks_and_rows():
    """Nothing but -inf in the first or last block of keys counts for nothing, in all of a row makes it NaN."""
    rng = np.random.default_rng(4)
    mask = normal(rng, 1, 1, 20, 1200)
    mask[..., 3, :] = -np.inf
    mask[..., 4, :1100] = -np.inf
    mask[..., 5, 100:] = -np.inf
    mask[..., 6, :] = np.finfo(np.float32).min
    got, expected = attend(*operands(rng, 1, 2, 20, 1200, 12, 12), 2, 0.25, 1, mask)
    assert np.isnan(got[:, :, 3]).all()
    check(got, expected)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_rows_without_a_softmax_are_nan(odd):
    query, key, value = operands(np.random.default_rng(5), 1, 1, 20, 30, 8, 8)
    query[0, 7, 2] = odd
    got, expected = attend(query, key, value, 1, 1.0)
    assert np.isnan(got[0, 0, 7]).all()
    others = np.arange(20) != 7
    check(got[0, 0, others], expected[0, 0, others])


def test_large_scores_do_not_overflow():
    query, key, value = operands(np.random.default_rng(6), 1, 1, 20, 30, 8, 8)
    got, expected = attend(query * 1000, key * 100, value, 1, 1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-2)


def test_operands_that_share_an_array():
    """Query, key and value as one projection writes them."""
    heads, size = 3, 8
    packed = normal(np.random.default_rng(7), 2, 19, 3 * heads * size)
    parts = [by_heads(packed[..., at * heads * size : (at + 1) * heads * size], heads) for at in range(3)]
    out = np.empty((2, heads, 19, size), np.float32)
    places = [place(view, packed) for view in parts]
    attention = Attention(2, heads, 19, 19, size, size, 0.5, *places, place(out, out))
    prepare_attention(attention, 1).run(packed, out, POOLS[1], packed, packed)
    check(out, judge(*parts, 0.5, None))


# --- bytes -----------------------------------------------------------------------------------------------------------

bytes_only = pytest.mark.skipif(not are_bytes_available(), reason="vpdpbusd of 64 bytes")


def dequantise(array, one):
    return (array.astype(np.float32) - np.float32(one.quantisation.zero_point)) * np.float32(one.quantisation.scale)


def levels(values, one, scale=None):
    """Quantise, without the zero point, as int64."""
    info, zero_point = np.iinfo(one.dtype), one.quantisation.zero_point
    scaled = values / np.float32(one.quantisation.scale) if scale is None else values.astype(np.float32) * scale
    return np.clip(np.rint(scaled), info.min - zero_point, info.max - zero_point).astype(np.int64)


def factor(a, b, y):
    scales = [np.float32(one.quantisation.scale) for one in (a, b, y)]
    return scales[0] * scales[1] / scales[2]


class ByteCase:
    """Operands of bytes, or of float32 quantised on the way, and the separate operators that judge the kernel."""

    def __init__(self, batch, heads, queries, keys, size, value_size, dtype, *, is_float=False, seed=0):
        self.rng = np.random.default_rng(seed)
        self.dtype, self.middle, self.heads = np.dtype(dtype), 128 if np.dtype(dtype) == np.uint8 else 0, heads
        info = np.iinfo(dtype)
        self.scores, self.context = self.tensor(0.08, -5), self.tensor(0.006, 9)
        self.weights = ByteTensor(Quantisation(1 / 255, int(info.min)), self.dtype)
        self.quantised = [self.tensor(*pair) for pair in ((0.0132, 1), (0.0121, -4), (0.0115, -3))]
        stored = [self.tensor(*pair) for pair in ((0.013, -2), (0.012, 3), (0.011, 5))]
        shapes = [(queries, size), (keys, size), (keys, value_size)]
        self.arrays, self.operands, self.levels = [], [], []
        for (tokens, width), source, goal in zip(shapes, stored, self.quantised, strict=True):
            shape = (batch, tokens, heads * width)
            if is_float:
                array, bias = normal(self.rng, *shape), None
                values = by_heads(array, heads)
                self.operands.append(ByteOperand(goal, None))
            else:
                array = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
                bias = normal(self.rng, batch, heads, width)
                values = dequantise(by_heads(array, heads), source) + bias[:, :, None]
                self.operands.append(ByteOperand(goal, QuantisedRows(source.quantisation, self.dtype), bias))
            self.arrays.append(array)
            self.levels.append(levels(values, goal))

    def tensor(self, scale, zero_point):
        return ByteTensor(Quantisation(scale, zero_point + self.middle), self.dtype)

    def expected(self, scale, mask):
        """Return the bytes of the context."""
        query, key, value = self.levels
        scored = levels(query @ key.swapaxes(-1, -2), self.scores, factor(*self.quantised[:2], self.scores))
        scores = scored.astype(np.float32) * np.float32(self.scores.quantisation.scale) * np.float32(scale)
        scores = scores.astype(np.float64) + (0 if mask is None else mask)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weighed = levels((weights / weights.sum(-1, keepdims=True)).astype(np.float32), self.weights)
        context = levels(weighed @ value, self.context, factor(self.weights, self.quantised[2], self.context))
        return context + self.context.quantisation.zero_point

    def run(self, scale=0.125, threads=1, mask=None):
        query, key, value = self.arrays
        out = Guarded((*query.shape[:2], value.shape[2]), self.dtype, fill=0x55)
        seen = [by_heads(array, self.heads) for array in (*self.arrays, out.array)]
        places = [place(view, base) for view, base in zip(seen, (*self.arrays, out.array), strict=True)]
        masks = None if mask is None else np.broadcast_to(mask, (*seen[0].shape[:3], key.shape[1]))
        sizes = (len(query), self.heads, query.shape[1], key.shape[1], seen[0].shape[3], seen[2].shape[3])
        attention = Attention(*sizes, scale, *places, None if masks is None else place(masks, mask))
        products = QuantisedAttention(*self.operands, self.scores, self.weights, self.context)
        launch = prepare_quantised_attention(attention, products, threads)
        launch.run(query, out.array, POOLS[threads], key, value, *(() if mask is None else (mask,)))
        out.check()
        return seen[3], self.expected(scale, masks)


def check_bytes(got, expected):
    """A weight next to a tie may be rounded either way, and with it some bytes of a row of the context."""
    distance = np.abs(got.astype(np.int64) - expected)
    assert distance.max() <= 2
    assert (distance > 0).sum() <= max(2 * got.shape[-1], 1e-3 * got.size)


@bytes_only
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("size", [8, 20, 64, 80])
@pytest.mark.parametrize("tokens", [1, 17, 33, 129])
def test_bytes(tokens, size, dtype):
    check_bytes(*ByteCase(2, 3, tokens, tokens, size, size, dtype, seed=tokens).run(threads=2))


@bytes_only
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 70),
    st.integers(1, 140),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([np.uint8, np.int8]),
    st.booleans(),
    st.sampled_from([1, 2]),
)
def test_bytes_of_any_shape(batch, heads, queries, keys, size, value_size, dtype, is_float, threads):
    case = ByteCase(batch, heads, queries, keys, size, value_size, dtype, is_float=is_float, seed=keys)
    check_bytes(*case.run(threads=threads))


@bytes_only
def test_bytes_with_a_mask():
    case = ByteCase(2, 3, 19, 35, 20, 24, np.uint8)
    mask = normal(case.rng, 2, 1, 19, 35)
    mask[..., ::4] = -np.inf
    check_bytes(*case.run(mask=mask))


@bytes_only
def test_bytes_of_a_long_sequence():
    check_bytes(*ByteCase(1, 1, 40, 2000, 64, 64, np.uint8).run(threads=2))
