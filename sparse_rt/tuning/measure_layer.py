"""Time one layer: its sparse kernel, a dense kernel of ours, onnxruntime."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.formats import DENSE
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.report import Trial
from sparse_rt.plan.single_layer import in_onnxruntime, on_kernel
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Environment, Step

__all__ = ["ONNXRUNTIME", "measure_layer", "ways_of_layer"]

ONNXRUNTIME = "onnxruntime"


def ways_of_layer(
    draft: Draft, layer: Layer, step: SparseStep, arrays: Mapping[str, NDArray[Any]], options: SessionOptions
) -> dict[str, Step]:
    """Return the ways to run a layer.

    Parameters
    ----------
    draft, layer, step
        The layer, and its sparse step.
    arrays
        What the step reads.
    options
        Of the session.
    """
    ways: dict[str, Step] = {step.kernel.name: step}
    dense = _dense_step(draft, layer, step, options)
    if dense is not None:
        ways[dense.kernel.name] = dense
    stock = in_onnxruntime(draft, layer, arrays, options)
    if stock is not None:
        ways[ONNXRUNTIME] = stock
    return ways


def measure_layer(
    ways: Mapping[str, Step],
    arrays: Mapping[str, NDArray[Any]],
    pool: ThreadPool,
    time: Callable[[Mapping[str, Callable[[], object]]], dict[str, float]],
) -> tuple[Trial, ...]:
    """Return what each way to run a layer took.

    Parameters
    ----------
    ways
        Those of :func:`ways_of_layer`.
    arrays
        What they read.
    pool
        Of the session.
    time
        Returns the median seconds of a run of each candidate.
    """
    values: Environment = dict(arrays)
    runs: dict[str, Callable[[], object]] = {name: partial(way.run, values, pool) for name, way in ways.items()}
    for name in list(runs):
        try:
            runs[name]()  # compiles, which is not measured
        except Exception:  # onnxruntime raises what it likes
            del runs[name]
    return tuple(Trial(name, round(1e6 * found, 2)) for name, found in time(runs).items())


def _dense_step(draft: Draft, layer: Layer, step: SparseStep, options: SessionOptions) -> SparseStep | None:
    """Return the same layer on a dense kernel of ours; None where that was never found to be faster."""
    few = step.kernel.few_channels
    if few is not None and min(layer.shape[:2]) > few:
        return None
    try:
        kernel = registry.select(step.kernel.dtype, DENSE.name, options.kernel_tier)
    except LookupError:
        return None
    found = on_kernel(draft, layer, kernel.name, options)
    # What one of them absorbs and the other does not would not be a fair comparison.
    return found if found is not None and (found.inputs, found.y) == (step.inputs, step.y) else None
