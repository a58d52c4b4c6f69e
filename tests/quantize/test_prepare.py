"""What becomes of a float model before it is calibrated."""

import numpy as np
import onnx
import pytest

from tests.quantize.models import RNG, gemm, quantise, run


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
