"""A Pad before a convolution: whatever it does, the answer is onnxruntime's without optimisations."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.graph import model_io
from sparse_rt.graph.passes.compress import compress
from sparse_rt.plan.prepare.prepare import prepare
from tests.models.onnx_models import INT64, info, model, node, normal, sparse, sparse_session, stock


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def padded(rng, pads, *, axes=None, value=None, mode=None, opset=18, size=(5, 6), shapes=True, attributes=None):
    """x -> Pad -> Conv, and what the Pad reads; `pads` None is an input of the model."""
    rank = 2 + len(size)
    constants = {"w": sparse(rng, 8, 8, *(3,) * len(size))}
    inputs = [info("x", "b", 8, *size) if shapes else info("x", *(None,) * rank)]
    if pads is None:
        inputs.append(info("pads", 2 * rank, kind=INT64))
    else:
        constants["pads"] = np.array(pads, np.int64)
    names = ["x", "pads"]
    if value is not None or axes is not None:
        names.append("value" if value is not None else "")
        constants |= {"value": value} if value is not None else {}
    if axes is not None:
        names.append("axes")
        constants["axes"] = np.array(axes)
    nodes = [
        node("Pad", names, ["p"], **({} if mode is None else {"mode": mode})),
        node("Conv", ["p", "w"], ["y"], name="layer", **(attributes or {})),
    ]
    return model(nodes, inputs, [info("y", *(None,) * rank)], constants, opset=opset)


def check(proto, feeds, *, absorbed, capfd=None):
    """Judge the plain and the compressed model."""
    (expected,) = stock(proto, feeds, optimise=False)
    for form in (proto, compress(proto)):
        operators = [item.op_type for item in prepare(model_io.read(form)).graph]
        assert ("Pad" not in operators) == absorbed, operators
        (y,) = sparse_session(form).run(None, feeds)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5 * max(1.0, np.abs(expected).max(initial=0)))
    if capfd is not None:
        assert capfd.readouterr().out == ""


ABSORBED = {
    "constant": {"pads": [0, 0, 1, 2, 0, 0, 0, 3]},
    "one side": {"pads": [0, 0, 2, 0, 0, 0, 0, 0]},
    "nothing": {"pads": [0] * 8},
    "value 0": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": np.float32(0)},
    "value -0": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": np.float32(-0.0)},
    "mode": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "constant"},
    "and its own": {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "attributes": {"pads": [1, 0, 2, 1], "strides": [2, 1]}},
    "dilated": {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "attributes": {"dilations": [2, 1]}},
    "valid": {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "attributes": {"auto_pad": "VALID"}},
    "1-D": {"pads": [0, 0, 2, 0, 0, 1], "size": (7,)},
    "no shapes": {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "shapes": False},
    "opset 11": {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "opset": 11},
}
KEPT = {
    "negative": {"pads": [0, 0, -1, -1, 0, 0, -1, -1]},
    "negative and positive": {"pads": [0, 0, -1, 2, 0, 0, 2, -1]},
    "one negative": {"pads": [0, 0, 1, 1, 0, 0, 1, -1]},
    "as much cropped as added": {"pads": [0, 0, 1, 1, 0, 0, -1, -1]},
    "cropped, the convolution pads": {"pads": [0, 0, -1, -1, 0, 0, 0, 0], "attributes": {"pads": [1] * 4}},
    "batch": {"pads": [1, 0, 1, 1, 0, 0, 1, 1]},
    "channels": {"pads": [0, 1, 0, 0, 0, 1, 0, 0], "channels": 6},
    "channels cropped": {"pads": [0, -1, 0, 0, 0, -1, 0, 0], "channels": 10},
    "value 1": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": np.float32(1)},
    "value tiny": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": np.float32(1e-30)},
    "reflect": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"},
    "edge": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "edge"},
    "wrap": {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "wrap", "opset": 19},
    "same upper": {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "attributes": {"auto_pad": "SAME_UPPER", "strides": [2, 2]}},
    "same lower": {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "attributes": {"auto_pad": "SAME_LOWER", "strides": [2, 2]}},
}
AXES = {
    "axes": ([1, 2, 0, 3], [2, 3], True),
    "axes backwards": ([1, 2, 0, 3], [3, 2], True),
    "one axis": ([1, 2], [3], True),
    "negative axes": ([1, 2, 0, 3], [-1, -2], True),
    "axis of channels": ([1, 1], [1], False),
    "negative axis of channels": ([1, 1], [-3], False),
    "axis of the batch": ([0, 1], [0], False),
    "axes, negative": ([1, -1, 0, 1], [2, 3], False),
    "all axes": ([0, 0, 1, 2, 0, 0, 2, 1], [0, 1, 2, 3], True),
    "all axes, turned": ([1, 2, 0, 0, 2, 1, 0, 0], [3, 2, 1, 0], True),
}


def case(rng, settings):
    settings = dict(settings)
    channels = settings.pop("channels", 8)
    proto = padded(rng, **settings)
    size = settings.get("size", (5, 6))
    if channels != 8:
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    return proto, {"x": normal(rng, 2, channels, *size)}


@pytest.mark.parametrize("name", ABSORBED)
def test_zeros_around_an_image_become_the_convolutions(rng, name, capfd):
    check(*case(rng, ABSORBED[name]), absorbed=True, capfd=capfd)


@pytest.mark.parametrize("name", KEPT)
def test_everything_else_stays_a_pad(rng, name, capfd):
    check(*case(rng, KEPT[name]), absorbed=False, capfd=capfd)


@pytest.mark.parametrize("name", AXES)
def test_axes(rng, name):
    pads, axes, absorbed = AXES[name]
    proto = padded(rng, pads, axes=axes)
    channels = 6 if axes in ([1], [-3]) else 8
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    feeds = {"x": normal(rng, 2, channels, 5, 6)}
    (expected,) = stock(proto, feeds, optimise=False)
    assert ("Pad" not in [item.op_type for item in prepare(model_io.read(proto)).graph]) == absorbed
    np.testing.assert_allclose(sparse_session(proto).run(None, feeds)[0], expected, rtol=2e-5, atol=2e-4)
    # Compressed, a weight has no shape that tells the rank: only the answer is promised.
    np.testing.assert_allclose(sparse_session(compress(proto)).run(None, feeds)[0], expected, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("fed", [[0, 0, 1, 1, 0, 0, 1, 1], [0, 0, -1, 0, 0, 0, 0, -1]])
def test_pads_that_are_fed_stay(rng, fed):
    check(padded(rng, None), {"x": normal(rng, 2, 8, 5, 6), "pads": np.array(fed)}, absorbed=False)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_pads_by_attribute(rng, value):
    proto = model(
        [
            node("Pad", ["x"], ["p"], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=value),
            node("Conv", ["p", "w"], ["y"], name="layer"),
        ],
        [info("x", "b", 8, 5, 6)],
        [info("y", *(None,) * 4)],
        {"w": sparse(rng, 8, 8, 3, 3)},
        opset=10,
    )
    feeds = {"x": normal(rng, 2, 8, 5, 6)}
    assert ("Pad" in [item.op_type for item in prepare(model_io.read(proto)).graph]) == (value != 0)
    np.testing.assert_allclose(
        sparse_session(proto).run(None, feeds)[0], stock(proto, feeds, optimise=False)[0], rtol=2e-5, atol=2e-4
    )


def test_two_pads_and_two_readers(rng):
    proto = padded(rng, [0, 0, 1, 2, 0, 0, 0, 3])
    second = node("Pad", ["p", "pads"], ["q"])
    convolutions = [node("Conv", [x, "w"], [y], name=y) for x, y in (("q", "y"), ("p", "z"))]
    del proto.graph.node[1:]
    proto.graph.node.extend([second, *convolutions, node("Relu", ["p"], ["r"])])
    proto.graph.output.extend([info("z", *(None,) * 4), info("r", *(None,) * 4)])
    feeds = {"x": normal(rng, 2, 8, 5, 6)}
    expected = stock(proto, feeds, optimise=False)
    found = sparse_session(proto).run(None, feeds)
    for y, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, reference, rtol=2e-5, atol=2e-4)
    graph = prepare(model_io.read(proto)).graph
    pads = {item.name: item.attributes.get_ints("pads") for item in graph if item.op_type == "Conv"}
    assert {name: list(value) for name, value in pads.items()} == {"y": [2, 4, 0, 6], "z": [1, 2, 0, 3]}
    assert [item.op_type for item in graph].count("Pad") == 1


def test_random_pads(rng):
    """Any numbers from -2 to 2, around the image and its channels, before any pads of the convolution's own."""
    absorbed = 0
    for _ in range(40):
        pads = rng.integers(-2 if rng.random() < 0.5 else 0, 3, 8)
        pads[[0, 1, 4, 5]] = 0
        if rng.random() < 0.3:
            pads[[1, 5]] = rng.integers(-2, 3, 2)
        channels = 8 - int(pads[1] + pads[5])
        own = rng.integers(0, 3, 4).tolist()
        proto = padded(rng, pads, shapes=False)
        proto.graph.node[1].attribute.append(ir.to_proto(ir.AttrInt64s("pads", own)))
        feeds = {"x": normal(rng, 1, channels, 6, 7)}
        (expected,) = stock(proto, feeds, optimise=False)
        np.testing.assert_allclose(sparse_session(proto).run(None, feeds)[0], expected, rtol=2e-5, atol=2e-4)
        absorbed += "Pad" not in [item.op_type for item in prepare(model_io.read(proto)).graph]
    assert 5 < absorbed < 30
