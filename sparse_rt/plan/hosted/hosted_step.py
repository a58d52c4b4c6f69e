"""One session of onnxruntime that runs a whole model, segments of ours included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.hosted.host import Host
from sparse_rt.plan.islands.engine import Engine
from sparse_rt.plan.islands.island import Island
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep, engine_of_model
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.steps.step import BindableStep, Environment

__all__ = ["HostedStep", "hosted_engine"]


@dataclass(frozen=True, eq=False, slots=True)
class HostedStep(OnnxRuntimeStep):
    """Run a whole model in onnxruntime, with segments of ours as operators in it.

    Attributes
    ----------
    segments
        By the names of their nodes.
    island
        The model.
    options, host
        What it was opened with.
    """

    segments: Mapping[str, Segment]
    island: Island
    options: SessionOptions
    host: Host

    @property
    def kernel_steps(self) -> tuple[BindableStep, ...]:
        """The steps that kernels of ours run."""
        return tuple(step for segment in self.segments.values() for step in segment.steps)

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute the outputs. Errors of onnxruntime's own operators pass through as it raises them.

        Raises
        ------
        FeedError
            Inputs of these shapes cannot be computed by a segment.
        """
        try:
            # Not by super(): a class with slots is another one than its methods know.
            OnnxRuntimeStep.run(self, values, pool, run_options)
        except Exception as error:
            refusal = self.host.error_of(str(error))
            if isinstance(refusal, FeedError):
                raise refusal from error
            raise

    def look_inside(self, values: Environment) -> dict[str, Any]:
        """Run the model in a session that shows them, and return what all segments read and write.

        That session does not optimise: with Q and DQ nodes moved to other places onnxruntime would show rounded values.
        """
        names = dict.fromkeys(
            name for segment in self.segments.values() for name in (*segment.inputs, *segment.outputs)
        )
        model = onnx.ModelProto()
        model.CopyFrom(self.island.model)
        given = {item.name for item in (*model.graph.initializer, *model.graph.input)}
        shown = {item.name for item in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in {*given, *shown})
        island = Island(model, self.inputs, tuple(item.name for item in model.graph.output), self.island.external)
        engine = hosted_engine(island, self.options, self.host, optimise=False)
        feeds = {name: values[name] for name in self.inputs}
        return dict(zip(island.outputs, engine.session.run(island.outputs, feeds), strict=True))

    def describe(self) -> str:
        """Return one line for a person."""
        nodes = f"{self.nodes} nodes, {len(self.segments)} of them segments of kernels"
        return f"onnxruntime  {nodes}  {', '.join(self.inputs)} -> {', '.join(self.outputs)}"


def hosted_engine(island: Island, options: SessionOptions, host: Host, *, optimise: bool = True) -> Engine:
    """Return the engine that runs a model with segments.

    Raises
    ------
    ModelError
        onnxruntime does not load it.
    """

    def native() -> ort.SessionOptions:
        made = options.onnxruntime_options()
        if not optimise:
            made.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        made.register_custom_ops_library(host.get_library_path())
        if island.external:
            made.add_external_initializers(list(island.external), list(island.external.values()))
        return made

    return engine_of_model(island.model.SerializeToString(), native)
