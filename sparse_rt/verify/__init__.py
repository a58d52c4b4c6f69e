"""Prove that a sparse model computes what the dense one does, layer by layer and at the outputs."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
from sparse_rt.verify.report import LayerCheck, OperatorCheck, OutputCheck, Status, StepCheck, VerifyReport
from sparse_rt.verify.verification import verify

__all__ = ["LayerCheck", "OperatorCheck", "OutputCheck", "Status", "StepCheck", "VerifyReport", "verify"]
