"""``demo``."""


def test_demo(cli):
    result = cli("demo", "--seconds", "0.3")
    assert result.exit_code == 0, result.output
    for word in ("accuracy", "bytes of index", "held-out images", "sparse_rt ms", "2:4 int8"):
        assert word in result.stdout
    assert result.stdout.count("equal: 4 of 4 sparse layers compared") == 2
    assert "…" not in result.stdout
