"""The benchmark of many models: its table, and that its models are what their names say."""

import logging

import pytest

from benchmarks.comparison import Comparison
from benchmarks.models.networks import dense_file
from benchmarks.models.variety import VARIETY
from benchmarks.never_slower import result, table_row
from sparse_rt import InferenceSession, SessionOptions


@pytest.mark.parametrize(("ours", "cells"), [(2.0, ["2.00 [2.00, 2.00]", ""]), (5.0, ["0.80 [0.80, 0.80]", "loses"])])
def test_table_row(ours, cells):
    comparison = Comparison({"onnxruntime": [[4.0, 4.0]] * 3, "sparse_rt": [[ours]] * 3}, {})
    row = {"model": "net", "dtype": "int8", "threads": 2, **result(comparison)}
    assert table_row(row) == ["net", "int8", "2", "4000", f"{ours * 1e3:.4g}", *cells]


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("mlp_tiny_m1", 3, 3), ("mlp_tiny_dense_m1", 0, 0), ("dlrm_half_sparse_m1", 1, 4), ("gru_tagger", 2, 2)],
)
def test_models_hold_2_4_where_their_names_say_so(tmp_path, name, dtype, least, most):
    logging.disable(logging.WARNING)
    path = dense_file(tmp_path, name, dtype, VARIETY)
    logging.disable(logging.NOTSET)
    session = InferenceSession(path, SessionOptions(intra_op_num_threads=1))
    assert least <= sum(report.pattern is not None for report in session.explain()) <= most
    session.run(None, VARIETY[name].feeds()[0])
