"""Whatever wins a measurement gives the right answer: every candidate is made the winner, and read back from disk.

A few of all combinations run here; `make candidates` runs them all.
"""

import logging
import os

import onnx
import pytest
from numba.core import config

import sparse_rt as srt
from sparse_rt.tuning import tuner
from sparse_rt.tuning.decide import HOSTED
from sparse_rt.tuning.store import Store
from tests.models.agreement import agree_end_to_end, agree_step_by_step
from tests.models.forced_measurements import CANDIDATES, has_dense_kernels, no_measure
from tests.models.graphs.builder import Sizes
from tests.models.graphs.table import FIXED, FORMS, GRAPHS, compressed, dense

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is tuned without machine code")

OPEN, CLOSED = Sizes(batch=2, height=11, dynamic=True), Sizes()
SOURCES = {
    "path": lambda proto, folder: _saved(proto, folder / "m.onnx"),
    "bytes": lambda proto, folder: proto.SerializeToString(),
    "proto": lambda proto, folder: proto,
}
COMBINATIONS = [
    (name, form, candidate, sizes, source, stored)
    for name in GRAPHS
    for form in FORMS
    for candidate in CANDIDATES
    for sizes in (OPEN, CLOSED)
    if not (sizes.dynamic and name in FIXED)
    for source in SOURCES
    for stored in ("dense", "compressed")
]
#: Shares no factor with the numbers of forms, candidates and the like, so that few combinations hold them all.
STRIDE = 1 if os.environ.get("SPARSE_RT_ALL_CANDIDATES") else 331


def _saved(proto, path):
    onnx.save(proto, path)
    return path


@pytest.fixture(autouse=True)
def quiet_quantiser():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def _id(combination):
    return "-".join(str(part).replace(" ", "_") for part in combination)


@pytest.mark.parametrize("combination", COMBINATIONS[::STRIDE], ids=_id)
def test_every_winner_is_right_and_is_read_back(combination, monkeypatch, tmp_path):
    name, form, candidate, sizes, source, stored = combination
    if candidate == "dense kernels" and not has_dense_kernels():
        pytest.skip("no dense kernel of this tier")
    proto, feeds = (dense if stored == "dense" else compressed)(name, form, sizes)
    reference, _ = dense(name, form, sizes)
    monkeypatch.setattr(tuner, "Store", lambda: Store(tmp_path / "tuning"))
    described = []
    for measure in (CANDIDATES[candidate](), no_measure):
        monkeypatch.setattr(tuner, "measure", measure)
        session = srt.InferenceSession(SOURCES[source](proto, tmp_path), srt.SessionOptions(2, tuning="on"))
        agree_end_to_end(session, reference, feeds, form)
        agree_end_to_end(session, reference, feeds, form)
        if stored == "dense":
            agree_step_by_step(session, proto, feeds)
        described.append((session.plan.describe(), session.explain()))
    assert described[0] == described[1]
    _assert_won(session, candidate)


def _assert_won(session, candidate):
    ran = {report.kernel for report in session.explain() if report.tried}
    if candidate == "all of it in onnxruntime":
        assert session.plan.stock is not None
    elif candidate == "kernels inside onnxruntime":
        # A plan without islands is not tried inside onnxruntime.
        assert session.plan.is_hosted == any(trial.candidate == HOSTED for trial in session.plan.tried)
    elif candidate == "layers in onnxruntime":
        assert ran <= {None}
    elif candidate != "a way of its own for each layer":
        form = "_n2m4_" if candidate == "sparse kernels" else "_dense_"
        assert all(kernel and form in kernel for kernel in ran), session.explain()
