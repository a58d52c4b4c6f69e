"""Function bodies of the ``sparse_rt`` operators, in standard ONNX operators only.

An engine that does not know the domain inlines these functions and folds the decoding at load, because all its inputs
are constant; what is left is the dense operator that was there before.

Every body is written for the opset of the model that it goes into, because engines expect both to agree.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

from sparse_rt.graph.operators import ALG, COMPRESSED, DOMAIN, FILTER_SHAPE, INPUTS, MICROSOFT, VERSION, DenseForm

__all__ = ["DECODE", "functions_for", "written"]

DECODE = "Decode"
"""The function (filter_compress, compress_index) -> matrix (n, k4)."""

_SCATTER_ADD_OPSET = 16  # ScatterElements with reduction

# The elements of its group that the two fields of a nibble name: i0, and i1 + 1.
_POSITIONS = np.stack([np.arange(16) & 3, (np.arange(16) >> 2) + 1], axis=1)


class _Body(tape.Tape):
    """A function body under construction."""

    def __init__(self, opset: int) -> None:
        super().__init__()
        self.opset = opset

    def __call__(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        return self.op(op_type, inputs, attributes, domain=domain)

    def constant(self, value: Any, dtype: type[np.generic] = np.int64) -> ir.Value:
        return self("Constant", value=ir.tensor(np.asarray(value, dtype)))

    def function(
        self,
        name: str,
        *,
        inputs: Sequence[ir.Value],
        output: ir.Value,
        attributes: Sequence[ir.Attr] = (),
        imports: dict[str, int],
        doc: str,
    ) -> ir.Function:
        graph = ir.Graph(inputs, [output], nodes=self.nodes, opset_imports=imports, name=name, doc_string=doc)
        return ir.Function(DOMAIN, name, "", graph=graph, attributes=attributes)


def functions_for(forms: Sequence[DenseForm], opset_imports: Mapping[str, int]) -> list[ir.Function]:
    """Return the functions that a model needs whose compressed nodes have the given forms.

    Parameters
    ----------
    forms
        At least one; without duplicates.
    opset_imports
        The model's; the ai.onnx opset must be at least ``MIN_OPSET``.
    """
    opset = opset_imports[""]
    functions = [_decode(opset, _spread(opset))]
    functions += [_decode_filter(opset, form) for form in {_filter_name(form): form for form in forms}.values()]
    functions += [_operator(form, opset_imports) for form in forms]
    return functions


def written(name: str, opset_imports: Mapping[str, int]) -> list[ir.Function]:
    """Return every function that sparse_rt has ever written under a name, for a model with the given opsets.

    Parameters
    ----------
    name
        In our domain.
    opset_imports
        The function's.

    Returns
    -------
    list
        Empty for a name that is not one of sparse_rt's.
    """
    opset = opset_imports[""]
    if name == DECODE:
        # A tool that raises a model's opset may leave the body as it is: the older one means the same.
        return [_decode(opset, spread) for spread in {_spread(opset), _scatter_nonzeros}]
    if name in _LAYOUTS:
        return [_decode_filter(opset, _LAYOUTS[name])]
    return [_operator(COMPRESSED[name], opset_imports)] if name in COMPRESSED else []


_Spread = Callable[[_Body, ir.Value, ir.Value, ir.Value], ir.Value]


def _decode(opset: int, spread: _Spread) -> ir.Function:
    """Build the decoding of stored values and packed indexes, for every element type.

    An index byte describes two groups of four channels, the low nibble the first: i0 in its low 2 bits, i1 above.
    Each group has two values.
    """
    body = _Body(opset)
    values, index = ir.val("filter_compress"), ir.val("compress_index")
    zero, one, two = body.constant([0]), body.constant([1]), body.constant([2])
    four = body.constant(4, np.uint8)
    # Shifting left drops the high nibble, since the element type is 8 bits wide.
    low = body("BitShift", body("BitShift", index, four, direction="LEFT"), four, direction="RIGHT")
    high = body("BitShift", index, four, direction="RIGHT")
    column = body.constant([0, 0, 1])
    pairs = body("Concat", body("Reshape", low, column), body("Reshape", high, column), axis=2)
    # A row of an odd number of groups ends in half a byte: the last nibble is none.
    groups = body("Div", body("Slice", body("Shape", values), one, two), two)
    nibbles = body("Slice", body("Reshape", pairs, body.constant([0, -1])), zero, groups, one)
    quads = spread(
        body,
        body("Reshape", values, body.constant([-1, 2])),
        body("Reshape", nibbles, body.constant([-1])),
        _zero(body, values),
    )
    matrix = body(
        "Reshape", quads, body("Concat", body("Slice", body("Shape", values), zero, one), body.constant([-1]), axis=0)
    )
    matrix.name = "matrix"
    doc = "values (n, k4/2), packed 2-bit indexes (n, ceil(k4/8)) -> matrix (n, k4) with at most 2 nonzeros of each 4"
    return body.function(DECODE, inputs=[values, index], output=matrix, imports={"": opset}, doc=doc)


def _spread(opset: int) -> _Spread:
    return _scatter if opset >= _SCATTER_ADD_OPSET else _scatter_nonzeros


def _zero(body: _Body, values: ir.Value) -> ir.Value:
    """Return a 0 of the values' own type, shape (1,): the pad behind the first value."""
    corner = body("Slice", values, body.constant([0, 0]), body.constant([1, 1]))
    padded = body("Pad", corner, body.constant([0, 0, 0, 1]))
    last = body("Slice", padded, body.constant([1]), body.constant([2]), body.constant([1]))
    return body("Reshape", last, body.constant([1]))


