"""Models for the command line: the demo's, as files."""

import pytest
from typer.testing import CliRunner

import sparse_rt as srt
from sparse_rt.cli.main import app
from sparse_rt.demo_data import DENSE_MODEL, SPARSE_INT8_MODEL, SPARSE_MODEL, read_model


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Paths of the models: dense, pruned (2:4), int8 (2:4, QDQ) and the compressed twins of the last two."""
    folder = tmp_path_factory.mktemp("models")
    names = {"dense": DENSE_MODEL, "pruned": SPARSE_MODEL, "int8": SPARSE_INT8_MODEL}
    paths = {}
    for name, file in names.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(read_model(file))
    for name in ("pruned", "int8"):
        paths[f"{name}_compressed"] = folder / f"{name}_compressed.onnx"
        paths[f"{name}_compressed"].write_bytes(srt.compress(str(paths[name])).SerializeToString())
    return paths


@pytest.fixture
def cli():
    """Call a command; the result has exit_code, stdout, stderr."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return result

    return call
