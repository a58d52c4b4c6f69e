"""``sparse-rt quantize``: a thin face on onnxruntime's static quantisation."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Model, Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["quantize"]

_BATCH = 32


def quantize(
    model: Model,
    output: Output,
    calib: Annotated[
        Path,
        typer.Option("--calib", metavar="DATA.npz", help="Samples of each input, stacked along the first axis."),
    ],
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Samples a calibration run, where the model does not fix it.")
    ] = _BATCH,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="NODE", help="A node to leave in float; may be repeated.")
    ] = None,
) -> None:
    """Quantise a float model to int8: QDQ, signed weights for each channel, unsigned activations.

    Zeros stay zeros, so a 2:4 model stays 2:4: prune first, then quantise, then compress.

    [bold]Examples[/bold]

      sparse-rt quantize pruned.onnx -o int8.onnx --calib images.npz

      sparse-rt quantize pruned.onnx -o int8.onnx --calib images.npz --exclude head
    """
    from sparse_rt.cli.console import bytes_text, output_console
    from sparse_rt.cli.file_size import model_bytes
    from sparse_rt.feeds import read_npz
    from sparse_rt.graph import model_io

    model_io.read(model)  # its errors are better than those of the tools below
    batches = _Batches(model, read_npz(calib), batch)
    before = model_bytes(model)
    _quantise(model, output, batches, exclude or [])
    after = model_bytes(output)
    output_console().print(
        f"{model} {bytes_text(before)} -> {output} {bytes_text(after)} ({after / before:.1%}),"
        f" calibrated on {batches.samples} samples"
    )


class _Batches:
    """onnxruntime's calibration reader over arrays with a leading sample axis.

    Raises
    ------
    FeedError
        An input is missing, or the arrays hold different numbers of samples, or not enough for one batch.
    """

    def __init__(self, model: Path, arrays: "dict[str, NDArray[Any]]", batch: int) -> None:
        from sparse_rt import stock
        from sparse_rt.errors import FeedError, message

        session = stock.open_session(model, where=f"model '{model}'")
        inputs = session.get_inputs()
        missing = [item.name for item in inputs if item.name not in arrays]
        if missing:
            raise FeedError(message("calibration data", f"arrays for the inputs {missing}", f"only {sorted(arrays)}"))
        self._arrays = {item.name: arrays[item.name] for item in inputs}
        counts = {name: len(array) if array.ndim else 0 for name, array in self._arrays.items()}
        if len(set(counts.values())) != 1:
            raise FeedError(message("calibration data", "equally many samples of each input", str(counts)))
        fixed = {item.shape[0] for item in inputs if item.shape and isinstance(item.shape[0], int)}
        self.samples = next(iter(counts.values()))
        self._batch = min(fixed) if fixed else min(batch, self.samples)
        if self._batch < 1 or self.samples < self._batch:
            raise FeedError(message("calibration data", f"at least {max(self._batch, 1)} samples", str(self.samples)))
        if fixed:
            self.samples -= self.samples % self._batch  # a fixed batch takes no shorter last one
        # Fail here, with a clear message, rather than in the middle of the calibration.
        stock.run(session, None, {name: array[: self._batch] for name, array in self._arrays.items()})
        self._feeds = self._iterate()

    def _iterate(self) -> "Iterator[dict[str, NDArray[Any]]]":
        for start in range(0, self.samples, self._batch):
            yield {name: array[start : min(start + self._batch, self.samples)] for name, array in self._arrays.items()}

    def get_next(self) -> "dict[str, NDArray[Any]] | None":
        """Return the feeds of the next batch, None after the last."""
        return next(self._feeds, None)


def _quantise(model: Path, output: Path, batches: _Batches, exclude: list[str]) -> None:
    import logging
    import tempfile

    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from sparse_rt.errors import ModelError, message
    from sparse_rt.graph import model_io, model_writer

    with tempfile.TemporaryDirectory(prefix="sparse_rt-") as folder:
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "quantised.onnx")
        logging.disable(logging.WARNING)  # the tool logs advice that this function follows already
        try:
            # onnxruntime recommends this step: it folds batch normalisation and constants, and infers shapes. The
            # symbolic inference is for transformers only, and refuses models that the plain one handles.
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantised,
                batches,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=exclude,
            )
        except Exception as error:  # the tool raises whatever its parts raise
            fact = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(message(f"model '{model}'", "one that onnxruntime can quantise", fact)) from error
        finally:
            logging.disable(logging.NOTSET)
        model_writer.write(model_io.read(quantised), output)