def _scatter(body: _Body, pairs: ir.Value, nibbles: ir.Value, nought: ir.Value) -> ir.Value:
    """Add each of the values (g, 2) to the element of its group (g, 4) that the nibbles (g,) name.

    Few large operators: an engine keeps what it folds until it has folded everything, so every intermediate array
    counts in the peak of memory while a model loads.
    """
    positions = body("Gather", body.constant(_POSITIONS), body("Cast", nibbles, to=ir.DataType.INT32.value))
    shape = body("Concat", body("Shape", nibbles), body.constant([4]), axis=0)
    return body("ScatterElements", body("Expand", nought, shape), positions, pairs, axis=1, reduction="add")


def _scatter_nonzeros(body: _Body, pairs: ir.Value, nibbles: ir.Value, nought: ir.Value) -> ir.Value:
    """Return the same as :func:`_scatter` by operators of older opsets, whose ScatterElements assigns.

    Two indexes may name the same element, one of them with value 0: zeros are written to a fifth element instead,
    which is cut off.
    """
    positions = body("Gather", body.constant(_POSITIONS), body("Cast", nibbles, to=ir.DataType.INT32.value))
    kept = body("Where", body("Cast", pairs, to=ir.DataType.BOOL.value), positions, body.constant(4))
    shape = body("Concat", body("Shape", nibbles), body.constant([5]), axis=0)
    fives = body("ScatterElements", body("Expand", nought, shape), kept, pairs, axis=1)
    return body("Slice", fives, body.constant([0]), body.constant([4]), body.constant([1]))


def _filter_name(form: DenseForm) -> str:
    """Return the name of the function that lays a weight out as `form` reads it."""
    parts = ("Matrix" if form.kind == "matmul" else "Filter", "InputFirst" if form.input_first else "OutputFirst")
    return "Decode" + "".join(parts) + ("Padded" if form.padded else "")


_LAYOUTS: Mapping[str, DenseForm] = MappingProxyType({_filter_name(form): form for form in COMPRESSED.values()})
"""A form that reads its weight by each of the layout functions."""


