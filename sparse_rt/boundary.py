"""The boundary of every public function: what comes out of it as an exception is ours, or was asked for.

Inside, code raises what it knows how to word. Whatever else arises below, in NumPy, onnx, onnxruntime, the system or a
mistake of ours, is turned here, in one place, into an error of ours with the cause.
"""

import functools
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from sparse_rt.errors import (
    ConfigError,
    ForkError,
    InternalError,
    OperatorError,
    ResourceError,
    SparseRTError,
    also,
    message,
)

__all__ = ["public", "raise_ours"]

#: What Python says where the system has no more threads.
_NO_THREAD = "can't start new thread"

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Let nothing out of a function but its result and errors of ours; see :func:`raise_ours`."""
    where = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SparseRTError:
            raise
        except Exception as error:
            raise_ours(error, where)

    return guarded


def raise_ours(error: Exception, where: str) -> NoReturn:
    """Raise the error of ours that an error below means, with that as its cause; to be called where it is caught.

    - An error of onnxruntime's: an :class:`OperatorError` that is of onnxruntime's class, too, and says the same.
    - Memory, the stack, threads or the file system: a :class:`ResourceError` of that class, too.
    - What a forked child cannot do: a :class:`ForkError`.
    - A call whose arguments do not fit the function's parameters: a :class:`ConfigError` and TypeError.
    - Warnings that the caller has made errors stay as they are.
    - All else is a mistake of ours: an :class:`InternalError`.

    What is no Exception (KeyboardInterrupt, SystemExit) never comes here.
    """
    found = _ours(error, where)
    if found is None:
        raise error
    raise found from error


def _ours(error: Exception, where: str) -> SparseRTError | None:
    """Return the error to raise instead; None for those that go out as they are."""
    if isinstance(error, SparseRTError | Warning):
        return None
    kind, text = type(error), " ".join(str(error).split())
    if kind.__module__.startswith("onnxruntime") or _is_raised_by_onnxruntime(error):
        return also(OperatorError, kind)(str(error))
    if isinstance(error, MemoryError):
        return also(ResourceError, kind)(message(where, "memory that holds what is asked for", text or "no more"))
    if isinstance(error, RecursionError):
        return also(ResourceError, kind)(message(where, "a nesting that Python's stack holds", text or "a deeper one"))
    if isinstance(error, OSError):
        return _of_system(error, where)
    if _is_forked(error):
        return ForkError(text)
    if kind is RuntimeError and text == _NO_THREAD:
        return also(ResourceError, kind)(message(where, "a system that starts the threads asked for", text))
    if isinstance(error, TypeError) and error.__traceback__ is not None and error.__traceback__.tb_next is None:
        # Nothing of the function has run: Python refused the call.
        return also(ConfigError, TypeError)(message(where, "arguments that fit its parameters", text))
    remedy = "This is a mistake in sparse_rt; please report it, with the model if you can."
    return InternalError(message(where, "no error of this kind", f"{kind.__name__}: {text}", remedy))


def _is_forked(error: Exception) -> bool:
    # Imported late: kernels are not needed by all that is public.
    from sparse_rt_kernels.jit.forks import ForkedError

    return isinstance(error, ForkedError)


def _of_system(error: OSError, where: str) -> SparseRTError:
    files = " and ".join(f"'{name}'" for name in (error.filename, error.filename2) if name is not None)
    got = f"{error.strerror or error or type(error).__name__}{f' for {files}' if files else ''}"
    found = also(ResourceError, type(error))(message(where, "a system that does what is asked of it", got))
    if isinstance(found, OSError):
        found.errno, found.strerror, found.filename = error.errno, error.strerror, error.filename
    return found


def _is_raised_by_onnxruntime(error: Exception) -> bool:
    """Return whether onnxruntime's own Python raised it: it has errors of Python's classes, too."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and str(last.tb_frame.f_globals.get("__name__", "")).startswith("onnxruntime")
