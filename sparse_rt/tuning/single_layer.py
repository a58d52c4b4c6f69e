"""One layer of a model as a model of its own: what onnxruntime would make of it."""

import onnx_ir as ir

from sparse_rt.plan.islands.island import Island, cut
from sparse_rt.plan.match.fusion import Fusion
from sparse_rt.plan.signature import NodeArg

__all__ = ["cut_layer"]

# What may stand between a constant and the operand that a layer reads.
_LINKS = frozenset({"Constant", "DequantizeLinear", "Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze"})


def cut_layer(model: ir.Model, fusion: Fusion, shapes: dict[str, tuple[str, list[int]]]) -> Island:
    """Return the layer and what it absorbed as a model, so that the dense engine fuses the same neighbours.

    Parameters
    ----------
    model
        That holds the layer.
    fusion
        The layer, and the neighbours that a sparse kernel would absorb.
    shapes
        ONNX type name and shape of every activation that the layer reads.
    """
    needed = set(fusion.absorbed)
    queue = list(fusion.absorbed)
    while queue:
        node = queue.pop()
        for value in node.inputs:
            producer = None if value is None or value is fusion.x else value.producer()
            if producer is not None and producer.op_type in _LINKS and producer not in needed:
                needed.add(producer)
                queue.append(producer)
    nodes = [node for node in model.graph if node in needed]
    known = {name: NodeArg(name, kind, [*shape]) for name, (kind, shape) in shapes.items()}
    return cut(model, nodes, [fusion.y], known)
