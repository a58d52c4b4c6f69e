"""How a decoded matrix becomes the weight as a dense operator reads it: one function for each layout and format."""

from collections.abc import Sequence

import onnx_ir as ir

from sparse_rt.graph.decode.body import Body
from sparse_rt.graph.decode.decoding import Decoding
from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.operators import DOMAIN, FILTER_SHAPE, VERSION, CompressedForm

__all__ = ["decode_name", "layout_function", "layout_name"]


def decode_name(form: CompressedForm) -> str:
    """Return the name of the function that makes the matrix of a format's tensors."""
    return f"Decode{form.format.suffix}"


def layout_name(form: CompressedForm) -> str:
    """Return the name of the function that lays a weight out as `form` reads it."""
    dense = form.dense
    parts = ("Matrix" if dense.kind == "matmul" else "Filter", "InputFirst" if dense.input_first else "OutputFirst")
    return "Decode" + "".join(parts) + ("Padded" if form.is_padded else "") + form.format.suffix


def layout_function(opset: int, form: CompressedForm, decoding: Decoding) -> ir.Function:
    """Build (tensors of the format) {filter_shape} -> the dense operator's weight."""
    body = Body(opset)
    tensors = [ir.val(name) for name in form.format.tensors]
    if decoding.needs_size:
        shape = _shape(body)
        matrix = body(decode_name(form), *tensors, _size(body, shape, form), domain=DOMAIN)
    else:
        matrix = body(decode_name(form), *tensors, domain=DOMAIN)
        shape = _shape(body)
    weight = (_matrix if form.dense.kind == "matmul" else _kernel_last)(body, matrix, shape, form)
    weight.name = "filter"
    return body.function(
        layout_name(form),
        inputs=tensors,
        output=weight,
        attributes=[ir.Attr(FILTER_SHAPE, ir.AttributeType.TENSOR, None)],
        imports={"": opset, DOMAIN: VERSION},
        doc="The weight as the dense operator reads it: "
        + ("(c, n, ...)" if form.dense.input_first else "(n, c, ...)"),
    )


def _shape(body: Body) -> ir.Value:
    return body("Constant", value=ir.RefAttr("value", FILTER_SHAPE, ir.AttributeType.TENSOR))


def _size(body: Body, shape: ir.Value, form: CompressedForm) -> ir.Value:
    """Return n and k of the matrix, int64 (2,): k with the channels of each kernel position padded."""
    rows = _along(body, shape, form.dense.channel_axis)
    columns = body("Div", body("Reshape", body("ReduceProd", shape), body.constant([1])), rows)
    if form.is_padded:
        multiple, channels = form.format.channel_multiple, _channels(body, shape, form.dense)
        steps = body("Div", body("Add", channels, body.constant([multiple - 1])), body.constant([multiple]))
        padded = body("Mul", steps, body.constant([multiple]))
        columns = body("Mul", body("Div", columns, channels), padded)
    return body("Concat", rows, columns, axis=0)


def _matrix(body: Body, matrix: ir.Value, shape: ir.Value, form: CompressedForm) -> ir.Value:
    """Matrix (n, padded c) -> weight (n, c), or (c, n)."""
    if form.is_padded:
        matrix = body("Slice", matrix, body.constant([0]), _channels(body, shape, form.dense), body.constant([1]))
    return body("Transpose", matrix, perm=[1, 0]) if form.dense.input_first else matrix


def _kernel_last(body: Body, matrix: ir.Value, shape: ir.Value, form: CompressedForm) -> ir.Value:
    """Matrix (n, kernel..., padded c) -> weight (n, c, *kernel), or (c, n, *kernel)."""
    zero, one, two = body.constant([0]), body.constant([1]), body.constant([2])
    plane = body("Reshape", body("ReduceProd", body("Slice", shape, zero, two)), one)
    positions = body("Div", body("Reshape", body("ReduceProd", shape), one), plane)
    weight = body("Reshape", matrix, body("Concat", zero, positions, body.constant([-1]), axis=0))  # 0 keeps the rows
    if form.is_padded:
        weight = body("Slice", weight, zero, _channels(body, shape, form.dense), two)
    axes: Sequence[int] = [2, 0, 1] if form.dense.input_first else [0, 2, 1]
    return body("Reshape", body("Transpose", weight, perm=axes), shape)


def _channels(body: Body, shape: ir.Value, form: DenseForm) -> ir.Value:
    return _along(body, shape, 0 if form.input_first else 1)


def _along(body: Body, shape: ir.Value, axis: int) -> ir.Value:
    return body("Slice", shape, body.constant([axis]), body.constant([axis + 1]))
