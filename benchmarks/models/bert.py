"""A BERT encoder (Devlin et al., 2018) in standard ONNX operators."""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import Dimension, GraphBuilder

EPSILON = 1e-12
"""Of layer normalisation, as in BERT."""


def bert(
    *,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    intermediate: int | None = None,
    vocabulary: int = 30522,
    positions: int = 512,
    batch: Dimension = "batch",
    sequence: Dimension = "sequence",
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a float32 encoder: ``input_ids`` (batch, sequence) int64 -> ``hidden`` (batch, sequence, hidden).

    Without an attention mask: every token of a batch counts. The defaults are BERT-base; a small `vocabulary` keeps
    tests small, and leaves the layers as they are.

    Parameters
    ----------
    layers, hidden, heads
        Of the encoder; `hidden` is a multiple of `heads`.
    intermediate
        Width of the feed-forward layer, by default 4 times `hidden`.
    vocabulary, positions
        Rows of the embeddings.
    batch, sequence
        A number, or a name for a dynamic dimension.
    seed
        Of the random weights.

    Raises
    ------
    ValueError
        `hidden` is not a multiple of `heads`.
    """
    if hidden % heads:
        raise ValueError(f"hidden: expected a multiple of {heads} heads, got {hidden}.")
    build = GraphBuilder(seed)
    x = _embed(build, hidden, vocabulary, positions)
    for layer in range(layers):
        x = _attention(build, f"layer{layer}_attention", x, hidden, heads)
        x = _feed_forward(build, f"layer{layer}_ffn", x, hidden, intermediate or 4 * hidden)
    build.node("Identity", [x], "hidden")
    return build.model(
        "bert", {"input_ids": (TensorProto.INT64, (batch, sequence))}, {"hidden": (batch, sequence, hidden)}
    )


def calibration_feeds(
    count: int = 2, sequence: int = 128, batch: int = 1, vocabulary: int = 30522, seed: int = 1
) -> list[dict[str, np.ndarray]]:
    """Return random token ids, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"input_ids": random.integers(0, vocabulary, (batch, sequence), np.int64)} for _ in range(count)]


def _embed(build: GraphBuilder, hidden: int, vocabulary: int, positions: int) -> str:
    words = build.node("Gather", [build.weight("word_table", (vocabulary, hidden), hidden), "input_ids"], "words")
    shape = build.node("Shape", ["input_ids"], "ids_shape")
    length = build.node("Gather", [shape, build.constant("axis_1", np.array([1], np.int64))], "length")
    starts = build.constant("start_0", np.array([0], np.int64))
    table = build.weight("position_table", (positions, hidden), hidden)
    places = build.node("Slice", [table, starts, length], "places")
    return _normalise(build, "embedding", build.node("Add", [words, places], "embedded"), hidden)


def _attention(build: GraphBuilder, name: str, x: str, hidden: int, heads: int) -> str:
    size = hidden // heads
    split = build.constant(f"{name}_split", np.array([0, 0, heads, size], np.int64))
    merge = build.constant(f"{name}_merge", np.array([0, 0, hidden], np.int64))
    parts = {}
    for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        y = _dense(build, f"{name}_{part}", x, hidden, hidden)
        y = build.node("Reshape", [y, split], f"{name}_{part}_split")
        parts[part] = build.node("Transpose", [y], f"{name}_{part}_heads", perm=perm)
    scores = build.node("MatMul", [parts["query"], parts["key"]], f"{name}_scores")
    scale = build.constant(f"{name}_scale", np.array(1 / np.sqrt(size), np.float32))
    scaled = build.node("Mul", [scores, scale], f"{name}_scaled")
    weights = build.node("Softmax", [scaled], f"{name}_weights", axis=-1)
    y = build.node("MatMul", [weights, parts["value"]], f"{name}_context")
    y = build.node("Transpose", [y], f"{name}_tokens", perm=[0, 2, 1, 3])
    y = build.node("Reshape", [y, merge], f"{name}_merged")
    y = _dense(build, f"{name}_output", y, hidden, hidden)
    return _normalise(build, f"{name}_norm", build.node("Add", [y, x], f"{name}_residual"), hidden)


def _feed_forward(build: GraphBuilder, name: str, x: str, hidden: int, intermediate: int) -> str:
    y = _gelu(build, name, _dense(build, f"{name}_up", x, hidden, intermediate))
    y = _dense(build, f"{name}_down", y, intermediate, hidden)
    return _normalise(build, f"{name}_norm", build.node("Add", [y, x], f"{name}_residual"), hidden)


def _gelu(build: GraphBuilder, name: str, x: str) -> str:
    """Add x/2 * (1 + erf(x / sqrt 2)), the exact form."""
    root = build.constant(f"{name}_root", np.array(np.sqrt(2), np.float32))
    one = build.constant(f"{name}_one", np.array(1, np.float32))
    half = build.constant(f"{name}_half", np.array(0.5, np.float32))
    y = build.node("Erf", [build.node("Div", [x, root], f"{name}_div")], f"{name}_erf")
    y = build.node("Mul", [x, build.node("Add", [y, one], f"{name}_plus")], f"{name}_gate")
    return build.node("Mul", [y, half], f"{name}_gelu")


def _dense(build: GraphBuilder, name: str, x: str, inputs: int, outputs: int) -> str:
    """Add MatMul and bias, as transformers are exported; the weight is (k, n)."""
    weight = build.weight(f"{name}_weight", (inputs, outputs), 2 * inputs)
    y = build.node("MatMul", [x, weight], f"{name}_matmul")
    return build.node("Add", [y, build.bias(f"{name}_bias", outputs)], name)


def _normalise(build: GraphBuilder, name: str, x: str, hidden: int) -> str:
    scale = build.constant(f"{name}_scale", np.ones(hidden, np.float32))
    bias = build.constant(f"{name}_shift", np.zeros(hidden, np.float32))
    return build.node("LayerNormalization", [x, scale, bias], f"{name}_normalised", axis=-1, epsilon=EPSILON)
