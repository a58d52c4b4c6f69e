"""One island as a model of its own computes what its nodes compute."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from sparse_rt.plan.islands.island import EXTERNAL_FROM, cut
from sparse_rt.plan.signature import NodeArg
from tests.models.onnx_models import info, model, node, normal, stock


def test_an_island_has_its_constants_small_ones_inside_and_large_ones_beside():
    rng = np.random.default_rng(8)
    size = 160
    constants = {"w": normal(rng, size, size), "c": normal(rng, size)}
    assert constants["w"].nbytes >= EXTERNAL_FROM > constants["c"].nbytes
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Add", ["b", "c"], ["d"]),
        node("Abs", ["d"], ["y"]),
    ]
    proto = model(nodes, [info("x", 3, size)], [info("y", 3, size), info("d", 3, size)], constants)
    parsed = ir.from_proto(proto)
    inner = list(parsed.graph)[1:3]
    known = {"a": NodeArg("a", "tensor(float)", [3, size])}
    island = cut(parsed, inner, [inner[-1].outputs[0]], known)
    assert (island.inputs, island.outputs, list(island.external)) == (("a",), ("d",), ["w"])
    options = ort.SessionOptions()
    options.add_external_initializers(list(island.external), list(island.external.values()))
    session = ort.InferenceSession(island.model.SerializeToString(), options)
    x = normal(rng, 3, size)
    expected = stock(proto, {"x": x}, ["d"])[0]
    np.testing.assert_allclose(session.run(["d"], {"a": -x})[0], expected, rtol=1e-5, atol=1e-4)
