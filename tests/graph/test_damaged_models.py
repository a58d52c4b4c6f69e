"""Compressed models that were damaged at random: an error of ours, or the answer that stock onnxruntime gives."""

import contextlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from sparse_rt import demo_data, stock
from tests.models.mutations import damaged

MODELS = (demo_data.SPARSE_MODEL, demo_data.SPARSE_INT8_MODEL)
CASES_A_GROUP = 40


@pytest.fixture(scope="module", params=MODELS)
def compressed(request):
    return srt.compress(demo_data.read_model(request.param)).SerializeToString()


@pytest.fixture(scope="module")
def images():
    return demo_data.load_test_images()[0][:4]


def run(content, images):
    options = srt.SessionOptions(intra_op_num_threads=1, log_severity_level=4)
    session = srt.InferenceSession(content, options)
    feeds = {session.get_inputs()[0].name: images}
    return [output.name for output in session.get_outputs()], feeds, session.run(None, feeds)


def agrees(ours, theirs):
    """Equal apart from rounding; where the damage made NaN or inf, a stored zero may have hidden it."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if not np.isfinite(theirs).all():
        return True
    return np.allclose(ours, theirs, rtol=1e-4, atol=2e-5 * np.abs(theirs).max(initial=0))


@pytest.mark.parametrize("group", range(8))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_damage(compressed, images, group):
    for seed in range(group * CASES_A_GROUP, (group + 1) * CASES_A_GROUP):
        what, content = damaged(compressed, seed)
        try:
            names, feeds, ours = run(content, images)
        except srt.SparseRTError:
            continue
        except Exception as error:
            # What an operator of onnxruntime's says while it runs passes through.
            if type(error).__module__.startswith("onnxruntime"):
                continue
            pytest.fail(f"{what}: {error!r}")
        # Engines that do not know the domain need the function bodies, which may be what was damaged; and the optimised
        # graph does not look at the scale of an int32 bias, which the plain one does.
        answers = []
        for optimise in (True, False):
            with contextlib.suppress(srt.SparseRTError):
                session = stock.open_session(content, 1, optimise=optimise)
                answers.append(stock.run(session, names, feeds))
        if answers:
            assert any(all(map(agrees, ours, theirs)) for theirs in answers), what


def edit(compressed, change):
    model = onnx.load_model_from_string(compressed)
    change(model)
    return model.SerializeToString()


def layer(model, kind="Conv"):
    return next(n for n in model.graph.node if n.domain == "sparse_rt" and n.op_type.split("_")[1].startswith(kind))


def attribute(node, name):
    return next(a for a in node.attribute if a.name == name)


def tensor(model, node, position):
    return next(t for t in model.graph.initializer if t.name == node.input[position])


def set_attribute(kind, name, value):
    def change(model):
        node = layer(model, kind)
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))

    return change


def set_shape(shape, dtype=np.int64):
    return set_attribute("Conv", "filter_shape", numpy_helper.from_array(np.asarray(shape, dtype)))


def swap_values_and_index(model):
    node = layer(model)
    node.input[1], node.input[2] = node.input[2], node.input[1]


def short_bias(model):
    bias = tensor(model, layer(model), 3)
    array = numpy_helper.to_array(bias)[:74]
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))


def index_three(model):
    stored = tensor(model, layer(model), 2)
    stored.raw_data = b"\x0c" + stored.raw_data[1:]


def short_tensor(model):
    stored = tensor(model, layer(model), 1)
    stored.raw_data = stored.raw_data[:-1]


def other_element_type(model):
    tensor(model, layer(model), 1).data_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swap_values_and_index, "values"),
        (index_three, "every 2-bit index in {0, 1, 2}, got 3 in row 0, index 1"),
        (short_tensor, "bytes for"),
        (other_element_type, "bytes for double"),
        (set_shape([128, 64, 3, 2]), "128, 64, 3, 2"),
        (set_shape([128, 64]), "1-D and 2-D kernels"),
        (set_shape([2**40, 2**40, 3, 3]), "a shape that memory can hold"),
        (set_shape([128, -64, 3, 3]), "negative"),
        (set_shape([128, 64, 3, 3], np.int32), "a list of int64, got int32"),
        (set_attribute("Conv", "filter_shape", None), "the attribute filter_shape"),
        (set_attribute("Conv", "filter_shape", "128x64"), "the attribute filter_shape"),
        (set_attribute("Conv", "alg", "weight_sparse_4_1"), "alg = 'weight_sparse_4_2'"),
        (set_attribute("Conv", "pads", [1, 1]), "4 pads"),
        (set_attribute("Conv", "pads", 1.5), "'pads' of type INTS"),
        (set_attribute("Conv", "strides", [0, 1]), "strides of at least 1"),
        (set_attribute("Conv", "kernel_shape", [3, 2]), "kernel_shape (3, 3)"),
        (set_attribute("Conv", "auto_pad", "SAME"), "auto_pad among"),
        (set_attribute("Gemm", "transB", 0), "transB = 1 for FullyConnectionCompress_Gemm_transB"),
        (set_attribute("Gemm", "transB", None), "transB = 1 for FullyConnectionCompress_Gemm_transB"),
    ],
)
def test_damage_by_hand_has_a_reason(compressed, change, text):
    with pytest.raises(srt.SparseRTError) as caught:
        srt.InferenceSession(edit(compressed, change))
    assert text in str(caught.value)


def test_two_integers_of_one_element_that_overflow_are_refused():
    def change(model):
        node = layer(model)
        values, index = tensor(model, node, 1), tensor(model, node, 2)
        values.raw_data = b"\x7f\x7f" + values.raw_data[2:]
        index.raw_data = b"\x01" + index.raw_data[1:]

    content = edit(srt.compress(demo_data.read_model(demo_data.SPARSE_INT8_MODEL)).SerializeToString(), change)
    with pytest.raises(srt.FormatError, match="sums that fit int8, got 254 in row 0, group 0"):
        srt.InferenceSession(content)


def test_an_output_larger_than_memory_is_refused(compressed, images):
    content = edit(compressed, set_attribute("Conv", "pads", [2**40] * 4))
    with pytest.raises((srt.SparseRTError, ort.capi.onnxruntime_pybind11_state.Fail)):
        run(content, images)


@pytest.mark.parametrize("name", ["conv2.weight_zero_point", "conv2.weight_scale"])
def test_a_parameter_that_no_sparse_layer_has_leaves_the_layer_to_onnxruntime(images, name):
    compressed = srt.compress(demo_data.read_model(demo_data.SPARSE_INT8_MODEL)).SerializeToString()

    def change(model):
        stored = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(stored).copy()
        # Of zero points some versions of onnxruntime take only equal ones.
        array[... if "zero" in name else 3] = -1
        stored.CopyFrom(numpy_helper.from_array(array, name))

    content = edit(compressed, change)
    session = srt.InferenceSession(content)
    report = next(item for item in session.explain() if item.name == "conv2")
    assert report.kernel is None
    theirs = stock.run(stock.open_session(content, 1), None, {"image": images})
    np.testing.assert_allclose(session.run(None, {"image": images})[0], theirs[0], rtol=1e-5, atol=1e-5)


def test_names_that_are_no_text_are_refused(compressed):
    content = compressed.replace(b"conv2", b"con\xff2")
    with pytest.raises(srt.ModelError):
        srt.InferenceSession(content)


def test_attributes_that_are_no_text_are_refused(compressed):
    with pytest.raises(srt.ModelError, match="alg = 'weight_sparse_4_2'"):
        srt.InferenceSession(compressed.replace(b"weight_sparse_4_2", b"weight_sparse_4_\xff", 1))


def test_a_bias_shorter_than_the_channels_is_refused():
    content = srt.compress(demo_data.read_model(demo_data.SPARSE_MODEL)).SerializeToString()
    with pytest.raises(srt.ModelError, match="a bias of 128 values"):
        srt.InferenceSession(edit(content, short_bias))
