"""The chains that operators may hold, and what they are called."""

import pytest

from sparse_rt.graph.dense_forms import FORMS
from sparse_rt.graph.neighbours.record import ALONE, OPERANDS, Neighbours, possible
from sparse_rt.graph.operators import COMPRESSED


@pytest.mark.parametrize(
    ("neighbours", "suffix"),
    [
        (ALONE, ""),
        (Neighbours(x=True), "_x"),
        (Neighbours(x=True, bias=True, y=True), "_xb_y"),
        (Neighbours(x=True, addition="bias_plus", activation="clip", y=True), "_x_bias_plus_clip_y"),
        (Neighbours(addition="plus_residual", activation="relu"), "_plus_residual_relu"),
    ],
)
def test_suffix(neighbours, suffix):
    assert neighbours.suffix == suffix


def test_operands_are_inputs_of_the_operator():
    for form in COMPRESSED.values():
        operands = form.neighbours.operands
        assert len(set(operands)) == len(operands)
        assert set(operands) <= set(form.inputs)
        assert set(operands) <= form.reads
        assert (form.neighbours == ALONE) == (not operands and "relu" not in form.op_type)
        assert form.inputs[-len(OPERANDS) :] == OPERANDS or form.neighbours == ALONE


def test_what_operators_may_hold():
    for form in FORMS:
        found = list(possible(form))
        assert found[0] == ALONE
        assert len(set(found)) == len(found)
        for neighbours in found[1:]:
            assert not form.half
            assert form.domain == ""
            assert form.form == ("qdq" if neighbours.x else "float")
            assert neighbours.x or not (neighbours.bias or neighbours.y)
            assert not neighbours.bias or "bias" in form.inputs
            assert "bias" not in neighbours.addition or "bias" not in form.inputs
            assert "residual" not in neighbours.addition or form.kind == "conv"
    operators = {form.op_type for form in FORMS if len(list(possible(form))) > 1}
    assert operators == {"Conv", "ConvTranspose", "MatMul", "Gemm"}
