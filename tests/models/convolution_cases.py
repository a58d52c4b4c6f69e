"""Convolutions with every attribute that ONNX knows, as models of small integers, so that all sums are exact."""

import itertools
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

#: Operators, by how the layer is written.
FORMS = ("Conv", "ConvTranspose", "QDQ Conv", "QDQ ConvTranspose", "QLinearConv", "ConvInteger")
TRANSPOSED = ("ConvTranspose", "QDQ ConvTranspose")
SIZES = range(1, 10)
#: Of the weight: 2:4, or those for which kernels of ours run dense ones, and others.
WEIGHTS = ("sparse", "depthwise", "few channels", "grouped")
_CHANNELS = 8
_OUT = {"sparse": 6, "depthwise": _CHANNELS, "few channels": 16, "grouped": 6}
_GROUPS = {"sparse": 1, "depthwise": _CHANNELS, "few channels": 1, "grouped": 2}


@dataclass(frozen=True)
class Axis:
    """The attributes of one axis; `output_shape` is told as a difference from the size that pads of 0 would give."""

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int] = (0, 0)
    output_padding: int = 0
    output_shape: int | None = None


@dataclass(frozen=True)
class Case:
    """One layer.

    Attributes
    ----------
    form
        Of :data:`FORMS`.
    axes
        One or two.
    auto_pad
        "" where the attribute is absent.
    spells_all
        Whether attributes are written that have their default values.
    batch, signed
        Of the input.
    weight
        Of :data:`WEIGHTS`. Beside a layer whose weight is not sparse stands one that is, else no step is ours.
    """

    form: str
    axes: tuple[Axis, ...]
    auto_pad: str = ""
    spells_all: bool = True
    batch: int = 1
    signed: bool = False
    weight: str = "sparse"

    @property
    def dtype(self):
        """Of what is fed."""
        if self.form in ("Conv", "ConvTranspose"):
            return np.dtype(np.float32)
        return np.dtype(np.int8 if self.signed else np.uint8)

    def shape(self, sizes):
        """Of the input."""
        return (self.batch, _CHANNELS, *sizes)

    def feed(self, sizes, seed=0):
        """Small integers."""
        low = 0 if self.dtype == np.uint8 else -9
        return np.random.default_rng(seed).integers(low, 10, self.shape(sizes)).astype(self.dtype)

    def attributes(self, sizes):
        """Of the node; sizes matter to `output_shape` alone."""
        found = {
            "kernel_shape": [axis.kernel for axis in self.axes],
            "strides": [axis.stride for axis in self.axes],
            "dilations": [axis.dilation for axis in self.axes],
            "pads": [pad for end in (0, 1) for pad in (axis.pads[end] for axis in self.axes)],
            "group": _GROUPS[self.weight],
        }
        defaults = {**found, "group": 1, **{name: [1] * len(self.axes) for name in ("strides", "dilations")}}
        defaults["pads"] = [0] * 2 * len(self.axes)
        if self.form in TRANSPOSED:
            found["output_padding"] = [axis.output_padding for axis in self.axes]
            defaults["output_padding"] = [0] * len(self.axes)
            if any(axis.output_shape is not None for axis in self.axes):
                found["output_shape"] = [
                    axis.stride * (size - 1) + (axis.kernel - 1) * axis.dilation + 1 + (axis.output_shape or 0)
                    for axis, size in zip(self.axes, sizes, strict=True)
                ]
        if not self.spells_all:
            found = {name: value for name, value in found.items() if value != defaults.get(name)}
        if self.auto_pad:
            found["auto_pad"] = self.auto_pad
            if self.auto_pad != "NOTSET":
                found.pop("pads", None)
        return found

    def model(self, sizes, declared):
        """The model for images of `sizes`; `declared` are those that it declares, ints or names."""
        rng, out, group = np.random.default_rng(1), _OUT[self.weight], _GROUPS[self.weight]
        kernel = [axis.kernel for axis in self.axes]
        transposed = self.form in TRANSPOSED
        lead = (out // group, _CHANNELS) if transposed else (out, _CHANNELS // group)
        w = rng.integers(-9, 10, (*lead, *kernel))
        channels_last = np.moveaxis(w, 1, -1)
        if self.weight in ("sparse", "grouped"):
            channels_last[..., 1::4] = 0
            channels_last[..., 2::4] = 0
        if transposed:
            w = w.swapaxes(0, 1)
        bias = rng.integers(-50, 50, out)
        nodes, weights = [], []

        def const(name, array):
            weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            return name

        def node(op_type, inputs, y, **attributes):
            nodes.append(helper.make_node(op_type, inputs, [y], name=f"{op_type}_{y}", **attributes))
            return y

        scales = {name: const(name, np.float32(value)) for name, value in (("s1", 1.0), ("s4", 4.0))}
        attributes = self.attributes(sizes)
        zero_dtype = self.dtype if self.dtype.kind != "f" else np.uint8
        zero = const("zero", np.array(3, zero_dtype))
        y_type = TensorProto.FLOAT
        if self.form in ("Conv", "ConvTranspose"):
            inputs = ["x", const("w", w.astype(np.float32)), const("b", bias.astype(np.float32))]
            node(self.form, inputs, "y", **attributes)
        elif self.form.startswith("QDQ"):
            x = node("DequantizeLinear", ["x", scales["s1"], zero], "xf")
            weight = [const("w", w.astype(np.int8)), scales["s1"], const("wz", np.int8(0))]
            wf = node("DequantizeLinear", weight, "wf")
            bf = node(
                "DequantizeLinear", [const("b", bias.astype(np.int32)), scales["s1"], const("bz", np.int32(0))], "bf"
            )
            yf = node(self.form.split()[1], [x, wf, bf], "yf", **attributes)
            node("QuantizeLinear", [yf, scales["s4"], zero], "y")
            y_type = TensorProto.INT8 if self.signed else TensorProto.UINT8
        elif self.form == "QLinearConv":
            weight = [const("w", w.astype(np.int8)), scales["s1"], const("wz", np.int8(0))]
            inputs = ["x", scales["s1"], zero, *weight, scales["s4"], zero, const("b", bias.astype(np.int32))]
            node("QLinearConv", inputs, "y", **attributes)
            y_type = TensorProto.INT8 if self.signed else TensorProto.UINT8
        else:
            node("ConvInteger", ["x", const("w", w.astype(np.int8)), zero], "y", **attributes)
            y_type = TensorProto.INT32
        outputs = [helper.make_tensor_value_info("y", y_type, None)]
        if self.weight != "sparse":
            beside = np.zeros((5, _CHANNELS, *[1] * len(kernel)), np.float32 if self.dtype.kind == "f" else np.int8)
            beside[:, ::4] = 3
            name = "Conv" if self.dtype.kind == "f" else "ConvInteger"
            node(name, ["x", const("beside", beside), *([] if self.dtype.kind == "f" else [zero])], "z")
            kind = TensorProto.FLOAT if self.dtype.kind == "f" else TensorProto.INT32
            outputs.append(helper.make_tensor_value_info("z", kind, None))
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        used = {name for one in nodes for name in one.input}
        graph = helper.make_graph(
            nodes,
            "convolution",
            [helper.make_tensor_value_info("x", kind, [self.batch, _CHANNELS, *declared])],
            outputs,
            [weight for weight in weights if weight.name in used],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def every_axis(form):
    """All attributes of one axis."""
    steps = itertools.product(range(1, 5), range(1, 5), range(1, 4))
    for kernel, stride, dilation in steps:
        for pads in itertools.product(range(4), repeat=2):
            if form not in TRANSPOSED:
                yield Axis(kernel, stride, dilation, pads)
                continue
            for output_padding in range(max(stride, dilation) + 1):
                yield Axis(kernel, stride, dilation, pads, output_padding)
        for difference in range(-3, 4) if form in TRANSPOSED else ():
            yield Axis(kernel, stride, dilation, (0, 0), 0, difference)
            yield Axis(kernel, stride, dilation, (1, 0), min(stride - 1, 1), difference)


def every_case():
    """All layers of one axis."""
    for form in FORMS:
        for axis in every_axis(form):
            plain = axis.pads == (0, 0)
            for auto_pad in ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") if plain else ("",):
                yield Case(form, (axis,), auto_pad)


def random_case(rng):
    """A layer of one or two axes, each as :func:`every_axis` has them, and now and then beyond that."""
    form = str(rng.choice(FORMS))

    def axis():
        kernel, stride, dilation = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.choice((1, 1, 2, 3)))
        pads = (0, 0) if rng.random() < 0.4 else tuple(int(pad) for pad in rng.integers(0, 4, 2))
        if rng.random() < 0.04:
            pads = (-1, int(rng.integers(-1, 2)))
        if form not in TRANSPOSED:
            return Axis(kernel, stride, dilation, pads)
        padding = int(rng.integers(0, max(stride, dilation) + 1)) if rng.random() < 0.5 else 0
        return Axis(kernel, stride, dilation, pads, padding, int(rng.integers(-3, 4)) if with_shape else None)

    with_shape = rng.random() < 0.25
    axes = tuple(axis() for _ in range(int(rng.choice((1, 2, 2)))))
    auto_pad = str(rng.choice(("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")))
    batch = int(rng.choice((1, 2, 0), p=(0.6, 0.35, 0.05)))
    weight = str(rng.choice(WEIGHTS, p=(0.7, 0.12, 0.12, 0.06)))
    return Case(form, axes, auto_pad, bool(rng.random() < 0.5), batch, bool(rng.random() < 0.3), weight)
