"""Transformers with the normalisation before each layer: a decoder (GPT-2's form), and one of image patches (ViT)."""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import GraphBuilder

TOKENS, HIDDEN, HEADS, VOCABULARY = 64, 384, 6, 1000
SIZE, PATCH, WIDTH = 96, 16, 192


def decoder(layers: int = 4, seed: int = 0) -> onnx.ModelProto:
    """Return a float32 decoder: ``input_ids`` (1, 64) int64 -> ``logits`` (1, 64, 1000)."""
    build = GraphBuilder(seed)
    words = build.weight("word_table", (VOCABULARY, HIDDEN), HIDDEN)
    places = build.weight("position_table", (1, TOKENS, HIDDEN), HIDDEN)
    x = build.node("Add", [build.node("Gather", [words, "input_ids"], "words"), places], "embedded")
    mask = build.constant("mask", np.triu(np.full((TOKENS, TOKENS), -1e9, np.float32), 1))
    for layer in range(layers):
        x = _block(build, f"layer{layer}", x, HIDDEN, HEADS, mask)
    x = _dense(build, "head", _normalise(build, "last_norm", x, HIDDEN), HIDDEN, VOCABULARY)
    build.node("Identity", [x], "logits")
    ids = (TensorProto.INT64, (1, TOKENS))
    return build.model("decoder", {"input_ids": ids}, {"logits": (1, TOKENS, VOCABULARY)})


def decoder_feeds(count: int = 2, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random token ids, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"input_ids": random.integers(0, VOCABULARY, (1, TOKENS), np.int64)} for _ in range(count)]


def vision(layers: int = 6, seed: int = 0) -> onnx.ModelProto:
    """Return a ViT-Ti (Touvron et al., 2021) of fewer layers: ``image`` (1, 3, 96, 96) -> ``logits`` (1, 100)."""
    build = GraphBuilder(seed)
    weight = build.weight("patch_weight", (WIDTH, 3, PATCH, PATCH), 3 * PATCH * PATCH)
    inputs = ["image", weight, build.bias("patch_bias", WIDTH)]
    x = build.node("Conv", inputs, "patches", kernel_shape=[PATCH] * 2, strides=[PATCH] * 2)
    count = (SIZE // PATCH) ** 2
    flat = build.constant("flat_shape", np.array([1, WIDTH, count], np.int64))
    x = build.node("Transpose", [build.node("Reshape", [x, flat], "flat")], "tokens", perm=[0, 2, 1])
    x = build.node("Concat", [build.weight("first", (1, 1, WIDTH), WIDTH), x], "all_tokens", axis=1)
    x = build.node("Add", [x, build.weight("places", (1, count + 1, WIDTH), WIDTH)], "embedded")
    for layer in range(layers):
        x = _block(build, f"layer{layer}", x, WIDTH, 3)
    x = build.node("Gather", [x, build.constant("zero", np.array(0, np.int64))], "first_token", axis=1)
    weight = build.weight("head_weight", (100, WIDTH), WIDTH)
    build.node("Gemm", [_normalise(build, "norm", x, WIDTH), weight, build.bias("head_bias", 100)], "logits", transB=1)
    image = (TensorProto.FLOAT, (1, 3, SIZE, SIZE))
    return build.model("vit", {"image": image}, {"logits": (1, 100)})


def _block(build: GraphBuilder, name: str, x: str, hidden: int, heads: int, mask: str | None = None) -> str:
    y = _attention(build, f"{name}_attention", _normalise(build, f"{name}_norm1", x, hidden), hidden, heads, mask)
    x = build.node("Add", [x, y], f"{name}_residual1")
    y = _dense(build, f"{name}_up", _normalise(build, f"{name}_norm2", x, hidden), hidden, 4 * hidden)
    y = _dense(build, f"{name}_down", _gelu(build, name, y), 4 * hidden, hidden)
    return build.node("Add", [x, y], f"{name}_residual2")


def _attention(build: GraphBuilder, name: str, x: str, hidden: int, heads: int, mask: str | None) -> str:
    size = hidden // heads
    shape = build.constant(f"{name}_shape", np.array([0, 0, heads, size], np.int64))
    parts = {}
    for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        y = _dense(build, f"{name}_{part}", x, hidden, hidden)
        y = build.node("Reshape", [y, shape], f"{name}_{part}_split")
        parts[part] = build.node("Transpose", [y], f"{name}_{part}_heads", perm=perm)
    scale = build.constant(f"{name}_factor", np.array(size**-0.5, np.float32))
    y = build.node("MatMul", [parts["query"], parts["key"]], f"{name}_scores")
    y = build.node("Mul", [y, scale], f"{name}_scaled")
    if mask is not None:
        y = build.node("Add", [y, mask], f"{name}_masked")
    y = build.node("MatMul", [build.node("Softmax", [y], f"{name}_weights", axis=-1), parts["value"]], f"{name}_mixed")
    y = build.node("Transpose", [y], f"{name}_tokens", perm=[0, 2, 1, 3])
    merged = build.constant(f"{name}_merged_shape", np.array([0, 0, hidden], np.int64))
    return _dense(build, f"{name}_output", build.node("Reshape", [y, merged], f"{name}_merged"), hidden, hidden)


def _gelu(build: GraphBuilder, name: str, x: str) -> str:
    numbers = {"root": np.sqrt(2), "one": 1, "half": 0.5}
    root, one, half = (build.constant(f"{name}_{key}", np.array(v, np.float32)) for key, v in numbers.items())
    y = build.node("Erf", [build.node("Div", [x, root], f"{name}_div")], f"{name}_erf")
    y = build.node("Mul", [x, build.node("Add", [y, one], f"{name}_plus")], f"{name}_curve")
    return build.node("Mul", [y, half], f"{name}_gelu")


def _dense(build: GraphBuilder, name: str, x: str, inputs: int, outputs: int) -> str:
    y = build.node("MatMul", [x, build.weight(f"{name}_weight", (inputs, outputs), 2 * inputs)], f"{name}_matmul")
    return build.node("Add", [y, build.bias(f"{name}_bias", outputs)], name)


def _normalise(build: GraphBuilder, name: str, x: str, hidden: int) -> str:
    scale = build.constant(f"{name}_gamma", np.ones(hidden, np.float32))
    shift = build.constant(f"{name}_beta", np.zeros(hidden, np.float32))
    return build.node("LayerNormalization", [x, scale, shift], name, axis=-1)
