"""A dense operator's attributes: those of the node, ONNX's defaults for the others, and no others than fit."""

import onnx_ir as ir
import pytest
from onnx import helper

from sparse_rt.errors import ModelError
from sparse_rt.graph.layers.attributes import resolve
from sparse_rt.graph.operators import COMPRESSED

FORMS = {form.dense.op_type: form.dense for form in COMPRESSED.values()}


def resolved(op_type, shape, **attributes):
    node = ir.serde.deserialize_node(helper.make_node(op_type, ["x", "w"], ["y"], name="layer", **attributes))
    return dict(resolve(FORMS[op_type], node, shape))


def test_what_a_convolution_leaves_out_is_what_onnx_says():
    assert resolved("Conv", (8, 6, 3, 2)) == {
        "auto_pad": "NOTSET",
        "dilations": (1, 1),
        "group": 1,
        "kernel_shape": (3, 2),
        "pads": (0, 0, 0, 0),
        "strides": (1, 1),
    }
    transposed = resolved("ConvTranspose", (8, 6, 3))
    assert (transposed["output_padding"], transposed["output_shape"]) == ((0,), None)


def test_what_a_product_leaves_out_is_what_onnx_says():
    assert resolved("Gemm", (8, 6)) == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    assert resolved("Gemm", (8, 6), alpha=0.5, transB=1) == {"alpha": 0.5, "beta": 1.0, "transA": 0, "transB": 1}


def test_what_a_node_says_counts():
    given = {"auto_pad": "SAME_LOWER", "strides": [2, 3], "pads": [1, 2, 3, 4], "group": 2, "dilations": [3, 2]}
    found = resolved("Conv", (8, 6, 3, 2), **given)
    assert found == {
        "auto_pad": "SAME_LOWER",
        "strides": (2, 3),
        "pads": (1, 2, 3, 4),
        "group": 2,
        "dilations": (3, 2),
        "kernel_shape": (3, 2),
    }


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"strides": [1, 1, 1]}, "expected 2 strides"),
        ({"pads": [1, 1]}, "expected 4 pads"),
        ({"strides": [0, 1]}, "strides of at least 1"),
        ({"dilations": [1, -1]}, "dilations of at least 1"),
        ({"kernel_shape": [3, 3]}, r"kernel_shape \(3, 2\)"),
        ({"auto_pad": "SAME"}, "auto_pad among"),
        ({"group": 1.0}, "'group' of type INT"),
    ],
)
def test_what_does_not_fit_the_kernel_is_refused(attributes, words):
    with pytest.raises(ModelError, match=f"layer 'layer'.*{words}"):
        resolved("Conv", (8, 6, 3, 2), **attributes)


def test_an_output_shape_may_have_batch_and_channels_in_front():
    for shape in ([9, 8], [1, 6, 9, 8]):
        assert resolved("ConvTranspose", (8, 6, 3, 2), output_shape=shape)["output_shape"] == tuple(shape)
    with pytest.raises(ModelError, match="output_shape"):
        resolved("ConvTranspose", (8, 6, 3, 2), output_shape=[6, 9, 8])
