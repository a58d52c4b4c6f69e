"""Small models for the tests of graph/, built with onnx.helper, and stock onnxruntime to judge them."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.graph import model_io
from sparse_rt.graph.passes.decompress import decompress_model
from tests import naive

IR_VERSION = 8


def two_four(seed, shape, dtype=np.float32):
    """A 2:4 weight, output channel first."""
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return naive.prune_2_4(random.integers(max(info.min, -127), min(info.max, 127) + 1, shape).astype(dtype))
    return naive.prune_2_4(random.standard_normal(shape).astype(dtype))


def info(name, shape, dtype=np.float32):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def model(nodes, inputs, outputs, constants, opset=17, ir_version=IR_VERSION, domains=(), **extra):
    """`inputs` and `outputs` are value infos, `constants` arrays by name."""
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **extra)


def matmul_model(weight, opset=17, x_shape=("batch", "k"), dtype=np.float32, **extra):
    """y = x @ weight.T, weight (n, k)."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")
    x = info("x", [*x_shape[:-1], weight.shape[1]], dtype)
    y = info("y", [*x_shape[:-1], weight.shape[0]], dtype)
    return model([node], [x], [y], {"w": np.ascontiguousarray(weight.T)}, opset, **extra)


def conv_model(weight, opset=17, bias=True, size=(9, 8), op_type="Conv", **attributes):
    """A convolution with a bias; the weight is the operator's own."""
    channels, out = (weight.shape[1], weight.shape[0]) if op_type == "Conv" else (weight.shape[0], weight.shape[1])
    channels *= attributes.get("group", 1) if op_type == "Conv" else 1
    node = helper.make_node(op_type, ["x", "w", "b"][: 2 + bias], ["y"], name="layer", **attributes)
    kernel = weight.ndim - 2
    spatial = size[:kernel]
    constants = {"w": weight} | ({"b": np.linspace(-1, 1, out).astype(weight.dtype)} if bias else {})
    x = info("x", ["batch", channels, *spatial], weight.dtype)
    y = info("y", ["batch", None, *(None for _ in spatial)], weight.dtype)
    return model([node], [x], [y], constants, opset)


def feeds(proto, seed=0, batch=2):
    """Random inputs; every symbolic dimension is `batch`."""
    random = np.random.default_rng(seed)
    constants = {tensor.name for tensor in proto.graph.initializer}
    result = {}
    for value in proto.graph.input:
        if value.name in constants:
            continue
        shape = [dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype == np.bool_:
            result[value.name] = np.ones(shape, dtype)
        elif np.issubdtype(dtype, np.integer):
            result[value.name] = random.integers(0, 100, shape).astype(dtype)
        else:
            result[value.name] = random.standard_normal(shape).astype(dtype)
    return result


def run(proto, inputs, optimised=None, level="ORT_ENABLE_ALL"):
    """Outputs of stock onnxruntime, one thread."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    content = proto if isinstance(proto, str) else proto.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def assert_same_in_onnxruntime(dense, compressed, folder, inputs=None):
    """Both models give the identical outputs there, and are optimised to the same operators."""
    inputs = feeds(dense) if inputs is None else inputs
    counts = []
    results = []
    for number, proto in enumerate((dense, compressed)):
        path = folder / f"optimised{number}.onnx"
        results.append(run(proto, inputs, path))
        counts.append(Counter(node.op_type for node in onnx.load(path).graph.node))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert counts[0] == counts[1]
    assert_decompresses(compressed, inputs, results[0])


def assert_decompresses(compressed, inputs, expected):
    """Decompressed, nothing of our domain is left, and the outputs are the identical ones."""
    dense = model_io.to_proto(decompress_model(model_io.read(compressed)))
    assert "sparse_rt" not in {function.domain for function in dense.functions}
    assert "sparse_rt" not in {opset.domain for opset in dense.opset_import}
    assert "sparse_rt" not in {node.domain for node in dense.graph.node}
    assert not any("filter_compress" in tensor.name for tensor in dense.graph.initializer)
    for a, b in zip(expected, run(dense, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def operators(proto):
    """(family, variant without what is absent or padded) of every node of the domain."""
    return [
        tuple(node.op_type.removesuffix("_padded").split("_without_")[0].split("_", 1))
        for node in proto.graph.node
        if node.domain == "sparse_rt"
    ]


def initializer(proto, name):
    return next(numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name == name)


def if_model(weight):
    """An If whose branches hold a MatMul each, one with the outer weight, one with its own."""
    branches = []
    for name, source in (("then", "w"), ("else", "own")):
        node = helper.make_node("MatMul", ["x", source], [f"{name}_y"], name=f"{name}_layer")
        constants = [numpy_helper.from_array(weight.T.copy(), "own")] if source == "own" else []
        branches.append(helper.make_graph([node], name, [], [info(f"{name}_y", None)], constants))
        branches[-1].output[0].type.tensor_type.shape.SetInParent()
        for dim in ("batch", weight.shape[0]):
            entry = branches[-1].output[0].type.tensor_type.shape.dim.add()
            if isinstance(dim, str):
                entry.dim_param = dim
            else:
                entry.dim_value = dim
    outer = helper.make_node("MatMul", ["x", "w2"], ["z"], name="outer")
    choose = helper.make_node(
        "If", ["condition"], ["y"], name="choose", then_branch=branches[0], else_branch=branches[1]
    )
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    return model(
        [outer, choose],
        [info("x", ["batch", weight.shape[1]]), condition],
        [info("y", ["batch", weight.shape[0]]), info("z", ["batch", weight.shape[0]])],
        {"w": weight.T.copy(), "w2": weight.T.copy()},
    )


def qdq(weight, scale, zero_point, *, axis, opset=17, transpose=False):
    """x -> Q -> DQ -> MatMul with a weight behind DequantizeLinear -> Q -> DQ."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xf"]),
        helper.make_node(
            "DequantizeLinear", ["w", "ws", "wz"] if zero_point is not None else ["w", "ws"], ["wf"], **axis
        ),
        helper.make_node("MatMul", ["xf", "wt" if transpose else "wf"], ["yf"], name="layer"),
        helper.make_node("QuantizeLinear", ["yf", "ys", "xz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "xz"], ["y"]),
    ]
    if transpose:
        nodes.insert(3, helper.make_node("Transpose", ["wf"], ["wt"], perm=[1, 0]))
    constants = {"w": weight, "ws": scale, "xs": np.float32(0.02), "xz": np.uint8(128), "ys": np.float32(0.1)}
    if zero_point is not None:
        constants["wz"] = zero_point
    k, n = weight.shape[::-1] if transpose else weight.shape
    constants = {name: np.asarray(value) for name, value in constants.items()}
    return model(nodes, [info("x", ["batch", k])], [info("y", ["batch", n])], constants, opset)
