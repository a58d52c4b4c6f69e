"""ONNX's attributes of a convolution, resolved against the shape of its input."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from sparse_rt_kernels.product.geometry import ConvGeometry

from sparse_rt.errors import FeedError, message
from sparse_rt.graph.layers.layer import AttributeValue, Layer

__all__ = ["Convolution"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution, or a transposed one, whose input size is not yet known.

    Attributes
    ----------
    name
        Of the layer, for messages.
    channels, out_channels
        c and n.
    kernel, strides, dilations
        One entry for each of the one or two spatial axes.
    pads
        All beginnings, then all ends.
    auto_pad
        ``NOTSET``, ``VALID``, ``SAME_UPPER`` or ``SAME_LOWER``.
    transposed
        Whether this is ConvTranspose.
    output_padding, output_shape
        Of ConvTranspose; an empty `output_shape` means that it is computed.
    pad_value
        What padding reads: 0, or the zero point of the activation.
    """

    name: str
    channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    pad_value: int = 0

    @property
    def axes(self) -> int:
        """Spatial axes."""
        return len(self.kernel)

    @staticmethod
    def of(layer: Layer, pad_value: int = 0) -> "Convolution":
        """Read the attributes of a layer of kind ``conv`` or ``conv_transpose``."""
        kernel = layer.shape[2:]
        axes = len(kernel)
        attributes = layer.attributes
        return Convolution(
            name=layer.name,
            channels=layer.shape[1],
            out_channels=layer.shape[0],
            kernel=kernel,
            strides=_integers(attributes, "strides") or (1,) * axes,
            dilations=_integers(attributes, "dilations") or (1,) * axes,
            pads=_integers(attributes, "pads") or (0,) * (2 * axes),
            auto_pad=str(attributes.get("auto_pad") or "NOTSET"),
            transposed=layer.kind == "conv_transpose",
            output_padding=_integers(attributes, "output_padding") or (0,) * axes,
            output_shape=_integers(attributes, "output_shape")[-axes:],
            pad_value=pad_value,
        )

    def geometry(self, shape: tuple[int, ...]) -> ConvGeometry:
        """Return the kernel's geometry for an input (b, c, *spatial).

        Raises
        ------
        FeedError
            Wrong rank or channels, an input that the kernel does not fit into, or one too small for `output_shape`.
        """
        return _geometry(self, shape)

    def output(self, geometry: ConvGeometry) -> tuple[int, ...]:
        """Return the output's shape (b, n, *spatial)."""
        spatial = (geometry.out_height, geometry.out_width)[-self.axes :]
        return (geometry.batch, geometry.out_channels, *spatial)


def _integers(attributes: Mapping[str, AttributeValue], name: str) -> tuple[int, ...]:
    value = attributes.get(name)
    return tuple(int(item) for item in value) if isinstance(value, tuple) else ()


@functools.lru_cache(maxsize=4096)
def _geometry(conv: Convolution, shape: tuple[int, ...]) -> ConvGeometry:
    where = f"layer '{conv.name}'"
    if len(shape) != conv.axes + 2 or shape[1] != conv.channels:
        sizes = ", ".join("hw"[-conv.axes :])
        raise FeedError(message(where, f"an input (b, {conv.channels}, {sizes})", str(shape)))
    spatial = shape[2:]
    # A stuffed, padded input and a plain convolution with the kernel rotated by 180 degrees are the transposed one.
    pads = [
        _transposed_pads(conv, axis, size) if conv.transposed else _pads(conv, axis, size)
        for axis, size in enumerate(spatial)
    ]
    lead = (1,) * (2 - conv.axes)
    zeros = (0,) * (2 - conv.axes)
    steps = (1,) * conv.axes if conv.transposed else conv.strides
    stuffing = conv.strides if conv.transposed else (1,) * conv.axes
    geometry = ConvGeometry(
        batch=shape[0],
        channels=conv.channels,
        height=_pair(lead + spatial)[0],
        width=spatial[-1],
        out_channels=conv.out_channels,
        kernel=_pair(lead + conv.kernel),
        strides=_pair(lead + steps),
        dilations=_pair(lead + conv.dilations),
        pads=(
            *_pair(zeros + tuple(begin for begin, _ in pads)),
            *_pair(zeros + tuple(end for _, end in pads)),
        ),
        input_stride=_pair(lead + stuffing),
        pad_value=conv.pad_value,
    )
    # As in onnxruntime, an output without pixels is an error; a transposed one would have to give pixels from none.
    if min(geometry.out_height, geometry.out_width) < 1 or (conv.transposed and 0 in spatial):
        raise FeedError(message(where, f"an input that the kernel {conv.kernel} fits into", str(shape)))
    return geometry


def _pair(values: tuple[int, ...]) -> Pair:
    return values[0], values[1]


def _pads(conv: Convolution, axis: int, size: int) -> Pair:
    """Return the padding (begin, end) of one axis of a convolution."""
    if conv.auto_pad == "NOTSET":
        return conv.pads[axis], conv.pads[axis + conv.axes]
    if conv.auto_pad == "VALID":
        return 0, 0
    reach = (conv.kernel[axis] - 1) * conv.dilations[axis] + 1
    total = max(0, (-(-size // conv.strides[axis]) - 1) * conv.strides[axis] + reach - size)
    smaller = total // 2
    return (smaller, total - smaller) if conv.auto_pad == "SAME_UPPER" else (total - smaller, smaller)


def _transposed_pads(conv: Convolution, axis: int, size: int) -> Pair:
    """Return the padding (begin, end) of one axis of the equivalent convolution over the stuffed input."""
    reach = (conv.kernel[axis] - 1) * conv.dilations[axis]
    extra = conv.output_padding[axis]
    full = conv.strides[axis] * (size - 1) + reach + 1 + extra
    begin, end = conv.pads[axis], conv.pads[axis + conv.axes]
    same = conv.auto_pad in ("SAME_UPPER", "SAME_LOWER")
    if conv.output_shape or same:
        wanted = conv.output_shape[axis] if conv.output_shape else size * conv.strides[axis]
        most = full - extra + conv.strides[axis] - 1
        if wanted > most:
            expected = f"an output_shape of at most {most} for an input of {size}"
            raise FeedError(message(f"layer '{conv.name}'", expected, str(wanted)))
        begin, end = _split(conv.auto_pad, full - wanted)
    elif conv.auto_pad == "VALID":
        begin, end = 0, 0
    return reach - begin, reach - end + extra


def _split(auto_pad: str, total: int) -> Pair:
    """Share the rows that a given output size crops; a negative total adds rows at the end."""
    if total < 0:
        return 0, total
    smaller = total // 2
    return (smaller, total - smaller) if auto_pad == "SAME_UPPER" else (total - smaller, smaller)
