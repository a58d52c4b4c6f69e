"""``sparse-rt library``: kernels of a model for a stock onnxruntime, in processes without Python."""

from typing import TYPE_CHECKING, Any

from sparse_rt.cli.options import Inputs, Json, Model, Output, Threads

if TYPE_CHECKING:
    from sparse_rt.library.frozen.model_library import ModelLibrary

__all__ = ["library"]


def library(
    model: Model,
    output: Output,
    threads: Threads = None,
    inputs: Inputs = None,
    json: Json = None,
) -> None:
    """Write a library of custom operators for a compressed model: any onnxruntime, any language, no Python.

    It holds the model's kernels and weights, prepared for this CPU. A program registers it before it loads the model.

    [bold]Examples[/bold]

      sparse-rt library compressed.onnx -o libmodel.so

      sparse-rt library compressed.onnx -o libmodel.so --threads 8 --inputs inputs.npz
    """
    import dataclasses

    from sparse_rt.cli.console import bytes_text, output_console
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.feeds import read_npz
    from sparse_rt.library.frozen.model_library import write_library

    feeds = None if inputs is None else read_npz(inputs)
    made = write_library(model, output, threads=threads, feeds=feeds)
    if json != STDOUT:
        console = output_console(output, json)
        _print(made, console)
        served = sum(layer.reason is None for layer in made.layers)
        console.print(f"{output} {bytes_text(made.nbytes)}: {served} of {len(made.layers)} compressed layers")
    if json is not None:
        layers = [dataclasses.asdict(layer) for layer in made.layers]
        write_json(json, {"model": str(model), "output": str(output), "bytes": made.nbytes, "layers": layers})


def _print(made: "ModelLibrary", console: Any) -> None:
    from sparse_rt.cli.console import table

    rows = [
        (layer.name, layer.operator, str(layer.calls), "served" if layer.reason is None else f"left: {layer.reason}")
        for layer in made.layers
    ]
    console.print(table("", ("layer", "operator", "calls", "result"), rows, right=("calls",)))
