"""Alternating turns: who measures, for how long, and how often."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Turn", "Turns", "alternate"]

_PAIRS = 12
_MIN_PAIRS = 3

#: Takes a number of runs, returns the seconds of each.
Turn = Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Turns:
    """Seconds of every run, turn by turn; turn i of one engine ran beside turn i of the other."""

    dense: list[list[float]]
    sparse: list[list[float]]


def alternate(dense: Turn, sparse: Turn, seconds: float, clock: Callable[[], float] = time.perf_counter) -> Turns:
    """Let two engines run in turns for about `seconds`, and at least three pairs of turns.

    Who begins changes with every pair, so that neither always inherits the other's heat or its spinning threads. Each
    turn holds as many runs as fit its share of the time; its first run is warm-up and not counted.

    Parameters
    ----------
    dense, sparse
        Called with a number of runs; return the time of each.
    seconds
        Bound on the wall time; exceeded only by the minimum of turns and by the last one.
    clock
        For tests.
    """
    start = clock()
    # Warm-up: the first runs page in weights and, for the sparse engine, may still compile.
    counts = [_runs_in(seconds / (2 * _PAIRS), engine(2)[-1]) for engine in (dense, sparse)]
    turns = Turns([], [])
    while len(turns.dense) < _MIN_PAIRS or clock() - start < seconds:
        order = (0, 1) if len(turns.dense) % 2 == 0 else (1, 0)
        for side in order:
            times = list((dense, sparse)[side](counts[side] + 1))[1:]
            (turns.dense, turns.sparse)[side].append(times)
            counts[side] = _runs_in(seconds / (2 * _PAIRS), statistics.median(times))
    return turns


def _runs_in(share: float, one: float) -> int:
    return max(1, min(10_000, int(share / max(one, 1e-9))))
