"""The weight of a compressed node: what was compressed, or a refusal of a file that contradicts itself."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from sparse_rt.errors import FormatError, ModelError
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.stored import canonical_shape, stored_weight
from sparse_rt.graph.operators import ALG, COMPRESSED, FILTER_SHAPE
from sparse_rt.graph.passes.compress import compress
from tests.graph import models

WEIGHT = models.two_four(0, (8, 12))


def compressed():
    return compress(models.matmul_model(WEIGHT))


def layer_node(proto):
    (node,) = (node for node in proto.graph.node if node.domain == "sparse_rt")
    return node


def replaced(name, value):
    """A compressed model whose layer has another value of an attribute, or none."""
    proto = compressed()
    node = layer_node(proto)
    (old,) = (attribute for attribute in node.attribute if attribute.name == name)
    node.attribute.remove(old)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
    return proto


def test_the_weight_is_the_one_that_was_compressed():
    (layer,) = find_layers(model_io.read(compressed()))
    form = COMPRESSED[layer.node.op_type]
    inputs = dict(zip(form.inputs, layer.node.inputs, strict=False))
    np.testing.assert_array_equal(stored_weight(layer.node, form, inputs, "layer").decode(), WEIGHT)


@pytest.mark.parametrize("value", [None, "no such algorithm"])
def test_another_algorithm_than_the_operators_is_refused(value):
    with pytest.raises(ModelError, match=f"the attribute {ALG} = "):
        find_layers(model_io.read(replaced(ALG, value)))


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, ModelError, "got none"),
        (numpy_helper.from_array(np.array([12, 8], np.int32)), ModelError, "list of int64"),
        (numpy_helper.from_array(np.array([[12, 8]])), ModelError, "list of int64"),
        (numpy_helper.from_array(np.array([12, 8, 1])), FormatError, "a matrix can be compressed"),
        (numpy_helper.from_array(np.array([16, 8])), FormatError, "layer 'layer'"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(value, error, words):
    with pytest.raises(error, match=words):
        find_layers(model_io.read(replaced(FILTER_SHAPE, value)))


def test_a_weight_that_is_computed_is_refused():
    proto = compressed()
    node = layer_node(proto)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == node.input[1])
    dtype = numpy_helper.to_array(tensor).dtype
    proto.graph.input.append(models.info("fed", list(tensor.dims), dtype))
    node.input[1] = "fed"
    with pytest.raises(ModelError, match="got an input or nothing"):
        find_layers(model_io.read(proto))


def test_output_channels_come_first_in_the_canonical_shape():
    forms = {form.dense.op_type: form.dense for form in COMPRESSED.values()}
    assert canonical_shape(forms["Conv"], (8, 6, 3, 2)) == (8, 6, 3, 2)
    assert canonical_shape(forms["ConvTranspose"], (6, 8, 3, 2)) == (8, 6, 3, 2)
