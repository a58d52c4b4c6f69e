"""Checks of what callers give to public functions; errors name the argument."""

import operator
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sparse_rt.errors import ConfigError, FeedError, ModelError, SparseRTError, message

__all__ = ["array", "feeds", "flag", "integer", "model", "path"]


def model(where: str, value: Any) -> None:
    """Raise ModelError unless `value` is what a model is read from."""
    if not isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | onnx.ModelProto):
        raise ModelError(message(where, "a path, the bytes of a model or a ModelProto", _kind(value)))
    if isinstance(value, str | os.PathLike):
        path(where, value, ModelError)


def path(where: str, value: Any, error: type[SparseRTError] = ConfigError) -> None:
    """Raise `error` unless `value` is a path that a system may take."""
    try:
        text = os.fspath(value)
    except Exception as cause:  # a caller's own class may raise anything
        raise error(message(where, "a path", _kind(value))) from cause
    if not text or (b"\0" if isinstance(text, bytes) else "\0") in text:
        raise error(message(where, "a path of a file", repr(value)[:200]))


def integer(where: str, value: Any, least: int, error: type[SparseRTError] = ConfigError) -> int:
    """Return a whole number, NumPy's included, as an int.

    Raises
    ------
    SparseRTError
        Of the class `error`: it is none, or less than `least`.
    """
    try:
        found = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except Exception:  # a caller's own class may raise anything
        found = None
    if found is None or found < least:
        raise error(message(where, f"a whole number, at least {least}", _fact(value)))
    return found


def flag(where: str, value: Any, error: type[SparseRTError] = ConfigError) -> None:
    """Raise `error` unless `value` is True or False, NumPy's included."""
    if not isinstance(value, bool | np.bool_):
        raise error(message(where, "True or False", _fact(value)))


def feeds(where: str, value: Any) -> dict[str, Any]:
    """Return the feeds as a dict.

    Raises
    ------
    FeedError
        They are none, or have names that are no texts.
    """
    if not isinstance(value, Mapping):
        raise FeedError(message(where, "a dict of arrays by input name", _kind(value)))
    found = dict(value)
    for name in found:
        if not isinstance(name, str):
            raise FeedError(message(where, "names that are texts", _fact(name)))
    return found


def array(where: str, value: Any, error: type[SparseRTError]) -> NDArray[Any]:
    """Return `value` if it is a NumPy array, else raise `error`."""
    if not isinstance(value, np.ndarray):
        raise error(message(where, "a NumPy array", _kind(value)))
    return value


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _fact(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # a caller's own class may raise anything
        return _kind(value)
