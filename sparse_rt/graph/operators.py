"""The ``sparse_rt`` operator domain, version 1: its operators, and the dense forms that each stands for.

The four families are named after the operators that the target's graph compiler inserts. One family stands for several
dense operators (Conv2DCompress for Conv, for Conv behind DequantizeLinear, for QLinearConv, for ConvInteger), and their
weights come in several formats. Each of these forms is an operator with a name of its own, ``<family>_<variant>`` and
the format's suffix, because not every onnxruntime looks at the overload of a function. :data:`COMPRESSED` holds all
names. All operators of a format share one list of inputs; a node leaves out what its form has not. See
docs/compressed-model.md.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from sparse_rt.formats import FORMATS, Format
from sparse_rt.graph.layers.layer import Form, Kind, Side

__all__ = [
    "ALG",
    "COMPRESSED",
    "CONV",
    "CONV_TRANSPOSE",
    "DOMAIN",
    "FILTER_SHAPE",
    "FORMS",
    "FULLY_CONNECTION",
    "IR_VERSION",
    "MATMUL",
    "MICROSOFT",
    "MIN_OPSET",
    "VERSION",
    "VERSION_KEY",
    "CompressedForm",
    "DenseForm",
    "overloaded_form",
]

DOMAIN = "sparse_rt"
VERSION = 1
VERSION_KEY = "sparse_rt_version"
"""The key in a model's metadata under which a compressed file says which version of sparse_rt wrote it."""
ALG = "alg"
"""The attribute that names the format of the weight, as on the target."""
IR_VERSION = 8
"""The first ONNX IR version with local functions."""
MIN_OPSET = 11
"""The first ai.onnx opset with BitShift and ScatterElements, which the decoding body needs."""
FILTER_SHAPE = "filter_shape"
"""The attribute that holds the shape of the weight as the dense operator reads it; a tensor, because the Constant
operator of opset 11 takes nothing else."""
MICROSOFT = "com.microsoft"

CONV = "Conv2DCompress"
CONV_TRANSPOSE = "Conv2DTransposeDCompress"
MATMUL = "MatMulV2Compress"
FULLY_CONNECTION = "FullyConnectionCompress"

_AFTER_WEIGHT = (
    "bias",
    "filter_scale",
    "filter_zero_point",
    "x_scale",
    "x_zero_point",
    "y_scale",
    "y_zero_point",
)
"""The inputs of every operator behind those that hold its weight, in order."""

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

    def stored_as(self, format: Format, shape: Sequence[int]) -> "CompressedForm":
        """Return the compressed form for a weight of the dense operator's `shape` in that format."""
        channels = shape[0 if self.input_first else 1]
        return CompressedForm(self, format, is_padded=channels % format.channel_multiple != 0)

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


@dataclass(frozen=True)
class CompressedForm:
    """An operator of the ``sparse_rt`` domain: a dense form, and how its weight is stored."""

    dense: DenseForm

    format: Format

    is_padded: bool = False
    """True for a weight whose channels do not divide as the format stores them: its body cuts off the padding. Of other
    weights it does not, since an engine keeps every array that it folds until the whole model is loaded."""

    @property
    def op_type(self) -> str:
        """Its name."""
        return f"{self.dense.family}_{self.variant}{self.format.suffix}"

    @property
    def variant(self) -> str:
        """What tells it from others of its family, in the names of operators or, once, in overloads."""
        return f"{self.dense.variant}_padded" if self.is_padded else self.dense.variant

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""
        return ("x", *self.format.tensors, *_AFTER_WEIGHT)


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


