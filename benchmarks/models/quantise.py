"""Static and dynamic quantisation of a model by onnxruntime, as users do it."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

Feeds = dict[str, NDArray[Any]]


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def quantise_static(
    model: onnx.ModelProto,
    feeds: Iterable[Feeds],
    *,
    per_channel: bool = True,
    quant_format: QuantFormat = QuantFormat.QDQ,
    op_types: list[str] | None = None,
    activation_type: QuantType = QuantType.QUInt8,
) -> onnx.ModelProto:
    """Return the model with activations of bytes and int8 weights; symmetric, so that a zero stays a zero.

    Parameters
    ----------
    model
        float32.
    feeds
        Calibration data.
    per_channel
        One weight scale an output channel, or one a tensor.
    quant_format
        ``QDQ``, or ``QOperator`` for QLinearConv and its like.
    op_types
        What to quantise, by default everything that can be.
    activation_type
        ``QUInt8``, or ``QInt8``.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_static(
            _copy(model),
            out,
            _Reader(feeds),
            quant_format=quant_format,
            op_types_to_quantize=op_types,
            per_channel=per_channel,
            activation_type=activation_type,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(out)


def quantise_dynamic(model: onnx.ModelProto, *, per_channel: bool = False) -> onnx.ModelProto:
    """Return the model with int8 weights and activations that are quantised as they come."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        quantize_dynamic(_copy(model), out, per_channel=per_channel, weight_type=QuantType.QInt8)
        return onnx.load(out)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy, because onnxruntime moves the tensors of a model that it is given to a file of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
