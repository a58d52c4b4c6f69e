"""Which nodes compressed operators hold, and which stay."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sparse_rt.graph.passes.compress import compress, compress_model
from tests.graph import models

W = models.two_four(0, (8, 12)).T.copy()
CONV = models.two_four(1, (8, 8, 3, 3))
node = helper.make_node


def calls(proto):
    return [each.op_type for each in proto.graph.node if each.domain == "sparse_rt"]


def others(proto):
    return [each.op_type for each in proto.graph.node if each.domain != "sparse_rt"]


def floats(nodes, constants, outputs=("y",), x=("n", 12), extra=()):
    y = [models.info(name, None) for name in outputs]
    for value in y:
        value.type.tensor_type.ClearField("shape")
    inputs = [models.info("x", list(x)), *(models.info(name, shape) for name, shape in extra)]
    return models.model(nodes, inputs, y, constants)


def test_a_bias_and_an_activation_are_held():
    for operands, side in ((["h", "b"], "plus_bias"), (["b", "h"], "bias_plus")):
        nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", operands, ["i"]), node("Relu", ["i"], ["y"])]
        compressed = compress(floats(nodes, {"w": W, "b": np.ones(8, np.float32)}))
        assert calls(compressed) == [f"MatMulV2Compress_MatMul_{side}_relu"]
        assert others(compressed) == []


@pytest.mark.parametrize("shape", [(1, 8), (), (1,), (8, 1), (2, 1, 8)])
def test_a_bias_of_another_shape_stays(shape):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    compressed = compress(floats(nodes, {"w": W, "b": np.ones(shape, np.float32)}, x=(8, 12)))
    assert (calls(compressed), others(compressed)) == (["MatMulV2Compress_MatMul"], ["Add"])


def test_what_somebody_else_reads_is_not_held():
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"]), node("Neg", ["h"], ["z"])]
    assert calls(compress(floats(nodes, {"w": W}, ("y", "z")))) == ["MatMulV2Compress_MatMul"]
    nodes = nodes[:2]
    assert calls(compress(floats(nodes, {"w": W}, ("y", "h")))) == ["MatMulV2Compress_MatMul"]
    nodes = [*nodes, node("Neg", ["y"], ["z"])]
    assert calls(compress(floats(nodes, {"w": W}, ("y", "z")))) == ["MatMulV2Compress_MatMul_relu"]


@pytest.mark.parametrize("bounds", [["low", "high"], ["low", ""], ["", "high"], ["low"], ["low", "x0"]])
def test_a_clip_between_two_constants_is_held(bounds):
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Clip", ["h", *bounds], ["y"])]
    constants = {"w": W, "low": np.float32(0), "high": np.float32(6)}
    constants = {name: np.asarray(value) for name, value in constants.items() if name == "w" or name in bounds}
    dense = floats(nodes, constants, extra=[("x0", [])] if "x0" in bounds else ())
    expected = "MatMulV2Compress_MatMul_clip" if bounds == ["low", "high"] else "MatMulV2Compress_MatMul"
    assert calls(compress(dense)) == [expected]


@pytest.mark.parametrize("order", [["h", "r"], ["r", "h"]])
@pytest.mark.parametrize(
    ("shape", "is_held"), [(["n", 8, 9, 9], True), (["n", 8, 1, 1], False), (["m", 8, 9, 9], False)]
)
def test_a_residual_is_held_where_its_shape_is_certain(order, shape, is_held, tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["h"], name="layer", pads=[1] * 4),
        node("Add", order, ["i"]),
        node("Relu", ["i"], ["y"]),
    ]
    dense = floats(nodes, {"w": CONV}, x=("n", 8, 9, 9), extra=[("r", shape)])
    compressed = compress(dense)
    side = "plus_residual" if order[0] == "h" else "residual_plus"
    name = "Conv2DCompress_Conv_without_bias"
    assert calls(compressed) == [f"{name}_{side}_relu" if is_held else name]
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_the_later_of_two_layers_takes_their_add(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("Conv", ["x", "v"], ["b"], name="second", pads=[1] * 4),
        node("Add", ["a", "b"], ["y"]),
    ]
    dense = floats(nodes, {"w": CONV, "v": models.two_four(2, (8, 8, 3, 3))}, x=("n", 8, 9, 9))
    compressed = compress(dense)
    name = "Conv2DCompress_Conv_without_bias"
    assert calls(compressed) == [name, f"{name}_residual_plus"]
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_a_residual_that_comes_later_moves_the_layer_behind_it(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("Neg", ["x"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    dense = floats(nodes, {"w": CONV}, x=("n", 8, 9, 9))
    compressed = compress(dense)
    assert [each.op_type for each in compressed.graph.node] == [
        "Neg",
        "Conv2DCompress_Conv_without_bias_plus_residual",
    ]
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


# --- quantised layers -----------------------------------------------------------------------------------------------

PARAMETERS = {
    "xs": np.float32(0.02),
    "xz": np.uint8(128),
    "ys": np.float32(0.1),
    "ws": np.float32(0.01),
    "wz": np.int8(0),
    "b": np.arange(8, dtype=np.int32),
    "bs": np.float32(0.0002),
    "bz": np.int32(0),
}


def quantised(nodes=(), *, outputs=("y",), readers=(), **changes):
    """uint8 -> DequantizeLinear -> Gemm -> QuantizeLinear, with an int32 bias."""
    constants = {name: np.asarray(value) for name, value in (PARAMETERS | changes).items()}
    constants["w"] = models.two_four(3, (8, 12), np.int8)
    chain = nodes or [
        node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        node("Gemm", ["xf", "wf", "bf"], ["h"], name="layer", transB=1),
        node("QuantizeLinear", ["h", "ys", "xz"], ["y"]),
    ]
    y = [models.info(name, None, np.uint8 if name == "y" else np.float32) for name in outputs]
    for value in y:
        value.type.tensor_type.ClearField("shape")
    x = models.info("x", ["n", 12], changes["xz"].dtype if "xz" in changes else np.uint8)
    return models.model([*chain, *readers], [x], y, constants)


GEMM = "FullyConnectionCompress_Gemm_transB_qdq"


def test_the_whole_chain_is_held(tmp_path):
    dense = quantised()
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb_y"], [])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_scales_of_each_channel_of_a_bias(tmp_path):
    scale = np.linspace(0.01, 0.02, 8).astype(np.float32)
    changes = {"ws": scale, "wz": np.zeros(8, np.int8), "bs": scale * np.float32(0.02), "bz": np.zeros(8, np.int32)}
    dense = quantised(**changes)
    next(each for each in dense.graph.node if each.input[0] == "w").attribute.append(helper.make_attribute("axis", 0))
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb_y"], [])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_one_scale_of_a_bias_as_onnxruntimes_quantiser_writes_it(tmp_path):
    dense = quantised(bs=np.full(1, 0.0002, np.float32))
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb_y"], [])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_a_dequantize_linear_stays_for_others(tmp_path):
    dense = quantised(outputs=("y", "z"), readers=[node("Neg", ["xf"], ["z"])])
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb_y"], ["DequantizeLinear", "Neg"])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_a_dequantised_value_that_is_an_output_stays(tmp_path):
    dense = quantised(outputs=("y", "xf"))
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb_y"], ["DequantizeLinear"])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_a_result_that_is_an_output_stays_float(tmp_path):
    dense = quantised(outputs=("y", "h"))
    compressed = compress(dense)
    assert (calls(compressed), others(compressed)) == ([f"{GEMM}_xb"], ["QuantizeLinear"])
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"xs": np.full(12, 0.02, np.float32), "xz": np.full(12, 128, np.uint8)}, GEMM),
        ({"xz": np.asarray(3, np.uint16)}, GEMM),
        ({"bs": np.full(2, 0.1, np.float32)}, f"{GEMM}_x_y"),
        ({"bz": np.asarray(1, np.int32)}, f"{GEMM}_x_y"),
        ({"b": np.arange(8, dtype=np.int8), "bz": np.asarray(0, np.int8)}, f"{GEMM}_x_y"),
        ({"b": np.ones((1, 8), np.int32)}, f"{GEMM}_x_y"),
    ],
)
def test_unusual_parameters_stay_nodes(changes, name):
    dense = quantised(**changes)
    # onnxruntime loads not all of these: they are not read as files are.
    assert calls(ir.to_proto(compress_model(ir.from_proto(dense)).model)) == [name]


def test_without_a_zero_point_of_x_nothing_is_held(tmp_path):
    nodes = [
        node("DequantizeLinear", ["x", "xs"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        node("Gemm", ["xf", "wf"], ["h"], name="layer", transB=1),
        node("QuantizeLinear", ["h", "ys", "xz"], ["y"]),
    ]
    assert calls(compress(quantised(nodes))) == [f"{GEMM}_without_bias"]


def test_parameters_that_are_fed_stay_nodes():
    dense = quantised()
    tensor = next(each for each in dense.graph.initializer if each.name == "xs")
    dense.graph.initializer.remove(tensor)
    dense.graph.input.append(models.info("xs", []))
    assert calls(compress(dense)) == [GEMM]
    assert numpy_helper.to_array(tensor) == PARAMETERS["xs"]


def test_relu_of_a_quantised_layer_is_held():
    nodes = [
        node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        node("Gemm", ["xf", "wf"], ["h"], name="layer", transB=1),
        node("Relu", ["h"], ["i"]),
        node("QuantizeLinear", ["i", "ys", "xz"], ["y"]),
    ]
    assert calls(compress(quantised(nodes))) == [f"{GEMM}_without_bias_x_relu_y"]
