"""What is known of the sizes of a model's values, and which steps have a native call for that."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from sparse_rt.graph.stock_view import output_types
from sparse_rt.plan.islands.island import Piece, skeleton
from sparse_rt.plan.signature import NodeArg, Signature
from sparse_rt.plan.steps.step import KernelStep, can_be_bound

__all__ = ["is_native", "stand_ins", "types_of_values"]

#: What stands for the first size that is only known by name; later ones are larger. They divide nothing by accident.
_FIRST = 101


def types_of_values(model: ir.Model, signature: Signature) -> dict[str, NodeArg]:
    """Return type and shape of each value of a graph, as onnxruntime infers them from what the inputs are declared.

    What the model notes beside inner values is not believed. Raises what onnxruntime does where it refuses the model.
    """
    known = {item.name: item for item in (*signature.inputs, *signature.overridable)}
    nodes = list(model.graph)
    outputs = [value for node in nodes for value in node.outputs if value.name]
    found = skeleton(model, [Piece.of(node) for node in nodes], outputs, known)
    inferred = output_types(found.model.SerializeToString())
    known.update({each.name: NodeArg(each.name, each.type, each.shape, bool(each.shape)) for each in inferred})
    for name, value in model.graph.initializers.items():
        if name not in known:
            known[name] = NodeArg.of(value)
    return known


def stand_ins(values: Iterable[NodeArg]) -> dict[str, tuple[int, ...]]:
    """Return shapes that hold in every run as far as one size being another is concerned.

    Each name of a size is a number of its own. Values of which a size has neither a number nor a name are left out.
    """
    odd = itertools.count(_FIRST, 2)
    numbers: defaultdict[str, int] = defaultdict(lambda: next(odd))
    return {
        value.name: tuple([size if isinstance(size, int) else numbers[str(size)] for size in value.shape])
        for value in values
        if value.has_rank and None not in value.shape
    }


def is_native(step: KernelStep, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a step has a native call, as far as `shapes`, those of :func:`stand_ins`, tell.

    Where they say nothing of a size, operands may have to be broadcast in some run. The segment then runs through
    Python, as it does in a plan that is not hosted.
    """
    return can_be_bound(step) and step.is_bindable(shapes)
