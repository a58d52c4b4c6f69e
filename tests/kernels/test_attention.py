"""Attention against its definition in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from sparse_rt_kernels.attention import Attention, Place, is_available, prepare_attention
from sparse_rt_kernels.parallel import ThreadPool

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
