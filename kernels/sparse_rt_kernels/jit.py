"""Compile kernels with Numba and keep the machine code on disk under a key that cannot go stale."""

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import config, types

from sparse_rt_kernels import isa

__all__ = ["TASK", "TaskFunction", "cache_directory", "cache_key", "kernel_jit", "kernel_task"]

#: What a task is in C: (task, arguments, x, other, out, shared, scratch) -> 0, or else the launch must be repeated in
#: another way. Six addresses follow the task's number: its arguments, one record of the kernel's own; the first array
#: that it reads; the second one, or a table of all but the first (see :class:`launch.Launch`), or 0; the array that it
#: writes; scratch memory that all tasks of a call share; and scratch memory of its thread.
TASK: Final = types.intp(types.intp, types.voidptr, *[types.intp] * 5)
#: A Python function that can be compiled as one.
TaskFunction = Callable[[int, Any, int, int, int, int, int], int]

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def cache_key() -> str:
    """Return the name of the cache folder: a hash of all that decides what machine code a kernel becomes.

    Numba's own index looks only at the file that holds the decorated function, so an edited helper or intrinsic in
    another file would run stale code without a word. The key therefore hashes every source file of this package,
    beside the CPU that LLVM compiles for, the compilers' versions and the settings that change what they emit.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    versions = (sys.version, np.__version__, numba.__version__, llvmlite.__version__)
    # Numba's index does not tell code with bounds checks from code without.
    settings = (isa.cpu_name(), sorted(isa.cpu_features()), config.BOUNDSCHECK, config.OPT)
    digest.update(repr((versions, settings)).encode())
    return digest.hexdigest()[:20]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


@functools.cache
def cache_directory() -> Path:
    """Return the folder of compiled kernels, created if needed.

    ``$SPARSE_RT_CACHE_DIR``, else ``$XDG_CACHE_HOME/sparse_rt``, else ``~/.cache/sparse_rt``; where none of them can
    be written, a private temporary folder, so that a read-only install on a read-only home still runs.
    """
    candidates = []
    if chosen := os.environ.get("SPARSE_RT_CACHE_DIR"):
        candidates.append(Path(chosen))
    candidates.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparse_rt")
    for base in candidates:
        directory = base / cache_key()
        if _writable(directory):
            return directory
    return Path(tempfile.mkdtemp(prefix="sparse_rt-"))


def _compile(decorator: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """Apply one of Numba's decorators; integer division and remainder follow NumPy (no ZeroDivisionError branch)."""
    # Numba picks the cache's place while it decorates; the setting is put back so that the user's own jitted
    # functions keep theirs.
    before = config.CACHE_DIR
    config.CACHE_DIR = str(cache_directory())
    try:
        return decorator(cache=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before


def kernel_jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` in nopython mode on first call, GIL released, machine code cached on disk.

    Integer division and remainder follow NumPy: kernels divide by tile sizes only.
    """
    return cast(Callable[P, R], _compile(functools.partial(numba.njit, nogil=True), function))


@functools.cache
def _compiled_task(function: TaskFunction) -> Any:
    return _compile(functools.partial(numba.cfunc, TASK), function)


def kernel_task(function: TaskFunction) -> int:
    """Return the address of `function` as a C function of the type :data:`TASK`, compiled on first use and cached.

    It is called without the GIL, from threads that Python need not know: it must not raise.
    """
    return int(_compiled_task(function).address)
