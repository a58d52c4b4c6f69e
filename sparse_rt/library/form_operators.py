"""Which compressed operators a library holds, and with which types.

onnxruntime takes the operator of a library for every node of its name, whatever the file holds as a function: a form
that kernels do not compute is left out, so that its body runs. What a form's inputs are follows from what it reads.
"""

from collections.abc import Iterator
from typing import Final

from sparse_rt_kernels.custom_op.contents import ANY_TYPE, OPTIONAL, REQUIRED, Operand, Operator
from sparse_rt_kernels.product import registry

from sparse_rt.graph.operators import COMPRESSED, CompressedForm
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES
from sparse_rt.plan.estimate import has_fast_kernels

__all__ = ["form_operators", "is_computed"]

_BYTES: Final = ("uint8", "int8")
#: The zero point that says what type y has.
_DECIDES: Final = "y_zero_point"
_FLOAT, _INT32 = ELEMENT_TYPES["float32"], ELEMENT_TYPES["int32"]


def form_operators() -> tuple[Operator, ...]:
    """Return the operators of all forms that kernels compute on this CPU."""
    if not has_fast_kernels():
        return ()
    return tuple(operator for form in COMPRESSED.values() if is_computed(form) for operator in _operators(form))


def is_computed(form: CompressedForm) -> bool:
    """Return whether kernels of this CPU compute a form natively, if its parameters are constants of a usual kind.

    Left out are float16 weights, and the forms of dynamic quantisation, whose scales and zero points are not constant.
    """
    dense = form.dense
    if dense.half or dense.form == "dynamic":
        return False
    if "y_scale" in form.reads and _DECIDES not in form.reads:
        return False
    if dense.form == "integer" and "x_zero_point" in form.reads:
        return False
    if dense.op_type == "MatMulIntegerToFloat":
        return False
    try:
        registry.select("u8s8" if _reads_bytes(form) else "f32", form.format.name)
    except LookupError:
        return False
    return True


def _operators(form: CompressedForm) -> Iterator[Operator]:
    """Yield the operators of a form: one for each type of y, which an operator cannot leave open.

    Types of inputs are left open where several are possible. What a node has beyond them is for its kernel to say.
    """
    names = form.inputs[: 1 + max(map(form.inputs.index, form.reads))]
    needed = ("x", *form.format.tensors)
    types = {"x": ANY_TYPE if _reads_bytes(form) else _FLOAT}
    kinds = {name: REQUIRED if name in needed else OPTIONAL for name in names}
    y_types = [(ELEMENT_TYPES[name], {_DECIDES: ELEMENT_TYPES[name]}) for name in _BYTES]
    if _DECIDES not in form.reads:
        y_types = [(_INT32 if form.dense.form == "integer" else _FLOAT, {})]
    for y_type, decided in y_types:
        operands = tuple(Operand((types | decided).get(name, ANY_TYPE), kinds[name]) for name in names)
        yield Operator(form.op_type, operands, (Operand(y_type),))


def _reads_bytes(form: CompressedForm) -> bool:
    """Return whether x is quantised."""
    return form.dense.form in ("integer", "qlinear") or "x_scale" in form.reads
