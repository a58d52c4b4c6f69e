"""Work grows as the model does: counted in executed lines of Python, so that no clock decides."""

import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numba.core import config

import sparse_rt as srt
from sparse_rt import ModelError, formats
from sparse_rt.graph import model_io, names
from sparse_rt.graph.nesting import MOST_NESTED
from sparse_rt.plan.bind import layout, segment
from sparse_rt.plan.bind.arena import Lifetime, place
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match import packing
from sparse_rt.plan.prepare import prepare as prepare_module
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.prune import apply
from sparse_rt.tuning import keys
from tests.models import chains
from tests.models.onnx_models import compare, info, model, node, normal, sparse

SIZES = (24, 48, 96)
#: Twice as much more work for twice as many more nodes; what is quadratic would need four times as much.
MOST_GROWTH = 2.2


@pytest.fixture
def rng():
    return np.random.default_rng(47)


def lines(work: Callable[[], object]) -> int:
    """Return how many lines of Python run."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += 1
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def growth(work: Callable[[object], object], make: Callable[[int], object], sizes=SIZES) -> float:
    """Return how much more work the last step to twice the size is than the one before."""
    given = [make(size) for size in sizes]
    work(given[0])  # compiles, imports, fills caches
    small, middle, large = (lines(lambda one=one: work(one)) for one in given)
    return (large - middle) / (middle - small)


def open_session(proto: onnx.ModelProto) -> srt.InferenceSession:
    return srt.InferenceSession(proto, srt.SessionOptions(intra_op_num_threads=1, tuning="sparse"))


@pytest.mark.parametrize("make", chains.KINDS, ids=lambda make: make.__name__)
def test_opening_and_running_grows_as_the_model_does(make):
    def work(proto):
        open_session(proto).run(None, {"x": np.ones((4, chains.SIZE), np.float32)})

    assert growth(work, make) < MOST_GROWTH


@pytest.mark.parametrize("make", [chains.products, chains.quantised_layers, chains.identities_before_a_weight])
@pytest.mark.parametrize("work", [srt.compress, srt.prune], ids=["compress", "prune"])
def test_compressing_and_pruning_grows_as_the_model_does(make, work):
    assert growth(work, make) < MOST_GROWTH


def test_the_key_of_branches_in_branches_grows_as_their_depth_does():
    def key(proto):
        return keys.model_key(Draft(model_io.read(proto), ()))

    proto = chains.nested_branches(MOST_NESTED - 5)
    assert lines(lambda: key(proto)) < 200_000
    assert key(proto) == key(chains.nested_branches(MOST_NESTED - 5)) != key(chains.nested_branches(MOST_NESTED - 6))


def deepened(depth: int) -> onnx.ModelProto:
    """A model made in place, of more graphs within each other than a protobuf reads back."""
    proto = chains.nested_branches(1)
    graph = next(a.g for n in proto.graph.node if n.op_type == "If" for a in n.attribute if a.name == "then_branch")
    for number in range(depth):
        y = graph.output[0].name
        del graph.node[:]
        inner = graph.node.add(op_type="If", input=["c"], output=[y])
        no = inner.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH).g
        no.node.add(op_type="Neg", input=["m"], output=[f"e{number}"])
        no.output.append(info(f"e{number}", "a", "b"))
        yes = inner.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        yes.output.append(info(f"t{number}", "a", "b"))
        graph = yes
    graph.node.add(op_type="Neg", input=["m"], output=[graph.output[0].name])
    return proto


@pytest.mark.parametrize("depth", [60, 3000])
@pytest.mark.parametrize("work", [open_session, srt.compress, srt.prune], ids=["session", "compress", "prune"])
def test_graphs_that_no_protobuf_holds_are_refused(depth, work):
    with pytest.raises(ModelError, match="graphs within each other"):
        work(deepened(depth))


def doubling(depth: int) -> onnx.ModelProto:
    """Functions each of which calls the one before twice: 2^depth nodes."""
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("f", 1)]
    bodies = [[node("Relu", ["a"], ["b"])]]
    for number in range(depth):
        call = f"f{number}"
        bodies.append([node(call, ["a"], ["t"], domain="f"), node(call, ["t"], ["b"], domain="f")])
    functions = [
        onnx.helper.make_function("f", f"f{number}", ["a"], ["b"], body, opsets) for number, body in enumerate(bodies)
    ]
    last = node(f"f{depth}", ["x"], ["y"], domain="f")
    return model([last], [info("x", 1)], [info("y", 1)], functions=functions, domains=["f"])


def test_functions_that_multiply_are_not_inlined():
    assert len(list(prepare_module.prepare(model_io.read(doubling(3))).graph)) == 8
    with pytest.raises(ModelError, match="when functions are inlined"):
        model_io.read(doubling(26))
    read = model_io.read(doubling(18))
    assert lines(lambda: prepare_module.prepare(read)) < 20_000
    assert [one.op_type for one in read.graph] == ["f18"]


def test_inlining_grows_as_the_model_does():
    assert growth(prepare_module.prepare, lambda depth: model_io.read(doubling(depth)), (8, 9, 10)) < 2.4


def test_fresh_names_of_one_base():
    taken = names.Names()
    taken.update(("a", "a.2"))
    assert [names.fresh_name("a", taken) for _ in range(3)] == ["a.1", "a.3", "a.4"]
    many = lines(lambda: [names.fresh_name("a", taken) for _ in range(1000)])
    assert many < 20_000


@pytest.mark.parametrize("alive", [2, 300])
def test_placing_values_grows_as_their_number_does(alive):
    def lifetimes(count):
        rng = np.random.default_rng(count)
        return [Lifetime(int(rng.integers(1, 10_000)), step, step + alive) for step in range(count)]

    assert growth(place, lifetimes, (500, 1000, 2000)) < 2.4


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")
def test_a_new_shape_costs_the_same_however_many_steps_are_alike():
    """Steps that are alike are prepared once, and nothing walks over the others."""
    session = None

    def run(rows):
        session.run(None, {"x": np.ones((rows, chains.SIZE), np.float32)})

    found = {}
    for count in (50, 100):
        proto = chains.products(count)
        proto.graph.input[0].CopyFrom(info("x", "rows", chains.SIZE))
        session = open_session(proto)
        run(40)
        run(41)
        found[count] = lines(lambda: run(24))
    assert found[100] - found[50] < 50


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")
@pytest.mark.parametrize(
    "make", [chains.sums_of_convolutions, chains.sums_with_paddings, chains.convolutions_of_one_image]
)
def test_laying_values_out_grows_as_the_model_does(make, monkeypatch):
    given = counted(monkeypatch, segment, "laid_out", lambda *of: of)

    def asked(count):
        given.clear()
        open_session(make(count))
        return given[0]

    assert growth(lambda of: layout.laid_out(*of), asked) < MOST_GROWTH


def counted(monkeypatch, module, name, noted=None) -> list[object]:
    """Return a list that grows by what each call of a function returns, or by what `noted` makes of its arguments."""
    found, function = [], getattr(module, name)

    def note(*args, **kwargs):
        result = function(*args, **kwargs)
        found.append(result if noted is None else noted(*args, **kwargs))
        return result

    monkeypatch.setattr(module, name, note)
    return found


@pytest.mark.parametrize("make", [chains.products, chains.quantised_layers])
def test_a_weight_that_layers_share_is_encoded_and_packed_once(monkeypatch, make):
    encoded = counted(monkeypatch, type(formats.N2M4), "encode_if_it_holds")
    packed = counted(monkeypatch, packing, "pack")
    session = open_session(make(20))
    sparse = [step for step in session.plan.steps if isinstance(step, SparseStep)]
    assert len(sparse) >= 20
    assert (len(encoded), len(packed), len({id(step.packed) for step in sparse})) == (1, 1, 1)


def test_a_weight_that_layers_share_is_packed_apart_where_each_is_multiplied_by_another_factor(rng):
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Mul", ["m", "two"], ["n"]), node("MatMul", ["n", "w"], ["y"])]
    weight = sparse(rng, 12, 12).T.copy()
    proto = model(nodes, [info("x", 3, 12)], [info("y", 3, 12)], {"w": weight, "two": np.float32(2)})
    compare(proto, {"x": normal(rng, 3, 12)}, layers=2, islands=0)


@pytest.mark.parametrize("name", ["float", "turned"])
def test_a_shared_weight_that_breaks_the_pattern_is_reported_for_each_layer(name):
    dense = np.ones((chains.SIZE, chains.SIZE), np.float32)
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("MatMul", ["m", "w"], ["y"])]
    if name == "turned":
        dense[:] = 0
        dense[:2] = 1  # 2:4 along the rows, not along the columns
        nodes[1] = node("Gemm", ["m", "w"], ["y"], transB=1)
    session = open_session(model(nodes, [info("x", 3, chains.SIZE)], [info("y", 3, chains.SIZE)], {"w": dense}))
    reasons = [report.reason for report in session.explain()]
    assert [reason.startswith("not 2:4") for reason in reasons] == ([True, True] if name == "float" else [False, True])


def test_a_shared_weight_is_pruned_and_compressed_once(monkeypatch):
    encoded = counted(monkeypatch, type(formats.N2M4), "encode_if_it_holds")
    proto = chains.products(20)
    srt.compress(proto)
    assert len(encoded) == 1
    pruned = counted(monkeypatch, apply, "_prune")
    srt.prune(chains.dense_products(20))
    assert len(pruned) == 1
