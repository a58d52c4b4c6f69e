"""``python -m benchmarks.library``: sparse kernels inside stock onnxruntime, against the same onnxruntime.

onnxruntime runs the dense file, and the compressed file with a library of sparse kernels registered, each in a process
of its own with the same number of threads, in alternating turns. A record is appended to
``benchmarks/results/library.jsonl``.

Columns:

dense ms, ours ms, ratio
    Median times of a run, and the first over the second with its 95 % interval; then the ratio to reach.
load, first run
    Seconds in new processes, machine code of the kernels cached: creating the session, and its first run; the dense
    file's and ours; medians. The last is how much later than the dense file's ours has its first result.
memory
    Peak resident memory of those processes, ours over the dense file's; then that of the sessions alone, what was
    resident after the imports taken off.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import fresh_process, network_options, record
from benchmarks.comparison import OURS, Comparison, compare
from benchmarks.models.networks import NETWORKS, compressed_file, dense_file
from benchmarks.registered import FROM_PYTHON, WITHOUT
from sparse_rt.bench.process import EngineProcess
from sparse_rt.feeds import write_npz

__all__ = ["REACH", "result", "table_row"]

#: The ratios that are asked for.
REACH = {
    ("bert_base_s128", "float32"): 1.4,
    ("bert_base_s128", "int8"): 1.5,
    ("resnet50_b1", "float32"): 1.3,
    ("resnet50_b1", "int8"): 1.2,
    ("dlrm_top_m128", "float32"): 1.4,
    ("dlrm_top_m128", "int8"): 1.4,
    ("dlrm_top_m2048", "float32"): 1.4,
    ("dlrm_top_m2048", "int8"): 1.4,
}
LATEST = 0.5
"""Seconds by which the first result may come later than the dense file's."""

_DENSE = "onnxruntime"
_TURN_SECONDS = 0.2
_STARTS = 5


def _measure(
    name: str, dtype: str, threads: int, seconds: float, models: Path, library: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return one row of the record, and the engines' versions."""
    dense, ours = dense_file(models, name, dtype), compressed_file(models, name, dtype)
    with ExitStack() as stack:
        feeds = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse_rt-library-"))) / "feeds.npz"
        write_npz(feeds, NETWORKS[name].feeds()[0])
        with ExitStack() as running:
            command = [sys.executable, "-m", "benchmarks.library_worker", library]
            engines = {
                _DENSE: running.enter_context(EngineProcess(_DENSE)),
                OURS: running.enter_context(EngineProcess("library", command)),
            }
            comparison = compare(
                engines, dense, ours, feeds, threads=threads, seconds=seconds, turn_seconds=_TURN_SECONDS
            )
        # After that: kernels are compiled by now, and files in the system's cache.
        fresh: dict[str, list[dict[str, float]]] = {_DENSE: [], OURS: []}
        for _ in range(_STARTS):
            fresh[_DENSE].append(fresh_process.measure(_DENSE, dense, feeds, threads))
            fresh[OURS].append(fresh_process.measure(f"library={library}", ours, feeds, threads))
    return {"model": name, "dtype": dtype, "threads": threads, **result(comparison, fresh)}, comparison.versions


def result(comparison: Comparison, fresh: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return what was found about one model: times in seconds, memory in bytes.

    Parameters
    ----------
    comparison
        Of the two engines.
    fresh
        What new processes with each of them said, see :func:`benchmarks.fresh_process.measure`.
    """
    found: dict[str, Any] = {"medians": comparison.medians(), "ratio": asdict(comparison.ratios()[_DENSE])}
    for title, key in (("load", "start"), ("first", "first"), ("memory", "peak"), ("imported", "imported")):
        found[title] = {engine: median(process[key] for process in processes) for engine, processes in fresh.items()}
    found["later"] = sum(found[title][OURS] - found[title][_DENSE] for title in ("load", "first"))
    return found


def table_row(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of one row of the record."""
    ratio, reach = row["ratio"], REACH.get((row["model"], row["dtype"]))
    memory, imported = row["memory"], row["imported"]
    alone = [memory[engine] - imported[engine] for engine in (OURS, _DENSE)]
    return [
        row["model"],
        row["dtype"],
        str(row["threads"]),
        *(f"{row['medians'][name] * 1e3:.4g}" for name in (_DENSE, OURS)),
        f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        "" if reach is None else f"{reach:.1f}",
        *(" / ".join(f"{row[title][name]:.3f}" for name in (_DENSE, OURS)) for title in ("load", "first")),
        f"{row['later']:+.2f}",
        f"{memory[OURS] / memory[_DENSE]:.2f}",
        f"{alone[0] / alone[1]:.2f}",
        "" if ratio["value"] >= (reach or 1) and row["later"] <= LATEST and alone[0] <= alone[1] else "misses",
    ]


def _print(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="onnxruntime: dense file / compressed file with the library")
    left = ("model", "precision", "")
    columns = (
        *("model", "precision", "threads", "dense ms", "ours ms", "ratio [95 %]", "reach"),
        *("load s", "first run s", "later s", "memory", "session", ""),
    )
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        table.add_row(*table_row(row))
    console.print(table)


def main() -> None:
    """Measure, print, record."""
    parser = network_options.parser(__doc__, 5)
    parser.add_argument(
        "--library",
        default=FROM_PYTHON,
        help=f"{FROM_PYTHON}, the one that sparse_rt writes for this process; {WITHOUT}; or a file of sparse-rt "
        "library, where {model} and {dtype} stand for each model's own (default: %(default)s)",
    )
    options = parser.parse_args()
    names = network_options.chosen(options, parser)
    console = Console(width=None if sys.stdout.isatty() else 170)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for name in names:
        for dtype in options.dtype:
            library = options.library.format(model=name, dtype=dtype)
            for threads in options.threads:
                row, versions = _measure(name, dtype, threads, options.seconds, options.models, library)
                rows.append(row)
                console.print(f"{name}, {dtype}, threads {threads}: {row['ratio']['value']:.2f}")
    _print(console, rows)
    fields = {"library": options.library, "seconds": options.seconds, "models": rows}
    record.conclude(console, "library", versions, fields, keep=not options.no_record)


if __name__ == "__main__":
    main()
