"""``sparse-rt compress``: the ``--sparsity=1`` pass, with a line for each layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Json, Model, Output

if TYPE_CHECKING:
    from sparse_rt.graph.passes.compress import LayerCompression

__all__ = ["compress"]


def compress(
    model: Model,
    output: Output,
    sparsity: Annotated[
        int, typer.Option("--sparsity", min=0, max=1, help="1 compresses what holds 2:4; 0 makes a copy.")
    ] = 1,
    json: Json = None,
) -> None:
    """Compress the layers whose weights hold 2:4, and say why the others stay dense. Runs in any onnxruntime.

    [bold]Examples[/bold]

      sparse-rt compress pruned.onnx -o compressed.onnx

      sparse-rt compress pruned.onnx -o compressed.onnx --json report.json
    """
    import dataclasses

    from sparse_rt.cli.console import bytes_text, output_console
    from sparse_rt.cli.file_size import model_bytes
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.graph import model_io, model_writer
    from sparse_rt.graph.passes.compress import compress_model

    source = model_io.read(model, custom_operators=True)
    result = compress_model(source, sparsity)
    before = model_bytes(model)
    after = model_writer.write(result.model, output)
    if json != STDOUT:
        console = output_console(output, json)
        _print(result.layers, console)
        console.print(f"{model} {bytes_text(before)} -> {output} {bytes_text(after)} ({after / before:.1%})")
    if json is not None:
        layers = [dataclasses.asdict(layer) for layer in result.layers]
        write_json(
            json,
            {
                "model": str(model),
                "output": str(output),
                "bytes_before": before,
                "bytes_after": after,
                "layers": layers,
            },
        )


def _print(layers: Sequence["LayerCompression"], console: Any) -> None:
    from sparse_rt.cli.console import bytes_text, shape_text, table
    from sparse_rt.formats import FORMATS

    rows = [
        (
            layer.name,
            layer.op_type,
            shape_text(layer.shape),
            layer.dtype or "-",
            "-" if layer.density is None else f"{layer.density:.1%}",
            bytes_text(layer.dense_bytes),
            "-" if layer.reason else bytes_text(layer.compressed_bytes),
            "compressed" if layer.reason is None else f"dense: {layer.reason}",
        )
        for layer in layers
    ]
    stored = "/".join(found.title for found in FORMATS.values())
    columns = ("layer", "operator", "weight", "dtype", "density", "dense", stored, "result")
    console.print(table("", columns, rows, right=("density", "dense", stored)))
    done = sum(layer.reason is None for layer in layers)
    console.print(f"{done} of {len(layers)} layers compressed")
