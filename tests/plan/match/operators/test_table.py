"""Every matcher begins at an operator, and none but the table knows of two."""

import ast
from pathlib import Path

from sparse_rt.plan.match import operators
from sparse_rt.plan.match.operators.table import CLAIMS, MATCHERS

FOLDER = Path(operators.__file__).parent


def test_every_file_with_a_matcher_is_in_the_table():
    used = {matcher.__module__.rpartition(".")[2] for found in MATCHERS.values() for matcher in found}
    has_matcher = {
        path.stem
        for path in FOLDER.glob("*.py")
        if any(
            isinstance(each, ast.FunctionDef) and (each.name == "match" or each.name.startswith("match_"))
            for each in ast.parse(path.read_text()).body
        )
    }
    assert used == has_matcher


def test_what_is_claimed_has_a_matcher_of_its_own():
    assert set(CLAIMS) <= set(MATCHERS)
