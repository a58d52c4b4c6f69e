"""From a model to a plan: fuse neighbours, choose a kernel for each layer, schedule frozen steps."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
