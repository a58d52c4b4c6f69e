"""An attention hands its kernel the places of what it reads, and writes in its own order: against NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from sparse_rt import FeedError
from sparse_rt.plan.steps.attention_step import AttentionStep
from sparse_rt.plan.steps.view import View

F32 = np.dtype(np.float32)
POOL = SimpleNamespace(threads=1)


def at(base, place, batch, heads, rows, columns):
    """Rows of an array as a kernel finds them: by an address and strides in bytes."""
    flat = base.reshape(-1)[place.at // base.itemsize :]
    strides = (place.batch, place.head, place.row, base.itemsize)
    return as_strided(flat, (batch, heads, rows, columns), strides)


class Call:
    """What the kernel would do, in NumPy."""

    def __init__(self, attention):
        self.attention = attention

    def run(self, query, out, pool, key, value):
        a = self.attention
        q = at(query, a.query, a.batch, a.heads, a.queries, a.size)
        k = at(key, a.key, a.batch, a.heads, a.keys, a.size)
        v = at(value, a.value, a.batch, a.heads, a.keys, a.value_size)
        at(out, a.out, a.batch, a.heads, a.queries, a.value_size)[...] = attend(q, k, v, a.scale)


def attend(q, k, v, scale):
    scores = np.exp(q @ k.swapaxes(-1, -2) * scale)
    return scores / scores.sum(-1, keepdims=True) @ v


def step():
    """From and to (batch, heads, tokens, size), written as (batch, tokens, heads, size)."""
    return AttentionStep(
        op_type="Softmax",
        name="s",
        inputs=("q", "k", "v"),
        x_dtypes=(F32,) * 3,
        y="y",
        y_dtype=F32,
        views=(View(),) * 3,
        perm=(0, 2, 1, 3),
        scale=0.5,
        prepare=lambda attention, biases, threads: Call(attention),
    )


def values(key_heads=3):
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 3, 5, 4), "k": (2, key_heads, 7, 4), "v": (2, key_heads, 7, 6)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("key_heads", [3, 1])
def test_y_is_the_attention_in_the_order_of_its_axes(key_heads):
    """Also where heads share one key and value."""
    held = values(key_heads)
    step().run(held, POOL)
    expected = attend(held["q"], held["k"], held["v"], 0.5).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(held["y"], expected, rtol=1e-5)


def test_operands_that_do_not_fit_are_refused():
    held = values()
    held["v"] = held["v"][:, :, :6]
    with pytest.raises(FeedError, match=r"Softmax 's'.*a value for each key.*value \(2, 3, 6, 6\)"):
        step().run(held, POOL)


def test_nothing_to_attend_from_is_no_call_and_nothing_to_attend_to_an_error():
    held = values() | {"q": np.zeros((2, 3, 0, 4), np.float32)}
    step().run(held, POOL)
    assert held["y"].shape == (2, 0, 3, 6)
    held = values()
    held |= {name: held[name][:, :, :0] for name in "kv"}
    with pytest.raises(FeedError, match="at least one key"):
        step().run(held, POOL)
