"""Graphs of n nodes of one kind, for what work grows with them."""

import numpy as np
import onnx

from tests.models.onnx_models import info, model, node, sparse

SIZE = 16
#: Scale and zero points of every quantisation.
_QUANTISED = {"s": np.float32(0.1), "z": np.uint8(128), "ws": np.float32(0.01), "wz": np.int8(0)}


def _weight() -> np.ndarray:
    return sparse(np.random.default_rng(0), SIZE, SIZE).T.copy()


def _chain(nodes, y, more=None, shape=(4, SIZE)):
    return model(nodes, [info("x", *shape)], [info(y, *("?" + str(i) for i in range(len(shape))))], {**(more or {})})


def _after_layer(n, make):
    """A layer, and then n times the nodes that ``make(number, x, y)`` returns."""
    nodes, x = [node("MatMul", ["x", "w"], ["m"])], "m"
    for number in range(n):
        nodes += make(number, x, f"y{number}")
        x = f"y{number}"
    return _chain(nodes, x, {"w": _weight(), "c": np.ones(SIZE, np.float32), **_QUANTISED})


def products(n):
    return _after_layer(n, lambda _, x, y: [node("MatMul", [x, "w"], [y])])


def dense_products(n):
    proto = products(n)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((SIZE, SIZE), np.float32), "w"))
    return proto


def layers_and_additions(n):
    return _after_layer(n, lambda i, x, y: [node("MatMul", [x, "w"], [f"a{i}"]), node("Add", [f"a{i}", x], [y])])


def additions_of_a_constant(n):
    return _after_layer(n, lambda _, x, y: [node("Add", [x, "c"], [y])])


def additions_of_constants(n):
    nodes, value = [node("MatMul", ["x", "w"], ["m"])], "c"
    for number in range(n):
        nodes.append(node("Add", [value, "c"], [f"c{number}"]))
        value = f"c{number}"
    return _chain([*nodes, node("Add", ["m", value], ["y"])], "y", {"w": _weight(), "c": np.ones(SIZE, np.float32)})


def clips(n):
    return _after_layer(n, lambda _, x, y: [node("Relu", [x], [y])])


def curves(n):
    return _after_layer(n, lambda _, x, y: [node("Tanh", [x], [y])])


def operators_of_onnxruntime(n):
    return _after_layer(n, lambda _, x, y: [node("Cos", [x], [y])])


def islands(n):
    return _after_layer(n, lambda i, x, y: [node("Cos", [x], [f"a{i}"]), node("MatMul", [f"a{i}", "w"], [y])])


