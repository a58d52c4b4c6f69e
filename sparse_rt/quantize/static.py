"""Quantise with onnxruntime's static quantiser, and hold the result against the float model."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.boundary import public
from sparse_rt.errors import ModelError, message
from sparse_rt.graph import model_io, model_writer
from sparse_rt.quantize.calibration import Calibration
from sparse_rt.quantize.prepare import prepare
from sparse_rt.scratch import ScratchFolder

__all__ = ["OutputError", "QuantizeResult", "quantize_file"]


@dataclass(frozen=True)
class OutputError:
    """How far an output of the quantised model is from the float model's, on the first calibration batch."""

    name: str
    relative_rms: float
    """rms(quantised - float) / rms(float); NaN where that is not known, as for outputs of integers."""


@dataclass(frozen=True)
class QuantizeResult:
    """What was quantised."""

    written: int
    """Bytes."""
    samples: int
    """How many calibration samples the quantiser has seen."""
    left: tuple[str, ...]
    """Nodes that stay in float because the quantiser would get them wrong."""
    errors: tuple[OutputError, ...]


@public
def quantize_file(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    batch: int = 32,
    exclude: Sequence[str] = (),
) -> QuantizeResult:
    """Quantise a float model to int8: QDQ, signed weights for each output channel, unsigned activations.

    Parameters
    ----------
    path
        The model.
    output
        Where the quantised one goes.
    arrays
        Calibration samples, see :class:`sparse_rt.quantize.calibration.Calibration`.
    batch
        Samples a run, where the model does not fix it.
    exclude
        Names of nodes that stay in float.

    Raises
    ------
    ModelError
        The model cannot be read, is quantised or compressed already, or onnxruntime cannot quantise it.
    FeedError
        The samples do not fit.
    """
    where = f"model '{os.fspath(path)}'"
    model, left = prepare(model_io.read(path), where)
    _require_nodes(model, exclude, where)
    with ScratchFolder("quantize") as folder:
        prepared = folder / "float.onnx"
        model_writer.write(model, prepared)
        session = stock.open_session(prepared, where=where)
        calibration = Calibration(session.get_inputs(), arrays, batch)
        # Fails here, with a clear message, rather than in the middle of the calibration.
        names = [item.name for item in session.get_outputs()]
        expected = stock.run(session, names, calibration.first())
        external = model_io.tensor_bytes(model) > model_io.EXTERNAL_DATA_LIMIT
        quantised = _quantise(prepared, folder, calibration, [*exclude, *left], where, external=external)
        found = stock.run(stock.open_session(quantised, where=where), names, calibration.first())
        written = model_writer.write(model_io.read(quantised), output)
    return QuantizeResult(written, calibration.samples, left, tuple(map(_error, names, found, expected)))


def _require_nodes(model: ir.Model, names: Sequence[str], where: str) -> None:
    known = {node.name for node in model.graph}
    for name in names:
        if name not in known:
            raise ModelError(message(where, f"a node '{name}' to leave in float", "none of that name"))


def _quantise(
    model: Path, folder: Path, calibration: Calibration, exclude: Sequence[str], where: str, *, external: bool
) -> Path:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inferred, quantised = folder / "inferred.onnx", folder / "quantised.onnx"
    logging.disable(logging.WARNING)  # the tool logs advice that this function follows already
    try:
        # onnxruntime recommends this step: it folds batch normalisation and constants, and infers shapes. The
        # symbolic inference is for transformers only, and refuses models that the plain one handles.
        quant_pre_process(model, inferred, skip_symbolic_shape=True, save_as_external_data=external)
        quantize_static(
            inferred,
            quantised,
            calibration,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(exclude),
            use_external_data_format=external,
        )
    except Exception as error:  # the tool raises whatever its parts raise
        fact = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(message(where, "one that onnxruntime can quantise", fact)) from error
    finally:
        logging.disable(logging.NOTSET)
    return quantised


def _error(name: str, found: Any, expected: Any) -> OutputError:
    if not isinstance(expected, np.ndarray) or expected.dtype.kind != "f" or not expected.size:
        return OutputError(name, float("nan"))
    reference = expected.astype(np.float64)
    scale = float(np.sqrt(np.mean(reference**2)))
    distance = float(np.sqrt(np.mean((found.astype(np.float64) - reference) ** 2)))
    return OutputError(name, distance / scale if scale else distance)
