"""Models in onnxruntime from plain C; `make versions` has older ones."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

import sparse_rt
from tests.graph import models
from tests.library import c_program

RUNTIME = c_program.installed_runtime()
pytestmark = [
    pytest.mark.skipif(c_program.COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(RUNTIME is None, reason="this onnxruntime has no library for C in its package"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return c_program.build(tmp_path_factory.mktemp("c"))


def in_python(path, threads=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 3 for size in x.shape]
    feeds = {x.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    names = [output.name for output in session.get_outputs()]
    return feeds, dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize("name", ["dense", "pruned_compressed", "int8_compressed"])
def test_a_model_gives_what_it_gives_in_python(files, program, tmp_path, name):
    feeds, expected = in_python(files[name])
    saved = {name: tmp_path / name for name in expected}
    result = c_program.run(program, RUNTIME, files[name], tmp_path, feeds, expected, saved)
    assert result.returncode == 0, result.stderr
    assert [saved[name].read_bytes() for name in expected] == [y.tobytes() for y in expected.values()]
    assert result.stdout.count("as expected") == len(expected)
    assert f"onnxruntime {ort.__version__}" in result.stdout


def test_float16_values_are_read(program, tmp_path):
    values = np.array([0, 1, -2, 65504, 6e-8, -3e-5, np.inf, -np.inf], np.float16)
    x, y = (models.info(name, values.shape, np.float16) for name in "xy")
    path = tmp_path / "identity.onnx"
    onnx.save(models.model([helper.make_node("Identity", ["x"], ["y"])], [x], [y], {}), path)
    result = c_program.run(program, RUNTIME, path, tmp_path, {"x": values}, {"y": values})
    assert result.returncode == 0, result.stderr + result.stdout
    assert "values 0 1 -2 65504\n" in result.stdout
    for number in range(values.size):
        other = values.copy()
        other[number] = 3
        assert c_program.run(program, RUNTIME, path, tmp_path, {"x": values}, {"y": other}).returncode == 2


def test_another_answer_is_noticed(files, program, tmp_path):
    feeds, expected = in_python(files["dense"])
    name = next(iter(expected))
    expected[name] = expected[name] * 1.01
    result = c_program.run(program, RUNTIME, files["dense"], tmp_path, feeds, expected, tolerance=1e-3)
    assert result.returncode == 2
    assert "MORE THAN EXPECTED" in result.stdout


def test_a_seed_makes_the_same_inputs(files, program, tmp_path):
    def checksum(seed):
        result = c_program.run(program, RUNTIME, files["dense"], tmp_path, seed=seed, runs=1)
        return [line for line in result.stdout.splitlines() if line.startswith("output")]

    assert checksum(1) == checksum(1) != checksum(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "nothing.onnx"}, "File doesn't exist"),
        ({"runtime": c_program.SOURCE}, "invalid ELF header"),
        ({"library": "nothing.so"}, "cannot open shared object file"),
        ({"threads": 0}, "expected at least 1"),
        ({"colour": "red"}, "is no option"),
    ],
)
def test_what_is_wrong_is_said(files, program, tmp_path, change, words):
    given = {"runtime": RUNTIME, "model": files["dense"], **change}
    result = c_program.run(program, given.pop("runtime"), given.pop("model"), tmp_path, **given)
    assert result.returncode == 1
    assert words in result.stderr


def test_a_file_of_another_size_is_refused(files, program, tmp_path):
    feeds, _ = in_python(files["dense"])
    result = c_program.run(program, RUNTIME, files["dense"], tmp_path, {name: x[:, :, 1:] for name, x in feeds.items()})
    assert result.returncode == 1
    feeds, expected = in_python(files["dense"])
    result = c_program.run(
        program, RUNTIME, files["dense"], tmp_path, feeds, {name: y[:1] for name, y in expected.items()}
    )
    assert result.returncode == 1
    assert "has not the size of the tensor" in result.stderr


def test_the_library_of_a_python_process_is_refused_elsewhere(files, program, tmp_path):
    path = sparse_rt.get_library_path()
    result = c_program.run(program, RUNTIME, files["pruned_compressed"], tmp_path, library=path)
    assert result.returncode == 1
    assert "sparse-rt library MODEL -o LIB.so" in result.stderr
