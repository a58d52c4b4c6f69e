"""Choose how values between the steps of a segment lie in memory: planes (NCHW), or blocks of 8 channels (NCHW8c, c8).

Convolutions of bytes over blocks read their input where it lies and store whole registers; over planes they turn the
one and the other. So what such a layer writes lies in blocks for all layers that read it; other steps read a copy in
planes. An Add of what a layer writes, and of a residual, is computed over blocks, too: right after the layer, or by it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sparse_rt_kernels.channel_blocks import CHANNEL_BLOCK, ChannelBlocks
from sparse_rt_kernels.elementwise import prepare_quantised_add
from sparse_rt_kernels.epilogue import IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_u8s8.image_turns import prepare_to_blocks, prepare_to_planes
from sparse_rt_kernels.registry import Addition, BlockedLayouts

from sparse_rt.plan.laid_out_step import LaidOutStep
from sparse_rt.plan.operators.add import AddStep
from sparse_rt.plan.sparse_step import SparseStep
from sparse_rt.plan.step import BindableStep

__all__ = ["in_blocks", "laid_out"]

_Border = tuple[int, int, int, int]
_BYTE = np.dtype(np.uint8)
_IMAGE_AXES: Final = 4
#: Convolutions that read the same planes, from which on these are turned once for all of them.
_WORTH_A_TURN: Final = 2


def in_blocks(name: str) -> str:
    """Return the name of a value where it lies in blocks of 8 channels."""
    return f"{name}/c8"


def laid_out(
    steps: Sequence[BindableStep], shapes: Mapping[str, tuple[int, ...]], kept: Collection[str], threads: int
) -> tuple[BindableStep, ...]:
    """Return the steps of a segment with convolutions over blocks wherever kernels know them, and turns between.

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
    known = _all_shapes(steps, shapes)
    able = {step.y: found for step in steps if (found := _geometry(step, known)) is not None}
    from_planes: set[str] = set()
    while able:
        layout = _Layout(steps, known, able, from_planes, kept, threads)
        if not layout.unfit:
            return layout.steps()
        able = {name: geometry for name, geometry in able.items() if name not in layout.unfit & from_planes}
        from_planes |= layout.unfit
    return tuple(steps)


def _all_shapes(
    steps: Sequence[BindableStep], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...] | None]:
    known: dict[str, tuple[int, ...] | None] = dict(shapes)
    for step in steps:
        shape = step.output_shape([known.get(name) for name in step.inputs]) or ()
        sizes = tuple(size for size in shape if size is not None)
        known[step.y] = sizes if sizes and len(sizes) == len(shape) else None
    return known


