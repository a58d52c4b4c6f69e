"""Absorb a layer's neighbours: bias, per-channel factors, activation, and the quantisation around it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.bounds import clip_bounds, clip_twice, one_bound
from sparse_rt.plan.match.constants import ByteQuantisation, float_constant, per_channel, quantisation_of

__all__ = ["Fusion", "FusionOf", "channel_position", "fuse", "is_dynamic_scale"]

_AFFINE = ("Add", "Sub", "Mul", "Div", "BatchNormalization")
_FIRST_BATCH_NORMALIZATION_OF_INFERENCE = 7  # older ones have the attribute is_test, off by default

FusionOf = Callable[[Layer], "Fusion"]
"""What finds the fusion of a layer, once; see :class:`sparse_rt.plan.draft.Draft`."""

_Affine = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]
"""The factor and the shift of each channel; None for 1, and for 0."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """A layer and the neighbours that its kernel computes along with it.

    The result is ``clip((product + layer.bias) * multiplier + bias, low, high)``, quantised where `y_quantised` says
    so. A factor of an output channel leaves zeros where they are: the weight keeps its pattern.

    Attributes
    ----------
    layer
        The layer.
    x
        What the kernel reads; behind DequantizeLinear, the quantised tensor.
    y
        What the kernel writes.
    absorbed
        The layer's node and those after it, whose outputs, `y` apart, nobody else reads. (DequantizeLinear before the
        layer is bypassed, not absorbed: it dies if nobody else reads it.)
    x_quantised
        Parameters of a bypassed DequantizeLinear.
    multiplier
        (n,) float32, of BatchNormalization, Mul and Div nodes; None for 1.
    bias
        (n,) float32, of Add, Sub and BatchNormalization nodes; None for none.
    low, high
        Bounds of Relu and Clip nodes.
    y_quantised
        Parameters of an absorbed QuantizeLinear.
    scale
        What an absorbed Cast and Mul multiply an int32 product by: one number, or one for each channel, known only at
        run time. The end of a dynamic quantisation chain. Or the scale of x of a layer with float output.
    """

    layer: Layer
    x: ir.Value
    y: ir.Value
    absorbed: tuple[ir.Node, ...]
    x_quantised: ByteQuantisation | None = None
    multiplier: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    low: float = -np.inf
    high: float = np.inf
    y_quantised: ByteQuantisation | None = None
    scale: ir.Value | None = None
    _clipped: bool = field(default=False, repr=False)


def fuse(layer: Layer) -> Fusion:
    """Absorb as many neighbours of `layer` as the epilogue of a kernel can compute.

    Whatever somebody else needs ends the chain: the kernel then writes that value.
    """
    fusion = Fusion(layer, layer.x, layer.y, (layer.node,))
    if layer.form == "qdq":
        fusion = _bypass_dequantize(fusion)
    if layer.form == "integer":
        fusion = _absorb_dynamic_scale(fusion)
    gives_floats = layer.form == "qlinear" and layer.y_scale is None
    if gives_floats and is_dynamic_scale(layer.x_scale):
        fusion = replace(fusion, scale=layer.x_scale)
    if layer.form in ("float", "qdq") or gives_floats or fusion.scale is not None:
        absorbed = list(fusion.absorbed)
        while (extended := _extend(fusion)) is not None:
            fusion, node = extended
            absorbed.append(node)
        if len(absorbed) > len(fusion.absorbed):
            fusion = replace(fusion, absorbed=tuple(absorbed))
    return fusion


def _bypass_dequantize(fusion: Fusion) -> Fusion:
    node = fusion.x.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return fusion
    # Integer transposed convolutions do not exist in ONNX: the layer stays a float one.
    if fusion.layer.kind == "conv_transpose":
        return fusion
    parameters = quantisation_of(node)
    return fusion if parameters is None else replace(fusion, x=node.inputs[0], x_quantised=parameters)


def _absorb_dynamic_scale(fusion: Fusion) -> Fusion:
    """Absorb Cast and Mul after an integer layer where the factor is DynamicQuantizeLinear's scale times a constant.

    That is how dynamic quantisation is written; only then is the factor's shape known before it is computed.
    """
    cast = sole_consumer(fusion.y)
    if cast is None or cast.op_type != "Cast" or cast.attributes.get_int("to", 0) != ir.DataType.FLOAT:
        return fusion
    product = sole_consumer(cast.outputs[0])
    if product is None or product.op_type != "Mul":
        return fusion
    left = product.inputs[0] is cast.outputs[0]
    factor = product.inputs[1 if left else 0]
    if factor is None or not _scales_channels(factor, fusion.layer):
        return fusion
    absorbed = (*fusion.absorbed, cast, product)
    return replace(fusion, y=product.outputs[0], absorbed=absorbed, scale=factor)


def _scales_channels(factor: ir.Value, layer: Layer) -> bool:
    producer = factor.producer()
    if producer is None or producer.op_type != "Mul" or producer.domain != "":
        return False
    for dynamic, constant in (producer.inputs, tuple(reversed(producer.inputs))):
        if not is_dynamic_scale(dynamic):
            continue
        array = constant_array(constant)
        if array is None or array.dtype != np.float32:
            return False
        return per_channel(array, layer.shape[0], *channel_position(layer)) is not None
    return False


def is_dynamic_scale(value: ir.Value | None) -> bool:
    """Return whether a value is the scale that a DynamicQuantizeLinear finds at run time: one number."""
    source = None if value is None else value.producer()
    return source is not None and source.op_type == "DynamicQuantizeLinear" and value is source.outputs[1]


def _extend(fusion: Fusion) -> tuple[Fusion, ir.Node] | None:
    """Return what it becomes with the next node, and that node, which is still to be added; None at the chain's end."""
    node = sole_consumer(fusion.y)
    if node is None or fusion.y_quantised is not None or len(node.outputs) != 1:
        return None
    grown: Fusion | None = None
    if node.op_type == "QuantizeLinear" and fusion.x_quantised is not None and node.inputs[0] is fusion.y:
        parameters = quantisation_of(node)
        grown = None if parameters is None else replace(fusion, y_quantised=parameters)
    elif node.domain == "" and node.op_type in _AFFINE and not fusion._clipped:
        grown = _absorb_affine(fusion, node)
    elif node.domain == "" and node.op_type in ("Max", "Min"):
        bounds = one_bound(node, fusion.y)
        grown = None if bounds is None else _absorb_clip(fusion, *bounds)
    elif node.inputs[0] is fusion.y:
        bounds = clip_bounds(node)
        grown = None if bounds is None else _absorb_clip(fusion, *bounds)
    if grown is None:
        return None
    return replace(grown, y=node.outputs[0]), node


