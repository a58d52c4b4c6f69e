"""``python -m benchmarks.networks``: whole models against the best dense engine, the whole table from one command.

ResNet-50, BERT-base, the top MLP of DLRM and MobileNetV2, 2:4 pruned, in int8 (static QDQ) and float32. onnxruntime
and, where it is installed, OpenVINO run the dense file; sparse_rt runs the compressed file, which is what users
deploy. Each has a process of its own and the same number of threads; they take turns. A record is appended to
``benchmarks/results/networks.jsonl``.

Columns:

onnxruntime / ours, openvino / ours
    Median time of the dense engine over ours.
ratio
    That of the better dense engine, with its 95 % interval; below 1 the model loses.
limit
    What the ratio could be (Amdahl) if the layers that hold 2:4 ran as much faster as kernels can, 1.65 times in int8
    and 1.9 times in float32, and the rest as in onnxruntime, whose profiler says how much of its time lies where.
memory
    Peak resident memory of a new process that loads the model and runs it, ours over onnxruntime's.
start
    Time to create a session in a new process, machine code of the kernels cached, ours over onnxruntime's; medians.
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
from benchmarks.comparison import OURS, Comparison, compare, open_engines
from benchmarks.limit import KERNEL_LIMITS, sparse_share, speed_limit
from benchmarks.models.networks import NETWORKS, compressed_file, dense_file
from sparse_rt.feeds import write_npz

__all__ = ["result", "table_row"]

_TURN_SECONDS = 0.2
_STARTS = 5


def _measure(
    name: str, dtype: str, threads: int, seconds: float, models: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return one row of the record, and the engines' versions."""
    dense, ours = dense_file(models, name, dtype), compressed_file(models, name, dtype)
    with ExitStack() as stack:
        feeds = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse_rt-networks-"))) / "feeds.npz"
        write_npz(feeds, NETWORKS[name].feeds()[0])
        with ExitStack() as running:
            engines = open_engines(running)
            comparison = compare(
                engines, dense, ours, feeds, threads=threads, seconds=seconds, turn_seconds=_TURN_SECONDS
            )
        share = sparse_share(dense, feeds, threads)
        # After that: kernels are compiled by now, and files in the system's cache.
        fresh: dict[str, list[dict[str, float]]] = {engine: [] for engine in fresh_process.ENGINES}
        for _ in range(_STARTS):
            for engine, found in fresh.items():
                found.append(fresh_process.measure(engine, ours if engine == OURS else dense, feeds, threads))
    row = {"model": name, "dtype": dtype, "threads": threads, **result(comparison, share, KERNEL_LIMITS[dtype], fresh)}
    return row, comparison.versions


def result(
    comparison: Comparison, share: float, kernel_limit: float, fresh: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, Any]:
    """Return what was found about one model: times in seconds, memory in bytes.

    Parameters
    ----------
    comparison
        Of all engines.
    share
        Part of the dense engine's time in layers that hold 2:4.
    kernel_limit
        How much faster those can be.
    fresh
        What new processes with each of two engines said, see :func:`benchmarks.fresh_process.measure`.
    """
    found: dict[str, Any] = {
        "medians": comparison.medians(),
        "ratios": {name: asdict(ratio) for name, ratio in comparison.ratios().items()},
        "best": comparison.best(),
        "share": share,
        "limit": speed_limit(share, kernel_limit),
    }
    for title, key in (("memory", "peak"), ("imported", "imported"), ("start", "start")):
        found[title] = {engine: median(process[key] for process in processes) for engine, processes in fresh.items()}
    return found


def table_row(row: Mapping[str, Any], dense: Sequence[str]) -> list[str]:
    """Return the cells of one row of the record; `dense` names the columns of the dense engines."""
    best = row["ratios"][row["best"]]
    quotients = [row[title][OURS] / row[title]["onnxruntime"] for title in ("memory", "start")]
    return [
        row["model"],
        row["dtype"],
        str(row["threads"]),
        *(f"{row['ratios'][name]['value']:.2f}" for name in dense),
        f"{best['value']:.2f} [{best['low']:.2f}, {best['high']:.2f}]",
        f"{row['limit']:.2f}",
        *(f"{quotient:.2f}" for quotient in quotients),
        "" if best["value"] >= 1 else "loses",
    ]


def _print(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    dense = list(rows[0]["ratios"])
    table = Table(title="whole models: dense / ours")
    left = ("model", "precision", "")
    columns = (
        *("model", "precision", "threads", *(f"{name} / ours" for name in dense), "ratio [95 %]"),
        *("limit", "memory", "start", ""),
    )
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        table.add_row(*table_row(row, dense))
    console.print(table)


def main() -> None:
    """Measure, print, record."""
    parser = network_options.parser(__doc__, 10)
    options = parser.parse_args()
    names = network_options.chosen(options, parser)
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for name in names:
        for dtype in options.dtype:
            for threads in options.threads:
                row, versions = _measure(name, dtype, threads, options.seconds, options.models)
                rows.append(row)
                console.print(f"{name}, {dtype}, threads {threads}: {row['ratios'][row['best']]['value']:.2f}")
    _print(console, rows)
    fields = {"seconds": options.seconds, "models": rows}
    record.conclude(console, "networks", versions, fields, keep=not options.no_record)


if __name__ == "__main__":
    main()
