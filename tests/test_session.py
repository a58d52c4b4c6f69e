"""The session's face: feeds, sources, options, errors, reports."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import sparse_rt as srt
from sparse_rt.plan.islands import island as island_module
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep
from tests.models.onnx_models import compare, info, model, node, normal, sparse, sparse_int8, sparse_session, stock


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def proto(rng):
    return model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Softmax", ["a"], ["p"]),
            node("MatMul", ["p", "v"], ["y"]),
        ],
        [info("x", "batch", 24)],
        [info("y", "batch", 8)],
        {"w": sparse(rng, 16, 24).T.copy(), "v": sparse(rng, 8, 16).T.copy()},
    )


@pytest.fixture
def dense(rng):
    return model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", "batch", 24)],
        [info("y", "batch", 8)],
        {"w": normal(rng, 24, 8)},
    )


BAD_FEEDS = {
    "missing": ({}, "expected the inputs ['x']"),
    "unknown": ({"x": np.ones((2, 24), np.float32), "z": np.ones(2)}, "'z'"),
    "dtype": ({"x": np.ones((2, 24))}, "expected float32, got float64"),
    "rank": ({"x": np.ones(24, np.float32)}, "2 axes"),
    "dimension": ({"x": np.ones((2, 23), np.float32)}, "24 elements on axis 1"),
    "scalar": ({"x": 3.0}, "got float"),
    "numpy scalar": ({"x": np.float32(3)}, "float32"),
    "none": ({"x": None}, "NoneType"),
    "tuple": ({"x": (1.0, 2.0)}, "tuple"),
    "ragged list": ({"x": [[1.0], [1.0, 2.0]]}, "rectangular"),
    "not a dict": ([np.ones((2, 24), np.float32)], "dict"),
}


@pytest.mark.parametrize("case", BAD_FEEDS)
@pytest.mark.parametrize("kind", ["proto", "dense"])
def test_wrong_feeds(case, kind, request):
    feeds, text = BAD_FEEDS[case]
    session = sparse_session(request.getfixturevalue(kind))
    with pytest.raises(srt.FeedError) as error:
        session.run(None, feeds)
    assert text in str(error.value)
    # What a program written for onnxruntime catches.
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, ort.capi.onnxruntime_pybind11_state.InvalidArgument)


@pytest.mark.parametrize("names", [["q"], ["y", "q"], "y"])
def test_wrong_output_names(proto, names):
    with pytest.raises(srt.FeedError):
        sparse_session(proto).run(names, {"x": np.ones((2, 24), np.float32)})


def test_symbolic_shape_that_does_not_fit_the_weight(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", "b", "k")],
        [info("y", "b", 8)],
        {"w": sparse(rng, 8, 16).T.copy()},
    )
    with pytest.raises(srt.FeedError, match="16 elements on axis -1"):
        sparse_session(proto).run(None, {"x": np.ones((2, 15), np.float32)})
    proto = model(
        [node("Conv", ["x", "w"], ["y"])],
        [info("x", "b", "c", "h", "w_")],
        [info("y", "b", 8, 1, 1)],
        {"w": sparse(rng, 8, 16, 3, 3)},
    )
    session = sparse_session(proto)
    for shape in [(1, 15, 4, 4), (1, 16, 1, 1), (1, 16, 2, 4), (1, 16, 0, 4)]:
        with pytest.raises(srt.FeedError, match="expected an input"):
            session.run(None, {"x": np.ones(shape, np.float32)})


def test_empty_axes_of_convolutions(rng):
    """As in onnxruntime: an output must have pixels, whether or not the input has."""
    x = normal(rng, 2, 8, 0, 5)
    for kernel, pads, shape in [(1, 0, None), (3, 1, None), (3, 2, (2, 6, 2, 7))]:
        proto = model(
            [node("Conv", ["x", "w", "b"], ["y"], pads=[pads] * 4)],
            [info("x", "b", 8, "h", "w_")],
            [info("y", "b", 6, "p", "q")],
            {"w": sparse(rng, 6, 8, kernel, kernel), "b": np.arange(6, dtype=np.float32)},
        )
        session = sparse_session(proto)
        if shape is None:
            with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
                stock(proto, {"x": x})
            with pytest.raises(srt.FeedError, match="fits into"):
                session.run(None, {"x": x})
            continue
        (y,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, stock(proto, {"x": x})[0])
        np.testing.assert_array_equal(y, np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], shape))
    proto = model(
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        [info("x", "b", 8, "h", "w_")],
        [info("y", "b", 6, "p", "q")],
        {"w": sparse(rng, 6, 8, 3, 3).swapaxes(0, 1).copy()},
    )
    with pytest.raises(srt.FeedError, match="fits into"):
        sparse_session(proto).run(None, {"x": x})


def test_feeds_of_any_layout(proto, rng):
    session = sparse_session(proto)
    x = normal(rng, 6, 24)
    (expected,) = session.run(None, {"x": x})
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[:] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.repeat(x, 2, axis=1)
    feeds = [np.asfortranarray(x), x.astype(">f4"), unaligned, frozen, wide[:, ::2], x[::-1][::-1], x.tolist()]
    for feed in (*feeds, ort.OrtValue.ortvalue_from_numpy(x)):
        np.testing.assert_array_equal(session.run(None, {"x": feed})[0], expected)


def test_outputs_belong_to_the_caller(proto, rng):
    session = sparse_session(proto)
    x = normal(rng, 6, 24)
    (first,) = session.run(None, {"x": x})
    kept = first.copy()
    session.run(None, {"x": normal(rng, 6, 24)})
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable


@pytest.mark.parametrize("kind", ["proto", "dense"])
def test_described_like_onnxruntime(kind, request):
    proto = request.getfixturevalue(kind)
    proto.metadata_props.add(key="author", value="me")
    proto.model_version = 4
    ours, theirs = sparse_session(proto), ort.InferenceSession(proto.SerializeToString())
    for get in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        found = [(item.name, item.type, item.shape) for item in getattr(ours, get)()]
        assert found == [(item.name, item.type, item.shape) for item in getattr(theirs, get)()]
    assert ours.get_providers() == theirs.get_providers()
    for field in ("custom_metadata_map", "description", "domain", "graph_name", "producer_name", "version"):
        assert getattr(ours.get_modelmeta(), field) == getattr(theirs.get_modelmeta(), field)


def test_outputs_without_a_declared_type(proto):
    del proto.graph.output[:]
    proto.graph.output.append(onnx.ValueInfoProto(name="y"))
    proto.graph.output[0].type.tensor_type.elem_type = 1
    (output,) = sparse_session(proto).get_outputs()
    assert (output.type, output.shape[1]) == ("tensor(float)", 8)


def test_sources(proto, tmp_path, rng):
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    feeds = {"x": normal(rng, 2, 24)}
    expected = sparse_session(proto).run(None, feeds)[0]
    for source in (path, str(path), path.read_bytes(), proto):
        np.testing.assert_array_equal(sparse_session(source).run(None, feeds)[0], expected)


@pytest.mark.parametrize("source", [b"", b"not a model", "nowhere.onnx"])
def test_unreadable_models(source):
    with pytest.raises(srt.ModelError):
        sparse_session(source)


def test_unknown_operators_are_model_errors(rng):
    for weight in (sparse(rng, 8, 24).T.copy(), normal(rng, 24, 8)):
        proto = model(
            [node("MatMul", ["x", "w"], ["a"]), node("Mystery", ["a"], ["y"], domain="com.microsoft")],
            [info("x", "b", 24)],
            [info("y", "b", 8)],
            {"w": weight},
        )
        with pytest.raises(srt.ModelError, match="Mystery"):
            sparse_session(proto)


def test_declared_shapes_that_cannot_run_are_model_errors(rng):
    proto = model(
        [node("Conv", ["x", "w"], ["y"])],
        [info("x", 1, 8, 2, 2)],
        [info("y", "b", 6, "p", "q")],
        {"w": sparse(rng, 6, 8, 3, 3)},
    )
    with pytest.raises(srt.ModelError, match="fits into"):
        sparse_session(proto)


def test_the_kernel_tier_is_an_option(proto, rng):
    options = srt.SessionOptions(kernel_tier="generic")
    session = srt.InferenceSession(proto, options)
    assert all(report.kernel.endswith("__generic") for report in session.explain() if report.kernel)
    x = normal(rng, 3, 24)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-5)
    for wrong in ("sse9", 3):
        with pytest.raises(srt.ConfigError, match="tier"):
            srt.SessionOptions(kernel_tier=wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inter_op_num_threads", 2),
        ("execution_mode", ort.ExecutionMode.ORT_PARALLEL),
        ("enable_mem_pattern", False),
        ("enable_cpu_mem_arena", False),
        ("log_verbosity_level", 1),
        ("logid", "mine"),
        ("enable_profiling", False),
        ("optimized_model_filepath", ""),
    ],
)
def test_onnxruntimes_options_reach_the_parts_that_it_runs(proto, rng, name, value):
    options = srt.SessionOptions()
    assert getattr(options, name) == getattr(ort.SessionOptions(), name)
    setattr(options, name, value)
    assert getattr(options, name) == getattr(options.copy(), name) == value
    assert getattr(options.onnxruntime_options(), name) == value
    assert getattr(srt.SessionOptions(**{name: value}), name) == value
    x = normal(rng, 3, 24)
    found = srt.InferenceSession(proto, options).run(None, {"x": x})
    np.testing.assert_allclose(found[0], stock(proto, {"x": x})[0], rtol=1e-5)


def test_config_entries(proto):
    key = "session.intra_op.allow_spinning"
    options = srt.SessionOptions()
    with pytest.raises(srt.ConfigError, match="allow_spinning"):
        options.get_session_config_entry(key)
    with pytest.raises(srt.ConfigError, match="strings"):
        options.add_session_config_entry(key, 1)
    options.add_session_config_entry(key, "1")
    assert options.copy().get_session_config_entry(key) == "1"
    assert options.onnxruntime_options().get_session_config_entry(key) == "1"
    srt.InferenceSession(proto, options)
    with pytest.raises(AttributeError, match="add_provider"):
        options.add_provider("CUDA", {})


def test_foreign_options_and_providers(proto):
    with pytest.raises(srt.ConfigError, match="names"):
        srt.InferenceSession(proto, providers=[3])
    with pytest.raises(srt.ConfigError):
        srt.InferenceSession(proto, ort.SessionOptions())
    with pytest.raises(srt.ConfigError, match="CPU"):
        srt.InferenceSession(proto, providers=["CUDAExecutionProvider"])
    srt.InferenceSession(proto, providers=["CPUExecutionProvider"])
    with pytest.warns(srt.SparseRTWarning, match="ignored"):
        srt.InferenceSession(proto, providers=["CUDAExecutionProvider", ("CPUExecutionProvider", {})])


def test_explain(proto):
    first, second = sparse_session(proto).explain()
    assert (first.shape, first.op_type, first.pattern, first.dtype) == ((16, 24), "MatMul", "2:4", "float32")
    assert first.density == pytest.approx(0.5)
    assert (first.dense_bytes, first.compressed_bytes) == (16 * 24 * 4, 16 * 12 * 4 + 16 * 3)
    assert first.kernel.startswith("f32_n2m4_gemm_")
    assert first.kernel in first.reason
    assert second.is_sparse


def test_a_dense_model_is_one_step_of_onnxruntime(dense):
    session = sparse_session(dense)
    (step,) = session.plan.steps
    assert isinstance(step, OnnxRuntimeStep)
    assert not session.plan.is_sparse


def test_compressed_and_plain_models_give_the_same(proto, rng, tmp_path):
    compressed = srt.compress(proto)
    assert any(item.domain == "sparse_rt" for item in compressed.graph.node)
    path = tmp_path / "c.onnx"
    onnx.save(compressed, path)
    feeds = {"x": normal(rng, 5, 24)}
    plain = sparse_session(proto).run(None, feeds)[0]
    session = sparse_session(path)
    assert [type(step).__name__ for step in session.plan.steps] == ["SparseStep", "OnnxRuntimeStep", "SparseStep"]
    np.testing.assert_array_equal(session.run(None, feeds)[0], plain)


def test_compressed_layers_without_a_kernel_keep_their_functions(rng):
    half = sparse(rng, 16, 24).T.astype(np.float16)
    proto = model(
        [
            node("Cast", ["x"], ["h"], to=10),
            node("MatMul", ["h", "w"], ["a"]),
            node("Cast", ["a"], ["f"], to=1),
            node("MatMul", ["f", "v"], ["y"]),
        ],
        [info("x", "b", 24)],
        [info("y", "b", 8)],
        {"w": half, "v": sparse(rng, 8, 16).T.copy()},
    )
    compressed = srt.compress(proto)
    feeds = {"x": normal(rng, 5, 24)}
    session = compare(compressed, feeds, layers=1, islands=1)
    assert [report.kernel is None for report in session.explain()] == [True, False]
    np.testing.assert_array_equal(session.run(None, feeds)[0], sparse_session(proto).run(None, feeds)[0])


def test_corrupt_index_is_refused(proto):
    compressed = srt.compress(proto)
    for initializer in compressed.graph.initializer:
        if initializer.data_type == onnx.TensorProto.UINT8 and len(initializer.raw_data) > 8:
            initializer.raw_data = b"\xff" + initializer.raw_data[1:]
    with pytest.raises(srt.FormatError, match="index"):
        sparse_session(compressed)


def external(proto, folder):
    path = folder / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


@pytest.mark.parametrize("kind", ["proto", "dense"])
def test_external_data(kind, request, tmp_path, rng, monkeypatch):
    proto = request.getfixturevalue(kind)
    feeds = {"x": normal(rng, 5, 24)}
    expected = sparse_session(proto).run(None, feeds)[0]
    path = external(proto, tmp_path)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(sparse_session(path).run(None, feeds)[0], expected)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(sparse_session(path.read_bytes()).run(None, feeds)[0], expected)


def test_large_islands_take_initializers_beside_the_protobuf(rng, monkeypatch):
    monkeypatch.setattr(island_module, "EXTERNAL_FROM", 1000)
    table = normal(rng, 50, 24)
    proto = model(
        [
            node("Gather", ["table", "ids"], ["x"]),
            node("MatMul", ["x", "w"], ["a"]),
            node("MatMul", ["a", "d"], ["b"]),
            node("Cast", ["half"], ["h"], to=1),
            node("Add", ["b", "h"], ["y"]),
        ],
        [info("ids", "b", kind=7)],
        [info("y", "b", 30)],
        {
            "table": table,
            "w": sparse(rng, 16, 24).T.copy(),
            "d": normal(rng, 16, 30),
            "half": normal(rng, 1, 30).astype("e"),
        },
    )
    added = []
    monkeypatch.setattr(
        ort.SessionOptions,
        "add_external_initializers",
        lambda self, names, values, add=ort.SessionOptions.add_external_initializers: (
            added.extend(names),
            add(self, names, values),
        ),
    )
    compare(proto, {"ids": np.array([3, 49, 0])}, layers=1, islands=2)
    assert added == ["table", "d"]


def test_int8_activation_of_every_alignment(rng):
    """Byte arrays may start anywhere; kernels must not need more."""
    proto = model(
        [node("MatMulInteger", ["x", "w"], ["y"])], [info("x", "b", 24, kind=2)], [info("y", "b", 8, kind=6)],
        {"w": sparse_int8(rng, 8, 24).T.copy()},
    )  # fmt: skip
    session = sparse_session(proto)
    for offset in range(4):
        x = rng.integers(0, 256, 5 * 24 + 4).astype(np.uint8)[offset : offset + 120].reshape(5, 24)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0])


def test_a_dense_model_takes_the_same_feeds_and_raises_the_same_errors(rng):
    """onnxruntime runs it alone, and is called at once where it reads the arguments as we do."""
    dense = model(
        [node("MatMul", ["x", "w"], ["y"]), node("Identity", ["x"], ["same"])],
        [info("x", "m", 8)],
        [info("y", "m", 4), info("same", "m", 8)],
        {"w": normal(rng, 8, 4)},
    )
    session = srt.InferenceSession(dense)
    x = normal(rng, 3, 8)
    expected = stock(dense, {"x": x})
    for feed in (x, x.astype(">f4"), np.asfortranarray(x), x.tolist(), ort.OrtValue.ortvalue_from_numpy(x)):
        for got, want in zip(session.run(None, {"x": feed}), expected, strict=True):
            np.testing.assert_array_equal(got, want)
    first, second = session.run(["y", "y"], {"x": x})
    assert not np.may_share_memory(first, second)
    (same,) = session.run(["same"], {"x": x})
    assert not np.may_share_memory(same, x)
    for feeds in ({}, {"x": x.astype(np.float64)}, {"x": x[:, :4]}, {"x": x, "z": x}, {"x": 3}):
        with pytest.raises(srt.FeedError):
            session.run(None, feeds)
    with pytest.raises(srt.FeedError):
        session.run(["z"], {"x": x})
