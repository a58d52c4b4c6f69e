"""Compile the kernels of a plan before its first run, with a progress bar on a terminal."""

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.match.packing import pack_blank
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.steps.operator_step import OperatorStep
from sparse_rt.plan.steps.sparse_step import SparseStep

__all__ = ["warm_up"]

_BAR_AFTER_SECONDS = 0.5
_Variant = tuple[str, str, str, str]


def warm_up(plan: Plan, pool: ThreadPool) -> None:
    """Compile all that a run of `plan` on `pool` will call, or load it from the disk cache.

    Segments are bound to the shapes of their inputs where these are known, which compiles native tasks. Elsewhere,
    where the shape of a step's input is known, the step's call is prepared for it. Other calls are made once on a tiny
    problem, each kind of them. If standard error is a terminal and it takes longer than half a second, a progress bar
    says what is going on.
    """
    bound = {id(step) for segment in plan.segments if _bind(segment, plan.shapes, pool) for step in segment.steps}
    if bound:
        pool.warm_up()
    todo = [step for step in plan.kernel_steps if isinstance(step, SparseStep | OperatorStep) and id(step) not in bound]
    if sys.stderr.isatty():
        steps: Iterable[SparseStep | OperatorStep] = _with_bar(todo)
    else:
        steps = todo
    are_native = [_warm_up_step(step, plan.shapes.get(step.x), pool) for step in steps]
    if any(are_native):
        pool.warm_up()


def _bind(segment: Segment, shapes: Mapping[str, tuple[int, ...]], pool: ThreadPool) -> bool:
    """Bind a segment to the shapes of its inputs, if they are known; return whether its steps run as one."""
    if any(name not in shapes for name in segment.inputs):
        return False
    try:
        return segment.bind(tuple(shapes[name] for name in segment.inputs), pool.threads) is not None
    except FeedError:  # a run will say so
        return False


def _warm_up_step(step: SparseStep | OperatorStep, shape: tuple[int, ...] | None, pool: ThreadPool) -> bool:
    """Compile what a step calls; return whether it has a call."""
    if shape is not None:
        try:
            call = step.call_for(shape, pool.threads)
        except FeedError:  # a run will say so
            return False
        return call is not None
    if isinstance(step, SparseStep) and _variant(step) not in _warm:
        _run_tiny(step)
    return False


_warm: set[_Variant] = set()


def _variant(step: SparseStep) -> _Variant:
    if step.convolution is None:
        operation = "matmul" if step.side == "right" else "conv"
    else:
        pointwise = set(step.convolution.kernel) == {1}
        operation = "conv" if pointwise else "conv_indirect"
    return step.kernel.name, operation, step.x_dtype.name, step.y_dtype.name


def _run_tiny(step: SparseStep) -> None:
    """Call the step's kernel on a weight of one output channel and four input channels."""
    variant = _variant(step)
    size = 2 if variant[1] == "conv_indirect" else 1
    packed = pack_blank(step.kernel, (1, 4) if size == 1 else (1, 4, size, size))
    epilogue = _tiny_epilogue(step.epilogue)
    pool = ThreadPool(1)
    if variant[1] == "matmul":
        out = np.empty((1, 1), step.y_dtype)
        step.kernel.matmul(np.zeros((1, 4), step.x_dtype), packed, epilogue, out, pool)
    else:
        geometry = ConvGeometry(1, 4, size, size, 1, kernel=(size, size))
        image = np.zeros((1, 4, size, size), step.x_dtype)
        step.kernel.conv(image, geometry, packed, epilogue, np.empty((1, 1, 1, 1), step.y_dtype), pool)
    _warm.add(variant)


def _tiny_epilogue(epilogue: FloatEpilogue | IntegerEpilogue) -> FloatEpilogue | IntegerEpilogue:
    one = np.ones(1, np.float32)
    if isinstance(epilogue, IntegerEpilogue):
        return replace(epilogue, offset=np.zeros(1, np.int32), scale=one, bias=one)
    return replace(epilogue, bias=one)


def _with_bar(todo: Sequence[SparseStep | OperatorStep]) -> Iterator[SparseStep | OperatorStep]:
    """Yield steps, and show how many have been dealt with."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("compiling kernels"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=len(todo))
    # From a full cache everything loads before the bar would show.
    timer = threading.Timer(_BAR_AFTER_SECONDS, progress.start)
    timer.daemon = True
    timer.start()
    try:
        for step in todo:
            yield step
            progress.advance(task)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
