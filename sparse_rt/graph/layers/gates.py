"""Why a dense layer does not qualify for any format of sparse weights, in words for the user."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from sparse_rt import formats
from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.layers.layer import AttributeValue
from sparse_rt.graph.layers.weights import ConstantWeight

__all__ = [
    "allowed_ranks",
    "attribute_reason",
    "parameter_reason",
    "quantisation_reason",
    "rank_fits",
    "special_convolution",
    "structural_reason",
]

MAX_KERNEL_RANK = 2
_DTYPES = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.FLOAT16, ir.DataType.FLOAT)
_FLOATS = (ir.DataType.FLOAT16, ir.DataType.FLOAT)


def structural_reason(
    form: DenseForm,
    weight: ConstantWeight | None,
    shape: tuple[int, ...],
    attributes: Mapping[str, AttributeValue],
) -> str | None:
    """Return why no values of the weight could make the layer qualify, apart from its quantisation; else None.

    Parameters
    ----------
    form
        What the node computes.
    weight
        Its constant operand, if it has one.
    shape
        The operand's canonical shape.
    attributes
        Resolved.
    """
    if weight is None:
        return "the weight is not constant"
    if not rank_fits(form, len(shape)):
        return f"the weight has {len(shape)} axes; " + allowed_ranks(form)
    if min(shape) == 0:
        return f"the weight is empty, {shape}"
    dtype = weight.tensor.dtype
    floating = form.form == "float"
    if dtype not in _DTYPES or (dtype in _FLOATS) != floating:
        return f"the weight is {dtype.name.lower()}; int8, uint8, float16 and float32 can be compressed"
    if (reason := attribute_reason(attributes)) is not None:
        return reason
    return formats.reason_for_all(shape, dtype.numpy())


def attribute_reason(attributes: Mapping[str, AttributeValue]) -> str | None:
    """Return which of a layer's resolved attributes no sparse layer has; else None."""
    if attributes.get("group", 1) != 1:
        return f"a convolution with {attributes['group']} groups"
    turned = (name for name in ("transA", "transBatchA", "transBatchB") if attributes.get(name))
    return next((f"{name} is set" for name in turned), None) or special_convolution(attributes)


def special_convolution(attributes: Mapping[str, AttributeValue]) -> str | None:
    """Return what in the attributes of a convolution onnxruntime refuses, or reads in a way of its own; else None.

    Such a layer stays with it, so that a model does the same everywhere.
    """
    if "strides" not in attributes:
        return None
    kernel, strides, dilations, pads, padding = (
        tuple(int(item) for item in value) if isinstance(value := attributes.get(name), tuple) else ()
        for name in ("kernel_shape", "strides", "dilations", "pads", "output_padding")
    )
    if min(pads, default=0) < 0:
        return "pads are negative, which onnxruntime refuses"
    is_same = attributes.get("auto_pad") in ("SAME_UPPER", "SAME_LOWER")
    is_transposed = "output_padding" in attributes
    if is_same and not is_transposed and max(dilations, default=1) > 1:
        return f"dilations with auto_pad {attributes['auto_pad']}, which onnxruntime refuses"
    if any(not 0 <= added < stride for added, stride in zip(padding, strides, strict=False)):
        return "output_padding of a stride or more, which onnxruntime refuses"
    if is_same and not attributes.get("output_shape"):
        least = [stride if is_transposed else stride - 1 for stride in strides]
        reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
        added = padding or (0,) * len(kernel)
        if any(sum(one) < stride for *one, stride in zip(reach, added, least, strict=True)):
            return (
                f"auto_pad {attributes['auto_pad']} at strides beyond the kernel, which onnxruntime pads in its own way"
            )
    return None


def rank_fits(form: DenseForm, rank: int) -> bool:
    """Return whether a weight of `rank` axes can be a layer of this form."""
    return rank == 2 if form.kind == "matmul" else 2 < rank <= 2 + MAX_KERNEL_RANK


def allowed_ranks(form: DenseForm) -> str:
    """Return the ranks of :func:`rank_fits` in words."""
    return "a matrix can be compressed" if form.kind == "matmul" else "1-D and 2-D kernels can be compressed"


def quantisation_reason(
    form: DenseForm,
    weight: ConstantWeight,
    rows: int,
    scale: np.ndarray[Any, Any] | None,
    zero_point: np.ndarray[Any, Any] | None,
    *,
    zero_point_given: bool,
) -> str | None:
    """Return why the weight's scale and zero point do not fit a sparse layer; else None.

    Parameters
    ----------
    form, weight
        As for :func:`structural_reason`, which must have passed.
    rows
        Output channels.
    scale, zero_point
        The weight's, None where absent or not constant.
    zero_point_given
        Whether the model names a zero point at all.
    """
    reason = parameter_reason(form, rows, scale, zero_point, zero_point_given=zero_point_given)
    if reason is not None or weight.dequantize is None:
        return reason
    if weight.dequantize.attributes.get_int("block_size", 0):
        return "the weight is quantised in blocks"
    if scale is not None and scale.ndim and weight.axis != form.channel_axis:
        return "the weight's scales do not run along the output channels"
    return None


def parameter_reason(
    form: DenseForm,
    rows: int,
    scale: np.ndarray[Any, Any] | None,
    zero_point: np.ndarray[Any, Any] | None,
    *,
    zero_point_given: bool,
) -> str | None:
    """Return why scale and zero point, of a dense or of a compressed weight, do not fit a sparse layer; else None.

    Parameters
    ----------
    form, rows, scale, zero_point, zero_point_given
        As for :func:`quantisation_reason`.
    """
    if form.form == "float":
        return None
    if form.form != "integer" and scale is None:
        return "the weight's scale is not constant"
    if zero_point is None and zero_point_given:
        return "the weight's zero point is not constant"
    for what, array in (("scales", scale), ("zero points", zero_point)):
        if array is not None and array.ndim and array.shape != (rows,):
            return f"the weight's {what} have shape {array.shape}, not one or one an output channel"
    if scale is not None and not (np.isfinite(scale) & (scale >= 0)).all():
        return "a scale of the weight is negative or not finite"
    if zero_point is not None and zero_point.any():
        return "the weight's zero point is not 0, so a stored 0 is not a zero"
    return None
