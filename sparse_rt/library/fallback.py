"""What runs a node that no kernel of ours computes: stock onnxruntime, on the dense operator that it stands for.

onnxruntime does not go back to a function's body once an operator of that name is registered.
"""

from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.graph.passes.decompress import decompress_model
from sparse_rt.library.node import NodeDescription
from sparse_rt.library.node_model import OUTPUT, model_of
from sparse_rt.plan.islands.island import cut
from sparse_rt.plan.islands.onnxruntime_step import open_island
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.steps.step import Environment

__all__ = ["Fallback"]


class Fallback:
    """A node in a session of its own, with its weight decoded; it gives what the function's body would.

    It is run as a segment is that has no native call for any shapes.

    Parameters
    ----------
    node
        Its constants are copied.
    threads
        Of the session.

    Raises
    ------
    ModelError
        onnxruntime does not load the operator.
    FormatError
        The compressed weight is corrupt.

    Attributes
    ----------
    inputs, outputs
        Names of the values that it reads and writes.
    """

    def __init__(self, node: NodeDescription, threads: int) -> None:
        model = decompress_model(model_of(node))
        island = cut(model, list(model.graph), model.graph.outputs, {})
        self._step = open_island(island, SessionOptions(intra_op_num_threads=max(1, threads)))
        self.inputs = island.inputs
        self.outputs = (OUTPUT,)

    def bind(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> None:
        """Return None: there is no native call."""

    def run(self, values: Environment, pool: ThreadPool) -> None:
        """Compute the output. Errors of onnxruntime's operators pass through as it raises them."""
        self._step.run(values, pool)
