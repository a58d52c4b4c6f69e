"""Which steps may be computed over NCHWc8, as far as shapes and types tell."""

from collections.abc import Mapping, Sequence
from typing import Final

from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.nchwc8 import CHANNEL_BLOCK

from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import BindableStep

__all__ = ["IMAGE_AXES", "all_shapes", "geometry_over_blocks", "may_be_laid_out"]

IMAGE_AXES: Final = 4
"""Batch, channels, rows, columns."""


def may_be_laid_out(step: BindableStep) -> bool:
    """Return whether there are shapes for which a step may be computed over blocks."""
    return isinstance(step, SparseStep) and step.kernel.prepare_blocked is not None and step.convolution is not None


def all_shapes(
    steps: Sequence[BindableStep], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...] | None]:
    """Return the shapes of all values of a segment, given those of its inputs; None for those that only a run tells."""
    known: dict[str, tuple[int, ...] | None] = dict(shapes)
    for step in steps:
        shape = step.output_shape([known.get(name) for name in step.inputs]) or ()
        sizes = tuple(size for size in shape if size is not None)
        known[step.y] = sizes if sizes and len(sizes) == len(shape) else None
    return known


def geometry_over_blocks(step: BindableStep, shapes: Mapping[str, tuple[int, ...] | None]) -> ConvGeometry | None:
    """Return the geometry of a convolution that may be computed over blocks; None for all else."""
    if not isinstance(step, SparseStep) or step.kernel.prepare_blocked is None or step.convolution is None:
        return None
    if step.residual is not None or not isinstance(step.epilogue, IntegerEpilogue) or step.y_dtype.itemsize > 1:
        return None
    shape, y_shape = shapes[step.x], shapes[step.y]
    if shape is None or y_shape is None or len(shape) != IMAGE_AXES or 0 in (*shape, *y_shape):
        return None
    return None if step.channels % CHANNEL_BLOCK else step.convolution.geometry(shape)
