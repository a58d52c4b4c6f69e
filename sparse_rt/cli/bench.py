"""``sparse-rt bench``: speed against dense onnxruntime, as a ratio measured in one run."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Batch, Inputs, Json, Model, Reference, Seed, Threads

if TYPE_CHECKING:
    from sparse_rt.bench import BenchReport, LayerTiming

__all__ = ["bench", "ratio_text"]


def bench(
    model: Model,
    reference: Reference = None,
    threads: Threads = None,
    batch: Batch = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Wall time of the measurements.")] = 10.0,
    inputs: Inputs = None,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Also tell what every layer takes.")] = True,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="FILE", help="Write a Chrome trace of the sparse model's runs."),
    ] = None,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Time dense onnxruntime and sparse_rt, each in its own process, in alternating turns.

    The layer table comes from profiles of both. Ratios are dense time / sparse time: above 1 sparse is faster. Times
    of different runs of this command do not compare, ratios do.

    [bold]Examples[/bold]

      sparse-rt bench compressed.onnx

      sparse-rt bench compressed.onnx --reference dense.onnx --threads 1 --batch 8 --seconds 30 --json bench.json
    """
    import dataclasses

    from sparse_rt.bench import bench as measure
    from sparse_rt.cli.console import error_console, output_console
    from sparse_rt.cli.json_file import STDOUT, write_json
    from sparse_rt.feeds import read_npz

    with error_console().status("measuring"):
        report = measure(
            str(model),
            str(reference) if reference else None,
            threads=threads,
            batch=batch,
            seconds=seconds,
            feeds=read_npz(inputs) if inputs else None,
            seed=seed,
            layers=layers,
            profile=profile,
        )
    if json != STDOUT:
        _print(report, output_console(json, profile))
    if json is not None:
        write_json(json, dataclasses.asdict(report))


def ratio_text(report: "BenchReport") -> str:
    """Return ``1.23x [1.20, 1.26]``, the ratio and its 95 % interval."""
    return f"{report.ratio.value:.2f}x [{report.ratio.low:.2f}, {report.ratio.high:.2f}]"


def _print(report: "BenchReport", console: Any) -> None:
    from rich.text import Text

    from sparse_rt.cli.console import table

    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    shapes = ", ".join(f"{name} {shape}" for name, shape in report.shapes.items())
    console.print(f"{report.cpu}, {threads}, {shapes}")
    rows = [
        (version, str(times.runs), *(_milliseconds(value) for value in (times.median, times.p90, times.p99)))
        for version, times in zip(report.engines, (report.dense, report.sparse), strict=True)
    ]
    engines = ("engine", "runs", "median ms", "p90 ms", "p99 ms")
    console.print(table("", engines, rows, right=engines[1:]))
    line = f"dense / sparse = {ratio_text(report)}, 95 % interval from {report.ratio.turns} pairs of turns"
    console.print(Text(line, style="bold"))
    if report.layers:
        console.print()
        columns = ("layer", "operator", "kernel", "dense ms", "sparse ms", "ratio", "share")
        title = "Layers within whole runs; share is of the sparse model's time"
        console.print(table(title, columns, map(_layer_row, report.layers), right=columns[3:]))
        for layer in report.layers:
            if layer.note:
                console.print(f"{layer.name}: {layer.note}")


def _layer_row(layer: "LayerTiming") -> tuple[str, ...]:
    return (
        layer.name,
        layer.op_type,
        layer.kernel,
        "-" if layer.dense is None else _milliseconds(layer.dense),
        _milliseconds(layer.sparse),
        "-" if layer.ratio is None else f"{layer.ratio:.2f}x",
        f"{layer.share:.1%}",
    )


def _milliseconds(seconds: float) -> str:
    """Return milliseconds with four significant digits."""
    value = seconds * 1e3
    return f"{value:.4f}" if value < 1 else f"{value:.4g}"
