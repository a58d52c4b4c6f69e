"""Engines on one model: each in a process of its own, with the same number of threads, in alternating turns."""

import importlib.util
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sparse_rt.bench.process import EngineProcess
from sparse_rt.bench.statistics import Ratio, ratio_of_medians, summarise

__all__ = ["OURS", "Comparison", "compare", "open_engines"]

OURS = "sparse_rt"
_LOAD_TIMEOUT = 900.0
_TURN_TIMEOUT = 120.0
_LEAST_TURNS = 3


@dataclass(frozen=True)
class Comparison:
    """What the engines, ours among them, took for one model."""

    turns: dict[str, list[list[float]]]
    """Seconds of every run of every turn; turn i of one engine ran beside turn i of the others."""

    versions: dict[str, str]

    def medians(self) -> dict[str, float]:
        """Return each engine's median seconds."""
        return {name: summarise([run for turn in turns for run in turn]).median for name, turns in self.turns.items()}

    def ratios(self) -> dict[str, Ratio]:
        """Return each dense engine's time over ours."""
        return {name: ratio_of_medians(turns, self.turns[OURS]) for name, turns in self.turns.items() if name != OURS}

    def best(self) -> str:
        """Return the dense engine with the shortest median."""
        dense = {name: median for name, median in self.medians().items() if name != OURS}
        return min(dense, key=dense.__getitem__)


def open_engines(stack: ExitStack) -> dict[str, EngineProcess]:
    """Start onnxruntime, sparse_rt and, where it is installed, OpenVINO, until `stack` is left."""
    engines = {name: stack.enter_context(EngineProcess(name)) for name in ("onnxruntime", OURS)}
    if importlib.util.find_spec("openvino"):
        command = [sys.executable, "-m", "benchmarks.openvino_worker"]
        engines["openvino"] = stack.enter_context(EngineProcess("openvino", command))
    return engines


def compare(
    engines: Mapping[str, EngineProcess],
    dense: Path,
    ours: Path,
    feeds: Path,
    *,
    threads: int,
    seconds: float,
    turn_seconds: float,
) -> Comparison:
    """Let every engine load its file and run it in turns of about `turn_seconds`, for `seconds`.

    There are three turns at least; who begins changes from one to the next.
    """
    versions, runs = {}, {}
    for name, engine in engines.items():
        path = ours if name == OURS else dense
        versions[name] = engine.request("load", _LOAD_TIMEOUT, path=str(path), threads=threads)["version"]
        engine.request("feed", _LOAD_TIMEOUT, path=str(feeds))
        one = min(engine.request("turn", _TURN_TIMEOUT, runs=3)["times"])
        runs[name] = max(1, int(turn_seconds / one))
    found = Comparison({name: [] for name in engines}, versions)
    order = list(engines)
    start = time.perf_counter()
    while len(found.turns[OURS]) < _LEAST_TURNS or time.perf_counter() - start < seconds:
        for name in order:
            # The first run of a turn pays for the caches that the other engines filled.
            times = engines[name].request("turn", _TURN_TIMEOUT, runs=runs[name] + 1)["times"][1:]
            found.turns[name].append(times)
        order.append(order.pop(0))
    return found
