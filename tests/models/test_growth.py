"""Work grows as the model does: counted in executed lines of Python, so that no clock decides."""

import sys
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numba.core import config

import sparse_rt as srt
from sparse_rt import ModelError
from sparse_rt.graph import model_io, names
from sparse_rt.graph.nesting import MOST_NESTED
from sparse_rt.plan import prepare as prepare_module
from sparse_rt.plan.arena import Lifetime, place
from sparse_rt.plan.tuning import keys
from sparse_rt.plan.tuning.decisions import Draft
from tests.models import chains
from tests.models.onnx_models import info, model, node

SIZES = (24, 48, 96)
#: Twice as much more work for twice as many more nodes; what is quadratic would need four times as much.
MOST_GROWTH = 2.2


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
    read = ir.from_proto(doubling(26))
    assert lines(lambda: prepare_module.prepare(read)) < 20_000
    assert [one.op_type for one in read.graph] == ["f26"]


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
def test_a_new_shape_costs_a_few_lines_a_step():
    """Steps that are alike are prepared once: beside the first of them, a step costs the walk over it."""
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
    assert found[100] - found[50] < 50 * 25
