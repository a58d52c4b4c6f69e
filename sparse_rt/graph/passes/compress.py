"""The ``--sparsity=1`` pass: replace layers that hold a pattern by operators with a compressed weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, ModelError, message
from sparse_rt.formats import Format, SparseWeight
from sparse_rt.graph import mapped, model_io
from sparse_rt.graph.decode import DECODINGS
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.sharing import Candidate, candidate_of, stay_dense
from sparse_rt.graph.layers.weights import ConstantWeight
from sparse_rt.graph.local_functions import raise_ir_version, replace_functions
from sparse_rt.graph.names import Names, fresh_name, value_names
from sparse_rt.graph.neighbours.absorb import absorb
from sparse_rt.graph.neighbours.restore import restore
from sparse_rt.graph.operators import ALG, DOMAIN, FILTER_SHAPE, MIN_OPSET, VERSION_KEY, CompressedForm
from sparse_rt.version import __version__

__all__ = ["FOLDING_LIMIT", "CompressResult", "LayerCompression", "compress", "compress_model"]

FOLDING_LIMIT = 2**30
"""Bytes of a tensor from which on onnxruntime does not fold what computes it (checked with 1.31)."""


@dataclass(frozen=True)
class LayerCompression:
    """What happened to one layer."""

    name: str
    op_type: str
    """The dense operator."""
    shape: tuple[int, ...]
    """Canonical, output channel first; empty when the weight is not constant."""
    dtype: str
    """Of the stored weight; empty when the weight is not constant."""
    pattern: str | None
    """What the weight holds, for example ``"2:4"``, where it is compressed, else None."""
    density: float | None
    """Nonzeros / all; None when the weight is not constant."""
    dense_bytes: int
    compressed_bytes: int
    """Bytes of what stands for the weight; equal to `dense_bytes` where the layer stays dense."""
    reason: str | None
    """Why the layer stays dense; None where it is compressed."""


@dataclass(frozen=True)
class CompressResult:
    """The compressed model, and a line for each layer."""

    model: ir.Model
    layers: tuple[LayerCompression, ...]


@public
def compress(model: model_io.ModelSource, sparsity: int = 1) -> onnx.ModelProto:
    """Return the model with every layer that holds a pattern compressed; it runs in any onnxruntime.

    Parameters
    ----------
    model
        A path, bytes or a ModelProto, which is not changed.
    sparsity
        1, or 0 for a copy.

    Raises
    ------
    ModelError
        The model cannot be read, or the result is larger than a ModelProto can be.
    ConfigError
        `sparsity` is neither 0 nor 1.
    """
    arguments.model("model", model)
    return model_io.to_proto(compress_model(model_io.read(model, custom_operators=True), sparsity).model)


@public
def compress_model(model: ir.Model, sparsity: int = 1) -> CompressResult:
    """Compress the layers that hold a pattern, and say why the others stay dense.

    A layer that does not hold the pattern is never changed: prune first. Layers that are compressed already stay so.

    Parameters
    ----------
    model
        Not changed; the result shares the tensors of what stays dense.
    sparsity
        1, or 0 for a copy.

    Raises
    ------
    ConfigError
        `sparsity` is neither 0 nor 1.
    """
    if not isinstance(model, ir.Model):
        raise ModelError(message("model", "an onnx_ir.Model", type(model).__name__))
    if not isinstance(sparsity, int | np.integer) or sparsity not in (0, 1):
        raise ConfigError(message("sparsity", "0 or 1", repr(sparsity)))
    result = model.clone()
    restore(result)
    layers = find_layers(result)
    reasons = {id(layer): layer.reason for layer in layers}
    reason_for_model = _reason_for_model(result, sparsity)
    candidates = []
    for layer in layers:
        if layer.stored is None and layer.reason is None:
            left_out = reason_for_model or _reason_for_operator(layer) or _reason_for_size(layer)
            if left_out is not None:
                reasons[id(layer)] = left_out
                continue
            candidates.append(candidate_of(layer))
    shared = stay_dense(candidates)
    reasons |= {id(candidate.layer): reason for candidate, reason in shared.items()}
    report = tuple(_report(layer, reasons[id(layer)]) for layer in layers)
    _rewrite(result, [candidate for candidate in candidates if candidate not in shared])
    if any(node.domain == DOMAIN for node in result.graph.all_nodes()):
        # Layers that were compressed before are written anew, too: model_io.read brings them to this version's form.
        absorb(result)
        replace_functions(result)
        result.metadata_props[VERSION_KEY] = __version__
    return CompressResult(result, report)


def _reason_for_model(model: ir.Model, sparsity: int) -> str | None:
    if sparsity == 0:
        return "sparsity is 0"
    opset = model.opset_imports.get("", 0)
    if opset < MIN_OPSET:
        return f"the model's opset is {opset}, a compressed layer needs {MIN_OPSET}: convert the model first"
    return None


def _reason_for_operator(layer: Layer) -> str | None:
    if "activation" not in layer.attributes:
        return None
    return f"{layer.op_type} holds an activation: compress the model from before onnxruntime optimised it"


def _reason_for_size(layer: Layer) -> str | None:
    """Return why the compressed layer would run slowly in onnxruntime; sparse_rt runs it from the dense file."""
    format = layer.format
    decoded = 0 if format is None else DECODINGS[format.name].decoded_nbytes(layer.shape, layer.dtype)
    if decoded < FOLDING_LIMIT:
        return None
    return f"its dense weight takes {decoded} bytes, and onnxruntime decodes at load only below {FOLDING_LIMIT}"


def _report(layer: Layer, reason: str | None) -> LayerCompression:
    constant = bool(layer.shape)
    weight = layer.dense_weight() if constant else None
    nbytes = weight.nbytes if weight is not None else 0
    compressed = None if reason else layer.compressed_nbytes()
    return LayerCompression(
        name=layer.name,
        op_type=layer.op_type,
        shape=layer.shape,
        dtype=str(layer.dtype) if constant else "",
        pattern=None if reason or layer.pattern is None else layer.pattern.name,
        density=layer.density(),
        dense_bytes=nbytes,
        compressed_bytes=nbytes if compressed is None else compressed,
        reason=reason,
    )


def _rewrite(model: ir.Model, candidates: Sequence[Candidate]) -> None:
    if not candidates:
        return
    raise_ir_version(model)
    compressed: dict[ir.Value, tuple[Format, list[ir.Value]]] = {}
    names = value_names(model)
    for candidate in candidates:
        root = candidate.weight.root
        if root not in compressed:
            weight = candidate.layer.compressed
            if weight is None:
                raise ModelError(
                    message(f"layer '{candidate.layer.name}'", "a weight that can be compressed", "another")
                )
            mapped.release(candidate.layer.dense_weight())
            compressed[root] = weight.format, _initializers(model.graph, root, weight, names)
        _replace(candidate, *compressed[root])
        _remove_dead(model.graph, candidate.weight)


def _initializers(graph: ir.Graph, root: ir.Value, weight: SparseWeight, names: Names) -> list[ir.Value]:
    """Register the weight's arrays under names derived from the dense weight's."""
    values = []
    for suffix, array in zip(weight.format.tensors, weight.tensors, strict=True):
        name = fresh_name(f"{root.name or 'weight'}.{suffix}", names)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        graph.register_initializer(value)
        values.append(value)
    return values


def _replace(candidate: Candidate, format: Format, tensors: Sequence[ir.Value]) -> None:
    """Turn the dense node into its compressed form in place, so that outputs, names and metadata stay."""
    node, dense, weight = candidate.layer.node, candidate.form, candidate.weight
    named: dict[str, ir.Value | None] = dict(zip(dense.inputs, node.inputs, strict=False))
    if weight.dequantize is not None:
        named |= dict(zip(("", "filter_scale", "filter_zero_point"), weight.dequantize.inputs, strict=False))
    named |= dict(zip(format.tensors, tensors, strict=True))
    dense = dense.without_absent({name for name, value in named.items() if value is not None})
    form = CompressedForm.of(dense, format, weight.shape)
    inputs = [named.get(name) for name in form.inputs]
    while inputs[-1] is None:
        inputs.pop()
    node.resize_inputs(len(inputs))
    for position, value in enumerate(inputs):
        node.replace_input_with(position, value)
    node.domain, node.op_type, node.overload, node.version = DOMAIN, form.op_type, "", None
    for name in [name for name in node.attributes if name not in dense.attributes]:
        del node.attributes[name]
    shape = ir.Tensor(np.array(weight.shape, np.int64))
    node.attributes.add(ir.AttrString(ALG, format.alg))
    node.attributes.add(ir.AttrTensor(FILTER_SHAPE, shape))


def _remove_dead(graph: ir.Graph, weight: ConstantWeight) -> None:
    """Remove what nobody reads any more, from the operand back to the constant."""
    for link in reversed(weight.chain):
        if link.graph is not None and not _is_used(link.outputs[0]):
            graph.remove(link, safe=True)
    root = weight.root
    if _is_used(root):
        return
    producer = root.producer()
    if producer is not None and producer.graph is not None:
        graph.remove(producer, safe=True)
    elif root.name is not None and root.name in graph.initializers:
        del graph.initializers[root.name]


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()
