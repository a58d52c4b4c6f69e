"""What the nodes of a model took, from the profile of a session, onnxruntime's or ours: they have one form."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

__all__ = ["NodeTime", "layers_of_nodes", "node_times", "owner_of"]

_SUFFIX = "_kernel_time"
#: In the names of operators that compute convolutions and matrix products.
_PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class NodeTime:
    """One node of a model as a session runs it, perhaps several nodes of the file in one."""

    name: str
    op_type: str
    kernel: str
    """Of ours; empty for onnxruntime's."""

    seconds: float
    """Median over the runs."""

    @property
    def is_product(self) -> bool:
        """Whether it computes a convolution or matrix product."""
        return any(word in self.op_type for word in _PRODUCTS)


def node_times(profile: Path, warm_up: int = 1) -> list[NodeTime]:
    """Return the nodes of a profile in the order in which they first ran; their first `warm_up` runs are not counted.

    Of a node that ran no more often than that, the last run counts.
    """
    events = json.loads(profile.read_text(encoding="utf-8"))
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            arguments = event["args"]
            key = event["name"].removesuffix(_SUFFIX), arguments["op_name"], arguments.get("kernel", "")
            times[key].append(float(event["dur"]) * 1e-6)
    return [NodeTime(*key, statistics.median(runs[warm_up:] or runs[-1:])) for key, runs in times.items()]


def layers_of_nodes(model: ir.Model, layers: Iterable[str]) -> dict[str, str]:
    """Return the layer whose result each node takes up, by node name: itself, or the nearest one upstream.

    A fused operator bears the name of one of the nodes that it replaces, a layer's or a later one's.
    """
    names = set(layers)
    owners: dict[str, str] = {}
    for node in model.graph:
        name = str(node.name)
        upstream = (value.producer() for value in node.inputs if value is not None)
        before = (owners.get(str(producer.name)) for producer in upstream if producer is not None)
        owner = name if name in names else next((found for found in before if found), None)
        if owner:
            owners[name] = owner
    return owners


def owner_of(node: NodeTime, owners: Mapping[str, str]) -> str | None:
    """Return the layer that a node of a profile computes, None for operators that compute none.

    The node bears the longest name of `owners` that its own begins with, after "fused " if any.
    """
    if not node.is_product:
        return None
    stem = node.name.removeprefix("fused ")
    found = max((name for name in owners if stem.startswith(name)), key=len, default=None)
    return None if found is None else owners[found]
