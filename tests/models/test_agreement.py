"""Networks of many forms agree with stock onnxruntime, end to end and step by step, dense and compressed."""

import dataclasses
import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.models.agreement import agree_end_to_end, agree_step_by_step
from tests.models.graphs.builder import Sizes
from tests.models.graphs.table import FIXED, FIXED_BUT_BATCH, FORMS, GRAPHS, compressed, dense
from tests.models.onnx_models import sparse_session

SIZES = Sizes()


@pytest.fixture(autouse=True)
def quiet_quantiser():
    """The quantiser logs a warning for every model that was not preprocessed."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GRAPHS)
def test_dense_file(name, form):
    proto, feeds = dense(name, form, SIZES)
    session = sparse_session(proto, threads=2)
    # The quantiser gives a weight on the left a scale for each column, which no kernel takes.
    if name != "left_products" or form == "float32":
        assert any(type(step).__name__ == "SparseStep" for step in session.plan.steps), session.explain()
    agree_end_to_end(session, proto, feeds, form)
    agree_step_by_step(session, proto, feeds)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GRAPHS)
def test_compressed_file_and_threads(name, form):
    """Compressed, on one thread: the same bits as the dense file on two."""
    proto, feeds = dense(name, form, SIZES)
    small, _ = compressed(name, form, SIZES)
    ours, theirs = sparse_session(small, threads=1), sparse_session(proto, threads=2)
    for y, reference in zip(ours.run(None, feeds), theirs.run(None, feeds), strict=True):
        np.testing.assert_array_equal(y, reference)


@pytest.mark.parametrize("form", ["float32", "int8 layers"])
@pytest.mark.parametrize("name", sorted(set(GRAPHS) - FIXED))
@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(5, 40),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    tokens=st.integers(2, 19),
)
def test_any_size(name, form, **sizes):
    """Odd sizes in models of dynamic ones, and other sizes in a session that has run."""
    first = Sizes(**sizes, dynamic=True)
    grown = {"batch": first.batch + 1}
    if name not in FIXED_BUT_BATCH:
        grown |= {"height": first.height + 3, "width": first.width + 2, "tokens": first.tokens + 4}
    proto, feeds = dense(name, form, first)
    _, others = GRAPHS[name](dataclasses.replace(first, **grown))
    session = sparse_session(proto)
    agree_end_to_end(session, proto, feeds, form)
    agree_end_to_end(session, proto, others, form)
    agree_step_by_step(session, proto, others)
