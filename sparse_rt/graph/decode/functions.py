"""Function bodies of the ``sparse_rt`` operators, in standard ONNX operators only.

An engine that does not know the domain inlines these functions and folds the decoding at load, because all its inputs
are constant; what is left is the dense operator that was there before.

Every body is written for the opset of the model that it goes into, because engines expect both to agree.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from sparse_rt.graph.decode import DECODINGS
from sparse_rt.graph.decode.body import Body
from sparse_rt.graph.decode.decoding import Write
from sparse_rt.graph.decode.layouts import decode_name, layout_function, layout_name
from sparse_rt.graph.dense_forms import MICROSOFT
from sparse_rt.graph.neighbours.nodes import after_operator, before_operator, dequantize_axis
from sparse_rt.graph.operators import ALG, COMPRESSED, DOMAIN, FILTER_SHAPE, VERSION, CompressedForm

__all__ = ["functions_for", "written"]


def functions_for(forms: Sequence[CompressedForm], opset_imports: Mapping[str, int]) -> list[ir.Function]:
    """Return the functions that a model needs whose compressed nodes have the given forms.

    Parameters
    ----------
    forms
        At least one; without duplicates.
    opset_imports
        The model's; the ai.onnx opset must be at least ``MIN_OPSET``.
    """
    opset = opset_imports[""]
    decodes = {decode_name(form): form for form in forms}
    layouts = {layout_name(form): form for form in forms}
    functions = [_decode(opset, form, DECODINGS[form.format.name].write) for form in decodes.values()]
    functions += [layout_function(opset, form, DECODINGS[form.format.name]) for form in layouts.values()]
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
    if name in COMPRESSED:
        return [_operator(COMPRESSED[name], opset_imports)]
    forms = [form for form in COMPRESSED.values() if name in (decode_name(form), layout_name(form))]
    if not forms:
        return []
    form = forms[0]
    decoding = DECODINGS[form.format.name]
    if name == decode_name(form):
        return [_decode(opset, form, write) for write in (decoding.write, *decoding.earlier)]
    return [layout_function(opset, form, decoding)]


def _decode(opset: int, form: CompressedForm, write: Write) -> ir.Function:
    """Build (tensors of the format) -> matrix (n, k)."""
    decoding = DECODINGS[form.format.name]
    body = Body(opset)
    inputs = [ir.val(name) for name in (*form.format.tensors, *(("size",) if decoding.needs_size else ()))]
    matrix = write(body, inputs)
    matrix.name = "matrix"
    return body.function(decode_name(form), inputs=inputs, output=matrix, imports={"": opset}, doc=decoding.doc)


def _weight(body: Body, form: CompressedForm, inputs: Mapping[str, ir.Value]) -> ir.Value:
    """Decode the weight, and dequantise it where there is a scale."""
    dense = form.dense
    values, *others = (inputs[name] for name in form.format.tensors)
    weight = body(
        layout_name(form),
        body("Cast", values, to=ir.DataType.FLOAT.value) if dense.half else values,
        *others,
        domain=DOMAIN,
        **{FILTER_SHAPE: ir.RefAttr(FILTER_SHAPE, FILTER_SHAPE, ir.AttributeType.TENSOR)},
    )
    if dense.half:
        weight = body("Cast", weight, to=ir.DataType.FLOAT16.value)
    if dense.form == "qdq":
        parameters = (inputs[name] for name in dense.dequantize_inputs)
        weight = body("DequantizeLinear", weight, *parameters, **dequantize_axis(body.opset, dense.channel_axis))
    return weight


def _operator(form: CompressedForm, opset_imports: Mapping[str, int]) -> ir.Function:
    """Build an operator: decode, call the dense operator, with the neighbours of the form around it."""
    opset = opset_imports[""]
    dense = form.dense
    body = Body(opset)
    inputs = {name: ir.val(name) for name in form.inputs}
    before = before_operator(body, form.neighbours, inputs, opset)
    operands = {**inputs, **before, "filter": _weight(body, form, inputs)}
    references = {name: ir.RefAttr(name, name, kind) for name, kind in dense.attributes.items()}
    y = body(dense.op_type, *(operands[name] for name in dense.inputs), domain=dense.domain, **references)
    y = after_operator(body, form.neighbours, inputs, y)
    y.name = "y"
    attributes = [
        ir.Attr(ALG, ir.AttributeType.STRING, None),
        ir.Attr(FILTER_SHAPE, ir.AttributeType.TENSOR, None),
        *(ir.Attr(name, kind, None) for name, kind in dense.attributes.items()),
    ]
    imports = {"": opset, DOMAIN: VERSION}
    if dense.domain == MICROSOFT:
        imports[MICROSOFT] = opset_imports.get(MICROSOFT, 1)
    doc = f"{dense.op_type} with a {form.format.title} weight in compressed form, alg = {form.format.alg}"
    return body.function(
        form.op_type,
        inputs=list(inputs.values()),
        output=y,
        attributes=attributes,
        imports=imports,
        doc=doc,
    )
