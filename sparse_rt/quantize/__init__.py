"""Static quantisation of float models by onnxruntime's own tool, checked against the float model."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
from sparse_rt.quantize.static import OutputError, QuantizeResult, quantize_file

__all__ = ["OutputError", "QuantizeResult", "quantize_file"]
