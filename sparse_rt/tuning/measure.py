"""Time a few ways to do the same thing, in turns, until the fastest is clear or the time is over."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Protocol

__all__ = ["Measure", "quiet", "measure"]

_MOST_ROUNDS = 7
_LEAST_ROUNDS = 3
#: After the least number of rounds, the measurement is over if all others take this many times as long as the fastest.
_CLEAR = 1.2
#: Of a turn.
_LEAST_RUNS = 2
_MOST_RUNS = 200
#: Seconds for which :func:`quiet` waits at most (onnxruntime's workers spin for 36 ms), in steps longer than the ticks
#: in which the system accounts for other threads' time, and the share of a step in which the process may be busy.
_PATIENCE = 0.15
_STEP = 0.008
_BUSY = 0.3


class Measure(Protocol):
    """The form of :func:`measure`."""

    def __call__(
        self,
        candidates: Mapping[str, Callable[[], object]],
        seconds: float,
        turn: float,
        before_turn: Callable[[], None] | None = None,
    ) -> dict[str, float]:
        """Return the median seconds of a run of each candidate."""
        ...


def measure(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float,
    turn: float,
    before_turn: Callable[[], None] | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of a run of each candidate.

    They take turns, so that a drift of the clock, or another process, meets all of them; who begins changes from round
    to round. The first run of a turn warms caches and is not counted, unless runs are so long that it would cost much.

    Parameters
    ----------
    candidates
        By name; two at least make sense, and none take no time.
    seconds
        When to end, but not before each candidate had one turn.
    turn
        Seconds of a turn, into which as many runs go as fit.
    before_turn
        Called before each turn.
    clock
        For tests.
    """
    pause = before_turn or _nothing
    first: dict[str, float] = {}
    for name, run in candidates.items():
        pause()
        run()
        first[name] = _times(run, 1, clock)[0]
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    start = clock()
    for number in range(_MOST_ROUNDS if names else 0):
        is_late = clock() - start + sum(first.values()) > seconds
        if number and (is_late or (number >= _LEAST_ROUNDS and _is_clear(times))):
            break
        for name in names[number % len(names) :] + names[: number % len(names)]:
            pause()
            if first[name] < turn:
                candidates[name]()
            count = max(_LEAST_RUNS, min(_MOST_RUNS, int(turn / max(first[name], 1e-9))))
            times[name] += _times(candidates[name], count, clock)
    return {name: statistics.median(found) for name, found in times.items()}


def quiet() -> None:
    """Wait until this process's threads are idle: workers of an engine that spin take the cores from the next one."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(_STEP)
        if time.process_time() - before < _BUSY * _STEP:
            return


def _nothing() -> None:
    pass


def _times(run: Callable[[], object], count: int, clock: Callable[[], float]) -> list[float]:
    """Return the seconds of each run: a run that another process interrupts must not spoil its neighbours."""
    found = []
    for _ in range(count):
        begin = clock()
        run()
        found.append(clock() - begin)
    return found


def _is_clear(times: Mapping[str, list[float]]) -> bool:
    medians = sorted(map(statistics.median, times.values()))
    return len(medians) < 2 or medians[1] > _CLEAR * medians[0]
