"""What keeps a layer dense, each gate by hand; what onnxruntime is said to refuse, by onnxruntime."""

import numpy as np
import pytest

from sparse_rt.graph.layers.gates import attribute_reason, parameter_reason, rank_fits, special_convolution
from sparse_rt.graph.operators import COMPRESSED
from tests.graph import models

FORMS = {(form.dense.op_type, form.dense.form): form.dense for form in COMPRESSED.values()}
QDQ = FORMS["MatMul", "qdq"]
CONV = {"kernel_shape": (3, 3), "strides": (1, 1), "dilations": (1, 1), "pads": (0,) * 4, "auto_pad": "NOTSET"}
TRANSPOSED = CONV | {"output_padding": (0, 0), "output_shape": None}


def test_groups_and_transposed_activations_stay_dense():
    assert attribute_reason({"group": 1, "transA": 0, "transB": 1}) is None
    assert attribute_reason({"group": 4}) == "a convolution with 4 groups"
    assert attribute_reason({"transA": 1}) == "transA is set"


@pytest.mark.parametrize(
    ("op_type", "attributes", "words"),
    [
        ("Conv", {"pads": (0, -1, 0, 0)}, "must not contain negative values"),
        ("Conv", {"auto_pad": "SAME_UPPER", "dilations": (2, 1)}, "Dilation not supported"),
        ("ConvTranspose", {"strides": (2, 2), "output_padding": (2, 0)}, "must be less than"),
    ],
)
def test_what_is_said_to_be_refused_by_onnxruntime_is(op_type, attributes, words):
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}
    proto = models.conv_model(models.two_four(0, (8, 8, 3, 3)), op_type=op_type, **given)
    with pytest.raises(Exception, match=words):
        models.run(proto, models.feeds(proto))
    defaults = CONV if op_type == "Conv" else TRANSPOSED
    reason = special_convolution(defaults | attributes)
    assert reason is not None
    assert reason.endswith("which onnxruntime refuses")


def test_same_padding_is_special_only_at_strides_beyond_the_kernel():
    same = CONV | {"auto_pad": "SAME_UPPER"}
    assert special_convolution(CONV) is None
    assert special_convolution(same | {"strides": (3, 3)}) is None
    assert special_convolution(same | {"strides": (4, 4)}) is None
    assert "beyond the kernel" in special_convolution(same | {"strides": (1, 5)})
    assert special_convolution(CONV | {"strides": (5, 5)}) is None
    assert special_convolution({"transA": 0}) is None


@pytest.mark.parametrize(
    ("scale", "point", "given", "words"),
    [
        (None, None, False, "scale is not constant"),
        (0.1, None, True, "zero point is not constant"),
        ([0.1] * 7, None, False, r"scales have shape (7,)"),
        ([0.1] * 8, [0] * 7, True, r"zero points have shape (7,)"),
        (-0.1, None, False, "negative or not finite"),
        ([0.1] * 7 + [np.inf], None, False, "negative or not finite"),
        ([0.1] * 8, [0] * 7 + [1], True, "zero point is not 0"),
    ],
)
def test_parameters_that_do_not_fit_are_named(scale, point, given, words):
    arrays = [None if value is None else np.asarray(value) for value in (scale, point)]
    assert words in parameter_reason(QDQ, 8, *arrays, zero_point_given=given)


def test_parameters_that_fit_pass_and_floats_have_none():
    per_channel = np.full(8, 0.1, np.float32), np.zeros(8, np.int8)
    assert parameter_reason(QDQ, 8, *per_channel, zero_point_given=True) is None
    assert parameter_reason(QDQ, 8, np.float32(0), None, zero_point_given=False) is None
    assert parameter_reason(FORMS["MatMul", "float"], 8, None, None, zero_point_given=True) is None


def test_ranks_are_those_of_matrices_and_of_kernels_of_one_and_two_axes():
    assert [rank for rank in range(7) if rank_fits(QDQ, rank)] == [2]
    assert [rank for rank in range(7) if rank_fits(FORMS["Conv", "float"], rank)] == [3, 4]
