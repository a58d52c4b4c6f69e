"""``compress``."""

import onnx


def test_sparsity_0_is_a_copy(cli, files, tmp_path):
    result = cli("compress", files["pruned"], "-o", tmp_path / "copy.onnx", "--sparsity", "0")
    assert result.exit_code == 0
    assert "0 of 5 layers compressed" in result.stdout
    assert [n.op_type for n in onnx.load(tmp_path / "copy.onnx").graph.node] == [
        n.op_type for n in onnx.load(files["pruned"]).graph.node
    ]
