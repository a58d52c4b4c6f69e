"""``bench``; the keys of its JSON are what other programs read."""

import json

import pytest


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
