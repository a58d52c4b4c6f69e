"""The committed demo models: valid, small, sparse as promised, and right about digits they were not trained on."""

from importlib.resources import files

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from sparse_rt import demo_data

# One image of 500 is 0.002. The int8 bound leaves room for CPUs without VNNI, where onnxruntime's u8 x s8 saturates.
LOWEST_ACCURACY = {
    demo_data.DENSE_MODEL: 0.99,
    demo_data.SPARSE_MODEL: 0.99,
    demo_data.SPARSE_INT8_MODEL: 0.98,
}
SPARSE_LAYERS = {"conv2": (128, 64, 3, 3), "conv3": (128, 128, 3, 3), "fc1": (128, 128), "fc2": (10, 128)}
SPARSE_MODELS = [demo_data.SPARSE_MODEL, demo_data.SPARSE_INT8_MODEL]


def logits(name: str, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(demo_data.read_model(name), providers=["CPUExecutionProvider"])
    (result,) = session.run(["logits"], {"image": images})
    return result


def weights(name: str) -> dict[str, np.ndarray]:
    """Weights of the prunable layers by layer name, whether float32 or quantised."""
    found = {}
    for initializer in onnx.load_from_string(demo_data.read_model(name)).graph.initializer:
        layer, _, kind = initializer.name.partition(".")
        if layer in SPARSE_LAYERS and kind in ("weight", "weight_quantized"):
            found[layer] = numpy_helper.to_array(initializer)
    return found


def nonzeros_of_each_group(weight: np.ndarray) -> list[int]:
    """Nonzeros in every 4 contiguous input channels, for each output channel and kernel position, one by one."""
    weight = weight.reshape(*weight.shape[:2], -1)
    counts = []
    for filter_ in weight.tolist():
        for first in range(0, len(filter_), 4):
            group = filter_[first : first + 4]
            counts += [sum(channel[at] != 0 for channel in group) for at in range(weight.shape[2])]
    return counts


def test_all_files_together_stay_below_three_megabytes():
    sizes = [len(files(demo_data).joinpath(name).read_bytes()) for name in (*demo_data.MODELS, demo_data.TEST_IMAGES)]
    assert min(sizes) > 0
    assert sum(sizes) < 3_000_000


def test_held_out_images_are_scaled_scans_of_every_digit():
    images, labels = demo_data.load_test_images()
    assert (images.shape, images.dtype) == ((500, 1, 8, 8), np.float32)
    assert (labels.shape, labels.dtype) == ((500,), np.int64)
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert np.array_equal(images * 16, np.round(images * 16))
    # stratified: 1797 digits hold 174 to 183 of each
    assert np.bincount(labels, minlength=10).tolist() == pytest.approx([50] * 10, abs=2)
    assert len({image.tobytes() for image in images}) == 500


@pytest.mark.parametrize("name", demo_data.MODELS)
def test_model_is_valid_onnx_in_one_file(name):
    model = onnx.load_from_string(demo_data.read_model(name))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version >= 17) for entry in model.opset_import] == [("", True)]
    assert all(not initializer.external_data for initializer in model.graph.initializer)
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert dims == {"image": ["batch", 1, 8, 8], "logits": ["batch", 10]}
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", demo_data.MODELS)
def test_stock_onnxruntime_recognises_the_held_out_digits(name):
    images, labels = demo_data.load_test_images()
    assert np.mean(logits(name, images).argmax(axis=1) == labels) >= LOWEST_ACCURACY[name]


@pytest.mark.parametrize("name", demo_data.MODELS)
def test_batch_is_dynamic(name):
    images, _ = demo_data.load_test_images()
    whole = logits(name, images[:5])
    for row in range(5):
        np.testing.assert_allclose(logits(name, images[row : row + 1]), whole[row : row + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", demo_data.MODELS)
def test_prunable_layers_have_the_documented_shapes(name):
    expected = np.int8 if name == demo_data.SPARSE_INT8_MODEL else np.float32
    found = weights(name)
    assert {layer: weight.shape for layer, weight in found.items()} == SPARSE_LAYERS
    assert {weight.dtype for weight in found.values()} == {np.dtype(expected)}


@pytest.mark.parametrize("name", SPARSE_MODELS)
@pytest.mark.parametrize("layer", SPARSE_LAYERS)
def test_sparse_weights_hold_two_of_four(name, layer):
    counts = nonzeros_of_each_group(weights(name)[layer])
    assert max(counts) == 2
    if name == demo_data.SPARSE_MODEL:
        assert min(counts) == 2  # magnitude masks keep exactly two


@pytest.mark.parametrize("layer", SPARSE_LAYERS)
def test_dense_weights_do_not(layer):
    assert max(nonzeros_of_each_group(weights(demo_data.DENSE_MODEL)[layer])) == 4


def test_int8_weights_are_symmetric_per_output_channel():
    model = onnx.load_from_string(demo_data.read_model(demo_data.SPARSE_INT8_MODEL))
    arrays = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    for layer, shape in SPARSE_LAYERS.items():
        assert arrays[f"{layer}.weight_scale"].shape == (shape[0],)
        assert not arrays[f"{layer}.weight_zero_point"].any()
    assert arrays["image_zero_point"].dtype == np.uint8


def test_int8_weights_are_those_of_the_float_model():
    float_weights = weights(demo_data.SPARSE_MODEL)
    model = onnx.load_from_string(demo_data.read_model(demo_data.SPARSE_INT8_MODEL))
    arrays = {initializer.name: numpy_helper.to_array(initializer) for initializer in model.graph.initializer}
    for layer, weight in float_weights.items():
        scale = arrays[f"{layer}.weight_scale"].reshape(-1, *[1] * (weight.ndim - 1))
        error = np.abs(arrays[f"{layer}.weight_quantized"] * scale - weight)
        assert np.all(error <= 0.501 * scale)
