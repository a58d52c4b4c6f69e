"""The layers of a model side by side: what each takes in the dense profile and in the sparse one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from sparse_rt.bench.profile import NodeTime, layers_of_nodes, node_times, owner_of
from sparse_rt.bench.report import LayerTiming
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer

__all__ = ["OTHERS", "compare_layers", "compare_profiles"]

OTHERS = "other operators"


def compare_profiles(model: ir.Model, dense: Path, sparse: Path, warm_up: int = 2) -> tuple[LayerTiming, ...]:
    """Return one row for each layer with a constant weight, and a last one for all other operators.

    Parameters
    ----------
    model
        The dense one; every node has a name.
    dense, sparse
        Profiles of it in stock onnxruntime, and of the same in sparse_rt.
    warm_up
        Runs that do not count.
    """
    return compare_layers(model, node_times(dense, warm_up), node_times(sparse, warm_up))


def compare_layers(model: ir.Model, dense: Sequence[NodeTime], sparse: Sequence[NodeTime]) -> tuple[LayerTiming, ...]:
    """Return the rows of :func:`compare_profiles` for nodes that were read already."""
    layers = find_layers(model)
    owners = layers_of_nodes(model, (layer.name for layer in layers))
    weighted = [layer for layer in layers if layer.shape]
    names = {layer.name for layer in weighted}
    theirs, ours = (_by_layer(nodes, owners, names) for nodes in (dense, sparse))
    total = sum(node.seconds for node in sparse)
    rows = [_row(layer, theirs, ours, total) for layer in weighted if layer.name in ours]
    others = [sum(node.seconds for node in found.get("", ())) for found in (theirs, ours)]
    return (*rows, _timing(OTHERS, "", "", others[0], others[1], total))


def _by_layer(nodes: Sequence[NodeTime], owners: Mapping[str, str], names: set[str]) -> dict[str, list[NodeTime]]:
    """Return the nodes of each layer of `names`; those of none are found under an empty name."""
    found = defaultdict(list)
    for node in nodes:
        owner = owner_of(node, owners)
        found[owner if owner in names else ""].append(node)
    return found


def _row(
    layer: Layer, theirs: Mapping[str, Sequence[NodeTime]], ours: Mapping[str, Sequence[NodeTime]], total: float
) -> LayerTiming:
    dense = sum(node.seconds for node in theirs[layer.name]) if layer.name in theirs else None
    kernel = next((node.kernel for node in ours[layer.name] if node.kernel), "onnxruntime")
    sparse = sum(node.seconds for node in ours[layer.name])
    return _timing(layer.name, layer.op_type, kernel, dense, sparse, total)


def _timing(name: str, op_type: str, kernel: str, dense: float | None, sparse: float, total: float) -> LayerTiming:
    return LayerTiming(
        name=name,
        op_type=op_type,
        kernel=kernel,
        dense=dense,
        sparse=sparse,
        ratio=None if dense is None or not sparse else dense / sparse,
        share=sparse / total if total else 0.0,
        note="" if dense is not None else "the dense model has no such node",
    )
