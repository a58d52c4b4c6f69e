"""How much a whole model can gain: the dense engine's time inside and outside the layers that hold 2:4."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnxruntime as ort

from sparse_rt.bench.profile import NodeTime, layers_of_nodes, node_times, owner_of
from sparse_rt.feeds import read_npz
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers

__all__ = ["KERNEL_LIMITS", "share_of", "sparse_share", "speed_limit"]

KERNEL_LIMITS = {"int8": 1.65, "float32": 1.9}
"""What a 2:4 kernel can gain on Zen 5: int8 1.5 times the dense peak, of which engines reach 90 %; float32 between 2,
which the ports allow, and 1.88, which the bytes of the weights allow where memory bounds."""

_RUNS = 12
_WARM_UP = 2


def speed_limit(share: float, kernel_limit: float) -> float:
    """Return dense time / sparse time of a model (Amdahl): 1 / ((1 - share) + share / kernel_limit)."""
    return 1 / ((1 - share) + share / kernel_limit)


def sparse_share(model: Path, feeds: Path, threads: int) -> float:
    """Return the part of onnxruntime's time on a dense model that its layers with 2:4 weights take.

    The time is the sum over nodes of the median of their kernel times, as onnxruntime's profiler reports them. A layer
    that is fused with its neighbours counts with them, a neighbour that runs on its own does not.
    """
    nodes = _profile(model, feeds, threads)
    graph = model_io.read(model)
    holds = {layer.name: layer.reason is None for layer in find_layers(graph)}
    return share_of(nodes, layers_of_nodes(graph, holds), holds)


def share_of(nodes: Iterable[NodeTime], owners: Mapping[str, str], holds: Mapping[str, bool]) -> float:
    """Return the share of the time that layers with 2:4 weights take.

    Parameters
    ----------
    nodes
        What ran.
    owners
        As :func:`sparse_rt.bench.profile.layers_of_nodes` returns them.
    holds
        Whether each layer's weight holds 2:4.
    """
    inside = total = 0.0
    for node in nodes:
        total += node.seconds
        owner = owner_of(node, owners)
        if owner is None and node.is_product:
            raise ValueError(f"profile: expected the name of a node after some layer, got '{node.name}'.")
        inside += node.seconds * (owner is not None and holds[owner])
    return inside / total


def _profile(model: Path, feeds: Path, threads: int) -> list[NodeTime]:
    """Return the nodes of the optimised model."""
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
        return node_times(Path(session.end_profiling()), _WARM_UP)
