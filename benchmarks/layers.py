"""``python -m benchmarks.layers``: every layer shape against the best dense engine, the whole table from one command.

Each engine (onnxruntime, OpenVINO where it is installed, sparse_rt) runs the same single-layer model in a process of
its own, with the same number of threads; they take turns. A ratio is the best dense engine's median over ours. The
table ends with the geometric mean and the worst layer of each suite; a record is appended to
``benchmarks/results/layers.jsonl``.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.layer_models import DTYPES, SUITES, LayerShape, build_layer, layer_feeds, load_suite
from sparse_rt.bench.machine import cpu_name
from sparse_rt.bench.process import EngineProcess
from sparse_rt.feeds import write_npz

_RESULTS = Path(__file__).parent / "results" / "layers.jsonl"
_OURS = "sparse_rt"
_LOAD_TIMEOUT = 600.0
_TURN_TIMEOUT = 120.0
_TURN_SECONDS = 0.04


def _open_engines(stack: ExitStack) -> dict[str, EngineProcess]:
    engines = {name: stack.enter_context(EngineProcess(name)) for name in ("onnxruntime", _OURS)}
    if importlib.util.find_spec("openvino"):
        command = [sys.executable, "-m", "benchmarks.openvino_worker"]
        engines["openvino"] = stack.enter_context(EngineProcess("openvino", command))
    return engines


def _time_layer(
    engines: dict[str, EngineProcess], shape: LayerShape, dtype: str, threads: int, seconds: float, folder: Path
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the median seconds of each engine on one layer, and the engines' versions."""
    path, feeds = folder / "layer.onnx", folder / "feeds.npz"
    onnx.save_model(build_layer(shape, dtype), path)
    write_npz(feeds, layer_feeds(shape, dtype))
    versions, runs = {}, {}
    for name, engine in engines.items():
        versions[name] = engine.request("load", _LOAD_TIMEOUT, path=str(path), threads=threads)["version"]
        engine.request("feed", _LOAD_TIMEOUT, path=str(feeds))
        one = min(engine.request("turn", _TURN_TIMEOUT, runs=3)["times"])
        runs[name] = max(1, int(_TURN_SECONDS / one))
    times: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for name in order:
            # The first run of a turn pays for the caches that the other engines filled.
            times[name] += engines[name].request("turn", _TURN_TIMEOUT, runs=runs[name] + 1)["times"][1:]
        order.append(order.pop(0))
    return {name: float(np.median(values)) for name, values in times.items()}, versions


def _commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _row(shape: LayerShape, medians: dict[str, float]) -> dict[str, Any]:
    best = min((name for name in medians if name != _OURS), key=medians.__getitem__)
    ratios = {name: medians[name] / medians[_OURS] for name in medians if name != _OURS}
    return {"layer": shape.name, "m": shape.m, "n": shape.n, "k": shape.k, "best": best, "ratios": ratios}


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
        engines = _open_engines(stack)
        for suite in options.suite:
            shapes = [shape for shape in load_suite(suite) if options.only in shape.name]
            for dtype in options.dtype:
                for threads in options.threads:
                    rows = []
                    for shape in shapes:
                        medians, versions = _time_layer(engines, shape, dtype, threads, options.seconds, folder)
                        rows.append(_row(shape, medians))
                    title = f"{suite}, {dtype}, {threads} thread{'s' * (threads > 1)}"
                    summary = _print_suite(console, title, rows)
                    suites.append({"suite": suite, "dtype": dtype, "threads": threads, **summary, "layers": rows})
    console.print(f"{cpu_name()}; {', '.join(versions.values())}; commit {_commit()}")
    if not options.no_record:
        _RESULTS.parent.mkdir(exist_ok=True)
        record = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": _commit(),
            "cpu": cpu_name(),
            "engines": versions,
            "suites": suites,
        }
        with _RESULTS.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
