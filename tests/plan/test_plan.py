"""The planner's parts, without kernels."""

import itertools
import random

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rt_kernels.product import registry
from sparse_rt_kernels.product.weight import Indexed
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt import formats
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan import warm_up as warm_up_module
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.islands.schedule import schedule
from sparse_rt.plan.match.constants import per_channel
from sparse_rt.plan.match.fusion import fuse
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.convolution import Convolution
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.warm_up import warm_up
from tests.models import numpy_kernel
from tests.models.onnx_models import compare, info, model, node, normal, sparse, sparse_session


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def levels_of(proto):
    parsed = ir.from_proto(proto)
    fusions = [fuse(layer) for layer in find_layers(parsed) if layer.reason is None]
    names = {fusion.y: fusion.layer.name for fusion in fusions}
    levels = schedule(parsed.graph, [Replacement(None, (f.x,), f.y, f.absorbed) for f in fusions])
    return [([item.op_type for item in level.nodes], [names[r.y] for r in level.replacements]) for level in levels]


def test_nodes_wait_for_an_island_that_must_exist(rng):
    """Neg could run first, alone; it joins the island before the last layer instead."""
    proto = model(
        [
            node("Neg", ["u"], ["n"]),
            node("MatMul", ["x", "w"], ["a"], name="first"),
            node("Mul", ["a", "n"], ["m"]),
            node("MatMul", ["m", "w"], ["y"], name="second"),
        ],
        [info("x", "b", 8), info("u", "b", 8)],
        [info("y", "b", 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    assert levels_of(proto) == [([], ["first"]), (["Neg", "Mul"], ["second"])]


def test_parallel_branches_share_islands(rng):
    nodes = []
    for branch in "pqr":
        nodes += [
            node("MatMul", ["x", "w"], [f"{branch}1"]),
            node("Sin", [f"{branch}1"], [f"{branch}2"]),
            node("MatMul", [f"{branch}2", "w"], [f"{branch}3"]),
        ]
    nodes.append(node("Sum", ["p3", "q3", "r3"], ["y"]))
    proto = model(nodes, [info("x", "b", 8)], [info("y", "b", 8)], {"w": sparse(rng, 8, 8).T.copy()})
    assert [len(nodes) for nodes, _ in levels_of(proto)] == [0, 3, 1]
    compare(proto, {"x": normal(rng, 3, 8)}, layers=6, islands=2)


def test_dead_nodes_are_left_out(rng):
    proto = model(
        [
            node("MatMul", ["x", "w"], ["y"], name="l"),
            node("Neg", ["x"], ["dead"]),
            node("MatMul", ["dead", "w"], ["z"]),
        ],
        [info("x", "b", 8)],
        [info("y", "b", 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    assert levels_of(proto) == [([], ["l"])]


def random_node(draw, names, out):
    x, u = draw.choice(names), draw.choice(names)
    op_type, inputs, attributes = draw.choice(
        [
            ("MatMul", [x, "w"], {}),
            ("Gemm", [x, "v", "b"], {"transB": 1, "alpha": 0.5}),
            ("MatMul", [x, "d"], {}),
            ("Relu", [x], {}),
            ("Add", [x, "b"], {}),
            ("Add", [x, u], {}),
            ("Tanh", [x], {}),
        ]
    )
    return node(op_type, inputs, [out], **attributes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_random_graphs(seed):
    """Random wiring of layers, activations, joins and outputs: every plan computes what onnxruntime computes."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    names, nodes = ["x", "u"], []
    weights = {"w": sparse(rng, 9, 9).T.copy(), "v": sparse(rng, 9, 9), "d": normal(rng, 9, 9), "b": normal(rng, 9)}
    for number in range(draw.randint(1, 14)):
        nodes.append(random_node(draw, names[-5:], f"t{number}"))
        names.append(f"t{number}")
    outputs = [name for name in names if name == names[-1] or draw.random() < 0.2]
    proto = model(nodes, [info("x", "b", 9), info("u", "b", 9)], [info(name, "b", 9) for name in outputs], weights)
    compare(proto, {"x": normal(rng, 3, 9), "u": normal(rng, 3, 9)}, tolerance=1e-4)


def test_per_channel_is_what_broadcasting_means():
    """Against NumPy: accepted exactly where the output keeps its shape and varies along the channels alone."""
    n = 3
    for rank, axis in [(2, 1), (3, 1), (4, 3), (3, 2)]:
        shape = [5, 4, 6, 7][:rank]
        shape[rank - axis] = n
        for ndim in range(rank + 2):
            for sizes in itertools.product((1, n, 5), repeat=ndim):
                array = np.arange(np.prod(sizes, dtype=int), dtype=np.float32).reshape(sizes)
                found = per_channel(array, n, axis, rank)
                expected_shape = [1] * rank
                expected_shape[rank - axis] = n
                try:
                    fits = np.broadcast_shapes(sizes, expected_shape) == tuple(expected_shape)
                except ValueError:
                    fits = False
                assert (found is not None) == (fits and ndim <= rank), (sizes, rank, axis)
                if found is not None:
                    full = np.broadcast_to(array, expected_shape).reshape(n)
                    np.testing.assert_array_equal(found, full)


def test_convolution_geometry_is_cached_and_names_the_layer():
    conv = Convolution("c", 4, 8, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0), "NOTSET")
    assert conv.geometry((1, 4, 5, 5)) is conv.geometry((1, 4, 5, 5))
    with pytest.raises(ValueError, match="layer 'c'"):
        conv.geometry((1, 5, 5, 5))


def test_a_step_refuses_a_weight_of_another_shape(rng):
    values, index = formats.encode_matrix(sparse(rng, 8, 16))
    kernel = numpy_kernel.KERNELS["f32"]
    real = np.dtype(np.float32)
    packed = kernel.pack_weight(Indexed(values, index))
    epilogue = numpy_kernel.float_epilogue(8)
    types = {"op_type": "Gemm", "name": "l", "x": "x", "x_dtype": real, "y": "y", "y_dtype": real}
    SparseStep(**types, kernel=kernel, packed=packed, epilogue=epilogue, n=8, channels=16)
    for n, channels, bias in [(9, 16, 8), (8, 20, 8), (8, 16, 7)]:
        epilogue = numpy_kernel.float_epilogue(bias)
        with pytest.raises(ValueError, match="layer 'l'"):
            SparseStep(**types, kernel=kernel, packed=packed, epilogue=epilogue, n=n, channels=channels)


def test_plans_do_not_depend_on_a_kernel(rng, monkeypatch):
    """The same plan over kernels in plain NumPy, which check what they are given."""
    monkeypatch.setattr(registry, "select", lambda dtype, format, tier: numpy_kernel.KERNELS[dtype])
    proto = model(
        [
            node("Conv", ["x", "w"], ["a"], strides=[2, 1], auto_pad="SAME_LOWER"),
            node("ConvTranspose", ["a", "v"], ["t"], strides=[2, 3], pads=[1, 0, 0, 1]),
            node("MatMul", ["left", "t"], ["y"]),
        ],
        [info("x", "b", 6, 7, 8)],
        [info("y", "b", 5, 9, "w_")],
        {
            "w": sparse(rng, 7, 6, 3, 2),
            "v": sparse(rng, 5, 7, 3, 2).swapaxes(0, 1).copy(),
            "left": sparse(rng, 9, 8),
        },
    )
    session = compare(proto, {"x": normal(rng, 2, 6, 7, 8)}, layers=3, islands=0)
    assert {report.kernel for report in session.explain()} == {"floats"}


def test_no_kernel_for_this_cpu_is_a_reason(rng, monkeypatch):
    def select(dtype, format, tier):
        raise LookupError(dtype)

    monkeypatch.setattr(registry, "select", select)
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])], [info("x", "b", 8)], [info("y", "b", 8)], {"w": sparse(rng, 8, 8).T.copy()}
    )
    session = compare(proto, {"x": normal(rng, 3, 8)}, layers=0, islands=1)
    assert "no kernel" in session.explain()[0].reason


@pytest.mark.parametrize("terminal", [False, True])
def test_warm_up_runs_each_kind_of_call_once(rng, monkeypatch, terminal, capsys):
    """Where no shape is known."""
    monkeypatch.setattr(warm_up_module, "_warm", set())
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "w"], ["c"]), node("MatMul", ["w", "c"], ["y"])],
        [info("x", "b", 8)],
        [info("y", 8, 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    session = sparse_session(proto)
    warm = set(warm_up_module._warm)
    assert len(warm) >= 1
    warm_up(session.plan, ThreadPool(2))
    assert warm_up_module._warm == warm


def test_calls_of_known_shapes_are_prepared_before_the_first_run(rng):
    proto = model(
        [
            node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("MaxPool", ["a"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["m", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Add", ["c", "m"], ["d"]),
            node("Conv", ["d", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        ],
        [info("x", 1, 16, 32, 32)],
        [info("y", 1, 16, 16, 16)],
        {"w": sparse(rng, 16, 16, 3, 3)},
    )
    session = sparse_session(proto)
    assert session.plan.shapes["d"] == (1, 16, 16, 16)
    (segment,) = session.plan.parts
    assert isinstance(segment, Segment)
    assert len(segment.classes) == 1
    session.run(None, {"x": normal(rng, 1, 16, 32, 32)})
    assert len(segment.classes) == 1
