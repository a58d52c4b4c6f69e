"""Prepared calls of a node as blocks of a library."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Final

from sparse_rt_kernels.custom_op.frozen_library import PreparedCall
from sparse_rt_kernels.custom_op.words import call
from sparse_rt_kernels.jit import machine_code
from sparse_rt_kernels.jit.compilation import TASK_WORDS, compiled_image, kernel_task
from sparse_rt_kernels.jit.object_file import Image
from sparse_rt_kernels.jit.shared_object import Block

from sparse_rt.library.call_block import CallBlock
from sparse_rt.library.frozen.memory import Memory, UnknownAddressError
from sparse_rt.library.frozen.parts import Parts
from sparse_rt.library.node_segment import Refusal
from sparse_rt.plan.bind.bound_segment import BoundSegment
from sparse_rt.plan.bind.segment import Segment

__all__ = ["Calls", "FrozenCalls"]

_WORD: Final = 8


@dataclasses.dataclass(frozen=True)
class FrozenCalls:
    """The calls of a node.

    Attributes
    ----------
    calls
        One for each shape and number of threads.
    input_bytes, output_bytes
        Of a unit of each input and output; empty where no call is a part of another one.
    """

    calls: tuple[PreparedCall, ...]
    input_bytes: tuple[int, ...] = ()
    output_bytes: tuple[int, ...] = ()


class Calls:
    """Binds segments to shapes, and collects the blocks and the code of all calls."""

    def __init__(self) -> None:
        self._functions: dict[int, str] = {}
        #: The tasks by their names.
        self.codes: dict[str, Image] = {}
        self._memory = Memory(self._functions)

    @property
    def blocks(self) -> list[Block]:
        """All data, in an order that its content decides."""
        return [block for _, block in sorted(self._memory.blocks.items())]

    def freeze(self, segment: Segment, parts: Parts, threads: Sequence[int]) -> FrozenCalls | Refusal:
        """Return the calls of a segment for these numbers of threads."""
        bound: list[CallBlock] = []
        sizes: list[tuple[int, ...]] = []
        for shapes in parts.shapes:
            for number in threads:
                # A segment lays out its values for the first shapes that it is bound to.
                own = dataclasses.replace(segment).bind(shapes, number)
                if own is None:
                    return Refusal("a step has no native call")
                if any(launch.has_other_way for launch in own.sequence.launches):
                    return Refusal("a task may have to be repeated in another way")
                if parts.leading and own.views:
                    return Refusal("an output is another shape of an array")
                bound.append(CallBlock(own, segment.inputs, segment.outputs, shapes, number))
                self._add_code(own)
                sizes.append(_output_bytes(own, segment))
        self._memory.hold(bound)
        try:
            calls = tuple(self._frozen(each) for each in bound)
        except UnknownAddressError as error:
            return Refusal(str(error))
        if not parts.leading:
            return FrozenCalls(calls)
        return self._of_units(calls, segment, parts, sizes[0])

    def _of_units(
        self, calls: tuple[PreparedCall, ...], segment: Segment, parts: Parts, output_bytes: tuple[int, ...]
    ) -> FrozenCalls:
        shapes = parts.shapes[0]
        dtypes = segment.input_dtypes
        units = next(
            math.prod(shape[: parts.leading]) for shape, differs in zip(shapes, parts.has_units, strict=True) if differs
        )
        input_bytes = tuple(
            math.prod(shape) * dtype.itemsize // units if differs else 0
            for shape, dtype, differs in zip(shapes, dtypes, parts.has_units, strict=True)
        )
        return FrozenCalls(calls, input_bytes, tuple(nbytes // units for nbytes in output_bytes))

    def _add_code(self, bound: BoundSegment) -> None:
        for launch in bound.sequence.launches:
            for phase in launch.phases:
                address = kernel_task(phase.function)
                if address not in self._functions:
                    image = compiled_image(phase.function, TASK_WORDS, 1)
                    name = f"task {hashlib.sha256(machine_code.pack(image)).hexdigest()}"
                    self.codes[name] = image
                    self._functions[address] = name

    def _frozen(self, block: CallBlock) -> PreparedCall:
        words = block.words.copy()
        pointers = self._memory.pointers_in(words)
        for pointer in pointers:
            words[pointer.at // _WORD] = 0
        words[call.NEXT // _WORD] = 0
        words[call.IS_KEPT // _WORD] = 1
        return PreparedCall(words.tobytes(), tuple(pointers))


def _output_bytes(bound: BoundSegment, segment: Segment) -> tuple[int, ...]:
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape, dtype, _ in bound.written}
    return tuple(sizes.get(name, 0) for name in segment.outputs)
