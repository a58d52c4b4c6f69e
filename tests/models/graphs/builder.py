"""A builder of small networks whose weights hold 2:4."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.models.graph_builder import IR_VERSION, OPSET, GraphBuilder
from tests import naive


@dataclass(frozen=True)
class Sizes:
    """How large the input is; odd numbers reach the ends of every kernel."""

    batch: int = 1
    channels: int = 8
    height: int = 13
    width: int = 9
    tokens: int = 7
    dynamic: bool = False

    def __str__(self):
        sizes = (self.batch, self.channels, self.height, self.width, self.tokens)
        return "x".join(map(str, sizes)) + "-dynamic" * self.dynamic


class Graph(GraphBuilder):
    """Inputs, layers with 2:4 weights, and their usual neighbours; names are made up."""

    def __init__(self, sizes, seed=0):
        super().__init__(seed)
        self.sizes = sizes
        self.inputs = {}
        self.feeds = {}
        self._number = 0
        # Of their own, so that weights do not depend on the sizes of inputs.
        self._values = np.random.default_rng(seed + 1)

    def name(self, kind):
        self._number += 1
        return f"{kind.lower()}{self._number}"

    def feed(self, value, *names):
        """An input with this value; its axes are called `names` where sizes are dynamic."""
        name = self.name("x")
        kind = TensorProto.FLOAT if value.dtype == np.float32 else TensorProto.INT64
        self.inputs[name] = (kind, names if self.sizes.dynamic else value.shape)
        self.feeds[name] = value
        return name

    def normal(self, *shape):
        return self.random.standard_normal(shape, np.float32)

    def _input(self, *shape):
        return self._values.standard_normal(shape, np.float32)

    def ids(self, count):
        s = self.sizes
        return self.feed(self._values.integers(0, count, (s.batch, s.tokens)), "batch", "tokens")

    def image(self, channels=None):
        s = self.sizes
        value = self._input(s.batch, channels or s.channels, s.height, s.width)
        return self.feed(value, "batch", *value.shape[1:2], "height", "width")

    def rows(self, features=None):
        value = self._input(self.sizes.batch, features or self.sizes.channels)
        return self.feed(value, "batch", value.shape[1])

    def tokens(self, features=None):
        value = self._input(self.sizes.batch, self.sizes.tokens, features or self.sizes.channels)
        return self.feed(value, "batch", "tokens", value.shape[2])

    def op(self, op_type, *inputs, **attributes):
        """A node of one output, returned by name."""
        return self.node(op_type, list(inputs), self.name(op_type), **attributes)

    def ints(self, *values):
        return self.constant(self.name("ints"), np.array(values, np.int64))

    def number(self, value):
        return self.constant(self.name("number"), np.float32(value))

    def vector(self, value):
        return self.constant(self.name("vector"), np.asarray(value, np.float32))

    def sparse_weight(self, *shape, scale=1.0):
        """A weight (n, c, *kernel) of which at most 2 of 4 neighbouring channels are not zero."""
        w = self.normal(*shape) * np.float32(scale * np.sqrt(4 / np.prod(shape[1:])))
        return naive.prune_2_4(w)

    def conv(self, x, channels, out, kernel=1, *, bias=True, dense=False, group=1, **attributes):
        """Conv, as large as its input at stride 1 unless `pads` say otherwise."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = (out, channels // group, rows, columns)
        w = self.normal(*shape) / np.float32(np.sqrt(np.prod(shape[1:])))
        w = self.vector(w if dense or group > 1 else self.sparse_weight(*shape))
        if "auto_pad" not in attributes:
            attributes.setdefault("pads", [rows // 2, columns // 2] * 2)
        biases = [self.vector(0.1 * self.normal(out))] if bias else []
        return self.op("Conv", x, w, *biases, kernel_shape=[rows, columns], group=group, **attributes)

    def linear(self, x, inputs, outputs, *, bias=True, dense=False):
        """MatMul and Add, as linear layers of transformers are exported."""
        w = self.normal(outputs, inputs) / np.sqrt(inputs) if dense else self.sparse_weight(outputs, inputs)
        y = self.op("MatMul", x, self.vector(w.T))
        return self.op("Add", y, self.vector(0.1 * self.normal(outputs))) if bias else y

    def gemm(self, x, inputs, outputs, **attributes):
        """Gemm with its weight output-channel-first."""
        w = self.vector(self.sparse_weight(outputs, inputs))
        return self.op("Gemm", x, w, self.vector(0.1 * self.normal(outputs)), transB=1, **attributes)

    def relu6(self, x):
        return self.op("Clip", x, self.number(0), self.number(6))

    def layer_norm(self, x, features, **attributes):
        gamma, beta = self.vector(1 + 0.1 * self.normal(features)), self.vector(0.1 * self.normal(features))
        return self.op("LayerNormalization", x, gamma, beta, **attributes)

    def reshape(self, x, *shape):
        return self.op("Reshape", x, self.ints(*shape))

    def finish(self, *outputs):
        """The model and its feeds; the shapes of outputs are inferred, as far as onnx can."""
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in self.inputs.items()]
        found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self._nodes, "graph", inputs, found, self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return onnx.shape_inference.infer_shapes(model), self.feeds
