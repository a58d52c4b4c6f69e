"""One onnxruntime session of a plan, and what becomes of it in a forked child.

A child has none of the threads of onnxruntime's pools. To destroy a session there would wait for them for ever, and so
would some ways to run one. So a child keeps what it inherited, untouched, until it ends, and opens sessions that have
threads again when it first runs them, and so those that write a profile. Others it goes on using, unless another thread
was inside onnxruntime at the fork, whose locks are held for ever then.

Nor does a child run the exit handlers that C libraries registered before the fork: those of onnxruntime 1.32, which has
a thread of its own from its import on, wait for that thread.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

import onnxruntime as ort
from sparse_rt_kernels.jit import forks

from sparse_rt.errors import ForkError

__all__ = ["Engine", "refuse_to_open"]

#: Seconds for which a fork waits for threads that open sessions.
_PATIENCE: Final = 10.0


def _is_opening() -> Callable[[CodeType], bool]:
    own = {
        getattr(ort.InferenceSession, name).__code__
        for name in ("__init__", "_create_inference_session")
        if hasattr(ort.InferenceSession, name)
    }
    return own.__contains__


_RUNNING: Final = forks.watch(forks.Activity("was inside onnxruntime", forks.in_package("onnxruntime")))
_OPENING: Final = forks.watch(forks.Activity("opened an onnxruntime session", _is_opening(), _PATIENCE))


def refuse_to_open() -> None:
    """Raise in a forked child that cannot open sessions of onnxruntime.

    Raises
    ------
    ForkError
        Another thread opened one at the fork, and still did after ten seconds: what it had locked stays locked.
    """
    try:
        forks.refuse_after(_OPENING, "onnxruntime session")
    except forks.ForkedError as error:
        raise ForkError(str(error)) from error


class Engine:
    """An onnxruntime session that a forked child can use, too.

    Parameters
    ----------
    open_session
        Opens it; called again in a child.

    Attributes
    ----------
    session
        onnxruntime's session, or in a child what opens it in the first run.
    """

    __slots__ = ("__weakref__", "_is_bound", "_lock", "_open_session", "session")

    session: Any

    def __init__(self, open_session: Callable[[], ort.InferenceSession]) -> None:
        self._open_session = open_session
        self.session = open_session()
        self._is_bound = _is_bound(self.session.get_session_options())
        self._lock = threading.Lock()
        _engines.add(self)

    @property
    def is_open(self) -> bool:
        """Whether there is a session of this process's own."""
        return not isinstance(self.session, _Inherited)

    def open(self) -> Any:
        """Return the session, opened if this is a child that has not done so.

        Raises
        ------
        ForkError
            This child cannot open it.
        ModelError
            It is opened from a file that has changed.
        """
        with self._lock:
            if not self.is_open:
                self.session = self._open_session()
        return self.session

    def in_child(self) -> None:
        """Leave to the parent what belongs to it."""
        self._lock = threading.Lock()
        if self.is_open:
            _keep_for_ever(self.session)
            if self._is_bound or _RUNNING.was_under_way:
                self.session = _Inherited(self)


class _Inherited:
    """Stands for a session that a child must not touch."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, *arguments: Any) -> Any:
        """Open the session, and run it."""
        return self._engine.open().run(*arguments)


#: All engines of this process.
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _is_bound(options: ort.SessionOptions) -> bool:
    """Return whether a session has what a child cannot share: threads beside the caller's, or a profile."""
    is_alone = options.intra_op_num_threads == 1 and options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    return bool(not is_alone or options.enable_profiling)


def _keep_for_ever(session: Any) -> None:
    # Not in a list: the interpreter clears modules when it exits.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


def _skip_exit_handlers() -> None:
    """Let an ordinary exit of this process end with what was registered from now on, with its status."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit") and hasattr(libc, "__cxa_atexit"):
        # Handlers are called last in, first out: files of C are flushed, then the process is over.
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)
        libc["__cxa_atexit"](ctypes.cast(libc.fflush, ctypes.c_void_p), None, None)


def _in_child() -> None:
    _skip_exit_handlers()
    for engine in list(_engines):
        engine.in_child()


if hasattr(os, "register_at_fork"):
    # Functions are called in the order of their registration: that of `forks` first.
    os.register_at_fork(after_in_child=_in_child)
