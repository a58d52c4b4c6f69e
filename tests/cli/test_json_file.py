"""Where ``--json`` writes."""

import json


def test_json_on_standard_output_is_all_there_is(cli, files):
    assert json.loads(cli("inspect", files["pruned"], "--json", "-").stdout)["sparse_layers"] == 4


def test_json_to_an_unwritable_place(cli, files, tmp_path):
    result = cli("inspect", files["pruned"], "--json", tmp_path / "no" / "x.json")
    assert result.exit_code == 2
    assert "can be written" in result.stderr
