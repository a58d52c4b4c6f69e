"""What is refused, and how near the float model the result is."""

import numpy as np
import pytest
from onnx import helper

from sparse_rt.errors import ModelError
from sparse_rt.graph.passes.compress import compress
from sparse_rt.quantize import quantize_file
from tests.quantize.models import RNG, gemm, model, quantise, saved


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


def test_a_node_to_exclude_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match="'fc3'"):
        quantise(gemm(), tmp_path, {"x": np.ones((4, 16), np.float32)}, exclude=["fc3"])
