"""Choose which weights go: scores and patterns, in one shot."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
from sparse_rt.prune.apply import LayerPruning, PruneResult, prune, prune_model

__all__ = ["LayerPruning", "PruneResult", "prune", "prune_model"]
