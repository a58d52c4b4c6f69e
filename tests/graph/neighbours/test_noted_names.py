"""Names noted at a node, and taken again."""

import onnx_ir as ir
import pytest

from sparse_rt.graph.neighbours.noted_names import note, take_noted


def noted():
    nodes = [ir.Node("", "Neg", [], name=name) for name in ("first", None)]
    for node, name in zip(nodes, ("a", "b"), strict=True):
        node.outputs[0].name = name
    operator = ir.Node("", "Neg", [], metadata_props={"kept": "1"})
    note(operator, nodes)
    return operator


def test_there_and_back():
    operator = noted()
    assert take_noted(operator) == [("first", "a"), ("", "b")]
    assert operator.metadata_props == {"kept": "1"}
    assert take_noted(operator) == []


@pytest.mark.parametrize("text", ["", "[", "{}", "1", '["a", 1]', '["\\u0000", "b"]', "[" * 100_000])
def test_what_is_none_is_dropped(text):
    operator = noted()
    operator.metadata_props["sparse_rt.names"] = text
    assert take_noted(operator) == []
    assert operator.metadata_props == {"kept": "1"}
