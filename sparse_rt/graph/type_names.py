"""Types of values as onnxruntime spells them: ``tensor(float)``, ``seq(map(int64,tensor(float)))``."""

from collections.abc import Sequence
from types import MappingProxyType

import onnx

__all__ = ["ELEMENTS", "type_name", "type_proto"]

ELEMENTS = MappingProxyType(
    {
        "float": onnx.TensorProto.FLOAT,
        "double": onnx.TensorProto.DOUBLE,
        "float16": onnx.TensorProto.FLOAT16,
        "bfloat16": onnx.TensorProto.BFLOAT16,
        "int8": onnx.TensorProto.INT8,
        "uint8": onnx.TensorProto.UINT8,
        "int16": onnx.TensorProto.INT16,
        "uint16": onnx.TensorProto.UINT16,
        "int32": onnx.TensorProto.INT32,
        "uint32": onnx.TensorProto.UINT32,
        "int64": onnx.TensorProto.INT64,
        "uint64": onnx.TensorProto.UINT64,
        "bool": onnx.TensorProto.BOOL,
        "string": onnx.TensorProto.STRING,
        "complex64": onnx.TensorProto.COMPLEX64,
        "complex128": onnx.TensorProto.COMPLEX128,
        "float8e4m3fn": onnx.TensorProto.FLOAT8E4M3FN,
        "float8e4m3fnuz": onnx.TensorProto.FLOAT8E4M3FNUZ,
        "float8e5m2": onnx.TensorProto.FLOAT8E5M2,
        "float8e5m2fnuz": onnx.TensorProto.FLOAT8E5M2FNUZ,
        "int4": onnx.TensorProto.INT4,
        "uint4": onnx.TensorProto.UINT4,
    }
)
"""Element types by name."""
_NAMES = {int(number): name for name, number in ELEMENTS.items()}


def type_proto(type_name: str, shape: Sequence[int | str | None] | None = None) -> onnx.TypeProto | None:
    """Return the protobuf of a type, of a tensor with a shape; None for one that cannot be spelled out."""
    outer, _, rest = type_name.partition("(")
    inner = rest[:-1]
    if outer in ("tensor", "sparse_tensor") and inner in ELEMENTS:
        if outer == "sparse_tensor":
            return onnx.helper.make_sparse_tensor_type_proto(ELEMENTS[inner], shape)
        return onnx.helper.make_tensor_type_proto(ELEMENTS[inner], shape)
    if outer in ("seq", "optional") and (element := type_proto(inner)) is not None:
        make = onnx.helper.make_sequence_type_proto if outer == "seq" else onnx.helper.make_optional_type_proto
        return make(element)
    key, _, value = inner.partition(",")
    if outer == "map" and key in ELEMENTS and (element := type_proto(value)) is not None:
        return onnx.helper.make_map_type_proto(ELEMENTS[key], element)
    return None


def type_name(kind: onnx.TypeProto) -> str | None:
    """Return the name of a type; None for one that has none."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        element = _NAMES.get(getattr(kind, which).elem_type)
        return None if element is None else f"{which.removesuffix('_type')}({element})"
    if which in ("sequence_type", "optional_type"):
        inner = type_name(getattr(kind, which).elem_type)
        return None if inner is None else f"{'seq' if which == 'sequence_type' else 'optional'}({inner})"
    if which == "map_type":
        key, value = _NAMES.get(kind.map_type.key_type), type_name(kind.map_type.value_type)
        return None if key is None or value is None else f"map({key},{value})"
    return None
