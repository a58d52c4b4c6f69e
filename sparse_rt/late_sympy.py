"""Import onnx_ir without SymPy, with which it computes symbolic sizes: 0.2 s and 30 MB less.

Every room that uses onnx_ir imports this module first. SymPy itself is imported when onnx_ir first computes with it.
"""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["import_onnx_ir"]

#: SymPy, and the module of onnx_ir that uses it when it is imported.
_LATE = ("sympy", "onnx_ir._symbolic_shapes")
_importing = threading.Lock()
_taking_out = threading.Lock()


class _Late(ModuleType):
    """Stands for a module until something of it is used; then the module itself is imported and used."""

    def __getattr__(self, name: str) -> Any:
        _take_out(self)
        return getattr(importlib.import_module(self.__name__), name)


def import_onnx_ir() -> None:
    """Import onnx_ir, if nobody has yet, with objects in place of the modules that it shall not import.

    They are among the loaded modules only until onnx_ir is imported: whoever imports SymPy before or after gets SymPy,
    and a thread that does so meanwhile an object that hands it out. What is loaded already is used as it is.
    """
    with _importing:
        if "onnx_ir" in sys.modules:
            return
        # Older versions of onnx_ir do without SymPy, which need not be installed then.
        late = [_Late(name) for name in _LATE] if _is_installed("sympy") else []
        for module in late:
            sys.modules.setdefault(module.__name__, module)
        try:
            importlib.import_module("onnx_ir")
        finally:
            for module in late:
                _take_out(module)


def _is_installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _take_out(module: _Late) -> None:
    """Take an object of ours out of the loaded modules, if it is still there."""
    with _taking_out:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]


import_onnx_ir()
