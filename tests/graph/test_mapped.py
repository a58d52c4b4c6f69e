"""Large initializers stay in the model's file while it is read, and only then."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sparse_rt
from sparse_rt.errors import ModelError
from sparse_rt.graph import mapped, model_io
from tests.graph import models

K, N = 256, 512


def dense(rng):
    return models.matmul_model(models.two_four(K, (K, N), np.float32), dtype=np.float32)


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def model():
    return dense(np.random.default_rng(0))


def large(model):
    (found,) = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= 1 << 16]
    return found


def test_the_skeleton_is_the_file_without_large_data(model, tmp_path):
    found = mapped.map_file(save(model, tmp_path / "m.onnx"))
    skeleton = onnx.ModelProto.FromString(found.skeleton)
    ((number, data),) = found.data.items()
    assert bytes(data) == large(model).raw_data
    assert len(found.skeleton) < 1 << 16
    skeleton.graph.initializer[number].raw_data = bytes(data)
    assert skeleton == model


def test_what_is_read_is_the_same_from_a_file_as_from_bytes(model, tmp_path):
    path = save(model, tmp_path / "m.onnx")
    from_file, from_bytes = model_io.read(path), model_io.read(path.read_bytes())
    for name, value in from_bytes.graph.initializers.items():
        other = from_file.graph.initializers[name].const_value
        assert other.dtype == value.const_value.dtype
        np.testing.assert_array_equal(other.numpy(), value.const_value.numpy())
    assert onnx.ModelProto.FromString(model_io.to_proto(from_file).SerializeToString()) == model_io.to_proto(from_bytes)


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.STRING, 0, 99])
def test_unusual_types_are_read_or_refused_like_before(model, tmp_path, kind):
    large(model).data_type = kind
    path = save(model, tmp_path / "m.onnx")
    results = []
    for source in (path, path.read_bytes()):
        try:
            results.append(str(model_io.read(source).graph.initializers.keys()))
        except ModelError as error:
            results.append(str(error).replace(f" '{path}'", ""))
    assert results[0] == results[1]


def test_a_size_that_lies_is_refused(model, tmp_path):
    large(model).dims[0] += 1
    with pytest.raises(ModelError, match="bytes for float"):
        model_io.read(save(model, tmp_path / "m.onnx"))


def test_every_truncation_is_refused(model, tmp_path):
    content = model.SerializeToString()
    path = tmp_path / "m.onnx"
    for size in (*range(1, 200, 13), len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ModelError):
            model_io.read(path)


def test_of_two_initializers_of_one_name_the_first_counts(model, tmp_path):
    """As in onnxruntime."""
    weight = numpy_helper.to_array(large(model))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros_like(weight), large(model).name))
    for source in (model, save(model, tmp_path / "m.onnx")):
        read = model_io.read(source).graph.initializers[model.graph.initializer[-1].name]
        np.testing.assert_array_equal(read.const_value.numpy(), weight)


def test_a_graph_in_two_parts_is_merged(model, tmp_path):
    """Protobuf says so; nobody writes it."""
    second = onnx.ModelProto(graph=onnx.GraphProto(doc_string="more"))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString() + second.SerializeToString())
    assert mapped.map_file(path).data == {}
    assert model_io.read(path).graph.doc_string == "more"


def test_initializers_that_are_inputs_too(model, tmp_path):
    weight = large(model)
    model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    assert model_io.read(save(model, tmp_path / "m.onnx")).graph.initializers[weight.name].is_graph_input()


def test_a_session_keeps_nothing_of_its_file(tmp_path):
    """It is read once: it may then be changed, or become shorter, which would end a process that still maps it."""
    model = dense(np.random.default_rng(0))
    path, x = save(model, tmp_path / "m.onnx"), np.ones((3, N), np.float32)
    session = sparse_rt.InferenceSession(path)
    name = session.get_inputs()[0].name
    before = session.run(None, {name: x})[0]
    with open("/proc/self/maps") as maps:
        assert str(path) not in maps.read()
    path.write_bytes(b"")
    np.testing.assert_array_equal(session.run(None, {name: x})[0], before)
    weight = numpy_helper.to_array(large(model))
    np.testing.assert_allclose(before, x @ weight, rtol=1e-4, atol=1e-4)


def test_released_memory_is_read_again(model, tmp_path):
    read = model_io.read(save(model, tmp_path / "m.onnx"))
    array = read.graph.initializers[large(model).name].const_value.numpy()
    expected = array.copy()
    mapped.release(array)
    np.testing.assert_array_equal(array, expected)
    mapped.release(np.ones(3))
