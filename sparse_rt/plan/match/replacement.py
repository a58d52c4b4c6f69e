"""Nodes that a step of ours computes instead of onnxruntime."""

from dataclasses import dataclass

import onnx_ir as ir

from sparse_rt.plan.steps.step import KernelStep

__all__ = ["Replacement"]


@dataclass(frozen=True, eq=False)
class Replacement:
    """A step, and what it stands for in the graph.

    Attributes
    ----------
    step
        What runs.
    reads
        The values that it reads and that are not constants of its own.
    y
        The value that it writes.
    absorbed
        The nodes that it computes, in topological order. Nobody else needs their outputs, `y` apart.
        (DequantizeLinear before them is bypassed, not absorbed: it dies if nobody else reads it.)
    """

    step: KernelStep
    reads: tuple[ir.Value, ...]
    y: ir.Value
    absorbed: tuple[ir.Node, ...]