def _decode_filter(opset: int, form: DenseForm) -> ir.Function:
    """Build (filter_compress, compress_index) {filter_shape} -> the dense operator's weight."""
    body = _Body(opset)
    values, index = ir.val("filter_compress"), ir.val("compress_index")
    matrix = body(DECODE, values, index, domain=DOMAIN)
    shape = body("Constant", value=ir.RefAttr("value", FILTER_SHAPE, ir.AttributeType.TENSOR))
    weight = (_matrix if form.kind == "matmul" else _kernel_last)(body, matrix, shape, form)
    weight.name = "filter"
    return body.function(
        _filter_name(form),
        inputs=[values, index],
        output=weight,
        attributes=[ir.Attr(FILTER_SHAPE, ir.AttributeType.TENSOR, None)],
        imports={"": opset, DOMAIN: VERSION},
        doc="The weight as the dense operator reads it: " + ("(c, n, ...)" if form.input_first else "(n, c, ...)"),
    )


def _matrix(body: _Body, matrix: ir.Value, shape: ir.Value, form: DenseForm) -> ir.Value:
    """Matrix (n, padded c) -> weight (n, c), or (c, n)."""
    if form.padded:
        matrix = body("Slice", matrix, body.constant([0]), _channels(body, shape, form), body.constant([1]))
    return body("Transpose", matrix, perm=[1, 0]) if form.input_first else matrix


def _kernel_last(body: _Body, matrix: ir.Value, shape: ir.Value, form: DenseForm) -> ir.Value:
    """Matrix (n, kernel..., padded c) -> weight (n, c, *kernel), or (c, n, *kernel)."""
    zero, one, two = body.constant([0]), body.constant([1]), body.constant([2])
    plane = body("Reshape", body("ReduceProd", body("Slice", shape, zero, two)), one)
    positions = body("Div", body("Reshape", body("ReduceProd", shape), one), plane)
    weight = body("Reshape", matrix, body("Concat", zero, positions, body.constant([-1]), axis=0))  # 0 keeps the rows
    if form.padded:
        weight = body("Slice", weight, zero, _channels(body, shape, form), two)
    turned = body("Transpose", weight, perm=[2, 0, 1] if form.input_first else [0, 2, 1])
    return body("Reshape", turned, shape)


def _channels(body: _Body, shape: ir.Value, form: DenseForm) -> ir.Value:
    axis = 0 if form.input_first else 1
    return body("Slice", shape, body.constant([axis]), body.constant([axis + 1]))


def _operator(form: DenseForm, opset_imports: Mapping[str, int]) -> ir.Function:
    """Build an operator: decode, dequantise where there is a scale, call the dense operator."""
    opset = opset_imports[""]
    body = _Body(opset)
    inputs = {name: ir.val(name) for name in INPUTS}
    values = inputs["filter_compress"]
    weight = body(
        _filter_name(form),
        body("Cast", values, to=ir.DataType.FLOAT.value) if form.half else values,
        inputs["compress_index"],
        domain=DOMAIN,
        **{FILTER_SHAPE: ir.RefAttr(FILTER_SHAPE, FILTER_SHAPE, ir.AttributeType.TENSOR)},
    )
    if form.half:
        weight = body("Cast", weight, to=ir.DataType.FLOAT16.value)
    if form.form == "qdq":
        # DequantizeLinear took one scale a tensor, and no axis, before opset 13.
        axis: dict[str, Any] = {"axis": form.channel_axis} if opset >= 13 else {}
        weight = body("DequantizeLinear", weight, *(inputs[name] for name in form.dequantize_inputs), **axis)
    operands = [weight if name == "filter" else inputs[name] for name in form.inputs]
    references = {name: ir.RefAttr(name, name, kind) for name, kind in form.attributes.items()}
    y = body(form.op_type, *operands, domain=form.domain, **references)
    y.name = "y"
    attributes = [
        ir.Attr("alg", ir.AttributeType.STRING, None),
        ir.Attr(FILTER_SHAPE, ir.AttributeType.TENSOR, None),
        *(ir.Attr(name, kind, None) for name, kind in form.attributes.items()),
    ]
    imports = {"": opset, DOMAIN: VERSION}
    if form.domain == MICROSOFT:
        imports[MICROSOFT] = opset_imports.get(MICROSOFT, 1)
    doc = f"{form.op_type} with a 2:4 weight in compressed form, alg = {ALG}"
    return body.function(
        form.compressed_op_type,
        inputs=list(inputs.values()),
        output=y,
        attributes=attributes,
        imports=imports,
        doc=doc,
    )
