"""Attention between sparse projections, in the forms that exporters write, against onnxruntime."""

import numpy as np
import pytest
from sparse_rt_kernels.between.attention import are_bytes_available, is_available

from benchmarks.models.quantise import quantise_static
from tests.models.onnx_models import INT64, compare, info, model, node, normal, sparse, sparse_session, stock

pytestmark = pytest.mark.skipif(not is_available(), reason="the kernel needs registers of 64 bytes")

HEADS, SIZE = 3, 8
WIDTH = HEADS * SIZE


@pytest.fixture
def rng():
    return np.random.default_rng(43)


def weights(rng):
    """Projections of query, key, value and out, (k, n), with biases."""
    made = {}
    for name in ("query", "key", "value", "out"):
        made[f"{name}_w"] = np.ascontiguousarray(sparse(rng, WIDTH, WIDTH).T * 3)
        made[f"{name}_b"] = normal(rng, WIDTH)
    return made


def projection(name, x, y):
    return [node("MatMul", [x, f"{name}_w"], [f"{y}_product"]), node("Add", [f"{y}_product", f"{name}_b"], [y])]


def heads(name, perm=(0, 2, 1, 3)):
    return [
        node("Reshape", [name, "split"], [f"{name}_split"]),
        node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=list(perm)),
    ]


def attention_model(rng, scores, *, inputs=(), initializers=None, outputs=(), merge=(0, 0, WIDTH), context=None, **kw):
    """`scores` are the nodes from query_heads and key_heads to `weights`."""
    transposed = kw.pop("key_perm", (0, 2, 3, 1))
    nodes = [
        *(one for name in ("query", "key", "value") for one in projection(name, "x", name)),
        *heads("query"),
        *heads("key", transposed),
        *heads("value"),
        *scores,
        *(context or [node("MatMul", ["weights", "value_heads"], ["context"])]),
        node("Transpose", ["context"], ["tokens"], perm=[0, 2, 1, 3]),
        node("Reshape", ["tokens", "merge"], ["merged"]),
        *projection("out", "merged", "y"),
    ]
    constants = {
        **weights(rng),
        "split": np.array([0, 0, HEADS, SIZE], np.int64),
        "merge": np.array(merge, np.int64),
        "scale": np.array(SIZE**-0.5, np.float32),
        "root": np.array(SIZE**0.5, np.float32),
        **(initializers or {}),
    }
    graph_inputs = [info("x", "batch", "tokens", WIDTH), *inputs]
    return model(nodes, graph_inputs, [info("y", "batch", "tokens", WIDTH), *outputs], constants, **kw)


PLAIN = [
    node("MatMul", ["query_heads", "key_heads"], ["scores"]),
    node("Mul", ["scores", "scale"], ["scaled"]),
    node("Softmax", ["scaled"], ["weights"], axis=-1),
]
MASKED = [
    node("MatMul", ["query_heads", "key_heads"], ["scores"]),
    node("Div", ["scores", "root"], ["scaled"]),
    node("Add", ["scaled", "mask"], ["masked"]),
    node("Softmax", ["masked"], ["weights"], axis=-1),
]


def attentions(session):
    return [step for step in session.plan.steps if type(step).__name__ == "AttentionStep"]


@pytest.mark.parametrize("threads", [1, 2])
def test_bert(rng, threads):
    """As PyTorch exports BERT without a mask: nothing is left to onnxruntime, for any batch and length."""
    proto = attention_model(rng, PLAIN)
    for batch, tokens in ((1, 1), (2, 17), (1, 40)):
        x = normal(rng, batch, tokens, WIDTH)
        session = compare(proto, {"x": x}, layers=4, islands=0, threads=threads)
        assert len(attentions(session)) == 1
    session.run(None, {"x": normal(rng, 3, 5, WIDTH)})


@pytest.mark.parametrize("shape", [(2, 1, 1, 9), (2, 1, 9, 9), (1, 1, 9, 9), (9, 9), (2, HEADS, 9, 9), (2, 1, 9, 1)])
def test_masks(rng, shape):
    proto = attention_model(rng, MASKED, inputs=[info("mask", *shape)])
    mask = np.where(rng.random(shape) < 0.3, np.float32(-np.inf), normal(rng, *shape))
    mask[..., -1] = 0
    session = compare(proto, {"x": normal(rng, 2, 9, WIDTH), "mask": mask}, layers=4, islands=0)
    assert len(attentions(session)) == 1


def test_mask_computed_by_onnxruntime(rng):
    """Padding as tokenizers give it: (batch, tokens) of 0 and 1."""
    before = [
        node("Unsqueeze", ["padding", "axes"], ["wide"]),
        node("Cast", ["wide"], ["cast"], to=1),
        node("Sub", ["one", "cast"], ["inverse"]),
        node("Mul", ["inverse", "lowest"], ["mask"]),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "one": np.array(1, np.float32),
        "lowest": np.array(np.finfo(np.float32).min, np.float32),
    }
    proto = attention_model(
        rng, [*before, *MASKED], inputs=[info("padding", "batch", "tokens", kind=INT64)], initializers=constants
    )
    padding = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    session = compare(proto, {"x": normal(rng, 3, 5, WIDTH), "padding": padding}, layers=4, islands=1)
    assert len(attentions(session)) == 1


