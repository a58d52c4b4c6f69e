"""Processes that misbehave."""

import sys
import time

import pytest

from sparse_rt.bench.process import EngineProcess
from sparse_rt.errors import SparseRTError


def process(code):
    return EngineProcess("test", [sys.executable, "-c", code])


def test_a_dying_process_is_reported_with_its_last_words():
    with process("import sys; sys.stdin.readline(); sys.exit('out of luck')") as engine:
        with pytest.raises(SparseRTError, match=r"engine test: expected a running process, got exit status 1.*luck"):
            engine.request("load", 60)
        with pytest.raises(SparseRTError, match="running process"):
            engine.request("load", 60)


def test_a_silent_process_is_ended():
    engine = process("import time; time.sleep(600)")
    start = time.perf_counter()
    with pytest.raises(SparseRTError, match=r"none to 'turn' within"):
        engine.request("turn", 0.2)
    assert time.perf_counter() - start < 30
    engine.close()


def test_a_babbling_process_is_reported():
    with (
        process("input(); print('hello')\nwhile True: input()") as engine,
        pytest.raises(SparseRTError, match="an answer in JSON, got 'hello"),
    ):
        engine.request("load", 60)
