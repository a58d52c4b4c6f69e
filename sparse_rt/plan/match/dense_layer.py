"""Layers that no sparse kernel runs, on dense kernels of ours: depthwise convolutions, and those of few channels.

Between sparse layers they need not leave our threads. Whether they do is decided with the operators around them; see
:mod:`sparse_rt.plan.match.operators`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from sparse_rt_kernels.between.depthwise import prepare_depthwise
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.formats import DENSE, MatrixWeight
from sparse_rt.graph.layers import gates
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.match.fusion import FusionOf
from sparse_rt.plan.match.operands import Operands, Refusal, operands
from sparse_rt.plan.match.packing import pack
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.convolution import Convolution
from sparse_rt.plan.steps.operator_step import OperatorStep
from sparse_rt.plan.steps.step import Shape

__all__ = ["dense_replacement"]

_AXES = 2
#: Input channels up to which a dense convolution leaves onnxruntime (the first layer of a network), and what its output
#: channels must divide by; docs/kernels/measurements.md has what was measured.
_MOST_CHANNELS = 16
_OUT = 16


def dense_replacement(layer: Layer, fusion_of: FusionOf, tier: str | None = None) -> Replacement | None:
    """Return a step for a layer with a dense weight, if a kernel of ours computes it well.

    `fusion_of` finds what it computes along. `tier` is the most specific tier of kernels to use; None leaves it to the
    CPU.
    """
    if layer.weight is None or not _is_plain_convolution(layer):
        return None
    if not (_is_depthwise(layer) or _is_worthwhile(layer)):
        return None
    fusion = fusion_of(layer)
    # A copy: steps keep it, and not the model's file.
    multiple = 1 if _is_depthwise(layer) else DENSE.channel_multiple
    found = operands(fusion, MatrixWeight.of(layer.weight.array(), multiple))
    if isinstance(found, Refusal) or found.requantisation is not None or found.x_zero_point is not None:
        return None
    convolution = Convolution.of(layer, found.pad_value)
    prepare: Callable[[tuple[int, ...], tuple[int, ...], int], Launch]
    if _is_depthwise(layer):
        convolution = replace(convolution, channels=layer.shape[0])
        weight = found.weight.decode().reshape(layer.shape[0], *layer.shape[2:])
        prepare = _depthwise(convolution, found, weight, tier)
    else:
        try:
            prepare = _dense(convolution, found, registry.select(found.dtype, DENSE.name, tier))
        except LookupError:
            return None
    step = OperatorStep(
        op_type=layer.op_type,
        name=layer.name,
        inputs=(str(fusion.x.name),),
        x_dtypes=(found.x_dtype,),
        y=str(fusion.y.name),
        y_dtype=found.y_dtype,
        shape_of=_shape_of(convolution),
        prepare=prepare,
    )
    return Replacement(step, (fusion.x,), fusion.y, fusion.absorbed)


def _is_plain_convolution(layer: Layer) -> bool:
    """Return whether a layer is a convolution over images whose weight has the zero point 0."""
    if layer.kind != "conv" or len(layer.shape) != _AXES + 2 or 0 in layer.shape:
        return False
    if gates.special_convolution(layer.attributes) is not None:
        return False
    return layer.weight_zero_point is None or not layer.weight_zero_point.any()


def _is_depthwise(layer: Layer) -> bool:
    """Return whether a convolution is one of each channel on its own."""
    return layer.shape[1] == 1 and layer.attributes.get("group") == layer.shape[0] > 1


def _is_worthwhile(layer: Layer) -> bool:
    """Return whether our dense kernels were measured to be faster than onnxruntime's: few channels in, many out."""
    return layer.attributes.get("group") == 1 and layer.shape[0] % _OUT == 0 and layer.shape[1] <= _MOST_CHANNELS


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
    convolution: Convolution, found: Operands, weight: NDArray[Any], tier: str | None
) -> Callable[[tuple[int, ...], tuple[int, ...], int], Launch]:
    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        geometry = convolution.geometry(shape)
        return prepare_depthwise(geometry, found.x_dtype, found.y_dtype, weight, found.epilogue, threads, tier)

    return prepare


def _dense(
    convolution: Convolution, found: Operands, kernel: registry.Kernel
) -> Callable[[tuple[int, ...], tuple[int, ...], int], Launch]:
    packed = pack(kernel, found.weight)

    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        geometry = convolution.geometry(shape)
        return kernel.prepare_conv(geometry, found.x_dtype, found.y_dtype, packed, found.epilogue, threads)

    return prepare
