"""What a measurement depends on: the keys under which it is kept."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.cpu.allowance import cpu_share
from sparse_rt_kernels.cpu.settings import settings
from sparse_rt_kernels.jit import compilation

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.tuning.observe import Input

__all__ = ["layer_key", "model_key", "surroundings"]

_PACKAGE = Path(__file__).parent.parent
#: The code that plans and measures.
_ROOMS = ("plan", "library", "tuning")


def surroundings(options: SessionOptions) -> dict[str, Any]:
    """Return what every measurement depends on beside the layer or the model."""
    return {
        "cpu": settings().cpu_name,
        "cpus": round(cpu_share(), 2),
        "threads": options.threads,
        "tier": isa.supported_tiers(options.kernel_tier)[0],
        "kernels": compilation.cache_key(),
        "planning": _planning(),
        "onnxruntime": ort.__version__,
        "onnxruntime's options": options.for_onnxruntime(),
    }


def layer_key(layer: Layer, step: SparseStep, inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Return what tells one layer's measurement from another's: equal layers share it, in whatever model.

    Parameters
    ----------
    layer, step
        The layer, and its sparse step.
    inputs
        What the step reads.
    """
    return {
        "operator": layer.op_type,
        "form": layer.form,
        "constant side": layer.constant_side,
        "weight": list(layer.shape),
        "sparsity": _sparsity(layer),
        "attributes": {name: _plain(value) for name, value in sorted(layer.attributes.items())},
        "reads": [[inputs[name].dtype.name, list(inputs[name].shape)] for name in step.inputs],
        "writes": step.y_dtype.name,
        "epilogue": type(step.epilogue).__name__,
        "clipped": [bool(np.isfinite(step.epilogue.low)), bool(np.isfinite(step.epilogue.high))],
    }


def model_key(draft: Draft) -> dict[str, Any]:
    """Return what tells one model's decisions from another's: its structure, not the values of its weights."""
    graph = draft.model.graph
    return {
        "inputs": [f"{value.name} {value.dtype} {value.shape}" for value in graph.inputs],
        "layers": len(draft.layers),
        "graph": _structure(draft),
    }


@functools.cache
def _planning() -> str:
    """Return a mark of the code that plans: another version may fuse and schedule otherwise."""
    digest = hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (_PACKAGE / room).rglob("*.py")):
        found = path.stat()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]


def _sparsity(layer: Layer) -> list[Any] | None:
    """Return pattern and format of a weight; its density, too, where the format's bytes, and so times, depend on it."""
    if layer.format is None or layer.pattern is None:
        return None
    depends = layer.format.nbytes(layer.shape, layer.dtype) is None
    return [layer.pattern.name, layer.format.name, round(layer.density() or 0.0, 2) if depends else None]


def _structure(draft: Draft) -> str:
    digest = hashlib.sha256()
    graph = draft.model.graph
    for value in (*graph.inputs, *graph.outputs):
        digest.update(f"{value.name} {value.dtype} {value.shape}\n".encode())
    for value in graph.initializers.values():
        digest.update(f"{value.name} {value.dtype} {value.shape}\n".encode())
    for node in graph:
        _add_node(digest, node)
    for layer in draft.layers:
        # What a weight holds is a matter of its values.
        digest.update(f"{layer.y.name} {layer.reason} {_sparsity(layer)}\n".encode())
    return digest.hexdigest()[:24]


def _add_node(digest: "hashlib._Hash", node: ir.Node) -> None:
    """Add a node, and those of its subgraphs, to a digest."""
    names = [value and value.name for value in (*node.inputs, *node.outputs)]
    digest.update(f"{node.domain} {node.op_type} {node.overload} {names}\n".encode())
    for name, attribute in node.attributes.items():
        digest.update(f"{name} {attribute.type} ".encode())
        for graph in _graphs(attribute):
            digest.update(b"(")
            for inner in graph:
                _add_node(digest, inner)
            digest.update(f"{[value.name for value in graph.outputs]})".encode())
        digest.update(_attribute_text(attribute).encode())


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def _attribute_text(attribute: ir.Attr) -> str:
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return ""
    if attribute.type == ir.AttributeType.TENSOR:
        # Not through as_tensor, whose check of a protocol takes longer than all the rest.
        return f"{attribute.value.dtype} {attribute.value.shape}"
    return repr(attribute.value)[:200]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
