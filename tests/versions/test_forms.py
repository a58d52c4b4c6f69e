"""Every form, in the onnxruntime at hand and in our own session; `make versions` has older ones."""

import numpy as np
import pytest

from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress
from tests.graph import models
from tests.versions import cases

SINGLES = {case.name: case for case in cases.singles()}
MANY = {case.name: case for case in cases.many()}


def operators(proto):
    return tuple(node.op_type for node in proto.graph.node if node.domain == "sparse_rt")


def test_there_is_a_case_for_every_name():
    assert set(SINGLES) == set(COMPRESSED)


@pytest.mark.parametrize("name", [*SINGLES, *MANY])
def test_a_form_is_compressed_as_its_name_says(name):
    case = (SINGLES | MANY)[name]
    assert operators(compress(case.dense)) == case.operators


@pytest.mark.parametrize("name", MANY)
def test_forms_in_one_graph(name):
    case = MANY[name]
    compressed = compress(case.dense)
    expected = models.run(case.dense, case.feeds)
    for y, reference in zip(models.run(compressed, case.feeds), expected, strict=True):
        np.testing.assert_array_equal(y, reference)
