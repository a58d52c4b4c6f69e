"""Forms that a model may have, and the small model that they are made of: stock onnxruntime loads some of them only."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

FORMS = {}
LAYERS = 2
# How many layers run sparse where it is not both: a default that a caller may override is no constant, and so on.
SPARSE = {
    "init_is_in": 1,
    "init_is_in_noshape": 1,
    "init_is_in_first": 1,
    "no_nodes_out_in": 0,
    "no_nodes_out_init": 0,
}


def form(change):
    FORMS[change.__name__] = change
    return change


def weight(rng, n, k):
    array = rng.standard_normal((n, k)).astype(np.float32).reshape(n, k // 4, 4)
    array[:, :, 2:] = 0
    return array.reshape(n, k).T.copy()


def base():
    """MatMul, Relu, MatMul, Sigmoid, of weights that are 2:4."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="fc1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="fc2"),
        helper.make_node("Sigmoid", ["c"], ["y"], name="sig"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 32])],
        [helper.make_tensor_value_info("y", 1, ["n", 32])],
        [numpy_helper.from_array(weight(rng, 64, 32), "w1"), numpy_helper.from_array(weight(rng, 32, 64), "w2")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def model(name):
    made = base()
    FORMS[name](made)
    return made


@form
def plain(model):
    pass


@form
def unsorted(model):
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@form
def cycle(model):
    model.graph.node[0].input[0] = "c"


@form
def msft_no_import(model):
    model.graph.node[1].domain = "com.microsoft"
    model.graph.node[1].op_type = "Gelu"


@form
def aionnx(model):
    model.opset_import[0].domain = "ai.onnx"


@form
def aionnx_nodes(model):
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"


@form
def aionnx_nodes_only(model):
    for node in model.graph.node:
        node.domain = "ai.onnx"


@form
def both_imports(model):
    model.opset_import.add(domain="ai.onnx", version=13)


@form
def both_imports_same(model):
    model.opset_import.add(domain="ai.onnx", version=17)


@form
def dup_imports(model):
    model.opset_import.add(domain="", version=13)


@form
def no_imports(model):
    del model.opset_import[:]


@form
def no_imports_ir1(model):
    del model.opset_import[:]
    model.ir_version = 1


@form
def no_imports_ir2(model):
    del model.opset_import[:]
    model.ir_version = 2


@form
def only_msft_import(model):
    model.opset_import[0].domain = "com.microsoft"
    model.opset_import[0].version = 1


@form
def opset0(model):
    model.opset_import[0].version = 0


@form
def opset_neg(model):
    model.opset_import[0].version = -1


@form
def opset6(model):
    model.opset_import[0].version = 6


@form
def opset27(model):
    model.opset_import[0].version = 27


@form
def opset26(model):
    model.opset_import[0].version = 26


@form
def opset100(model):
    model.opset_import[0].version = 100


@form
def unknown_import(model):
    model.opset_import.add(domain="foo.bar", version=3)


@form
def msft_import99(model):
    model.opset_import.add(domain="com.microsoft", version=99)


@form
def ml_import99(model):
    model.opset_import.add(domain="ai.onnx.ml", version=99)


@form
def no_graph_name(model):
    model.graph.name = ""


@form
def ir3(model):
    model.ir_version = 3


@form
def ir0(model):
    model.ir_version = 0


@form
def no_ir(model):
    model.ClearField("ir_version")


@form
def ir13(model):
    model.ir_version = 13


@form
def ir14(model):
    model.ir_version = 14


@form
def ir99(model):
    model.ir_version = 99


@form
def irneg(model):
    model.ir_version = -1


@form
def out_notype(model):
    model.graph.output[0].ClearField("type")


@form
def in_notype(model):
    model.graph.input[0].ClearField("type")


@form
def out_noelem(model):
    model.graph.output[0].type.tensor_type.elem_type = 0


@form
def in_noelem(model):
    model.graph.input[0].type.tensor_type.elem_type = 0


@form
def out_noshape(model):
    model.graph.output[0].type.tensor_type.ClearField("shape")


@form
def in_noshape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


@form
def out_wrongtype(model):
    model.graph.output[0].type.tensor_type.elem_type = 11


@form
def out_wrongtype2(model):
    model.graph.output[0].type.tensor_type.elem_type = 7


@form
def out_wrongshape(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 33


@form
def out_wrongrank(model):
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 3


@form
def out_scalar(model):
    del model.graph.output[0].type.tensor_type.shape.dim[:]


@form
def vi_wrongtype(model):
    model.graph.value_info.append(helper.make_tensor_value_info("b", 7, ["n", 64]))


@form
def vi_wrongshape(model):
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, ["n", 65]))


