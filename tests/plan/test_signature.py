"""Feeds are held to the declared inputs before anything runs, and reach kernels as plain arrays, however they lie."""

import numpy as np
import pytest

from sparse_rt import FeedError
from sparse_rt.plan.signature import NodeArg, Signature

X = NodeArg("x", "tensor(float)", ["b", 3])
C = NodeArg("c", "tensor(int64)", [2])
Y = NodeArg("y", "tensor(float)", ["b", 3])
SIGNATURE = Signature((X,), (C,), (Y,))
FEED = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "feed",
    [FEED, FEED.astype(">f4"), np.asfortranarray(FEED), FEED.tolist(), np.repeat(FEED, 2, axis=1)[:, ::2]],
    ids=["plain", "other byte order", "other order of axes", "list", "strides"],
)
def test_the_same_numbers_come_out_plain(feed):
    checked = SIGNATURE.checked({"x": feed, "c": np.zeros(2, np.int64)})
    np.testing.assert_array_equal(checked["x"], FEED)
    assert checked["x"].dtype == np.float32
    assert checked["x"].flags.c_contiguous
    assert checked["x"].flags.aligned


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ({}, r"expected the inputs \['x'\]"),
        ({"x": FEED, "z": FEED}, r"expected input names among \['x', 'c'\], got 'z'"),
        ({"x": FEED.astype(np.float64)}, r"input 'x': expected float32, got float64"),
        ({"x": FEED[0]}, r"input 'x': expected 2 axes"),
        ({"x": np.zeros((2, 4), np.float32)}, r"input 'x': expected 3 elements on axis 1"),
        ({"x": "text"}, r"input 'x': expected an array, tensor\(float\), got str"),
        ([FEED], r"expected a dict of arrays"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(feeds, expected):
    with pytest.raises(FeedError, match=expected):
        SIGNATURE.checked(feeds)


def test_outputs_by_name_or_all():
    assert SIGNATURE.output_names(None) == SIGNATURE.output_names([]) == ["y"]
    assert SIGNATURE.fed == {"x", "c"}
    for names in ("y", ["z"], 3):
        with pytest.raises(FeedError, match="output names"):
            SIGNATURE.output_names(names)
