"""A plan as it runs, held against the same steps run one by one.

What lies between is what binding adds: layouts, the arena, arrays that are written over, layers that compute what
follows them. All of that moves bytes and changes none, so each value must be the same to the bit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.product.nchwc8 import CHANNEL_BLOCK, NCHWc8
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.bind.layout import in_blocks
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.hosted.hosted_step import HostedStep
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.step import BindableStep, Environment, spent

__all__ = ["BothWays", "run_both_ways"]


class BothWays(NamedTuple):
    """One value, computed twice.

    Attributes
    ----------
    step
        The step that writes it in the plan as it runs, which may be one that only changes a layout.
    value
        Its name; with "border" behind it, what lies around its images in blocks, which must be the padding.
    running
        As the running plan has it, brought back into planes where it lies in blocks.
    alone
        As the step computes it by itself from what it reads in the running plan.
    """

    step: BindableStep
    value: str
    running: NDArray[Any]
    alone: NDArray[Any]


def run_both_ways(plan: Plan, feeds: Mapping[str, Any], pool: ThreadPool, seen: Callable[[BothWays], None]) -> None:
    """Run a plan, its segments launch by launch in the arrays of an ordinary run, and every step alone beside it.

    Parameters
    ----------
    plan
        What runs. Steps that are no part of a segment run as they are in any case, so of them nothing is shown. Of a
        hosted plan, what onnxruntime's session has around each segment is held against the segment by itself.
    feeds
        Of the model.
    pool
        Of the kernels.
    seen
        Gets each value, in the order in which they are written; its arrays are copies.
    """
    values: Environment = {**plan.constants, **plan.signature.checked(feeds)}
    for part, names in zip(plan.parts, spent(plan.parts), strict=True):
        if isinstance(part, HostedStep):
            inside = {**values, **part.look_inside(values)}
            for segment in part.segments.values():
                _watch(segment, dict(inside), inside, pool, seen)
        given = dict(values)
        part.run(values, pool)
        if isinstance(part, Segment):
            _watch(part, given, values, pool, seen)
        for name in names:
            values.pop(name, None)


def _watch(
    segment: Segment, given: Environment, values: Environment, pool: ThreadPool, seen: Callable[[BothWays], None]
) -> None:
    """Show a segment, from the values `given`; `values` has what an ordinary run made of them."""
    watch = _Watch(segment, given, pool, seen)
    if segment.show(given, pool, watch.see):
        watch.finish(values)


class _Watch:
    """Runs the steps of one segment alone, each as soon as the running segment has what it writes."""

    def __init__(
        self, segment: Segment, values: Environment, pool: ThreadPool, seen: Callable[[BothWays], None]
    ) -> None:
        self._segment, self._pool, self._seen = segment, pool, seen
        self._values = {name: values[name] for name in segment.inputs}
        self._spent = spent(segment.steps)
        self._next = 0
        self._dtypes = {name: array.dtype for name, array in self._values.items()}
        self._dtypes.update({step.y: step.y_dtype for step in segment.steps})
        self._logical = {in_blocks(name): name for name in self._dtypes}

    def see(self, step: BindableStep, y: NDArray[Any]) -> None:
        """Hold what a step of the running segment has written against the same value computed alone."""
        value = self._logical.get(step.y, step.y)
        while value not in self._values:
            self._run_next()
        if isinstance(step, LaidOutStep) and step.y_layout is not None:
            border = _border(y, step.y_layout)
            self._seen(BothWays(step, f"{value}, border", border, np.full_like(border, step.y_layout.pad)))
            y = _planes(y, step.y_layout, self._dtypes[value])
        self._seen(BothWays(step, value, y, self._values[value]))
        # Later steps are held against what they really read.
        self._values[value] = y

    def finish(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Hold what an ordinary run has handed on, all launches in one call, against what was seen."""
        while self._next < len(self._segment.steps):
            self._run_next()
        writers = {step.y: step for step in self._segment.steps}
        for name in self._segment.outputs:
            self._seen(BothWays(writers[name], name, values[name], self._values[name]))

    def _run_next(self) -> None:
        for name in self._spent[self._next - 1] if self._next else ():
            if name not in self._segment.outputs:
                self._values.pop(name, None)
        self._segment.steps[self._next].run(self._values, self._pool)
        self._next += 1


def _rows(array: NDArray[Any], blocks: NCHWc8) -> NDArray[Any]:
    """Return blocks of 8 channels as (b, c / 8, rows, columns, 8), borders included."""
    rows = array[:, :, : blocks.rows * blocks.row_bytes]
    return rows.reshape(blocks.batch, blocks.channels // CHANNEL_BLOCK, blocks.rows, -1, CHANNEL_BLOCK)


def _border(array: NDArray[Any], blocks: NCHWc8) -> NDArray[Any]:
    """Return the bytes around the images, in a row."""
    rows = _rows(array, blocks)
    around = np.ones(rows.shape[2:4], np.bool_)
    top, left = blocks.border[:2]
    around[top : top + blocks.height, left : left + blocks.width] = False
    return rows[:, :, around].ravel()


def _planes(array: NDArray[Any], blocks: NCHWc8, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return blocks of 8 channels as (b, c, h, w): by NumPy, since the kernels' own transposes are checked, too."""
    top, left = blocks.border[:2]
    images = _rows(array, blocks)[:, :, top : top + blocks.height, left : left + blocks.width]
    pixels = images.transpose(0, 1, 4, 2, 3).reshape(blocks.shape)
    return (pixels ^ np.uint8(128)).view(np.int8) if dtype.char == "b" else pixels
