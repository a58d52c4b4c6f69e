"""Patterns of these tests, each known to the packages by one line in each of four tables, and gone after the test."""

import pytest
from sparse_rt_kernels.product import registry
from typer.testing import CliRunner

from sparse_rt import formats, sparsity
from sparse_rt.cli.main import app
from sparse_rt.graph import decode
from tests.new_patterns import quads, scattered

PATTERNS = {"quads": quads, "scattered": scattered}


@pytest.fixture(params=PATTERNS)
def pattern(request, monkeypatch):
    """A module with a family, a format, a decoding and kernels, all of them in their tables."""
    found = PATTERNS[request.param]
    monkeypatch.setattr(registry, "_kernels", dict(registry._kernels))
    monkeypatch.setitem(sparsity.FAMILIES, found.FAMILY.example, found.FAMILY)
    monkeypatch.setitem(formats.FORMATS, found.FORMAT.name, found.FORMAT)
    monkeypatch.setitem(decode.DECODINGS, found.FORMAT.name, found.DECODING)
    for kernel in found.KERNELS:
        registry.register(kernel)
    return found


@pytest.fixture
def cli():
    """Call a command; the result has exit_code, stdout, stderr."""

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert "Traceback" not in result.output
        return result

    return call
