"""``python -m benchmarks.never_slower``: models of many forms, sparse and dense, none slower than in onnxruntime.

onnxruntime and sparse_rt run the same file (weights that hold 2:4 are found in it), each in a process of its own with
the same number of threads, in alternating turns. The session tunes itself first (docs/tuning.md), unless `--tuning`
says otherwise. The table says onnxruntime's median time over ours with its 95 % interval, and which models lose more
than 5 %. A record is appended to ``benchmarks/results/never_slower.jsonl``.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.comparison import OURS, Comparison, compare
from benchmarks.models.networks import DTYPES, NETWORKS, cache_folder, dense_file
from benchmarks.models.variety import VARIETY
from sparse_rt.bench.process import EngineProcess
from sparse_rt.feeds import write_npz
from sparse_rt.plan.options import TUNING, TUNING_VARIABLE

__all__ = ["LEAST", "result", "table_row"]

#: The ratio that no model may fall below.
LEAST = 0.95
_MODELS = {**VARIETY, **NETWORKS}
_DENSE = "onnxruntime"
_TURN_SECONDS = 0.05


def _measure(path: Path, feeds: Mapping[str, Any], threads: int, seconds: float) -> Comparison:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparse_rt-never_slower-")))
        write_npz(folder / "feeds.npz", feeds)
        engines = {name: stack.enter_context(EngineProcess(name)) for name in (_DENSE, OURS)}
        return compare(
            engines, path, path, folder / "feeds.npz", threads=threads, seconds=seconds, turn_seconds=_TURN_SECONDS
        )


def result(comparison: Comparison) -> dict[str, Any]:
    """Return what was found about one model, times in seconds."""
    return {"medians": comparison.medians(), "ratio": asdict(comparison.ratios()[_DENSE])}


def table_row(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of one row of the record."""
    ratio, medians = row["ratio"], row["medians"]
    return [
        row["model"],
        row["dtype"],
        str(row["threads"]),
        *(f"{medians[name] * 1e3:.4g}" for name in (_DENSE, OURS)),
        f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        "" if ratio["value"] >= LEAST else "loses",
    ]


def _print(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="onnxruntime / ours, the same file")
    for column in ("model", "precision", "threads", f"{_DENSE} ms", "ours ms", "ratio [95 %]", ""):
        table.add_column(column, justify="left" if column in ("model", "precision", "") else "right")
    for row in rows:
        table.add_row(*table_row(row))
    console.print(table)
    losses = sum(row["ratio"]["value"] < LEAST for row in rows)
    console.print(f"{losses} of {len(rows)} lose more than {1 - LEAST:.0%}")


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(_MODELS), default=list(VARIETY), metavar="MODEL")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1, help="measured time a row of the table")
    parser.add_argument(
        "--models",
        type=Path,
        default=cache_folder(),
        metavar="FOLDER",
        help="of NAME_DTYPE.onnx; built there if missing, and never replaced (default: %(default)s)",
    )
    parser.add_argument("--tuning", choices=TUNING, default="on", help="of the session (default: %(default)s)")
    parser.add_argument("--no-record", action="store_true", help="do not append to benchmarks/results")
    options = parser.parse_args()
    # Engines' processes inherit it.
    os.environ[TUNING_VARIABLE] = options.tuning
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for name in options.only:
        for dtype in options.dtype:
            path = dense_file(options.models, name, dtype, _MODELS)
            for threads in options.threads:
                comparison = _measure(path, _MODELS[name].feeds()[0], threads, options.seconds)
                versions = comparison.versions
                rows.append({"model": name, "dtype": dtype, "threads": threads, **result(comparison)})
                console.print(f"{name}, {dtype}, threads {threads}: {rows[-1]['ratio']['value']:.2f}")
    _print(console, rows)
    fields = {"tuning": options.tuning, "seconds": options.seconds, "models": rows}
    record.conclude(console, "never_slower", versions, fields, keep=not options.no_record)


if __name__ == "__main__":
    main()
