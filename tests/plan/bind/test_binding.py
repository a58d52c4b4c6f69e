"""Steps that are alike, bound at once: each multiplies by its own weight, in every shape, within bounded memory."""

import gc

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.threads.launch_family import LaunchFamily

from sparse_rt import InferenceSession, SessionOptions
from sparse_rt.plan.bind import binding
from sparse_rt.plan.bind import segment as segment_module
from sparse_rt.plan.bind.segment import LAID_OUT_AT, Segment
from sparse_rt.plan.bind.shape_classes import MISSING, ShapeClasses
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models.onnx_models import info, model, node, normal, sparse, stock

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")

LAYERS = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def perceptron(rng, size=24, layers=LAYERS):
    """Layers of one size, each with a weight and a bias of its own, every second one clipped, and normalisations."""
    nodes, values, x = [], {}, "x"
    for i in range(layers):
        nodes += [node("MatMul", [x, f"w{i}"], [f"m{i}"]), node("Add", [f"m{i}", f"b{i}"], [f"a{i}"])]
        values |= {f"w{i}": sparse(rng, size, size).T.copy(), f"b{i}": normal(rng, size)}
        values |= {f"g{i}": normal(rng, size), f"h{i}": normal(rng, size)}
        x = f"a{i}"
        if i % 2:
            nodes.append(node("Relu", [x], [f"r{i}"]))
            x = f"r{i}"
        nodes.append(node("LayerNormalization", [x, f"g{i}", f"h{i}"], [f"n{i}"]))
        x = f"n{i}"
    return model(nodes, [info("x", "rows", size)], [info(x, "rows", size)], values)


def convolutional(rng, kernel, channels=16, layers=LAYERS):
    nodes, values, x = [], {}, "x"
    for i in range(layers):
        nodes.append(node("Conv", [x, f"w{i}", f"b{i}"], [f"y{i}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4))
        values |= {f"w{i}": sparse(rng, channels, channels, kernel, kernel), f"b{i}": normal(rng, channels)}
        x = f"y{i}"
    shape = ("n", channels, "h", "w")
    return model(nodes, [info("x", *shape)], [info(x, *shape)], values)


def quantised(rng, kernel, channels=32, layers=LAYERS):
    """QDQ convolutions, or products for a kernel of 0, each with a weight and scale of its own."""
    nodes, x = [node("QuantizeLinear", ["x", "s", "z"], ["q"])], "q"
    values = {"s": np.float32(0.05), "z": np.uint8(110), "wz": np.int8(0)}
    for i in range(layers):
        shape = (channels, channels, kernel, kernel) if kernel else (channels, channels)
        weight = np.clip(np.round(sparse(rng, *shape) * 90), -127, 127).astype(np.int8)
        values |= {f"w{i}": weight if kernel else weight.T.copy(), f"t{i}": np.float32(rng.uniform(0.005, 0.02))}
        nodes += [
            node("DequantizeLinear", [x, "s", "z"], [f"d{i}"]),
            node("DequantizeLinear", [f"w{i}", f"t{i}", "wz"], [f"v{i}"]),
            node("Conv", [f"d{i}", f"v{i}"], [f"y{i}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
            if kernel
            else node("MatMul", [f"d{i}", f"v{i}"], [f"y{i}"]),
            node("QuantizeLinear", [f"y{i}", "s", "z"], [f"q{i}"]),
        ]
        x = f"q{i}"
    nodes.append(node("DequantizeLinear", [x, "s", "z"], ["y"]))
    shape = ("n", channels, "h", "w") if kernel else ("n", channels)
    return model(nodes, [info("x", *shape)], [info("y", *shape)], values)


MODELS = {
    "products": (perceptron, [(5, 24), (40, 24), (1, 24), (0, 24), (17, 24), (5, 24), (70, 24)]),
    "1x1": (lambda rng: convolutional(rng, 1), [(1, 16, 8, 8), (2, 16, 7, 5), (1, 16, 1, 3), (1, 16, 8, 8)]),
    "3x3": (lambda rng: convolutional(rng, 3), [(1, 16, 8, 8), (2, 16, 7, 5), (1, 16, 1, 3), (3, 16, 20, 9)]),
    "int8 products": (lambda rng: quantised(rng, 0), [(5, 32), (64, 32), (1, 32), (0, 32), (33, 32)]),
    "int8 1x1": (lambda rng: quantised(rng, 1), [(1, 32, 8, 8), (2, 32, 7, 7), (1, 32, 3, 5), (2, 32, 7, 7)]),
    "int8 3x3": (lambda rng: quantised(rng, 3), [(1, 32, 8, 8), (2, 32, 7, 7), (1, 32, 3, 5), (2, 32, 7, 7)]),
}


def session_of(proto, threads=1, tier=None):
    options = SessionOptions(intra_op_num_threads=threads, tuning="sparse")
    options.kernel_tier = tier
    return InferenceSession(proto, options)


def segments(session):
    return [part for part in session.plan.parts if isinstance(part, Segment)]


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


def test_the_class_used_longest_ago_goes_first():
    classes = ShapeClasses(100)
    for key in "abcd":
        classes.put(key, key.upper(), 25)
    assert classes.get("a") == "A"
    classes.put("e", "E", 50)
    assert [classes.get(key) for key in "bcdae"] == [MISSING, MISSING, "D", "A", "E"]
    classes.put("f", "F", 1000)
    assert (len(classes), classes.nbytes, classes.latest) == (1, 1000, "F")
    classes.put("f", None, 0)
    assert (classes.get("f"), classes.nbytes) == (None, 0)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("kind", ["products", "int8 products"])
def test_thousands_of_shapes_take_bounded_memory(rng, kind, monkeypatch):
    monkeypatch.setattr(segment_module, "MOST_BYTES", 1 << 20)
    session = session_of(MODELS[kind][0](rng))
    columns = MODELS[kind][1][0][1]

    def run(first, last):
        for rows in range(first, last):
            session.run(None, {"x": np.ones((rows % 700 + 1 if rows % 2 else rows // 7 + 1, columns), np.float32)})

    run(0, 1500)
    gc.collect()
    before = resident_bytes()
    run(1500, 5000)
    gc.collect()
    assert resident_bytes() - before < 24 << 20
    assert segments(session)[0].classes.nbytes <= 1 << 20
