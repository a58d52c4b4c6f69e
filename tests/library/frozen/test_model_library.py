"""Libraries for processes without Python: what they compute, for which inputs, on which CPUs, and what they refuse."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numba.core import config
from onnx import numpy_helper
from sparse_rt_kernels.custom_op import guard
from sparse_rt_kernels.jit import machine_code
from typer.testing import CliRunner

import sparse_rt
from sparse_rt.cli.main import app
from sparse_rt.errors import ConfigError, ModelError
from sparse_rt.library.frozen.model_library import write_library
from tests.library import c_program
from tests.models.onnx_models import info, model, node, sparse
from tests.plan.bind.test_segment import residual_model

pytestmark = [
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="libraries are machine code"),
    pytest.mark.skipif(not machine_code.is_available(), reason="x86-64 Linux"),
]

#: Runs a model on a library in a process that has nothing of ours, and holds it against the function bodies. Those of
#: the operators that the library serves are taken out of the file: onnxruntime has nothing but the library for them.
PROGRAM = """
import json, sys
import numpy as np, onnx, onnxruntime as ort
library, path, threads, served, shapes = sys.argv[1:]
whole = onnx.load(path)
without = onnx.load(path)
for function in whole.functions:
    if function.name in json.loads(served):
        without.functions.remove(function)
