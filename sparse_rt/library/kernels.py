"""What makes the kernel of a node: a segment that this process holds, or a compressed layer in a file."""

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.library import operators, segments
from sparse_rt.library.describe import described
from sparse_rt.library.fallback import Fallback
from sparse_rt.library.kernel_block import KernelBlock
from sparse_rt.library.node_segment import Refusal, segment_of
from sparse_rt.library.onnxruntime_api import Api
from sparse_rt.plan.hosted import host

__all__ = ["make_layer", "make_segment"]

#: That a kernel does not know yet.
_UNKNOWN_THREADS = 0


def make_segment(number: int, library: int, api: Api, info: int) -> KernelBlock:
    """Return the kernel of a node that is a segment; see :data:`sparse_rt.library.callbacks.Maker`.

    Raises
    ------
    ModelError
        It names a segment that this process does not hold.
    """
    found = segments.find(api.integer(info, host.ATTRIBUTE))
    if found is None:
        where = f"node '{api.node_name(info)}'"
        raise ModelError(message(where, "a segment of a session in this process", "a number of none"))
    return KernelBlock(library, found.segment, range(len(found.segment.inputs)), found.threads)


def make_layer(number: int, library: int, api: Api, info: int) -> KernelBlock:
    """Return the kernel of a node that is a compressed layer; see :data:`sparse_rt.library.callbacks.Maker`.

    Its operator is number `number` of :func:`sparse_rt.library.operators.domains`.

    Raises
    ------
    ModelError, FormatError
        The node is corrupt.
    """
    _, op_type = operators.name_of(number)
    node = described(api, info, op_type)
    segment = segment_of(node)
    runner = Fallback(node, _UNKNOWN_THREADS) if isinstance(segment, Refusal) else segment
    operands = COMPRESSED[op_type].inputs
    return KernelBlock(library, runner, [operands.index(name) for name in runner.inputs], _UNKNOWN_THREADS)
