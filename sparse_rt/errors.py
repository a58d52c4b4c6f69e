"""The errors of sparse_rt.

Every message has one form, made by :func:`message`: where it happened, which rule was expected, what was found,
and what to do about it.
"""

from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

__all__ = [
    "SparseRTError",
    "SparseRTWarning",
    "PatternError",
    "FormatError",
    "ModelError",
    "FeedError",
    "ConfigError",
    "message",
]


class SparseRTError(Exception):
    """Base of every error that sparse_rt raises on purpose."""


class SparseRTWarning(UserWarning):
    """Base of every warning that sparse_rt gives."""


class PatternError(SparseRTError, ValueError):
    """A weight does not hold the sparsity pattern it was said to hold, or a pattern name is unknown."""


class FormatError(SparseRTError, ValueError):
    """Compressed values or indexes are corrupt, or do not fit the shape they claim."""


class ModelError(SparseRTError, ValueError):
    """A model file cannot be read, is not valid ONNX, or cannot be written."""


class FeedError(SparseRTError, InvalidArgument, ValueError):
    """A feed does not fit the model's inputs, or an unknown output was asked for.

    Derives from onnxruntime's own ``InvalidArgument`` and from ``ValueError``, the two types that onnxruntime's
    session raises for wrong feeds, so that a program which changes only its import keeps its ``except`` clauses.
    """


class ConfigError(SparseRTError, ValueError):
    """An option has a value outside its range, or two options contradict each other."""


def message(where: str, expected: str, got: str, remedy: str = "") -> str:
    """Return ``<where>: expected <rule>, got <fact>. <remedy>``, the one form of every error's text."""
    text = f"{where}: expected {expected}, got {got}."
    return f"{text} {remedy}" if remedy else text
