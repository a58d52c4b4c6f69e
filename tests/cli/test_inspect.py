"""``inspect``; the keys of its JSON are what other programs read."""

import json


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
