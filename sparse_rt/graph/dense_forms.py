"""The dense forms: every way in which a dense model writes a layer that can be stored compressed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from sparse_rt.graph.layers.layer import Form, Kind, Side

__all__ = ["CONV", "CONV_TRANSPOSE", "FORMS", "FULLY_CONNECTION", "MATMUL", "MICROSOFT", "DenseForm"]

MICROSOFT = "com.microsoft"

# The families of the target's operators.
CONV = "Conv2DCompress"
CONV_TRANSPOSE = "Conv2DTransposeDCompress"
MATMUL = "MatMulV2Compress"
FULLY_CONNECTION = "FullyConnectionCompress"

_CONV_ATTRIBUTES = {
    "auto_pad": ir.AttributeType.STRING,
    "dilations": ir.AttributeType.INTS,
    "group": ir.AttributeType.INT,
    "kernel_shape": ir.AttributeType.INTS,
    "pads": ir.AttributeType.INTS,
    "strides": ir.AttributeType.INTS,
}
_CONV_TRANSPOSE_ATTRIBUTES = {
    **_CONV_ATTRIBUTES,
    "output_padding": ir.AttributeType.INTS,
    "output_shape": ir.AttributeType.INTS,
}
_QGEMM_ATTRIBUTES = {
    "alpha": ir.AttributeType.FLOAT,
    "transA": ir.AttributeType.INT,
    "transB": ir.AttributeType.INT,
}
_GEMM_ATTRIBUTES = {**_QGEMM_ATTRIBUTES, "beta": ir.AttributeType.FLOAT}
_FUSED_MATMUL_ATTRIBUTES = {
    **_QGEMM_ATTRIBUTES,
    "transBatchA": ir.AttributeType.INT,
    "transBatchB": ir.AttributeType.INT,
}
_FUSED_GEMM_ATTRIBUTES = {
    **_GEMM_ATTRIBUTES,
    "activation": ir.AttributeType.STRING,
    "activation_alpha": ir.AttributeType.FLOAT,
    "activation_beta": ir.AttributeType.FLOAT,
    "activation_gamma": ir.AttributeType.FLOAT,
}
_FUSED_CONV_ATTRIBUTES = {
    **_CONV_ATTRIBUTES,
    "activation": ir.AttributeType.STRING,
    "activation_params": ir.AttributeType.FLOATS,
}


@dataclass(frozen=True)
class DenseForm:
    """One way in which a dense model writes a layer, and how the compressed model writes the same layer."""

    family: str
    """Which of the target's operators this form belongs to."""

    variant: str
    """What tells this form from the others of its family."""

    domain: str
    """The dense operator's domain, ``""`` or ``com.microsoft``."""

    op_type: str
    """The dense operator."""

    kind: Kind
    form: Form

    side: Side
    """Which operand of a matrix product is constant."""

    input_first: bool
    """True when the dense weight's axis 0 is the input channel: (c, n, *kernel) instead of (n, c, *kernel)."""

    inputs: tuple[str, ...]
    """The dense operator's inputs, named as those of compressed operators, with ``filter`` for the weight."""

    attributes: Mapping[str, ir.AttributeType]
    """The dense operator's attributes; a compressed node carries those that the dense node had."""

    required: int
    """How many of :attr:`inputs` the dense operator cannot do without."""

    half: bool = False
    """True for a float16 weight. Its body decodes in float32, which is exact: onnxruntime's CPU provider has no float16
    kernels for the decoding, and would neither fold it nor run it fast."""

    fused: bool = False
    """True for onnxruntime's own operators with an activation inside (FusedConv, FusedGemm): the session takes them
    apart, and no compressed operator stands for them."""

    dequantize_inputs: tuple[str, ...] = ("filter_scale", "filter_zero_point")
    """In ``qdq`` form: what DequantizeLinear reads beside the weight."""

    def without_absent(self, inputs: Collection[str]) -> "DenseForm":
        """Return the form with the same meaning for a node that has only the given inputs.

        An absent optional input at the end is a form of its own, because onnxruntime takes a fast path for a Conv of
        two inputs, and not for one whose third is empty (checked with 1.31). Elsewhere absent inputs stay empty.
        """
        form = self
        if form.form == "qdq" and "filter_zero_point" not in inputs:
            variant = f"{form.variant}_without_filter_zero_point"
            form = replace(form, variant=variant, dequantize_inputs=("filter_scale",))
        present = len(form.inputs)
        while present > form.required and form.inputs[present - 1] not in inputs:
            present -= 1
        if present < len(form.inputs):
            variant = f"{form.variant}_without_{form.inputs[present]}"
            form = replace(form, variant=variant, inputs=form.inputs[:present])
        return form

    @property
    def weight_index(self) -> int:
        """Position of the weight among the dense operator's inputs."""
        return self.inputs.index("filter")

    @property
    def channel_axis(self) -> int:
        """Axis of the output channels in the dense operator's weight."""
        return 1 if self.input_first else 0


def _qdq(form: DenseForm) -> DenseForm:
    return replace(form, variant=f"{form.variant}_qdq", form="qdq")


def _half(form: DenseForm) -> DenseForm:
    return replace(form, variant=f"{form.variant}_float16", half=True)


