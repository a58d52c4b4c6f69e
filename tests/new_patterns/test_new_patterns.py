"""A new pattern is four lines in tables: with them it goes the whole way, without them nobody knows it."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sparse_rt_kernels.product import registry

import sparse_rt as srt
from sparse_rt import formats, sparsity
from sparse_rt.graph.model_io import read, to_proto
from sparse_rt.graph.passes.decompress import decompress_model
from sparse_rt.tuning import tuner
from sparse_rt.tuning.store import Store
from tests.models.forced_measurements import FakeMeasure, needs_jit
from tests.models.onnx_models import info, model, node, stock
from tests.new_patterns import networks, quads, scattered

FORMS = ("float32", "int8")


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def files(pattern, form, cli, tmp_path):
    """The dense model, whose weights hold the pattern, and what `compress` makes of it."""
    dense, compressed = tmp_path / "dense.onnx", tmp_path / "compressed.onnx"
    dense.write_bytes(networks.network(pattern, form).SerializeToString())
    result = cli("compress", dense, "-o", compressed)
    assert result.exit_code == 0
    return dense, compressed


def sparse_layers(form):
    return networks.SPARSE if form == "float32" else ("first", "last")


def report(session):
    return {layer.name.removesuffix("_quant"): layer for layer in session.explain()}


def test_inspect_names_it(pattern, form, files, cli):
    for file in files:
        layers = {layer["name"]: layer for layer in json.loads(cli("inspect", file, "--json", "-").stdout)["layers"]}
        for name in sparse_layers(form):
            assert layers[name]["pattern"] == pattern.FAMILY.example
            assert layers[name]["compressed_bytes"] < layers[name]["dense_bytes"]
            assert f"_{pattern.FORMAT.name}_plain" in layers[name]["kernel"]
        assert layers["two_four"]["pattern"] == "2:4"
        assert "_n2m4_" in layers["two_four"]["kernel"]
    assert pattern.FAMILY.example in cli("inspect", files[0]).stdout


def test_compress_stores_it_beside_another_format(pattern, form, files):
    dense, compressed = (onnx.load(file) for file in files)
    assert files[1].stat().st_size > 0
    calls = {node.name: node for node in compressed.graph.node if node.domain == "sparse_rt"}
    for name in sparse_layers(form):
        assert calls[name].op_type.endswith(pattern.FORMAT.suffix)
        assert {attribute.s.decode() for attribute in calls[name].attribute if attribute.name == "alg"} == {
            pattern.FORMAT.alg
        }
    assert not calls["two_four"].op_type.endswith(pattern.FORMAT.suffix)
    stored = {tensor.name: len(tensor.raw_data) for tensor in compressed.graph.initializer}
    assert sum(stored.values()) < sum(len(tensor.raw_data) for tensor in dense.graph.initializer)


def test_stock_onnxruntime_runs_it_with_the_same_result(files):
    dense, compressed = (str(file) for file in files)
    feeds = networks.feeds()
    np.testing.assert_array_equal(stock(compressed, feeds)[0], stock(dense, feeds)[0])


def test_it_comes_back_as_it_was(files):
    dense, compressed = (onnx.load(file) for file in files)
    back = to_proto(decompress_model(read(compressed)))
    weights = [
        [numpy_helper.to_array(item) for item in model.graph.initializer if len(item.dims) > 1]
        for model in (dense, back)
    ]
    assert len(weights[0]) == len(weights[1]) == 4
    for mine in weights[0]:
        assert any(mine.shape == found.shape and (mine == found).all() for found in weights[1])


def test_the_session_runs_it_on_its_kernel(pattern, form, files):
    feeds = networks.feeds()
    expected = stock(str(files[0]), feeds)[0]
    for file in files:
        session = srt.InferenceSession(str(file))
        reports = report(session)
        for name in sparse_layers(form):
            assert reports[name].kernel.startswith(f"{'f32' if form == 'float32' else 'u8s8'}_{pattern.FORMAT.name}_")
            assert reports[name].is_sparse
            assert f"{pattern.FAMILY.example} holds" in reports[name].reason
        tolerance = 1e-5 if form == "float32" else 0
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=tolerance, atol=tolerance)


def test_float16_is_stored_and_left_to_onnxruntime(pattern):
    rng = np.random.default_rng(5)
    dense = rng.uniform(0.2, 1, (22, 40)).astype(np.float16)
    dense[:4, :3] *= 3
    weight = np.where(networks.mask(pattern, dense), dense, np.float16(0))
    half = onnx.TensorProto.FLOAT16
    x, y = info("x", 3, 40, kind=half), info("y", 3, 22, kind=half)
    proto = model([node("MatMul", ["x", "w"], ["y"], name="l")], [x], [y], {"w": weight.T.copy()})
    compressed = srt.compress(proto)
    assert compressed.graph.node[0].op_type == f"MatMulV2Compress_MatMul_float16{pattern.FORMAT.suffix}"
    feeds = {"x": rng.standard_normal((3, 40)).astype(np.float16)}
    expected = stock(proto, feeds)[0]
    np.testing.assert_array_equal(stock(compressed, feeds)[0], expected)
    session = srt.InferenceSession(compressed)
    assert session.explain()[0].kernel is None
    np.testing.assert_array_equal(session.run(None, feeds)[0], expected)


def test_verify_says_equal(files, cli):
    dense, compressed = files
    assert cli("verify", compressed, "--reference", dense).exit_code == 0
    assert cli("verify", compressed).exit_code == 0
    assert cli("verify", dense).exit_code == 0


def test_verify_says_unequal_where_its_kernel_is_wrong(pattern, files, cli, monkeypatch):
    def spoiled(kernel):
        def wrong(weight):
            packed = kernel.pack_weight(weight)
            packed.panels.values[0, 0] += 3
            return packed

        return dataclasses.replace(kernel, pack_weight=wrong)

    for kernel in pattern.KERNELS:
        monkeypatch.setitem(registry._kernels, kernel.name, spoiled(kernel))
    assert cli("verify", files[1], "--reference", files[0]).exit_code == 1


@needs_jit
def test_tuning_keeps_its_measurements_apart(pattern, monkeypatch, tmp_path):
    """The same network with weights of another pattern has no measurement yet, though all its shapes are the same."""
    fake = FakeMeasure()
    monkeypatch.setattr(tuner, "measure", fake)
    monkeypatch.setattr(tuner, "Store", lambda: Store(tmp_path / "tuning"))

    def measured(proto):
        fake.measured.clear()
        session = srt.InferenceSession(proto, srt.SessionOptions(1, tuning="on"))
        session.run(None, networks.feeds())
        return fake.layers

    pruned = srt.prune(networks.network(pattern, "float32", hold=False))
    own = networks.network(pattern, "float32")
    assert any("_n2m4_" in name for names in measured(pruned) for name in names)
    assert any(f"_{pattern.FORMAT.name}_" in name for names in measured(own) for name in names)
    assert not measured(pruned)
    assert not measured(own)


def test_a_model_is_pruned_to_it(pattern, cli, tmp_path):
    if pattern is scattered:
        pytest.skip("it leaves any density, and pruning in one shot has no say in it")
    dense, pruned = tmp_path / "dense.onnx", tmp_path / "pruned.onnx"
    dense.write_bytes(networks.network(pattern, "float32", hold=False).SerializeToString())
    assert cli("prune", dense, "-o", pruned, "--pattern", "4x1").exit_code == 0
    weight = next(numpy_helper.to_array(item) for item in onnx.load(pruned).graph.initializer if item.name == "first.w")
    assert sparsity.holds(weight, quads.QUADS)
    assert sparsity.parse("4x1") == quads.QUADS
    assert np.count_nonzero(weight) / weight.size < 0.3


def test_without_its_lines_nobody_knows_it(pattern, files, monkeypatch):
    monkeypatch.delitem(formats.FORMATS, pattern.FORMAT.name)
    with pytest.raises(srt.ModelError, match="sparse_rt"):
        srt.InferenceSession(str(files[1]))
    session = srt.InferenceSession(str(files[0]))
    assert "not 2:4" in report(session)["first"].reason


def test_formats_are_told_apart_by_their_patterns(pattern):
    found = sparsity.parse(pattern.FAMILY.example)
    assert formats.format_of(found) is pattern.FORMAT
    weight = np.zeros((8, 8), np.float32)
    weight[:4, 1] = 1
    assert found in sparsity.find_all(weight)
    assert sparsity.find(weight).name == "2:4"
