"""One island of nodes that onnxruntime runs."""

from dataclasses import dataclass
from typing import Any

import onnxruntime as ort
from sparse_rt_kernels.parallel import ThreadPool

from sparse_rt.errors import ModelError, also, message
from sparse_rt.plan.island import Island
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg
from sparse_rt.plan.step import Environment

__all__ = ["OnnxRuntimeStep", "open_island", "open_session"]


_SPINNING = "session.intra_op.allow_spinning"


@dataclass(frozen=True, eq=False, slots=True)
class OnnxRuntimeStep:
    """Run a part of the model, or all of it, in onnxruntime.

    Attributes
    ----------
    session
        onnxruntime's; safe to call from several threads.
    inputs, outputs
        Names of the values that it reads and writes.
    nodes
        How many nodes it holds, before onnxruntime's optimisation.
    """

    session: ort.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute the outputs. Errors of onnxruntime's own operators pass through as it raises them."""
        feeds = {name: values[name] for name in self.inputs}
        # Workers that look for sparse work would take the CPUs from onnxruntime's own.
        pool.rest()
        results = self.session.run(self.outputs, feeds, run_options)
        values.update(zip(self.outputs, results, strict=True))

    def describe(self) -> str:
        """Return one line for a person."""
        return f"onnxruntime  {self.nodes} nodes  {', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    def output_types(self) -> tuple[NodeArg, ...]:
        """Return the types and shapes that onnxruntime inferred."""
        found = {item.name: item for item in self.session.get_outputs()}
        return tuple(
            NodeArg(name, found[name].type, list(found[name].shape), bool(found[name].shape)) for name in self.outputs
        )


def open_session(source: str | bytes, options: ort.SessionOptions, where: str = "model") -> ort.InferenceSession:
    """Return an onnxruntime session on the CPU.

    Raises
    ------
    ModelError
        onnxruntime does not load the model; also an instance of the class that onnxruntime raised.
    """
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated types for a bad model
        got = " ".join(str(error).split()) or type(error).__name__
        kind = type(error) if type(error).__module__.startswith("onnxruntime") else ModelError
        raise also(ModelError, kind)(message(where, "a model that onnxruntime loads", got)) from error


def open_island(island: Island, options: SessionOptions) -> OnnxRuntimeStep:
    """Return the step that runs an island between sparse layers.

    Raises
    ------
    ModelError
        onnxruntime does not load it.
    """
    native = options.onnxruntime_options()
    if _SPINNING not in options.config_entries:
        # A pool that spins after its work takes the cores from the sparse kernels that come next.
        native.add_session_config_entry(_SPINNING, "0")
    if island.external:
        native.add_external_initializers(list(island.external), list(island.external.values()))
    session = open_session(island.model.SerializeToString(), native)
    return OnnxRuntimeStep(session, island.inputs, island.outputs, len(island.model.graph.node))
