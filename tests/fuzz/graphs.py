"""Random models: operators, attributes, sizes, quantisation, sharing, branches; one integer makes one model.

In *exact* models every scale is a power of two and every operator's arithmetic is exact in float32, so that whatever
engine runs them, in whatever order, must give the same bytes: rounding happens at the same places, half to even. In the
others scales are arbitrary and any operator may come.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Case", "make"]

_TYPES = {"f": TensorProto.FLOAT, "u8": TensorProto.UINT8, "s8": TensorProto.INT8}
_NUMPY = {"f": np.float32, "u8": np.uint8, "s8": np.int8}
#: An accumulator below this is exact in float32, too.
_EXACT_TERMS = 500


@dataclass(frozen=True)
class Value:
    """A tensor of the model under construction: bytes have a scale and a zero point, floats a typical size."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero: int = 0


@dataclass
class Case:
    """A model and feeds for some runs of it."""

    seed: int
    exact: bool
    model: onnx.ModelProto
    feeds: list[dict[str, np.ndarray]]
    operators: set[str] = field(default_factory=set)


def make(seed: int) -> Case:
    """Return the model that a number stands for."""
    return _Builder(seed).case()


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.exact = bool(self.rng.random() < 0.5)
        self.quantised = self.exact or bool(self.rng.random() < 0.5)
        self.images = bool(self.rng.random() < 0.7)
        self.opset = int(self.rng.choice([13, 17, 18, 21]))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[Value] = []
        self.values: list[Value] = []
        self.weights: list[tuple[tuple, tuple[str, float]]] = []
        self.count = 0

    # --- pieces -------------------------------------------------------------------------------------------------

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def chance(self, share):
        return bool(self.rng.random() < share)

    def pick(self, *choices):
        return choices[int(self.rng.integers(len(choices)))]

    def constant(self, kind, array):
        name = self.name(kind)
        self.constants[name] = np.asarray(array)
        return name

    def node(self, op_type, inputs, outputs=1, domain="", **attributes):
        names = [self.name("v") for _ in range(outputs)]
        name = self.name(op_type) if self.chance(0.9) else ""
        self.nodes.append(helper.make_node(op_type, inputs, names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def scale(self, size):
        """Return a scale with which bytes hold numbers of about `size`."""
        wanted = max(float(size), 1e-6) / 48
        if self.exact:
            return float(2.0 ** np.round(np.log2(wanted)))
        # Equal scales would make exact ties common, which the order of a sum decides.
        return float(np.float32(wanted * self.rng.uniform(0.8, 1.25)))

    def zero(self, dtype):
        if dtype == "u8":
            return self.pick(128, 128, 0, 3, 255, int(self.rng.integers(256)))
        return self.pick(0, 0, -128, 127, int(self.rng.integers(-128, 128)))

    def quantisation(self, value):
        kind = _NUMPY[value.dtype]
        return [self.constant("s", np.float32(value.scale)), self.constant("z", kind(value.zero))]

    def to_float(self, value):
        """Return the name of the value as floats."""
        if value.dtype == "f":
            return value.name
        return self.node("DequantizeLinear", [value.name, *self.quantisation(value)])

    def emit(self, name, shape, size):
        """Register what an operator wrote: as it is, or quantised."""
        if self.quantised and (self.exact or self.chance(0.9)):
            dtype = self.pick("u8", "u8", "s8")
            value = Value("", shape, dtype, self.scale(size), self.zero(dtype))
            if self.chance(0.1):
                name = self.node("Relu", [name])
            written = self.node("QuantizeLinear", [name, *self.quantisation(value)])
            value = Value(written, shape, dtype, value.scale, value.zero)
        else:
            value = Value(name, shape, "f", float(size))
        self.values.append(value)
        return value

    def size(self, value):
        """Return how large the value's numbers typically are."""
        return value.scale * 48 if value.dtype != "f" else value.scale

    def source(self, rank=None):
        """Return a value, mostly a late one."""
        found = [value for value in self.values if rank is None or len(value.shape) == rank]
        if not found:
            return None
        return found[-1] if self.chance(0.7) else self.pick(*found)

    # --- weights ------------------------------------------------------------------------------------------------

    def weight(self, shape, axis, fan, channel_axis):
        """Return the name of a weight as floats, and its typical size; groups of four run along `axis`."""
        key = (shape, axis, channel_axis)
        shared = [found for known, found in self.weights if known == key]
        if shared and self.chance(0.3):
            return self.pick(*shared)
        if self.quantised and (self.exact or self.chance(0.9)):
            limit = 15 if self.exact else 127
            array = self.rng.integers(-limit, limit + 1, shape).astype(np.int8)
        else:
            array = (self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        self._thin_out(array, axis)
        if array.dtype == np.float32:
            found = self.constant("w", array), float(1 / np.sqrt(fan))
        else:
            per_channel = self.chance(0.6)
            count = shape[channel_axis]
            base = self.scale(48.0 / (limit * np.sqrt(fan)))
            scales = np.full(count if per_channel else (), base, np.float32)
            if per_channel:
                scales *= (2.0 ** self.rng.integers(-1, 2, count)).astype(np.float32)
            zeros = np.zeros(count, np.int8) if per_channel else np.int8(0)
            names = [self.constant("w", array), self.constant("s", scales), self.constant("z", zeros)]
            attributes = {"axis": channel_axis} if per_channel else {}
            found = self.node("DequantizeLinear", names, **attributes), float(base * limit / 2)
        self.weights.append((key, found))
        return found

    def _thin_out(self, array, axis):
        kind = self.pick("2:4", "2:4", "2:4", "2:4", "dense", "one too many", "zeros", "1:4")
        if kind == "dense":
            return
        view = np.moveaxis(array, axis, -1)
        if kind == "zeros":
            view[...] = 0
            return
        kept = 1 if kind == "1:4" else 2
        channels = view.shape[-1]
        order = self.rng.random((*view.shape[:-1], -(-channels // 4), 4)).argsort(-1)
        mask = (order < kept).reshape(*view.shape[:-1], -1)[..., :channels]
        view *= mask.astype(array.dtype)
        if kind == "one too many" and channels >= 3:
            view[(0,) * (view.ndim - 1)][:3] = 1

    def bias(self, count, size, fan, x, weight_size):
        """Return bias names: none, floats, or floats that are whole multiples of a small step."""
        if self.chance(0.4):
            return []
        numbers = self.rng.standard_normal(count) * size
        if self.exact:
            step = 2.0**-6
            numbers = np.round(numbers / step).clip(-2000, 2000) * step
        return [self.constant("b", numbers.astype(np.float32))]

    # --- operators ----------------------------------------------------------------------------------------------

    def conv(self):
        x = self.source(4)
        if x is None:
            return
        _, channels, height, width = x.shape
        kernel = self.pick(1, 1, 3, 3, 3, 5, 2)
        dilation = self.pick(1, 1, 1, 2)
        pads = [int(p) for p in self.rng.integers(0, kernel, 4)] if self.chance(0.5) else [kernel // 2] * 4
        reach = dilation * (kernel - 1) + 1
        if height + pads[0] + pads[2] < reach or width + pads[1] + pads[3] < reach:
            return
        stride = self.pick(1, 1, 1, 2)
        depthwise = self.chance(0.15)
        out = channels if depthwise else self.channels()
        fan = kernel * kernel * (1 if depthwise else channels)
        if self.exact and fan * 15 > 15 * _EXACT_TERMS * 2:
            return
        shape = (out, 1 if depthwise else channels, kernel, kernel)
        w, weight_size = self.weight(shape, 1, fan, 0)
        size = self.size(x) * weight_size * np.sqrt(fan / 2)
        inputs = [self.to_float(x), w, *self.bias(out, size / 2, fan, x, weight_size)]
        attributes = {"pads": pads} if any(pads) or self.chance(0.5) else {}
        if self.chance(0.2):
            attributes = {"auto_pad": self.pick("SAME_UPPER", "SAME_LOWER", "VALID")}
            if attributes["auto_pad"] == "VALID" and (height < reach or width < reach):
                return
        if dilation > 1:
            attributes["dilations"] = [dilation] * 2
        if stride > 1:
            attributes["strides"] = [stride, self.pick(1, stride)]
        if depthwise:
            attributes["group"] = channels
        if self.chance(0.5):
            attributes["kernel_shape"] = [kernel] * 2
        y = self.node("Conv", inputs, **attributes)
        self.emit(y, self._conv_shape(x.shape, out, kernel, attributes), size)

    def _conv_shape(self, shape, out, kernel, attributes):
        strides = attributes.get("strides", [1, 1])
        dilations = attributes.get("dilations", [1, 1])
        pads = attributes.get("pads", [0] * 4)
        sizes = []
        for axis in range(2):
            size, reach = shape[2 + axis], dilations[axis] * (kernel - 1) + 1
            if attributes.get("auto_pad", "VALID").startswith("SAME"):
                sizes.append(-(-size // strides[axis]))
            else:
                sizes.append((size + pads[axis] + pads[axis + 2] - reach) // strides[axis] + 1)
        return (shape[0], out, *sizes)

    def conv_transpose(self):
        x = self.source(4)
        if x is None or self.exact or x.shape[2] * x.shape[3] > 400:
            return
        batch, channels, height, width = x.shape
        out, kernel, stride = self.channels(), self.pick(1, 2, 3), self.pick(1, 2)
        w, weight_size = self.weight((channels, out, kernel, kernel), 0, kernel * kernel * channels, 1)
        size = self.size(x) * weight_size * np.sqrt(channels)
        y = self.node("ConvTranspose", [self.to_float(x), w], strides=[stride] * 2)
        shape = (batch, out, (height - 1) * stride + kernel, (width - 1) * stride + kernel)
        self.emit(y, shape, size)

    def channels(self):
        return self.pick(8, 16, 16, 24, 32, 32, 48, 64, 64, 5, 12, 20, 33)

    def matmul(self):
        x = self.source(self.pick(2, 3))
        if x is None:
            return
        k = x.shape[-1]
        n = self.channels()
        if self.exact and k > _EXACT_TERMS:
            return
        w, weight_size = self.weight((k, n), 0, k, 1)
        size = self.size(x) * weight_size * np.sqrt(k / 2)
        y = self.node("MatMul", [self.to_float(x), w])
        if self.chance(0.5):
            y = self.node(
                "Add", [y, *(self.bias(n, size / 2, k, x, weight_size) or [self.constant("b", np.float32(1))])]
            )
        self.emit(y, (*x.shape[:-1], n), size)

    def left_matmul(self):
        x = self.source(2)
        if x is None or self.exact:
            return
        k, columns = x.shape
        n = self.channels()
        w, weight_size = self.weight((n, k), 1, k, 0)
        y = self.node("MatMul", [w, self.to_float(x)])
        if self.chance(0.4):
            shape = self.pick((), (columns,), (n, 1), (1, columns), (n, columns))
            y = self.node("Add", [y, self.constant("b", self.rng.standard_normal(shape).astype(np.float32))])
        self.emit(y, (n, columns), self.size(x) * weight_size * np.sqrt(k / 2))

    def gemm(self):
        x = self.source(2)
        if x is None:
            return
        rows, k = x.shape
        n, trans = self.channels(), self.chance(0.5)
        if self.exact and k > _EXACT_TERMS:
            return
        w, weight_size = self.weight((n, k) if trans else (k, n), 1 if trans else 0, k, 0 if trans else 1)
        size = self.size(x) * weight_size * np.sqrt(k / 2)
        inputs = [self.to_float(x), w]
        attributes = {"transB": 1} if trans else {}
        if self.chance(0.6):
            shape = self.pick((n,), (1, n), (1,), ())
            step = 2.0**-6
            inputs.append(
                self.constant("b", (np.round(self.rng.standard_normal(shape) / step) * step).astype(np.float32))
            )
        if self.chance(0.2):
            attributes["alpha"] = self.pick(0.5, 2.0, -1.0)
        if self.chance(0.2) and len(inputs) == 3:
            attributes["beta"] = self.pick(0.5, 2.0, 0.0)
        self.emit(self.node("Gemm", inputs, **attributes), (rows, n), size)

    def add(self):
        x = self.source()
        others = [value for value in self.values if value.shape == x.shape and value.name != x.name]
        other = self.pick(*others) if others else x
        operands = [self.to_float(x), self.to_float(other)]
        self.rng.shuffle(operands)
        y = self.node("Add", operands)
        if self.chance(0.3):
            y = self.node("Relu", [y])
        self.emit(y, x.shape, 1.4 * max(self.size(x), self.size(other)))

    def residual(self):
        """Add an input of the model, which no step of ours has written."""
        x = self.source(self.pick(2, 4))
        if x is None or len(self.inputs) > 3:
            return
        other = self.input_like(x.shape)
        operands = [self.to_float(x), self.to_float(other)]
        self.rng.shuffle(operands)
        self.emit(self.node("Add", operands), x.shape, 1.4 * max(self.size(x), self.size(other)))

    def island(self):
        """An operator that stays with onnxruntime."""
        x = self.source()
        limit = np.float32(np.round(self.rng.standard_normal() * 4) / 4)
        y = self.node(self.pick("Max", "Min"), [self.to_float(x), self.constant("c", limit)])
        self.emit(y, x.shape, self.size(x))

    def bottleneck(self):
        """Convolutions of 1x1 and 3x3 in a row, with a residual, as networks have them."""
        x = self.source(4)
        if x is None:
            return
        for _ in range(self.pick(2, 3)):
            self.conv()
            if self.chance(0.4):
                self.pick(self.add, self.residual)()

    def broadcast(self):
        x = self.source()
        kind = self.pick("Add", "Mul", "Sub") if not self.exact else "Add"
        shape = [size if self.chance(0.5) else 1 for size in x.shape][int(self.rng.integers(len(x.shape) + 1)) :]
        numbers = self.rng.standard_normal(shape)
        if self.exact:
            numbers = np.round(numbers * 64) / 64
        operands = [self.to_float(x), self.constant("c", numbers.astype(np.float32))]
        if self.chance(0.3):
            operands.reverse()
        self.emit(self.node(kind, operands), x.shape, self.size(x) + 1)

    def pointwise(self):
        x = self.source()
        exact = ("Relu", "Identity", "Clip", "Neg", "Abs")
        kind = (
            self.pick(*exact)
            if self.exact
            else self.pick(
                *exact, "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Elu", "Softplus", "HardSigmoid", "Sin", "Gelu"
            )
        )
        if (kind == "HardSwish" and self.opset < 14) or (kind == "Gelu" and self.opset < 20):
            return
        inputs = [self.to_float(x)]
        if kind == "Clip":
            low, high = sorted(np.round(self.rng.standard_normal(2) * self.size(x) * 4) / 4)
            bounds = [np.float32(low), np.float32(high)]
            inputs += [self.constant("c", bound) if self.chance(0.8) else "" for bound in bounds]
        self.emit(self.node(kind, inputs), x.shape, self.size(x))

    def bytewise(self):
        """An operator on bytes as they are."""
        x = self.source(4)
        if x is None or min(x.shape[2:]) < 3:
            return
        kernel, stride = self.pick(2, 3), self.pick(1, 2)
        pads = self.pick([0] * 4, [kernel // 2] * 4, [0, 0, 1, 1])
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        if self.chance(0.6):
            shape = self._conv_shape(x.shape, x.shape[1], kernel, attributes)
            self.emit(self.node("MaxPool", [self.to_float(x)], **attributes), shape, self.size(x))
        elif not self.exact:
            shape = self._conv_shape(x.shape, x.shape[1], kernel, attributes)
            attributes["count_include_pad"] = self.pick(0, 1)
            self.emit(self.node("AveragePool", [self.to_float(x)], **attributes), shape, self.size(x))

    def concat(self):
        x = self.source()
        axis = int(self.rng.integers(1, len(x.shape)))
        same = [v for v in self.values if len(v.shape) == len(x.shape) and v.shape[:axis] == x.shape[:axis]]
        same = [v for v in same if v.shape[axis + 1 :] == x.shape[axis + 1 :]]
        chosen = [x, *(self.pick(*same) for _ in range(self.pick(1, 1, 2)))]
        shape = (*x.shape[:axis], sum(v.shape[axis] for v in chosen), *x.shape[axis + 1 :])
        if np.prod(shape) > 200_000:
            return
        y = self.node("Concat", [self.to_float(v) for v in chosen], axis=self.pick(axis, axis - len(x.shape)))
        self.emit(y, shape, max(map(self.size, chosen)))

    def reshape(self):
        x = self.source()
        kind = self.pick("flatten", "transpose", "reshape", "pool")
        name = self.to_float(x)
        if kind == "flatten":
            shape = (x.shape[0], int(np.prod(x.shape[1:])))
            y = self.node("Flatten", [name])
        elif kind == "transpose":
            perm = [0, *(1 + self.rng.permutation(len(x.shape) - 1)).tolist()]
            shape = tuple(x.shape[axis] for axis in perm)
            y = self.node("Transpose", [name], perm=perm)
        elif kind == "reshape":
            shape = (x.shape[0], x.shape[1], int(np.prod(x.shape[2:])))
            y = self.node("Reshape", [name, self.constant("r", np.array([0, x.shape[1], -1], np.int64))])
        elif len(x.shape) == 4 and not self.exact:
            shape = (*x.shape[:2], 1, 1)
            y = self.node("GlobalAveragePool", [name])
        else:
            return
        self.emit(y, shape, self.size(x))

    def normalise(self):
        x = self.source()
        if self.exact or x.shape[-1] < 2:
            return
        if self.chance(0.5) or self.opset < 17:
            self.emit(self.node("Softmax", [self.to_float(x)], axis=-1), x.shape, 1.0)
            return
        gamma = self.constant("g", self.rng.standard_normal(x.shape[-1]).astype(np.float32))
        beta = self.constant("g", self.rng.standard_normal(x.shape[-1]).astype(np.float32))
        self.emit(self.node("LayerNormalization", [self.to_float(x), gamma, beta], axis=-1), x.shape, 1.0)

    def branch(self):
        """An If on a constant-free condition, whose branches read a value from outside and hold a layer."""
        x = self.source(2)
        if x is None or self.exact:
            return
        name = self.to_float(x)
        total = self.node("ReduceSum", [name], keepdims=0)
        condition = self.node("Greater", [total, self.constant("c", np.float32(0))])
        n = self.channels()
        branches = {}
        for side in ("then_branch", "else_branch"):
            w, _ = self.weight((x.shape[1], n), 0, x.shape[1], 1)
            y = self.name("v")
            node = helper.make_node("MatMul", [name, w], [y], name=self.name("MatMul"))
            branches[side] = helper.make_graph([node], side, [], [helper.make_tensor_value_info(y, 1, None)])
        self.emit(self.node("If", [condition], **branches), (x.shape[0], n), self.size(x))

    # --- whole --------------------------------------------------------------------------------------------------

    def input_like(self, shape):
        dtype = self.pick("u8", "s8") if self.quantised and (self.exact or self.chance(0.5)) else "f"
        scale = self.scale(1.0) if dtype != "f" else 1.0
        value = Value(self.name("x"), shape, dtype, scale, self.zero(dtype) if dtype != "f" else 0)
        self.inputs.append(value)
        self.values.insert(0, value)
        return value

    def input(self):
        batch = self.pick(1, 1, 2, 3)
        if self.images:
            side = self.pick(1, 4, 7, 8, 14, 15, 16, 28, 12)
            shape = (batch, self.channels(), side, self.pick(side, side, self.pick(4, 7, 10, 28)))
        else:
            shape = (batch * self.pick(1, 5, 24, 33), self.channels() * self.pick(1, 2, 4))
            if self.chance(0.3):
                shape = (batch, self.pick(1, 7, 24), shape[1])
        self.input_like(shape)

    def case(self):
        for _ in range(self.pick(1, 1, 2)):
            self.input()
        image = (self.conv, self.conv, self.bottleneck, self.bytewise, self.conv_transpose)
        rows = (self.matmul, self.matmul, self.gemm, self.gemm, self.left_matmul, self.branch)
        both = (
            self.add,
            self.residual,
            self.island,
            self.broadcast,
            self.pointwise,
            self.concat,
            self.reshape,
            self.normalise,
        )
        for _ in range(self.pick(2, 4, 8, 14)):
            before = len(self.nodes), len(self.values)
            self.pick(*(image * 2 if self.images else rows * 2), *rows, *both)()
            if len(self.values) == before[1]:
                del self.nodes[before[0] :]
        self._ensure_layer()
        return self._finish()

    def _ensure_layer(self):
        """Add a layer of the kind that fits, so that no model is without."""
        for _ in range(4):
            if any(node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose") for node in self.nodes):
                return
            (self.conv if len(self.values[-1].shape) == 4 else self.matmul)()

    def _finish(self):
        read = {name for node in self.nodes for name in node.input}
        produced = [value for value in self.values if value not in self.inputs]
        outputs = [value for value in produced if value.name not in read or self.chance(0.1)][-6:] or produced[-1:]
        if not outputs:
            name = self.node("Identity", [self.inputs[0].name])
            outputs = [Value(name, self.inputs[0].shape, self.inputs[0].dtype)]
        open_batch = self.chance(0.4)
        graph = helper.make_graph(
            self._ordered(),
            "fuzz",
            [self._declared(value, open_batch) for value in self.inputs],
            [helper.make_tensor_value_info(value.name, _TYPES[value.dtype], None) for value in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8 if self.opset < 19 else 9)
        operators = {node.op_type for node in self.nodes}
        return Case(self.seed, self.exact, model, self._feeds(open_batch), operators)

    def _ordered(self):
        if self.chance(0.9):
            return self.nodes
        nodes = list(self.nodes)
        self.rng.shuffle(nodes)
        return nodes

    def _declared(self, value, open_batch):
        shape = ["batch", *value.shape[1:]] if open_batch else value.shape
        return helper.make_tensor_value_info(value.name, _TYPES[value.dtype], shape)

    def _feeds(self, open_batch):
        runs = []
        for _ in range(2):
            feeds = {value.name: self._array(value) for value in self.inputs}
            runs.append(feeds)
        same_batch = len({value.shape[0] for value in self.inputs}) == 1  # a row may be a sample, or a channel
        flexible = open_batch and same_batch and "If" not in {node.op_type for node in self.nodes}
        if flexible:
            runs.append({value.name: np.repeat(self._array(value), 2, axis=0) for value in self.inputs})
        return runs

    def _array(self, value):
        if value.dtype == "f":
            return self.rng.standard_normal(value.shape).astype(np.float32)
        limits = np.iinfo(_NUMPY[value.dtype])
        return self.rng.integers(limits.min, limits.max + 1, value.shape).astype(_NUMPY[value.dtype])
