"""What makes the kernel of a node: of a segment that this process holds, or of a compressed layer in a file."""

from sparse_rt.errors import ModelError, message
from sparse_rt.library import segments
from sparse_rt.library.kernel_block import KernelBlock
from sparse_rt.library.onnxruntime_api import Api

__all__ = ["make"]


def make(number: int, library: int, api: Api, info: int) -> KernelBlock:
    """Return the kernel of a node.

    Parameters
    ----------
    number
        Of its operator, in the order of :func:`sparse_rt.library.operators.domains`.
    library
        Address of the library's block.
    api, info
        onnxruntime, and what it tells of the node.

    Raises
    ------
    ModelError
        This process holds no such segment.
    """
    found = segments.find(api.integer(info, segments.ATTRIBUTE))
    if found is None:
        where = f"node '{api.node_name(info)}'"
        raise ModelError(message(where, "a segment of a session in this process", "a number of none"))
    return KernelBlock(library, found.segment, range(len(found.segment.inputs)), found.threads)
