"""Pooling of every size: outputs that are empty, windows that are cut short, images without a pixel."""

import itertools

import numpy as np
import pytest
from numba.core import config

from sparse_rt.errors import SparseRTError
from tests.models.onnx_models import UINT8, info, model, node, normal, sparse, sparse_session, stock

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


def chain(op_type, dtype, opset=17, layer_first=True, **attributes):
    """A convolution and pooling, one after the other; the pooled image is the output."""
    rng = np.random.default_rng(4)
    held = {"w": sparse(rng, 8, 8, 1, 1), "s": np.float32(0.02), "z": np.uint8(100)}
    x, p = ("c", "y") if layer_first else ("x", "y")
    layer = node("Conv", ["x", "w"], ["c"]) if layer_first else node("Conv", ["y", "w"], ["c"])
    nodes = [node(op_type, [x], [p], **attributes)]
    kind = 1
    if dtype == "u1":
        kind = UINT8
        held |= {"wq": np.round(held["w"] * 90).astype(np.int8), "ws": np.float32(0.013), "zero": np.int8(0)}
        layer = [
            node("DequantizeLinear", ["x" if layer_first else "y", "s", "z"], ["xf"]),
            node("DequantizeLinear", ["wq", "ws", "zero"], ["wf"]),
            node("Conv", ["xf", "wf"], ["cf"]),
            node("QuantizeLinear", ["cf", "s", "z"], ["c"]),
        ]
        nodes = [
            node("DequantizeLinear", [x, "s", "z"], ["pf"]),
            node(op_type, ["pf"], ["py"], **attributes),
            node("QuantizeLinear", ["py", "s", "z"], [p]),
        ]
    else:
        layer = [layer]
    image = [None, 8, None, None]
    nodes = [*layer, *nodes] if layer_first else [*nodes, *layer]
    outputs = [info("y", *image, kind=kind)] + ([] if layer_first else [info("c", *image, kind=kind)])
    return model(nodes, [info("x", *image, kind=kind)], outputs, held, opset)


def images(rng, dtype, *shape):
    return normal(rng, *shape) if dtype == "f4" else rng.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize(("op_type", "opset"), [("MaxPool", 17), ("AveragePool", 17), ("AveragePool", 19)])
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("include", [0, 1])
def test_every_size_as_onnxruntime_counts_it(op_type, opset, dtype, ceil_mode, include):
    if include and op_type == "MaxPool":
        return
    rng = np.random.default_rng(8)
    seen = set()
    for kernel, stride, (before, after) in itertools.product((1, 2, 4), (1, 2, 3), ((0, 0), (1, 0), (0, 1))):
        if max(before, after) >= kernel:
            continue
        attributes = {"kernel_shape": [kernel, 2], "strides": [stride, 1], "pads": [before, 0, after, 1]}
        attributes |= {"ceil_mode": ceil_mode} | ({"count_include_pad": 1} if include else {})
        proto = chain(op_type, dtype, opset, **attributes)
        session = sparse_session(proto)
        for height in range(1, 7):
            feeds = {"x": images(rng, dtype, 2, 8, height, 3)}
            try:
                (expected,) = stock(proto, feeds, ["y"])
            except Exception:
                with pytest.raises(SparseRTError, match=r"images of at least|AveragePool node|QLinearAveragePool"):
                    session.run(["y"], feeds)
                continue
            (y,) = session.run(["y"], feeds)
            assert y.shape == expected.shape
            assert np.abs(y.astype(np.float64) - expected).max(initial=0) <= (1 if dtype == "u1" else 1e-5)
            seen.add(y.shape[2])
    assert {0, 1, 6} <= seen


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_an_image_without_a_pixel_is_refused(op_type, dtype, size):
    attributes = {} if op_type.startswith("Global") else {"kernel_shape": [1, 1]}
    session = sparse_session(chain(op_type, dtype, **attributes))
    with pytest.raises(Exception, match=r"images of at least one|fits into|nvalid"):
        session.run(None, {"x": np.zeros((1, 8, *size), dtype)})


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "GlobalAveragePool"])
@pytest.mark.parametrize("dtype", ["f4", "u1"])
def test_no_image_at_all(op_type, dtype):
    attributes = {} if op_type.startswith("Global") else {"kernel_shape": [2, 2]}
    (y,) = sparse_session(chain(op_type, dtype, **attributes)).run(None, {"x": np.zeros((0, 8, 4, 4), dtype)})
    assert y.shape == (0, 8, *((1, 1) if op_type.startswith("Global") else (3, 3)))


def test_the_mean_of_more_bytes_than_int32_holds():
    rng = np.random.default_rng(5)
    x = rng.integers(200, 256, (1, 8, 1, (1 << 23) + 9)).astype(np.uint8)
    (y,) = sparse_session(chain("GlobalAveragePool", "u1", layer_first=False)).run(["y"], {"x": x})
    np.testing.assert_array_equal(y.ravel(), np.rint(x.reshape(8, -1).mean(axis=1, dtype=np.float64)))
