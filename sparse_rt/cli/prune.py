"""``sparse-rt prune``: make a model 2:4, so that it can be tried."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Json, Model, Output

if TYPE_CHECKING:
    from sparse_rt.prune import LayerPruning

__all__ = ["prune"]

_MAGNITUDE = "magnitude"


def prune(
    model: Model,
    output: Output,
    pattern: Annotated[str, typer.Option("--pattern", help="Nonzeros of each group of input channels.")] = "2:4",
    density: Annotated[
        float | None, typer.Option("--density", help="Share of nonzeros; a pattern such as 2:4 fixes it.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="How weights are chosen: magnitude.")] = _MAGNITUDE,
    calib: Annotated[
        Path | None, typer.Option("--calib", metavar="DATA.npz", help="Sample inputs, for methods that look at them.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Choices for each layer, for methods that have them."),
    ] = None,
    json: Json = None,
) -> None:
    """Keep the two largest weights of every four input channels and write the pruned model.

    One shot and no retraining: good for trying speed, sizes and kernels. A model that shall keep its accuracy is
    retrained under the mask.

    [bold]Examples[/bold]

      sparse-rt prune dense.onnx -o pruned.onnx --pattern 2:4

      sparse-rt prune dense.onnx -o pruned.onnx && sparse-rt compress pruned.onnx -o compressed.onnx
    """
    import dataclasses

    from sparse_rt import sparsity
    from sparse_rt.cli.console import output_console
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.graph import model_io, model_writer
    from sparse_rt.prune import prune_model

    _refuse_what_magnitude_cannot_use(density, method, calib, config, pattern)
    result = prune_model(model_io.read(model, custom_operators=True), pattern)
    model_writer.write(result.model, output)
    if json != STDOUT:
        console = output_console(output, json)
        _print(result.layers, sparsity.parse(pattern).name, console)
        console.print(f"{model} -> {output}")
    if json is not None:
        layers = [dataclasses.asdict(layer) for layer in result.layers]
        write_json(json, {"model": str(model), "output": str(output), "pattern": pattern, "layers": layers})


def _refuse_what_magnitude_cannot_use(
    density: float | None, method: str, calib: Path | None, config: Path | None, pattern: str
) -> None:
    """Raise rather than ignore an option, so that nobody believes it had an effect."""
    from sparse_rt import sparsity
    from sparse_rt.errors import ConfigError, message
    from sparse_rt.prune.scores import METHODS

    if method not in METHODS:
        raise ConfigError(message("--method", " or ".join(f"'{name}'" for name in METHODS), f"'{method}'"))
    wanted = sparsity.parse(pattern)
    if density is not None and density != wanted.density:
        expected = "no density" if wanted.density is None else f"{wanted.density:g}"
        raise ConfigError(message("--density", expected, f"{density:g} for the pattern {wanted.name}", "Leave it out."))
    for name, value in (("--calib", calib), ("--config", config)):
        if value is not None:
            raise ConfigError(message(name, "no file for the method 'magnitude'", f"'{value}'", "Leave it out."))


def _print(layers: "tuple[LayerPruning, ...]", pattern: str, console: Any) -> None:
    from sparse_rt.cli.console import shape_text, table

    rows = [
        (
            layer.name,
            layer.op_type,
            shape_text(layer.shape),
            _share(layer.density_before),
            _share(layer.density_after),
            _share(layer.magnitude_kept),
            pattern if layer.reason is None else f"as it was: {layer.reason}",
        )
        for layer in layers
    ]
    columns = ("layer", "operator", "weight", "density", "after", "|w| kept", "result")
    console.print(table("", columns, rows, right=("density", "after", "|w| kept")))
    console.print(f"{sum(layer.reason is None for layer in layers)} of {len(layers)} layers hold {pattern}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
