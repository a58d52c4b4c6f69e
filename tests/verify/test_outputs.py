"""The rules for outputs: exact where arithmetic is, unknown where the reference disagrees with itself, all types."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from sparse_rt.errors import FeedError, ModelError
from sparse_rt.graph.model_io import read
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.verify.exactness import exact_outputs
from sparse_rt.verify.outputs import Rules, check_outputs
from tests.models.onnx_models import FLOAT, INT8, INT32, INT64, UINT8, info, model, node, normal, sparse, sparse_int8


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def check(y, reference, plain=None, *, quantised=False, exact=(), tolerance=1e-4, lost=False):
    rules = Rules(tolerance, quantised, frozenset(exact), lost, lambda: {} if plain is None else {"y": plain})
    (found,) = check_outputs({"y": y}, {"y": reference}, rules)
    return found


F = np.float32


def floats(*values):
    return np.array(values, F)


# --- the reference's own noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize(
    ("y", "plain", "status"),
    [
        (floats(1, 2, 3), floats(1, 2, 3), "equal"),
        (floats(1, 2, 4), floats(1, 2, 3), "different"),  # the reference is sure
        (floats(1, 2, 4), floats(1, 3, 3), "unknown"),  # it is as far from itself
        (floats(1, 2, 4.9), floats(1, 2, 4), "unknown"),
        (floats(1, 2, 5.2), floats(1, 2, 4), "different"),  # more than twice as far
        (floats(9, 9, 9), floats(1, 3, 3), "different"),
        (floats(1, 2, np.nan), floats(1, 3, 3), "different"),
        (floats(1, 2, 4), floats(1, 2, np.nan), "different"),
        (floats(1, 2, 4), None, "different"),
        (floats(1, 2, 4), floats(1, 3), "different"),
    ],
)
def test_floats_beyond_the_tolerance(y, plain, status, quantised):
    found = check(y, floats(1, 2, 3), plain, quantised=quantised)
    assert found.status == status
    if status == "unknown":
        assert "two executions of the reference itself differ by" in found.note


def test_noise_within_the_cap_is_allowed_and_beyond_it_cannot_be_told():
    reference, step = np.ones(100, F), np.where(np.arange(100) % 2, F(1), F(-1))
    assert check(reference + F(0.1) * step, reference, reference - F(0.06) * step, quantised=True).status == "equal"
    found = check(reference + F(0.2) * step, reference, reference - F(0.2) * step, quantised=True)
    assert found.status == "unknown"
    assert found.tolerance == 2**-3
    assert check(reference + F(0.5) * step, reference, reference - F(0.2) * step, quantised=True).status == "different"


@pytest.mark.parametrize(
    ("y", "plain", "status"),
    [
        ([7, 8], [7, 8], "equal"),
        ([7, 9], [7, 8], "different"),
        ([7, 9], [8, 8], "unknown"),
        ([9, 11], [7, 9], "different"),
    ],
)
def test_integers_are_exact_unless_the_reference_is_not(y, plain, status):
    assert (
        check(np.array(y, np.uint8), np.array([7, 8], np.uint8), np.array(plain, np.uint8), quantised=True).status
        == status
    )


def test_one_step_in_one_element_of_floats_that_integers_lead_to():
    reference = np.arange(1000, dtype=F) / 8
    y = reference.copy()
    y[500] += F(1 / 8)
    assert check(y, reference, reference, quantised=True).status == "equal"
    assert check(y, reference, reference, quantised=True, exact=["y"]).status == "different"
    assert check(reference, reference, reference, quantised=True, exact=["y"]).rule == "exact"


def test_what_says_nothing():
    assert check(floats(np.nan, np.nan), floats(np.nan, np.nan)).status == "unknown"
    assert check(floats(1, np.nan), floats(1, np.nan)).status == "equal"
    assert check(floats(1, np.inf), floats(1, np.inf)).status == "equal"
    assert check(floats(1, np.inf), floats(1, -np.inf)).status == "different"
    assert check(floats(1, 0), floats(1, np.nan)).status == "different"
    assert check(floats(1, 0), floats(1, np.nan), lost=True).status == "equal"
    assert check(floats(3e-22), floats(0)).status == "equal"  # a sigmoid that has saturated
    assert check(floats(3e-5), floats(0)).status == "different"
    half = np.array([1, 1000], np.float16)
    assert check(half + np.array([0, 1], np.float16), half).status == "equal"
    assert check(half + np.array([0, 9], np.float16), half).status == "different"


# --- types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "reference", "status"),
    [
        ([floats(1), floats(2, 3)], [floats(1), floats(2, 3)], "equal"),
        ([floats(1), floats(2, 4)], [floats(1), floats(2, 3)], "different"),
        ([floats(1)], [floats(1), floats(2, 3)], "different"),
        ([floats(1)], floats(1), "different"),
        ([], [], "equal"),
        ([{0: 0.5, 1: 0.5}], [{0: 0.5, 1: 0.5}], "equal"),
        ([{0: 0.5, 1: 0.5}], [{0: 0.5, 2: 0.5}], "different"),
        ([{"a": 0.5}], [{"a": 0.25}], "different"),
        ({"a": floats(1)}, {"a": floats(1)}, "equal"),
        (None, None, "equal"),
        (None, floats(1), "different"),
        (np.array(["a", "bb"]), np.array(["a", "bb"]), "equal"),
        (np.array(["a", "bb"], object), np.array(["a", "b"], object), "different"),
        (np.array([True]), np.array([False]), "different"),
        (floats(1), np.array([1], np.int32), "different"),
        (floats(1), floats([1]), "different"),
        (object(), object(), "unknown"),
    ],
)
def test_outputs_of_every_type(y, reference, status):
    assert check(y, reference).status == status


def test_outputs_that_only_one_of_them_has():
    rules = Rules(1e-4, False, frozenset(), False, dict)
    found = check_outputs({"a": floats(1), "b": floats(1)}, {"a": floats(1), "c": floats(1)}, rules)
    assert [(each.name, each.status) for each in found] == [("a", "equal"), ("b", "unknown"), ("c", "unknown")]
    assert "no output 'b'" in found[1].note
    assert "an output 'c'" in found[2].note
    assert check_outputs({"b": floats(1)}, {"c": floats(1)}, rules) == ()


# --- which outputs are exact ---------------------------------------------------------------------------------------


def chain(rng, *, between=(), weight_zero_point=0, ends_in_floats=False):
    """QuantizeLinear -> Gemm -> ... -> QuantizeLinear (-> DequantizeLinear), with nodes between from "g" to "h"."""
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Gemm", ["d", "wd"], ["g"], transB=1, name="gemm"),
        *between,
        node("QuantizeLinear", ["h" if between else "g", "ys", "yz"], ["y" if not ends_in_floats else "q2"]),
    ]
    if ends_in_floats:
        nodes.append(node("DequantizeLinear", ["q2", "ys", "yz"], ["y"]))
    constants = {
        "xs": F(0.02),
        "xz": np.uint8(117),
        "w": sparse_int8(rng, 16, 32),
        "ws": rng.uniform(0.001, 0.01, 16).astype(F),
        "wz": np.full(16, weight_zero_point, np.int8),
        "ys": F(0.05),
        "yz": np.uint8(128),
    }
    return model(nodes, [info("x", 3, 32)], [info("y", 3, 16, kind=FLOAT if ends_in_floats else UINT8)], constants)


@pytest.mark.parametrize("ends_in_floats", [False, True])
@pytest.mark.parametrize(
    ("between", "exact"),
    [
        ((), True),
        ((node("Relu", ["g"], ["h"]),), True),
        ((node("Reshape", ["g", "shape"], ["h"]),), True),
        ((node("Sigmoid", ["g"], ["h"]),), False),
        ((node("Add", ["g", "g"], ["h"]),), False),
    ],
)
def test_integers_alone_lead_to_exact_outputs(rng, between, exact, ends_in_floats):
    proto = chain(rng, between=between, ends_in_floats=ends_in_floats)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([3, 16]), "shape"))
    assert exact_outputs(prepare(read(proto))) == ({"y"} if exact else set())
    for compressed in (proto, srt.compress(proto)):
        report = srt.verify(compressed, proto)
        assert report.equal, report.reason
        is_exact = exact or not ends_in_floats
        assert [(check.rule, check.status) for check in report.outputs] == [("exact" if is_exact else "rms", "equal")]


def test_float_layers_lead_to_no_exact_outputs(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"]), node("MatMul", ["x", "v"], ["a"]), node("ArgMax", ["a"], ["z"])],
        [info("x", 2, 8)],
        [info("y", 2, 4), info("z", 1, 4, kind=INT64)],
        {"w": sparse(rng, 4, 8).T.copy(), "v": sparse(rng, 4, 8).T.copy()},
    )
    assert exact_outputs(prepare(read(proto))) == set()


@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_integer_operators_are_exact(rng, kind):
    proto = model(
        [node("MatMulInteger", ["x", "w"], ["y"])],
        [info("x", 2, 8, kind=kind)],
        [info("y", 2, 4, kind=INT32)],
        {"w": sparse_int8(rng, 4, 8).T.copy()},
    )
    assert exact_outputs(prepare(read(proto))) == {"y"}


# --- models, references and feeds that do not fit ------------------------------------------------------------------


def two_layers(rng):
    return model(
        [
            node("MatMul", ["x", "w1"], ["a"], name="first"),
            node("Relu", ["a"], ["b"]),
            node("Gemm", ["b", "w2", "b2"], ["y"], transB=1, name="second"),
        ],
        [info("x", "batch", 24)],
        [info("y", "batch", 8)],
        {"w1": sparse(rng, 16, 24).T.copy(), "w2": sparse(rng, 8, 16), "b2": normal(rng, 8)},
    )


def other_input(graph):
    graph.input[0].name = graph.node[0].input[0] = "z"


def one_more_input(graph):
    graph.input.append(info("more", 3))


def one_more_output(graph):
    graph.output.append(info("b", None, None))


def other_output(graph):
    graph.node.append(node("ArgMax", ["y"], ["z"]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("z", INT64, None))


def integer_output(graph):
    graph.node[-1].output[0] = "f"
    graph.node.append(node("Cast", ["f"], ["y"], to=INT32))
    graph.output[0].type.tensor_type.elem_type = INT32


def sequence_output(graph):
    graph.node[-1].output[0] = "f"
    graph.node.append(node("SequenceConstruct", ["f", "f"], ["y"]))
    graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", FLOAT, None))


def inner_sequence(graph):
    graph.node[1].output[0] = graph.node[2].input[0] = "c"
    graph.node.append(node("SequenceConstruct", ["c"], ["b"]))


def twice_as_many_rows(graph):
    graph.node[0].output[0] = "c"
    graph.node.insert(1, node("Concat", ["c", "c"], ["a"], axis=0))


def another_model(graph):
    del graph.node[:]
    graph.node.append(node("Identity", ["x"], ["y"]))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 24


def changed_bias(graph):
    graph.initializer[2].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(graph.initializer[2]) + F(1e-3), "b2"))


@pytest.mark.parametrize(
    ("change", "as_reference", "as_model"),
    [
        (other_input, FeedError, FeedError),
        (one_more_input, FeedError, FeedError),
        (one_more_output, 2, 2),
        (other_output, 2, 2),
        (integer_output, 1, 1),
        (sequence_output, 1, 1),
        (inner_sequence, 0, 0),  # only the outputs can be compared, and are the same
        (twice_as_many_rows, 1, 1),
        (another_model, 1, 1),
        (changed_bias, 1, 1),
    ],
)
def test_a_reference_that_is_another_model(rng, change, as_reference, as_model):
    proto, changed = two_layers(rng), two_layers(np.random.default_rng(5))
    change(changed.graph)
    feeds = {"x": normal(rng, 3, 24)}
    for args, outcome in (((proto, changed, feeds), as_reference), ((changed, proto, feeds), as_model)):
        if isinstance(outcome, type):
            with pytest.raises(outcome):
                srt.verify(*args)
        else:
            assert srt.verify(*args).exit_code == outcome


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"\x08", "half", "folder", "missing"])
def test_damaged_references(rng, tmp_path, content):
    proto = two_layers(rng)
    path = tmp_path / "r.onnx"
    if content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(proto.SerializeToString()[:700] if content == "half" else content)
    for args in ((proto, str(path)), (str(path), proto)):
        with pytest.raises(ModelError):
            srt.verify(*args)


@pytest.mark.parametrize(
    "feeds",
    [
        [1],
        {},
        {1: np.zeros((1, 24), F)},
        {"x": None},
        {"x": 1.0},
        {"x": np.array(["a"])},
        {"x": np.array([{}], object)},
        {"x": np.zeros((1, 24))},
        {"x": np.zeros((1, 23), F)},
        {"x": np.zeros(24, F)},
        {"x": np.zeros((1, 24), F), "more": np.zeros(1, F)},
    ],
)
def test_feeds_that_do_not_fit(rng, feeds):
    with pytest.raises(FeedError):
        srt.verify(two_layers(rng), None, feeds)


@pytest.mark.parametrize(
    "change", [lambda x: x.astype(">f4"), np.asfortranarray, lambda x: x.tolist(), lambda x: np.repeat(x, 2, 1)[:, ::2]]
)
def test_feeds_in_any_form_are_the_same_for_both(rng, change):
    proto = two_layers(rng)
    report = srt.verify(srt.compress(proto), proto, {"x": change(normal(rng, 3, 24))})
    assert report.equal
    assert all(layer.comparison is not None for layer in report.layers)


@pytest.mark.parametrize(("value", "code"), [(np.nan, 2), (np.inf, 2), (1e-42, 0), (-0.0, 0), (None, 2), (1e30, 0)])
def test_extreme_feeds(rng, value, code):
    x = np.zeros((0, 24), F) if value is None else np.full((2, 24), value, F)
    report = srt.verify(two_layers(rng), None, {"x": x})
    assert report.exit_code == code, report.reason
    assert (code == 0) == report.reason.startswith("equal")


# --- models that do not determine their outputs --------------------------------------------------------------------


def test_random_numbers_and_chaos_cannot_be_told(rng):
    """Noise of each run; and a function that makes everything of the last bit."""
    for nodes in (
        [node("RandomNormalLike", ["a"], ["r"]), node("Add", ["a", "r"], ["y"])],
        [node("Mul", ["a", "large"], ["b"]), node("Sin", ["b"], ["y"])],
    ):
        proto = model(
            [node("MatMul", ["x", "w"], ["a"], name="layer"), *nodes],
            [info("x", 64, 16)],
            [info("y", 64, 8)],
            {"w": sparse(rng, 8, 16).T.copy(), "large": F(1e7)},
        )
        report = srt.verify(proto)
        assert report.exit_code == 2
        assert "two executions of the reference itself differ" in report.reason
        assert report.layers[0].status == "equal"
