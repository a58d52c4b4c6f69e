"""The names of operators: those of files that exist never change, and another format's are its own."""

import pytest

from sparse_rt import formats
from sparse_rt.graph.dense_forms import FORMS
from sparse_rt.graph.neighbours.record import ALONE, OPERANDS
from sparse_rt.graph.operators import COMPRESSED, CompressedForm, overloaded_form

ALONE_NAMES = 152
"""Of operators without neighbours; files from before there were others have these."""
N2M4_NAMES = 612


class Other(type(formats.N2M4)):
    name = "other"
    suffix = "_other"
    tensors = ("filter_values", "filter_places", "filter_starts")
    channel_multiple = 1


@pytest.fixture
def other(monkeypatch):
    format = Other()
    monkeypatch.setitem(formats.FORMATS, "other", format)
    return format


def test_names_of_2_4_bear_no_format():
    assert len(COMPRESSED) == N2M4_NAMES == len(set(COMPRESSED))
    assert sum(form.neighbours == ALONE for form in COMPRESSED.values()) == ALONE_NAMES
    assert "MatMulV2Compress_MatMul_qdq_padded" in COMPRESSED
    form = COMPRESSED["Conv2DCompress_Conv_padded"]
    assert (form.format, form.is_padded, form.dense.op_type) == (formats.N2M4, True, "Conv")
    assert form.inputs[:4] == ("x", "filter_compress", "compress_index", "bias")
    assert form.inputs[-1] == "y_zero_point"
    assert COMPRESSED["Conv2DCompress_Conv_relu"].inputs == (*form.inputs, *OPERANDS)


def test_another_format_has_names_and_inputs_of_its_own(other):
    mine = [name for name in COMPRESSED if COMPRESSED[name].format is other]
    assert len(COMPRESSED) == N2M4_NAMES + len(mine)
    assert all(name.endswith("_other") for name in mine)
    assert 2 * len(mine) == N2M4_NAMES  # no channels of its are padded
    form = COMPRESSED["MatMulV2Compress_MatMul_other"]
    assert form.inputs[:5] == ("x", *other.tensors, "bias")
    assert "MatMulV2Compress_MatMul_padded_other" not in COMPRESSED


def test_a_form_knows_its_name():
    assert all(COMPRESSED[name].op_type == name for name in COMPRESSED)
    conv = next(form for form in FORMS if form.op_type == "Conv")
    assert CompressedForm.of(conv, formats.N2M4, (8, 8, 3, 3)).op_type == "Conv2DCompress_Conv"
    assert CompressedForm.of(conv, formats.N2M4, (8, 9, 3, 3)).op_type == "Conv2DCompress_Conv_padded"


def test_names_as_overloads(other):
    assert overloaded_form("Conv2DCompress", "Conv_padded") is COMPRESSED["Conv2DCompress_Conv_padded"]
    for family, overload in (
        ("Conv2DCompress_Conv", "padded"),
        ("Conv2DCompress", "Conv_other"),
        ("Conv2DCompress", ""),
        ("Conv2DCompress", "Conv_relu"),
    ):
        assert overloaded_form(family, overload) is None
