"""Engines in their own process."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.bench.engines import OnnxRuntime
from sparse_rt.errors import FeedError


def test_feeds_of_initializers_that_callers_may_override_reach_onnxruntime(tmp_path):
    constant = numpy_helper.from_array(np.ones(3, np.float32), "c")
    x, c, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xcy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "g", [x, c], [y], [constant])
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    engine = OnnxRuntime(str(tmp_path / "m.onnx"), 1)
    engine.set_feeds({"x": np.zeros(3, np.float32), "other": np.zeros(1)})
    with pytest.raises(FeedError, match="index: 0 Got: 4 Expected: 3"):
        engine.set_feeds({"x": np.zeros(3, np.float32), "c": np.zeros(4, np.float32)})