assert len(without.functions) < len(whole.functions)
def session(model, library=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(threads)
    if library:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(model.SerializeToString(), options)
ours, stock = session(without, library), session(whole)
rng = np.random.default_rng(0)
for shape in json.loads(shapes):
    feeds = {each.name: rng.standard_normal(shape, np.float32) for each in ours.get_inputs()}
    for _ in range(4):
        for y, expected in zip(ours.run(None, feeds), stock.run(None, feeds), strict=True):
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max(initial=1))
assert not {"sparse_rt", "sparse_rt_kernels", "numba"} & set(sys.modules)
"""


def check(library, path, made, *shapes, threads=1):
    served = json.dumps([layer.operator for layer in made.layers if layer.reason is None])
    command = [sys.executable, "-P", "-c", PROGRAM, str(library), str(path), str(threads), served, json.dumps(shapes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


def saved(content, folder, name):
    path = folder / f"{name}.onnx"
    path.write_bytes(sparse_rt.compress(content).SerializeToString())
    return path


@pytest.fixture(scope="module")
def demo(files, folder):
    """The compressed model, its library, and what was said of its layers. Its batch is open."""
    library = folder / "libdemo.so"
    return files["pruned_compressed"], library, write_library(files["pruned_compressed"], library, threads=2)


def test_every_layer_is_served(demo):
    _, library, made = demo
    assert [layer.reason for layer in made.layers] == [None] * 4
    assert all(layer.calls > 1 for layer in made.layers)
    assert library.stat().st_size == made.nbytes


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_batch_is_made_of_parts(demo, threads):
    path, library, made = demo
    check(library, path, made, *((batch, 1, 8, 8) for batch in (1, 3, 7, 8, 9, 64, 0, 101)), threads=threads)


def test_threads_share_a_session(demo):
    """Each with batches of its own; and another session of the same library beside it."""
    path, library, _ = demo
    sessions = [session(path, library) for _ in range(2)]
    feeds = [{"image": np.random.default_rng(batch).random((batch, 1, 8, 8), np.float32)} for batch in range(1, 20)]
    expected = [sessions[0].run(None, each)[0] for each in feeds]

    def run(start):
        for number in range(start, start + 200):
            found = sessions[number % 2].run(None, feeds[number % len(feeds)])[0]
            np.testing.assert_array_equal(found, expected[number % len(feeds)])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(run, start) for start in range(4)]:
            done.result()


def test_the_same_model_gives_the_same_bytes(demo, folder):
    path, library, _ = demo
    program = (
        "import sys; from sparse_rt.library.frozen.model_library import write_library as w; w(*sys.argv[1:], threads=2)"
    )
    again = folder / "again" / library.name
    again.parent.mkdir()
    subprocess.run([sys.executable, "-c", program, path, again], check=True, timeout=300)
    assert again.read_bytes() == library.read_bytes()


def test_bytes_are_the_same(files, folder):
    """Rounded to the same bytes wherever it runs."""
    path, library = files["int8_compressed"], folder / "libint8.so"
    made = write_library(path, library, threads=2)
    assert {layer.reason for layer in made.layers} == {None}
    check(library, path, made, *((batch, 1, 8, 8) for batch in (1, 13, 64)), threads=2)


def test_a_model_of_fixed_sizes(folder):
    rng = np.random.default_rng(3)
    content = residual_model(rng)
    for value in (*content.graph.input, *content.graph.output):
        for axis, size in enumerate((2, 16, 9, 11)):
            value.type.tensor_type.shape.dim[axis].dim_value = size
    path = saved(content, folder, "fixed")
    made = write_library(path, folder / "libfixed.so", threads=2)
    assert {layer.reason for layer in made.layers} == {None}
    assert {layer.calls for layer in made.layers} == {2}, "for one and for two threads"
    check(folder / "libfixed.so", path, made, (2, 16, 9, 11), threads=2)


def matrices(rng, names=("w", "v")):
    nodes = [node("MatMul", ["x", names[0]], ["h"]), node("MatMul", ["h", names[1]], ["y"])]
    weights = {"w": sparse(rng, 48, 32).T.copy(), "v": sparse(rng, 32, 48).T.copy()}
    return model(nodes, [info("x", "batch", "length", 32)], [info("y", "batch", "length", 32)], weights)


def test_rows_in_two_open_sizes(folder):
    path = saved(matrices(np.random.default_rng(1)), folder, "rows")
    made = write_library(path, folder / "librows.so", threads=1)
    assert {layer.reason for layer in made.layers} == {None}
    check(folder / "librows.so", path, made, (1, 128, 32), (2, 77, 32), (3, 1, 32), (1, 1500, 32), (2, 0, 32))


def test_sizes_that_are_open_in_another_way_are_left_to_the_function_body(folder):
    rng = np.random.default_rng(2)
    nodes = [
        node("Conv", ["x", "w"], ["h"], kernel_shape=[3, 3]),
        node("GlobalAveragePool", ["h"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    weights = {"w": sparse(rng, 16, 16, 3, 3), "v": sparse(rng, 32, 16)}
    inputs = [info("x", 1, 16, "height", "width")]
    path = saved(model(nodes, inputs, [info("y", 1, 32)], weights), folder, "open")
    made = write_library(path, folder / "libopen.so", threads=1)
    reasons = {layer.operator: layer.reason for layer in made.layers}
    assert "open" in reasons["Conv2DCompress_Conv_without_bias"]
    assert reasons["FullyConnectionCompress_Gemm_transB_without_bias"] is None
    check(folder / "libopen.so", path, made, (1, 16, 30, 31), (1, 16, 8, 9))


def session(path, library):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library))
    return ort.InferenceSession(str(path), options)


@pytest.mark.parametrize("what", ["weight", "attribute"])
def test_a_layer_of_another_model_is_refused(folder, demo, what):
    path, library, _ = demo
    changed = onnx.load(path)
    layer = next(each for each in changed.graph.node if each.op_type.startswith("Conv2DCompress"))
    if what == "weight":
        values = next(each for each in changed.graph.initializer if each.name == layer.input[1])
        array = numpy_helper.to_array(values).copy()
        array.flat[-1] += 1
        values.CopyFrom(numpy_helper.from_array(array, values.name))
    else:
        pads = next(each for each in layer.attribute if each.name == "pads")
        pads.ints[0] += 1
    other = folder / f"other-{what}.onnx"
    onnx.save(changed, other)
    with pytest.raises(Exception, match="sparse_rt library: expected a layer of the model") as caught:
        session(other, library)
    assert type(caught.value).__module__.startswith("onnxruntime")


def test_shapes_that_it_was_not_written_for_are_said_to_be(folder):
    content = matrices(np.random.default_rng(4))
    path = saved(content, folder, "shapes")
    fixed = onnx.load(path)
    for axis, size in enumerate((1, 8)):
        fixed.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(fixed, folder / "shapes-fixed.onnx")
    write_library(folder / "shapes-fixed.onnx", folder / "libshapes.so", threads=1)
    made = session(path, folder / "libshapes.so")
    made.run(None, {"x": np.ones((1, 8, 32), np.float32)})
    with pytest.raises(Exception, match="expected inputs of shapes that the library was written for"):
        made.run(None, {"x": np.ones((1, 9, 32), np.float32)})


def test_a_lesser_cpu_is_refused(folder, demo, monkeypatch):
    """Bit 31 of that register means nothing, and is 0."""
    path, _, _ = demo
    rows = guard.needed_rows

    def more(features):
        return np.array([(0x80000001, 0, 2, 1 << 31)], np.uint32).tobytes() + rows(features)

    monkeypatch.setattr(guard, "needed_rows", more)
    library = folder / "liblesser.so"
    write_library(path, library, threads=1)
    with pytest.raises(Exception, match="expected a CPU with all instructions"):
        session(path, library)


def test_a_damaged_library_is_refused(folder, demo):
    """A bit of a weight: they are most of it."""
    path, library, _ = demo
    content = bytearray(library.read_bytes())
    weights = np.flatnonzero(np.frombuffer(content, np.uint8))
    content[int(weights[len(weights) // 4])] ^= 4
    damaged = folder / "libdamaged.so"
    damaged.write_bytes(content)
    with pytest.raises(Exception, match="expected a whole file"):
        session(path, damaged)


def test_rows_name_what_this_cpu_has():
    content = np.frombuffer(guard.needed_rows(["sse4.2", "avx", "avx2", "avx512f", "lzcnt"]), np.uint32).reshape(-1, 4)
    assert content.tolist() == [
        [1, 0, 2, 1 << 20 | 1 << 28],
        [1, 0, 2, 1 << 27],
        [0, 0, 4, 0xE6],
        [7, 0, 1, 1 << 5 | 1 << 16],
        [0x80000001, 0, 2, 1 << 5],
        [0, 0, 0, 0],
    ]


def test_a_program_of_c(demo, tmp_path):
    runtime = c_program.installed_runtime()
    if runtime is None or c_program.COMPILER is None:
        pytest.skip("no C compiler, or no onnxruntime for C")
    path, library, _ = demo
    feeds = {"image": np.random.default_rng(0).random((5, 1, 8, 8), np.float32)}
    expected = ort.InferenceSession(str(path)).run(None, feeds)
    names = [each.name for each in ort.InferenceSession(str(path)).get_outputs()]
    program = c_program.build(tmp_path)
    outputs = dict(zip(names, expected, strict=True))
    done = c_program.run(program, runtime, path, tmp_path, feeds, outputs, library=library, tolerance=1e-4)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_command_writes_it(demo, tmp_path):
    path, library, made = demo
    written = tmp_path / library.name
    done = CliRunner().invoke(app, ["library", str(path), "-o", str(written), "--threads", "2"])
    assert done.exit_code == 0, done.output
    assert written.read_bytes() == library.read_bytes()
    assert f"4 of {len(made.layers)} compressed layers" in done.output


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"model": "nothing.onnx"}, Exception), ({"threads": 0}, ConfigError), ({"output": ""}, ConfigError)],
)
def test_what_is_wrong_is_said(demo, tmp_path, changes, error):
    path, _, _ = demo
    given = {"model": path, "output": tmp_path / "lib.so", **changes}
    with pytest.raises(error):
        write_library(given.pop("model"), given.pop("output"), **given)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_compressed_is_refused(files, tmp_path):
    with pytest.raises(ModelError, match="compressed layers"):
        write_library(files["pruned"], tmp_path / "lib.so")
    assert not list(tmp_path.iterdir())


def test_without_compiled_kernels_there_is_no_library(demo, tmp_path):
    path, _, _ = demo
    command = [sys.executable, "-m", "sparse_rt", "library", str(path), "-o", str(tmp_path / "lib.so")]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 2
    assert "kernels that are compiled" in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())
