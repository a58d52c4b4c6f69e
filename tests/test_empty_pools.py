"""Poolings that leave nothing of an image: onnxruntime ends the process on some; sessions and `verify` must not."""

import itertools
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.empty_pools import MaybeEmpty
from tests.models.onnx_models import info, model, node, normal, sparse, stock

PROGRAM = """
import json, sys
import numpy as np
import sparse_rt as srt
from sparse_rt import stock
path, shapes = sys.argv[1], json.loads(sys.argv[2])
found = {}
for way in ["on", "sparse", "bytes", "stock"]:
    options = srt.SessionOptions(intra_op_num_threads=1, tuning=way if way in ("on", "sparse") else None)
    source = open(path, "rb").read() if way == "bytes" else path
    session = stock.open_session(path, 1) if way == "stock" else srt.InferenceSession(source, options)
    for shape in 2 * shapes:
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        try:
            y = session.run(None, {"x": x})[0]
            found.setdefault(str(shape), []).append([list(y.shape), float(np.sum(y, dtype=np.float64))])
        except Exception as error:
            found.setdefault(str(shape), []).append(str(error))
print(json.dumps(found))
"""


def pooled(op_type, x, y):
    return node(op_type, [x], [y], kernel_shape=[2, 2], auto_pad="VALID")


def whole(op_type, rng):
    return model([pooled(op_type, "x", "y")], [info("x", "b", 16, "h", "w_")], [info("y", "b", 16, "p", "q")])


def of_one_size(op_type, rng):
    return model([pooled(op_type, "x", "y")], [info("x", "b", 16, 1, 5)], [info("y", "b", 16, "p", "q")])


def in_an_island(op_type, rng):
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Tanh", ["a"], ["t"]), pooled(op_type, "t", "y")]
    ends = [info("x", "b", 16, "h", "w_")], [info("y", "b", 16, "p", "q")]
    return model(nodes, *ends, {"w": sparse(rng, 16, 16, 1, 1)})


def in_a_branch(op_type, rng):
    branches = [
        helper.make_graph([pooled(kind, "x", "z")], kind, [], [info("z", "b", 16, "p", "q")])
        for kind in (op_type, "LpPool")
    ]
    choice = numpy_helper.from_array(np.array(True), "c")
    nodes = [
        node("Constant", [], ["c"], value=choice),
        node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    return model(nodes, [info("x", "b", 16, "h", "w_")], [info("y", "b", 16, "p", "q")])


def of_a_computed_size(op_type, rng):
    """Only data says how many rows are left."""
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        node("Mul", ["i", "zero"], ["j"]),
        node("Reshape", ["j", "one"], ["k"]),
        node("Concat", ["k", "k", "k", "k"], ["starts"], axis=0),
        node("Slice", ["x", "starts", "ends"], ["s"]),
        pooled(op_type, "s", "y"),
    ]
    constants = {"zero": np.array(0), "one": np.array([1]), "ends": np.array([99, 16, 99, 99])}
    return model(nodes, [info("x", "b", 16, "h", "w_")], [info("y", "b", 16, "p", "q")], constants)


CASES = [whole, of_one_size, in_an_island, in_a_branch, of_a_computed_size]


@pytest.mark.parametrize(
    ("make", "op_type"),
    [(whole, "AveragePool"), *zip(CASES, itertools.cycle(["MaxPool", "AveragePool"]), strict=False)],
)
def test_the_process_goes_on(make, op_type, tmp_path, rng):
    proto = make(op_type, rng)
    onnx.save(proto, tmp_path / "model.onnx")
    shapes = [[1, 16, 4, 5], [0, 16, 4, 5], [1, 16, 1, 5], [2, 16, 2, 9], [1, 16, 3, 0]]
    if make is of_one_size:
        shapes = [[1, 16, 1, 5]]
    command = [sys.executable, "-c", PROGRAM, tmp_path / "model.onnx", json.dumps(shapes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for shape in shapes:
        assert len(found[str(shape)]) == 8
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for result in found[str(shape)]:
            if shape[2] == 1:
                assert result[0] == [1, 16, 0, 4]
            elif 0 in shape:
                assert isinstance(result, str) or (0 in result[0] and shape[0] == 0)
            else:
                wanted = stock(proto, {"x": x})[0]
                assert result[0] == list(wanted.shape)
                assert result[1] == pytest.approx(float(np.sum(wanted, dtype=np.float64)), rel=1e-4)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def test_which_images_nothing_is_left_of(rng):
    """For every small pooling, as onnxruntime finds without blocks of channels."""
    watched = 0
    for kernel, stride, pad, dilation, ceil_mode in itertools.product((1, 2, 4), (1, 2, 3), (0, 1), (1, 2), (0, 1)):
        if pad >= kernel:
            continue
        attributes = {"strides": [stride, 1], "pads": [pad, 0, 0, 0], "dilations": [dilation, 1]}
        pool = node("MaxPool", ["x"], ["y"], kernel_shape=[kernel, 1], ceil_mode=ceil_mode, **attributes)
        proto = model([pool], [info("x", 1, 1, "h", 1)], [info("y", 1, 1, "p", 1)])
        found = MaybeEmpty.of(pool)
        watched += found is not None
        for size in range(1, 9):
            try:
                (y,) = stock(proto, {"x": normal(rng, 1, 1, size, 1)}, optimise=False)
            except Exception:
                assert found is None or not found.empties((1, 1, size, 1))
                continue
            assert (y.size == 0) == (found is not None and found.empties((1, 1, size, 1))), (pool, size)
    assert watched
    ordinary = [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 1, 1), (5, 1, 2)]
    for kernel, stride, pad in ordinary:
        pool = node("MaxPool", ["x"], ["y"], kernel_shape=2 * [kernel], strides=2 * [stride], pads=4 * [pad])
        assert MaybeEmpty.of(pool) is None
