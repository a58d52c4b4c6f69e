"""Each command on a real model; the keys of its JSON are what other programs read."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sparse_rt import sparsity
from sparse_rt.demo_data import load_test_images
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.model_io import read
from sparse_rt.sparsity.nm import TWO_FOUR


def stock(path, feeds):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.fixture(scope="module")
def images():
    return load_test_images()[0]


# --- inspect -----------------------------------------------------------------------------------------------------


def test_inspect_prints_kernels_and_reasons(cli, files):
    result = cli("inspect", files["pruned"])
    assert result.exit_code == 0
    assert "f32_n2m4" in result.stdout
    assert "4 of 5 layers run sparse" in result.stdout
    assert "input channels" in result.stdout  # why conv1 stays dense


def test_inspect_json(cli, files, tmp_path):
    path = tmp_path / "layers.json"
    assert cli("inspect", files["int8_compressed"], "--json", path).exit_code == 0
    document = json.loads(path.read_text())
    names = ("model", "layers", "plans", "sparse_layers", "dense_bytes", "compressed_bytes", "settled", "open_sizes")
    assert set(document) == set(names)
    assert set(document["layers"][0]) == {
        "name",
        "op_type",
        "shape",
        "pattern",
        "density",
        "dtype",
        "kernel",
        "reason",
        "dense_bytes",
        "compressed_bytes",
        "tried",
    }
    assert document["sparse_layers"] == 4
    conv2 = document["layers"][1]
    assert (conv2["shape"], conv2["dense_bytes"], conv2["compressed_bytes"]) == ([128, 64, 3, 3], 73728, 46080)


def test_inspect_tells_what_the_first_run_decides(cli, files, monkeypatch):
    monkeypatch.setenv("SPARSE_RT_TUNING", "on")
    result = cli("inspect", files["pruned"])
    assert "open sizes: image ['batch', 1, 8, 8]. The first run" in result.stdout
    document = json.loads(cli("inspect", files["pruned"], "--json", "-").stdout)
    assert (document["settled"], document["open_sizes"]) == (False, {"image": ["batch", 1, 8, 8]})
    monkeypatch.setenv("SPARSE_RT_TUNING", "off")
    document = json.loads(cli("inspect", files["pruned"], "--json", "-").stdout)
    assert (document["settled"], document["open_sizes"]) == (True, {"image": ["batch", 1, 8, 8]})


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_standard_output_as_a_file_holds_nothing_else(files, tmp_path):
    """The model goes through the pipe as it is, the report to standard error."""
    command = [sys.executable, "-m", "sparse_rt", "compress", files["pruned"], "-o"]
    subprocess.run([*command, tmp_path / "c.onnx"], check=True, capture_output=True)
    done = subprocess.run([*command, "/dev/stdout"], check=True, capture_output=True)
    assert done.stdout == (tmp_path / "c.onnx").read_bytes()
    assert b"4 of 5 layers compressed" in done.stderr
    listed = subprocess.run([*command, "/dev/null", "--json", "/dev/stdout"], check=True, capture_output=True)
    assert json.loads(listed.stdout)["bytes_after"] == len(done.stdout)


def test_json_on_standard_output_is_all_there_is(cli, files):
    assert json.loads(cli("inspect", files["pruned"], "--json", "-").stdout)["sparse_layers"] == 4


def test_json_to_an_unwritable_place(cli, files, tmp_path):
    result = cli("inspect", files["pruned"], "--json", tmp_path / "no" / "x.json")
    assert result.exit_code == 2
    assert "can be written" in result.stderr


# --- prune, compress, quantize -----------------------------------------------------------------------------------


def test_prune_then_compress_then_run_anywhere(cli, files, tmp_path, images):
    pruned, compressed, report = tmp_path / "p.onnx", tmp_path / "c.onnx", tmp_path / "r.json"
    result = cli("prune", files["dense"], "-o", pruned, "--pattern", "2:4", "--json", report)
    assert result.exit_code == 0
    assert "4 of 5 layers hold 2:4" in result.stdout
    document = json.loads(report.read_text())
    assert set(document) == {"model", "output", "pattern", "layers"}
    weights = [layer.dense_weight() for layer in find_layers(read(pruned)) if layer.reason is None]
    assert [sparsity.holds(weight, TWO_FOUR) for weight in weights] == [True] * 4

    result = cli("compress", pruned, "-o", compressed, "--json", report)
    assert result.exit_code == 0
    assert "dense: 1 input channels" in result.stdout
    document = json.loads(report.read_text())
    assert set(document) == {"model", "output", "bytes_before", "bytes_after", "layers"}
    assert document["bytes_after"] == compressed.stat().st_size < 0.56 * document["bytes_before"]
    assert {layer["pattern"] for layer in document["layers"]} == {"2:4", None}
    feeds = {"image": images[:8]}
    np.testing.assert_array_equal(stock(compressed, feeds), stock(pruned, feeds))


def test_sparsity_0_is_a_copy(cli, files, tmp_path):
    result = cli("compress", files["pruned"], "-o", tmp_path / "copy.onnx", "--sparsity", "0")
    assert result.exit_code == 0
    assert "0 of 5 layers compressed" in result.stdout
    assert [n.op_type for n in onnx.load(tmp_path / "copy.onnx").graph.node] == [
        n.op_type for n in onnx.load(files["pruned"]).graph.node
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--pattern", "1:4"),
        ("--pattern", "many"),
        ("--density", "0.3"),
        ("--method", "magic"),
        ("--calib", "x.npz"),
        ("--config", "x.yaml"),
    ],
)
def test_prune_refuses_what_it_would_have_to_ignore(cli, files, tmp_path, options):
    result = cli("prune", files["dense"], "-o", tmp_path / "p.onnx", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "p.onnx").exists()


def test_quantize_keeps_the_pattern(cli, files, tmp_path, images):
    calib, quantised = tmp_path / "calib.npz", tmp_path / "q.onnx"
    np.savez(calib, image=images[:50], unused=np.zeros(3))
    result = cli("quantize", files["pruned"], "-o", quantised, "--calib", calib, "--exclude", "fc2")
    assert result.exit_code == 0, result.output
    assert "50 samples" in result.stdout
    layers = {layer.name: layer for layer in find_layers(read(quantised))}
    assert [layers[name].dtype for name in ("conv2", "conv3", "fc1", "fc2")] == [np.int8] * 3 + [np.float32]
    assert all(layers[name].reason is None for name in ("conv2", "conv3", "fc1"))
    float_logits, logits = (stock(path, {"image": images})[0] for path in (files["pruned"], quantised))
    assert np.mean(float_logits.argmax(1) == logits.argmax(1)) > 0.98
    assert cli("verify", quantised).exit_code == 0


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"other": np.zeros((4, 1, 8, 8), np.float32)}, "'image'"),
        ({"image": np.zeros((0, 1, 8, 8), np.float32)}, "got 0"),
        ({"image": np.zeros((4, 3, 8, 8), np.float32)}, "onnxruntime"),
        ({"image": np.zeros((4, 1, 8, 8), np.float64)}, "onnxruntime"),
    ],
)
def test_quantize_with_wrong_samples(cli, files, tmp_path, arrays, fact):
    np.savez(tmp_path / "calib.npz", **arrays)
    result = cli("quantize", files["pruned"], "-o", tmp_path / "q.onnx", "--calib", tmp_path / "calib.npz")
    assert result.exit_code == 2
    assert fact in result.stderr
    assert not (tmp_path / "q.onnx").exists()


# --- run ---------------------------------------------------------------------------------------------------------


def test_run_with_random_inputs(cli, files):
    result = cli("run", files["pruned_compressed"], "--batch", "3")
    assert result.exit_code == 0
    assert "[3, 10]" in result.stdout


def test_run_reads_and_writes_npz(cli, files, tmp_path, images):
    np.savez(tmp_path / "in.npz", image=images[:5])
    result = cli("run", files["int8_compressed"], "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    assert result.exit_code == 0
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs.files == ["logits"]
        np.testing.assert_array_equal(outputs["logits"], stock(files["int8"], {"image": images[:5]})[0])


def test_run_says_what_is_not_finite(cli, files, tmp_path, images):
    broken = images[:2].copy()
    broken[0] = np.nan
    np.savez(tmp_path / "in.npz", image=broken)
    result = cli("run", files["dense"], "--inputs", tmp_path / "in.npz")
    assert "64 of 128 not finite" in result.stdout


@pytest.mark.parametrize("command", ["run", "verify"])
def test_wrong_inputs(cli, files, tmp_path, command):
    cases = {
        "missing.npz": None,
        "wrong_name.npz": {"x": np.zeros(3, np.float32)},
        "wrong_shape.npz": {"image": np.zeros((2, 2), np.float32)},
        "wrong_type.npz": {"image": np.zeros((1, 1, 8, 8), np.int32)},
        "objects.npz": {"image": np.array([{}], object)},
    }
    for name, arrays in cases.items():
        if arrays is not None:
            np.savez(tmp_path / name, **arrays)
        result = cli(command, files["pruned_compressed"], "--inputs", tmp_path / name)
        assert result.exit_code == 2, name
        assert result.stderr.startswith("error: "), name
    (tmp_path / "text.npz").write_text("no archive")
    assert cli(command, files["pruned_compressed"], "--inputs", tmp_path / "text.npz").exit_code == 2


# --- verify ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pruned", "int8"])
def test_verify_equal(cli, files, tmp_path, name):
    path = tmp_path / "report.json"
    result = cli("verify", files[f"{name}_compressed"], "--reference", files[name], "--batch", "2", "--json", path)
    assert result.exit_code == 0, result.output
    assert "equal: 4 of 4 sparse layers compared" in result.stdout
    document = json.loads(path.read_text())
    assert set(document) == {
        "model",
        "reference",
        "layers",
        "operators",
        "steps",
        "outputs",
        "sparse_outputs",
        "in_onnxruntime",
        "status",
        "exit_code",
        "first_difference",
        "reason",
    }
    assert set(document["layers"][0]) == {
        "name",
        "op_type",
        "kernel",
        "rule",
        "weight",
        "in_use",
        "comparison",
        "note",
        "status",
    }
    assert set(document["outputs"][0]) == {
        "name",
        "is_within_noise",
        "rule",
        "tolerance",
        "comparison",
        "cosine",
        "top1_agreement",
        "note",
        "status",
    }
    assert set(document["layers"][0]["comparison"]) == {
        "equal",
        "elements",
        "differing",
        "max_error",
        "worst",
        "note",
    }


def test_verify_different(cli, files, tmp_path):
    result = cli("verify", files["pruned"], "--reference", files["dense"], "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["status"], document["exit_code"], document["first_difference"]) == ("different", 1, "conv2")


# --- bench, demo -------------------------------------------------------------------------------------------------


def test_bench(cli, files, tmp_path):
    path = tmp_path / "bench.json"
    arguments = ("--reference", files["pruned"], "--threads", "1", "--batch", "4", "--seconds", "1", "--json", path)
    result = cli("bench", files["pruned_compressed"], *arguments)
    assert result.exit_code == 0, result.output
    for word in ("median ms", "p90 ms", "p99 ms", "dense / sparse = ", "95 % interval", "onnxruntime", "1 thread"):
        assert word in result.stdout
    document = json.loads(path.read_text())
    assert set(document) == {
        "model",
        "reference",
        "cpu",
        "threads",
        "engines",
        "shapes",
        "seconds",
        "dense",
        "sparse",
        "ratio",
        "layers",
    }
    assert set(document["dense"]) == {"runs", "median", "p90", "p99", "minimum"}
    assert set(document["ratio"]) == {"value", "low", "high", "turns"}
    assert document["shapes"] == {"image": [4, 1, 8, 8]}
    assert document["ratio"]["low"] <= document["ratio"]["value"] <= document["ratio"]["high"]
    layers = document["layers"]
    assert {"conv2", "conv3", "fc1", "fc2"} < {layer["name"] for layer in layers}
    assert layers[-1]["name"] == "other operators"
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert set(layers[0]) == {"name", "op_type", "kernel", "dense", "sparse", "ratio", "share", "note"}
    assert all(layer["dense"] > 0 and layer["sparse"] > 0 and layer["note"] == "" for layer in layers)


def test_bench_refuses_no_time(cli, files):
    assert cli("bench", files["pruned"], "--seconds", "0").exit_code == 2


def test_demo(cli):
    result = cli("demo", "--seconds", "0.3")
    assert result.exit_code == 0, result.output
    for word in ("accuracy", "bytes of index", "held-out images", "sparse_rt ms", "2:4 int8"):
        assert word in result.stdout
    assert result.stdout.count("equal: 4 of 4 sparse layers compared") == 2
    assert "…" not in result.stdout


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "fifo"])
def test_outputs_to_special_files(files, tmp_path, path):
    """An archive is written in order where nothing can seek."""
    command = [sys.executable, "-m", "sparse_rt", "run", str(files["pruned"]), "--outputs", path]
    reader = None
    if path == "fifo":
        os.mkfifo(tmp_path / path)
        reader = subprocess.Popen(["cat", path], cwd=tmp_path, stdout=subprocess.PIPE)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    content = done.stdout if reader is None else reader.communicate(timeout=30)[0]
    if path != "/dev/null":
        assert np.load(io.BytesIO(content)).files


@pytest.mark.parametrize("option", ["-o", "--json", "--outputs"])
def test_an_output_that_names_a_folder_is_refused(cli, files, tmp_path, option):
    command = {"-o": "compress", "--json": "inspect", "--outputs": "run"}[option]
    result = cli(command, files["pruned"], option, f"{tmp_path}/new/")
    assert result.exit_code == 2
    assert "the path of a file" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "command"),
    [
        *[("MODEL", name) for name in ("inspect", "prune", "compress", "quantize", "run", "verify", "bench")],
        *[("--reference", name) for name in ("verify", "bench")],
        *[("--inputs", name) for name in ("run", "verify", "bench")],
        ("--calib", "quantize"),
    ],
)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "text", "nothing"])
def test_what_is_no_file_to_read_is_refused_at_once(cli, files, tmp_path, command, option, kind):
    """Nothing waits for the writer of a FIFO, or reads a device that never ends."""
    path = {"device": "/dev/zero", "folder": tmp_path}.get(kind, tmp_path / kind)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("hello\n")
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros(1, np.float32))
    arguments = [command, path if option == "MODEL" else files["pruned"]]
    if command in {"prune", "compress", "quantize"}:
        arguments += ["-o", tmp_path / "out.onnx"]
    if command == "quantize" and option == "MODEL":
        arguments += ["--calib", samples]
    if option != "MODEL":
        arguments += [option, path]
    signal.alarm(30)
    try:
        result = cli(*arguments)
    finally:
        signal.alarm(0)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "bug" not in result.stderr
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
def test_more_threads_than_any_machine_has(cli, files, command):
    result = cli(command, files["pruned"], "--threads", 100_000)
    assert result.exit_code == 2
    assert "a whole number from 0 to 4096, got 100000" in result.stderr
