"""The model of a hosted plan: what stands in it, what it is not made of, and what comes of that."""

import numpy as np
import onnx
import pytest

import sparse_rt as srt
from sparse_rt.errors import ConfigError, ModelError
from sparse_rt.library import segments
from sparse_rt.plan.build import build_plan
from sparse_rt.plan.decisions import Decisions
from sparse_rt.plan.hosted.host import ATTRIBUTE, DOMAIN, OPERATORS
from sparse_rt.plan.islands.island import EXTERNAL_FROM
from sparse_rt.plan.options import SessionOptions
from tests.models.onnx_models import INT64, info, model, node, normal, sparse
from tests.plan.hosted.sessions import agrees, hosted_session, mixed, needs_machine_code, rows_of

pytestmark = needs_machine_code


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def composed(session):
    (step,) = session.plan.steps
    return step.island


def test_absorbed_nodes_are_segments_and_all_else_is_as_it_was(rng):
    session = hosted_session(mixed(rng))
    graph = composed(session).model.graph
    assert [item.op_type for item in graph.node] == [OPERATORS["float32"], "Sin", *[OPERATORS["float32"]], "Cos"]
    nodes = [item for item in graph.node if item.domain == DOMAIN]
    assert [item.name for item in nodes] == ["first", "second to third"]
    for item in nodes:
        found = segments.find(onnx.helper.get_node_attr_value(item, ATTRIBUTE))
        assert found.segment.inputs == tuple(item.input)
        assert found.segment.outputs == tuple(item.output)
    # The weights of layers are the segments' own.
    assert not graph.initializer
    noted = {
        item.name: [size.dim_param or size.dim_value for size in item.type.tensor_type.shape.dim]
        for item in graph.value_info
    }
    assert noted == {"b": ["rows", 32], "d": ["rows", 16], "e": ["rows", 32]}


def test_large_weights_of_onnxruntimes_are_beside_the_model(rng):
    size = 160
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Sin", ["a"], ["b"]),
        node("Gather", ["t", "i"], ["c"]),
        node("Add", ["b", "c"], ["y"]),
    ]
    table = normal(rng, size, size)
    assert table.nbytes >= EXTERNAL_FROM
    constants = {"w": sparse(rng, size, size).T.copy(), "t": table}
    proto = model(nodes, [info("x", 3, size), info("i", 3, kind=INT64)], [info("y", 3, size)], constants)
    session = hosted_session(proto)
    assert list(composed(session).external) == ["t"]
    assert agrees(session, proto, {"x": normal(rng, 3, size), "i": np.arange(3)})


def test_inputs_that_nobody_reads_and_inputs_with_defaults(rng):
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Sin", ["a"], ["b"]), node("Mul", ["b", "f"], ["y"])]
    constants = {"w": sparse(rng, 8, 16).T.copy(), "f": np.float32(2)}
    proto = model(nodes, [info("x", "r", 16), info("u", 2), info("f")], [info("y", "r", 8)], constants)
    session = hosted_session(proto)
    feeds = {**rows_of(rng, 3), "u": normal(rng, 2)}
    assert agrees(session, proto, feeds)
    assert agrees(session, proto, {**feeds, "f": np.array(3, np.float32)})
    assert [item.name for item in session.get_inputs()] == ["x", "u"]


def test_subgraphs_read_what_segments_write(rng):
    branch = onnx.helper.make_graph([node("Sin", ["a"], ["z"])], "then", [], [info("z", "r", 8)])
    other = onnx.helper.make_graph([node("Cos", ["a"], ["z"])], "else", [], [info("z", "r", 8)])
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("If", ["p"], ["b"], then_branch=branch, else_branch=other),
        node("MatMul", ["b", "v"], ["y"]),
    ]
    constants = {"w": sparse(rng, 8, 16).T.copy(), "v": sparse(rng, 8, 8).T.copy()}
    inputs = [info("x", "r", 16), info("p", kind=onnx.TensorProto.BOOL)]
    proto = model(nodes, inputs, [info("y", "r", 8)], constants)
    session = hosted_session(proto)
    for taken in (True, False):
        assert agrees(session, proto, {**rows_of(rng, 3), "p": np.array(taken)})


def test_a_compressed_file(rng):
    proto = mixed(rng)
    assert agrees(hosted_session(srt.compress(proto)), proto, rows_of(rng, 3))


@pytest.mark.parametrize("case", ["nothing sparse", "an output that no node writes", "a pooling that may be empty"])
def test_models_that_are_not_hosted_run_all_the_same(rng, case):
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Sin", ["a"], ["y"])]
    constants, outputs = {"w": sparse(rng, 16, 16).T.copy()}, [info("y", "r", 16)]
    if case == "nothing sparse":
        constants["w"] = normal(rng, 16, 16)
    elif case == "an output that no node writes":
        outputs.append(info("w", 16, 16))
    else:
        nodes[1:] = [
            node("Sin", ["a"], ["b"]),
            node("Reshape", ["b", "s"], ["c"]),
            node("MaxPool", ["c"], ["y"], kernel_shape=[3, 3]),
        ]
        constants["s"], outputs = np.array([1, 1, -1, 16]), [info("y", 1, 1, None, 14)]
    proto = model(nodes, [info("x", "r", 16)], outputs, constants)
    session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning="hosted"))
    assert not session.plan.is_hosted
    assert not any("inside onnxruntime" in report.reason for report in session.explain())
    assert agrees(session, proto, rows_of(rng, 5))


class Elsewhere:
    """A system for which there is no library, or a host of another kind that fails later."""

    def __init__(self, path_error=None):
        self.path_error = path_error
        self.registered = []

    def get_library_path(self):
        if self.path_error is not None:
            raise self.path_error
        return "/no/library.so"

    def register(self, segment, threads):
        self.registered.append(segment)
        return len(self.registered)

    def unregister(self, number):
        self.registered[number - 1] = None

    def error_of(self, text):
        return None


def test_without_a_library_a_plan_is_not_hosted(rng):
    host = Elsewhere(ConfigError("no such system"))
    plan = build_plan(mixed(rng), SessionOptions(1), lambda _: Decisions(hosted="because"), host)
    assert not plan.is_hosted
    assert plan.is_sparse


def test_segments_of_a_session_that_cannot_be_opened_are_forgotten(rng):
    host = Elsewhere()
    with pytest.raises(ModelError, match="library"):
        build_plan(mixed(rng), SessionOptions(1), lambda _: Decisions(hosted="because"), host)
    assert host.registered == [None, None]


def test_a_layer_that_is_called_by_values_is_left_to_onnxruntime(rng):
    """Scale and zero point of a dynamic quantisation are known in a run only."""
    nodes = [
        node("MatMul", ["x", "v"], ["a"], name="float"),
        node("DynamicQuantizeLinear", ["a"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z"], ["i"], name="integers"),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["s", "t"], ["u"]),
        node("Mul", ["f", "u"], ["y"]),
    ]
    weight = np.clip(np.round(sparse(rng, 8, 16) * 90), -127, 127).astype(np.int8).T.copy()
    constants = {"v": sparse(rng, 16, 16).T.copy(), "w": weight, "t": np.float32(0.01)}
    proto = model(nodes, [info("x", "r", 16)], [info("y", "r", 8)], constants)
    session = hosted_session(proto)
    reports = {report.name: report for report in session.explain()}
    assert reports["float"].is_sparse
    assert reports["integers"].kernel is None
    assert "kept dense: its kernel needs more than shapes" in reports["integers"].reason
    assert agrees(session, proto, rows_of(rng, 3))
