"""Read the weight of a node of the ``sparse_rt`` domain, and refuse one that contradicts itself.

What is refused here is a file that two engines could read differently: sparse_rt takes a layer's meaning from its
operator and its tensors, any other engine from the function body of that operator.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from sparse_rt.errors import FormatError, ModelError, message
from sparse_rt.formats import SparseWeight
from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.layers.gates import allowed_ranks, rank_fits
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.operators import ALG, FILTER_SHAPE, CompressedForm

__all__ = ["canonical_shape", "stored_weight"]

_CORRUPT = "The model is corrupt."


def stored_weight(node: ir.Node, form: CompressedForm, inputs: Mapping[str, ir.Value], where: str) -> SparseWeight:
    """Return the checked compressed weight of a node.

    Parameters
    ----------
    node
        Of the ``sparse_rt`` domain.
    form
        What its operator stands for.
    inputs
        The node's, by name.
    where
        What errors call the layer.

    Raises
    ------
    ModelError
        An attribute or an input is missing, has the wrong type, or contradicts the operator.
    FormatError
        The tensors and the shape do not fit each other.
    """
    _check_attributes(node, form, where)
    _check_inputs(node, form, inputs, where)
    format, dense = form.format, form.dense
    found = [constant_array(inputs.get(name)) for name in format.tensors]
    arrays = [array for array in found if array is not None]
    if len(arrays) < len(found):
        raise ModelError(message(where, f"constant {' and '.join(format.tensors)}", "an input or nothing"))
    weight = format.weight(arrays, canonical_shape(dense, _filter_shape(node, dense, where)))
    weight.check(where)
    multiple = format.channel_multiple
    if weight.shape[1] % multiple and not form.is_padded:
        got = f"{weight.shape[1]}"
        raise ModelError(message(where, f"a multiple of {multiple} input channels for {node.op_type}", got, _CORRUPT))
    allowed = _dtypes(dense)
    if weight.dtype not in allowed:
        expected = f"values of {' or '.join(str(np.dtype(dtype)) for dtype in allowed)} for {node.op_type}"
        raise ModelError(message(where, expected, str(weight.dtype), _CORRUPT))
    return weight


def canonical_shape(form: DenseForm, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the dense operator's weight with the output channels first."""
    return (shape[1], shape[0], *shape[2:]) if form.input_first and len(shape) >= 2 else shape


def _check_attributes(node: ir.Node, form: CompressedForm, where: str) -> None:
    algorithm = node.attributes.get(ALG)
    if algorithm is None or algorithm.value != form.format.alg:
        got = "none" if algorithm is None else repr(algorithm.value)
        raise ModelError(message(where, f"the attribute {ALG} = '{form.format.alg}'", got, _CORRUPT))
    if "transB" in form.dense.attributes:
        found = node.attributes.get("transB")
        transposed = found is not None and bool(found.value)
        if transposed == form.dense.input_first:
            expected = f"transB = {int(not form.dense.input_first)} for {node.op_type}"
            raise ModelError(message(where, expected, str(int(transposed)), _CORRUPT))


def _check_inputs(node: ir.Node, form: CompressedForm, inputs: Mapping[str, ir.Value], where: str) -> None:
    """Raise if the node has an input that the body of its operator does not read."""
    unread = [name for name in inputs if name not in form.reads]
    if unread:
        raise ModelError(message(where, f"no {' and no '.join(unread)} for {node.op_type}", "one", _CORRUPT))


def _filter_shape(node: ir.Node, form: DenseForm, where: str) -> tuple[int, ...]:
    attribute = node.attributes.get(FILTER_SHAPE)
    if attribute is None or attribute.type != ir.AttributeType.TENSOR:
        got = "none" if attribute is None else attribute.type.name
        raise ModelError(message(where, f"the attribute {FILTER_SHAPE}, a tensor", got, _CORRUPT))
    shape = attribute.as_tensor().numpy()
    if shape.dtype != np.int64 or shape.ndim != 1:
        got = f"{shape.dtype} of shape {shape.shape}"
        raise ModelError(message(where, f"{FILTER_SHAPE} as a list of int64", got, _CORRUPT))
    if not rank_fits(form, len(shape)):
        raise FormatError(message(where, f"a {FILTER_SHAPE} of which {allowed_ranks(form)}", str(shape.tolist())))
    return tuple(int(size) for size in shape)


def _dtypes(form: DenseForm) -> tuple[type[np.generic], ...]:
    if form.form != "float":
        return (np.int8, np.uint8)
    return (np.float16,) if form.half else (np.float32,)
