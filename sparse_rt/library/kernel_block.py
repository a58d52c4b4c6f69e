"""One kernel of onnxruntime's, as Python keeps it: its segment, its calls, its block of words."""

import functools
import threading
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.custom_op.compute import MOST_INPUTS, MOST_OUTPUTS
from sparse_rt_kernels.custom_op.words import kernel
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.workspace import address_of

from sparse_rt.errors import ModelError, message
from sparse_rt.library.call_block import CallBlock
from sparse_rt.library.onnxruntime_api import Api
from sparse_rt.plan.bind.bound_segment import BoundSegment
from sparse_rt.plan.steps.step import Environment

__all__ = ["KernelBlock", "Runner"]

_WORD = 8
#: How many calls a kernel keeps; those for further shapes are made anew in each run, as a session does.
_MOST_CALLS: Final = 64


class Runner(Protocol):
    """What a kernel runs: a :class:`.segment.Segment`, or what is like one."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        ...

    def bind(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> BoundSegment | None:
        """Return the call for inputs of `shapes`; None where there is no native one."""
        ...

    def run(self, values: Environment, pool: ThreadPool) -> None:
        """Compute the outputs from the inputs; both are kept in `values`."""
        ...


class KernelBlock:
    """A kernel that runs a segment.

    Parameters
    ----------
    library
        Address of the library's block.
    segment
        What it runs.
    places
        Which inputs of the node are the segment's, in its order.
    threads
        Of onnxruntime's pool; 0 where that is not known.

    Raises
    ------
    ModelError
        It has more inputs or outputs than a run has room for.
    """

    def __init__(self, library: int, segment: Runner, places: Sequence[int], threads: int) -> None:
        if len(segment.inputs) > MOST_INPUTS or len(segment.outputs) > MOST_OUTPUTS:
            got = f"{len(segment.inputs)} and {len(segment.outputs)}"
            expected = f"at most {MOST_INPUTS} inputs and {MOST_OUTPUTS} outputs"
            raise ModelError(message("kernel of onnxruntime", expected, got))
        self.segment = segment
        #: Address of onnxruntime's functions.
        self.api = 0
        self._lock = threading.Lock()
        self._pool = functools.cache(ThreadPool)
        self._calls: list[CallBlock] = []
        self._places: NDArray[np.int64] = np.array([*places, 0], np.int64)
        self._words: NDArray[np.int64] = np.zeros(kernel.COUNT, np.int64)
        for place, word in (
            (kernel.LIBRARY, library),
            (kernel.THREADS, max(1, threads)),
            (kernel.LOOKS, 0 if threads else kernel.MOST_LOOKS),
            (kernel.INPUT_COUNT, len(places)),
            (kernel.INPUTS, address_of(self._places)),
        ):
            self._words[place // _WORD] = word

    @property
    def address(self) -> int:
        """Of its words."""
        return address_of(self._words)

    def prepare(self, shapes: Sequence[tuple[int, ...]], threads: int) -> CallBlock | None:
        """Return the call for inputs of `shapes`, kept if it is one of the first.

        None where there is no native call: then, and from then on, :meth:`run` is what runs the kernel.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        with self._lock:
            bound = self.segment.bind(tuple(shapes), threads)
            if bound is None:
                self._words[kernel.RUNS_ELSEWHERE // _WORD] = 1
                return None
            call = CallBlock(bound, self.segment.inputs, self.segment.outputs, shapes, threads)
            # A draft is laid out once its shapes have come often.
            if len(self._calls) < _MOST_CALLS and not bound.is_draft:
                call.link(int(self._words[kernel.CALLS // _WORD]))
                self._calls.append(call)
                self._words[kernel.CALLS // _WORD] = call.address
        return call

    def run(self, api: Api, context: int) -> None:
        """Run step by step, through Python."""
        segment = self.segment
        values = {
            name: api.input_array(context, place)
            for name, place in zip(segment.inputs, self._places.tolist()[:-1], strict=True)
        }
        segment.run(values, self._pool(int(self._words[kernel.THREADS // _WORD])))
        for index, name in enumerate(segment.outputs):
            api.output_array(context, index, values[name].shape)[...] = values[name]
