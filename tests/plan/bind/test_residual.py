"""Layers that add a residual themselves: which Add a layer takes over, and the same results as stock onnxruntime."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.product import registry

from sparse_rt.errors import FeedError
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models.onnx_models import compare, info, model, node, normal, sparse, sparse_session

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="Add is a step of ours as machine code only"),
    pytest.mark.skipif(
        not registry.select("f32", "n2m4").adds_residual, reason="no kernel of this tier adds a residual"
    ),
]


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def described(session):
    """The steps: names of layers, with a + for those that add a residual, and operators."""
    return [
        step.name + "+" * (step.residual is not None) if isinstance(step, SparseStep) else step.describe().split()[0]
        for step in session.plan.steps
    ]


def conv_model(rng, after, outputs=("y",), batch=2, **initializers):
    """Two 3x3 convolutions of 8 channels, x -> a and x -> b, in this order, and what comes after them."""
    nodes = [node("Conv", ["x", f"w_{name}", "bias"], [name], name=f"layer_{name}", pads=[1, 1, 1, 1]) for name in "ab"]
    weights = {f"w_{name}": sparse(rng, 8, 8, 3, 3) for name in "ab"} | {"bias": normal(rng, 8)}
    shapes = [info(name, "batch", 8, "h", "w") for name in outputs]
    return model([*nodes, *after], [info("x", batch, 8, 7, 9)], shapes, weights | initializers)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [2, "batch"])
@pytest.mark.parametrize("inputs", [("a", "x"), ("x", "a")])
def test_residual_that_is_fed(rng, inputs, batch, threads):
    proto = conv_model(rng, [node("Add", inputs, ["s"]), node("Relu", ["s"], ["y"])], batch=batch)
    session = compare(proto, {"x": normal(rng, 2, 8, 7, 9)}, threads=threads)
    assert described(session) == ["layer_a+"]


@pytest.mark.parametrize("inputs", [("a", "b"), ("b", "a")])
def test_the_later_of_two_layers_adds(rng, inputs):
    """As in the first block of a ResNet's stage."""
    session = compare(conv_model(rng, [node("Add", inputs, ["y"])]), {"x": normal(rng, 2, 8, 7, 9)})
    assert described(session) == ["layer_a", "layer_b+"]
    assert session.plan.steps[1].inputs == ("x", "a")


def test_each_layer_adds_once(rng):
    """a + x, then + b: the second Add is left to the other layer, which comes before the first; it moves behind it."""
    after = [node("Add", ["a", "x"], ["s"]), node("Add", ["s", "b"], ["y"])]
    session = compare(conv_model(rng, after), {"x": normal(rng, 2, 8, 7, 9)})
    assert described(session) == ["layer_a+", "layer_b+"]


def test_a_third_add_stays(rng):
    after = [node("Add", ["a", "x"], ["s"]), node("Add", ["s", "b"], ["t"]), node("Add", ["t", "x"], ["y"])]
    session = compare(conv_model(rng, after), {"x": normal(rng, 2, 8, 7, 9)})
    assert described(session) == ["layer_a+", "layer_b+", "Add"]


@pytest.mark.parametrize("outputs", [("y",), ("y", "a")])
def test_a_layer_that_somebody_else_reads_does_not_add(rng, outputs):
    after = [node("Add", ["a", "x"], ["s"]), node("Relu", ["s"], ["y"])]
    if outputs == ("y",):
        after = [node("Add", ["a", "x"], ["s"]), node("Mul", ["a", "a"], ["q"]), node("Sub", ["s", "q"], ["y"])]
    session = compare(conv_model(rng, after, outputs), {"x": normal(rng, 2, 8, 7, 9)})
    assert "layer_a" in described(session)


def test_a_value_added_to_itself(rng):
    session = compare(conv_model(rng, [node("Add", ["a", "a"], ["y"])]), {"x": normal(rng, 2, 8, 7, 9)})
    assert described(session) == ["layer_a", "Add"]


def test_a_layer_that_clips_does_not_add(rng):
    """y = clip(relu(layer) + x) has two clips, a kernel one."""
    after = [node("Relu", ["a"], ["r"]), node("Add", ["r", "x"], ["y"])]
    session = compare(conv_model(rng, after), {"x": normal(rng, 2, 8, 7, 9)})
    assert described(session) == ["layer_a", "Add"]


def test_the_other_layer_adds_if_the_later_one_clips(rng):
    after = [node("Relu", ["b"], ["r"]), node("Add", ["r", "a"], ["s"]), node("Clip", ["s", "low", "high"], ["y"])]
    proto = conv_model(rng, after, low=np.float32(-0.5), high=np.float32(1))
    assert described(compare(proto, {"x": normal(rng, 2, 8, 7, 9)})) == ["layer_b", "layer_a+"]