@form
def vi_wrongrank(model):
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, ["n", 64, 3]))


@form
def vi_wrongtype_last(model):
    model.graph.value_info.append(helper.make_tensor_value_info("c", 11, ["n", 32]))


@form
def vi_stranger(model):
    model.graph.value_info.append(helper.make_tensor_value_info("nobody", 1, ["n", 64]))


@form
def vi_dup(model):
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, ["n", 64]))
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, ["n", 64]))


@form
def vi_initializer_wrong(model):
    model.graph.value_info.append(helper.make_tensor_value_info("w1", 1, [3, 3]))


@form
def vi_input_wrong(model):
    model.graph.value_info.append(helper.make_tensor_value_info("x", 7, [3, 3]))


@form
def dup_metadata(model):
    for val in "12":
        entry = model.metadata_props.add()
        entry.key = "k"
        entry.value = val


@form
def empty_metadata_key(model):
    entry = model.metadata_props.add()
    entry.key = ""
    entry.value = "a"


@form
def dim_minus1(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1


@form
def dim_minus5(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -5


@form
def dim_minus1_out(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1


@form
def dim_empty(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = ""
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = ""


@form
def dim_none(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()


@form
def dim_zero(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


@form
def dim_huge(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**40


@form
def dim_huge2(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**62


@form
def dim_wrong_k(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 31


@form
def in_wrongrank(model):
    del model.graph.input[0].type.tensor_type.shape.dim[:]


@form
def dup_node_names(model):
    for node in model.graph.node:
        node.name = "same"


@form
def no_node_names(model):
    for node in model.graph.node:
        node.name = ""


@form
def dup_outputs(model):
    model.graph.output.append(model.graph.output[0])


@form
def dup_inputs(model):
    model.graph.input.append(model.graph.input[0])


@form
def dup_init(model):
    model.graph.initializer.append(model.graph.initializer[0])


@form
def dup_init_other(model):
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(model.graph.initializer[0])
    tensor.raw_data = b"\x00" * len(tensor.raw_data)


@form
def ssa(model):
    model.graph.node[2].output[0] = "a"


@form
def ssa2(model):
    model.graph.node[3].output[0] = "x"
    model.graph.output[0].name = "x"


@form
def node_writes_init(model):
    model.graph.node[1].output[0] = "w2"


@form
def node_writes_input(model):
    model.graph.node[1].output[0] = "x"


@form
def trailing_out(model):
    model.graph.node[1].op_type = "Dropout"
    model.graph.node[1].output.append("")


@form
def trailing_out_relu(model):
    model.graph.node[1].output.append("")


@form
def trailing_in(model):
    model.graph.node[1].input.append("")


@form
def trailing_in_matmul(model):
    model.graph.node[0].input.append("")


@form
def extra_out_relu(model):
    model.graph.node[1].output.append("zz")


@form
def only_empty_out(model):
    model.graph.node.append(helper.make_node("Relu", ["a"], [""], name="e"))


@form
def no_out(model):
    model.graph.node.append(helper.make_node("Relu", ["a"], [], name="e"))


@form
def no_in(model):
    model.graph.node.append(helper.make_node("Relu", [], ["q"], name="e"))


@form
def out_is_in(model):
    model.graph.output.append(helper.make_tensor_value_info("x", 1, ["n", 32]))


@form
def out_is_init(model):
    model.graph.output.append(helper.make_tensor_value_info("w1", 1, [32, 64]))


@form
def out_is_init_notype(model):
    model.graph.output.append(onnx.ValueInfoProto(name="w1"))


@form
def init_is_in(model):
    model.graph.input.append(helper.make_tensor_value_info("w1", 1, [32, 64]))


@form
def init_is_in_noshape(model):
    model.graph.input.append(helper.make_tensor_value_info("w1", 1, None))


@form
def init_is_in_wrongshape(model):
    model.graph.input.append(helper.make_tensor_value_info("w1", 1, [3, 3]))


@form
def init_is_in_wrongtype(model):
    model.graph.input.append(helper.make_tensor_value_info("w1", 7, [32, 64]))


@form
def init_is_in_first(model):
    model.graph.input.insert(0, helper.make_tensor_value_info("w1", 1, [32, 64]))


@form
def init_is_in_ir3(model):
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w1", 1, [32, 64]))
    model.graph.input.append(helper.make_tensor_value_info("w2", 1, [64, 32]))


@form
def missing_in(model):
    model.graph.node[1].input[0] = "nowhere"


@form
def missing_out(model):
    model.graph.output[0].name = "nowhere"


@form
def no_outputs(model):
    del model.graph.output[:]


@form
def no_nodes(model):
    del model.graph.node[:]


@form
def no_nodes_out_in(model):
    del model.graph.node[:]
    model.graph.output[0].name = "x"


@form
def no_nodes_out_init(model):
    del model.graph.node[:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("w1", 1, [32, 64]))


@form
def no_graph(model):
    model.ClearField("graph")


@form
def empty_out_name(model):
    model.graph.output[0].name = ""


@form
def empty_in_name(model):
    model.graph.input[0].name = ""
    model.graph.node[0].input[0] = ""


@form
def empty_init_name(model):
    model.graph.initializer[0].name = ""


@form
def unused_init(model):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unused"))


@form
def unused_empty_init(model):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), ""))


@form
def unknown_op(model):
    model.graph.node[1].op_type = "Nonsense"


@form
def unknown_domain(model):
    model.graph.node[1].domain = "foo"
    model.opset_import.add(domain="foo", version=1)


@form
def unknown_op_dead(model):
    model.graph.node.append(helper.make_node("Nonsense", ["a"], ["zz"]))


@form
def unknown_attr(model):
    model.graph.node[1].attribute.append(helper.make_attribute("foo", 1))


@form
def unknown_attr_matmul(model):
    model.graph.node[0].attribute.append(helper.make_attribute("foo", 1))


@form
def dead(model):
    model.graph.node.append(helper.make_node("Relu", ["a"], ["zz"]))


@form
def empty_op(model):
    model.graph.node[1].op_type = ""


@form
def fn_named_relu(model):
    function = helper.make_function(
        "", "Relu", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


@form
def fn_named_matmul(model):
    function = helper.make_function(
        "",
        "MatMul",
        ["A", "B"],
        ["Y"],
        [helper.make_node("MatMul", ["A", "B"], ["t"]), helper.make_node("Neg", ["t"], ["Y"])],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(function)


@form
def fn_named_matmul_aionnx(model):
    function = helper.make_function(
        "ai.onnx",
        "MatMul",
        ["A", "B"],
        ["Y"],
        [helper.make_node("Gemm", ["A", "B"], ["t"]), helper.make_node("Neg", ["t"], ["Y"])],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(function)


@form
def fn_named_relu_ms(model):
    model.graph.node[1].domain = "com.microsoft"
    model.graph.node[1].op_type = "Gelu"
    model.opset_import.add(domain="com.microsoft", version=1)
    function = helper.make_function(
        "com.microsoft", "Gelu", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


@form
def fn_custom(model):
    model.graph.node[1].domain = "my"
    model.graph.node[1].op_type = "F"
    model.opset_import.add(domain="my", version=1)
    function = helper.make_function(
        "my", "F", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


@form
def fn_custom_noimport(model):
    model.graph.node[1].domain = "my"
    model.graph.node[1].op_type = "F"
    function = helper.make_function(
        "my", "F", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


@form
def fn_unsorted(model):
    fn_custom(model)
    function = model.functions[0]
    del function.node[:]
    function.node.extend([helper.make_node("Neg", ["t"], ["Y"]), helper.make_node("Abs", ["X"], ["t"])])


@form
def fn_other_opset(model):
    fn_custom(model)
    model.functions[0].opset_import[0].version = 13


@form
def fn_aionnx(model):
    fn_custom(model)
    model.functions[0].opset_import[0].domain = "ai.onnx"
    model.functions[0].node[0].domain = "ai.onnx"


@form
def fn_noopset(model):
    fn_custom(model)
    del model.functions[0].opset_import[:]


@form
def fn_recursive(model):
    fn_custom(model)
    function = model.functions[0]
    function.opset_import.add(domain="my", version=1)
    function.node[0].domain = "my"
    function.node[0].op_type = "F"


@form
def fn_empty_domain_custom(model):
    model.graph.node[1].op_type = "MyF"
    function = helper.make_function(
        "", "MyF", ["X"], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)


@form
def fn_dup(model):
    fn_custom(model)
    model.functions.append(model.functions[0])


@form
def fn_unused_bad(model):
    function = helper.make_function(
        "my", "F", ["X"], ["Y"], [helper.make_node("Nonsense", ["X"], ["Y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    model.opset_import.add(domain="my", version=1)


@form
def zipmap(model):
    model.opset_import.add(domain="ai.onnx.ml", version=1)
    model.graph.node.append(
        helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=list(range(32)))
    )
    value = model.graph.output.add()
    value.name = "z"
    mapping = value.type.sequence_type.elem_type.map_type
    mapping.key_type = 7
    mapping.value_type.tensor_type.elem_type = 1


@form
def zipmap_notype(model):
    zipmap(model)
    model.graph.output[1].ClearField("type")


def _without(model, change):
    zipmap(model)
    change(model.graph.output[1].type.sequence_type)


@form
def zipmap_of_no_value(model):
    _without(model, lambda kind: kind.elem_type.map_type.ClearField("value_type"))


@form
def zipmap_of_no_key(model):
    _without(model, lambda kind: kind.elem_type.map_type.Clear())


@form
def zipmap_of_nothing(model):
    _without(model, lambda kind: kind.ClearField("elem_type"))


@form
def zipmap_in_a_function(model):
    zipmap(model)
    call = model.graph.node[-1]
    function = helper.make_function("my", "Z", [call.input[0]], ["z"], [call], model.opset_import)
    function.value_info.add().CopyFrom(model.graph.output[1])
    model.functions.append(function)
    model.ir_version = max(model.ir_version, 10)
    model.opset_import.add(domain="my", version=1)
    call.CopyFrom(helper.make_node("Z", list(call.input), ["z"], domain="my"))


@form
def sparse_out_type(model):
    model.graph.output[0].type.sparse_tensor_type.elem_type = 1


@form
def dim_name_mismatch(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "k"


@form
def init_dims_lie(model):
    model.graph.initializer[0].dims[0] = 31


@form
def init_unused_dims_lie(model):
    unused_init(model)
    model.graph.initializer[-1].dims[0] = 31


@form
def init_nodata(model):
    model.graph.initializer[0].ClearField("raw_data")


@form
def init_notype(model):
    model.graph.initializer[0].data_type = 0


@form
def init_both(model):
    model.graph.initializer[0].float_data.extend([1.0])


@form
def init_segment(model):
    model.graph.initializer[0].segment.begin = 0
    model.graph.initializer[0].segment.end = 3


@form
def unused_init_types(model):
    for kind in range(1, 24):
        tensor = model.graph.initializer.add()
        tensor.name = f"u{kind}"
        tensor.data_type = kind
        tensor.dims.append(0)


@form
def training_info(model):
    model.training_info.add()


@form
def quant_annot(model):
    model.graph.quantization_annotation.add().tensor_name = "w1"


@form
def device(model):
    model.graph.node[0].metadata_props.add().key = "a"


@form
def overload_std(model):
    model.graph.node[1].overload = "x"
