"""Which steps become one operator: rows that write one type, with a layer in each; other operators stay."""

import numpy as np
import pytest

from sparse_rt.plan.hosted.arrange import Nodes, cut_by_type
from sparse_rt.plan.hosted.host import MOST_VALUES
from sparse_rt.plan.steps.operator_step import OperatorStep
from tests.models.onnx_models import info, model, node, normal, sparse
from tests.plan.hosted.sessions import agrees, hosted_session, needs_machine_code

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)


def step(inputs, y, dtype=F32):
    names = tuple(inputs.split())
    return OperatorStep("Op", y, names, (F32,) * len(names), y, dtype, lambda shape: shape, None)


def rows(parts, wanted):
    """The names that each row of steps writes."""
    found = [[]]
    for part in cut_by_type(parts, wanted):
        if isinstance(part, Nodes):
            found.append([])
        else:
            found[-1].append(part.y)
    return [row for row in found if row]


@pytest.mark.parametrize(
    ("parts", "wanted", "expected"),
    [
        # What only the row itself reads may be of any type.
        ([step("x", "a", U8), step("a", "b"), step("b", "c")], "c", [["a", "b", "c"]]),
        ([step("x", "a", U8), step("a", "b")], "a b", [["a"], ["b"]]),
        ([step("x", "a"), step("a", "b"), step("b", "c", U8)], "b c", [["a", "b"], ["c"]]),
        ([step("x", "a"), step("a", "b", U8), step("b", "c")], "a c", [["a", "b", "c"]]),
        ([step("x", "a"), step("x", "b"), step("a b", "c")], "c", [["a", "b", "c"]]),
        # No operator writes values of that type: such steps are not asked for.
        ([step("x", "a"), step("a", "b")], "a b", [["a", "b"]]),
    ],
)
def test_rows_end_where_types_would_mix(parts, wanted, expected):
    assert rows(parts, wanted.split()) == expected


def test_rows_end_where_an_operator_would_have_too_much():
    parts = [step("x", f"y{number}") for number in range(MOST_VALUES + 1)]
    assert rows(parts, [part.y for part in parts]) == [[part.y for part in parts[:-1]], [parts[-1].y]]
    parts = [step(f"x{number} {number}", f"{number + 1}") for number in range(MOST_VALUES + 1)]
    assert [len(row) for row in rows(parts, [parts[-1].y])] == [MOST_VALUES - 1, 2]


def test_each_step_can_be_a_row():
    parts = [step("x", "a"), step("a", "b")]
    assert [type(part) for part in cut_by_type(parts, ["b"], is_one_by_one=True)] == [OperatorStep, Nodes] * 2


@needs_machine_code
def test_operators_without_a_layer_beside_them_stay_onnxruntimes():
    rng = np.random.default_rng(4)
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="layer"),
        node("Tanh", ["a"], ["b"]),
        node("Sin", ["b"], ["c"]),
        node("Tanh", ["c"], ["d"]),
        node("Cos", ["d"], ["e"]),
        node("MatMul", ["e", "w"], ["y"], name="other"),
    ]
    proto = model(nodes, [info("x", "r", 16)], [info("y", "r", 16)], {"w": sparse(rng, 16, 16).T.copy()})
    session = hosted_session(proto)
    assert [[each.outputs[0] for each in segment.steps] for segment in session.plan.segments] == [
        ["a", "b"],
        ["y"],
    ]
    assert agrees(session, proto, {"x": normal(rng, 3, 16)})
