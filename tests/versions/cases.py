"""A small dense model for every form that a compressed layer may have, alone and many in one graph."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.neighbours.record import Neighbours
from sparse_rt.graph.operators import COMPRESSED, CompressedForm
from tests import naive

OPSET = 17
OPSETS = (11, 12, 13, 15, 16, 18, 20, 21)
"""Of the graphs that hold many forms; the bodies change at 13 and 16, oldest first."""
N = 8


@dataclass
class Graph:
    """A model under construction; every layer has inputs and outputs of its own."""

    opset: int
    random: np.random.Generator
    nodes: list = field(default_factory=list)
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    constants: dict = field(default_factory=dict)
    feeds: dict = field(default_factory=dict)

    def feed(self, name, array):
        self.inputs.append(helper.make_tensor_value_info(name, _kind(array), array.shape))
        self.feeds[name] = array

    def model(self):
        initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, initializers)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


@dataclass(frozen=True)
class Case:
    """A dense model, its feeds, and the operators that its compressed form must have, in order."""

    name: str
    dense: onnx.ModelProto
    feeds: dict
    operators: tuple[str, ...]


def singles() -> Iterator[Case]:
    """One model for each form."""
    for name, form in COMPRESSED.items():
        yield _case(name, [form], OPSET)


def many(opsets: Sequence[int] = OPSETS) -> Iterator[Case]:
    """Forms of one kind in one graph, for each of some opsets: one function name for two bodies would show."""
    standard = [form for form in COMPRESSED.values() if not form.dense.domain]
    dequantised = [form for form in standard if form.dense.form == "qdq"]
    kinds = {
        "float": [form for form in standard if form.dense.form == "float" and not form.dense.half],
        "float16": [form for form in standard if form.dense.half],
        # Older versions cannot do without the zero point of a Gemm.
        "qdq": [
            form for form in dequantised if len(form.dense.dequantize_inputs) == 2 and form.dense.op_type != "Gemm"
        ],
        "qdq_gemm": [
            form for form in dequantised if len(form.dense.dequantize_inputs) == 2 and form.dense.op_type == "Gemm"
        ],
        "qdq_without_zero_point": [
            form for form in dequantised if len(form.dense.dequantize_inputs) == 1 and form.dense.op_type != "Gemm"
        ],
        "integer": [form for form in standard if form.dense.form in ("integer", "qlinear")],
        "microsoft": [form for form in COMPRESSED.values() if form.dense.domain and not form.dense.half],
    }
    for kind, forms in kinds.items():
        for opset in opsets if kind != "microsoft" else (OPSET,):
            yield _case(f"many_{kind}_opset{opset}", forms, opset)


def _case(name: str, forms: Sequence[CompressedForm], opset: int) -> Case:
    graph = Graph(opset, np.random.default_rng(len(name)))
    for number, form in enumerate(forms):
        _layer(graph, form.dense, form.neighbours, form.is_padded, f"l{number}")
    return Case(name, graph.model(), graph.feeds, tuple(form.op_type for form in forms))


def _layer(graph: Graph, form: DenseForm, around: Neighbours, is_padded: bool, name: str) -> None:
    random, channels = graph.random, 6 if is_padded else 8
    per_channel = form.form == "qdq" and graph.opset >= 13 and form.kind != "conv_transpose"
    weight = _weight(random, form, channels)
    given = {"filter": f"{name}.w"}
    graph.constants[f"{name}.w"] = weight
    if form.form == "qdq":
        given["filter"] = f"{name}.wf"
        graph.constants[f"{name}.ws"] = _scale(random, per_channel)
        graph.constants[f"{name}.wz"] = np.zeros(N if per_channel else (), np.int8)
        parameters = [f"{name}.ws", f"{name}.wz"][: len(form.dequantize_inputs)]
        axis = {"axis": form.channel_axis} if graph.opset >= 13 else {}
        graph.nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.w", *parameters], [f"{name}.wf"], f"{name}.dq", **axis)
        )
    for role in form.inputs:
        if role not in ("x", "filter"):
            given[role] = f"{name}.{role}"
            graph.constants[f"{name}.{role}"] = _constant(random, form, role)
    if around.bias:
        given["bias"] = _quantised_bias(graph, name, per_channel)
    x = _activation(random, form, channels)
    graph.feed(f"{name}.x", x)
    given["x"] = _quantised(graph, f"{name}.x", 0.02) if around.x else f"{name}.x"
    attributes = {"transB": 1} if "transB" in form.attributes and not form.input_first else {}
    if form.kind != "matmul":
        attributes = {"strides": [2, 1]} | ({} if form.kind == "conv_transpose" else {"pads": [1, 0, 1, 1]})
    y = f"{name}.y"
    graph.nodes.append(
        helper.make_node(
            form.op_type, [given[role] for role in form.inputs], [y], name, domain=form.domain, **attributes
        )
    )
    y = _after(graph, around, y)
    graph.outputs.append(helper.make_tensor_value_info(y, _output_kind(form), None))


def _after(graph, around, y):
    """Add the nodes that stand after an operator."""
    random = graph.random
    if "residual" in around.addition:
        graph.feed(f"{y}.other", random.standard_normal((2, N, 4, 5)).astype(np.float32))
    elif around.addition:
        graph.constants[f"{y}.other"] = random.standard_normal(N).astype(np.float32)
    if around.addition:
        operands = [y, f"{y}.other"] if around.addition.startswith("plus") else [f"{y}.other", y]
        graph.nodes.append(helper.make_node("Add", operands, [f"{y}.add"]))
    y = f"{y}.add" if around.addition else y
    if around.activation == "relu":
        graph.nodes.append(helper.make_node("Relu", [y], [f"{y}.relu"]))
    elif around.activation == "clip":
        graph.constants |= {f"{y}.low": np.float32(0), f"{y}.high": np.float32(6)}
        graph.nodes.append(helper.make_node("Clip", [y, f"{y}.low", f"{y}.high"], [f"{y}.clip"]))
    y = f"{y}.{around.activation}" if around.activation else y
    return _quantised(graph, y, 0.2) if around.y else y


def _quantised_bias(graph, name, per_channel):
    """An int32 bias behind DequantizeLinear, as onnxruntime's quantiser writes it."""
    graph.constants |= {
        f"{name}.bq": graph.random.integers(-3000, 3000, N).astype(np.int32),
        f"{name}.bs": np.float32(0.02) * graph.constants[f"{name}.ws"],
        f"{name}.bz": np.zeros(N if per_channel else (), np.int32),
    }
    axis = {"axis": 0} if graph.opset >= 13 else {}
    parameters = [f"{name}.bq", f"{name}.bs", f"{name}.bz"]
    graph.nodes.append(helper.make_node("DequantizeLinear", parameters, [f"{name}.bf"], **axis))
    return f"{name}.bf"


