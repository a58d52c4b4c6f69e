"""Sparse inference runtime for CPUs: 2:4 weights, Numba kernels, ONNX in and out.

The names below are imported when they are first used, so that ``import sparse_rt`` stays quick.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sparse_rt.version import __version__

if TYPE_CHECKING:
    from sparse_rt import ascend
    from sparse_rt.errors import (
        ConfigError,
        FeedError,
        ForkError,
        FormatError,
        InternalError,
        ModelError,
        OperatorError,
        PatternError,
        ResourceError,
        SparseRTError,
        SparseRTWarning,
    )
    from sparse_rt.graph.passes.compress import compress
    from sparse_rt.library.path import get_library_path
    from sparse_rt.prune import prune
    from sparse_rt.session import InferenceSession, LayerReport, SessionOptions
    from sparse_rt.verify import VerifyReport, verify


__all__ = [
    "InferenceSession",
    "SessionOptions",
    "LayerReport",
    "prune",
    "compress",
    "verify",
    "VerifyReport",
    "get_library_path",
    "ascend",
    "SparseRTError",
    "SparseRTWarning",
    "PatternError",
    "FormatError",
    "ModelError",
    "FeedError",
    "ConfigError",
    "ForkError",
    "OperatorError",
    "ResourceError",
    "InternalError",
    "__version__",
]

#: Home of each public name.
_HOMES = {
    "InferenceSession": "sparse_rt.session",
    "SessionOptions": "sparse_rt.session",
    "LayerReport": "sparse_rt.session",
    "prune": "sparse_rt.prune",
    "compress": "sparse_rt.graph.passes.compress",
    "get_library_path": "sparse_rt.library.path",
    "verify": "sparse_rt.verify",
    "VerifyReport": "sparse_rt.verify",
    "SparseRTError": "sparse_rt.errors",
    "SparseRTWarning": "sparse_rt.errors",
    "PatternError": "sparse_rt.errors",
    "FormatError": "sparse_rt.errors",
    "ModelError": "sparse_rt.errors",
    "FeedError": "sparse_rt.errors",
    "ConfigError": "sparse_rt.errors",
    "ForkError": "sparse_rt.errors",
    "OperatorError": "sparse_rt.errors",
    "ResourceError": "sparse_rt.errors",
    "InternalError": "sparse_rt.errors",
}

#: Public functions that are named like the module they live in.
_FUNCTIONS_NAMED_LIKE_MODULES = frozenset({"prune", "verify"})


class _Package(ModuleType):
    """A package in which ``verify`` and ``prune`` are the functions, whoever imports the modules first.

    After it has loaded ``sparse_rt.verify``, the import system sets ``verify`` in this package to that module;
    here it sets the function instead. ``from sparse_rt.verify import ...`` looks modules up by their full name and is
    not affected.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FUNCTIONS_NAMED_LIKE_MODULES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "ascend":
        return importlib.import_module("sparse_rt.ascend")
    if name not in _HOMES:
        raise AttributeError(f"module 'sparse_rt' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