def _absorb_affine(fusion: Fusion, node: ir.Node) -> Fusion | None:
    """Absorb ``y -> factor * y + shift`` with constants for each channel."""
    found = _batch_normalization(fusion, node) if node.op_type == "BatchNormalization" else None
    if node.op_type != "BatchNormalization":
        found = _arithmetic(fusion, node)
    if found is None:
        return None
    factor, shift = found
    bias = shift
    if fusion.bias is not None:
        # What leaves float32 here does so in the model, too.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            scaled = fusion.bias if factor is None else fusion.bias * factor
            bias = scaled if shift is None else scaled + shift
    multiplier = fusion.multiplier
    if factor is not None:
        with np.errstate(over="ignore", under="ignore"):
            multiplier = factor if multiplier is None else multiplier * factor
        if not _is_usual(multiplier):
            return None
    return replace(fusion, bias=bias, multiplier=multiplier)


def _is_usual(factors: NDArray[np.float32]) -> bool:
    """Return whether factors are 0, or numbers of full precision: neither infinite nor so small that digits are lost.

    Others may stand for a product that the model never computes, between two factors that undo each other.
    """
    sizes = np.abs(factors)
    return bool((np.isfinite(sizes) & ((sizes == 0) | (sizes >= np.finfo(np.float32).tiny))).all())


def _arithmetic(fusion: Fusion, node: ir.Node) -> _Affine | None:
    first = node.inputs[0] is fusion.y
    if not first and node.op_type in ("Sub", "Div"):
        return None
    constant = float_constant(node.inputs[1 if first else 0])
    layer = fusion.layer
    values = None if constant is None else per_channel(constant, layer.shape[0], *channel_position(layer))
    if values is None:
        return None
    if node.op_type in ("Add", "Sub"):
        return None, values if node.op_type == "Add" else -values
    with np.errstate(divide="ignore", over="ignore"):
        factor: NDArray[np.float32] = values if node.op_type == "Mul" else np.reciprocal(values)
    return factor, None


def _batch_normalization(fusion: Fusion, node: ir.Node) -> _Affine | None:
    """Return the factor and shift of a BatchNormalization of inference: (y - mean) / sqrt(var + eps) * scale + b."""
    layer = fusion.layer
    axis_from_end, rank = channel_position(layer)
    versions = {} if node.graph is None else node.graph.opset_imports
    if rank is None or axis_from_end != rank - 1 or versions.get("", 0) < _FIRST_BATCH_NORMALIZATION_OF_INFERENCE:
        return None
    if node.attributes.get_int("training_mode", 0) or not node.attributes.get_int("spatial", 1):
        return None
    found = [constant_array(value) for value in node.inputs[1:]]
    vectors = [array.astype(np.float64) for array in found if array is not None and array.dtype == np.float32]
    if len(vectors) != 4 or any(vector.shape != (layer.shape[0],) for vector in vectors):
        return None
    scale, shift, mean, variance = vectors
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        rest = (shift - mean * factor).astype(np.float32)
    single = factor.astype(np.float32)
    return (single, rest) if np.isfinite(single).all() and np.isfinite(rest).all() else None


def channel_position(layer: Layer) -> tuple[int | None, int | None]:
    """Return the output's channel axis, counted from the end, and the output's rank; None for what only a run can tell.

    A left product has its channels on the last axis but one, if x is no vector.
    """
    if layer.kind != "matmul":
        spatial = len(layer.shape) - 2
        return spatial + 1, spatial + 2
    if layer.constant_side == "right":
        return 1, layer.rank
    return None if layer.rank is None else min(2, layer.rank), layer.rank


def _absorb_clip(fusion: Fusion, low: float, high: float) -> Fusion:
    floor, ceiling = clip_twice((fusion.low, fusion.high), (low, high))
    return replace(fusion, low=floor, high=ceiling, _clipped=True)
