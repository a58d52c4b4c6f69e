"""Layers that no sparse kernel runs, on dense kernels of ours: depthwise convolutions, and those of few channels.

Between sparse layers they need not leave our threads. Whether they do is decided with the operators around them; see
:mod:`sparse_rt.plan.operators`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from sparse_rt_kernels.depthwise import prepare_depthwise
from sparse_rt_kernels.launch import Launch

from sparse_rt.graph.layer import Layer
from sparse_rt.plan.convolution import Convolution
from sparse_rt.plan.fuse import fuse
from sparse_rt.plan.operands import Operands, Refusal, operands
from sparse_rt.plan.operator_step import OperatorStep
from sparse_rt.plan.replacement import Replacement
from sparse_rt.plan.step import Shape

__all__ = ["dense_replacement"]

_AXES = 2


def dense_replacement(layer: Layer, ir_version: int) -> Replacement | None:
    """Return a step for a layer with a dense weight, if a kernel of ours computes it."""
    if not _is_depthwise(layer) or layer.load_weight is None:
        return None
    fusion = fuse(layer, ir_version)
    weight = layer.load_weight()
    try:
        found = operands(fusion, weight.reshape(layer.shape[0], -1), ir_version)
    except Refusal:
        return None
    if found.requantisation is not None or found.x_zero_point is not None:
        return None
    convolution = replace(Convolution.of(layer, found.pad_value), channels=layer.shape[0])
    step = OperatorStep(
        op_type=layer.op_type,
        name=layer.name,
        inputs=(str(fusion.x.name),),
        dtypes=(found.x_dtype,),
        y=str(fusion.y.name),
        y_dtype=found.y_dtype,
        shape_of=_shape_of(convolution),
        prepare=_depthwise(convolution, found, found.values.reshape(layer.shape[0], *layer.shape[2:])),
    )
    return Replacement(step, (fusion.x,), fusion.y, fusion.absorbed)


def _is_depthwise(layer: Layer) -> bool:
    """Return whether a layer is a convolution of each channel on its own, over images, with a constant weight."""
    if layer.kind != "conv" or len(layer.shape) != _AXES + 2 or 0 in layer.shape:
        return False
    if layer.weight_zero_point is not None and layer.weight_zero_point.any():
        return False
    return layer.shape[1] == 1 and layer.attributes.get("group") == layer.shape[0] > 1


def _shape_of(convolution: Convolution) -> Callable[[Shape], Shape]:
    def shape_of(shape: Shape) -> Shape:
        known = tuple(size for size in shape if size is not None)
        if len(known) < len(shape):
            if len(shape) != _AXES + 2:
                raise ValueError(f"{_AXES + 2} axes")
            return (shape[0], convolution.out_channels, None, None)
        return convolution.output(convolution.geometry(known))

    return shape_of


def _depthwise(
    convolution: Convolution, found: Operands, weight: NDArray[Any]
) -> Callable[[tuple[int, ...], tuple[int, ...], int], Launch]:
    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        geometry = convolution.geometry(shape)
        return prepare_depthwise(geometry, found.x_dtype, found.y_dtype, weight, found.epilogue, threads)

    return prepare
