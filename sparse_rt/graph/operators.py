"""The ``sparse_rt`` operator domain, version 1: its operators, and the dense forms that each stands for.

The four families are named after the operators that the target's graph compiler inserts. One family stands for several
dense operators (Conv2DCompress for Conv, for Conv behind DequantizeLinear, for QLinearConv, for ConvInteger), and their
weights come in several formats; an operator may hold the nodes around the dense one, too
(:mod:`sparse_rt.graph.neighbours.record`). Each of these forms is an operator with a name of its own,
``<family>_<variant>`` and the format's suffix, because not every onnxruntime looks at the overload of a function.
:data:`COMPRESSED` holds all names. All operators of a format share one list of inputs; a node leaves out what its form
has not. See docs/compressed-model.md.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sparse_rt.formats import FORMATS, Format
from sparse_rt.graph.dense_forms import FORMS, DenseForm
from sparse_rt.graph.neighbours.record import ALONE, OPERANDS, Neighbours, possible

__all__ = [
    "ALG",
    "COMPRESSED",
    "DOMAIN",
    "FILTER_SHAPE",
    "IR_VERSION",
    "MIN_OPSET",
    "VERSION",
    "VERSION_KEY",
    "CompressedForm",
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


_AFTER_WEIGHT = (
    "bias",
    "filter_scale",
    "filter_zero_point",
    "x_scale",
    "x_zero_point",
    "y_scale",
    "y_zero_point",
)
"""The inputs of every operator behind those that hold its weight, in order; those of neighbours follow."""


@dataclass(frozen=True)
class CompressedForm:
    """An operator of the ``sparse_rt`` domain: a dense form, and how its weight is stored."""

    dense: DenseForm

    format: Format

    is_padded: bool = False
    """True for a weight whose channels do not divide as the format stores them: its body cuts off the padding. Of other
    weights it does not, since an engine keeps every array that it folds until the whole model is loaded."""

    neighbours: Neighbours = ALONE
    """The nodes around the dense operator that it holds as well."""

    @classmethod
    def of(cls, dense: DenseForm, format: Format, shape: Sequence[int]) -> "CompressedForm":
        """Return the form for a weight of the dense operator's `shape` in a format."""
        channels = shape[0 if dense.input_first else 1]
        return cls(dense, format, is_padded=channels % format.channel_multiple != 0)

    @property
    def op_type(self) -> str:
        """Its name."""
        return f"{self.dense.family}_{self.variant}{self.format.suffix}"

    @property
    def variant(self) -> str:
        """What tells it from others of its family, in the names of operators or, once, in overloads."""
        variant = f"{self.dense.variant}{self.neighbours.suffix}"
        return f"{variant}_padded" if self.is_padded else variant

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs, in order."""
        return ("x", *self.format.tensors, *_AFTER_WEIGHT, *(OPERANDS if self.neighbours != ALONE else ()))

    @property
    def reads(self) -> frozenset[str]:
        """The names of the inputs that its body reads, those that may be absent included."""
        dense = self.dense
        dequantized = dense.dequantize_inputs if dense.form == "qdq" else ()
        own = (*self.format.tensors, *dense.inputs, *dequantized)
        return frozenset((*own, *self.neighbours.operands)) - {"filter"}


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
    forms = (
        CompressedForm(form, format, is_padded, neighbours)
        for form in _variants()
        for neighbours in possible(form)
        for is_padded in padded
    )
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
    if found is None or (found.dense.family, found.variant) != (family, overload):
        return None
    return found if found.neighbours == ALONE else None