def _forms() -> tuple[DenseForm, ...]:
    conv = DenseForm(
        CONV, "Conv", "", "Conv", "conv", "float", "right", False, ("x", "filter", "bias"), _CONV_ATTRIBUTES, 2
    )
    conv_transpose = replace(
        conv,
        family=CONV_TRANSPOSE,
        variant="ConvTranspose",
        op_type="ConvTranspose",
        kind="conv_transpose",
        input_first=True,
        attributes=_CONV_TRANSPOSE_ATTRIBUTES,
    )
    x, w, y = (
        ("x", "x_scale", "x_zero_point"),
        ("filter", "filter_scale", "filter_zero_point"),
        ("y_scale", "y_zero_point"),
    )
    qlinear_conv = replace(
        conv, variant="QLinearConv", op_type="QLinearConv", form="qlinear", inputs=(*x, *w, *y, "bias"), required=8
    )
    conv_integer = replace(
        conv,
        variant="ConvInteger",
        op_type="ConvInteger",
        form="integer",
        inputs=("x", "filter", "x_zero_point", "filter_zero_point"),
    )
    matmul = DenseForm(MATMUL, "MatMul", "", "MatMul", "matmul", "float", "right", True, ("x", "filter"), {}, 2)
    matmul_left = _left(matmul, ("filter", "x"))
    qlinear_matmul = replace(
        matmul, variant="QLinearMatMul", op_type="QLinearMatMul", form="qlinear", inputs=(*x, *w, *y), required=8
    )
    matmul_integer = replace(
        matmul,
        variant="MatMulInteger",
        op_type="MatMulInteger",
        form="integer",
        inputs=("x", "filter", "x_zero_point", "filter_zero_point"),
    )
    gemm = replace(
        matmul,
        family=FULLY_CONNECTION,
        variant="Gemm",
        op_type="Gemm",
        inputs=("x", "filter", "bias"),
        attributes=_GEMM_ATTRIBUTES,
    )
    qgemm = _microsoft(
        gemm,
        "QGemm",
        form="qlinear",
        inputs=(*x, *w, "bias", *y),
        required=6,
        attributes=_QGEMM_ATTRIBUTES,
    )
    fused_matmul = _microsoft(matmul, "FusedMatMul", attributes=_FUSED_MATMUL_ATTRIBUTES)
    to_float = _microsoft(
        matmul,
        "MatMulIntegerToFloat",
        form="qlinear",
        inputs=("x", "filter", "x_scale", "filter_scale", "x_zero_point", "filter_zero_point", "bias"),
        required=4,
    )
    dynamic_matmul = _microsoft(
        matmul,
        "DynamicQuantizeMatMul",
        form="dynamic",
        inputs=("x", "filter", "filter_scale", "filter_zero_point", "bias"),
        required=3,
    )
    fused_conv = _microsoft(
        conv, "FusedConv", inputs=(*conv.inputs, "addend"), attributes=_FUSED_CONV_ATTRIBUTES, fused=True
    )
    fused_gemm = _microsoft(gemm, "FusedGemm", attributes=_FUSED_GEMM_ATTRIBUTES, fused=True)
    floats = (
        *(conv, conv_transpose, matmul, matmul_left, gemm, _trans_b(gemm)),
        *(fused_matmul, _trans_b(fused_matmul)),
    )
    with_activation = (fused_conv, fused_gemm, _trans_b(fused_gemm))
    return (
        *floats,
        *(_half(form) for form in floats),
        *(_qdq(form) for form in floats),
        qlinear_conv,
        conv_integer,
        qlinear_matmul,
        _left(qlinear_matmul, (*w, *x, *y)),
        matmul_integer,
        _left(matmul_integer, ("filter", "x", "filter_zero_point", "x_zero_point")),
        qgemm,
        _trans_b(qgemm),
        to_float,
        dynamic_matmul,
        *with_activation,
        *(_half(form) for form in with_activation),
        *(_qdq(form) for form in with_activation),
    )


FORMS = _forms()
"""Every form with all of its optional inputs; see :meth:`DenseForm.without_absent`."""


def _variants() -> Iterator[DenseForm]:
    for form in FORMS:
        if form.fused:
            continue
        for dequantized in ({"filter_zero_point"}, set()) if form.form == "qdq" else (set(),):
            for present in range(form.required, len(form.inputs) + 1):
                yield form.without_absent({*form.inputs[:present], *dequantized})


@functools.cache
def _operators(format: Format) -> Mapping[str, CompressedForm]:
    """Return all operators whose weights have a format, by name."""
    padded = (False,) if format.channel_multiple == 1 else (False, True)
    forms = (CompressedForm(form, format, is_padded) for form in _variants() for is_padded in padded)
    return {form.op_type: form for form in forms}


class _Operators(Mapping[str, CompressedForm]):
    """All operators of the domain by name, for whatever formats there are."""

    def __getitem__(self, name: str) -> CompressedForm:
        for format in FORMATS.values():
            if name in (found := _operators(format)):
                return found[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for format in FORMATS.values():
            yield from _operators(format)

    def __len__(self) -> int:
        return sum(len(_operators(format)) for format in FORMATS.values())


COMPRESSED: Mapping[str, CompressedForm] = _Operators()
"""The form that a compressed node stands for, by its operator."""


def overloaded_form(family: str, overload: str) -> CompressedForm | None:
    """Return the form of an operator as files name it that were written before every form had its own name."""
    found = COMPRESSED.get(f"{family}_{overload}")
    return found if found is not None and (found.dense.family, found.variant) == (family, overload) else None
