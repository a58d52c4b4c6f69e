"""The command line, called within the tests' own process."""

import pytest
from typer.testing import CliRunner

from sparse_rt.cli.main import app


@pytest.fixture
def cli():
    """Call a command; the result has exit_code, stdout, stderr."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return result

    return call
