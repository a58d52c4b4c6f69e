"""Which compressed operators a library holds, and with which types."""

import pytest
from sparse_rt_kernels.custom_op.contents import ANY_TYPE, OPTIONAL, REQUIRED

from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.library import form_operators, operators
from sparse_rt.library.onnxruntime_api import ELEMENT_TYPES

FLOAT, UINT8, INT8, INT32 = (ELEMENT_TYPES[name] for name in ("float32", "uint8", "int8", "int32"))


def types_of_y(name):
    found = [each.outputs[0].type for each in form_operators.form_operators() if each.name == name]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("MatMulV2Compress_MatMul", [FLOAT]),
        ("Conv2DCompress_Conv_qdq_x", [FLOAT]),
        ("Conv2DCompress_QLinearConv", [INT8, UINT8]),
        ("MatMulV2Compress_QLinearMatMul_padded", [INT8, UINT8]),
        ("FullyConnectionCompress_QGemm_without_y_scale", [FLOAT]),
        ("MatMulV2Compress_MatMulInteger_without_x_zero_point", [INT32]),
        # left to their bodies: no kernel, or parameters that only a run knows
        ("MatMulV2Compress_MatMul_float16", []),
        ("MatMulV2Compress_DynamicQuantizeMatMul", []),
        ("MatMulV2Compress_MatMulIntegerToFloat", []),
        ("MatMulV2Compress_MatMulInteger", []),
        ("Conv2DCompress_Conv_qdq", []),
        ("FullyConnectionCompress_QGemm_without_y_zero_point", []),
    ],
)
def test_an_operator_says_what_it_writes(name, types):
    assert types_of_y(name) == types


def test_every_operator_has_the_inputs_that_its_form_reads():
    for found in form_operators.form_operators():
        form = COMPRESSED[found.name]
        names = form.inputs[: len(found.inputs)]
        assert form.reads <= set(names)
        assert names[-1] in form.reads
        needed = [name for name, operand in zip(names, found.inputs, strict=True) if operand.kind == REQUIRED]
        assert needed == ["x", *form.format.tensors]
        assert {operand.kind for operand in found.inputs} <= {REQUIRED, OPTIONAL}
        assert all(operand.type in (ANY_TYPE, FLOAT, UINT8, INT8, INT32) for operand in found.inputs)


def test_operators_of_one_name_have_all_types():
    found = [each for each in form_operators.form_operators() if each.name == "Conv2DCompress_QLinearConv"]
    names = COMPRESSED["Conv2DCompress_QLinearConv"].inputs
    types = [dict(zip(names, [operand.type for operand in each.inputs], strict=False)) for each in found]
    of_bytes = ("x", "filter_compress", "y_zero_point")
    assert len({tuple(each[name] for name in of_bytes) for each in types}) == len(found) == 8
    for each in types:
        assert (each["x"], each["filter_compress"]) == (each["x_zero_point"], each["filter_zero_point"])
        assert each["bias"] == INT32
        assert {each[name] for name in names if name.endswith("_scale") and name in each} == {FLOAT}
    assert [each["y_zero_point"] for each in types] == [each.outputs[0].type for each in found]


def test_inputs_that_a_node_may_lack_are_of_any_type_where_y_may_have_several():
    """Without that onnxruntime 1.17 does not find the type of y."""
    for name, lacking in (
        ("Conv2DCompress_QLinearConv_without_bias", {"bias"}),
        ("FullyConnectionCompress_QGemm", {"bias", "y_scale"}),
        ("MatMulV2Compress_MatMul_qdq_without_filter_zero_point_x_y", {"bias", "filter_zero_point"}),
    ):
        for found in (each for each in form_operators.form_operators() if each.name == name):
            types = dict(zip(COMPRESSED[name].inputs, [operand.type for operand in found.inputs], strict=False))
            assert {each for each in types if types[each] == ANY_TYPE} == {"compress_index", *lacking}


def test_numbers_run_through_all_domains():
    names = [(domain.name, found.name) for domain in operators.domains() for found in domain.operators]
    assert [operators.name_of(number) for number in range(len(names))] == names


def test_a_cpu_with_portable_kernels_alone_has_no_operators(monkeypatch):
    monkeypatch.setattr(form_operators, "has_fast_kernels", lambda: False)
    assert form_operators.form_operators() == ()
