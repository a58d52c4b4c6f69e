"""Which outputs integers alone lead to."""

import numpy as np
import pytest
from onnx import numpy_helper

import sparse_rt as srt
from sparse_rt.graph.model_io import read
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.verify.exactness import exact_outputs
from tests.models.onnx_models import FLOAT, INT8, INT32, INT64, UINT8, info, model, node, sparse, sparse_int8


def chain(rng, *, between=(), weight_zero_point=0, ends_in_floats=False):
    """QuantizeLinear -> Gemm -> ... -> QuantizeLinear (-> DequantizeLinear), with nodes between from "g" to "h"."""
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Gemm", ["d", "wd"], ["g"], transB=1, name="gemm"),
        *between,
        node("QuantizeLinear", ["h" if between else "g", "ys", "yz"], ["y" if not ends_in_floats else "q2"]),
    ]
    if ends_in_floats:
        nodes.append(node("DequantizeLinear", ["q2", "ys", "yz"], ["y"]))
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(117),
        "w": sparse_int8(rng, 16, 32),
        "ws": rng.uniform(0.001, 0.01, 16).astype(np.float32),
        "wz": np.full(16, weight_zero_point, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    return model(nodes, [info("x", 3, 32)], [info("y", 3, 16, kind=FLOAT if ends_in_floats else UINT8)], constants)


@pytest.mark.parametrize("ends_in_floats", [False, True])
@pytest.mark.parametrize(
    ("between", "exact"),
    [
        ((), True),
        ((node("Relu", ["g"], ["h"]),), True),
        ((node("Reshape", ["g", "shape"], ["h"]),), True),
        ((node("Sigmoid", ["g"], ["h"]),), False),
        ((node("Add", ["g", "g"], ["h"]),), False),
    ],
)
def test_integers_alone_lead_to_exact_outputs(rng, between, exact, ends_in_floats):
    proto = chain(rng, between=between, ends_in_floats=ends_in_floats)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([3, 16]), "shape"))
    assert exact_outputs(prepare(read(proto))) == ({"y"} if exact else set())
    for compressed in (proto, srt.compress(proto)):
        report = srt.verify(compressed, proto)
        assert report.equal, report.reason
        is_exact = exact or not ends_in_floats
        assert [(check.rule, check.status) for check in report.outputs] == [("exact" if is_exact else "rms", "equal")]


def test_float_layers_lead_to_no_exact_outputs(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"]), node("MatMul", ["x", "v"], ["a"]), node("ArgMax", ["a"], ["z"])],
        [info("x", 2, 8)],
        [info("y", 2, 4), info("z", 1, 4, kind=INT64)],
        {"w": sparse(rng, 4, 8).T.copy(), "v": sparse(rng, 4, 8).T.copy()},
    )
    assert exact_outputs(prepare(read(proto))) == set()


@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_integer_operators_are_exact(rng, kind):
    proto = model(
        [node("MatMulInteger", ["x", "w"], ["y"])],
        [info("x", 2, 8, kind=kind)],
        [info("y", 2, 4, kind=INT32)],
        {"w": sparse_int8(rng, 4, 8).T.copy()},
    )
    assert exact_outputs(prepare(read(proto))) == {"y"}
