"""Small float models for the tests of quantize/, and what quantising them makes."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.quantize import quantize_file

__all__ = ["RNG", "gemm", "model", "quantise", "run", "saved"]

RNG = np.random.default_rng(0)


def model(nodes, inputs, outputs, constants, opset=17):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def gemm(opset=17, shape=("N", 16), constant_bias=True, **attributes):
    weight = RNG.standard_normal((16, 12)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"], name="fc", **attributes)
    inputs = {"x": shape} if constant_bias else {"x": shape, "c": (1, 12)}
    constants = {"w": weight} | ({"c": RNG.standard_normal(12) * 3} if constant_bias else {})
    return model([node], inputs, ["y"], constants, opset)


def saved(proto, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return path


def quantise(proto, tmp_path, arrays, **options):
    path, output = saved(proto, tmp_path), tmp_path / "q.onnx"
    result = quantize_file(path, output, arrays, **options)
    assert output.stat().st_size == result.written
    return result, output


def run(path, feeds):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
