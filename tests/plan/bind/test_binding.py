"""Steps that are alike, bound at once: each multiplies by its own weight, in every shape, within bounded memory."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.threads.launch_family import LaunchFamily

from sparse_rt.plan.bind import binding
from sparse_rt.plan.bind.segment import LAID_OUT_AT
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models.onnx_models import info, model, node, normal, sparse, stock
from tests.plan.bind.bindings import LAYERS, MODELS, perceptron, quantised, segments, session_of

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def one_by_one(session, feeds):
    """Run every step of the plan on its own, as it is prepared for itself alone."""
    values = {**session.plan.constants, **feeds}
    for step in session.plan.steps:
        step.run(values, session.pool)
    return values[session.get_outputs()[0].name]


@pytest.mark.parametrize("tier", isa.supported_tiers()[:2])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_bound_at_once_computes_what_each_step_computes(rng, kind, threads, tier):
    make, shapes = MODELS[kind]
    proto = make(rng)
    session = session_of(proto, threads, tier)
    for shape in shapes:
        x = normal(rng, *shape)
        for _ in range(LAID_OUT_AT):  # as it is first seen, and as it is laid out
            (y,) = session.run(None, {"x": x})
            np.testing.assert_array_equal(y, one_by_one(session, {"x": x}))
        if y.size:
            np.testing.assert_allclose(
                y, stock(proto, {"x": x})[0], rtol=2e-3, atol=2e-3 if "int8" not in kind else 0.06
            )


def two_towers(rng):
    """Two inputs through layers that are alike; their shapes may be equal or not."""
    proto = model(
        [
            node("MatMul", ["x", "w0"], ["a"]),
            node("MatMul", ["z", "w1"], ["b"]),
            node("MatMul", ["a", "w2"], ["c"]),
            node("MatMul", ["b", "w3"], ["d"]),
        ],
        [info("x", "n", 24), info("z", "m", 24)],
        [info("c", "n", 24), info("d", "m", 24)],
        {f"w{i}": sparse(rng, 24, 24).T.copy() for i in range(4)},
    )
    rows = [(4, 4), (4, 9), (7, 7), (9, 4), (3, 5), (6, 6), (0, 5), (5, 0)]
    return proto, [{"x": normal(rng, n, 24), "z": normal(rng, m, 24)} for n, m in rows]


def strided(rng):
    """Of a small image all values have the shape of the first, of larger ones each has its own."""
    nodes, values, x = [], {}, "x"
    for i in range(4):
        nodes.append(node("Conv", [x, f"w{i}"], [f"y{i}"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]))
        values[f"w{i}"] = sparse(rng, 16, 16, 3, 3)
        x = f"y{i}"
    proto = model(nodes, [info("x", "n", 16, "h", "w")], [info(x, "n", 16, "p", "q")], values)
    sizes = [(1, 1), (16, 16), (2, 1), (1, 1), (5, 9), (1, 2), (30, 2)]
    return proto, [{"x": normal(rng, 1, 16, *size)} for size in sizes]


@pytest.mark.parametrize("make", [two_towers, strided])
def test_shapes_that_are_equal_by_accident_say_nothing_of_others(rng, make):
    proto, feeds = make(rng)
    for order in (feeds, feeds[::-1]):
        session = session_of(proto)
        for feed in order:
            for y, expected in zip(session.run(None, feed), stock(proto, feed), strict=True):
                np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)


def test_a_new_shape_is_bound_once_for_each_kind_of_step(rng, monkeypatch):
    """However many layers there are: what they have in common is found once, the rest filled in at once."""
    session = session_of(perceptron(rng, layers=40))
    for rows in (30, 29):
        session.run(None, {"x": normal(rng, rows, 24)})
    bound, bind = [], SparseStep.bind
    monkeypatch.setattr(SparseStep, "bind", lambda step, *of: bound.append(step) or bind(step, *of))
    session.run(None, {"x": normal(rng, 11, 24)})
    assert len(bound) == 2


def test_shapes_that_come_often_are_laid_out(rng):
    session = session_of(quantised(rng, 3))
    (segment,) = segments(session)
    names = []
    for size in (7, *(14,) * LAID_OUT_AT):
        session.run(None, {"x": normal(rng, 1, 32, size, size)})
        names.append(any(step.y.endswith("/NCHWc8") for step in segment.current_steps()))
    if names[0]:  # kernels of this CPU know blocks
        assert names == [True, *[False] * (LAID_OUT_AT - 1), True]


def test_layers_that_are_alike_are_prepared_once(rng, monkeypatch):
    made = []
    monkeypatch.setattr(binding, "LaunchFamily", lambda *of: made.append(LaunchFamily(*of)) or made[-1])
    session_of(perceptron(rng)).run(None, {"x": normal(rng, 9, 24)})
    # Layers that clip, those that do not, normalisations.
    assert sorted(len(family.addresses) for family in made) == [LAYERS // 2, LAYERS // 2, LAYERS]


def test_a_family_says_what_its_members_say(rng):
    """Members are launches of their own, too: verify runs them one by one."""
    session = session_of(perceptron(rng))
    x = normal(rng, 9, 24)
    (expected,) = session.run(None, {"x": x})
    (segment,) = segments(session)
    seen, values = {}, {"x": x}
    assert segment.show(values, session.pool, lambda step, y: seen.update({step.y: y}))
    last = session.get_outputs()[0].name
    np.testing.assert_array_equal(values[last], expected)
    np.testing.assert_array_equal(seen[last], expected)
    assert len(seen) == 2 * LAYERS
