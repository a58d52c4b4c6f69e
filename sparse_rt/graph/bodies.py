"""Function bodies of the ``sparse_rt`` operators, in standard ONNX operators only.

An engine that does not know the domain inlines these functions and folds the decoding at load, because all its inputs
are constant; what is left is the dense operator that was there before.

Every body is written for the opset of the model that it goes into, because engines expect both to agree.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

from sparse_rt.graph.operators import ALG, DOMAIN, FILTER_SHAPE, INPUTS, MICROSOFT, VERSION, DenseForm

__all__ = ["DECODE", "functions_for"]

DECODE = "Decode"
"""The function (filter_compress, compress_index) -> matrix (n, k4)."""

_ADD_INT8_OPSET = 14  # Add for 8-bit integers
_SCATTER_ADD_OPSET = 16  # ScatterElements with reduction


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
        overload: str,
        *,
        inputs: Sequence[ir.Value],
        output: ir.Value,
        attributes: Sequence[ir.Attr] = (),
        imports: dict[str, int],
        doc: str,
    ) -> ir.Function:
        graph = ir.Graph(inputs, [output], nodes=self.nodes, opset_imports=imports, name=name, doc_string=doc)
        return ir.Function(DOMAIN, name, overload, graph=graph, attributes=attributes)


def functions_for(forms: Sequence[DenseForm], opset_imports: dict[str, int]) -> list[ir.Function]:
    """Return the functions that a model needs whose compressed nodes have the given forms.

    Parameters
    ----------
    forms
        At least one; without duplicates.
    opset_imports
        The model's; the ai.onnx opset must be at least ``MIN_OPSET``.
    """
    opset = opset_imports[""]
    functions = [_decode(opset)]
    functions += [_decode_filter(opset, form) for form in {_filter_name(form): form for form in forms}.values()]
    functions += [_operator(form, opset_imports) for form in forms]
    return functions


def _decode(opset: int) -> ir.Function:
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
    spread = _scatter if opset >= _SCATTER_ADD_OPSET else _select
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
    return body.function(DECODE, "", inputs=[values, index], output=matrix, imports={"": opset}, doc=doc)


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
    nibble = np.arange(16)
    positions = np.stack([nibble & 3, (nibble >> 2) + 1], axis=1)
    named = body("Gather", body.constant(positions), body("Cast", nibbles, to=ir.DataType.INT32.value))
    shape = body("Concat", body("Shape", nibbles), body.constant([4]), axis=0)
    return body("ScatterElements", body("Expand", nought, shape), named, pairs, axis=1, reduction="add")


def _select(body: _Body, pairs: ir.Value, nibbles: ir.Value, nought: ir.Value) -> ir.Value:
    """Return the same as :func:`_scatter` by operators of older opsets.

    Seen as two planes of fields and two of values the four elements are four planes as well: i0 may name elements 0,
    1, 2 and i1 elements 1, 2, 3.
    """
    turned = body("Transpose", pairs, perm=[1, 0])
    first, second = (body("Gather", turned, body.constant(plane), axis=0) for plane in range(2))
    six, two = body.constant(6, np.uint8), body.constant(2, np.uint8)
    first_index = body("BitShift", body("BitShift", nibbles, six, direction="LEFT"), six, direction="RIGHT")
    second_index = body("BitShift", nibbles, two, direction="RIGHT")
    elements = [
        _where_index(body, first_index, 0, first, nought),
        _sum(body, (first_index, 1, first), (second_index, 0, second), nought),
        _sum(body, (first_index, 2, first), (second_index, 1, second), nought),
        _where_index(body, second_index, 2, second, nought),
    ]
    row = body.constant([1, -1])
    planes = body("Concat", *(body("Reshape", element, row) for element in elements), axis=0)
    return body("Transpose", planes, perm=[1, 0])


def _where_index(body: _Body, index: ir.Value, element: int, values: ir.Value, nought: ir.Value) -> ir.Value:
    """Return the values whose index names the element, else 0."""
    named = body("Equal", index, body.constant(element, np.uint8))
    return body("Where", named, values, nought)


def _sum(
    body: _Body, first: tuple[ir.Value, int, ir.Value], second: tuple[ir.Value, int, ir.Value], nought: ir.Value
) -> ir.Value:
    """Return the sum of what two (index, element, values) contribute to one element.

    Two indexes may name the same element, one of them with value 0. Where the opset cannot add 8-bit integers the
    second value is taken unless it is 0, which is the same.
    """
    a = _where_index(body, *first, nought)
    if body.opset >= _ADD_INT8_OPSET:
        return body("Add", a, _where_index(body, *second, nought))
    index, element, values = second
    named = body("Equal", index, body.constant(element, np.uint8))
    nonzero = body("Cast", values, to=ir.DataType.BOOL.value)
    return body("Where", body("And", named, nonzero), values, a)


def _filter_name(form: DenseForm) -> str:
    """Return the name of the function that lays a weight out as `form` reads it.

    The layouts have names, not overloads: onnxruntime forgets the overload of a call inside a function (checked with
    1.31).
    """
    parts = ("Matrix" if form.kind == "matmul" else "Filter", "InputFirst" if form.input_first else "OutputFirst")
    return "Decode" + "".join(parts) + ("Padded" if form.padded else "")


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
        "",
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


def _operator(form: DenseForm, opset_imports: dict[str, int]) -> ir.Function:
    """Build one overload of an operator: decode, dequantise where there is a scale, call the dense operator."""
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
        imports[MICROSOFT] = opset_imports[MICROSOFT]
    doc = f"{form.op_type} with a 2:4 weight in compressed form, alg = {ALG}"
    return body.function(
        form.operator,
        form.overload,
        inputs=list(inputs.values()),
        output=y,
        attributes=attributes,
        imports=imports,
        doc=doc,
    )
