"""graph."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
