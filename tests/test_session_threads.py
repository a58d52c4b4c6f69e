"""Sessions in several threads and processes."""

import os
import threading
import warnings

import numpy as np
import pytest

from tests.models.onnx_models import compare, info, model, node, normal, sparse, sparse_session


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def large(rng):
    return model(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Sigmoid", ["a"], ["s"]),
            node("Conv", ["s", "v"], ["y"], pads=[1, 1, 1, 1]),
        ],
        [info("x", "b", 16, "h", "w_")],
        [info("y", "b", 24, "h", "w_")],
        {"w": sparse(rng, 32, 16, 3, 3), "v": sparse(rng, 24, 32, 3, 3)},
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 0])
def test_thread_counts_agree(large, rng, threads):
    compare(large, {"x": normal(rng, 2, 16, 20, 21)}, layers=2, islands=1, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_concurrent_runs(large, rng, threads):
    session = sparse_session(large, threads)
    inputs = [normal(rng, 1 + number % 2, 16, 12 + number, 13) for number in range(4)]
    expected = [session.run(None, {"x": x})[0] for x in inputs]
    failures = []

    def work(number):
        try:
            for _ in range(10):
                np.testing.assert_array_equal(session.run(None, {"x": inputs[number]})[0], expected[number])
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_uses_the_session(large, rng, threads):
    session = sparse_session(large, threads)
    x = normal(rng, 2, 16, 40, 41)
    (expected,) = session.run(None, {"x": x})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks in threaded processes
        reader, writer = os.pipe()
        child = os.fork()
    if child == 0:
        equal = np.array_equal(session.run(None, {"x": x})[0], expected)
        os.write(writer, b"equal" if equal else b"other")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"equal"
    os.waitpid(child, 0)


def test_sessions_of_many_models_are_released(rng):
    for _ in range(20):
        proto = model(
            [node("MatMul", ["x", "w"], ["y"])],
            [info("x", "b", 16)],
            [info("y", "b", 8)],
            {"w": sparse(rng, 8, 16).T.copy()},
        )
        sparse_session(proto, threads=2).run(None, {"x": np.ones((300, 16), np.float32)})
    assert threading.active_count() < 12