def _left(form: DenseForm, inputs: tuple[str, ...]) -> DenseForm:
    return replace(form, variant=f"{form.variant}_left", side="left", input_first=False, inputs=inputs)


def _trans_b(form: DenseForm) -> DenseForm:
    return replace(form, variant=f"{form.variant}_transB", input_first=False)


def _microsoft(base: DenseForm, op_type: str, **changes: Any) -> DenseForm:
    return replace(base, variant=op_type, domain=MICROSOFT, op_type=op_type, **changes)


_CONV = DenseForm(
    CONV, "Conv", "", "Conv", "conv", "float", "right", False, ("x", "filter", "bias"), _CONV_ATTRIBUTES, 2
)
_CONV_TRANSPOSE = replace(
    _CONV,
    family=CONV_TRANSPOSE,
    variant="ConvTranspose",
    op_type="ConvTranspose",
    kind="conv_transpose",
    input_first=True,
    attributes=_CONV_TRANSPOSE_ATTRIBUTES,
)
_X = ("x", "x_scale", "x_zero_point")
_W = ("filter", "filter_scale", "filter_zero_point")
_Y = ("y_scale", "y_zero_point")
_QLINEAR_CONV = replace(
    _CONV, variant="QLinearConv", op_type="QLinearConv", form="qlinear", inputs=(*_X, *_W, *_Y, "bias"), required=8
)
_CONV_INTEGER = replace(
    _CONV,
    variant="ConvInteger",
    op_type="ConvInteger",
    form="integer",
    inputs=("x", "filter", "x_zero_point", "filter_zero_point"),
)
_MATMUL = DenseForm(MATMUL, "MatMul", "", "MatMul", "matmul", "float", "right", True, ("x", "filter"), {}, 2)
_MATMUL_LEFT = _left(_MATMUL, ("filter", "x"))
_QLINEAR_MATMUL = replace(
    _MATMUL, variant="QLinearMatMul", op_type="QLinearMatMul", form="qlinear", inputs=(*_X, *_W, *_Y), required=8
)
_MATMUL_INTEGER = replace(
    _MATMUL,
    variant="MatMulInteger",
    op_type="MatMulInteger",
    form="integer",
    inputs=("x", "filter", "x_zero_point", "filter_zero_point"),
)
_GEMM = replace(
    _MATMUL,
    family=FULLY_CONNECTION,
    variant="Gemm",
    op_type="Gemm",
    inputs=("x", "filter", "bias"),
    attributes=_GEMM_ATTRIBUTES,
)
_QGEMM = _microsoft(
    _GEMM,
    "QGemm",
    form="qlinear",
    inputs=(*_X, *_W, "bias", *_Y),
    required=6,
    attributes=_QGEMM_ATTRIBUTES,
)
_FUSED_MATMUL = _microsoft(_MATMUL, "FusedMatMul", attributes=_FUSED_MATMUL_ATTRIBUTES)
_MATMUL_INTEGER_TO_FLOAT = _microsoft(
    _MATMUL,
    "MatMulIntegerToFloat",
    form="qlinear",
    inputs=("x", "filter", "x_scale", "filter_scale", "x_zero_point", "filter_zero_point", "bias"),
    required=4,
)
_DYNAMIC_QUANTIZE_MATMUL = _microsoft(
    _MATMUL,
    "DynamicQuantizeMatMul",
    form="dynamic",
    inputs=("x", "filter", "filter_scale", "filter_zero_point", "bias"),
    required=3,
)
_FUSED_CONV = _microsoft(
    _CONV, "FusedConv", inputs=(*_CONV.inputs, "addend"), attributes=_FUSED_CONV_ATTRIBUTES, fused=True
)
_FUSED_GEMM = _microsoft(_GEMM, "FusedGemm", attributes=_FUSED_GEMM_ATTRIBUTES, fused=True)
_FLOATS = (
    *(_CONV, _CONV_TRANSPOSE, _MATMUL, _MATMUL_LEFT, _GEMM, _trans_b(_GEMM)),
    *(_FUSED_MATMUL, _trans_b(_FUSED_MATMUL)),
)
_WITH_ACTIVATION = (_FUSED_CONV, _FUSED_GEMM, _trans_b(_FUSED_GEMM))
FORMS = (
    *_FLOATS,
    *(_half(form) for form in _FLOATS),
    *(_qdq(form) for form in _FLOATS),
    _QLINEAR_CONV,
    _CONV_INTEGER,
    _QLINEAR_MATMUL,
    _left(_QLINEAR_MATMUL, (*_W, *_X, *_Y)),
    _MATMUL_INTEGER,
    _left(_MATMUL_INTEGER, ("filter", "x", "filter_zero_point", "x_zero_point")),
    _QGEMM,
    _trans_b(_QGEMM),
    _MATMUL_INTEGER_TO_FLOAT,
    _DYNAMIC_QUANTIZE_MATMUL,
    *_WITH_ACTIVATION,
    *(_half(form) for form in _WITH_ACTIVATION),
    *(_qdq(form) for form in _WITH_ACTIVATION),
)
"""Every form with all of its optional inputs; see :meth:`DenseForm.without_absent`."""
