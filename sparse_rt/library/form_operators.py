"""Which compressed operators a library holds, and with which types.

onnxruntime takes the operator of a library for every node of its name, whatever the file holds as a function: a form
that kernels do not compute is left out, so that its body runs, and a form that is there takes all types that a file may
have. What these are follows from what the form reads.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from sparse_rt_kernels.custom_op.contents import ANY_TYPE, OPTIONAL, REQUIRED, Operand, Operator
from sparse_rt_kernels.product import registry

from sparse_rt.graph.operators import COMPRESSED, CompressedForm
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES
from sparse_rt.plan.estimate import has_fast_kernels

__all__ = ["form_operators", "is_computed"]

_FLOAT, _INT32 = ELEMENT_TYPES["float32"], ELEMENT_TYPES["int32"]
_BYTES: Final = (ELEMENT_TYPES["int8"], ELEMENT_TYPES["uint8"])


def form_operators() -> tuple[Operator, ...]:
    """Return the operators of all forms that kernels compute on this CPU."""
    if not has_fast_kernels():
        return ()
    return tuple(operator for form in COMPRESSED.values() if is_computed(form) for operator in _operators(form))


def is_computed(form: CompressedForm) -> bool:
    """Return whether kernels of this CPU compute a form natively, if its parameters are constants of a usual kind.

    Left out are float16 weights, and the forms of dynamic quantisation, whose scales and zero points are not constant.
    So are quantised weights that meet floats: where those come from a DequantizeLinear, as in files of 0.1, onnxruntime
    makes an integer operator of the body and of the nodes around it.
    """
    dense = form.dense
    if dense.form == "qdq" and not form.neighbours.x:
        return False
    if dense.half or dense.form == "dynamic" or dense.op_type == "MatMulIntegerToFloat":
        return False
    if "y_scale" in form.reads and "y_zero_point" not in form.reads:
        return False
    if dense.form == "integer" and "x_zero_point" in form.reads:
        return False
    try:
        registry.select("u8s8" if _reads_bytes(form) else "f32", form.format.name)
    except LookupError:
        return False
    return True


def _operators(form: CompressedForm) -> Iterator[Operator]:
    """Yield the operators of a form: one for each combination of the types that x, the weight and y can have.

    onnxruntime infers the type of y from those of the inputs. It takes inputs of any type, too, but to hear so takes it
    longer than another operator does.
    """
    names = form.inputs[: 1 + max(map(form.inputs.index, form.reads))]
    values, *others = form.format.tensors
    needed = ("x", values, *others)
    x_types = _BYTES if _reads_bytes(form) else (_FLOAT,)
    weight_types = (_FLOAT,) if form.dense.form == "float" else _BYTES
    y_types = _BYTES if "y_zero_point" in form.reads else (_INT32 if form.dense.form == "integer" else _FLOAT,)
    bias = _INT32 if form.dense.form == "qlinear" or "bias_scale" in form.reads else _FLOAT
    # onnxruntime 1.17 finds no operator for a node without an input, if that has a type and y may have several.
    unsure = [name for name in names if len(y_types) > 1 and name not in _present(form)]
    for x, weight, y in itertools.product(x_types, weight_types, y_types):
        types = {
            "x": x,
            "x_zero_point": x,
            values: weight,
            "filter_zero_point": weight,
            "y_zero_point": y,
            "bias": bias,
        }
        # What the tensors of a format hold beside values is the format's own.
        types |= {"bias": bias, "bias_zero_point": _INT32} | dict.fromkeys((*others, *unsure), ANY_TYPE)
        operands = tuple(Operand(types.get(name, _FLOAT), REQUIRED if name in needed else OPTIONAL) for name in names)
        yield Operator(form.op_type, operands, (Operand(y),))


def _present(form: CompressedForm) -> frozenset[str]:
    """Return the inputs that every node of a form has."""
    dense = form.dense
    optional = dense.inputs[dense.required : -1]
    return form.reads - (set(optional) - {*form.neighbours.operands})


def _reads_bytes(form: CompressedForm) -> bool:
    """Return whether x is quantised."""
    return form.dense.form in ("integer", "qlinear") or "x_scale" in form.reads
