"""A tagger of sequences: embeddings, a recurrent layer (LSTM or GRU, which stays dense), two layers a token."""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import GraphBuilder

TOKENS, VOCABULARY, WIDTH, HIDDEN = 48, 2000, 128, 256
_GATES = {"LSTM": 4, "GRU": 3}


def tagger(kind: str, seed: int = 0) -> onnx.ModelProto:
    """Return a float32 tagger, `kind` LSTM or GRU: ``input_ids`` (48, 1) int64 -> ``tags`` (48, 1, 32)."""
    build = GraphBuilder(seed)
    x = build.node("Gather", [build.weight("table", (VOCABULARY, WIDTH), WIDTH), "input_ids"], "words")
    rows = _GATES[kind] * HIDDEN
    w, r = build.weight("w", (1, rows, WIDTH), 2 * WIDTH), build.weight("r", (1, rows, HIDDEN), 2 * HIDDEN)
    x = build.node(kind, [x, w, r], "states", hidden_size=HIDDEN)
    shape = build.constant("shape", np.array([TOKENS, 1, HIDDEN], np.int64))
    x = build.node("Reshape", [x, shape], "hidden")
    x = build.node("Relu", [_dense(build, "inner", x, HIDDEN, 512)], "inner_relu")
    build.node("Identity", [_dense(build, "last", x, 512, 32)], "tags")
    ids = (TensorProto.INT64, (TOKENS, 1))
    return build.model("tagger", {"input_ids": ids}, {"tags": (TOKENS, 1, 32)})


def calibration_feeds(count: int = 2, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random token ids, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"input_ids": random.integers(0, VOCABULARY, (TOKENS, 1), np.int64)} for _ in range(count)]


def _dense(build: GraphBuilder, name: str, x: str, inputs: int, outputs: int) -> str:
    y = build.node("MatMul", [x, build.weight(f"{name}_weight", (inputs, outputs), inputs)], f"{name}_matmul")
    return build.node("Add", [y, build.bias(f"{name}_bias", outputs)], name)
