"""``sparse-rt quantize``: what it refuses before it calibrates, and how near the float model the result is."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.errors import FeedError, ModelError
from sparse_rt.graph.passes.compress import compress
from sparse_rt.quantize import quantize_file

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


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.25}, {"beta": 4.0}, {"alpha": -3.0, "beta": 0.5}])
def test_factors_of_gemm_and_old_opsets(factors, opset, tmp_path):
    x = RNG.standard_normal((64, 16)).astype(np.float32)
    proto = gemm(opset, **factors)
    result, output = quantise(proto, tmp_path, {"x": x})
    expected, found = run(tmp_path / "model.onnx", {"x": x}), run(output, {"x": x})
    error = np.sqrt(np.mean((found - expected) ** 2)) / np.sqrt(np.mean(expected**2))
    assert error < 0.03
    assert "DequantizeLinear" in {node.op_type for node in onnx.load(output).graph.node}
    assert [item.name for item in result.errors] == ["y"]
    assert result.errors[0].relative_rms < 0.03


def test_a_factor_of_what_is_not_constant_keeps_a_gemm_in_float(tmp_path):
    arrays = {"x": RNG.standard_normal((8, 1, 16)).astype(np.float32), "c": np.ones((8, 1, 12), np.float32)}
    result, output = quantise(gemm(shape=(1, 16), constant_bias=False, beta=7.0), tmp_path, arrays)
    assert result.left == ("fc",)
    assert result.errors[0].relative_rms < 1e-6
    assert [node.op_type for node in onnx.load(output).graph.node] == ["Gemm"]


def test_an_error_is_told(tmp_path):
    """Samples that calibrate badly: the largest is 1000 times the others."""
    x = RNG.standard_normal((8, 16)).astype(np.float32)
    x[7] *= 1000
    result, _ = quantise(gemm(), tmp_path, {"x": x}, batch=4)
    assert result.errors[0].relative_rms > 0.1


@pytest.mark.parametrize("form", ["quantised", "compressed"])
def test_what_is_no_float_model_is_refused_before_calibration(form, tmp_path):
    weight = np.zeros((16, 12), np.float32)
    weight[::2] = 1
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], {"x": ("N", 16)}, ["y"], {"w": weight})
    x = np.ones((4, 16), np.float32)
    if form == "quantised":
        _, path = quantise(proto, tmp_path, {"x": x})
    else:
        path = saved(compress(proto), tmp_path)
    with pytest.raises(ModelError, match="a float model"):
        quantize_file(path, tmp_path / "again.onnx", {"x": x})
    assert not (tmp_path / "again.onnx").exists()


def test_a_model_that_cannot_be_converted_is_refused(tmp_path):
    node = helper.make_node("Upsample", ["x", "s"], ["y"], mode="nearest")
    proto = model([node], {"x": (1, 1, 2, 2)}, ["y"], {"s": [1, 1, 2, 2]}, opset=9)
    proto.graph.node[0].op_type = "NoSuchOperator"
    proto.opset_import.append(helper.make_opsetid("unknown", 1))
    proto.graph.node[0].domain = "unknown"
    with pytest.raises(ModelError):
        quantise(proto, tmp_path, {"x": np.ones((1, 1, 2, 2), np.float32)})


def test_inputs_without_a_batch_axis(tmp_path):
    """A vector and a scalar, stacked; a scalar that is the same in every run."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="fc"),
        helper.make_node("Mul", ["xw", "s"], ["sxw"]),
        helper.make_node("Add", ["sxw", "t"], ["y"]),
    ]
    proto = model(nodes, {"x": (16,), "s": (), "t": ()}, ["y"], {"w": RNG.standard_normal((16, 12))})
    arrays = {
        "x": RNG.standard_normal((20, 16)).astype(np.float32),
        "s": RNG.standard_normal(20).astype(np.float32),
        "t": np.float32(2),
    }
    result, _ = quantise(proto, tmp_path, {name: np.asarray(array) for name, array in arrays.items()})
    assert result.samples == 20
    assert result.errors[0].relative_rms < 0.05


def test_stacked_and_batched_inputs_together(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"], name="fc"), helper.make_node("Add", ["xw", "b"], ["y"])]
    proto = model(nodes, {"x": ("N", 16), "b": (12,)}, ["y"], {"w": RNG.standard_normal((16, 12))})
    arrays = {
        "x": RNG.standard_normal((10, 16)).astype(np.float32),
        "b": RNG.standard_normal((10, 12)).astype(np.float32),
    }
    assert quantise(proto, tmp_path, arrays)[0].samples == 10


def test_an_input_of_unknown_rank_has_its_samples_along_the_first_axis(tmp_path):
    proto = gemm(shape=None)
    assert quantise(proto, tmp_path, {"x": RNG.standard_normal((40, 16)).astype(np.float32)})[0].samples == 40


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"x": np.ones((2, 2, 2, 16), np.float32)}, "axes"),
        ({"x": np.float32(1)}, "axes"),
        ({}, "'x'"),
        ({"x": np.ones((0, 16), np.float32)}, "got 0"),
    ],
)
def test_samples_that_do_not_fit(arrays, fact, tmp_path):
    with pytest.raises(FeedError, match=fact):
        quantise(gemm(), tmp_path, {name: np.asarray(array) for name, array in arrays.items()})


def test_a_node_to_exclude_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match="'fc3'"):
        quantise(gemm(), tmp_path, {"x": np.ones((4, 16), np.float32)}, exclude=["fc3"])
