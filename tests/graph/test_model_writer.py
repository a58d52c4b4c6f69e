"""Models whose data lies beside them: the old data stays until the old model is gone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.errors import ModelError
from sparse_rt.graph import model_io, model_writer


def model(value):
    weight = numpy_helper.from_array(np.full((64, 64), value, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return model_io.read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def value_of(path):
    return float(numpy_helper.to_array(onnx.load(path).graph.initializer[0])[0, 0])


@pytest.mark.parametrize("left", [(), (".1",), (".1", ".2"), ("",), ("", ".1")])
def test_a_failed_write_leaves_old_models_their_data(left, tmp_path, monkeypatch):
    """Whatever data processes that were killed have left beside it: no file that the old model may read is touched."""
    path = tmp_path / "out.onnx"
    model_writer.write(model(1), path, external_data=True)
    if "" in left:  # the old model then reads .1.data
        model_writer.write(model(1), path, external_data=True)
    for number in left:
        data = tmp_path / f"out.onnx{number}.data"
        if not data.exists():
            data.write_bytes(b"left")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with monkeypatch.context() as patched:

        def fail(*arguments):
            raise ModelError("full")

        patched.setattr(model_writer, "_write_whole", fail)
        with pytest.raises(ModelError, match="full"):
            model_writer.write(model(2), path, external_data=True)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before
    assert value_of(path) == 1
    model_writer.write(model(3), path, external_data=True)
    assert value_of(path) == 3
    assert len(list(tmp_path.iterdir())) == 2
