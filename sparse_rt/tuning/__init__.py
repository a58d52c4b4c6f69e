"""Choice by measurement: what is timed, how it is decided from that, and where decisions are kept."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
