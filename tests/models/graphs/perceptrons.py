"""Layers of rows and tokens without attention."""

import numpy as np

from tests.models.graphs.builder import Graph

#: Activation operators of one input, with their attributes.
ACTIVATIONS = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "HardSwish": {},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7},
    "Softplus": {},
}


def perceptron(op_type):
    """The builder of an MLP with this activation."""

    def build(sizes):
        g, c = Graph(sizes), sizes.channels
        x = g.op(op_type, g.gemm(g.rows(), c, 20), **ACTIVATIONS[op_type])
        x = g.op(op_type, g.gemm(x, 20, 13), **ACTIVATIONS[op_type])
        return g.finish(g.gemm(x, 13, 5))

    return build


def clipped(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.relu6(g.gemm(g.rows(), c, 20))
    x = g.op("Min", g.op("Max", g.gemm(x, 20, 16), g.number(-0.5)), g.number(0.75))
    x = g.op("PRelu", g.gemm(x, 16, 16), g.vector(g.normal(16)))
    return g.finish(g.gemm(x, 16, 5))


def residual_perceptron(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.gemm(g.rows(), c, 12)
    for _ in range(2):
        x = g.op("Add", x, g.gemm(g.op("Relu", g.gemm(x, 12, 20)), 20, 12))
    return g.finish(g.op("Sigmoid", g.gemm(x, 12, 1)))


def scaled_gemms(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.gemm(g.rows(), c, 16, alpha=0.5, beta=2.0)
    w = g.vector(g.sparse_weight(12, 16).T)
    x = g.op("Gemm", x, w, alpha=-1.5)
    return g.finish(g.op("Gemm", x, g.vector(g.sparse_weight(8, 12)), g.vector(np.full(8, 0.25)), transB=1))


def scaled_channels(sizes):
    """Factors and biases of channels around products."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("Mul", g.linear(g.tokens(), c, 12), g.vector(g.normal(12)))
    x = g.op("Sub", g.linear(x, 12, 16), g.vector(g.normal(16)))
    return g.finish(g.op("Div", g.linear(g.op("Relu", x), 16, 8), g.number(3)))


def gated(sizes):
    """A gated linear unit: one branch multiplies the other."""
    g, c = Graph(sizes), sizes.channels
    x = g.tokens()
    gate = g.linear(x, c, 20)
    y = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), g.linear(x, c, 20))
    return g.finish(g.linear(y, 20, c))


def mixer(sizes):
    """Layers over channels and, transposed, over tokens."""
    g, c, t = Graph(sizes), sizes.channels, sizes.tokens
    x = g.tokens()
    y = g.op("Transpose", g.layer_norm(x, c), perm=[0, 2, 1])
    y = g.linear(g.op("Relu", g.linear(y, t, 12)), 12, t)
    x = g.op("Add", x, g.op("Transpose", y, perm=[0, 2, 1]))
    return g.finish(g.op("Add", x, g.linear(g.op("Relu", g.linear(g.layer_norm(x, c), c, 20)), 20, c)))


def left_products(sizes):
    """Constant weights on the left."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("Transpose", g.tokens(), perm=[0, 2, 1])
    x = g.op("Relu", g.op("MatMul", g.vector(g.sparse_weight(12, c)), x))
    return g.finish(g.op("MatMul", g.vector(g.sparse_weight(6, 12)), x))


def splits(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.linear(g.tokens(), c, 24))
    parts = [g.op("Slice", x, g.ints(first), g.ints(first + 8), g.ints(-1)) for first in (0, 8, 16)]
    y = g.op("Add", g.linear(parts[0], 8, 12), g.linear(parts[1], 8, 12))
    y = g.op("Concat", y, parts[2], axis=-1)
    return g.finish(g.linear(y, 20, c), g.op("Gather", y, g.ints(0), axis=1))


def shared_weights(sizes):
    """One weight in three layers, one of them over other rows."""
    g, c = Graph(sizes), sizes.channels
    x = g.tokens()
    w = g.vector(g.sparse_weight(c, c).T)
    y = g.op("Relu", g.op("MatMul", x, w))
    y = g.op("Relu", g.op("MatMul", y, w))
    z = g.op("ReduceMean", y, axes=[1], keepdims=0)
    return g.finish(y, g.op("MatMul", z, w))


def inner_outputs(sizes):
    """Values that later layers read are outputs, too."""
    g, c = Graph(sizes), sizes.channels
    first = g.linear(g.rows(), c, 12)
    second = g.op("Relu", first)
    third = g.op("Add", g.linear(second, 12, 12), first)
    return g.finish(first, third, second, g.linear(g.op("Relu", third), 12, c))


def some_layers_sparse(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.linear(g.tokens(), c, 20))
    x = g.op("Relu", g.linear(x, 20, 20, dense=True))
    x = g.op("Relu", g.linear(x, 20, 20))
    return g.finish(g.linear(x, 20, c, dense=True))


def narrow_columns(sizes):
    """Biases of one axis added to values whose last axis has one element."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("MatMul", g.tokens(), g.vector(g.sparse_weight(1, c).T))
    wide = g.op("Add", x, g.vector(g.normal(12)))
    y = g.linear(g.op("Gelu", wide, domain="com.microsoft"), 12, c)
    other = g.op("Add", x, g.vector(g.normal(8)))
    return g.finish(y, g.linear(g.layer_norm(other, 8), 8, c))


def recurrent(sizes):
    """LSTM and GRU between layers."""
    g, c, h = Graph(sizes), sizes.channels, 6
    x = g.op("Transpose", g.op("Relu", g.linear(g.tokens(), c, 12)), perm=[1, 0, 2])
    w, r = g.vector(g.normal(1, 4 * h, 12) / 4), g.vector(g.normal(1, 4 * h, h) / 4)
    x = g.reshape(g.op("LSTM", x, w, r, hidden_size=h), sizes.tokens, sizes.batch, h)
    w, r = g.vector(g.normal(1, 3 * h, h) / 4), g.vector(g.normal(1, 3 * h, h) / 4)
    x = g.reshape(g.op("GRU", x, w, r, hidden_size=h), sizes.tokens, sizes.batch, h)
    return g.finish(g.linear(g.op("Transpose", x, perm=[1, 0, 2]), h, c))
