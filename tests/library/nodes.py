"""Compressed nodes of every form, as a kernel is told of them, with what stock onnxruntime reads and writes there."""

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sparse_rt.graph.operators import COMPRESSED, DOMAIN
from sparse_rt.graph.passes.compress import compress
from sparse_rt.library.node import NodeDescription, NodeInput
from tests.models.onnx_models import stock
from tests.versions import cases

SINGLES = {case.name: case for case in cases.singles()}
UINT8, INT8 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8


class Node(NamedTuple):
    """A node, the arrays that it reads, and what stock onnxruntime computes of them by the function's body."""

    description: NodeDescription
    feeds: dict[str, Any]
    expected: Any


def node_of(dense, feeds):
    """The only compressed node of a model."""
    compressed = compress(dense)
    (node,) = [node for node in compressed.graph.node if node.domain == DOMAIN]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in compressed.graph.initializer}
    names = dict(zip(COMPRESSED[node.op_type].inputs, node.input, strict=False))
    fed = {name: value for name, value in names.items() if value and value not in constants}
    del compressed.graph.output[:]
    values = dict.fromkeys([*fed.values(), node.output[0]])
    inner = [name for name in values if name not in feeds]
    compressed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    found = {**feeds, **dict(zip(inner, stock(compressed, feeds, optimise=False), strict=True))}
    arrays = {name: np.ascontiguousarray(found[value]) for name, value in fed.items()}
    description = NodeDescription(
        node.op_type,
        node.name,
        {attribute.name: _plain(attribute) for attribute in node.attribute},
        {name: constants[value] for name, value in names.items() if value in constants},
        {name: NodeInput(array.dtype, array.shape) for name, array in arrays.items()},
    )
    return Node(description, arrays, found[node.output[0]])


def _plain(attribute):
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return tuple(value) if not isinstance(value, int | float) else value


def with_type(case, roles, kind):
    """The dense model and feeds of a case, with values of these roles as signed or unsigned bytes."""
    dense = onnx.ModelProto()
    dense.CopyFrom(case.dense)
    feeds = dict(case.feeds)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for number, tensor in enumerate(dense.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if tensor.name.rpartition(".")[2] in roles and array.dtype in (np.uint8, np.int8):
            dense.graph.initializer[number].CopyFrom(numpy_helper.from_array(_as(array, dtype), tensor.name))
    for value in (*dense.graph.input, *dense.graph.output):
        tensor_type = value.type.tensor_type
        if value.name.rpartition(".")[2] in roles and tensor_type.elem_type in (UINT8, INT8):
            tensor_type.elem_type = kind
            if value.name in feeds:
                feeds[value.name] = _as(feeds[value.name], dtype)
    return dense, feeds


def _as(array, dtype):
    return np.abs(array.astype(np.int32)).clip(0, 127).astype(dtype) if dtype == np.uint8 else array.view(np.int8)


def resized(dense, feeds, rng, change):
    """A dense model with inputs of other sizes, and feeds; the channels stay."""
    made = onnx.ModelProto()
    made.CopyFrom(dense)
    shapes = {name: change(array.shape) for name, array in feeds.items() if not name.endswith(".other")}
    for name in feeds.keys() - shapes.keys():
        shapes[name] = _residual_shape(feeds[name].shape, *shapes.values())
    for value in made.graph.input:
        kind = value.type.tensor_type
        kind.ClearField("shape")
        for size in shapes[value.name]:
            kind.shape.dim.add().dim_value = size
    return made, {name: _random(rng, array, shapes[name]) for name, array in feeds.items()}


def _residual_shape(shape, x):
    """The shape of what is added to the convolutions of :mod:`tests.versions.cases`, for an x of another shape."""
    return (x[0], shape[1], (x[2] + 2 - 3) // 2 + 1, x[3] + 1 - 3 + 1)


def _random(rng, array, shape):
    if array.dtype.kind == "f":
        return rng.standard_normal(shape).astype(array.dtype)
    info = np.iinfo(array.dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(array.dtype)
