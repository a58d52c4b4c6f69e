"""Every test that a promise names exists, and docs/trust.md tells every promise."""

import ast
from pathlib import Path

import pytest

from tests.trust.promises import LANES, PROMISES


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text[:40])
def test_a_promise_has_its_tests(promise):
    for node in promise.tests:
        file, _, function = node.partition("::")
        defined = {
            item.name for item in ast.walk(ast.parse(Path(file).read_text())) if isinstance(item, ast.FunctionDef)
        }
        assert function in defined if function else any(name.startswith("test_") for name in defined), node
    assert promise.text in Path("docs/trust.md").read_text()


@pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.command)
def test_a_lane_exists(lane):
    assert f"\n{lane.command.split()[1]}:" in Path("Makefile").read_text()
    assert lane.last
