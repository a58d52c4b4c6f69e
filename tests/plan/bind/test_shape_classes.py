"""Bound shapes are kept by memory."""

import gc

import numpy as np
import pytest
from numba.core import config

from sparse_rt.plan.bind import segment as segment_module
from sparse_rt.plan.bind.shape_classes import MISSING, ShapeClasses
from tests.plan.bind.bindings import MODELS, segments, session_of

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_class_used_longest_ago_goes_first():
    classes = ShapeClasses(100)
    for key in "abcd":
        classes.put(key, key.upper(), 25)
    assert classes.get("a") == "A"
    classes.put("e", "E", 50)
    assert [classes.get(key) for key in "bcdae"] == [MISSING, MISSING, "D", "A", "E"]
    classes.put("f", "F", 1000)
    assert (len(classes), classes.nbytes, classes.latest) == (1, 1000, "F")
    classes.put("f", None, 0)
    assert (classes.get("f"), classes.nbytes) == (None, 0)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("kind", ["products", "int8 products"])
def test_thousands_of_shapes_take_bounded_memory(rng, kind, monkeypatch):
    monkeypatch.setattr(segment_module, "MOST_BYTES", 1 << 20)
    session = session_of(MODELS[kind][0](rng))
    columns = MODELS[kind][1][0][1]

    def run(first, last):
        for rows in range(first, last):
            session.run(None, {"x": np.ones((rows % 700 + 1 if rows % 2 else rows // 7 + 1, columns), np.float32)})

    run(0, 1500)
    gc.collect()
    before = resident_bytes()
    run(1500, 5000)
    gc.collect()
    assert resident_bytes() - before < 24 << 20
    assert segments(session)[0].classes.nbytes <= 1 << 20
