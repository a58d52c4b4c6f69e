"""Reading refuses what is no model; writing never leaves half a file."""

import os

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sparse_rt.errors import ModelError
from sparse_rt.graph import model_io, model_writer
from sparse_rt.graph.passes.compress import compress, compress_model
from tests.graph import models


def _fail():
    raise OSError(28, "No space left on device")


@pytest.fixture
def dense():
    return models.conv_model(models.two_four(0, (16, 16, 3, 3)))


def external(proto, path):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)  # onnx moves the tensors of the model that it is given
    onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=100)
    return path


@pytest.mark.parametrize("form", ["path", "str", "bytes", "bytearray", "proto"])
def test_sources(form, dense, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(dense, path)
    content = path.read_bytes()
    source = {"path": path, "str": str(path), "bytes": content, "bytearray": bytearray(content), "proto": dense}[form]
    model = model_io.read(source)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), models.initializer(dense, "w"))


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        model_io.read(tmp_path / "none.onnx")


def test_folder(tmp_path):
    with pytest.raises(ModelError, match="readable"):
        model_io.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07", bytes(range(256)), b"\x00" * 100])
def test_garbage(content, tmp_path):
    path = tmp_path / "garbage.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ModelError):
            model_io.read(source)


def test_truncated(dense):
    content = dense.SerializeToString()
    for length in range(1, len(content) - 1, 97):
        with pytest.raises(ModelError):
            model_io.read(content[:length])


def test_too_new(dense):
    dense.ir_version = 1000
    with pytest.raises(ModelError, match="IR version"):
        model_io.read(dense)
    dense.ir_version = 8
    dense.opset_import[0].version = 1000
    with pytest.raises(ModelError, match="opset"):
        model_io.read(dense)


def test_newer_operators_of_ours(dense):
    compressed = compress(dense)
    next(entry for entry in compressed.opset_import if entry.domain == "sparse_rt").version = 2
    with pytest.raises(ModelError, match="Update sparse_rt"):
        model_io.read(compressed)


def test_invalid_graph(dense):
    dense.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="Node input 'nowhere'"):
        model_io.read(dense)


def test_external_data(dense, tmp_path):
    path = external(dense, tmp_path / "model.onnx")
    result = compress(path)
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(result, inputs)[0])


def test_external_data_missing(dense, tmp_path):
    path = external(dense, tmp_path / "model.onnx")
    os.remove(tmp_path / "model.onnx.data")
    with pytest.raises(ModelError, match=r"tensor 'w'.*external data"):
        model_io.read(path)


def test_external_data_truncated(dense, tmp_path):
    path = external(dense, tmp_path / "model.onnx")
    os.truncate(tmp_path / "model.onnx.data", 100)
    with pytest.raises(ModelError, match="a file of 100 bytes"):
        model_io.read(path)


def test_external_data_of_the_wrong_length(dense, tmp_path):
    path = external(dense, tmp_path / "model.onnx")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = "8"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="8 at offset 0"):
        model_io.read(path)


@pytest.mark.parametrize("external_data", [None, True])
def test_write(external_data, dense, tmp_path):
    path = tmp_path / "out.onnx"
    model_writer.write(compress_model(model_io.read(dense)).model, path, external_data=external_data)
    assert (
        sorted(file.name for file in tmp_path.iterdir()) == ["out.onnx", "out.onnx.data"][: 2 if external_data else 1]
    )
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(str(path), inputs)[0])
    model_io.read(path)


def test_large_models_get_external_data(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(model_io, "EXTERNAL_DATA_LIMIT", 4096)
    path = tmp_path / "out.onnx"
    model_writer.write(compress_model(model_io.read(dense)).model, path)
    assert (tmp_path / "out.onnx.data").stat().st_size > 4096
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(str(path), inputs)[0])
    with pytest.raises(ModelError, match="Write it to a file instead"):
        compress(dense)


def test_in_place(dense, tmp_path):
    path = external(dense, tmp_path / "model.onnx")
    for _ in range(2):
        model_writer.write(compress_model(model_io.read(path)).model, path, external_data=True)
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(str(path), inputs)[0])


def test_a_failed_write_leaves_the_old_file(dense, tmp_path):
    path = tmp_path / "out.onnx"
    path.write_bytes(b"old")
    model = model_io.read(dense)
    weight = model.graph.initializers["w"]
    old = weight.const_value
    weight.const_value = ir.LazyTensor(_fail, old.dtype, old.shape, name="w")
    with pytest.raises(ModelError, match="No space left"):
        model_writer.write(model, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.onnx"]


def test_a_write_that_is_interrupted_leaves_nothing(dense, tmp_path, monkeypatch):
    model = model_io.read(dense)
    for step in ("replace", "rename"):
        monkeypatch.setattr(os, step, lambda *_: _fail())
    with pytest.raises(ModelError, match="No space left"):
        model_writer.write(model, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(dense, tmp_path):
    with pytest.raises(ModelError, match="can be written"):
        model_writer.write(model_io.read(dense), tmp_path / "no" / "such" / "folder.onnx")


def test_over_a_folder(dense, tmp_path):
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(ModelError, match="can be written"):
        model_writer.write(model_io.read(dense), tmp_path / "out.onnx")


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers(flat):
    weight = models.two_four(0, (8, 8)).T.copy()
    at = np.flatnonzero(weight) if flat else np.argwhere(weight)
    proto = models.matmul_model(np.zeros((8, 8), np.float32))
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(weight[weight != 0], "w")
    indices = numpy_helper.from_array(at.astype(np.int64), "w_indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8, 8]))
    np.testing.assert_array_equal(model_io.read(proto).graph.initializers["w"].const_value.numpy(), weight)
    inputs = models.feeds(proto)
    np.testing.assert_array_equal(models.run(compress(proto), inputs)[0], inputs["x"] @ weight)
