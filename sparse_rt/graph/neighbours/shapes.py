"""The shapes of a model's activations, as far as ONNX infers them."""

import functools
from collections.abc import Iterable
from typing import Final, NamedTuple

import onnx
import onnx_ir as ir

from sparse_rt.graph.passes.decompress import decompress_model

__all__ = ["Shapes"]

#: Elements up to which a constant may be a shape that others are computed from.
_SHAPE_SIZE: Final = 64


class _Known(NamedTuple):
    """What is known of a value: one entry an axis, a size, a name for one that only a run tells, or None."""

    type: ir.DataType
    sizes: tuple[int | str | None, ...]


class Shapes:
    """The shapes of the values of a model's main graph, inferred when somebody first asks.

    Parameters
    ----------
    model
        Not changed.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    def are_same(self, one: ir.Value, other: ir.Value) -> bool:
        """Return whether it is certain that two values have the same shape in every run."""
        known = [self._known.get(str(value.name)) for value in (one, other)]
        sizes = [each.sizes for each in known if each is not None]
        return len(sizes) == len(known) and None not in sizes[0] and sizes[0] == sizes[1]

    def note(self, values: Iterable[ir.Value]) -> None:
        """Give values of the graph their types and shapes, where they have none, so that the file says them.

        An engine with kernels for our operators does not look at their bodies: of what they write it knows only this,
        and it fuses only what it knows the shape of.
        """
        for value in values:
            known = self._known.get(str(value.name))
            if known is None or value.shape is not None or value.is_graph_output():
                continue
            value.shape = ir.Shape(
                [size if size in self._declared or isinstance(size, int) else None for size in known.sizes]
            )
            value.type = ir.TensorType(known.type) if value.type is None else value.type

    @functools.cached_property
    def _declared(self) -> frozenset[str | None]:
        """The names of sizes that the model's inputs have; inference makes up others."""
        shapes = [value.shape for value in self._model.graph.inputs if value.shape is not None]
        return frozenset(size.value for shape in shapes for size in shape if not isinstance(size, int))

    @functools.cached_property
    def _known(self) -> dict[str, _Known]:
        """What is known of values, by their names."""
        graph = decompress_model(self._model).graph
        for value in (value for node in graph for value in node.outputs):
            # What a file notes there is no proof: onnxruntime only warns where it is wrong.
            value.shape = None
        for name, value in list(graph.initializers.items()):
            # What a weight holds does not matter, and it may be large.
            if value.const_value is not None and value.const_value.size > _SHAPE_SIZE:
                del graph.initializers[name]
                graph.inputs.append(value)
        model = ir.Model(graph, ir_version=self._model.ir_version)
        model.opset_imports.update(self._model.opset_imports)
        try:
            inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True).graph
        except Exception:  # onnx raises what its operators' authors thought of; then no shape is known
            return {}
        items = (*inferred.input, *inferred.output, *inferred.value_info)
        return {item.name: _known(item.type.tensor_type) for item in items if _has_shape(item)}


def _has_shape(item: onnx.ValueInfoProto) -> bool:
    kind = item.type.tensor_type
    return bool(item.type.HasField("tensor_type") and kind.HasField("shape") and kind.elem_type)


def _known(kind: onnx.TypeProto.Tensor) -> _Known:
    sizes = (size.dim_value if size.HasField("dim_value") else size.dim_param or None for size in kind.shape.dim)
    return _Known(ir.DataType(kind.elem_type), tuple(sizes))