def operators_left_out_one_by_one(n):
    """Each addition is a step of ours only if the next one is, and the last one is not."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Cos", ["x"], ["o"])]
    nodes += [node("Add", ["m" if i == 0 else f"y{i - 1}", "o"], [f"y{i}"]) for i in range(n)]
    return _chain([*nodes, node("Cos", [f"y{n - 1}"], ["y"])], "y", {"w": _weight()})


def quantisations(n):
    return _after_layer(
        n,
        lambda i, x, y: [
            node("QuantizeLinear", [x, "s", "z"], [f"q{i}"]),
            node("DequantizeLinear", [f"q{i}", "s", "z"], [y]),
        ],
    )


def quantised_layers(n):
    nodes, x = [node("QuantizeLinear", ["x", "s", "z"], ["q"])], "q"
    for i in range(n):
        nodes += [
            node("DequantizeLinear", [x, "s", "z"], [f"d{i}"]),
            node("DequantizeLinear", ["wq", "ws", "wz"], [f"w{i}"]),
            node("MatMul", [f"d{i}", f"w{i}"], [f"m{i}"]),
            node("QuantizeLinear", [f"m{i}", "s", "z"], [f"q{i}"]),
        ]
        x = f"q{i}"
    weight = np.clip(np.round(_weight() * 40), -127, 127).astype(np.int8)
    return _chain([*nodes, node("DequantizeLinear", [x, "s", "z"], ["y"])], "y", {"wq": weight, **_QUANTISED})


def _convolution(i, x, kernel):
    return [
        node("DequantizeLinear", [x, "s", "z"], [f"d{i}"]),
        node("DequantizeLinear", [f"w{kernel}", "ws", "wz"], [f"e{i}"]),
        node("Conv", [f"d{i}", f"e{i}"], [f"f{i}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4),
        node("QuantizeLinear", [f"f{i}", "s", "z"], [f"q{i}"]),
    ]


def _image_network(nodes, outputs, channels=16):
    weights = {
        f"w{size}": np.clip(
            np.round(sparse(np.random.default_rng(size), channels, channels, size, size) * 40), -127, 127
        )
        for size in (1, 3, 5)
    }
    values = {name: weight.astype(np.int8) for name, weight in weights.items()}
    shape = (1, channels, 14, 14)
    outputs = [info(name, *shape, kind=2) for name in outputs]
    return model(nodes, [info("x", *shape, kind=2)], outputs, {**values, **_QUANTISED})


def sums_of_convolutions(n):
    """Each adds what the one before has written; only the last one, which pads, wants a border around it all."""
    nodes, x = [], "x"
    for i in range(n):
        nodes += [
            *_convolution(i, x, 1),
            node("DequantizeLinear", [f"q{i}", "s", "z"], [f"g{i}"]),
            node("DequantizeLinear", [x, "s", "z"], [f"r{i}"]),
            node("Add", [f"g{i}", f"r{i}"], [f"a{i}"]),
            node("QuantizeLinear", [f"a{i}", "s", "z"], [f"o{i}"]),
        ]
        x = f"o{i}"
    return _image_network([*nodes, *_convolution(n, x, 5)], [f"q{n}"])


def sums_with_paddings(n):
    """The same, each convolution with a padding of its own."""
    proto = sums_of_convolutions(n)
    sizes = {f"f{i}": (1, 3, 5)[i % 3] for i in range(n)}
    for one in proto.graph.node:
        if one.output[0] in sizes:
            size = sizes[one.output[0]]
            one.CopyFrom(node("Conv", one.input, one.output, kernel_shape=[size] * 2, pads=[size // 2] * 4))
        if one.op_type == "DequantizeLinear" and one.output[0].startswith("e") and f"f{one.output[0][1:]}" in sizes:
            one.input[0] = f"w{sizes[f'f{one.output[0][1:]}']}"
    return proto


def convolutions_of_one_image(n):
    return _image_network(
        [each for i in range(n) for each in _convolution(i, "x", (1, 3, 5)[i % 3])], [f"q{i}" for i in range(n)]
    )


def one_value_read_by_all(n):
    nodes = [node("MatMul", ["x", "w"], ["m"]), *(node("Tanh", ["m"], [f"t{i}"]) for i in range(n))]
    return _chain([*nodes, node("Concat", [f"t{i}" for i in range(n)], ["y"], axis=1)], "y", {"w": _weight()})


def many_initializers(n):
    more = {f"i{number}": np.ones((4, 1), np.float32) for number in range(n)}
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Concat", ["m", *more], ["y"], axis=1)]
    return _chain(nodes, "y", {"w": _weight(), **more})


def identities_before_a_weight(n):
    nodes = [node("Identity", ["w" if i == 0 else f"w{i - 1}"], [f"w{i}"]) for i in range(n)]
    return _chain([*nodes, node("MatMul", ["x", f"w{n - 1}"], ["y"])], "y", {"w": _weight()})


def transpositions(n):
    turns = [node("Transpose", ["m" if i == 0 else f"t{i - 1}"], [f"t{i}"], perm=[1, 0]) for i in range(2 * n)]
    nodes = [node("MatMul", ["x", "w"], ["m"]), *turns, node("Softmax", [f"t{2 * n - 1}"], ["y"])]
    return _chain(nodes, "y", {"w": _weight()})


def all_of_them_outputs(n):
    proto = products(n)
    del proto.graph.output[:]
    proto.graph.output.extend(info(f"y{number}", "a", "b") for number in range(n))
    return proto


def branch(depth, name="b"):
    """Return a graph of branches in branches."""
    y, other = f"{name}/y", f"{name}/e"
    if depth == 0:
        return onnx.helper.make_graph([node("Neg", ["m"], [y])], name, [], [info(y, "a", "b")])
    no = onnx.helper.make_graph([node("Abs", ["m"], [other])], f"{name}/no", [], [info(other, "a", "b")])
    inner = node("If", ["c"], [y], then_branch=branch(depth - 1, f"{name}t"), else_branch=no)
    return onnx.helper.make_graph([inner], name, [], [info(y, "a", "b")])


def nested_branches(depth):
    last = branch(depth)
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("ReduceSum", ["m"], ["t"], keepdims=0),
        node("Greater", ["t", "zero"], ["c"]),
        *last.node,
    ]
    return _chain(nodes, last.output[0].name, {"w": _weight(), "zero": np.float32(0)})


#: Those whose work must grow as n does.
KINDS = (
    products,
    dense_products,
    layers_and_additions,
    additions_of_a_constant,
    additions_of_constants,
    clips,
    curves,
    operators_of_onnxruntime,
    islands,
    operators_left_out_one_by_one,
    quantisations,
    quantised_layers,
    one_value_read_by_all,
    many_initializers,
    identities_before_a_weight,
    transpositions,
    all_of_them_outputs,
)
