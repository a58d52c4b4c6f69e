"""Compile the kernels of a plan before its first run, with a progress bar on a terminal."""

import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.parallel import ThreadPool

from sparse_rt.plan.sparse_step import SparseStep
from sparse_rt.plan.step import Step

__all__ = ["warm_up"]

_BAR_AFTER_SECONDS = 0.5
_Variant = tuple[str, str, str, str]


def warm_up(steps: Iterable[Step]) -> None:
    """Run every kind of kernel call that `steps` will make once, on a tiny problem.

    Kernels are compiled on first use, or loaded from the disk cache; either way the first real run is spared it. If
    standard error is a terminal and it takes longer than half a second, a progress bar says what is going on.
    """
    variants: dict[_Variant, SparseStep] = {}
    for step in steps:
        if isinstance(step, SparseStep):
            variants.setdefault(_variant(step), step)
    todo = [step for variant, step in variants.items() if variant not in _warm]
    if not todo:
        return
    if sys.stderr.isatty():
        _with_bar(todo)
    else:
        for step in todo:
            _run_tiny(step)


_warm: set[_Variant] = set()


def _variant(step: SparseStep) -> _Variant:
    if step.convolution is None:
        operation = "matmul" if step.side == "right" else "conv"
    else:
        pointwise = set(step.convolution.kernel) == {1}
        operation = "conv" if pointwise else "conv_gather"
    return step.kernel.name, operation, step.x_dtype.name, step.y_dtype.name


def _run_tiny(step: SparseStep) -> None:
    """Call the step's kernel on a weight of one output channel and four input channels."""
    variant = _variant(step)
    size = 2 if variant[1] == "conv_gather" else 1
    weight_dtype = np.float32 if step.kernel.dtype == "f32" else np.int8
    k = 4 * size * size
    packed = step.kernel.pack_weight(np.zeros((1, k // 2), weight_dtype), np.zeros((1, -(-k // 8)), np.uint8))
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


def _with_bar(todo: Sequence[SparseStep]) -> None:
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
            _run_tiny(step)
            progress.advance(task)
    finally:
        timer.cancel()
        timer.join()
        progress.stop()
