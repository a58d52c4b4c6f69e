"""SymPy is imported by who uses it, and is what he gets."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import sparse_rt

needs_sympy = pytest.mark.skipif(
    importlib.util.find_spec("sympy") is None, reason="this version of onnx_ir does without it"
)
PACKAGE = Path(sparse_rt.__file__).parent
SESSION = """
import sys
import sparse_rt
sparse_rt.InferenceSession
assert "onnx_ir" in sys.modules
"""


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_session_imports_no_sympy_and_leaves_no_trace():
    before = "import sys; finders = list(sys.meta_path)"
    after = """
assert not [name for name in sys.modules if name.partition(".")[0] == "sympy"]
assert sys.meta_path == finders
"""
    run(before + SESSION + after)


@needs_sympy
@pytest.mark.parametrize("first", ["import sympy", "import sympy.core", ""])
def test_others_get_sympy_itself(first):
    """Before or after, in another thread, as a whole or one of its modules."""
    after = """
import threading
found = []
def other():
    from sympy.core import symbol
    import sympy
    found.extend([sympy, symbol])
thread = threading.Thread(target=other)
thread.start()
thread.join()
import onnx_ir as ir
import sympy
assert found == [sys.modules["sympy"], sys.modules["sympy.core.symbol"]]
assert type(sympy) is type(sys)
assert sympy.core.symbol.Symbol is sympy.Symbol
computed = ir.SymbolicDim("n") + 1
assert str(computed) == "n + 1", computed
assert ir.SymbolicDim(sympy.Symbol("m")).value == "m"
assert type(sys.modules["onnx_ir._symbolic_shapes"]) is type(sys)
"""
    run(first + SESSION + after)


@needs_sympy
def test_who_imports_sympy_at_the_same_moment_can_use_it():
    code = """
import importlib, sys
real = importlib.import_module
def at_the_same_moment(name):
    if name == "onnx_ir":
        from sympy import Symbol
        import sympy
        global found
        found = Symbol, sympy
    return real(name)
importlib.import_module = at_the_same_moment
import sparse_rt.graph
import sympy
assert sympy is sys.modules["sympy"]
assert type(sympy) is type(sys)
assert found[0] is found[1].Symbol is sympy.Symbol
"""
    run(code)


@pytest.mark.parametrize("room", sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*/*.py")}))
def test_every_room_that_uses_onnx_ir_imports_it_so(room):
    uses = any("onnx_ir" in imported(path) for path in (PACKAGE / room).rglob("*.py"))
    assert not uses or "late_sympy" in imported(PACKAGE / room / "__init__.py")[:2]


def imported(path):
    """Return the names of what a module imports, in order."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [[*(alias.name for alias in node.names), getattr(node, "module", None)] for node in nodes]
    return [name for found in names for name in found]
