"""One island of nodes that onnxruntime runs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.empty_pools import WITHOUT_BLOCKS, may_be_empty, watched
from sparse_rt.errors import ModelError, also, message
from sparse_rt.plan.islands.engine import Engine, refuse_to_open
from sparse_rt.plan.islands.island import Island
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg
from sparse_rt.plan.steps.step import Environment
from sparse_rt.protos import node_lists

__all__ = ["OnnxRuntimeStep", "engine_of_file", "engine_of_model", "open_island"]

_SPINNING = "session.intra_op.allow_spinning"


@dataclass(frozen=True, eq=False, slots=True)
class OnnxRuntimeStep:
    """Run a part of the model, or all of it, in onnxruntime.

    Attributes
    ----------
    engine
        Holds onnxruntime's session; safe to call from several threads.
    inputs, outputs
        Names of the values that it reads and writes.
    nodes
        How many nodes it holds, before onnxruntime's optimisation.
    """

    engine: Engine
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute the outputs. Errors of onnxruntime's own operators pass through as it raises them."""
        feeds = {name: values[name] for name in self.inputs}
        # Workers that look for sparse work would take the CPUs from onnxruntime's own.
        pool.rest()
        results = self.engine.session.run(self.outputs, feeds, run_options)
        values.update(zip(self.outputs, results, strict=True))

    def describe(self) -> str:
        """Return one line for a person."""
        return f"onnxruntime  {self.nodes} nodes  {', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    def output_types(self) -> tuple[NodeArg, ...]:
        """Return the types and shapes that onnxruntime inferred."""
        found = {item.name: item for item in self.engine.open().get_outputs()}
        return tuple(
            NodeArg(name, found[name].type, list(found[name].shape), bool(found[name].shape)) for name in self.outputs
        )


def engine_of_file(path: str, options: Callable[[], ort.SessionOptions], *, is_watched: bool = False) -> Engine:
    """Return the engine that runs the model in a file; `is_watched` is :func:`~sparse_rt.empty_pools.may_be_empty`.

    Raises
    ------
    ModelError
        onnxruntime does not load the model; also an instance of the class that onnxruntime raised.
    """
    # A child may open it in another folder, when the file is another one.
    found, mark = os.path.abspath(path), _mark(path)

    def opened() -> Any:
        if _mark(found) != mark:
            remedy = "Make a new session."
            raise ModelError(message(f"model '{found}'", "the file that the session was made from", "another", remedy))
        return _opened(found, options, f"model '{path}'", is_watched=is_watched)

    return Engine(opened)


def engine_of_model(content: bytes, options: Callable[[], ort.SessionOptions], *, is_watched: bool = False) -> Engine:
    """Return the engine that runs a serialised model; the options are made anew each time it is opened.

    Raises
    ------
    ModelError
        onnxruntime does not load the model.
    """
    return Engine(lambda: _opened(content, options, "model", is_watched=is_watched))


def open_island(island: Island, options: SessionOptions, threads: int | None = None) -> OnnxRuntimeStep:
    """Return the step that runs an island between sparse layers, on `threads` threads, or as many as `options` say.

    Raises
    ------
    ModelError
        onnxruntime does not load it.
    """

    def native() -> ort.SessionOptions:
        made = options.onnxruntime_options(threads)
        if _SPINNING not in options.config_entries:
            # A pool that spins after its work takes the cores from the sparse kernels that come next.
            made.add_session_config_entry(_SPINNING, "0")
        if island.external:
            made.add_external_initializers(list(island.external), list(island.external.values()))
        return made

    is_watched = may_be_empty(node for nodes in node_lists(island.model) for node in nodes)
    engine = engine_of_model(island.model.SerializeToString(), native, is_watched=is_watched)
    return OnnxRuntimeStep(engine, island.inputs, island.outputs, len(island.model.graph.node))


def _opened(source: str | bytes, options: Callable[[], ort.SessionOptions], where: str, *, is_watched: bool) -> Any:
    refuse_to_open()

    def native(careful: bool = False) -> ort.InferenceSession:
        return ort.InferenceSession(
            source, options(), providers=["CPUExecutionProvider"], **(WITHOUT_BLOCKS if careful else {})
        )

    try:
        return watched(native, source) if is_watched else native()
    except Exception as error:  # onnxruntime raises a dozen unrelated types for a bad model
        got = " ".join(str(error).split()) or type(error).__name__
        kind = type(error) if type(error).__module__.startswith("onnxruntime") else ModelError
        raise also(ModelError, kind)(message(where, "a model that onnxruntime loads", got)) from error


def _mark(path: str) -> tuple[int, ...]:
    """Return what tells a file from another one of the same name; nothing of a file that is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino
