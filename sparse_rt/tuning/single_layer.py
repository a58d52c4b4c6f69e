"""One layer of a model as a model of its own: what onnxruntime would make of it."""

import onnx_ir as ir

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.islands.island import Island, cut
from sparse_rt.plan.match.fusion import Fusion, fuse
from sparse_rt.plan.signature import NodeArg

__all__ = ["cut_layer", "fusions_by_output"]

# What may stand between a constant and the operand that a layer reads.
_LINKS = frozenset({"Constant", "DequantizeLinear", "Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze"})


def fusions_by_output(model: ir.Model) -> dict[str, Fusion]:
    """Return each layer with the neighbours that a sparse kernel would absorb, by the name of the value it writes."""
    fusions = (fuse(layer) for layer in find_layers(model) if layer.shape)
    return {str(fusion.y.name): fusion for fusion in fusions}


def cut_layer(model: ir.Model, fusion: Fusion, shapes: dict[str, tuple[str, list[int]]]) -> Island:
    """Return the layer and what it absorbed as a model, so that the dense engine fuses the same neighbours.

    Parameters
    ----------
    model
        That holds the layer.
    fusion
        One of :func:`fusions_by_output`.
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
