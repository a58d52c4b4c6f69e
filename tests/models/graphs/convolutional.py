"""Convolutional networks."""

from tests.models.graphs.builder import Graph


def residual_block(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, c, 3))
    y = g.conv(g.op("Relu", g.conv(x, c, c, 3)), c, c, 3)
    y = g.op("Relu", g.op("Add", y, x))
    return g.finish(g.conv(y, c, c))


def bottleneck_with_downsampling(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.image()
    y = g.op("Relu", g.conv(x, c, 4))
    y = g.op("Relu", g.conv(y, 4, 4, 3, strides=[2, 2]))
    y = g.op("Relu", g.op("Add", g.conv(y, 4, 20), g.conv(x, c, 20, strides=[2, 2])))
    z = g.conv(g.op("Relu", g.conv(g.op("Relu", g.conv(y, 20, 8)), 8, 8, 3)), 8, 20)
    return g.finish(g.op("Relu", g.op("Add", z, y)))


def stem_and_head(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(3), 3, 16, 7, strides=[2, 2], dense=True))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = g.op("Relu", g.conv(x, 16, c, 3))
    x = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    return g.finish(g.gemm(x, c, 11))


def inverted_residual(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.image(), c, c)
    y = g.relu6(g.conv(x, c, 24))
    y = g.relu6(g.conv(y, 24, 24, 3, group=24))
    x = g.op("Add", g.conv(y, 24, c), x)
    y = g.relu6(g.conv(g.relu6(g.conv(x, c, 24)), 24, 24, 5, group=24, strides=[2, 2]))
    return g.finish(g.conv(y, 24, 12))


def _gate(g, x, channels, inner, last="Sigmoid"):
    y = g.op("GlobalAveragePool", x)
    y = g.conv(g.op("Relu", g.conv(y, channels, inner)), inner, channels)
    return g.op("Mul", x, g.op(last, y))


def squeeze_and_excitation(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, 16, 3))
    return g.finish(g.conv(_gate(g, x, 16, 8), 16, c))


def hard_squeeze_and_excitation(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("HardSwish", g.conv(g.image(), c, 16))
    x = g.op("HardSwish", g.conv(x, 16, 16, 5, group=16))
    return g.finish(g.conv(_gate(g, x, 16, 8, "HardSigmoid"), 16, c))


def inception(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, 12))
    pooled = g.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    branches = [
        g.op("Relu", g.conv(x, 12, 8)),
        g.op("Relu", g.conv(g.op("Relu", g.conv(x, 12, 8)), 8, 12, 3)),
        g.op("Relu", g.conv(g.op("Relu", g.conv(x, 12, 4)), 4, 8, 5)),
        g.op("Relu", g.conv(pooled, 12, 4)),
    ]
    return g.finish(g.conv(g.op("Concat", *branches, axis=1), 32, c))


def dense_block(sizes):
    g, c = Graph(sizes), sizes.channels
    x, channels = g.conv(g.image(), c, 8), 8
    for _ in range(3):
        y = g.op("Relu", g.conv(g.op("Relu", g.conv(x, channels, 16)), 16, 8, 3))
        x, channels = g.op("Concat", x, y, axis=1), channels + 8
    x = g.op("AveragePool", g.conv(x, channels, 12), kernel_shape=[2, 2], strides=[2, 2])
    return g.finish(g.conv(x, 12, c))


def encoder_decoder(sizes):
    """Up by ConvTranspose, cropped to the size that it came from, beside what came from there."""
    g, c = Graph(sizes), sizes.channels
    outer = g.op("Relu", g.conv(g.image(), c, 8, 3))
    inner = g.op("Relu", g.conv(outer, 8, 16, 3, strides=[2, 2]))
    w = g.vector(g.sparse_weight(8, 16, 2, 2).swapaxes(0, 1))
    up = g.op("ConvTranspose", inner, w, g.vector(g.normal(8)), kernel_shape=[2, 2], strides=[2, 2])
    up = g.op("Slice", up, g.ints(0, 0), g.ints(sizes.height, sizes.width), g.ints(2, 3))
    x = g.op("Concat", up, outer, axis=1)
    return g.finish(g.conv(g.op("Relu", g.conv(x, 16, 8, 3)), 8, c))


