"""What is refused by name before it can cost memory, time, or the process."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from tests.graph import forms

USES = (srt.InferenceSession, srt.compress, srt.prune, srt.verify)


def refused(source, match):
    for use in USES:
        with pytest.raises(srt.ModelError, match=match):
            use(source)


def function(name, *calls):
    nodes = [
        helper.make_node(call, ["X"], ["Y" if last else f"t{number}"], domain="my")
        for number, (call, last) in enumerate(calls)
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, ["X"], ["Y"], nodes, opsets)


def calling(name, functions):
    model = forms.base()
    model.opset_import.add(domain="my", version=1)
    model.functions.extend(functions)
    model.graph.node[1].op_type, model.graph.node[1].domain = name, "my"
    return model


def test_functions_that_double_sixty_times_are_refused_at_once():
    last = helper.make_function(
        "my", "F0", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    doubling = [function(f"F{i}", (f"F{i - 1}", False), (f"F{i - 1}", True)) for i in range(1, 60)]
    refused(calling("F59", [last, *doubling]), r"1000000 nodes when functions are inlined, got about 2\*\*60")


@pytest.mark.parametrize("length", [1, 2, 5, 2000])
def test_functions_that_call_each_other_in_a_circle(length):
    circle = [function(f"F{i}", (f"F{(i + 1) % length}", True)) for i in range(length)]
    refused(calling("F0", circle), "functions that do not call themselves")


def sparse(dims, values, indices):
    model = forms.base()
    del model.graph.initializer[0]
    made = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.asarray(values, np.float32), "w1"),
        indices=numpy_helper.from_array(np.asarray(indices, np.int64), "i"),
        dims=dims,
    )
    model.graph.sparse_initializer.append(made)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("dims", "indices"),
    [([2**40, 64], [0]), ([2**62, 2**62], [0]), ([32, -64], [0]), ([32, 64], [-1]), ([32, 64], [2048])],
)
def test_sparse_initializers_that_are_no_tensor(dims, indices):
    refused(sparse(dims, [1], indices), "expected")


@pytest.mark.parametrize(
    ("dims", "raw"), [([2**40, 64], b""), ([2**62, 2**62], b""), ([-1, 64], b""), ([0, 2**63 - 1, 2**63 - 1], b"")]
)
def test_shapes_that_lie(dims, raw):
    model = forms.base()
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend(dims)
    tensor.raw_data = raw
    refused(model.SerializeToString(), "tensor 'w1': expected")


@pytest.mark.parametrize("name", [b"fc1", b"w1", b"MatMul"])
def test_texts_that_are_none(name):
    """A node's name says nothing to anybody; what others look up must be a text."""
    content = forms.base().SerializeToString()
    assert name in content
    broken = content.replace(name, b"\xff" * len(name))
    if name == b"fc1":
        assert srt.InferenceSession(broken).explain()[0].name == r"\xff\xff\xff"
    else:
        refused(broken, "names in UTF-8")


def test_names_with_nul_are_refused():
    refused(forms.base().SerializeToString().replace(b"w1", b"w\0"), "names without NUL")