def _kind(array):
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def _weight(random, form, channels):
    shape = (N, channels) if form.kind == "matmul" else (N, channels, 3, 3)
    if form.form == "float":
        dense = (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(_floating(form))
    elif _is_unsigned(form):
        dense = random.integers(0, 128, shape).astype(np.uint8)
    else:
        dense = random.integers(-127, 128, shape).astype(np.int8)
    weight = naive.prune_2_4(dense)
    return np.ascontiguousarray(weight.swapaxes(0, 1)) if form.input_first else weight


def _is_unsigned(form):
    """onnxruntime has no kernels for a signed left operand, nor for ConvInteger with signed weights."""
    return form.op_type == "ConvInteger" or (form.side == "left" and form.form in ("integer", "qlinear"))


def _floating(form):
    return np.float16 if form.half else np.float32


def _scale(random, per_channel):
    return random.uniform(0.005, 0.01, N if per_channel else ()).astype(np.float32)


def _constant(random, form, role):
    if role == "bias":
        if form.form == "qlinear" and form.op_type != "MatMulIntegerToFloat":
            return random.integers(-500, 500, N).astype(np.int32)
        return random.standard_normal(N).astype(_floating(form))
    return {
        "x_scale": np.float32(0.02),
        "x_zero_point": np.uint8(117),
        "filter_scale": np.float32(0.008),
        "filter_zero_point": np.uint8(0) if _is_unsigned(form) else np.int8(0),
        "y_scale": np.float32(0.15),
        "y_zero_point": np.uint8(121),
    }[role]


def _activation(random, form, channels):
    shape = (2, channels, 7, 6)
    if form.kind == "matmul":
        shape = (channels, 5) if form.side == "left" else (3, channels)
    if form.form in ("qlinear", "integer"):
        return random.integers(0, 256, shape).astype(np.uint8)
    return random.standard_normal(shape).astype(_floating(form))


def _output_kind(form):
    if form.form == "integer":
        return TensorProto.INT32
    if form.form == "qlinear" and "y_zero_point" in form.inputs:
        return TensorProto.UINT8
    return TensorProto.FLOAT16 if form.half else TensorProto.FLOAT


def _quantised(graph, name, scale):
    """QuantizeLinear and DequantizeLinear of a value, with a scale and zero point of its own."""
    graph.constants |= {f"{name}.s": np.float32(scale), f"{name}.z": np.uint8(120)}
    graph.nodes += [
        helper.make_node("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], [f"{name}.f"]),
    ]
    return f"{name}.f"
