"""``sparse-rt demo``: the whole way on a real model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_rt.cli.options import Threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparse_rt.formats import CompressedWeight

__all__ = ["demo"]

_ROWS = 6
_COLUMNS = 8
_SECONDS = 3.0


def demo(
    seconds: Annotated[float, typer.Option("--seconds", help="Wall time of each of the two speed measurements.")] = (
        _SECONDS
    ),
    threads: Threads = None,
) -> None:
    """Compress, run, verify and time a CNN that reads handwritten digits; everything it needs is built in.

    [bold]Examples[/bold]

      sparse-rt demo
    """
    from sparse_rt.cli.console import output_console
    from sparse_rt.demo_data import DENSE_MODEL, SPARSE_INT8_MODEL, SPARSE_MODEL, load_test_images, read_model
    from sparse_rt.scratch import ScratchFolder

    console = output_console()
    images, labels = load_test_images()
    with ScratchFolder("demo") as folder:
        files = {}
        for model in (DENSE_MODEL, SPARSE_MODEL, SPARSE_INT8_MODEL):
            files[model] = folder / model
            files[model].write_bytes(read_model(model))
        small = {model: _compress(files[model]) for model in (SPARSE_MODEL, SPARSE_INT8_MODEL)}
        _show_models(files, small, images, labels, console)
        _show_index_bytes(small[SPARSE_INT8_MODEL], console)
        equal = _show_equivalence(files, small, images, console)
        _show_speed(files, small, images, seconds, threads, console)
    if not equal:
        raise typer.Exit(1)


def _heading(console: Any, text: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"))


def _compress(path: Path) -> Path:
    """Write the compressed twin of a model beside it and return its path."""
    from sparse_rt.graph import model_io, model_writer
    from sparse_rt.graph.passes.compress import compress_model

    target = path.with_name(f"{path.stem}_compressed.onnx")
    model_writer.write(compress_model(model_io.read(path)).model, target)
    return target


def _show_models(
    files: dict[str, Path], small: dict[str, Path], images: "NDArray[Any]", labels: "NDArray[Any]", console: Any
) -> None:
    from sparse_rt.cli.console import table
    from sparse_rt.demo_data import DENSE_MODEL, SPARSE_INT8_MODEL, SPARSE_MODEL

    _heading(console, f"A CNN for handwritten digits, on {len(images)} held-out images")
    titles = {DENSE_MODEL: "dense", SPARSE_MODEL: "2:4, retrained", SPARSE_INT8_MODEL: "2:4 int8 (QDQ)"}
    rows = []
    for model, title in titles.items():
        runs = small.get(model, files[model])
        dense = f"{files[model].stat().st_size:,}"
        compressed = f"{small[model].stat().st_size:,}" if model in small else "-"
        accuracy, sparse = _accuracy(runs, images, labels)
        rows.append((title, f"{accuracy:.1%}", dense, compressed, sparse))
    columns = ("model", "accuracy", "file bytes", "compressed", "layers that run sparse")
    console.print(table("", columns, rows, right=columns[1:4]))


def _accuracy(model: Path, images: "NDArray[Any]", labels: "NDArray[Any]") -> tuple[float, str]:
    """Return the share of right answers of our session, and how many of its layers run sparse."""
    from sparse_rt.session import InferenceSession, SessionOptions

    # What is shown is what sparse kernels compute, also where such small layers gain nothing from them.
    session = InferenceSession(str(model), SessionOptions(tuning="sparse"))
    (logits,) = session.run(["logits"], {"image": images})
    layers = session.explain()
    sparse = f"{sum(layer.is_sparse for layer in layers)} of {len(layers)}"
    return float((logits.argmax(axis=1) == labels).mean()), sparse


def _show_index_bytes(model: Path, console: Any) -> None:
    """Print rows of one layer's weights and what the file stores instead."""
    from sparse_rt.cli.console import table
    from sparse_rt.formats import CompressedWeight
    from sparse_rt.graph import model_io
    from sparse_rt.graph.layers.find import find_layers

    layers = [layer for layer in find_layers(model_io.read(model)) if isinstance(layer.stored, CompressedWeight)]
    matrices = [layer for layer in layers if layer.kind == "matmul"] or layers
    if not matrices:
        return
    layer = matrices[0]
    _heading(console, f"Layer '{layer.name}': the first of its 2:4 weights, and what the compressed file stores")
    columns = ("8 weights of a row", "values", "indexes", "byte")
    if isinstance(layer.stored, CompressedWeight):
        console.print(table("", columns, _index_rows(layer.dense_weight(), layer.stored)))
        values, index = layer.stored.values.nbytes, layer.stored.index.nbytes
        console.print(f"{layer.dense_weight().size:,} weights become {values:,} values and {index:,} bytes of index")


def _index_rows(weight: "NDArray[Any]", stored: "CompressedWeight") -> list[tuple[Any, ...]]:
    """Return, for the first rows, two groups of four weights, the values kept of them, and their one index byte."""
    from rich.text import Text

    matrix = weight.reshape(len(weight), -1)
    rows: list[tuple[Any, ...]] = []
    for row in range(min(_ROWS, len(matrix))):
        weights = Text()
        for column, value in enumerate(matrix[row, :_COLUMNS]):
            separator = " |" if column == _COLUMNS // 2 else ""
            weights.append(separator, style="dim")
            weights.append(f"{value:5d}", style="dim" if value == 0 else "cyan")
        values = Text(" ".join(f"{value:4d}" for value in stored.values[row, : _COLUMNS // 2]), style="green")
        byte = int(stored.index[row, 0])
        indexes = " ".join(str(byte >> shift & 3) for shift in (0, 2, 4, 6))
        rows.append((weights, values, indexes, Text(f"{byte:02x}", style="bold yellow")))
    return rows


def _show_equivalence(files: dict[str, Path], small: dict[str, Path], images: "NDArray[Any]", console: Any) -> bool:
    from sparse_rt.cli.verify import print_verdict
    from sparse_rt.verify import verify

    _heading(console, "The compressed file in sparse_rt against the uncompressed one in onnxruntime")
    equal = True
    for model, compressed in small.items():
        report = verify(str(compressed), str(files[model]), {"image": images})
        console.print(f"{model}: ", end="")
        print_verdict(report, console)
        for check in report.outputs:
            if check.comparison is not None and check.top1_agreement is not None:
                agreement = f"the same digit for {check.top1_agreement:.1%} of the images"
                console.print(f"  {check.name}: largest difference {check.comparison.max_error:.3g}, {agreement}")
        equal = equal and report.equal
    return equal


def _show_speed(
    files: dict[str, Path],
    small: dict[str, Path],
    images: "NDArray[Any]",
    seconds: float,
    threads: int | None,
    console: Any,
) -> None:
    from sparse_rt.bench import bench
    from sparse_rt.cli.bench import ratio_text
    from sparse_rt.cli.console import table

    _heading(console, f"Speed on {len(images)} images at once, dense onnxruntime time / sparse_rt time")
    rows = []
    for model, compressed in small.items():
        report = bench(
            str(compressed), str(files[model]), threads=threads, seconds=seconds, feeds={"image": images}, layers=False
        )
        dense, sparse = (f"{times.median * 1e3:.2f}" for times in (report.dense, report.sparse))
        rows.append((Path(model).stem, str(report.threads), dense, sparse, ratio_text(report)))
    columns = ("model", "threads", "onnxruntime ms", "sparse_rt ms", "ratio, 95 % interval")
    console.print(table("", columns, rows, right=columns[1:4]))
    console.print("A small model shows little of it; `sparse-rt bench MODEL` measures yours.")
