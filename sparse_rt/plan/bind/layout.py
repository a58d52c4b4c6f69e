"""Choose how values between the steps of a segment lie in memory: planes (NCHW), or blocks of 8 channels (NCHWc8).

Convolutions of bytes over blocks read their input where it lies and store whole registers; over planes they transpose
both. So what such a layer writes lies in blocks for all layers that read it; other steps read a copy in planes. An Add
of what a layer writes, and of a residual, is computed over blocks, too, right after the layer.

Each value in blocks has one layout, its border and the byte in it included (:class:`NCHWc8`). Every step that
writes the value fills that border, and every step that reads it may rely on it;
:mod:`sparse_rt.plan.bind.check` compares what steps say of the values between them.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from sparse_rt_kernels.between.elementwise import prepare_quantised_add, sum_of_bytes
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.registry import BlockedLayouts
from sparse_rt_kernels.product.u8s8.transpose import border_phase, prepare_to_blocks, prepare_to_planes
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.plan.bind.layout_candidates import IMAGE_AXES, all_shapes, geometry_over_blocks
from sparse_rt.plan.bind.layout_sums import Sum, find_sums, unsigned
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import BindableStep

__all__ = ["in_blocks", "laid_out"]

_Border = tuple[int, int, int, int]
_BYTE = np.dtype(np.uint8)
#: Convolutions that read the same planes, from which on these are transposed once for all of them.
_WORTH_A_TRANSPOSE: Final = 2
#: Layouts that are tried: in each, what did not fit in the one before reads planes, or is left out.
_MOST_ATTEMPTS: Final = 16


def in_blocks(name: str) -> str:
    """Return the name of a value where it lies in blocks of 8 channels."""
    return f"{name}/NCHWc8"


def laid_out(
    steps: Sequence[BindableStep], shapes: Mapping[str, tuple[int, ...]], kept: Collection[str], threads: int
) -> tuple[BindableStep, ...]:
    """Return the steps of a segment with convolutions over blocks wherever kernels know them, and transposes between.

    Parameters
    ----------
    steps
        In order of execution.
    shapes
        Of the segment's inputs.
    kept
        Values that others read: they are written as planes.
    threads
        Of the pool.
    """
    known = all_shapes(steps, shapes)
    able = {step.y: found for step in steps if (found := geometry_over_blocks(step, known)) is not None}
    from_planes: set[str] = set()
    for _ in range(_MOST_ATTEMPTS if able else 0):
        layout = _Layout(steps, known, able, from_planes, kept, threads)
        if not layout.unfit:
            return layout.steps()
        able = {name: geometry for name, geometry in able.items() if name not in layout.unfit & from_planes}
        from_planes |= layout.unfit
    return tuple(steps)


class _Layout:
    """One attempt: all of `able`, geometries of convolutions by what they write, over blocks where that helps.

    Those of `from_planes` read planes in any case.

    Attributes
    ----------
    unfit
        The convolutions, by what they write, that the kernel does not fit then.
    """

    def __init__(
        self,
        steps: Sequence[BindableStep],
        shapes: Mapping[str, tuple[int, ...] | None],
        able: Mapping[str, ConvGeometry],
        from_planes: Collection[str],
        kept: Collection[str],
        threads: int,
    ) -> None:
        self._steps, self._shapes, self._able, self._kept, self._threads = steps, shapes, able, kept, threads
        self._from_planes = from_planes
        self._writers = {step.y: step for step in steps}
        self._readers: dict[str, list[BindableStep]] = {}
        for step in steps:
            for name in step.inputs:
                self._readers.setdefault(name, []).append(step)
        self._reading: dict[str, dict[str, ConvGeometry]] = {}
        #: By what the Add writes.
        self._sums = find_sums(steps, shapes, {name for name in able if name not in kept and self._is_read_once(name)})
        #: The sums, by the operand that is computed with them.
        self._sum_of = {each.own: name for name, each in self._sums.items()}
        self._blocks = self._choose_blocks()
        self.unfit: set[str] = set()
        self._convolutions = self._prepare()

    def _is_read_once(self, name: str) -> bool:
        return len(self._readers.get(name, ())) == 1

    def _convolutions_of(self, name: str) -> dict[str, ConvGeometry]:
        """Return the convolutions that read a value in blocks, by what they write: those whose padding is the same."""
        found = self._reading.get(name)
        if found is None:
            found = self._reading[name] = self._find_convolutions_of(name)
        return found

    def _find_convolutions_of(self, name: str) -> dict[str, ConvGeometry]:
        able = {step.y: self._able[step.y] for step in self._readers.get(name, ()) if step.y in self._able}
        able = {y: geometry for y, geometry in able.items() if y not in self._from_planes}
        padding = next((geometry.pad_value for geometry in able.values() if any(geometry.pads)), 0)
        return {y: geometry for y, geometry in able.items() if geometry.pad_value == padding or not any(geometry.pads)}

    def _pad(self, name: str) -> int:
        """Return the byte around a value in blocks: the padding of its readers, or else what an Add takes for zero."""
        for geometry in self._convolutions_of(name).values():
            if any(geometry.pads):
                return unsigned(geometry.pad_value, self._dtype(name))
        if name in self._sums:
            return unsigned(self._sums[name].addition.y.zero_point, self._dtype(name))
        added = (self._sums[step.y] for step in self._readers.get(name, ()) if step.y in self._sums)
        return next((each.zero_point(name) for each in added), 0)

    def _dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype of a value's bytes in planes."""
        writer = self._writers.get(name)
        if writer is not None:
            return writer.y_dtype
        reader = self._readers[name][0]
        return reader.x_dtypes[reader.inputs.index(name)]

    def _choose_blocks(self) -> dict[str, NCHWc8]:
        """Return the values that lie in blocks, and how; a residual has the border of the sum that it is part of."""
        chosen = {*self._sums, *(each.residual for each in self._sums.values())}
        for name in dict.fromkeys((*self._readers, *self._writers)):
            readers = len(self._convolutions_of(name))
            is_ours = name in self._sums or (name in self._able and name not in self._sum_of)
            if readers >= (1 if is_ours else _WORTH_A_TRANSPOSE):
                chosen.add(name)
        borders: dict[str, _Border] = {}
        for name in chosen:
            pads = [geometry.pads for geometry in self._convolutions_of(name).values()]
            borders[name] = _largest([(0, 0, 0, 0), *pads])
        for equal in _connected((name, each.residual) for name, each in self._sums.items()):
            borders.update(dict.fromkeys(equal, _largest([borders[name] for name in equal])))
        return {
            name: NCHWc8(*shape, borders[name], self._pad(name))
            for name in chosen
            if (shape := self._shapes[name]) is not None and len(shape) == IMAGE_AXES
        }

    def _prepare(self) -> dict[str, tuple[LaidOutStep, ...]]:
        """Return the convolutions that read or write blocks, by what they write; note those that do not fit."""
        prepared: dict[str, tuple[LaidOutStep, ...]] = {}
        for own in self._able:
            layer, y = self._writers[own], self._sum_of.get(own, own)
            if not isinstance(layer, SparseStep):
                continue
            x_layout = self._blocks.get(layer.x) if own in self._convolutions_of(layer.x) else None
            if x_layout is None and y not in self._blocks:
                continue
            steps = self._over_blocks(layer, x_layout, y)
            if steps is None:
                self.unfit.add(own)
            else:
                prepared[y] = steps
        return prepared

    def _over_blocks(self, layer: SparseStep, x_layout: NCHWc8 | None, y: str) -> tuple[LaidOutStep, ...] | None:
        """Return the step of a layer up to `y`: what it writes, or a sum, with the step of whose Add it ends."""
        added = self._sums.get(y)
        addition = added and self._addition(added)
        written, y_layout = layer.y, self._blocks.get(y)
        if addition is not None:
            y_layout = addition.layouts[addition.inputs.index(in_blocks(written))]
        operands = (layer.packed, layer.epilogue, self._threads, BlockedLayouts(x_layout, y_layout))
        prepare = layer.kernel.prepare_blocked
        launch = prepare and prepare(self._able[layer.y], layer.x_dtype, layer.y_dtype, *operands)
        if launch is None:
            return None
        name, dtype, shape = written, layer.y_dtype, self._shapes[written] or ()
        if y_layout is not None:
            name, dtype, shape = in_blocks(written), _BYTE, y_layout.array_shape
        step = LaidOutStep(
            layer.kernel.name,
            layer.name,
            (layer.x if x_layout is None else in_blocks(layer.x),),
            (layer.x_dtype if x_layout is None else _BYTE,),
            name,
            dtype,
            shape,
            launch,
            (x_layout,),
            y_layout,
        )
        return (step,) if addition is None else (step, addition)

    def _addition(self, added: Sum) -> LaidOutStep:
        """Return an Add as a step over blocks.

        It adds borders, too: of zeros they are zeros. A border that must hold another byte is stored after.
        """
        step, own, other, addition = added
        layout = self._blocks[step.y]
        layouts = {own: replace(layout, pad=added.zero_point(own)), other: self._blocks[other]}
        a, b = (layouts[name] for name in step.inputs)
        shape, inputs = layout.array_shape, tuple(map(in_blocks, step.inputs))
        first, second = step.x_dtypes
        launch = prepare_quantised_add(
            math.prod(shape), first, second, step.y_dtype, addition, self._threads, step.tier, in_blocks=True
        )
        if layout.has_border and sum_of_bytes(addition, (first, second), step.y_dtype, a.pad, b.pad) != layout.pad:
            launch = Launch([*launch.phases, border_phase(layout, self._threads)])
        types = ((_BYTE, _BYTE), in_blocks(step.y), _BYTE, shape)
        return LaidOutStep(step.op_type, step.name, inputs, *types, launch, (a, b), layout, inputs)

    def steps(self) -> tuple[BindableStep, ...]:
        """Return all steps, those that transpose values included."""
        done: list[BindableStep] = [self._to_blocks(name) for name in self._blocks if name not in self._writers]
        for step in self._steps:
            name = step.y
            if name in self._sum_of:
                continue
            convolution = self._convolutions.get(name)
            done.extend([step] if convolution is None else convolution)
            if name not in self._blocks:
                continue
            if convolution is None:
                done.append(self._to_blocks(name))
            elif self._is_read_in_planes(name):
                done.append(self._to_planes(name, step.y_dtype))
        return tuple(done)

    def _is_read_in_planes(self, name: str) -> bool:
        if name in self._kept:
            return True
        for step in self._readers.get(name, ()):
            reading: Sequence[BindableStep] = self._convolutions.get(self._sum_of.get(step.y, step.y), (step,))
            if any(name in each.inputs for each in reading):
                return True
        return False

    def _to_planes(self, name: str, dtype: np.dtype[Any]) -> LaidOutStep:
        layout = self._blocks[name]
        launch = prepare_to_planes(layout, dtype, self._threads)
        types = ((_BYTE,), name, dtype, layout.shape)
        return LaidOutStep("Layout", "NCHWc8 to planes", (in_blocks(name),), *types, launch, (layout,), None)

    def _to_blocks(self, name: str) -> LaidOutStep:
        layout, dtype = self._blocks[name], self._dtype(name)
        launch = prepare_to_blocks(layout, dtype, self._threads)
        types = ((dtype,), in_blocks(name), _BYTE, layout.array_shape)
        return LaidOutStep("Layout", "planes to NCHWc8", (name,), *types, launch, (None,), layout)


def _connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the sets of names that pairs connect, over however many others."""
    neighbours: dict[str, list[str]] = {}
    for one, other in pairs:
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    found: list[list[str]] = []
    seen: set[str] = set()
    for first in neighbours:
        if first in seen:
            continue
        seen.add(first)
        together = [first]
        for name in together:  # it grows meanwhile
            new = [other for other in neighbours[name] if other not in seen]
            seen.update(new)
            together.extend(dict.fromkeys(new))
        found.append(together)
    return found


def _largest(borders: Sequence[_Border]) -> _Border:
    top, left, bottom, right = (max(sides) for sides in zip(*borders, strict=True))
    return top, left, bottom, right
