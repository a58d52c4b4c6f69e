"""``python -m benchmarks.hand_off``: what a native launch costs, and what a second thread gains, alone on the machine.

First, tasks that only compute: two of them on one thread and on two. Then whole session runs of matrix products. One
process, no other engine: `benchmarks.layers` compares engines.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray
from rich.console import Console
from rich.table import Table
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.pool import ThreadPool

from benchmarks.layer_models import build_layer, layer_feeds, load_suite
from sparse_rt import InferenceSession, SessionOptions

_ROUNDS = np.dtype([("count", "i8")])
_MICROSECONDS = (0, 5, 20, 50, 100)
_LAYERS = ("dlrm_top_2_m2048", "bert_large_ffn_in_m2048", "bert_large_ffn_out_m2048")


def _multiply_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Multiply and add so often that each product waits for the one before."""
    value = 1.0
    for _ in range(carray(arguments, (1,), _ROUNDS)[0].count):
        value = value * 1.0000001 + 0.5
    return 0 if value > 0 else 1


def _median(run: Callable[[], object], runs: int) -> float:
    """Return the median seconds of a call that has been warmed up."""
    times = []
    for number in range(runs + runs // 5):
        start = time.perf_counter()
        run()
        if number >= runs // 5:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _launch_seconds(rounds: int, threads: int, tasks: int = 2) -> float:
    pool, array = ThreadPool(threads), np.zeros(1)
    launch = Launch([Phase(_multiply_task, np.array([(rounds,)], _ROUNDS), tasks)])
    return _median(lambda: launch.run(array, array, pool), 500)


def _session_seconds(name: str, threads: int) -> float:
    (shape,) = (shape for shape in load_suite("gemm") if shape.name == name)
    options = SessionOptions(intra_op_num_threads=threads, tuning="sparse")
    session, feeds = InferenceSession(build_layer(shape, "int8"), options), layer_feeds(shape, "int8")
    return _median(lambda: session.run(None, feeds), 100)


def main() -> None:
    """Measure and print."""
    per_round = (_launch_seconds(100_000, 1, 1) - _launch_seconds(0, 1, 1)) / 100_000
    table = Table("work", "one thread / two threads")
    for microseconds in _MICROSECONDS:
        rounds = int(microseconds * 1e-6 / per_round)
        ratio = _launch_seconds(rounds, 1) / _launch_seconds(rounds, 2)
        table.add_row(f"two tasks of {microseconds} us", f"{ratio:.2f}")
    for name in _LAYERS:
        table.add_row(f"{name}, int8, session", f"{_session_seconds(name, 1) / _session_seconds(name, 2):.2f}")
    Console().print(table)
    Console().print(f"an empty launch on one thread: {_launch_seconds(0, 1, 1) * 1e6:.1f} us")


if __name__ == "__main__":
    main()
