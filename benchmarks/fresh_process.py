"""``python -m benchmarks.fresh_process ENGINE MODEL FEEDS THREADS``: what loading a model costs a process of its own.

ENGINE is `onnxruntime`, `sparse_rt`, or `library=LIBRARY`, onnxruntime with a library (benchmarks/registered.py).

Prints JSON: ``start``, the seconds that creating the session took, imports not counted; ``first``, those of its first
run; ``peak``, the peak resident bytes after a few runs; ``imported``, the peak before the session. Only the engine's
own package is imported.
"""

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ENGINES", "measure"]

ENGINES = ("onnxruntime", "sparse_rt")
_RUNS = 5
_WITH_LIBRARY = "library="


def measure(engine: str, model: Path, feeds: Path, threads: int) -> dict[str, float]:
    """Return what a new process with `engine` says about `model`."""
    command = [sys.executable, "-m", "benchmarks.fresh_process", engine, str(model), str(feeds), str(threads)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: exit status {run.returncode}: {run.stderr[-400:].strip()}")
    found: dict[str, float] = json.loads(run.stdout)
    return found


def _opener(engine: str) -> Callable[[str, int], Any]:
    """Import the engine; return what makes a session."""
    if engine.startswith(_WITH_LIBRARY):
        from benchmarks import registered

        return functools.partial(registered.open_session, library=engine.removeprefix(_WITH_LIBRARY))
    if engine == "onnxruntime":
        import onnxruntime as package
    else:
        import sparse_rt as package
    session, options = package.InferenceSession, package.SessionOptions

    def open_session(model: str, threads: int) -> Any:
        chosen = options()
        chosen.intra_op_num_threads = threads
        return session(model, chosen, providers=["CPUExecutionProvider"])

    return open_session


def _peak_bytes() -> int:
    """Return the high-water mark of this process's resident memory (Linux).

    Not getrusage's, which a new process inherits from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "VmHWM":
            return int(value.split()[0]) * 1024
    raise RuntimeError("/proc/self/status: expected a line VmHWM, got none.")


def main(engine: str, model: str, feeds: str, threads: str) -> None:
    """Load, run, print."""
    open_session = _opener(engine)
    with np.load(feeds, allow_pickle=False) as archive:
        arrays = dict(archive)
    imported = _peak_bytes()
    start = time.perf_counter()
    session = open_session(model, int(threads))
    started = time.perf_counter() - start
    start = time.perf_counter()
    session.run(None, arrays)
    first = time.perf_counter() - start
    for _ in range(_RUNS - 1):
        session.run(None, arrays)
    print(json.dumps({"start": started, "first": first, "peak": _peak_bytes(), "imported": imported}))


if __name__ == "__main__":
    main(*sys.argv[1:])
