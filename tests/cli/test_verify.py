"""``verify``; the keys of its JSON are what other programs read."""

import json

import pytest


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