def _geometry(step: BindableStep, shapes: Mapping[str, tuple[int, ...] | None]) -> ConvGeometry | None:
    """Return the geometry of a convolution that may be computed over blocks; None for all else."""
    if not isinstance(step, SparseStep) or step.kernel.prepare_blocked is None or step.convolution is None:
        return None
    if step.residual is not None or not isinstance(step.epilogue, IntegerEpilogue) or step.y_dtype.itemsize > 1:
        return None
    shape, y_shape = shapes[step.x], shapes[step.y]
    if shape is None or y_shape is None or len(shape) != _IMAGE_AXES or 0 in (*shape, *y_shape):
        return None
    return None if step.channels % CHANNEL_BLOCK else step.convolution.geometry(shape)


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
        #: By what an Add writes: the operand whose layer computes it, too.
        self._own = self._additions()
        self._absorbed = set(self._own.values())
        self._blocks = self._choose_blocks()
        self.unfit: set[str] = set()
        self._convolutions = self._prepare()

    def _additions(self) -> dict[str, str]:
        """Find the quantised Adds that the layer which writes one operand can take over: the later one of two.

        Nobody else may read that operand.
        """
        order = {step.y: number for number, step in enumerate(self._steps)}
        found: dict[str, str] = {}
        for step in self._steps:
            if not isinstance(step, AddStep) or step.quantised is None:
                continue
            a, b = step.inputs
            if a == b or self._shapes.get(a) is None or self._shapes.get(a) != self._shapes.get(b):
                continue
            alone = [name for name in (a, b) if name in self._able and name not in self._kept]
            alone = [name for name in alone if len(self._readers[name]) == 1]
            if alone:
                found[step.y] = max(alone, key=lambda name: order[name])
        return found

    def _residual(self, addition: str) -> str:
        return next(name for name in self._writers[addition].inputs if name != self._own[addition])

    def _zero_point(self, name: str) -> int | None:
        """Return the zero point of what a layer over blocks writes; None for what others write."""
        step = self._writers.get(name)
        if isinstance(step, AddStep) and name in self._own and step.quantised is not None:
            return step.quantised.y.zero_point
        if isinstance(step, SparseStep) and name in self._able and isinstance(step.epilogue, IntegerEpilogue):
            return step.epilogue.zero_point
        return None

    def _convolutions_of(self, name: str) -> list[ConvGeometry]:
        """Return the convolutions that can read a value in blocks: those whose padding is what its border holds."""
        zero_point, found = self._zero_point(name), []
        for step in self._readers.get(name, ()):
            geometry = self._able.get(step.y)
            if geometry is None or step.x != name or step.y in self._from_planes:
                continue
            if not any(geometry.pads) or zero_point in (None, geometry.pad_value):
                found.append(geometry)
        return found

    def _choose_blocks(self) -> dict[str, ChannelBlocks]:
        """Return the values that lie in blocks, and how; a residual has the border of the sum that it is part of."""
        residuals = {self._residual(name) for name in self._own}
        chosen = {*self._own, *residuals}
        for name in dict.fromkeys((*self._readers, *self._writers)):
            readers = len(self._convolutions_of(name))
            is_ours = self._zero_point(name) is not None and name not in self._absorbed
            if readers >= (1 if is_ours else _WORTH_A_TURN):
                chosen.add(name)
        borders: dict[str, _Border] = {}
        for name in chosen:
            pads = [geometry.pads for geometry in self._convolutions_of(name)]
            borders[name] = _largest([(0, 0, 0, 0), *pads])
        while True:
            before = dict(borders)
            for name in self._own:
                other = self._residual(name)
                borders[name] = borders[other] = _largest([borders[name], borders[other]])
            if borders == before:
                break
        return {
            name: ChannelBlocks(*shape, borders[name])
            for name in chosen
            if (shape := self._shapes[name]) is not None and len(shape) == _IMAGE_AXES
        }

    def _prepare(self) -> dict[str, tuple[LaidOutStep, ...]]:
        """Return the convolutions that read or write blocks, by what they write; note those that do not fit."""
        prepared: dict[str, tuple[LaidOutStep, ...]] = {}
        for own, geometry in self._able.items():
            layer = self._writers[own]
            if not isinstance(layer, SparseStep) or layer.kernel.prepare_blocked is None:
                continue
            y = next((name for name, operand in self._own.items() if operand == own), own)
            apart = self._addition_apart(y)
            addition = self._addition(y) if apart is None else None
            layouts = BlockedLayouts(self._read_by(layer, geometry), self._blocks.get(y), addition)
            if layouts.x is None and layouts.y is None:
                continue
            operands = (layer.packed, layer.epilogue, self._threads)
            launch = layer.kernel.prepare_blocked(geometry, layer.x_dtype, layer.y_dtype, *operands, layouts)
            if launch is None:
                self.unfit.add(own)
                continue
            inputs = [layer.x if layouts.x is None else in_blocks(layer.x)]
            dtypes = [layer.x_dtype if layouts.x is None else _BYTE]
            if layouts.addition is not None:
                inputs.append(in_blocks(self._residual(y)))
                dtypes.append(_BYTE)
            name, dtype, shape = y, layer.y_dtype, self._shapes[y] or ()
            if layouts.y is not None:
                name, dtype, shape = in_blocks(y if apart is None else own), _BYTE, layouts.y.array_shape
            step = LaidOutStep(layer.kernel.name, layer.name, tuple(inputs), tuple(dtypes), name, dtype, shape, launch)
            prepared[y] = (step,) if apart is None else (step, apart)
        return prepared

    def _read_by(self, layer: SparseStep, geometry: ConvGeometry) -> ChannelBlocks | None:
        blocks = self._blocks.get(layer.x)
        if blocks is None or layer.y in self._from_planes:
            return None
        return blocks if geometry in self._convolutions_of(layer.x) else None

    def _addition(self, name: str) -> Addition | None:
        step = self._writers[name]
        if not isinstance(step, AddStep) or step.quantised is None:
            return None
        a, b = step.dtypes
        return Addition(step.quantised, (a, b), step.y_dtype, step.inputs[0] == self._own[name])

    def _addition_apart(self, name: str) -> LaidOutStep | None:
        """Return an Add of uint8 as a step over blocks; None for one that the layer computes.

        On Zen 5 a pass of its own takes less time than what the sum adds to the layer (docs/kernels.md). Only the layer
        knows int8 in blocks. The border of the sum is the sum of borders: zero, if that is within the bounds.
        """
        step = self._writers[name]
        if (
            not isinstance(step, AddStep)
            or step.quantised is None
            or not step.quantised.low <= 0 <= step.quantised.high
        ):
            return None
        if any(dtype != _BYTE for dtype in (*step.dtypes, step.y_dtype)):
            return None
        shape = self._blocks[name].array_shape
        launch = prepare_quantised_add(math.prod(shape), _BYTE, _BYTE, _BYTE, step.quantised, self._threads)
        inputs = tuple(map(in_blocks, step.inputs))
        return LaidOutStep(step.op_type, step.name, inputs, step.dtypes, in_blocks(name), _BYTE, shape, launch, inputs)

    def steps(self) -> tuple[BindableStep, ...]:
        """Return all steps, those that turn values included."""
        done: list[BindableStep] = [
            self._to_blocks(name) for name in self._blocks if name not in self._writers and self._blocks
        ]
        for step in self._steps:
            name = step.y
            if name in self._absorbed:
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
            reading: Sequence[BindableStep] = self._convolutions.get(self._sum_of(step.y), (step,))
            if any(name in each.inputs for each in reading):
                return True
        return False

    def _sum_of(self, name: str) -> str:
        return next((addition for addition, own in self._own.items() if own == name), name)

    def _to_planes(self, name: str, dtype: np.dtype[Any]) -> LaidOutStep:
        blocks = self._blocks[name]
        launch = prepare_to_planes(blocks, dtype, self._threads)
        return LaidOutStep("Layout", "c8 to planes", (in_blocks(name),), (_BYTE,), name, dtype, blocks.shape, launch)

    def _to_blocks(self, name: str) -> LaidOutStep:
        blocks, reader = self._blocks[name], self._readers[name][0]
        dtype = reader.x_dtypes[reader.inputs.index(name)]
        pads = {geometry.pad_value for geometry in self._convolutions_of(name) if any(geometry.pads)}
        launch = prepare_to_blocks(blocks, dtype, next(iter(pads), 0), self._threads)
        return LaidOutStep(
            "Layout", "planes to c8", (name,), (dtype,), in_blocks(name), _BYTE, blocks.array_shape, launch
        )


def _largest(borders: Sequence[_Border]) -> _Border:
    top, left, bottom, right = (max(sides) for sides in zip(*borders, strict=True))
    return top, left, bottom, right
