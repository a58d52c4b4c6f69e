"""What is compiled before the first run."""

import numpy as np
import pytest
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan import warm_up as warm_up_module
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.warm_up import warm_up
from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("terminal", [False, True])
def test_warm_up_runs_each_kind_of_call_once(rng, monkeypatch, terminal, capsys):
    """Where no shape is known."""
    monkeypatch.setattr(warm_up_module, "_warm", set())
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["c"]), node("MatMul", ["w", "c"], ["y"])],
        [info("x", "b", 8)],
        [info("y", 8, 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    session = sparse_session(proto)
    warm = set(warm_up_module._warm)
    assert len(warm) >= 1
    warm_up(session.plan, ThreadPool(2))
    assert warm_up_module._warm == warm


def test_calls_of_known_shapes_are_prepared_before_the_first_run(rng):
    proto = model(
        [
            node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("MaxPool", ["a"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["m", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Add", ["c", "m"], ["d"]),
            node("Conv", ["d", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        ],
        [info("x", 1, 16, 32, 32)],
        [info("y", 1, 16, 16, 16)],
        {"w": sparse(rng, 16, 16, 3, 3)},
    )
    session = sparse_session(proto)
    assert session.plan.shapes["d"] == (1, 16, 16, 16)
    (segment,) = session.plan.parts
    assert isinstance(segment, Segment)
    assert len(segment.classes) == 1
    session.run(None, {"x": normal(rng, 1, 16, 32, 32)})
    assert len(segment.classes) == 1
