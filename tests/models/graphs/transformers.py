"""Transformer blocks."""

import numpy as np

from tests.models.graphs.builder import Graph

HEADS = 2


def _heads(g, x, size, perm):
    return g.op("Transpose", g.reshape(x, 0, 0, HEADS, size), perm=perm)


def _attention(g, x, context, features, mask=None):
    size = features // HEADS
    query = _heads(g, g.linear(x, features, features), size, [0, 2, 1, 3])
    key = _heads(g, g.linear(context, features, features), size, [0, 2, 3, 1])
    value = _heads(g, g.linear(context, features, features), size, [0, 2, 1, 3])
    scores = g.op("Mul", g.op("MatMul", query, key), g.number(size**-0.5))
    if mask is not None:
        scores = g.op("Add", scores, mask)
    y = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    y = g.reshape(g.op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, features)
    return g.linear(y, features, features)


def erf_gelu(g, x):
    y = g.op("Add", g.op("Erf", g.op("Div", x, g.number(2**0.5))), g.number(1))
    return g.op("Mul", g.op("Mul", x, y), g.number(0.5))


def tanh_gelu(g, x):
    cube = g.op("Mul", g.op("Pow", x, g.number(3)), g.number(0.044715))
    inner = g.op("Mul", g.op("Add", x, cube), g.number((2 / np.pi) ** 0.5))
    return g.op("Mul", g.op("Mul", x, g.op("Add", g.op("Tanh", inner), g.number(1))), g.number(0.5))


def quick_gelu(g, x):
    return g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, g.number(1.702))))


def _feed_forward(g, x, features, gelu=erf_gelu):
    return g.linear(gelu(g, g.linear(x, features, 20)), 20, features)


def post_norm(sizes):
    g, c = Graph(sizes), 16
    x = g.linear(g.tokens(), sizes.channels, c)
    x = g.layer_norm(g.op("Add", _attention(g, x, x, c), x), c)
    return g.finish(g.layer_norm(g.op("Add", _feed_forward(g, x, c), x), c, epsilon=1e-12))


def pre_norm(sizes):
    g, c = Graph(sizes), 16
    x = g.linear(g.tokens(), sizes.channels, c)
    y = g.layer_norm(x, c)
    x = g.op("Add", x, _attention(g, y, y, c))
    x = g.op("Add", x, _feed_forward(g, g.layer_norm(x, c), c, tanh_gelu))
    return g.finish(g.linear(g.layer_norm(x, c), c, 11))


def causal(sizes):
    g, c = Graph(sizes), 8
    mask = g.vector(np.triu(np.full((sizes.tokens, sizes.tokens), -1e4), 1))
    x = g.linear(g.tokens(), sizes.channels, c)
    x = g.op("Add", x, _attention(g, x, x, c, mask))
    return g.finish(g.op("Add", x, _feed_forward(g, g.layer_norm(x, c), c, quick_gelu)))


def cross_attention(sizes):
    g, c = Graph(sizes), 8
    x, context = g.linear(g.tokens(), sizes.channels, c), g.linear(g.tokens(), sizes.channels, c)
    return g.finish(g.layer_norm(g.op("Add", _attention(g, x, context, c), x), c))


def gelus(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.tokens()
    forms = [
        erf_gelu,
        tanh_gelu,
        quick_gelu,
        lambda g, x: g.op("Gelu", x, domain="com.microsoft"),
        lambda g, x: g.op("FastGelu", x, domain="com.microsoft"),
        lambda g, x: g.op("BiasGelu", x, g.vector(g.normal(20)), domain="com.microsoft"),
    ]
    return g.finish(*(g.linear(form(g, g.linear(x, c, 20)), 20, 8) for form in forms))


def root_mean_square_norm(sizes):
    """The normalisation of Llama in standard operators, and its gated layer."""
    g, c = Graph(sizes), 12
    x = g.linear(g.tokens(), sizes.channels, c, bias=False)
    square = g.op("ReduceMean", g.op("Pow", x, g.number(2)), axes=[-1], keepdims=1)
    y = g.op("Div", x, g.op("Sqrt", g.op("Add", square, g.number(1e-5))))
    y = g.op("Mul", y, g.vector(1 + 0.1 * g.normal(c)))
    gate = g.linear(y, c, 20, bias=False)
    y = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), g.linear(y, c, 20, bias=False))
    return g.finish(g.op("Add", x, g.linear(y, 20, c, bias=False)))


def embeddings(sizes):
    """Token ids to a classifier of the first token."""
    g, c = Graph(sizes), 8
    x = g.op("Gather", g.vector(g.normal(30, c)), g.ids(30))
    x = g.layer_norm(x, c)
    x = g.layer_norm(g.op("Add", _attention(g, x, x, c), x), c)
    first = g.op("Squeeze", g.op("Slice", x, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
    return g.finish(g.gemm(g.op("Tanh", g.gemm(first, c, c)), c, 3))


def patches(sizes):
    """A vision transformer: patches by a convolution, a token before them, a block."""
    g, c = Graph(sizes), 8
    x = g.conv(g.image(3), 3, c, 4, strides=[4, 4], pads=[0] * 4, dense=True)
    count = (sizes.height // 4) * (sizes.width // 4)
    x = g.op("Transpose", g.reshape(x, sizes.batch, c, count), perm=[0, 2, 1])
    first = g.op("Expand", g.vector(g.normal(1, 1, c)), g.ints(sizes.batch, 1, c))
    x = g.op("Add", g.op("Concat", first, x, axis=1), g.vector(g.normal(1, count + 1, c)))
    y = g.layer_norm(x, c)
    x = g.op("Add", x, _attention(g, y, y, c))
    return g.finish(g.op("Add", x, _feed_forward(g, g.layer_norm(x, c), c)))
