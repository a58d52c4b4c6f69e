"""What makes the kernel of a node: a segment that this process holds, or a compressed layer in a file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.library import operators, segments
from sparse_rt.library.describe import described
from sparse_rt.library.fallback import Fallback
from sparse_rt.library.kernel_block import KernelBlock, Runner
from sparse_rt.library.node import NodeDescription
from sparse_rt.library.node_segment import Refusal, segment_of
from sparse_rt.library.onnxruntime_api import Api
from sparse_rt.plan.hosted import host

__all__ = ["LayerRunner", "make_layer", "make_segment", "runner_of"]

#: That a kernel does not know yet.
_UNKNOWN_THREADS = 0


class LayerRunner(NamedTuple):
    """What runs a layer, which inputs of the node it reads, and why that is no kernel of ours, if it is none."""

    runner: Runner
    places: tuple[int, ...]
    refusal: Refusal | None


def make_segment(number: int, library: int, api: Api, info: int) -> KernelBlock:
    """Return the kernel of a node that is a segment; see :data:`sparse_rt.library.callbacks.Maker`.

    Raises
    ------
    ModelError
        It names a segment that this process does not hold, or has other inputs or outputs than that.
    """
    found, where = segments.find(api.integer(info, host.ATTRIBUTE)), f"node '{api.node_name(info)}'"
    if found is None:
        raise ModelError(message(where, "a segment of a session in this process", "a number of none"))
    segment = found.segment
    # Kernels read their inputs without a look at the types, of which onnxruntime knows no rule.
    given = [api.input_type(info, index)[0] for index in range(len(api.inputs(info)))]
    if given != list(segment.input_dtypes) or api.output_count(info) != len(segment.outputs):
        expected = f"inputs {_listed(segment.input_dtypes)} and {len(segment.outputs)} outputs"
        raise ModelError(message(where, expected, f"{_listed(given)} and {api.output_count(info)}"))
    return KernelBlock(library, segment, range(len(segment.inputs)), found.threads)


def make_layer(number: int, library: int, api: Api, info: int) -> KernelBlock:
    """Return the kernel of a node that is a compressed layer; see :data:`sparse_rt.library.callbacks.Maker`.

    Its operator is number `number` of :func:`sparse_rt.library.operators.domains`.

    Raises
    ------
    ModelError, FormatError
        The node is corrupt.
    """
    found = runner_of(described(api, info, operators.name_of(number)[1]))
    return KernelBlock(library, found.runner, found.places, _UNKNOWN_THREADS)


def runner_of(node: NodeDescription) -> LayerRunner:
    """Return what runs a compressed layer. Raises what :func:`make_layer` does."""
    segment = segment_of(node)
    refusal = segment if isinstance(segment, Refusal) else None
    runner = Fallback(node, _UNKNOWN_THREADS) if isinstance(segment, Refusal) else segment
    operands = COMPRESSED[node.op_type].inputs
    return LayerRunner(runner, tuple(operands.index(name) for name in runner.inputs), refusal)


def _listed(dtypes: Sequence[np.dtype[Any]]) -> str:
    return f"({', '.join(map(str, dtypes))})"
