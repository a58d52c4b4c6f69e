"""The shapes of a model's activations, as far as ONNX infers them."""

import functools
from typing import Final

import onnx
import onnx_ir as ir

from sparse_rt.graph.passes.decompress import decompress_model

__all__ = ["Shapes"]

#: Elements up to which a constant may be a shape that others are computed from.
_SHAPE_SIZE: Final = 64


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
        shapes = [self._by_name.get(str(value.name)) for value in (one, other)]
        return shapes[0] is not None and None not in shapes[0] and shapes[0] == shapes[1]

    @functools.cached_property
    def _by_name(self) -> dict[str, tuple[int | str | None, ...]]:
        """Of each value one entry an axis: a size, a name for one that only a run tells, or None."""
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
        return {item.name: _sizes(item.type.tensor_type.shape) for item in items if _has_shape(item)}


def _has_shape(item: onnx.ValueInfoProto) -> bool:
    return bool(item.type.HasField("tensor_type") and item.type.tensor_type.HasField("shape"))


def _sizes(shape: onnx.TensorShapeProto) -> tuple[int | str | None, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else size.dim_param or None for size in shape.dim)
