"""How much a whole model can gain: the dense engine's time inside and outside the layers that hold 2:4."""

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from sparse_rt.feeds import read_npz
from sparse_rt.graph import model_io
from sparse_rt.graph.layers import find_layers

__all__ = ["KERNEL_LIMITS", "layers_of_nodes", "share_of", "sparse_share", "speed_limit"]

KERNEL_LIMITS = {"int8": 1.65, "float32": 1.9}
"""What a 2:4 kernel can gain on Zen 5: int8 1.5 times the dense peak, of which engines reach 90 %; float32 between 2,
which the ports allow, and 1.88, which the bytes of the weights allow where memory bounds."""

_RUNS = 12
_WARM_UP = 2
_SUFFIX = "_kernel_time"


def speed_limit(share: float, kernel_limit: float) -> float:
    """Return dense time / sparse time of a model (Amdahl): 1 / ((1 - share) + share / kernel_limit)."""
    return 1 / ((1 - share) + share / kernel_limit)


def sparse_share(model: Path, feeds: Path, threads: int) -> float:
    """Return the part of onnxruntime's time on a dense model that its layers with 2:4 weights take.

    The time is the sum over nodes of the median of their kernel times, as onnxruntime's profiler reports them. A layer
    that is fused with its neighbours counts with them, a neighbour that runs on its own does not.
    """
    events = _profile(model, feeds, threads)
    graph = model_io.read(model)
    holds = {layer.name: layer.reason is None for layer in find_layers(graph)}
    return share_of(events, layers_of_nodes(graph, holds), holds)


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


def share_of(events: Iterable[tuple[str, str, float]], owners: Mapping[str, str], holds: Mapping[str, bool]) -> float:
    """Return the share of the time that layers with 2:4 weights take.

    Parameters
    ----------
    events
        Name, operator type and time of each node that ran.
    owners
        As :func:`layers_of_nodes` returns them.
    holds
        Whether each layer's weight holds 2:4.
    """
    inside = total = 0.0
    for name, op_type, time in events:
        total += time
        if op_type.endswith(("Conv", "MatMul", "Gemm")) and holds[owners[_original(name, owners)]]:
            inside += time
    return inside / total


def _original(name: str, nodes: Mapping[str, str]) -> str:
    """Return the longest node name of the model that an optimised node's name begins with, after "fused " if any."""
    stem = name.removeprefix("fused ")
    found = max((node for node in nodes if stem.startswith(node)), key=len, default=None)
    if found is None:
        raise ValueError(f"profile: expected the name of a node after some layer, got '{name}'.")
    return found


def _profile(model: Path, feeds: Path, threads: int) -> list[tuple[str, str, float]]:
    """Return name, operator type and median microseconds of each node of the optimised model."""
    arrays = read_npz(feeds)
    with tempfile.TemporaryDirectory(prefix="sparse_rt-profile-") as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS):
            session.run(None, arrays)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    times = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            times[event["name"].removesuffix(_SUFFIX), event["args"]["op_name"]].append(float(event["dur"]))
    return [(name, op_type, statistics.median(runs[_WARM_UP:])) for (name, op_type), runs in times.items()]
