"""Single layers: all kinds of them are measured, as far as time allows."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from sparse_rt.tuning import layer_tuning
from sparse_rt.tuning.decide import PLAN
from sparse_rt.tuning.layer_tuning import LayerTuning
from tests.models.forced_measurements import FakeMeasure, needs_dense
from tests.models.onnx_models import info, model, node, sparse


def of_many_kinds(rng, widths, rows=3):
    """A chain of layers, each of other sizes."""
    nodes, values, x = [], {}, "x"
    for number, (k, n) in enumerate(itertools.pairwise(widths)):
        nodes.append(node("MatMul", [x, f"w{number}"], [f"y{number}"]))
        values[f"w{number}"] = sparse(rng, n, k).T.copy()
        x = f"y{number}"
    return model(nodes, [info("x", rows, widths[0])], [info(x, rows, widths[-1])], values)


@needs_dense
def test_where_time_is_over_the_largest_layers_have_been_measured(tuned, rng, monkeypatch):
    """A model of any number of kinds is tuned in bounded time: here for three of twelve."""
    widths = [8, 16, 8, 24, 8, 40, 64, 16, 64, 8, 32, 8, 48]
    asked, left = [], iter([1.0, 0.5, 0.25, 0.0])

    def timed(tuning, candidates):
        asked.append(candidates)
        tuning._left = next(left)
        return dict.fromkeys(candidates, 0.001)

    monkeypatch.setattr(LayerTuning, "_time", timed)
    monkeypatch.setattr(layer_tuning, "hand_over_microseconds", lambda *_: pytest.fail("nothing wins in onnxruntime"))
    prepared = []
    ways = layer_tuning.ways_of_layer
    monkeypatch.setattr(layer_tuning, "ways_of_layer", lambda *of: prepared.append(of[1].shape) or ways(*of))
    session = tuned(FakeMeasure({PLAN: 1e-6}), source=of_many_kinds(rng, widths).SerializeToString())
    assert len(asked) == 4
    sizes = sorted((n * k for k, n in itertools.pairwise(widths)), reverse=True)
    assert [np.prod(shape) for shape in prepared] == sizes[:4]
    assert all("n2m4" in report.kernel for report in session.explain())


@needs_dense
def test_what_is_made_ready_for_measurements_is_bounded_too(tuned, rng, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(layer_tuning, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    fake = FakeMeasure({PLAN: 1e-6})
    session = tuned(fake, source=of_many_kinds(rng, [8, 16, 24, 8, 40, 64, 16]).SerializeToString(), tuning_seconds=6)
    # Of half of 6 seconds each second is one look at the clock; measurements take their share, too.
    assert len(fake.layers) == 3
    assert len(session.explain()) == 6
