"""Random quantised networks over images, of sizes that reach every layout and tile, whose arithmetic is exact.

All scales are powers of two and all sums fit 24 bits, so floats round nothing: stock onnxruntime without optimisation,
which computes quantised layers in float32, has one right answer to the bit.
"""

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
#: Those that fill blocks and tiles, and others.
_CHANNELS = {True: (16, 16, 32, 32, 48, 64), False: (16, 32, 8, 24, 12, 20, 40, 5)}
_SIZES = {True: (4, 7, 8, 14, 16, 20, 28, 32, 40, 56), False: (1, 2, 3, 5, 6, 9, 10, 12, 13, 15, 21, 27)}
PRODUCERS = ("any", "same", "input", "island", "constant", "conv", "depthwise", "pool", "concat", "add")
#: Multiply-accumulates of one layer.
_MOST_WORK = 20_000_000


@dataclass(frozen=True)
class Bytes:
    """A value of bytes: (c, h, w) without the batch, and what it stands for, ``(byte - zero_point) * 2**exponent``."""

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    exponent: int
    zero_point: int
    kind: str
    batched: bool = True


@dataclass
class Network:
    """A network in the making.

    Attributes
    ----------
    batch
        Of its inputs.
    even
        Whether most sizes fill blocks and tiles.
    values
        All that a next layer may read.
    inputs
        Those that are fed.
    """

    rng: np.random.Generator
    batch: int
    even: bool
    dtypes: tuple[np.dtype, ...]
    values: list[Bytes] = field(default_factory=list)
    inputs: list[Bytes] = field(default_factory=list)
    nodes: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    _count: int = 0

    # --- pieces

    def name(self, kind):
        self._count += 1
        return f"{kind}{self._count}"

    def pick(self, choices, weights=None):
        p = None if weights is None else np.array(weights) / sum(weights)
        return choices[int(self.rng.choice(len(choices), p=p))]

    def chance(self, p):
        return self.rng.random() < p

    def channels(self):
        return int(self.pick(_CHANNELS[self.even != self.chance(0.05)]))

    def const(self, array):
        name = self.name("const")
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op_type, inputs, kind=None, **attributes):
        name = self.name(kind or op_type)
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_y"], name=name, **attributes))
        return f"{name}_y"

    def zero_point(self, dtype):
        info = np.iinfo(dtype)
        middle = 128 if info.min == 0 else 0
        return int(self.pick((middle, info.min, info.max, int(self.rng.integers(info.min, info.max))), (4, 3, 1, 3)))

    def floats(self, value):
        """Dequantise, now and then by another zero point than the value was quantised with."""
        self.read.add(value.name)
        zero_point = self.zero_point(value.dtype) if self.chance(0.04) else value.zero_point
        scale, zero = np.float32(2.0**value.exponent), np.array(zero_point, value.dtype)
        return self.node("DequantizeLinear", [value.name, self.const(scale), self.const(zero)])

    def quantised(self, x, shape, exponent, kind, dtype=None, zero_point=None, batched=True):
        """Quantise a float value, perhaps after a clip; add it to the values."""
        dtype = np.dtype(dtype or self.pick(self.dtypes))
        zero_point = self.zero_point(dtype) if zero_point is None else zero_point
        scale, zero = np.float32(2.0**exponent), np.array(zero_point, dtype)
        y = self.node("QuantizeLinear", [x, self.const(scale), self.const(zero)])
        return self.known(Bytes(y, shape, dtype, exponent, zero_point, kind, batched))

    def known(self, value):
        self.values.append(value)
        return value

    def clipped(self, x, exponent):
        """Perhaps a Relu or Clip, now and then one that leaves zero out."""
        choice = self.pick(("none", "relu", "clip", "high"), (5, 4, 1, 0.5))
        if choice == "relu":
            return self.node("Relu", [x])
        if choice == "none":
            return x
        low, high = (-20, 50) if choice == "clip" else (5, 60)
        bounds = [self.const(np.float32(bound * 2.0**exponent)) for bound in (low, high)]
        return self.node("Clip", [x, *bounds])

    # --- what writes values

    def input(self, shape):
        dtype = np.dtype(self.pick(self.dtypes))
        value = Bytes(self.name("x"), shape, dtype, -4, self.zero_point(dtype), "input")
        self.inputs.append(value)
        return self.known(value)

    def constant(self, shape):
        dtype = np.dtype(self.pick(self.dtypes))
        info, batched = np.iinfo(dtype), self.chance(0.7)
        array = self.rng.integers(info.min, info.max, (self.batch if batched else 1, *shape), dtype, endpoint=True)
        name = self.const(array)
        return self.known(Bytes(name, shape, dtype, -4, self.zero_point(dtype), "constant", batched))

    def island(self, x):
        """Abs, which onnxruntime computes."""
        return self.quantised(self.node("Abs", [self.floats(x)]), x.shape, x.exponent, "island", batched=x.batched)

    def weight(self, n, c, kernel, most):
        w = self.rng.integers(-most, most, (n, -(-c // 4), 4, *kernel), np.int8, endpoint=True)
        ranks = self.rng.permuted(np.broadcast_to(np.arange(4).reshape(4, *[1] * len(kernel)), w.shape), axis=2)
        w = np.where(ranks < 2, w, 0).reshape(n, -1, *kernel)[:, :c]
        return np.ascontiguousarray(w, np.int8)

    def conv(self, x, n=None, same=False, kind="conv", size=None):
        """A convolution; `same` for one that keeps rows and columns, `size` for one of size x size."""
        c, height, width = x.shape
        depthwise = kind == "depthwise"
        n = c if depthwise else n or self.channels()
        while True:
            side = size or self.pick((1, 3, 5, 2), (6, 6, 1, 1) if not depthwise else (0, 6, 1, 0))
            kernel = (side, side) if size or self.chance(0.9) else (1, 3)
            strides = (1, 1) if same else self.pick(((1, 1), (2, 2), (2, 1), (1, 2), (3, 1)), (7, 2, 0.4, 0.4, 0.2))
            dilations = self.pick(((1, 1), (2, 2), (1, 3)), (9, 1, 0.3))
            reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
            pads = [reach[0] // 2, reach[1] // 2, -(-reach[0] // 2), -(-reach[1] // 2)]
            if not same:
                other = (
                    [0, 0, 0, 0] if self.chance(0.5) else [int(self.rng.integers(0, k + 2)) for k in (*kernel, *kernel)]
                )
                pads = self.pick((pads, other), (3, 1))
            out = [
                (rows + pads[axis] + pads[axis + 2] - reach[axis] - 1) // strides[axis] + 1
                for axis, rows in enumerate((height, width))
            ]
            inner = 1 if depthwise else c
            if min(out) > 0 and np.prod(out) * n * inner * np.prod(kernel) <= _MOST_WORK:
                break
            if same or depthwise:
                kernel_fits = min(out) > 0
                if kernel_fits:
                    break
            n = max(1, n // 2) if not depthwise and not same else n
        products = inner * int(np.prod(kernel))
        most = int(min(self.pick((3, 15, 127)), 2**23 // (255 * products), 127)) or 1
        w = (
            self.weight(n, inner, kernel, most)
            if not depthwise
            else self.rng.integers(-most, most, (n, 1, *kernel), np.int8, endpoint=True)
        )
        exponents = self.rng.integers(-8, -5, n) if self.chance(0.7) else np.full(n, -7)
        scales = (2.0**exponents).astype(np.float32)
        spread = 80.0 * most * 0.6 * np.sqrt(products)
        floats = self.node(
            "DequantizeLinear", [self.const(w), self.const(scales), self.const(np.zeros(n, np.int8))], axis=0
        )
        inputs = [self.floats(x), floats]
        if self.chance(0.7):
            bias = self.rng.integers(-int(spread), int(spread) + 1, n).astype(np.int32)
            scale = (scales * np.float32(2.0**x.exponent)).astype(np.float32)
            zeros = self.const(np.zeros(n, np.int32))
            inputs.append(self.node("DequantizeLinear", [self.const(bias), self.const(scale), zeros], axis=0))
        y = self.node(
            "Conv", inputs, kind, pads=pads, strides=strides, dilations=dilations, group=n if depthwise else 1
        )
        exponent = x.exponent - 7 + int(np.round(np.log2(spread / 40)))
        return self.quantised(self.clipped(y, exponent), (n, *out), exponent, kind, batched=x.batched)

    def pool(self, x, same=False):
        c, height, width = x.shape
        stride = 1 if same or self.chance(0.5) else 2
        y = self.node("MaxPool", [self.floats(x)], kernel_shape=[3, 3], strides=[stride] * 2, pads=[1, 1, 1, 1])
        shape = (c, (height - 1) // stride + 1, (width - 1) // stride + 1)
        return self.quantised(y, shape, x.exponent, "pool", x.dtype, x.zero_point, x.batched)

    def average(self, x):
        c, height, width = x.shape
        if min(height, width) < 2:
            return self.pool(x)
        y = self.node("AveragePool", [self.floats(x)], kernel_shape=[2, 2], strides=[2, 2])
        return self.quantised(y, (c, height // 2, width // 2), x.exponent, "average", x.dtype, None, x.batched)

    def concat(self, parts):
        if self.batch > 1:  # Concat does not broadcast
            parts = [part if part.batched else self.input(part.shape) for part in parts]
        exponent = max(part.exponent for part in parts)
        y = self.node("Concat", [self.floats(part) for part in parts], axis=1)
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        return self.quantised(y, shape, exponent, "concat", batched=True)

    def add(self, a, b):
        exponent = max(a.exponent, b.exponent) + int(self.rng.integers(0, 2))
        operands = [self.floats(a), self.floats(b)]
        y = self.clipped(self.node("Add", operands), exponent)
        return self.quantised(y, a.shape, exponent, "add", batched=a.batched or b.batched)

    def partner(self, x, kind=None):
        """A second operand for an Add, from any kind of producer, or that of :data:`PRODUCERS`."""
        c = x.shape[0]
        alike = [value for value in self.values if value.shape == x.shape]
        sources = [value for value in self.values if value.shape[1:] == x.shape[1:]]
        kind = kind or self.pick(PRODUCERS, (6, 0.5, 2, 2, 1, 5, 1, 1, 1, 1))
        if kind == "any":
            return self.pick(alike)
        if kind == "same":
            return x
        if kind == "constant":
            return self.constant(x.shape)
        if kind == "input":
            return self.input(x.shape)
        if kind == "conv":
            return self.conv(self.pick(sources), c, same=True)
        if kind == "concat" and c % 2 == 0:
            return self.concat([self.conv(self.pick(sources), c // 2, same=True) for _ in range(2)])
        one = self.pick(alike)
        if kind == "island":
            return self.island(one)
        if kind == "depthwise":
            return self.conv(one, same=True, kind="depthwise")
        return self.add(one, self.pick(alike)) if kind == "add" else self.pool(one, same=True)

    def step(self):
        x = self.pick(self.values[-4:] if self.chance(0.7) else self.values)
        kind = self.pick(
            ("conv", "residual", "depthwise", "pool", "average", "concat", "island"), (8, 8, 1, 1, 0.5, 1, 1)
        )
        if kind == "residual":
            own = self.conv(x, same=self.chance(0.8))
            pair = [own, self.partner(own)]
            total = self.add(*(pair if self.chance(0.5) else pair[::-1]))
            if self.chance(0.6):
                self.conv(total)
        elif kind == "conv":
            self.conv(x)
        elif kind == "concat":
            self.concat([x, self.partner(x)])
        elif kind == "depthwise":
            self.conv(x, kind=kind)
        else:
            {"pool": self.pool, "average": self.average, "island": self.island}[kind](x)

    # --- the whole

    def model(self, symbolic=False):
        """The model, whose outputs are what nobody reads and some other values."""
        outputs = [value for value in self.values if value.name not in self.read or self.chance(0.15)]
        outputs = [value for value in outputs if value.kind not in ("input", "constant")]
        inputs = [value for value in self.inputs if value.name in self.read]
        batch = "n" if symbolic else self.batch

        def described(value, shape):
            return helper.make_tensor_value_info(value.name, _TYPES[value.dtype], shape)

        def sizes(value):
            c, height, width = value.shape
            return (batch, c, f"h{height}", f"w{width}") if symbolic else (batch, c, height, width)

        graph = helper.make_graph(
            self.nodes,
            "generated",
            [described(value, sizes(value)) for value in inputs],
            [described(value, None) for value in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    def feeds(self, batch=None, larger=0):
        """Bytes for all inputs, with more rows and columns of images if that is asked for."""
        found = {}
        for value in self.inputs:
            if value.name in self.read:
                info, (c, height, width) = np.iinfo(value.dtype), value.shape
                shape = (batch or self.batch, c, height + larger, width + larger)
                found[value.name] = self.rng.integers(info.min, info.max, shape, value.dtype, endpoint=True)
        return found


def generate(seed, symbolic=False):
    """Return a network of a few to a dozen layers."""
    rng = np.random.default_rng(seed)
    both = (np.dtype(np.uint8), np.dtype(np.int8))
    dtypes = (both[:1], both[1:], both)[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    net = Network(rng, int(rng.choice((1, 2, 3), p=(0.6, 0.3, 0.1))), bool(rng.random() < 0.75), dtypes)
    height, width = (int(rng.choice(_SIZES[net.even])) for _ in range(2))
    net.input((net.channels(), height, height if net.chance(0.5) else width))
    for _ in range(int(rng.integers(2, 8))):
        net.step()
    return net
