"""The command line, called within the tests' own process."""

import pytest
from typer.testing import CliRunner

from sparse_rt.cli.main import app
from sparse_rt.demo_data import load_test_images


@pytest.fixture
def cli():
    """Call a command; the result has exit_code, stdout, stderr."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture(scope="session")
def images():
    """The demo's held-out images."""
    return load_test_images()[0]
