"""External data, wherever a model has it: found beside the model, as stock onnxruntime finds it, and nowhere else."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from sparse_rt import stock
from sparse_rt.cli.file_size import model_bytes
from sparse_rt.graph import model_io
from sparse_rt.graph.model_writer import write
from sparse_rt.graph.passes.compress import compress_model
from tests.graph import forms

X = {"x": np.random.default_rng(1).standard_normal((2, 32)).astype(np.float32)}


def move(tensor, location, offset=0, length=None, **more):
    """Let a tensor have its data elsewhere, and return it."""
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": len(raw) if length is None else length, **more}
    for key, value in entries.items():
        if value != "absent":
            tensor.external_data.add(key=key, value=str(value))
    return raw


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def first(model):
    return model.graph.initializer[0]


def constant(tensor, output):
    node = helper.make_node("Constant", [], [output])
    node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    return node


def taken(model):
    """Remove the first weight from a model, and return it."""
    tensor = onnx.TensorProto()
    tensor.CopyFrom(first(model))
    del model.graph.initializer[0]
    return tensor


# Where in a model the tensor is.
PLACES = {}


def place(change):
    PLACES[change.__name__] = change
    return change


@place
def initializer(model, location):
    return {location: move(first(model), location)}


@place
def constant_node(model, location):
    tensor = taken(model)
    raw = move(tensor, location)
    model.graph.node.insert(0, constant(tensor, "w1"))
    return {location: raw}


def branches(model, make):
    graphs = [make(f"{name}_out", name) for name in ("then", "else")]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    node = helper.make_node("If", ["condition"], ["w1"], then_branch=graphs[0], else_branch=graphs[1])
    model.graph.node.insert(0, node)


@place
def branch_initializer(model, location):
    tensor = taken(model)
    raw, tensor.name = move(tensor, location), "inner"

    def make(output, name):
        node = helper.make_node("Identity", ["inner"], [output])
        return helper.make_graph([node], name, [], [onnx.ValueInfoProto(name=output)], [tensor])

    branches(model, make)
    return {location: raw}


@place
def branch_constant(model, location):
    tensor = taken(model)
    raw = move(tensor, location)
    branches(
        model,
        lambda output, name: helper.make_graph(
            [constant(tensor, output)], name, [], [onnx.ValueInfoProto(name=output)]
        ),
    )
    return {location: raw}


@place
def function_constant(model, location):
    tensor = taken(model)
    raw = move(tensor, location)
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("my", "Weight", [], ["w"], [constant(tensor, "w")], opsets))
    model.opset_import.add(domain="my", version=1)
    model.graph.node.insert(0, helper.make_node("Weight", [], ["w1"], domain="my"))
    return {location: raw}


def sparse(tensor):
    array = numpy_helper.to_array(tensor)
    values = numpy_helper.from_array(array[array != 0], tensor.name)
    indices = numpy_helper.from_array(np.flatnonzero(array).astype(np.int64), "indices")
    return onnx.SparseTensorProto(values=values, indices=indices, dims=array.shape)


@place
def sparse_initializer(model, location):
    made = sparse(taken(model))
    files = {location: move(made.values, location), f"{location}.i": move(made.indices, f"{location}.i")}
    model.graph.sparse_initializer.append(made)
    return files


@place
def sparse_constant(model, location):
    made = sparse(taken(model))
    files = {location: move(made.values, location)}
    node = helper.make_node("Constant", [], ["w1"])
    kind = onnx.AttributeProto.SPARSE_TENSOR
    node.attribute.append(onnx.AttributeProto(name="sparse_value", type=kind, sparse_tensor=made))
    model.graph.node.insert(0, node)
    return files


def answer(source):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, X)[0]


def session(source, tuning="sparse"):
    options = srt.SessionOptions(intra_op_num_threads=1, tuning=tuning)
    options.log_severity_level = 4
    return srt.InferenceSession(source, options)


@pytest.mark.parametrize("name", PLACES)
def test_it_is_found_beside_the_model_wherever_it_is_named(name, tmp_path, monkeypatch):
    model = forms.base()
    files = PLACES[name](model, "weight.bin")
    path = tmp_path / "model" / "m.onnx"
    put(path, model.SerializeToString())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file, content in files.items():
        put(path.parent / file, content)
        # The same name where the process is: another model's weights.
        put(elsewhere / file, bytes(len(content)))
    monkeypatch.chdir(elsewhere)
    assert model_bytes(path) == sum(file.stat().st_size for file in path.parent.iterdir())
    expected = answer(os.fspath(path))
    for tuning in ("sparse", "on"):
        found = session(path, tuning)
        np.testing.assert_allclose(found.run(None, X)[0], expected, rtol=1e-4, atol=1e-5)
    for change in (srt.compress, srt.prune):
        made = change(path).SerializeToString()
        for file in files:
            assert file.encode() not in made
        np.testing.assert_allclose(answer(made), expected, rtol=1e-4, atol=1e-5)
    for external in (False, True):
        written = tmp_path / "written" / "m.onnx"
        written.parent.mkdir(exist_ok=True)
        write(compress_model(model_io.read(path)).model, written, external_data=external)
        np.testing.assert_allclose(answer(os.fspath(written)), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(session(written).run(None, X)[0], expected, rtol=1e-4, atol=1e-5)
    report = srt.verify(path, feeds=X)
    assert all(item.comparison.ok if hasattr(item.comparison, "ok") else item.comparison for item in report.outputs)
    # What verify and bench look at: onnxruntime with more outputs.
    inner = stock.open_session(path, 1, ["a"])
    np.testing.assert_allclose(stock.run(inner, ["y"], X)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("fault", ["missing", "short", "outside", "slash"])
def test_a_fault_is_told_wherever_it_is(name, fault, tmp_path):
    model = forms.base()
    location = {"outside": "../weight.bin", "slash": "weight.bin/"}.get(fault, "weight.bin")
    path = tmp_path / "model" / "m.onnx"
    for file, content in PLACES[name](model, location).items():
        if fault != "missing":
            put(tmp_path / "model" / file.replace("/", ""), content[:-1] if fault == "short" else content)
    put(path, model.SerializeToString())
    for use in (session, srt.compress, srt.prune, srt.verify):
        with pytest.raises(srt.ModelError, match="external data"):
            use(path)


def test_bytes_have_theirs_in_the_working_directory(tmp_path, monkeypatch):
    for name in PLACES:
        model = forms.base()
        for file, content in PLACES[name](model, f"{name}.bin").items():
            put(tmp_path / file, content)
        monkeypatch.chdir(tmp_path)
        for source in (model.SerializeToString(), model):
            expected = answer(model.SerializeToString())
            np.testing.assert_allclose(session(source).run(None, X)[0], expected, rtol=1e-4, atol=1e-5)


# What lies in the folder `s`, a model's: stock loads it, or does not.
LAYOUTS = {}


def layout(change):
    LAYOUTS[change.__name__] = change
    return change


def saved(model, path):
    put(path, model.SerializeToString())
    return path


@layout
def beside(model, s):
    put(s / "w", move(first(model), "w"))
    return saved(model, s / "m.onnx")


@layout
def below(model, s):
    put(s / "sub/w", move(first(model), "sub/w"))
    return saved(model, s / "m.onnx")


@layout
def a_dot_before(model, s):
    put(s / "w", move(first(model), "./w"))
    return saved(model, s / "m.onnx")


@layout
def up_and_back(model, s):
    put(s / "w", move(first(model), f"../{s.name}/w"))
    return saved(model, s / "m.onnx")


@layout
def through_a_folder_that_is_not_there(model, s):
    put(s / "w", move(first(model), "none/../w"))
    return saved(model, s / "m.onnx")


@layout
def above(model, s):
    put(s.parent / "w", move(first(model), "../w"))
    return saved(model, s / "m.onnx")


@layout
def absolute(model, s):
    put(s / "w", move(first(model), str(s / "w")))
    return saved(model, s / "m.onnx")


@layout
def link_within(model, s):
    put(s / "real", move(first(model), "w"))
    os.symlink("real", s / "w")
    return saved(model, s / "m.onnx")


@layout
def link_out(model, s):
    put(s.parent / "blobs/w", move(first(model), "w"))
    s.mkdir(exist_ok=True)
    os.symlink("../blobs/w", s / "w")
    return saved(model, s / "m.onnx")


@layout
def hub_cache(model, s):
    """snapshots/<revision>/m.onnx and its data are links into blobs."""
    s = s / "snapshots/1234"
    put(s.parent.parent / "blobs/9f2d", move(first(model), "m.onnx_data"))
    saved(model, s.parent.parent / "blobs/77ab")
    s.mkdir(parents=True)
    os.symlink("../../blobs/9f2d", s / "m.onnx_data")
    os.symlink("../../blobs/77ab", s / "m.onnx")
    return s / "m.onnx"


@layout
def hub_cache_in_a_folder(model, s):
    s = s / "snapshots/1234/onnx"
    put(s.parent.parent.parent / "blobs/9f2d", move(first(model), "m.onnx_data"))
    saved(model, s.parent.parent.parent / "blobs/77ab")
    s.mkdir(parents=True)
    os.symlink("../../../blobs/9f2d", s / "m.onnx_data")
    os.symlink("../../../blobs/77ab", s / "m.onnx")
    return s / "m.onnx"


@layout
def model_link_alone(model, s):
    put(s / "w", move(first(model), "w"))
    saved(model, s.parent / "blobs/m")
    os.symlink("../blobs/m", s / "m.onnx")
    return s / "m.onnx"


@layout
def data_beside_the_models_target(model, s):
    put(s.parent / "blobs/w", move(first(model), "w"))
    saved(model, s.parent / "blobs/m")
    s.mkdir(exist_ok=True)
    os.symlink("../blobs/m", s / "m.onnx")
    return s / "m.onnx"


@layout
def folder_link(model, s):
    put(s.parent / "real/w", move(first(model), "w"))
    saved(model, s.parent / "real/m.onnx")
    os.symlink("real", s)
    return s / "m.onnx"


@layout
def link_to_a_folder_outside(model, s):
    put(s.parent / "other/w", move(first(model), "sub/w"))
    s.mkdir(exist_ok=True)
    os.symlink("../other", s / "sub")
    return saved(model, s / "m.onnx")


@layout
def hard_link(model, s):
    put(s.parent / "other", move(first(model), "w"))
    s.mkdir(exist_ok=True)
    os.link(s.parent / "other", s / "w")
    return saved(model, s / "m.onnx")


@layout
def a_folder(model, s):
    move(first(model), "sub")
    (s / "sub").mkdir(parents=True)
    return saved(model, s / "m.onnx")


@layout
def the_folder_itself(model, s):
    move(first(model), ".")
    return saved(model, s / "m.onnx")


@layout
def no_name(model, s):
    move(first(model), "")
    return saved(model, s / "m.onnx")


@layout
def no_location(model, s):
    move(first(model), "absent")
    return saved(model, s / "m.onnx")


@layout
def device(model, s):
    move(first(model), "/dev/zero")
    return saved(model, s / "m.onnx")


@layout
def link_to_a_device(model, s):
    move(first(model), "w")
    s.mkdir(exist_ok=True)
    os.symlink("/dev/zero", s / "w")
    return saved(model, s / "m.onnx")


@layout
def unknown_entry(model, s):
    put(s / "w", move(first(model), "w", color="red"))
    return saved(model, s / "m.onnx")


@layout
def checksum(model, s):
    put(s / "w", move(first(model), "w", checksum="1234"))
    return saved(model, s / "m.onnx")


@layout
def two_locations(model, s):
    put(s / "w", move(first(model), "w"))
    first(model).external_data.add(key="location", value="w")
    return saved(model, s / "m.onnx")


@layout
def data_inside_as_well(model, s):
    raw = move(first(model), "w")
    put(s / "w", raw)
    first(model).raw_data = bytes(len(raw))
    return saved(model, s / "m.onnx")


@layout
def entries_without_the_mark(model, s):
    first(model).external_data.add(key="location", value="w")
    return saved(model, s / "m.onnx")


@pytest.mark.parametrize("name", LAYOUTS)
def test_onnxruntime_decides_which_files_a_model_may_read(name, tmp_path):
    path = LAYOUTS[name](forms.base(), tmp_path / "s")
    try:
        expected = answer(os.fspath(path))
    except Exception:  # onnxruntime's types are many
        for use in (session, srt.compress, srt.verify):
            with pytest.raises(srt.ModelError, match="external data"):
                use(path)
        return
    found = session(path)
    np.testing.assert_allclose(found.run(None, X)[0], expected, rtol=1e-4, atol=1e-5)
    assert all(report.is_sparse for report in found.explain())
    np.testing.assert_allclose(answer(srt.compress(path).SerializeToString()), expected, rtol=1e-4, atol=1e-5)
    assert len(srt.verify(path, feeds=X).layers) == forms.LAYERS


NUMBERS = [
    *("-4", "abc", "0abc", " 0", "0.0", "", "+0", "1_0", str(2**63 - 1), str(2**64), "9" * 60, "\u0663"),
]


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_none(key, number, tmp_path):
    model = forms.base()
    put(tmp_path / "w", move(first(model), "w", **{key: number}) + bytes(16))
    path = saved(model, tmp_path / "m.onnx")
    with pytest.raises(Exception, match=r"."):
        answer(os.fspath(path))
    for use in (session, srt.compress):
        with pytest.raises(srt.ModelError, match=f"as {key} of external data|bytes of external data"):
            use(path)


@pytest.mark.parametrize(("offset", "length"), [(1, None), (3, None), (0, 0), (0, "absent"), ("absent", None)])
def test_numbers_that_onnxruntime_takes(offset, length, tmp_path):
    model = forms.base()
    put(tmp_path / "w", bytes(offset if isinstance(offset, int) else 0) + move(first(model), "w", offset, length))
    path = saved(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(session(path).run(None, X)[0], answer(os.fspath(path)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("offset", "length"), [(0, 8), (0, 8196), (8192, 8192), (2**40, None)])
def test_numbers_that_do_not_fit_the_file(offset, length, tmp_path):
    model = forms.base()
    put(tmp_path / "w", move(first(model), "w", offset, length) + bytes(4))
    path = saved(model, tmp_path / "m.onnx")
    for use in (session, srt.compress):
        with pytest.raises(srt.ModelError, match="external data"):
            use(path)


def test_a_name_with_nul_is_refused(tmp_path):
    """onnxruntime reads the file before NUL, which no tool shows."""
    model = forms.base()
    put(tmp_path / "w", move(first(model), "w\0x"))
    with pytest.raises(srt.ModelError, match="a file name as external data"):
        session(saved(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("what", ["data", "model"])
def test_a_pipe_is_refused_at_once(what, tmp_path):
    """Opening one would wait for a writer for ever."""
    model = forms.base()
    if what == "data":
        move(first(model), "pipe")
        path = saved(model, tmp_path / "m.onnx")
    else:
        path = tmp_path / "pipe"
    os.mkfifo(tmp_path / "pipe")
    for use in (session, srt.compress, srt.verify):
        with pytest.raises(srt.ModelError, match="no regular file"):
            use(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "a\0b", "\udcff", "x" * 5000, ""])
def test_paths_that_are_no_model(path):
    for use in (session, srt.compress, srt.prune, srt.verify):
        with pytest.raises(srt.ModelError):
            use(path)


def test_large_weights_are_mapped_from_where_they_lie(tmp_path):
    """A file of 1 MiB, at an offset that nothing is aligned to; the session keeps nothing of it."""
    rng = np.random.default_rng(0)
    weight = forms.weight(rng, 512, 512)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 512])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    put(tmp_path / "w", b"x" * 3 + move(first(model), "w", 3))
    path = saved(model, tmp_path / "m.onnx")
    x = rng.standard_normal((3, 512)).astype(np.float32)
    found = session(path)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    put(tmp_path / "w", b"")
    np.testing.assert_allclose(found.run(None, {"x": x})[0], x @ weight, rtol=1e-4, atol=1e-4)
