"""Steps in one native call: the same results as one by one, in memory that never overlaps while it is needed."""

import threading

import numpy as np
import pytest
from numba.core import config

from sparse_rt import FeedError
from sparse_rt.plan.bind import segment as segment_module
from sparse_rt.plan.bind.segment import Segment
from tests.models.onnx_models import compare, info, model, node, normal, sparse, sparse_session, stock

native = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def residual_blocks(rng, batch="b", blocks=3):
    """Convolutions with residual adds: values that live long, and adds that may be done in place."""
    nodes, x = [], "x"
    for block in range(blocks):
        a, b, y = (f"{kind}{block}" for kind in "aby")
        nodes += [
            node("Conv", [x, "w"], [a], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Conv", [a, "w"], [b], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Add", [x, b], [f"s{block}"]),
            node("Relu", [f"s{block}"], [y]),
        ]
        x = y
    return nodes, x


def residual_model(rng, batch="b", outputs=()):
    nodes, y = residual_blocks(rng)
    shape = (batch, 16, "h", "w")
    return model(
        nodes, [info("x", *shape)], [info(name, *shape) for name in (y, *outputs)], {"w": sparse(rng, 16, 16, 3, 3)}
    )


def segments(session):
    return [part for part in session.plan.parts if isinstance(part, Segment)]


@native
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("outputs", [(), ("a1",), ("y1", "b2")])
def test_a_network_is_one_segment(rng, threads, outputs):
    session = compare(residual_model(rng, outputs=outputs), {"x": normal(rng, 2, 16, 9, 11)}, threads=threads)
    assert [type(part).__name__ for part in session.plan.parts] == ["Segment"]


@native
def test_shapes_of_every_run_may_differ(rng, monkeypatch):
    monkeypatch.setattr(segment_module, "MOST_BYTES", 30_000)
    monkeypatch.setattr(segment_module, "_FEWEST_BYTES", 30_000)
    proto = residual_model(rng)
    session = sparse_session(proto, threads=2)
    for size in (5, 8, 13, 8, 1, 7, 5, 13):
        x = normal(rng, 1, 16, size, size + 3)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=2e-4, atol=2e-4)
    assert segments(session)[0].classes.nbytes <= 30_000


@native
def test_empty_batches(rng):
    session = sparse_session(residual_model(rng))
    assert session.run(None, {"x": np.zeros((0, 16, 4, 4), np.float32)})[0].shape == (0, 16, 4, 4)


@native
def test_feeds_of_any_layout(rng):
    proto = residual_model(rng)
    session = sparse_session(proto)
    x = normal(rng, 9, 11, 2, 16).transpose(2, 3, 0, 1)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=2e-4, atol=2e-4)


@native
def test_outputs_are_not_written_again(rng):
    session = sparse_session(residual_model(rng, outputs=("a1",)))
    x = normal(rng, 1, 16, 8, 8)
    first = session.run(None, {"x": x})
    copies = [y.copy() for y in first]
    session.run(None, {"x": x + 1})
    for y, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(y, copy)


@native
def test_threads_run_one_session_at_once(rng):
    session = sparse_session(residual_model(rng), threads=2)
    feeds = [normal(rng, 1, 16, 8 + number, 8) for number in range(4)]
    expected = [session.run(None, {"x": x})[0] for x in feeds]
    wrong = []

    def call(x, y):
        wrong.extend(1 for _ in range(50) if not np.array_equal(session.run(None, {"x": x})[0], y))

    callers = [threading.Thread(target=call, args=pair) for pair in zip(feeds, expected, strict=True)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@native
def test_memory_is_reused_between_steps(rng):
    session = sparse_session(residual_model(rng))
    session.run(None, {"x": normal(rng, 1, 16, 16, 16)})
    bound = segments(session)[0].classes.latest
    # What is live at once: the residual, a convolution's input and its output.
    assert bound.nbytes <= 3 * 4 * 16 * 16 * 16


@native
def test_a_view_of_a_feed_is_copied(rng):
    proto = model(
        [
            node("Reshape", ["x", "shape"], ["v"]),
            node("MatMul", ["v", "w"], ["y"]),
        ],
        [info("x", 2, 4, 8)],
        [info("y", 8, 8), info("v", 8, 8)],
        {"w": sparse(rng, 8, 8).T.copy(), "shape": np.array([8, 8])},
    )
    x = normal(rng, 2, 4, 8)
    session = sparse_session(proto)
    _, view = session.run(None, {"x": x})
    assert not np.may_share_memory(view, x)
    np.testing.assert_array_equal(view.reshape(-1), x.reshape(-1))


@native
def test_a_value_and_its_other_shape_are_two_outputs(rng):
    proto = model(
        [
            node("MatMul", ["x", "w"], ["y"]),
            node("Reshape", ["y", "shape"], ["v"]),
            node("MatMul", ["v", "w"], ["z"]),
        ],
        [info("x", 6, 8)],
        [info("y", 6, 8), info("v", 2, 3, 8), info("z", 2, 3, 8)],
        {"w": sparse(rng, 8, 8).T.copy(), "shape": np.array([2, 3, 8])},
    )
    session = compare(proto, {"x": normal(rng, 6, 8)})
    y, v, _ = session.run(None, {"x": normal(rng, 6, 8)})
    assert not np.may_share_memory(y, v)


@native
def test_an_island_between_segments(rng):
    nodes, y = residual_blocks(rng, blocks=1)
    nodes += [
        node("CumSum", [y, "axis"], ["c"]),
        node("Conv", ["c", "w"], ["d"], kernel_shape=[3, 3]),
        node("Add", ["d", "d"], ["e"]),
        node("Conv", ["e", "w"], ["z"], kernel_shape=[3, 3]),
    ]
    proto = model(
        nodes,
        [info("x", "b", 16, 9, 9)],
        [info("z", "b", 16, 5, 5)],
        {"w": sparse(rng, 16, 16, 3, 3), "axis": np.array(1)},
    )
    session = compare(proto, {"x": normal(rng, 2, 16, 9, 9)}, tolerance=1e-4)
    assert [type(part).__name__ for part in session.plan.parts] == ["Segment", "OnnxRuntimeStep", "Segment"]


@native
def test_operands_that_are_broadcast_run_one_by_one(rng):
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("MatMul", ["z", "w"], ["b"]),
            node("Add", ["a", "b"], ["c"]),
            node("MatMul", ["c", "w"], ["y"]),
        ],
        [info("x", "n", 4, 8), info("z", "m", 8)],
        [info("y", "n", 4, 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    for rows in (4, 1):
        compare(proto, {"x": normal(rng, 3, 4, 8), "z": normal(rng, rows, 8)})


@native
def test_shapes_that_fit_nothing_are_refused(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "z"], ["c"]), node("MatMul", ["c", "w"], ["y"])],
        [info("x", "n", 8), info("z", "m", 8)],
        [info("y", "k", 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    session = sparse_session(proto)
    with pytest.raises(FeedError, match="broadcast"):
        session.run(None, {"x": normal(rng, 3, 8), "z": normal(rng, 4, 8)})
