"""Damage to a compressed model, chosen by a seed: in its bytes, its tensors, its nodes and its attributes."""

import numpy as np
import onnx
from onnx import numpy_helper


def damaged(content: bytes, seed: int) -> tuple[str, bytes]:
    """Return what was done and the damaged file."""
    rng = np.random.default_rng(seed)
    kind = list(_MUTATIONS)[rng.integers(len(_MUTATIONS))]
    return f"{kind}, seed {seed}", _MUTATIONS[kind](content, rng)


def _on_model(change):
    def mutate(content, rng):
        model = onnx.load_model_from_string(content)
        change(model, rng)
        return model.SerializeToString()

    return mutate


def _cut(content, rng):
    return content[: int(rng.integers(len(content)))]


def _flip_bytes(content, rng):
    raw = bytearray(content)
    for at in rng.integers(0, len(raw), rng.integers(1, 9)):
        raw[at] = rng.integers(256)
    return bytes(raw)


def _flip_structure(content, rng):
    """Flip bytes outside the tensors, which are most of the file."""
    model = onnx.load_model_from_string(content)
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[:]
    raw = bytearray(graph.SerializeToString())
    for at in rng.integers(0, len(raw), rng.integers(1, 5)):
        raw[at] = rng.integers(256)
    broken = onnx.GraphProto()
    try:
        broken.ParseFromString(bytes(raw))
    except Exception:
        return content[: len(content) // 2] + bytes(raw)
    broken.initializer.extend(model.graph.initializer)
    model.graph.CopyFrom(broken)
    return model.SerializeToString()


def _pick(items, rng):
    items = list(items)
    return items[rng.integers(len(items))]


def _compressed_nodes(model):
    return [node for node in model.graph.node if node.domain == "sparse_rt"]


def _stored(model):
    return [t for t in model.graph.initializer if t.name.endswith(("filter_compress", "compress_index"))]


def _size(rng):
    return int(_pick([-1, 0, 1, 2, 3, 4, 7, 8, 16, 64, 100, 128, 129, 1152, 2**31, 2**40, 2**62], rng))


def _shape_that_lies(model, rng):
    attribute = next(a for a in _pick(_compressed_nodes(model), rng).attribute if a.name == "filter_shape")
    shape = numpy_helper.to_array(attribute.t).copy()
    match rng.integers(6):
        case 0:
            shape[rng.integers(len(shape))] = _size(rng)
        case 1:
            shape = rng.permutation(shape)
        case 2:
            shape = shape[: rng.integers(len(shape))]
        case 3:
            shape = np.append(shape, _size(rng))
        case 4:
            shape = shape.astype(_pick([np.float32, np.int32, np.uint8, np.bool_], rng))
        case 5:
            shape = shape.reshape(-1, 1)
    attribute.t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(shape), "s"))


def _dimensions(model, rng):
    tensor = _pick(_stored(model), rng)
    dims = list(tensor.dims)
    match rng.integers(4):
        case 0:
            dims[rng.integers(len(dims))] = _size(rng)
        case 1:
            dims.reverse()
        case 2:
            dims = [int(np.prod(dims))]
        case 3:
            dims = [*dims, 1]
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _stored_bytes(model, rng):
    tensor = _pick(_stored(model), rng)
    raw = bytearray(tensor.raw_data)
    for at in rng.integers(0, len(raw), rng.integers(1, 9)):
        raw[at] = rng.integers(256)
    tensor.raw_data = bytes(raw)


def _stored_length(model, rng):
    tensor = _pick(_stored(model), rng)
    tensor.raw_data = tensor.raw_data[: rng.integers(len(tensor.raw_data))] + bytes(int(rng.integers(3)))


def _element_type(model, rng):
    _pick(_stored(model), rng).data_type = int(rng.integers(0, 24))


def _element_type_with_data(model, rng):
    tensor = _pick(_stored(model), rng)
    dtype = _pick([np.int8, np.uint8, np.int16, np.float16, np.float32, np.float64, np.bool_], rng)
    with np.errstate(invalid="ignore"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))


def _swap_inputs(model, rng):
    node = _pick(_compressed_nodes(model), rng)
    first, second = rng.integers(0, len(node.input), 2)
    node.input[first], node.input[second] = node.input[second], node.input[first]


def _drop_input(model, rng):
    node = _pick(model.graph.node, rng)
    if node.input:
        if rng.integers(2):
            node.input[rng.integers(len(node.input))] = ""
        else:
            del node.input[rng.integers(len(node.input))]


def _other_input(model, rng):
    names = [t.name for t in model.graph.initializer] + [o for n in model.graph.node for o in n.output] + ["nobody"]
    node = _pick([n for n in model.graph.node if n.input], rng)
    node.input[rng.integers(len(node.input))] = _pick(names, rng)


def _rename(model, rng):
    node = _pick(_compressed_nodes(model), rng)
    names = [n.op_type for n in _compressed_nodes(model)] + [
        *("Conv", "Nonsense", "Conv2DCompress", "Conv2DCompress_QLinearConv", "Conv2DCompress_Conv_qdq"),
        *("Conv2DCompress_Conv_padded", "MatMulV2Compress_MatMul_left", "FullyConnectionCompress_Gemm"),
    ]
    node.op_type = _pick(names, rng)


def _drop_function(model, rng):
    del model.functions[rng.integers(len(model.functions))]


def _attribute(model, rng):
    node = _pick([n for n in _compressed_nodes(model) if len(n.attribute) > 2] or _compressed_nodes(model), rng)
    attribute = _pick(node.attribute, rng)
    match rng.integers(4):
        case 0 if attribute.ints:
            attribute.ints[rng.integers(len(attribute.ints))] = _size(rng)
        case 1 if attribute.ints:
            del attribute.ints[rng.integers(len(attribute.ints))]
        case 2:
            node.attribute.remove(attribute)
        case _:
            attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, _pick([0, 1.5, "x", [1, 2, 3], [2.5]], rng)))


def _constants(model, rng):
    tensor = _pick([t for t in model.graph.initializer if t not in _stored(model)], rng)
    array = numpy_helper.to_array(tensor).copy()
    match rng.integers(4):
        case 0 if array.size:
            flat = array.reshape(-1)
            values = [np.nan, np.inf, -np.inf, 0, -1, 1e30, 1e-40] if array.dtype.kind == "f" else [0, 1, 127, -1]
            with np.errstate(over="ignore", invalid="ignore"):
                flat[rng.integers(flat.size)] = np.asarray(_pick(values, rng)).astype(array.dtype)
        case 1:
            array = array.reshape(-1)[: rng.integers(array.size + 1)]
        case 2:
            array = array.reshape(*array.shape, 1)
        case 3:
            array = array.astype(_pick([np.int8, np.uint8, np.int32, np.float32, np.float64, np.int64], rng))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


_MUTATIONS = {
    "file cut": _cut,
    "bytes of the file": _flip_bytes,
    "bytes of the structure": _flip_structure,
    **{
        name.replace("_", " "): _on_model(change)
        for name, change in {
            "filter_shape": _shape_that_lies,
            "stored dimensions": _dimensions,
            "stored bytes": _stored_bytes,
            "stored length": _stored_length,
            "element type": _element_type,
            "element type with data": _element_type_with_data,
            "inputs swapped": _swap_inputs,
            "input dropped": _drop_input,
            "other input": _other_input,
            "operator renamed": _rename,
            "function dropped": _drop_function,
            "attribute": _attribute,
            "constants": _constants,
        }.items()
    },
}
