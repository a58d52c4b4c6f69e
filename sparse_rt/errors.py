"""The errors of sparse_rt.

Every message has one form, made by :func:`message`: where it happened, which rule was expected, what was found,
and what to do about it.
"""

import sys
from typing import Any, TypeVar

__all__ = [
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
    "also",
    "message",
]

E = TypeVar("E", bound="SparseRTError")

#: Where onnxruntime defines its exceptions; looked up among the loaded modules, never imported here.
_ONNXRUNTIME = "onnxruntime.capi.onnxruntime_pybind11_state"


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


class FeedError(SparseRTError, ValueError):
    """A feed does not fit the model's inputs, or an unknown output was asked for.

    Once onnxruntime is loaded, it is of onnxruntime's own ``InvalidArgument``, too. With ``ValueError`` these are the
    two types that onnxruntime's session raises for wrong feeds, so that a program which changes only its import keeps
    its ``except`` clauses.
    """

    def __new__(cls, *args: Any) -> "FeedError":
        """Make one that is also onnxruntime's: before that is loaded, nobody can name its class."""
        kind = getattr(sys.modules.get(_ONNXRUNTIME), "InvalidArgument", None)
        return super().__new__(cls if kind is None else also(cls, kind), *args)


class ConfigError(SparseRTError, ValueError):
    """An option has a value outside its range, or two options contradict each other."""


class ForkError(SparseRTError, RuntimeError):
    """A forked child cannot do what was asked, because of what its parent's other threads were doing at the fork."""


class OperatorError(SparseRTError):
    """onnxruntime failed in its part of a run. What is raised is of onnxruntime's own class, too, and says the same."""


class ResourceError(SparseRTError):
    """The system refused memory, stack or a file. What is raised is a MemoryError, RecursionError or OSError, too."""


class InternalError(SparseRTError):
    """A mistake in sparse_rt, with what went wrong as its cause; please report it."""


#: What :func:`also` has made: one class for each pair, so that it is the same one everywhere.
_both: dict[tuple[type, type], Any] = {}


def also(ours: type[E], kind: type[Exception]) -> type[E]:
    """Return a class of errors that are both: programs keep their ``except`` clauses, whichever they have."""
    if issubclass(ours, kind):
        return ours
    made = _both.get((ours, kind)) or _both.setdefault((ours, kind), _made(ours, kind))
    found: type[E] = made
    return found


def _made(ours: type[E], kind: type[Exception]) -> type[E]:

    def text(error: Exception) -> str:
        return str(error.args[0]) if error.args else ""

    def reduced(error: Exception) -> tuple[Any, ...]:
        return _rebuilt, (ours, kind, error.args)

    own = {"__module__": ours.__module__, "__doc__": ours.__doc__, "__str__": text, "__reduce__": reduced}
    return type(ours.__name__, (ours, kind), own)


def _rebuilt(ours: type[E], kind: type[Exception], args: tuple[Any, ...]) -> E:
    """Unpickle an error."""
    return also(ours, kind)(*args)


def message(where: str, expected: str, got: str, remedy: str = "") -> str:
    """Return ``<where>: expected <rule>, got <fact>. <remedy>``, the one form of every error's text."""
    text = f"{where}: expected {expected}, got {got}."
    return f"{text} {remedy}" if remedy else text
