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

__all__ = ["DECODE", "DECODE_FILTER", "functions_for"]

DECODE = "Decode"
"""The function (filter_compress, compress_index) -> matrix (n, k4)."""
DECODE_FILTER = {False: "DecodeFilterOutputFirst", True: "DecodeFilterInputFirst"}
"""The functions (filter_compress, compress_index) {filter_shape} -> the dense operator's weight, by ``input_first``.
Two names, not two overloads: onnxruntime forgets the overload of a call inside a function (checked with 1.31)."""

_ADD_INT8_OPSET = 14  # Add for 8-bit integers


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
    functions += [_decode_filter(opset, input_first) for input_first in sorted({f.input_first for f in forms})]
    functions += [_operator(form, opset_imports) for form in forms]
    return functions


def _decode(opset: int) -> ir.Function:
    """Build the decoding of stored values and packed indexes, for every element type.

    An index byte describes two groups of four channels by four 2-bit fields: i0 and i1 of the first, i0 and i1 of the
    second. The four values beside it are theirs. Seen as four planes of fields and four of values, one element each a
    byte, the eight dense elements are eight planes as well: i0 may name elements 0, 1, 2 and i1 elements 1, 2, 3. Long
    contiguous planes are what makes this cheap in an interpreter of array operators: about 1 ns a weight.
    """
    body = _Body(opset)
    values, index = ir.val("filter_compress"), ir.val("compress_index")
    zero, one = body.constant([0]), body.constant([1])
    columns = body("Slice", body("Shape", values), one, body.constant([2]))
    index_shape = body("Shape", index)
    index_bytes = body("Slice", index_shape, one, body.constant([2]))

    # A row of an odd number of groups ends in half a byte. Any two values may stand for the missing ones, since what
    # they decode to lies beyond the row's end and is cut off below.
    missing = body("Sub", body("Mul", index_bytes, body.constant([4])), columns)
    whole = body("Concat", values, body("Slice", values, zero, missing, one), axis=1)
    quads = body("Transpose", body("Reshape", whole, body.constant([-1, 4])), perm=[1, 0])
    value_planes = [body("Gather", quads, body.constant(plane), axis=0) for plane in range(4)]

    packed = body("Reshape", index, body.constant([-1]))
    six = body.constant(6, np.uint8)
    index_planes = []
    for plane in range(4):
        left = body.constant(6 - 2 * plane, np.uint8)
        # Shifting left drops the higher fields, since the element type is 8 bits wide.
        index_planes.append(body("BitShift", body("BitShift", packed, left, direction="LEFT"), six, direction="RIGHT"))

    # A zero of the values' own type: the pad behind the first value.
    corner = body("Slice", values, body.constant([0, 0]), body.constant([1, 1]))
    padded = body("Pad", corner, body.constant([0, 0, 0, 1]))
    nought = body("Reshape", body("Slice", padded, one, body.constant([2]), one), body.constant([1]))

    elements = []
    for group in (0, 2):
        first, second = value_planes[group : group + 2]
        first_index, second_index = index_planes[group : group + 2]
        elements += [
            _where_index(body, first_index, 0, first, nought),
            _sum(body, (first_index, 1, first), (second_index, 0, second), nought),
            _sum(body, (first_index, 2, first), (second_index, 1, second), nought),
            _where_index(body, second_index, 2, second, nought),
        ]
    row = body.constant([1, -1])
    planes = body("Concat", *(body("Reshape", element, row) for element in elements), axis=0)
    rows = body("Slice", index_shape, zero, one)
    by_row = body("Concat", rows, body("Mul", index_bytes, body.constant([8])), axis=0)
    whole_rows = body("Reshape", body("Transpose", planes, perm=[1, 0]), by_row)
    matrix = body("Slice", whole_rows, zero, body("Add", columns, columns), one)
    matrix.name = "matrix"
    doc = "values (n, k4/2), packed 2-bit indexes (n, ceil(k4/8)) -> matrix (n, k4) with at most 2 nonzeros of each 4"
    return body.function(DECODE, "", inputs=[values, index], output=matrix, imports={"": opset}, doc=doc)


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


def _decode_filter(opset: int, input_first: bool) -> ir.Function:
    """Build matrix (n, kernel..., padded c) -> weight (n, c, *kernel), or (c, n, *kernel) if `input_first`."""
    body = _Body(opset)
    values, index = ir.val("filter_compress"), ir.val("compress_index")
    matrix = body(DECODE, values, index, domain=DOMAIN)
    shape = body("Constant", value=ir.RefAttr("value", FILTER_SHAPE, ir.AttributeType.TENSOR))
    zero, one, two = body.constant([0]), body.constant([1]), body.constant([2])
    channels = body("Slice", shape, zero, one) if input_first else body("Slice", shape, one, two)
    plane = body("Reshape", body("ReduceProd", body("Slice", shape, zero, two)), one)
    positions = body("Div", body("Reshape", body("ReduceProd", shape), one), plane)
    split = body("Concat", zero, positions, body.constant([-1]), axis=0)  # 0 keeps the rows
    padded = body("Reshape", matrix, split)
    cut = body("Slice", padded, zero, channels, two)
    turned = body("Transpose", cut, perm=[2, 0, 1] if input_first else [0, 2, 1])
    weight = body("Reshape", turned, shape)
    weight.name = "filter"
    doc = "The weight as the dense operator reads it: " + ("(c, n, *kernel)" if input_first else "(n, c, *kernel)")
    return body.function(
        DECODE_FILTER[input_first],
        "",
        inputs=[values, index],
        output=weight,
        attributes=[ir.Attr(FILTER_SHAPE, ir.AttributeType.TENSOR, None)],
        imports={"": opset, DOMAIN: VERSION},
        doc=doc,
    )


def _operator(form: DenseForm, opset_imports: dict[str, int]) -> ir.Function:
    """Build one overload of an operator: decode, dequantise where there is a scale, call the dense operator."""
    opset = opset_imports[""]
    body = _Body(opset)
    inputs = {name: ir.val(name) for name in INPUTS}
    values = inputs["filter_compress"]
    weight = body(
        DECODE_FILTER[form.input_first],
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
