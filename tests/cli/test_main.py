"""What all commands have in common: help, version, errors, exit codes, output on a pipe."""

import os
import signal
import subprocess
import sys

import onnx
import pytest

from sparse_rt import __version__

COMMANDS = ("inspect", "prune", "quantize", "compress", "library", "run", "verify", "bench", "demo")


def run_process(*arguments, **environment):
    command = [sys.executable, "-m", "sparse_rt", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, preexec_fn=heed_interrupts, **environment
    )


def heed_interrupts():
    """A shell's jobs in the background, which these tests may run in, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_version(cli):
    result = cli("--version")
    assert (result.exit_code, result.stdout.strip()) == (0, f"sparse-rt {__version__}")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout
    assert f"sparse-rt {command}" in result.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from sparse_rt.cli.main import app\n"
        "heavy = {'numba', 'onnxruntime', 'onnx', 'onnx_ir', 'onnxscript', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("arguments", [("nothing",), ("inspect",), ("compress", "m.onnx"), ("run", "m.onnx", "--bad")])
def test_bad_usage_exits_2(cli, arguments):
    assert cli(*arguments).exit_code == 2


def commands_on(model, folder):
    """One call of every command that takes a model."""
    out = folder / "out.onnx"
    return (
        ("inspect", model),
        ("prune", model, "-o", out),
        ("compress", model, "-o", out),
        ("run", model),
        ("verify", model),
        ("quantize", model, "-o", out, "--calib", folder / "calib.npz"),
    )


def write_bad(kind, folder, good):
    path = folder / "bad.onnx"
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:-1000])
    elif kind == "text":
        path.write_text("this is no model\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "empty", "folder"])
def test_a_bad_model_is_one_line_on_stderr_and_exit_2(cli, files, tmp_path, kind):
    model = write_bad(kind, tmp_path, files["pruned"])
    for arguments in commands_on(model, tmp_path):
        result = cli(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert result.stdout == "", arguments
        assert result.stderr.startswith("error: "), (arguments, result.stderr)
        assert "expected" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out.onnx").exists()


def test_bench_of_a_missing_model(cli, tmp_path):
    result = cli("bench", tmp_path / "missing.onnx")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: model '")


def test_a_failed_write_keeps_the_old_file(cli, files, tmp_path):
    for command in ("compress", "prune"):
        result = cli(command, files["pruned"], "-o", tmp_path / "no" / "such" / "out.onnx")
        assert (result.exit_code, result.stdout) == (2, "")
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    assert cli("compress", write_bad("text", tmp_path, files["pruned"]), "-o", out).exit_code == 2
    assert out.read_bytes() == b"precious"


def test_an_unexpected_error_is_one_line_too(cli, files, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("sparse_rt.session.InferenceSession.__init__", fail)
    result = cli("inspect", files["pruned"])
    assert result.exit_code == 2
    assert "unexpected ZeroDivisionError: nobody thought of this" in result.stderr
    monkeypatch.setenv("SPARSE_RT_TRACEBACK", "1")
    assert isinstance(cli("inspect", files["pruned"]).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (MemoryError, "expected memory that holds what is asked for"),
        (RecursionError, "nesting"),
        (lambda: OSError(28, "No space left on device", "/some/file"), "No space left on device for '/some/file'"),
        (lambda: PermissionError(13, "Permission denied", "/some/file"), "Permission denied for '/some/file'"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_no_bug(cli, files, monkeypatch, kind, says):
    def fail(*arguments, **options):
        raise kind()

    for place in ("sparse_rt.tuning.tuner.Tuner.plan", "sparse_rt.feeds.random_feeds"):
        with monkeypatch.context() as patched:
            patched.setattr(place, fail)
            result = cli("run", files["pruned"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert len(result.stderr.strip().splitlines()) == 1
        assert "bug" not in result.stderr
    monkeypatch.setattr("sparse_rt.tuning.tuner.Tuner.plan", fail)
    assert says in cli("run", files["pruned"]).stderr


def test_ctrl_c_exits_as_shells_expect(cli, files, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparse_rt.session.InferenceSession.run", fail)
    result = cli("run", files["pruned"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


def test_process_on_a_pipe_cuts_nothing(files):
    result = run_process("inspect", files["pruned"], env={**os.environ, "COLUMNS": "40"})
    assert result.returncode == 0, result.stderr
    assert "…" not in result.stdout
    assert any("conv3" in line and "128x128x3x3" in line and "2:4" in line for line in result.stdout.splitlines())


def test_process_exit_codes_and_streams(files, tmp_path):
    result = run_process("verify", files["pruned_compressed"], "--reference", files["dense"])
    assert result.returncode == 1
    assert "the first layer that differs is 'conv2'" in result.stdout
    result = run_process("verify", tmp_path / "missing.onnx")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_no_bug_of_ours(files):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "sparse_rt", "inspect", str(files["pruned"])]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=240, check=False)
    assert process.returncode == 2
    assert "got a full disk" in process.stderr
    assert "bug" not in process.stderr


def test_a_reader_that_leaves_gets_no_verdict(files):
    command = [sys.executable, "-m", "sparse_rt", "verify", str(files["pruned_compressed"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(timeout=240) == 2  # 1 would say that the models differ
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams(files, tmp_path, closed):
    """Whoever closes them wants the exit code, or a file; no file gets the number of a stream."""

    def close():
        for number in closed:
            os.close(number)

    for arguments, code in (
        (("verify", files["pruned"]), 0),
        (("inspect", files["pruned"], "--json", "-"), 0),
        (("compress", files["pruned"], "-o", tmp_path / "out.onnx"), 0),
        (("compress", files["pruned"], "-o", tmp_path), 2),
    ):
        command = [sys.executable, "-m", "sparse_rt", *map(str, arguments)]
        done = subprocess.run(command, preexec_fn=close, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        assert b"bug" not in done.stderr
    assert onnx.load(tmp_path / "out.onnx").graph.node


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no such device")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_to_a_full_disk(option):
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "sparse_rt", option]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")


def test_ctrl_c_while_onnxruntime_is_imported(files, tmp_path):
    """It waits: in the middle of the import it would crash the process, or come out as an ImportError."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.endswith('onnxruntime_pybind11_state'):\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            sum(range(10**5))\n"
        "            print('went on', flush=True)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    for command in ("inspect", "run"):
        done = run_process(command, files["pruned"], env={**os.environ, "PYTHONPATH": paths})
        assert (done.returncode, done.stdout) == (130, "went on\n"), done.stderr