def one_axis(sizes):
    """Convolutions over tokens, dilated."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("Transpose", g.tokens(), perm=[0, 2, 1])
    for dilation in (1, 2, 4):
        w = g.vector(g.sparse_weight(c, c, 3))
        y = g.op("Conv", x, w, g.vector(g.normal(c)), pads=[dilation] * 2, dilations=[dilation], kernel_shape=[3])
        x = g.op("Add", g.op("Relu", y), x)
    return g.finish(g.op("MaxPool", x, kernel_shape=[3], pads=[1, 1]), x)


def depthwise_and_pointwise(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.image(), c, c)
    for kernel, stride in ((3, 1), (5, 2), ((1, 3), 1)):
        x = g.op("Relu", g.conv(x, c, c, kernel, group=c, strides=[stride, stride]))
        x = g.op("Relu", g.conv(x, c, c))
    return g.finish(x)


def groups(sizes):
    g = Graph(sizes)
    x = g.op("Relu", g.conv(g.image(8), 8, 16))
    x = g.op("Relu", g.conv(x, 16, 16, 3, group=4))
    return g.finish(g.conv(x, 16, 8))


def batch_normalisation(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.image()
    for kernel in (3, 1):
        x = g.conv(x, c, c, kernel, bias=False)
        scale, shift, mean = (g.vector(g.normal(c)) for _ in range(3))
        x = g.op("BatchNormalization", x, scale, shift, mean, g.vector(g.normal(c) ** 2 + 0.5), epsilon=1e-3)
        x = g.op("Relu", x)
    return g.finish(x)


def swish(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.image(), c, 12, 3)
    x = g.op("Mul", x, g.op("Sigmoid", x))
    x = g.conv(x, 12, 12)
    x = g.op("Mul", g.op("Sigmoid", x), x)
    return g.finish(g.conv(x, 12, c))


def leaky(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("LeakyRelu", g.conv(g.image(), c, 12, 3), alpha=0.1)
    x = g.op("PRelu", g.conv(x, 12, 12), g.vector(0.3 * g.normal(12, 1, 1)))
    return g.finish(g.conv(x, 12, c))


def windows(sizes):
    """Kernels, strides, dilations and pads that differ from axis to axis and from end to end."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, c, (1, 7)))
    x = g.op("Relu", g.conv(x, c, c, (7, 1), strides=[2, 1]))
    x = g.op("Relu", g.conv(x, c, c, 3, pads=[2, 0, 1, 3], dilations=[1, 2]))
    x = g.op("Relu", g.conv(x, c, c, 2, auto_pad="SAME_UPPER", strides=[2, 2]))
    return g.finish(g.conv(x, c, c, 3, auto_pad="SAME_LOWER"))


def max_pools(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.image(), c, c)
    whole = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])
    above = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    apart = g.op("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2])
    return g.finish(*(g.conv(y, c, c) for y in (whole, above, apart)))


def average_pools(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.image(), c, c)
    pools = [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 0, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    ]
    return g.finish(*(g.conv(g.op("AveragePool", x, **attributes), c, c) for attributes in pools))


def global_pools(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, c))
    largest = g.op("Flatten", g.op("GlobalMaxPool", x))
    mean = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    return g.finish(g.gemm(g.op("Concat", largest, mean, axis=1), 2 * c, 9))


def flatten_and_gemm(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, 4, 3, strides=[3, 3], pads=[0] * 4))
    features = 4 * ((sizes.height - 3) // 3 + 1) * ((sizes.width - 3) // 3 + 1)
    x = g.op("Relu", g.gemm(g.op("Flatten", x), features, 20))
    return g.finish(g.op("Softmax", g.gemm(x, 20, 10), axis=-1))


def pads(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, c))
    x = g.conv(g.op("Pad", x, g.ints(0, 0, 1, 2, 0, 0, 0, 1)), c, c, 3, pads=[0] * 4)
    x = g.conv(g.op("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"), c, c, 3, pads=[0] * 4)
    return g.finish(g.conv(g.op("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 0, 0), mode="edge"), c, c, 2, pads=[0] * 4))


def resizes(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, c))
    nearest = g.op("Resize", x, "", g.vector([1, 1, 2, 2]), mode="nearest")
    linear = g.op("Resize", x, "", g.vector([1, 1, 0.5, 1.5]), mode="linear")
    return g.finish(g.conv(nearest, c, c, 3), g.conv(linear, c, c, 3))


def channel_shuffle(sizes):
    """Split, one half through layers, both shuffled together."""
    g, c = Graph(sizes), 16
    x = g.op("Relu", g.conv(g.image(), sizes.channels, c))
    ends = (g.ints(0), g.ints(c // 2), g.ints(1)), (g.ints(c // 2), g.ints(c), g.ints(1))
    kept, changed = (g.op("Slice", x, *end) for end in ends)
    changed = g.conv(g.op("Relu", g.conv(changed, 8, 8)), 8, 8, 3, group=8)
    x = g.op("Concat", kept, g.op("Relu", g.conv(changed, 8, 8)), axis=1)
    x = g.op("Transpose", g.reshape(x, sizes.batch, 2, c // 2, sizes.height, sizes.width), perm=[0, 2, 1, 3, 4])
    return g.finish(g.conv(g.reshape(x, sizes.batch, c, sizes.height, sizes.width), c, 8))


def space_and_depth(sizes):
    g, c = Graph(sizes), sizes.channels
    x = g.conv(g.op("Relu", g.conv(g.image(), c, 16)), 16, 16)
    up = g.op("DepthToSpace", x, blocksize=2)
    return g.finish(g.conv(g.op("SpaceToDepth", g.conv(up, 4, 8, 3), blocksize=2), 32, 8))


def attention_over_pixels(sizes):
    """Pixels become tokens and pixels again."""
    g, c = Graph(sizes), sizes.channels
    x = g.op("Relu", g.conv(g.image(), c, 8, 3, strides=[2, 2]))
    rows, columns = -(-sizes.height // 2), -(-sizes.width // 2)
    tokens = g.op("Transpose", g.reshape(x, sizes.batch, 8, rows * columns), perm=[0, 2, 1])
    y = g.linear(g.layer_norm(tokens, 8), 8, 8)
    scores = g.op("Softmax", g.op("MatMul", y, g.op("Transpose", y, perm=[0, 2, 1])), axis=-1)
    y = g.linear(g.op("MatMul", scores, y), 8, 8)
    y = g.reshape(g.op("Transpose", y, perm=[0, 2, 1]), sizes.batch, 8, rows, columns)
    return g.finish(g.conv(g.op("Add", x, y), 8, c))