def test_constant_causal_mask(rng):
    mask = np.triu(np.full((7, 7), -np.inf, np.float32), 1)
    proto = attention_model(rng, MASKED, initializers={"mask": mask})
    session = compare(proto, {"x": normal(rng, 2, 7, WIDTH)}, layers=4, islands=0)
    assert len(attentions(session)) == 1


def test_both_operands_scaled(rng):
    """As PyTorch writes scaled_dot_product_attention: query and key are each multiplied by the root of the scale."""
    scores = [
        node("Mul", ["query_heads", "half"], ["query_scaled"]),
        node("Transpose", ["key_heads"], ["key_turned"], perm=[0, 1, 3, 2]),
        node("Mul", ["key_turned", "half"], ["key_scaled"]),
        node("MatMul", ["query_scaled", "key_scaled"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
    ]
    constants = {"half": np.array(SIZE**-0.25, np.float32)}
    proto = attention_model(rng, scores, initializers=constants, key_perm=(0, 2, 1, 3))
    session = compare(proto, {"x": normal(rng, 2, 11, WIDTH)}, layers=4, islands=0)
    assert len(attentions(session)) == 1


def test_fused_by_onnxruntime(rng):
    """As a model that onnxruntime saved optimised: FusedMatMul with the factor and the transposition of key."""
    scores = [
        node(
            "FusedMatMul", ["query_heads", "key_heads"], ["scores"], domain="com.microsoft", alpha=SIZE**-0.5, transB=1
        ),
        node("Softmax", ["scores"], ["weights"], axis=-1),
    ]
    proto = attention_model(rng, scores, key_perm=(0, 2, 1, 3))
    session = compare(proto, {"x": normal(rng, 2, 11, WIDTH)}, layers=4, islands=0)
    assert len(attentions(session)) == 1


def test_three_axes(rng):
    """As torch.nn.MultiheadAttention has it: batch and heads are one axis."""
    split = np.array([-1, HEADS, SIZE], np.int64)
    scores = [
        node("MatMul", ["query_heads", "key_heads"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"], axis=2),
    ]
    nodes = [
        *(one for name in ("query", "key", "value") for one in projection(name, "x", name)),
        *heads("query", (1, 0, 2)),
        *heads("key", (1, 2, 0)),
        *heads("value", (1, 0, 2)),
        *scores,
        node("MatMul", ["weights", "value_heads"], ["context"]),
        node("Transpose", ["context"], ["tokens"], perm=[1, 0, 2]),
        node("Reshape", ["tokens", "merge"], ["merged"]),
        *projection("out", "merged", "y"),
    ]
    constants = {**weights(rng), "split": split, "merge": np.array([-1, WIDTH]), "scale": np.array(0.4, np.float32)}
    proto = model(nodes, [info("x", "tokens", WIDTH)], [info("y", "tokens", WIDTH)], constants)
    session = compare(proto, {"x": normal(rng, 13, WIDTH)}, layers=4, islands=0)
    assert len(attentions(session)) == 1


def test_reshape_that_no_strides_express(rng):
    """Batch and heads are put together after tokens and heads were exchanged: the key is copied."""
    scores = [
        node("Reshape", ["key_heads", "together"], ["key_flat"]),
        node("Reshape", ["key_flat", "apart"], ["key_apart"]),
        node("Transpose", ["key_apart"], ["key_turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["query_heads", "key_turned"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
    ]
    constants = {"together": np.array([-1, 7, SIZE]), "apart": np.array([2, HEADS, 7, SIZE])}
    proto = attention_model(rng, scores, initializers=constants, key_perm=(0, 2, 1, 3))
    x = normal(rng, 2, 7, WIDTH)
    session = compare(proto, {"x": x}, layers=4, islands=0)
    (step,) = attentions(session)
    assert step.bind([x.shape] * 3, 1) is None


def test_matrices_turned_by_three_axes(rng):
    """As PyTorch's newer exporter turns the keys, which strides can say once it is seen what the reshapes are for."""
    scores = [
        node("Reshape", ["key_heads", "together"], ["key_flat"]),
        node("Transpose", ["key_flat"], ["key_turned"], perm=[0, 2, 1]),
        node("Reshape", ["key_turned", "apart"], ["key_apart"], allowzero=1),
        node("MatMul", ["query_heads", "key_apart"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
    ]
    constants = {"together": np.array([-1, 7, SIZE]), "apart": np.array([2, HEADS, SIZE, 7])}
    proto = attention_model(rng, scores, initializers=constants, key_perm=(0, 2, 1, 3))
    x = normal(rng, 2, 7, WIDTH)
    session = compare(proto, {"x": x}, layers=4, islands=0)
    (step,) = attentions(session)
    assert step.bind([x.shape] * 3, 1) is not None


@pytest.mark.parametrize("inner", ["scores", "scaled", "weights"])
def test_inner_values_that_are_outputs(rng, inner):
    proto = attention_model(rng, PLAIN, outputs=[info(inner, None, None, None, None)])
    session = compare(proto, {"x": normal(rng, 2, 9, WIDTH)}, layers=4)
    assert not attentions(session)


@pytest.mark.parametrize("inner", ["scores", "scaled", "weights"])
def test_inner_values_that_others_read(rng, inner):
    scores = [*PLAIN, node("ReduceMax", [inner], ["most"])]
    proto = attention_model(rng, scores, outputs=[info("most", None, None, None, None)])
    session = compare(proto, {"x": normal(rng, 2, 9, WIDTH)}, layers=4)
    assert not attentions(session)


def test_outer_values_that_others_read(rng):
    """What comes before and after the attention may be read elsewhere: it is computed there once more."""
    outputs = [info(name, None, None, None, None) for name in ("query_heads", "key_heads", "context")]
    session = compare(attention_model(rng, PLAIN, outputs=outputs), {"x": normal(rng, 2, 9, WIDTH)}, layers=4)
    assert len(attentions(session)) == 1


def test_softmax_along_another_axis(rng):
    scores = [*PLAIN[:2], node("Softmax", ["scaled"], ["weights"], axis=2)]
    session = compare(attention_model(rng, scores), {"x": normal(rng, 2, 9, WIDTH)}, layers=4)
    assert not attentions(session)


def test_negative_scale(rng):
    """The largest product would not be the largest score."""
    proto = attention_model(rng, PLAIN, initializers={"scale": np.array(-0.5, np.float32)})
    session = compare(proto, {"x": normal(rng, 2, 9, WIDTH)}, layers=4)
    assert not attentions(session)


# --- bytes -----------------------------------------------------------------------------------------------------------

bytes_only = pytest.mark.skipif(not are_bytes_available(), reason="the kernel needs vpdpbusd of 64 bytes")


def quantised(proto, rng, op_types=None):
    """`op_types` are those of operators that are quantised, by default all."""
    feeds = [{"x": normal(rng, 2, 9, WIDTH)} for _ in range(3)]
    return quantise_static(proto, feeds, op_types=op_types)


def compare_bytes(proto, feeds, threads=1):
    """Run both sessions; a weight next to a tie may be rounded either way, which moves few of the bytes by a step."""
    session = sparse_session(proto, threads)
    (ours,), (theirs,) = session.run(None, feeds), stock(proto, feeds)
    distance = np.abs(ours - theirs)
    assert distance.max() <= 0.03 * np.abs(theirs).max()
    assert (distance > 1e-4).mean() < 0.05
    return session


@bytes_only
@pytest.mark.parametrize("threads", [1, 2])
def test_quantised_products(rng, threads):
    """Each product is quantised, and so is what it reads."""
    proto = quantised(attention_model(rng, PLAIN), rng, ["MatMul"])
    for batch, tokens in ((2, 9), (1, 1), (3, 20)):
        session = compare_bytes(proto, {"x": normal(rng, batch, tokens, WIDTH)}, threads)
    assert [step.y_dtype for step in attentions(session)] == [np.uint8]
    assert not [step for step in session.plan.steps if type(step).__name__ == "OnnxRuntimeStep"]


def test_factor_and_softmax_quantised_as_well(rng):
    """Left to onnxruntime, which has operators of bytes for them."""
    session = compare_bytes(quantised(attention_model(rng, PLAIN), rng), {"x": normal(rng, 2, 9, WIDTH)})
    assert not attentions(session)


@bytes_only
def test_quantised_with_a_mask(rng):
    mask = np.triu(np.full((9, 9), -np.inf, np.float32), 1)
    proto = quantised(attention_model(rng, MASKED, initializers={"mask": mask}), rng, ["MatMul"])
    session = compare_bytes(proto, {"x": normal(rng, 2, 9, WIDTH)})
    assert [step.y_dtype for step in attentions(session)] == [np.uint8]


@bytes_only
@pytest.mark.parametrize("inner", ["scores_QuantizeLinear_Output", "weights_QuantizeLinear_Output"])
def test_inner_bytes_that_others_read(rng, inner):
    proto = quantised(attention_model(rng, PLAIN), rng, ["MatMul"])
    assert any(inner in one.output for one in proto.graph.node)
    proto.graph.output.append(info(inner, None, None, None, None, kind=2))
    session = sparse_session(proto)
    assert not attentions(session)
    feeds = {"x": normal(rng, 2, 9, WIDTH)}
    for ours, theirs in zip(session.run(None, feeds), stock(proto, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1.001 if ours.dtype == np.uint8 else 0.05)