def matmul_model(rng, shape, wide=16):
    nodes = [node("MatMul", ["x", "w"], ["a"], name="layer"), node("Add", ["a", "u"], ["y"])]
    y = [info("y", *[f"d{axis}" for axis in range(len(shape))])]
    return model(nodes, [info("x", "r", 8), info("u", *shape)], y, {"w": sparse(rng, wide, 8).T.copy()})


@pytest.mark.parametrize("rows", [0, 1, 5, 100])
def test_residual_of_a_matmul(rng, rows):
    session = compare(matmul_model(rng, ("r", 16)), {"x": normal(rng, rows, 8), "u": normal(rng, rows, 16)})
    assert described(session) == ["layer+"]


@pytest.mark.parametrize("shape", [(1, 16), (5, 1), (1, 1), (5, 16), (3, 5, 16), (2, 1, 16)])
def test_a_residual_of_another_shape_is_broadcast(rng, shape):
    """Only a run tells the shapes; y may be larger than what the layer alone gives."""
    session = compare(
        matmul_model(rng, [f"s{axis}" for axis in shape]), {"x": normal(rng, 5, 8), "u": normal(rng, *shape)}
    )
    assert described(session) == ["layer+"]


def test_a_residual_known_to_be_of_another_shape_stays_with_the_add(rng):
    proto = matmul_model(rng, (1, 16))
    proto.graph.input[0].CopyFrom(info("x", 5, 8))
    assert described(compare(proto, {"x": normal(rng, 5, 8), "u": normal(rng, 1, 16)})) == ["layer", "Add"]


def test_a_residual_that_does_not_fit_is_refused(rng):
    session = sparse_session(matmul_model(rng, ("p", "q")))
    with pytest.raises(FeedError, match="broadcast"):
        session.run(None, {"x": normal(rng, 5, 8), "u": normal(rng, 4, 16)})


def test_constant_on_the_left(rng):
    """Y = W X + U: channels are rows."""
    nodes = [node("MatMul", ["w", "x"], ["a"], name="layer"), node("Add", ["a", "u"], ["y"])]
    shapes = [info("x", "b", 8, "m"), info("u", "b", 16, "m")]
    proto = model(nodes, shapes, [info("y", "b", 16, "m")], {"w": sparse(rng, 16, 8)})
    session = compare(proto, {"x": normal(rng, 3, 8, 33), "u": normal(rng, 3, 16, 33)})
    assert described(session) == ["layer+"]


@pytest.mark.parametrize("inner", [[], [node("Conv", ["v", "w_b", "bias"], ["r"], name="inner", pads=[1, 1, 1, 1])]])
@pytest.mark.parametrize("threads", [1, 2])
def test_residual_that_nobody_reads_later_is_overwritten_unless_it_is_x(rng, inner, threads):
    """In a segment: v is the residual, and in one case what the layer reads, too."""
    x = "r" if inner else "v"
    after = [
        node("Relu", ["a"], ["v"]),
        *inner,
        node("Conv", [x, "w_b", "bias"], ["c"], name="last", pads=[1, 1, 1, 1]),
        node("Add", ["c", "v"], ["s"]),
        node("Relu", ["s"], ["t"]),
        node("Conv", ["t", "w_a"], ["y"], name="next", pads=[1, 1, 1, 1]),
    ]
    session = compare(conv_model(rng, after, batch="batch"), {"x": normal(rng, 2, 8, 7, 9)}, threads=threads)
    assert described(session) == ["layer_a", *["inner"] * len(inner), "last+", "next"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_layer_that_adds_its_own_input_does_not_write_over_it(rng, threads):
    """Another task may still read there what this one writes."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="before"),
        node("Conv", ["a", "w"], ["b"], name="layer"),
        node("Add", ["b", "a"], ["c"]),
        node("Conv", ["c", "w"], ["y"], name="after"),
    ]
    shape = (1, 32, 14, 14)
    proto = model(nodes, [info("x", *shape)], [info("y", *shape)], {"w": sparse(rng, 32, 32, 1, 1)})
    feeds = {"x": normal(rng, *shape)}
    session = compare(proto, feeds, threads=threads)
    assert described(session) == ["before", "layer+", "after"]
    assert session.plan.steps[1].overwrites == ()
    expected = sparse_session(proto).run(None, feeds)[0]
    for _ in range(50):
        np.testing.assert_array_equal(session.run(None, feeds)[0], expected)
