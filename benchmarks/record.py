"""Records of measurements: one JSON object a line in ``benchmarks/results``, with what they were measured on."""

import json
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_rt.bench.machine import cpu_name

__all__ = ["append", "conclude", "provenance"]

_RESULTS = Path(__file__).parent / "results"


def provenance(engines: Mapping[str, str]) -> dict[str, Any]:
    """Return date, commit, CPU, and the versions of the engines and of what compiles our kernels."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "cpu": cpu_name(),
        "engines": dict(engines),
        "numba": version("numba"),
        "numpy": version("numpy"),
    }


def _commit() -> str:
    """Return the commit that is checked out here; ``+`` says that files other than the results differ from it."""
    commit = _git("rev-parse", "--short", "HEAD").stdout.strip()
    differs = _git("diff", "--quiet", "HEAD", "--", ":/", ":!results").returncode
    return commit + "+" * bool(differs) if commit else "unknown"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(_RESULTS.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def conclude(console: Console, name: str, engines: Mapping[str, str], fields: Mapping[str, Any], *, keep: bool) -> None:
    """Print what a command's figures were measured on, and append them to its record, unless they are not to be kept.

    Parameters
    ----------
    name
        Of the command, and of its record.
    engines
        Their versions.
    fields
        What the record says beside its provenance.
    """
    origin = provenance(engines)
    console.print(f"{origin['cpu']}; {', '.join(engines.values())}; commit {origin['commit']}")
    if keep:
        append(name, {**origin, **fields})


def append(name: str, record: Mapping[str, Any]) -> None:
    """Append one line to ``benchmarks/results/<name>.jsonl``."""
    _RESULTS.mkdir(exist_ok=True)
    with (_RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
