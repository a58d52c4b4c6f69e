"""``sparse-rt quantize``: a thin face on onnxruntime's static quantisation."""

import math
from pathlib import Path
from typing import Annotated

import typer

from sparse_rt.cli.options import Model, Output

__all__ = ["quantize"]

_BATCH = 32
#: Relative error from which on a quantised model is probably of no use.
_SUSPICIOUS = 0.1


def quantize(
    model: Model,
    output: Output,
    calib: Annotated[
        Path,
        typer.Option(
            "--calib", metavar="DATA.npz", help="Samples of each input along its first axis; or whole inputs, stacked."
        ),
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
    from rich.text import Text

    from sparse_rt.cli.console import bytes_text, error_console, output_console
    from sparse_rt.cli.file_size import model_bytes
    from sparse_rt.feeds import read_npz
    from sparse_rt.quantize import quantize_file

    before = model_bytes(model)
    result = quantize_file(model, output, read_npz(calib), batch, exclude or [])
    console = output_console(output)
    console.print(
        f"{model} {bytes_text(before)} -> {output} {bytes_text(result.written)} ({result.written / before:.1%}),"
        f" calibrated on {result.samples} samples"
    )
    for name in result.left:
        console.print(f"{name} stays in float: the quantiser ignores a factor that is not constant")
    for error in result.errors:
        how_far = f"{error.relative_rms:.2%} rms" if math.isfinite(error.relative_rms) else "nobody can tell how far"
        console.print(f"output {error.name}: {how_far} from the float model's, first batch")
    worst = max((error.relative_rms for error in result.errors if error.relative_rms == error.relative_rms), default=0)
    if worst > _SUSPICIOUS:
        text = f"warning: {worst:.0%} from the float model. More samples, or --exclude for some layers, may help."
        error_console().print(Text(text, style="yellow"))
