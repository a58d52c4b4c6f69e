"""Weights, biases and bounds that small constant operators compute are found; large ones are not blown up."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.decode.functions import functions_for
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress
from sparse_rt.plan.prepare import fold as fold_module
from sparse_rt.plan.prepare.fold import fold
from sparse_rt.plan.prepare.prepare import prepare
from tests.models import chains
from tests.models.onnx_models import INT64, compare, info, model, node, normal, sparse, sparse_int8, sparse_session


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def matmul(nodes, initializers, k=12, n=10, **options):
    """Nodes that compute t, the weight (k, n), and y = x t."""
    return model(
        [*nodes, node("MatMul", ["x", "t"], ["y"], name="layer")],
        [info("x", "b", 3, k)],
        [info("y", "b", 3, n)],
        initializers,
        **options,
    )


def weight_chains(rng):
    weight = sparse(rng, 10, 12)
    flat, wide = np.array([12, 10], np.int64), np.array([10, 3, 4], np.int64)
    yield "transpose", [node("Transpose", ["w"], ["t"], perm=[1, 0])], {"w": weight}
    yield "reshape", [node("Reshape", ["w", "s"], ["t"])], {"w": weight.T.copy().reshape(2, 6, 10), "s": flat}
    yield (
        "reshape of a transpose",
        [node("Transpose", ["w"], ["u"], perm=[2, 0, 1]), node("Reshape", ["u", "s"], ["t"])],
        {"w": weight.T.copy().reshape(3, 4, 10).transpose(1, 2, 0).copy(), "s": flat},
    )
    yield (
        "transpose of a reshape",
        [node("Reshape", ["w", "s"], ["u"]), node("Transpose", ["u"], ["t"], perm=[1, 0])],
        {"w": weight.reshape(5, 2, 12), "s": np.array([10, -1], np.int64)},
    )
    yield (
        "squeeze and unsqueeze",
        [node("Unsqueeze", ["w", "a"], ["u"]), node("Squeeze", ["u", "a"], ["v"]), node("Identity", ["v"], ["t"])],
        {"w": weight.T.copy(), "a": np.array([1], np.int64)},
    )
    yield "half", [node("Cast", ["w"], ["t"], to=1)], {"w": weight.T.astype(np.float16)}
    yield (
        "weight norm",
        [
            node("ReduceL2", ["v"], ["norm"], axes=[1], keepdims=1),
            node("Div", ["v", "norm"], ["d"]),
            node("Mul", ["g", "d"], ["w"]),
            node("Transpose", ["w"], ["t"]),
        ],
        {"v": weight, "g": normal(rng, 10, 1)},
    )
    yield (
        "packed projections",
        [
            node("Slice", ["qkv", "from", "to", "axis"], ["w"]),
            node("Transpose", ["w"], ["t"]),
        ],
        {
            "qkv": sparse(rng, 30, 12),
            "from": np.array([10], np.int64),
            "to": np.array([20], np.int64),
            "axis": np.array([0], np.int64),
        },
    )
    yield (
        "shape arithmetic",
        [
            node("Shape", ["w"], ["whole"]),
            node("Gather", ["whole", "zero"], ["rows"]),
            node("Concat", ["rows", "rest"], ["s"], axis=0),
            node("Reshape", ["w", "s"], ["u"]),
            node("Transpose", ["u"], ["t"]),
        ],
        {"w": weight.reshape(wide), "zero": np.array([0], np.int64), "rest": np.array([-1], np.int64)},
    )


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("number", range(9))
def test_chains_on_a_weight(rng, monkeypatch, number, large):
    if large:  # nearly every array counts as one
        monkeypatch.setattr(fold_module, "SMALL", 4)
    name, nodes, initializers = list(weight_chains(rng))[number]
    session = compare(matmul(nodes, initializers), {"x": normal(rng, 2, 3, 12)}, layers=1, islands=0)
    assert session.explain()[0].name == "layer", name


def test_split_of_packed_projections(rng):
    """The queries read x, keys and values another tensor: PyTorch splits the packed weight and its bias."""
    proto = model(
        [
            node("Split", ["packed", "sizes"], ["q", "kv"], axis=0),
            node("Split", ["bias", "sizes"], ["qb", "kvb"]),
            node("Transpose", ["q"], ["qt"]),
            node("Transpose", ["kv"], ["kvt"]),
            node("MatMul", ["x", "qt"], ["a"]),
            node("Add", ["a", "qb"], ["y"]),
            node("MatMul", ["m", "kvt"], ["c"]),
            node("Add", ["kvb", "c"], ["z"]),
        ],
        [info("x", "b", 3, 12), info("m", "b", 5, 12)],
        [info("y", "b", 3, 10), info("z", "b", 5, 20)],
        {"packed": sparse(rng, 30, 12), "bias": normal(rng, 30), "sizes": np.array([10, 20], np.int64)},
    )
    compare(proto, {"x": normal(rng, 2, 3, 12), "m": normal(rng, 2, 5, 12)}, layers=2, islands=0)


def test_constants_may_be_nodes(rng):
    value = helper.make_tensor("v", 1, [10, 12], sparse(rng, 10, 12).ravel())
    nodes = [node("Constant", [], ["w"], value=value), node("Transpose", ["w"], ["u"]), node("Identity", ["u"], ["t"])]
    compare(matmul(nodes, {}), {"x": normal(rng, 2, 3, 12)}, layers=1, islands=0)


def quantised_weight(rng, nodes, **initializers):
    """x -> Q -> DQ -> MatMul with the weight t that `nodes` compute -> Q -> DQ."""
    proto = model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["xf"]),
            *nodes,
            node("MatMul", ["xf", "t"], ["yf"]),
            node("QuantizeLinear", ["yf", "ys", "xz"], ["y"]),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 10, kind=2)],
        {"xs": np.float32(0.02), "xz": np.uint8(128), "ys": np.float32(0.07), **initializers},
    )
    session = compare(proto, {"x": normal(rng, 3, 12)}, layers=1)
    assert (session.explain()[0].dtype, session.explain()[0].pattern) == ("int8", "2:4")


def test_dequantize_of_a_transposed_weight(rng):
    scale, zero = rng.uniform(0.01, 0.02, 10).astype(np.float32), np.zeros(10, np.int8)
    nodes = [node("Transpose", ["w"], ["u"]), node("DequantizeLinear", ["u", "s", "z"], ["t"], axis=1)]
    quantised_weight(rng, nodes, w=sparse_int8(rng, 10, 12), s=scale, z=zero)


def test_transpose_of_a_dequantized_weight(rng):
    scale, zero = rng.uniform(0.01, 0.02, 10).astype(np.float32), np.zeros(10, np.int8)
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["u"], axis=0), node("Transpose", ["u"], ["t"])]
    quantised_weight(rng, nodes, w=sparse_int8(rng, 10, 12), s=scale, z=zero)


@pytest.mark.parametrize("large", [False, True])
def test_a_float_weight_that_the_model_quantises(rng, monkeypatch, large):
    """Quantisation-aware training exports QuantizeLinear -> DequantizeLinear on the float weight."""
    if large:
        monkeypatch.setattr(fold_module, "SMALL", 4)
    scale, zero = rng.uniform(0.005, 0.01, 10).astype(np.float32), np.zeros(10, np.int8)
    nodes = [
        node("QuantizeLinear", ["w", "s", "z"], ["q"], axis=0),
        node("DequantizeLinear", ["q", "s", "z"], ["u"], axis=0),
        node("Transpose", ["u"], ["t"]),
    ]
    quantised_weight(rng, nodes, w=sparse(rng, 10, 12), s=scale, z=zero)


def test_a_weight_that_integers_make_is_not_made_larger(rng, monkeypatch):
    """A dequantisation written by hand stays, where it is large: the float weight would take four times the memory."""
    nodes = [node("Cast", ["w"], ["f"], to=1), node("Mul", ["f", "s"], ["t"])]
    constants = {"w": sparse_int8(rng, 10, 12).T.copy(), "s": np.float32(0.01)}
    feeds = {"x": normal(rng, 2, 3, 12)}
    compare(matmul(nodes, constants), feeds, layers=1)
    monkeypatch.setattr(fold_module, "SMALL", 4)
    session = compare(matmul(nodes, constants), feeds, layers=0)
    assert session.explain()[0].reason == "the weight is not constant"


def test_broadcasting_does_not_make_large_arrays(rng, monkeypatch):
    monkeypatch.setattr(fold_module, "SMALL", 4)
    nodes = [
        node("Mul", ["row", "column"], ["outer"]),
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("Expand", ["row", "size"], ["wide"]),
        node("Gather", ["row", "many"], ["gathered"], axis=1),
        node("MatMul", ["x", "x"], ["square"]),
        node("Sum", ["square", "outer", "zeros", "wide", "gathered"], ["y"]),
    ]
    constants = {
        "row": normal(rng, 1, 5),
        "column": normal(rng, 5, 1),
        "size": np.array([5, 5], np.int64),
        "many": np.array([0, 1, 2, 1, 0], np.int64),
    }
    proto = model(nodes, [info("x", 5, 5)], [info("y", 5, 5)], constants)
    folded = prepare(model_io.read(proto))
    # Gather gives no more than it is made of.
    assert [item.op_type for item in folded.graph] == ["Mul", "ConstantOfShape", "Expand", "MatMul", "Sum"]


def test_the_decoding_of_a_compressed_weight_is_never_folded(rng):
    """A model whose functions another tool has inlined: its decoding stays as it is, and runs in onnxruntime."""
    proto = compress(matmul([], {"t": sparse(rng, 10, 12).T.copy()}))
    inlined = model_io.read(proto)
    from onnx_ir.passes.common import InlinePass

    InlinePass()(inlined)
    del inlined.opset_imports["sparse_rt"]
    before = [item.op_type for item in inlined.graph]
    assert "ScatterElements" in before
    session = compare(model_io.to_proto(inlined), {"x": normal(rng, 2, 3, 12)}, layers=0)
    assert "not constant" in session.explain()[0].reason


def test_bodies_of_compressed_layers_stay(rng):
    forms = [COMPRESSED["MatMulV2Compress_MatMul"]]
    expected = {function.name: len(list(function)) for function in functions_for(forms, {"": 17})}
    nodes = [node("Transpose", ["w"], ["u"]), node("Identity", ["u"], ["t"])]
    proto = matmul(nodes, {"w": sparse(rng, 10, 12)})
    proto.graph.node.append(node("MatMul", ["y", "v"], ["z"]))
    proto.graph.output[0].CopyFrom(info("z", "b", 3, 8))
    proto.graph.initializer.append(helper.make_tensor("v", 1, [10, 8], sparse(rng, 8, 10).T.ravel()))
    folded = prepare(model_io.read(compress(proto)))
    found = {function.name: len(list(function)) for function in folded.functions.values()}
    assert all(found.get(name, size) == size for name, size in expected.items())
    assert set(found) & set(expected)


def test_activations_behind_identity_and_dropout_are_absorbed(rng):
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Dropout", ["a"], ["c"]),
            node("Identity", ["c"], ["d"]),
            node("Relu", ["d"], ["e"]),
            node("Identity", ["e"], ["y"]),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 10)],
        {"w": sparse(rng, 10, 12).T.copy()},
    )
    compare(proto, {"x": normal(rng, 2, 12)}, layers=1, islands=0)


@pytest.mark.parametrize("opset", [10, 17])
@pytest.mark.parametrize("shapes", [False, True])
def test_padding_before_a_convolution(rng, opset, shapes):
    pads = [0, 0, 1, 2, 0, 0, 2, 0]
    pad = node("Pad", ["c"], ["p"], pads=pads) if opset < 11 else node("Pad", ["c", "pads"], ["p"])
    proto = model(
        [
            node("Conv", ["x", "v"], ["c"]),
            pad,
            node("Conv", ["p", "w", "b"], ["y"], name="padded", pads=[1, 0, 0, 1], strides=[2, 1]),
        ],
        [info("x", "b", 5, 4, 6)],
        [info("y", "b", 9, "h", "w_")],
        {"v": sparse(rng, 7, 5, 1, 1), "w": sparse(rng, 9, 7, 3, 3), "b": normal(rng, 9), "pads": np.array(pads)},
        opset=opset,
    )
    if shapes:
        proto.graph.value_info.append(info("c", "b", 7, 4, 6))
    session = compare(proto, {"x": normal(rng, 2, 5, 4, 6)}, layers=2, islands=0 if opset >= 11 else None)
    assert session.explain()[1].name == "padded"


def test_padding_with_another_value_stays(rng):
    proto = model(
        [node("Pad", ["x", "pads", "one"], ["p"]), node("Conv", ["p", "w"], ["y"])],
        [info("x", "b", 7, 4, 6)],
        [info("y", "b", 9, "h", "w_")],
        {"w": sparse(rng, 9, 7, 3, 3), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "one": np.float32(1)},
    )
    compare(proto, {"x": normal(rng, 2, 7, 4, 6)}, layers=1)


def test_sizes_noted_beside_values_are_not_believed(rng):
    """Someone made the batch free and left the old sizes of values inside: a Shape of them is not a constant."""
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Identity", ["a"], ["i"]),
            node("Shape", ["i"], ["s"]),
            node("Reshape", ["i", "s"], ["y"]),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 10)],
        {"w": sparse(rng, 10, 12).T.copy()},
    )
    proto.graph.value_info.append(info("a", 1, 10))
    session = sparse_session(proto)
    x = normal(rng, 3, 12)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ sparse_weight(proto), rtol=1e-5, atol=1e-5)


def sparse_weight(proto):
    return ir.from_proto(proto).graph.initializers["w"].const_value.numpy()


def test_overridable_initializers_are_not_constants(rng):
    proto = matmul([node("Transpose", ["w"], ["u"]), node("Identity", ["u"], ["t"])], {"w": sparse(rng, 10, 12)})
    proto.graph.input.append(info("w", 10, 12))
    session = compare(proto, {"x": normal(rng, 2, 3, 12), "w": normal(rng, 10, 12)}, layers=0)
    assert session.explain()[0].reason == "the weight is not constant"


def test_an_output_may_be_a_folded_constant(rng):
    nodes = [node("Transpose", ["w"], ["u"]), node("Identity", ["u"], ["t"]), node("Neg", ["s"], ["m"])]
    proto = matmul(nodes, {"w": sparse(rng, 10, 12), "s": np.array([2, 3], np.int64)})
    proto.graph.output.extend([info("t", 12, 10), info("m", 2, kind=INT64)])
    compare(proto, {"x": normal(rng, 2, 3, 12)}, layers=1)


def test_a_model_without_constant_operators_is_not_touched(rng, monkeypatch):
    """onnxscript is not even imported."""
    proto = matmul([node("Transpose", ["x"], ["xt"])], {"t": sparse(rng, 10, 12).T.copy()})
    parsed = model_io.read(proto)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert fold(parsed) is parsed


def test_a_graph_that_the_optimizer_fails_on_is_run_as_it_is(rng, monkeypatch):
    from onnxscript import optimizer

    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(optimizer, "fold_constants", fail)
    nodes = [node("Transpose", ["w"], ["u"]), node("Identity", ["u"], ["t"])]
    compare(matmul(nodes, {"w": sparse(rng, 10, 12)}), {"x": normal(rng, 2, 3, 12)}, layers=1)


def test_models_without_layers_are_not_folded(monkeypatch):
    """Nothing in them is ours: onnxruntime folds what it likes."""
    nodes = [node("Add", ["c", "c"], ["d"]), node("Add", ["x", "d"], ["y"])]
    proto = model(nodes, [info("x", 3)], [info("y", 3)], {"c": np.ones(3, np.float32)})
    read = model_io.read(proto)
    monkeypatch.setattr("onnxscript.optimizer.fold_constants", lambda *_, **__: pytest.fail("folded"))
    assert fold(read) is read


def test_what_is_noted_beside_folded_values_does_not_grow_with_chains():
    """The optimizer notes all that a value was folded from, n names beside the nth value of a chain."""

    def noted(count):
        values = fold(model_io.read(chains.additions_of_constants(count))).graph.initializers
        assert set(values) == {"w", f"c{count - 1}"}
        return sum(map(len, values[f"c{count - 1}"].metadata_props.values()))

    assert noted(90) <= noted(10) + 20
