"""One layer of a model on its own, on another kernel or in onnxruntime; for whoever compares them."""

from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.errors import SparseRTError
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.decisions import LayerDecision
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.islands.island import Island, cut
from sparse_rt.plan.islands.onnxruntime_step import open_island
from sparse_rt.plan.match.choose import choose
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Step

__all__ = ["idle_island", "in_onnxruntime", "on_kernel"]

_OPSET = 13
_IR_VERSION = 8
_ONNX_NAMES = {"float32": "float", "float64": "double"}
# What may stand between a constant and the operand that a layer reads.
_LINKS = frozenset({"Constant", "DequantizeLinear", "Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze"})


def on_kernel(draft: Draft, layer: Layer, kernel: str, options: SessionOptions) -> SparseStep | None:
    """Return the step of a layer of `draft` on the kernel of that name; None if no kernel fits it.

    Where only this kernel does not fit, it is the step of the best sparse one.
    """
    replacement = choose(layer, draft.fusion, options.kernel_tier, LayerDecision(kernel, "")).replacement
    found = None if replacement is None else replacement.step
    return found if isinstance(found, SparseStep) else None


def in_onnxruntime(
    draft: Draft, layer: Layer, arrays: Mapping[str, NDArray[Any]], options: SessionOptions
) -> Step | None:
    """Return a layer of `draft`, with what its kernel absorbs, as an island; None if onnxruntime does not load that.

    `arrays` are what the layer's step reads. An island that reads more is none of that layer alone: then it is None,
    too.
    """
    island = _cut(draft, layer, arrays)
    if not set(island.inputs) <= set(arrays):
        # A layer that quantises its own input is two steps here.
        return None
    try:
        return open_island(island, options)
    except SparseRTError:
        return None


def idle_island(options: SessionOptions) -> Step:
    """Return an island that hands its only number through: x (1,) float32 to y."""
    number = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "island", number[:1], number[1:])
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    return open_island(Island(model, ("x",), ("y",), {}), options)


def _cut(draft: Draft, layer: Layer, arrays: Mapping[str, NDArray[Any]]) -> Island:
    """Return a layer and what its kernel absorbs as a model, so that the dense engine fuses the same neighbours."""
    fusion = draft.fusion(layer)
    needed = set(fusion.absorbed)
    queue: list[ir.Node] = list(fusion.absorbed)
    while queue:
        node = queue.pop()
        for value in node.inputs:
            producer = None if value is None or value is fusion.x else value.producer()
            if producer is not None and producer.op_type in _LINKS and producer not in needed:
                needed.add(producer)
                queue.append(producer)
    nodes = [node for node in draft.model.graph if node in needed]
    known = {
        name: NodeArg(name, f"tensor({_ONNX_NAMES.get(array.dtype.name, array.dtype.name)})", list(array.shape))
        for name, array in arrays.items()
    }
    return cut(draft.model, nodes, [fusion.y], known)
