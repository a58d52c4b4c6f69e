"""Every form, in the onnxruntime at hand and in our own session; `make versions` has older ones."""

from collections import Counter

import numpy as np
import onnx
import pytest

from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress
from tests.graph import models
from tests.versions import cases

SINGLES = {case.name: case for case in cases.singles()}
#: Opsets from which on bodies are written in another way, and the newest; `make versions` has all.
OPSETS = (11, 13, 16, 18, 21)
MANY = {case.name: case for case in cases.many(OPSETS)}


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


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("name", [name for name in MANY if name.endswith("_opset18")])
def test_optimised_as_the_dense_model_is(name, level, tmp_path):
    """The identical outputs at every level, of the same operators; unoptimised, those that decode come on top."""
    case = MANY[name]
    counts, results = [], []
    for proto in (case.dense, compress(case.dense)):
        results.append(models.run(proto, case.feeds, tmp_path / "optimised.onnx", level))
        counts.append(Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node))
    for y, reference in zip(*results, strict=True):
        np.testing.assert_array_equal(y, reference)
    if level == "ORT_DISABLE_ALL":
        assert all(counts[1][op_type] >= count for op_type, count in counts[0].items())
    else:
        assert counts[0] == counts[1]
