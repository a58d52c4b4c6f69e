"""Which calls a node is prepared for."""

import numpy as np
import pytest

from sparse_rt.library.frozen.parts import Parts, parts_of
from sparse_rt.library.node_segment import Refusal
from sparse_rt.plan.bind.segment import Segment
from tests.models.onnx_models import info, model, node, sparse, sparse_session

FLOAT = (np.dtype(np.float32),)


@pytest.fixture
def rows():
    """A matrix product of rows, and a softmax of each, which do not depend on each other."""
    rng = np.random.default_rng(0)
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=-1)]
    content = model(nodes, [info("x", "n", "m", 32)], [info("y", "n", "m", 16)], {"w": sparse(rng, 16, 32).T.copy()})
    (segment,) = sparse_session(content).plan.parts
    assert isinstance(segment, Segment)
    return segment


def test_fixed_shapes_are_those_that_were_met(rows):
    assert parts_of(rows, [((3, 5, 32),)], FLOAT) == Parts((((3, 5, 32),),))


def test_open_leading_sizes_are_counted_in_powers_of_two_and_as_met(rows):
    found = parts_of(rows, [((1, 5, 32),), ((3, 5, 32),)], FLOAT)
    assert found == Parts(tuple(((number, 5, 32),) for number in (1, 2, 3, 4, 8)), 1, (True,))
    found = parts_of(rows, [((1, 5, 32),), ((3, 7, 32),)], FLOAT)
    assert isinstance(found, Parts)
    assert found.leading == 2
    assert [shape[0] for (shape,) in found.shapes] == [1, 2, 4, 5, 8, 16, 21]
    assert {shape[1:] for (shape,) in found.shapes} == {(1, 32)}


def test_what_no_run_reached_is_refused(rows):
    assert isinstance(parts_of(rows, [], FLOAT), Refusal)


@pytest.mark.parametrize("other", [((1, 5, 64),), ((5, 32),)])
def test_sizes_that_are_open_in_another_way_are_refused(rows, other):
    found = parts_of(rows, [((1, 5, 32),), other], FLOAT)
    assert isinstance(found, Refusal)
    assert "open" in found.reason


class Mixing:
    """A segment whose rows depend on each other."""

    inputs, outputs = ("x",), ("y",)

    def run(self, values, pool):
        values["y"] = values["x"] - values["x"].mean(axis=0, keepdims=True)


def test_rows_that_depend_on_each_other_are_refused(monkeypatch):
    monkeypatch.setattr("dataclasses.replace", lambda segment: segment)
    found = parts_of(Mixing(), [((1, 4),), ((2, 4),)], FLOAT)
    assert isinstance(found, Refusal)
    assert "depends on the others" in found.reason
