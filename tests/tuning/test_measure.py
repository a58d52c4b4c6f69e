"""Timing in turns, by a clock that only the candidates move."""

import itertools
import threading

from sparse_rt.tuning.measure import measure, quiet


class Clock:
    """A clock that only runs of candidates move."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def runner(self, name, *times):
        taken = itertools.cycle(times)

        def run():
            self.log.append(name)
            self.now += next(taken)

        return run


def test_a_measurement_ends_when_the_fastest_is_clear():
    clock = Clock()
    found = measure({"a": clock.runner("a", 1.0), "b": clock.runner("b", 2.0)}, 1000, 1.0, clock=clock)
    assert found == {"a": 1.0, "b": 2.0}
    # Two runs before, then three rounds of two runs, a first one on top where runs are shorter than a turn.
    assert clock.log.count("b") == 2 + 3 * 2


def test_a_close_measurement_goes_on_and_one_slow_run_does_not_decide_it():
    clock = Clock()
    close = {"a": clock.runner("a", 1.0), "b": clock.runner("b", 1.125, 1.125, 64.0, 1.125, 1.125)}
    found = measure(close, 1e6, 1.0, clock=clock)
    assert found == {"a": 1.0, "b": 1.125}
    assert clock.log.count("a") == 2 + 7 * 2


def test_a_measurement_without_time_still_runs_everybody():
    clock = Clock()
    assert measure({"a": clock.runner("a", 3.0), "b": clock.runner("b", 2.0)}, 0.0, 1.0, clock=clock) == {
        "a": 3,
        "b": 2,
    }


def test_who_begins_changes():
    clock = Clock()
    begun = []
    runs = {name: clock.runner(name, 1.0) for name in "ab"}
    measure(runs, 1e6, 1.0, lambda: begun.append(len(clock.log)), clock=clock)
    firsts = [clock.log[at] for at in begun[2:]]
    assert firsts[:4] == ["a", "b", "b", "a"]


def test_waiting_for_quiet_ends():
    busy = threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in iter(busy.is_set, True)])
    thread.start()
    quiet()
    busy.set()
    thread.join()
    quiet()
