"""What stock onnxruntime loads is read, run, compressed and pruned; what it refuses is a ModelError."""

import json
import os

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import sparse_rt as srt
from tests.graph import forms

X = np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)
# Stock does not look at a tensor that nobody reads; a shape that lies is refused wherever it is.
STRICTER = {"init_unused_dims_lie"}

VERSION = tuple(int(part) for part in ort.__version__.split(".")[:2])


def stock(content):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # a dozen types
        return None


def ours(content, tuning="sparse"):
    options = srt.SessionOptions(intra_op_num_threads=1, tuning=tuning)
    options.log_severity_level = 4
    return srt.InferenceSession(content, options)


def described(session):
    return [(item.name, item.type, item.shape) for item in (*session.get_inputs(), *session.get_outputs())]


def run(session):
    try:
        return session.run(None, {"x": X})
    except InvalidArgument:  # of FeedError, too
        return None


def same(found, expected):
    if found is None or expected is None:
        return found is expected
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and same(list(found.values()), list(expected.values()))
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", forms.FORMS)
def test_a_form_is_read_as_onnxruntime_reads_it(name):
    content = forms.model(name).SerializeToString()
    reference = stock(content)
    if reference is None or name in STRICTER:
        # A model with operators of others can be compressed for those who have them.
        for use in (ours, srt.verify, *(() if name == "unknown_domain" else (srt.compress, srt.prune))):
            with pytest.raises(srt.ModelError):
                use(content)
        return
    expected = run(reference)
    session = ours(content)
    assert sum(report.is_sparse for report in session.explain()) == forms.SPARSE.get(name, forms.LAYERS)
    assert same(run(session), expected)
    if name != "out_wrongrank":  # the rank that contradicts is unknown there, and what was computed here
        assert described(session) == described(reference)
    assert session.get_modelmeta().custom_metadata_map == reference.get_modelmeta().custom_metadata_map
    if name == "only_msft_import" and VERSION < (1, 32):
        return  # where no opset is named that onnxruntime assumes a newer one than it takes where one is named
    for change in (srt.compress, srt.prune):
        changed = change(content).SerializeToString()
        assert same(run(stock(changed)), expected)
        assert same(run(ours(changed)), expected)


@pytest.mark.parametrize("name", ["dim_huge", "dim_huge2", "dim_minus1", "in_noshape", "dim_zero"])
def test_declared_sizes_cost_nothing(name):
    """Not where a plan is measured either, with feeds of the declared sizes."""
    content = forms.model(name).SerializeToString()
    assert described(ours(content, "on")) == described(stock(content))
    if name.startswith("dim_huge"):
        with pytest.raises(srt.FeedError, match="memory"):
            srt.verify(content)


@pytest.mark.parametrize("name", ["unsorted", "aionnx_nodes", "zipmap", "dup_metadata", "ir3", "no_graph_name"])
def test_every_form_of_source_is_read_alike(name, tmp_path):
    model = forms.model(name)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    expected = run(stock(os.fspath(path)))
    for source in (path, os.fspath(path), path.read_bytes(), bytearray(path.read_bytes()), model):
        assert same(run(ours(source)), expected)
    assert srt.verify(path).outputs


def test_the_command_line_takes_them(tmp_path):
    from typer.testing import CliRunner

    from sparse_rt.cli.main import app

    for name in ("unsorted", "msft_no_import", "zipmap", "ir3"):
        path, out, report = tmp_path / f"{name}.onnx", tmp_path / f"{name}.c.onnx", tmp_path / "report.json"
        path.write_bytes(forms.model(name).SerializeToString())
        for words in (["inspect", path, "--json", report], ["compress", path, "-o", out], ["prune", path, "-o", out]):
            result = CliRunner().invoke(app, [str(word) for word in words])
            assert result.exit_code == 0, result.output
        assert json.loads(report.read_text())
        assert same(run(stock(os.fspath(out))), run(stock(os.fspath(path))))
