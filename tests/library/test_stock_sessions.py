"""Compressed files in stock onnxruntime with the library registered: what runs, beside what, and what is refused."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import sparse_rt
from sparse_rt.graph.operators import DOMAIN

SHAPE = (1, 8, 8)
QUANTUM = 1e-5


def session(path, threads=1, *, library=True, saved=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(sparse_rt.get_library_path())
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def images(batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, *SHAPE)).astype(np.float32)


def close(y, expected):
    np.testing.assert_allclose(y, expected, rtol=0, atol=QUANTUM * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["pruned", "int8"])
def test_layers_run_on_our_kernels(files, tmp_path, name, threads):
    dense = session(files[name], threads, library=False)
    ours = session(files[f"{name}_compressed"], threads, saved=tmp_path / "saved.onnx")
    left = [node.op_type for node in onnx.load(tmp_path / "saved.onnx").graph.node if node.domain == DOMAIN]
    written = [node.op_type for node in onnx.load(files[f"{name}_compressed"]).graph.node if node.domain == DOMAIN]
    assert sorted(left) == sorted(written)
    for batch in (1, 5, 1):
        (expected,) = dense.run(None, {"image": images(batch)})
        close(ours.run(None, {"image": images(batch)})[0], expected)


def test_many_threads_and_shapes_share_two_sessions(files):
    dense = session(files["pruned"], library=False)
    ours = [session(files["pruned_compressed"], threads) for threads in (1, 2)]
    expected = {batch: dense.run(None, {"image": images(batch)})[0] for batch in range(1, 9)}
    failures = []

    def work(number):
        try:
            for turn in range(24):
                batch = (number + turn) % 8 + 1
                close(ours[turn % 2].run(None, {"image": images(batch)})[0], expected[batch])
        except Exception as error:  # told by the test
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_sessions_come_and_go(files):
    expected = None
    for _ in range(10):
        ours = session(files["pruned_compressed"], 2)
        (y,) = ours.run(None, {"image": images(2)})
        expected = y if expected is None else expected
        np.testing.assert_array_equal(y, expected)


def alone(program, *arguments):
    """Run a program; return what it printed."""
    prologue = """
        import os, sys
        import numpy as np
        import onnxruntime as ort
        import sparse_rt

        def session(path):
            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.register_custom_ops_library(sparse_rt.get_library_path())
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        x = {"image": np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)}
    """
    text = textwrap.dedent(prologue) + textwrap.dedent(program)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def test_a_child_of_a_fork_opens_sessions(files):
    printed = alone(
        """
        first = session(sys.argv[1])
        expected = first.run(None, x)[0]
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(session(sys.argv[1]).run(None, x)[0], expected) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(first.run(None, x)[0], expected))
        """,
        files["pruned_compressed"],
    )
    assert printed == ["0", "True"]


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(100), b"no library"])
def test_a_foreign_file_is_refused_by_onnxruntime(tmp_path, content):
    path = tmp_path / "foreign.so"
    path.write_bytes(content)
    options = ort.SessionOptions()
    with pytest.raises(Exception, match=r"foreign\.so"):
        options.register_custom_ops_library(str(path))


def test_a_corrupt_index_is_refused_in_our_words(files, tmp_path):
    model = onnx.load(files["pruned_compressed"])
    node = next(node for node in model.graph.node if node.domain == DOMAIN)
    index = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
    index.raw_data = b"\xff" * len(index.raw_data)
    onnx.save(model, tmp_path / "corrupt.onnx")
    with pytest.raises(Exception, match="The index is corrupt"):
        session(tmp_path / "corrupt.onnx")
