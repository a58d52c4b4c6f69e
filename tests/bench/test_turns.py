"""Alternating turns, by a clock that only they move."""

import itertools

import pytest

from sparse_rt.bench.turns import alternate


def test_turns_alternate_and_end():
    now = 0.0
    log = []

    def engine(name, one):
        def turn(runs):
            nonlocal now
            log.append(name)
            now += runs * one
            return [one] * runs

        return turn

    turns = alternate(engine("d", 0.01), engine("s", 0.005), 2.4, clock=lambda: now)
    assert len(turns.dense) == len(turns.sparse)
    assert 8 <= len(turns.dense) <= 12
    assert now == pytest.approx(2.4, abs=0.4)
    assert "".join(log[2:10]) == "dssddssd"
    assert len(turns.sparse[3]) == pytest.approx(2 * len(turns.dense[3]), abs=2)


def test_slow_engines_get_three_turns():
    ticks = itertools.count()
    turns = alternate(lambda runs: [9.0] * runs, lambda runs: [9.0] * runs, 0.1, clock=lambda: float(next(ticks)))
    assert [len(turn) for turn in turns.dense] == [1, 1, 1]
