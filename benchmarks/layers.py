"""``python -m benchmarks.layers``: every layer shape against the best dense engine, the whole table from one command.

Each engine (onnxruntime, OpenVINO where it is installed, sparse_rt) runs the same single-layer model in a process of
its own, with the same number of threads; they take turns. A ratio is the best dense engine's median over ours. The
table ends with the geometric mean and the worst layer of each suite; a record is appended to
``benchmarks/results/layers.jsonl``.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.comparison import Comparison, compare, open_engines
from benchmarks.layer_models import DTYPES, SUITES, LayerShape, build_layer, layer_feeds, load_suite
from sparse_rt.bench.process import EngineProcess
from sparse_rt.feeds import write_npz

_TURN_SECONDS = 0.04


def _compare(
    engines: dict[str, EngineProcess], shape: LayerShape, dtype: str, threads: int, seconds: float, folder: Path
) -> Comparison:
    path, feeds = folder / "layer.onnx", folder / "feeds.npz"
    onnx.save_model(build_layer(shape, dtype), path)
    write_npz(feeds, layer_feeds(shape, dtype))
    return compare(engines, path, path, feeds, threads=threads, seconds=seconds, turn_seconds=_TURN_SECONDS)


def _row(shape: LayerShape, comparison: Comparison) -> dict[str, Any]:
    ratios = {name: ratio.value for name, ratio in comparison.ratios().items()}
    return {"layer": shape.name, "m": shape.m, "n": shape.n, "k": shape.k, "best": comparison.best(), "ratios": ratios}


def _print_suite(console: Console, title: str, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    dense = sorted({name for row in rows for name in row["ratios"]})
    table = Table(title=title)
    for column in ("layer", "m", "n", "k", *(f"{name} / ours" for name in dense), "ratio", ""):
        table.add_column(column, justify="left" if column in {"layer", ""} else "right")
    for row in rows:
        ratio = row["ratios"][row["best"]]
        figures = [f"{row['ratios'][name]:.2f}" for name in dense]
        sizes = [str(row[key]) for key in ("m", "n", "k")]
        table.add_row(row["layer"], *sizes, *figures, f"{ratio:.2f}", "" if ratio >= 1 else "loses")
    best = np.array([row["ratios"][row["best"]] for row in rows])
    summary = {"geometric_mean": float(np.exp(np.log(best).mean())), "worst": float(best.min())}
    console.print(table)
    console.print(f"{title}: geometric mean {summary['geometric_mean']:.2f}, worst {summary['worst']:.2f}\n")
    return summary


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.5, help="measured time a layer")
    parser.add_argument("--only", default="", help="only layers whose name holds this")
    parser.add_argument("--no-record", action="store_true", help="do not append to benchmarks/results")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    suites, versions = [], {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse_rt-layers-")))
        engines = open_engines(stack)
        for suite in options.suite:
            shapes = [shape for shape in load_suite(suite) if options.only in shape.name]
            for dtype in options.dtype:
                for threads in options.threads:
                    rows = []
                    for shape in shapes:
                        comparison = _compare(engines, shape, dtype, threads, options.seconds, folder)
                        versions = comparison.versions
                        rows.append(_row(shape, comparison))
                    title = f"{suite}, {dtype}, {threads} thread{'s' * (threads > 1)}"
                    summary = _print_suite(console, title, rows)
                    suites.append({"suite": suite, "dtype": dtype, "threads": threads, **summary, "layers": rows})
    fields = {"suites": suites}
    record.conclude(console, "layers", versions, fields, keep=not options.no_record)


if __name__ == "__main__":
    main()
